"""--watch gradients: the norms by stage against those of the weights themselves, and nothing else of a run changed."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import kcnn
import trainers
from tests.trainers.test_step import run
from trainers.optim.optimizers import decays
from trainers.optim.watched import kernels_by_stage, scalars


@pytest.mark.parametrize("flags", [
    {},
    pytest.param({"replicas": 2}, marks=pytest.mark.slow),
    pytest.param({"precision": "mixed_float16", "clip_norm": 0.1}, marks=pytest.mark.slow),
])  # fmt: skip
def test_the_change_is_that_of_the_weights(flags):
    flags = {"arch": "resnet-18", "depth": 0.5, "optimizer": "sgd", **flags}
    before, plain = run(steps=1, **flags)
    after, _ = run(steps=2, **flags)
    again, seen = run(steps=2, watch="gradients", **flags)
    for one, other in zip(after.model.weights, again.model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    groups = kernels_by_stage(after.model, after.model.trainable_variables)
    assert list(groups) == ["stem", "stage1", "stage2", "stage3", "stage4", "head"]
    assert sum(map(len, groups.values())) == sum(map(decays, after.model.trainable_variables))
    old, new = ([v.numpy() for v in s.model.trainable_variables] for s in (before, after))
    told = scalars(list(groups), seen["watched"][1])
    for stage, group in groups.items():
        change = np.sqrt(sum(np.sum((new[k] - old[k]) ** 2) for k in group))
        weight = np.sqrt(sum(np.sum(old[k] ** 2) for k in group))
        assert told[f"update/{stage}"] == pytest.approx(change / weight, rel=2e-3)
    every = np.linalg.norm([told[f"gradient/{stage}"] for stage in groups])
    assert 0.5 * seen["grad_norm"][1] < every <= seen["grad_norm"][1] * 1.0001
    assert plain.keys() | {"watched"} == seen.keys()


@pytest.mark.slow
def test_tensorboard_shows_them_for_what_is_trained(tiny, tmp_path):
    flags = tiny | {"run_dir": str(tmp_path / "run"), "epochs": 1, "watch": "weights", "freeze": "backbone"}
    own = kcnn.build(kcnn.scale(kcnn.get(flags.pop("arch")), width=flags.pop("width")), 10, resolution=32)
    trainers.fit(trainers.TrainConfig(**flags), own)
    found = EventAccumulator(str(tmp_path / "run"), size_guidance={"tensors": 0}).Reload()
    tags = {tag for tag in found.Tags()["tensors"] if tag.startswith(("gradient/", "update/"))}
    assert tags == {"gradient/head", "update/head"}
    assert {"weights/logits/kernel", "weights/stage1_block1_conv/kernel"} & {*found.Tags()["tensors"]}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "lr" in line]
    assert [e.step for e in found.Tensors("update/head")] == steps
    assert all(float(tf.make_ndarray(e.tensor_proto)) > 0 for e in found.Tensors("gradient/head"))
