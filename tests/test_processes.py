"""Commands in processes of their own."""

import gc
import importlib
import json
import os
import re
import subprocess
import sys

import pytest

from kcnn.terminal import starting
from kcnn.terminal.processor import cpuinfo


def process(*argv, cwd, **environment):
    command = [sys.executable, "-m", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | environment)


def test_a_process_says_one_line_and_leaves_with_2(tmp_path):
    done = process("kcnn.train", "--strategy", "mirrored", "--replicas", "3", "--batch-size", "64", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert "batch-size 64: a multiple of the 3 replicas is needed" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("backend", ["nonsense", "jax"])
def test_another_backend_is_one_line(tmp_path, backend):
    """jax is not installed here, and would not do where it is."""
    done = process("kcnn.train", "--dry-run", cwd=tmp_path, KERAS_BACKEND=backend)
    assert done.returncode == 2 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("kcnn: error: ") and f"{backend!r}" in line and "KERAS_BACKEND" in line


def test_a_backend_that_is_there_and_cannot_train_is_one_line(tmp_path):
    code = "import keras; keras.backend.backend = lambda: 'torch'; import trainers; trainers.fit"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "InputError: KERAS_BACKEND 'torch': training" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("flags, asked, used", [
    ("fma avx2", None, "1"),
    ("fma avx2", "0", "0"),  # somebody's choice is kept
    ("sse4_2", None, None),
    (None, None, None),  # no Linux
])  # fmt: skip
def test_onednn_is_used_where_the_processor_has_avx2(monkeypatch, flags, asked, used):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", asked or "")
    if asked is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    monkeypatch.setattr(starting, "cpuinfo", lambda: {"flags": flags} if flags else {})
    starting.use_onednn()
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == used


@pytest.mark.skipif("avx2" not in cpuinfo().get("flags", ""), reason="this processor has no AVX2")
def test_a_network_that_is_built_first_runs_on_onednn(tmp_path):
    code = """if True:
        import kcnn
        kcnn.build("lenet-5")
        from tensorflow.python.util import _pywrap_util_port
        print(_pywrap_util_port.IsMklEnabled())"""
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("seconds", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_ctrl_c_in_the_first_seconds_leaves_no_traceback(tmp_path, interrupted, seconds):
    code, out, err = interrupted(["kcnn.train", "--epochs", "9999"], tmp_path, seconds)
    if seconds and code == 75:  # the run had begun: it says how to go on with it
        assert "Traceback" not in out + err
        assert re.fullmatch(r"kcnn train: SIGINT: .*go on with --resume \S+", err.splitlines()[-1])
    else:
        assert (code, out, err) == (130, "", "")


def test_kcnn_runs_its_commands(shot, tmp_path):
    done = process("kcnn", "evaluate", shot.folder, "--json", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert json.loads(done.stdout.splitlines()[-1])["accuracy"] == pytest.approx(shot.figures["val_accuracy"])


@pytest.mark.slow
def test_kcnn_exports(shot, tmp_path):
    flags = ["--out", tmp_path / "served", "--signatures", "image", "--images", "4", "--json"]
    done = process("kcnn", "export", shot.folder, *flags, cwd=tmp_path)
    asked, written = done.stderr.splitlines()  # its stages, and nothing that a library prints
    assert (
        done.returncode == 0 and asked.endswith("asking it about 4 pictures") and "writing it as saved_model" in written
    )
    assert json.loads(done.stdout.splitlines()[-1])["path"] == str(tmp_path / "served" / "1")


def test_a_command_starts_without_what_it_does_not_use(tmp_path, monkeypatch):
    (tmp_path / "left_out.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(starting, "UNUSED", ("left_out", "json"))
    monkeypatch.setattr(starting, "is_command", lambda: True)
    with starting.lean():
        assert not gc.isenabled() and importlib.import_module("json") is json  # it was there already
        with pytest.raises(ImportError):
            importlib.import_module("left_out")
    assert gc.isenabled() and "left_out" not in sys.modules
    monkeypatch.setattr(starting, "is_command", lambda: False)
    with starting.lean():  # other programs get all
        assert gc.isenabled() and importlib.import_module("left_out")
