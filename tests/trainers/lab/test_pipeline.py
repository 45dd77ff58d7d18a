"""Whether a training waits for its images: with a pipeline that sleeps it does, and without it does not."""

import time
from dataclasses import replace

import pytest
import tensorflow as tf

from trainers.config import TrainConfig
from trainers.lab.pipeline import Pace, pace
from trainers.training import make, new_or_resumed, prepare


def slept(split, seconds):
    """The split, of which each image takes so many seconds to read."""

    def load(image):
        def sleep(data):
            time.sleep(seconds)
            return data

        return tf.ensure_shape(tf.numpy_function(sleep, [split.load(image)], tf.string), ())

    return replace(split, load=load)


def started(tiny, tmp_path, **flags):
    flags = tiny | {"batch_size": 16, "run_dir": str(tmp_path / "run")} | flags
    return prepare(*new_or_resumed(TrainConfig(**flags, epochs=1)))


@pytest.mark.slow
def test_the_verdict_is_the_input_pipeline_where_reading_is_made_slow(tiny, tmp_path):
    run = started(tiny, tmp_path)
    slow = replace(run, source=replace(run.source, train=slept(run.source.train, 0.02)))
    found = pace(slow, make)
    assert found.bound == "the input pipeline" and found.waiting > 0.5
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_verdict_is_the_network_where_it_does_more(tiny, tmp_path):
    run = started(tiny, tmp_path, arch="resnet-18", width=0.5, resolution=64, cache="ram")
    assert pace(run, make).bound == "the network"


def test_what_is_said_of_the_figures():
    assert Pace(images=1.0, network=2.0, both=2.5).to_dict() == {
        "images": 1.0, "network": 2.0, "both": 2.5, "waiting": 0.19999999999999996, "bound": "the network",
    }  # fmt: skip
    assert Pace(images=3.0, network=2.0, both=1.9).waiting == 0
