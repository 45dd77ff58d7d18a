"""kcnn benchmark: a process for each network, smaller batches where memory runs out, bad input in one line."""

import json
import subprocess
import types

import pytest

import kcnn.benchmark
from kcnn.errors import InputError
from trainers.lab import throughput


def answers(monkeypatch, fits, how):
    """Processes that need memory for more than `fits` images and end as `how` says."""
    asked = []

    def run(words, **_):
        flags = json.loads(words[-1])["flags"]
        asked.append(flags["batch_size"])
        if flags["batch_size"] > fits:
            return types.SimpleNamespace(returncode=how[0], stdout="", stderr=how[1])
        made = {"arch": flags["arch"], "resolution": 8, "batch_size": flags["batch_size"], "first_step_seconds": 1.0,
                "train_images_per_second": 10.0, "infer_images_per_second": 20.0, "memory": 1e9}  # fmt: skip
        return types.SimpleNamespace(returncode=0, stdout=f"told before\n{json.dumps(made)}\n", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return asked


@pytest.mark.parametrize("how", [(-9, ""), (1, "tensorflow says much\nran out of memory\n")])
def test_half_the_batch_is_tried_where_memory_runs_out(monkeypatch, capsys, how):
    asked = answers(monkeypatch, 8, how)
    result = kcnn.benchmark.benchmark("resnet-18", batch_size=64)
    assert asked == [64, 32, 16, 8] and result["networks"][0]["batch_size"] == 8
    told = capsys.readouterr().out
    assert "resnet-18: 64 images did not fit into memory, 8 do" in told and "1 GB" in told
    answers(monkeypatch, 0, how)
    with pytest.raises(InputError, match="not even one image"):
        kcnn.benchmark.benchmark("resnet-18", batch_size=4)


def test_a_network_that_fails_takes_no_other_with_it(monkeypatch):
    answers(monkeypatch, 0, (1, "InputError: unknown network 'resnet-19'\n"))
    with pytest.raises(InputError, match="resnet-19: unknown network"):
        kcnn.benchmark.benchmark("resnet-19")
    result = kcnn.benchmark.benchmark("resnet-19", "resnet-20")
    assert result["networks"] == [] and len(result["errors"]) == 2


@pytest.mark.parametrize("names, flags, words", [
    ((), {}, "which networks"), (("resnet-18",), {"batch_size": 0}, "batch-size 0"),
    (("resnet-18",), {"seconds": 0.0}, "seconds 0"), (("resnet-18",), {"classes": 0}, "classes 0"),
])  # fmt: skip
def test_bad_input_is_one_line(names, flags, words):
    with pytest.raises(InputError, match=words):
        kcnn.benchmark.benchmark(*names, **flags)


@pytest.mark.slow
def test_a_network_is_measured():
    flags = {"resolution": 16, "width": 0.0625, "stem": "small", "recipe": "default"}
    found = throughput.measured("mobilenet-v1", 4, 0.1, flags, 10)
    assert found["train_images_per_second"] > 0 and found["infer_images_per_second"] > 0
    assert found["first_step_seconds"] > 0 and found["memory"] > 2e8 and found["batch_size"] == 4
    with pytest.raises(InputError, match="resnet-19"):
        throughput.measured("resnet-19", 4, 0.1, {}, 10)
