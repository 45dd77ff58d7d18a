"""Where the time of a step goes. What is counted is asserted, and no time."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import kcnn
from trainers.lab import timing as lab
from trainers.lab.timing import LayerTime, Timing, bound, by_kind, forks, timing


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab, "ROUNDS", 2)
        patch.setattr(lab, "SECONDS", 0.0)
        patch.setattr(lab, "SIDE", 64)
        patch.setattr(lab, "COPIED", 2**12)
        patch.setattr(lab, "CHAIN", 20)
        model = kcnn.build("resnet-18", 10, width=0.125, depth=0.25, resolution=32)
        return model, timing(model, 4)


def test_every_layer_has_a_time_its_multiply_adds_and_its_bytes(found):
    model, spent = found
    facts = kcnn.facts(model)
    layers = [row for row in spent.layers if row.kind != "sum of gradients"]
    assert [row.layer for row in layers] == [call.name for call in facts.layers]
    assert sum(row.macs for row in layers) == 3 * 4 * facts.macs
    conv = next(row for row, call in zip(layers, facts.layers, strict=True) if call.name == "stage2_block1_conv1")
    weights = model.get_layer("stage2_block1_conv1").kernel.numpy().size
    shapes = [math.prod(model.get_layer("stage2_block1_conv1").input.shape[1:]), math.prod(conv_shape(model))]
    assert conv.bytes == 3 * 4 * (4 * sum(shapes) + weights) and conv.stage == "stage2"
    assert all(row.seconds >= 0 for row in spent.layers)


def conv_shape(model):
    return model.get_layer("stage2_block1_conv1").output.shape[1:]


def test_gradients_are_added_up_where_a_tensor_is_read_twice(found):
    model, spent = found
    sums = [row for row in spent.layers if row.kind == "sum of gradients"]
    # Each block's input goes into its first convolution, and into the shortcut or its convolution.
    assert len(sums) == 4 and all(row.macs == 0 and row.bytes for row in sums)
    assert {count for _, count in forks(kcnn.facts(model).graph)} == {2}


def test_it_is_json(found):
    told = json.loads(json.dumps(found[1].to_dict()))
    assert set(told["bounds"]) == {"arithmetic", "memory", "overhead", ""} and told["batch"] == 4
    assert told["rest"] == pytest.approx(told["step"] - sum(row["seconds"] for row in told["layers"]))


@pytest.mark.parametrize("seconds, macs, size, expected", [
    (1e-6, 0, 8, "overhead"), (1.0, 60, 8, "arithmetic"), (1.0, 10, 60, "memory"), (1.0, 10, 10, ""),
])  # fmt: skip
def test_what_binds_a_layer(seconds, macs, size, expected):
    assert bound(seconds, macs, size, product=100, copy=100, start=1e-6) == expected


def test_kinds_come_with_the_most_time_first():
    rows = [LayerTime("a", kind, "s", s, 0, 1, kind) for kind, s in (("memory", 1.0), ("", 2.0), ("memory", 2.0))]
    assert by_kind(rows) == [("memory", 3.0), ("", 2.0)]
    spent = Timing(1, tuple(rows), 4.0, 1, 1, 1)
    assert spent.rest == -1 and spent.shares() == pytest.approx(
        {"arithmetic": 0, "memory": 0.6, "overhead": 0, "": 0.4}
    )


def test_gradients_are_really_computed():
    dense = keras.layers.Dense(3)
    dense.build((None, 2))
    step = lab.compiled(dense, [v.value for v in dense.trainable_variables])
    x = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    to_input, to_kernel, to_bias = step(x)
    assert to_input.numpy() == pytest.approx(dense.kernel.numpy().sum(1)[None].repeat(2, 0))
    assert to_kernel.numpy() == pytest.approx(np.array([[4.0] * 3, [6.0] * 3])) and to_bias.numpy() == pytest.approx(
        [2.0] * 3
    )
