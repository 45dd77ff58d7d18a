"""Memory, against what a step does allocate."""

import subprocess
import sys

import keras
import pytest
import tensorflow as tf
from keras import layers

import kcnn
from kcnn.builder import abstract


def test_memory_follows_batch_precision_and_phase():
    facts = kcnn.facts("resnet-50")
    train, infer = facts.memory_parts(32), facts.memory_parts(32, training=False)
    assert infer["weights"] == train["weights"] == 4 * (facts.params + facts.params_nontrainable)
    assert train["gradients"] == train["optimizer"] == 4 * facts.params
    assert facts.memory_parts(32, slots=2)["optimizer"] == 8 * facts.params
    assert infer["gradients"] == infer["optimizer"] == 0 and infer["total"] < train["total"] / 4
    assert facts.memory_parts(64)["activations"] == 2 * train["activations"]
    assert facts.memory_parts(32, "mixed_bfloat16")["activations"] * 2 == train["activations"]
    assert sum(s.kept for s in facts.stages) * 32 == train["activations"]
    total = train.pop("total")
    assert max(train.values()) < total < 1.1 * sum(train.values())


def test_each_tensor_is_kept_once():
    """conv -> norm -> relu -> pool -> dense, by hand."""
    with abstract():
        x = keras.Input((8, 8, 3))
        y = layers.Conv2D(4, 3, padding="same", use_bias=False)(x)  # keeps the image, which its caller holds anyway
        y = layers.BatchNormalization()(y)  # keeps the convolution's output
        y = layers.ReLU()(y)  # its own output, in the place of the norm's
        y = layers.MaxPooling2D(2)(y)  # keeps both sides
        y = layers.Dropout(0.5)(y)  # a byte an element
        y = layers.Dense(10)(layers.Flatten()(y))  # its input, which flattening did not copy
        facts = kcnn.facts(keras.Model(x, y))
    kept = {row["kind"]: row["kept"] for row in facts.layer_dicts()}
    big, small = 4 * 8 * 8 * 4, 4 * 4 * 4 * 4
    assert kept == {
        "Conv2D": big,
        "BatchNormalization": 0,
        "ReLU": 0,
        "MaxPooling2D": small,
        "Dropout": small + small // 4,
        "Flatten": 0,
        "Dense": 0,
    } | {"BatchNormalization": big}


STEP = """
import sys
import keras, tensorflow as tf
import kcnn

tf.config.threading.set_inter_op_parallelism_threads(1)
name, batch, peak = sys.argv[1], int(sys.argv[2]), lambda: tf.config.experimental.get_memory_info("CPU:0")["peak"]
model = kcnn.build(name, resolution=128, stem="standard")
optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
optimizer.build(model.trainable_variables)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
images, labels = tf.random.uniform((batch, 128, 128, 3)), tf.zeros(batch, tf.int32)

@tf.function
def step():
    with tf.GradientTape() as tape:
        value = loss(labels, model(images, training=True))
    gradients, _ = tf.clip_by_global_norm(tape.gradient(value, model.trainable_variables), 1.0)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return value

peaks = []
for _ in range(4):  # the first one traces
    tf.config.experimental.reset_memory_stats("CPU:0")
    step().numpy()
    peaks.append(peak())
print(sorted(peaks[1:])[1], kcnn.facts(model).memory(batch))
"""


def counts_memory():
    """Whether TensorFlow's allocator counts, as it does where oneDNN serves: it does not on CPUs without AVX512."""
    try:
        return bool(tf.config.experimental.get_memory_info("CPU:0"))
    except ValueError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg-16", "resnet-50", "densenet-121", "mobilenet-v2", "efficientnet-b0"])
@pytest.mark.parametrize("batch", [8, 16])
def test_memory_is_what_a_step_allocates(name, batch):
    """Within 15 % of the most that TensorFlow's own allocator had given out at once in a step, in a fresh process.

    Momentum SGD, gradients clipped by their global norm, 128 pixels, float32: weights and slots are part of it; what
    the process itself takes (TensorFlow's code, the graph) is not. Operations run one after another: where they
    overlap, the timing of threads moves a step's peak by some 5 %, VGG's by 10.
    """
    if not counts_memory():
        pytest.skip("TensorFlow's allocator has no statistics on this CPU")
    ran = subprocess.run([sys.executable, "-c", STEP, name, str(batch)], capture_output=True, text=True, check=True)
    measured, estimated = map(int, ran.stdout.split())
    print(f"{name}, batch {batch}: measured {measured / 1e6:.1f} MB, estimated {estimated / 1e6:.1f} MB")
    assert estimated == pytest.approx(measured, rel=0.15)
