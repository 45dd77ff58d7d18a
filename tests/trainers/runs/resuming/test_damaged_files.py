"""Files of a run's folder that were damaged or changed: each is one line with the file's name."""

import importlib
import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.runs import checkpoints, folders, provenance

fitting = importlib.import_module("trainers.training")  # the package has its function under that name

CONFIG_LINES = {
    "epochs: many": "epochs 'many': a whole number is needed",
    "epochs: 2.5": "epochs 2.5: a whole number is needed",
    "epochs: null": "epochs None: a whole number is needed",
    "epochs: -1": "epochs -1: a whole number of 1 or more is needed",
    "epochs: 99999999999": "epochs 99999999999: a number of at most 2147483647 is needed",
    "epochs: [1, 2]": r"epochs \[1, 2\]: a whole number is needed",
    "lr: .nan": "lr nan",
    "flip: 1": "flip 1: true or false is needed",
    "optimizer: adam": "optimizer 'adam': one of sgd, rmsprop",
    "progressive: []": r"progressive \[\]",
    "step_epochs: 3": "step_epochs 3: a list of numbers is needed",
    "arch: 18": "arch 18: a name or an architecture.s fields are needed",
    "width: true": "width True: a number is needed",
    "surprise: 1": "sets 'surprise', which is no flag",
    "lr: *x": "aliases are not taken|undefined alias",
}


@pytest.mark.parametrize("line, words", CONFIG_LINES.items(), ids=CONFIG_LINES)
def test_a_changed_config_is_one_line_with_its_name(stopped, line, words, train):
    path, name = stopped / folders.CONFIG, line.partition(":")[0]
    lines = yaml.safe_dump({key: value for key, value in yaml.safe_load(path.read_text()).items() if key != name})
    path.write_text(lines + line)
    for use in (lambda: train(stopped, resume=True), lambda: checkpoints.load_run(stopped)):
        with pytest.raises(InputError, match=f"config.yaml.*({words})"):
            use()


def truncate(text):
    return text[: len(text) // 2]


OTHERS = {
    "no classes": (folders.CLASSES, lambda text: "[]", "a list of class names is needed"),
    "a class twice": (folders.CLASSES, lambda text: '["0", "0"]', "a list of class names is needed"),
    "numbers for classes": (folders.CLASSES, lambda text: "[0, 1]", "a list of class names is needed"),
    "half the classes": (folders.CLASSES, truncate, "not JSON"),
    "a mapping of classes": (folders.CLASSES, lambda text: '{"0": "1"}', "holds dict, where list is needed"),
    "no more classes": (folders.CLASSES, None, "No such file"),
    "damaged metrics": (folders.METRICS, lambda text: text.replace("}", "]", 1), "line 1 is not JSON"),
    "half the record of data": (provenance.DATA, truncate, "not JSON"),
    "a record of no data": (provenance.DATA, lambda text: "{}", "has no train"),
    "a record without counts": (provenance.DATA, lambda text: text.replace('"images"', '"pictures"'), "has no images"),
}


@pytest.mark.parametrize("name, change, words", OTHERS.values(), ids=OTHERS)
def test_another_damaged_file_is_one_line_with_its_name(stopped, name, change, words, train):
    path = stopped / name
    text = path.read_text()
    path.unlink()
    if change:
        path.write_text(change(text))
    with pytest.raises(InputError, match=f"{name}.*{words}"):
        train(stopped, resume=True)


RESULTS = {
    "planned": ('"many"', "planned 'many': a whole number is needed"),
    "val_loss": ("null", "val_loss None"),
    "seconds": ("[]", r"seconds \[\]"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_changed_result_is_one_line_with_its_name(stopped, name, train):
    train(stopped, resume=True)
    path, (value, words) = stopped / folders.RESULT, RESULTS[name]
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: json.loads(value)}))
    with pytest.raises(InputError, match=f"result.json: {words}"):
        train(stopped, resume=True)


def test_a_bad_folder_in_logs_does_not_stop_resume_auto(stopped, tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    stopped.rename(tmp_path / "logs/good")
    good = (tmp_path / "logs/good/config.yaml").read_text()
    for name, text in {
        "bomb": "a: &a [x]\nb: *a\n",
        "list": "- 1\n",
        "type": good.replace("epochs: 3", "epochs: x"),
        "key": "1: 2\n",
        "classes": good,
    }.items():
        (tmp_path / "logs" / name).mkdir()
        (tmp_path / "logs" / name / "config.yaml").write_text(text)
    (tmp_path / "logs/classes/classes.json").write_text("[[[")
    (tmp_path / "logs/link").mkdir()
    (tmp_path / "logs/link/config.yaml").symlink_to("nowhere")
    (tmp_path / "logs/pipe").mkdir()
    os.mkfifo(tmp_path / "logs/pipe/config.yaml")
    (tmp_path / "logs/locked").mkdir()
    (tmp_path / "logs/locked/config.yaml").write_text(good)
    shutil.copy(tmp_path / "logs/good/classes.json", tmp_path / "logs/locked")
    (tmp_path / "logs/locked/.lock").symlink_to("elsewhere")
    result = fitting.fit(TrainConfig(**flags, resume="auto"))
    assert result.folder == Path("logs/good") and result.figures["epochs"] == 3


def test_weights_that_are_no_numbers_are_told(stopped):
    path, *_ = checkpoints.found(stopped / "checkpoints")
    arrays, extra = checkpoints.load(path)
    arrays = {key: np.array(array) for key, array in arrays.items()}
    arrays["model/logits/bias"][3] = np.nan
    path.unlink()
    np.savez(path, **arrays, extra=np.array(json.dumps(extra)))
    with pytest.raises(InputError, match=r"step-000000006.npz: a number of 'model/logits/bias' is nan"):
        checkpoints.load_run(stopped)


def test_a_network_that_the_checkpoint_does_not_fit_takes_no_memory(stopped, monkeypatch):
    path = stopped / folders.CONFIG
    path.write_text(path.read_text().replace("width: 0.125", "width: 4.0"))
    built = []
    network = checkpoints.network
    monkeypatch.setattr(checkpoints, "network", lambda *args: built.append(args) or network(*args))
    with pytest.raises(InputError, match=r"step-000000006.npz: 'model/stem1_conv.*' is .*, this run has"):
        checkpoints.load_run(stopped)
    assert len(built) == 1  # without its weights


def header(shape, dtype="<f4"):
    """An .npy that claims to be of this shape, and holds nothing."""
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape})
    text += " " * (63 - (10 + len(text)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize("data", [
    header((10**13, 2)), header((2**64,)), header((-1, -4)), header((3,), "|O"), header((0, 2**70)),
    b"\x93NUMPY\x09\x00", header((1,)) + bytes(8), b"", header("x"),
])  # fmt: skip
def test_a_header_is_not_believed(stopped, data):
    path, *_ = checkpoints.found(stopped / "checkpoints")
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("step.npy", data)
    with pytest.raises(checkpoints.Damaged, match=r"step-000000006.npz is damaged"):
        checkpoints.load(path)


def test_what_a_zip_blows_up_is_not_unpacked(stopped):
    path, *_ = checkpoints.found(stopped / "checkpoints")
    path.unlink()
    np.savez_compressed(path, zeros=np.zeros(2**24), extra=np.array("{}"))
    with pytest.raises(checkpoints.Damaged, match="its directory lists more than it holds"):
        checkpoints.load(path)


def test_configurations_keep_to_what_they_are(stopped, flags):
    """What is read is what was written."""
    saved = folders.read_config(stopped).flags
    assert replace(saved, run_dir=None) == fitting.resolve(TrainConfig(**flags)).flags
