"""Activations that are computed again: the same gradients and statistics, in less memory."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from steps import run

import kcnn
from kcnn.analysis.segments import joins, segments
from kcnn.layers import DropPath
from trainers.optim.recompute import chain, gradient
from trainers.transfer.parts import cut


def assert_equal(arch, tolerance=0.0, **flags):
    losses, changes, *_ = run(arch, **flags)
    again, others, model, config = run(arch, recompute=True, **flags)
    assert len(chain(cut(model, config).trained, recompute=True).segments) > 1
    np.testing.assert_allclose(again, losses, rtol=tolerance)
    largest = max(np.abs(c).max() for c in changes)
    assert largest > 0
    for one, two in zip(changes, others, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=tolerance * largest)


def test_three_steps_are_the_same_to_the_bit(tiny):
    """With dropout and stochastic depth, whose masks are drawn again, and statistics, which move once."""
    assert_equal(tiny["arch"], width=0.125, resolution=16, steps=3, lr=1e-2)


def residual(x):
    y = layers.Conv2D(8, 3, padding="same")(layers.Activation("relu")(layers.BatchNormalization()(x)))
    return layers.Add()([x, DropPath(0.5)(y)])


def dense(x):
    for _ in range(3):
        y = layers.Conv2D(4, 3, padding="same")(layers.Activation("relu")(layers.BatchNormalization()(x)))
        x = layers.Concatenate()([x, y])
    return x


def shared(x):
    """One block three times over: its weights, statistics and draws serve in several segments."""
    conv, norm, drop = layers.Conv2D(8, 3, padding="same"), layers.BatchNormalization(), layers.Dropout(0.5)
    for _ in range(3):
        x = layers.Add()([x, drop(layers.Activation("relu")(norm(conv(x))))])
    return x


def nested(x):
    """Blocks inside a model inside the network, and an operation that is no layer."""
    inside = keras.Input(x.shape[1:])
    return keras.Model(inside, residual(residual(inside)))(x, training=False) * 0.5


@pytest.mark.parametrize("body, heads", [(residual, 1), (dense, 1), (shared, 1), (nested, 1), (residual, 2)])
def test_any_network_is_cut_where_it_is_narrow(body, heads):
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 3))
    x = body(layers.Conv2D(8, 3, padding="same")(image))
    early = [layers.Dense(5)(layers.GlobalAveragePooling2D()(x)) for _ in range(heads - 1)]
    x = body(layers.Conv2D(8, 3, padding="same")(x))
    model = keras.Model(image, [layers.Dense(5)(layers.GlobalAveragePooling2D()(x)), *early])
    images = tf.random.stateless_uniform((4, 8, 8, 3), (1, 2))
    weights = {v.path: tf.convert_to_tensor(v.value) for v in model.trainable_variables}
    found = []
    for recompute in (False, True):
        network = chain(model, recompute)
        assert (len(network.segments) > 1) == recompute
        mapping = [(v, weights.get(v.path, tf.convert_to_tensor(v.value))) for v in model.variables]
        with keras.StatelessScope(mapping) as scope:
            gradients, logits = gradient(
                network, [images], weights, lambda outputs: (sum(tf.reduce_sum(y**2) for y in outputs), outputs)
            )
        statistics = [scope.get_current_value(v) for v in model.non_trainable_variables]
        found.append([*gradients, *logits, *statistics])
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-5 * np.abs(one).max())


def test_a_dense_block_keeps_its_pieces_and_joins_them_again():
    network = kcnn.facts("densenet-121").graph
    parts = segments(network)
    assert sorted(c.name for p in parts for c in p.calls) == sorted(c.name for c in network.calls)
    joined = {i for c in network.calls if joins(network, c) for i in c.outputs}
    assert not joined.intersection(i for p in parts for i in p.inputs)
    assert max(len(p.inputs) for p in parts) > 10


@pytest.mark.parametrize("arch, most", [("resnet-50", 0.45), ("densenet-121", 0.25), ("efficientnet-b0", 0.4)])
def test_the_estimate_falls(arch, most):
    facts = kcnn.facts(arch, resolution=224)
    assert facts.memory(32, recompute=True) < most * facts.memory(32)
    parts = facts.memory_parts(32, recompute=True)
    assert parts["activations"] < parts["total"] and parts["weights"] == facts.memory_parts(32)["weights"]


SMALL = ["vgg-11-bn", "googlenet", "inception-v3", "inception-v4", "inception-resnet-v2", "resnet-50", "resnet-50-v1",
         "resnet-50-v2", "plain-18", "wide-resnet-50-2", "resnext-50-32x4d", "densenet-121", "xception", "mobilenet-v1",
         "mobilenet-v2", "mobilenet-v3-small", "mnasnet-1.0", "efficientnet-b0", "efficientnet-lite0", "regnetx-200mf",
         "regnety-200mf", "squeezenet-1.0", "se-resnet-50", "resnet-50-d", "mobilenet-v4-conv-medium",
         "shufflenet-v2-0.5", "ghostnet-0.5", "repvgg-a0", "efficientnet-v2-b0", "convnext-tiny", "convnext-v2-atto",
         "nasnet-mobile"]  # fmt: skip
# Between them: every block, and every way in which blocks are joined.
SLOW = ("vgg-11-bn", "googlenet", "inception-resnet-v2", "resnet-50", "resnet-50-v2", "densenet-121", "xception",
        "mobilenet-v3-small", "regnety-200mf", "shufflenet-v2-0.5", "repvgg-a0", "convnext-v2-atto",
        "nasnet-mobile")  # fmt: skip


@pytest.mark.parametrize(
    "arch", [pytest.param(a, marks=pytest.mark.slow if a in SLOW else pytest.mark.exhaustive) for a in SMALL]
)
def test_a_step_of_every_family_is_the_same(arch):
    resolution = 80 if "inception" in arch or arch in ("googlenet", "xception") else 32
    assert_equal(arch, 1e-5, width=0.25, depth=0.34, resolution=resolution)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [
    {"precision": "mixed_bfloat16"},
    {"precision": "mixed_float16"},
    {"accumulate_steps": 2},
    {"sam": 0.05},
    {"ema": 0.9},
    {"freeze": "1", "weights": "anything"},
    {"jit": "on"},
    {"jit": "on", "accumulate_steps": 2, "precision": "mixed_bfloat16"},
    {"strategy": "mirrored", "replicas": 2},
    {"strategy": "mirrored", "replicas": 2, "sync_bn": True},
], ids=str)  # fmt: skip
def test_every_way_of_training_is_the_same(flags, tiny):
    rough = {"mixed_bfloat16": 2e-2, "mixed_float16": 4e-3}.get(flags.get("precision"), 1e-5)
    assert_equal(tiny["arch"], rough, width=0.125, resolution=16, **flags)


STEP = """
import json, os, sys
import tensorflow as tf

