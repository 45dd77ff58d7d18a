"""The images that a diagnosis looks at, and the command on a run."""

import json

import numpy as np
import pytest

import kcnn.diagnosing
from trainers.lab.subject import photographs, subject


def command(*words):
    with pytest.raises(SystemExit) as left:
        kcnn.diagnosing.main([str(w) for w in words])
    return left.value.code


@pytest.mark.slow
def test_the_command_on_a_run(run, capsys):
    assert command(run, "--images", "12", "--json") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["representation"]["images"] == 12 and (run / "diagnosis.html").exists()
    assert all(s["probe"] is not None for s in told["representation"]["spans"])


def test_a_run_has_its_own_network(run, capsys):
    assert command(run, "--width", "0.5") == 2
    assert "a run has its own network" in capsys.readouterr().err


def test_images_of_a_data_set_come_from_all_classes_with_labels(photos):
    model, batches, what, _ = subject("resnet-18", data=str(photos), images=10, width=0.125, resolution=32)
    pixels, labels = next(batches)
    assert pixels.shape == (10, 32, 32, 3) and sorted(labels.tolist()) == [0] * 5 + [1] * 5
    assert what == f"images of the validation part of {photos}" and model.output_shape == (None, 2)


def test_photographs_are_the_same_every_time():
    one, other = (np.concatenate([x for x, _ in photographs(24, 10, 4)]) for _ in range(2))
    assert one.shape == (10, 24, 24, 3) and np.array_equal(one, other) and one.std() > 20