sys.path.insert(0, os.path.dirname(sys.argv[1]))
import steps

steps.run("resnet-50", recompute=sys.argv[2] == "True", steps=3, resolution=96, batch_size=16, width=0.25)
print(json.dumps(tf.config.experimental.get_memory_info("CPU:0")["peak"]))
"""


@pytest.mark.slow
def test_activations_take_less_memory():
    """In fresh processes: the most that TensorFlow's allocator gave out at once, less what weights take.

    With a single thread for whole operations TensorFlow puts off gradients of kernels, which hold tensors: 0.7.
    """
    peaks = []
    for recompute in (False, True):
        command = [sys.executable, "-c", STEP, __file__, str(recompute)]
        threads = os.environ | {"TF_NUM_INTEROP_THREADS": "2"}
        ran = subprocess.run(command, capture_output=True, text=True, check=True, env=threads)
        peaks.append(json.loads(ran.stdout.splitlines()[-1]))
    facts = kcnn.facts("resnet-50", classes=10, width=0.25, resolution=96)
    fixed = 3 * 4 * facts.params  # weights, gradients, momentum
    plain, less = (peak - fixed for peak in peaks)
    print(f"plain {plain / 1e6:.1f} MB, recomputed {less / 1e6:.1f} MB")
    assert less < 0.6 * plain
