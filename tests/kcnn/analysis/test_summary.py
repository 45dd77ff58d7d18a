"""Facts against other implementations, against what a network does see, and against what a step does allocate."""

import json
import math
import pickle
import resource
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

import kcnn
from kcnn.analysis.rules import RULES, Axis
from kcnn.builder import abstract

# Models that are not ours: (parameters, multiply-adds, activations) as measured by other means, receptive field as in
# https://distill.pub/2019/computing-receptive-fields, where given there.
APPLICATIONS = {
    "VGG16": (138_357_544, 15_470_264_320, 13_547_520, 212),
    "ResNet50": (25_583_592, 3_857_973_248, 10_587_136, 483),
    "ResNet50V2": (25_568_360, 3_482_255_360, 9_270_016, None),
    "DenseNet121": (7_978_856, 2_834_161_664, 6_899_200, None),
    "InceptionV3": (23_817_352, 5_713_216_096, 8_967_488, 1311),
    "InceptionResNetV2": (55_813_192, 13_155_794_016, 25_058_976, 3039),
    "Xception": (22_855_952, 8_357_403_496, 35_824_968, None),
    "MobileNet": (4_231_976, 568_740_352, 5_043_688, 315),
    "MobileNetV2": (3_504_872, 300_774_272, 6_678_112, None),
    "MobileNetV3Large": (5_483_032, 216_589_760, 4_407_168, None),
    "EfficientNetB0": (5_288_548, 385_814_752, 6_747_036, None),
}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_any_keras_model_is_counted(name):
    with abstract():
        model = getattr(keras.applications, name)(weights=None)
    facts = kcnn.facts(model, resolution=None if model.input_shape[1] else 224)
    params, macs, activations, field = APPLICATIONS[name]
    assert (facts.params, facts.macs, facts.activations) == (params, macs, activations)
    assert facts.params == sum(math.prod(w.shape) for w in model.trainable_weights)
    assert facts.params_nontrainable == sum(math.prod(w.shape) for w in model.non_trainable_weights)
    assert field in (None, facts.receptive_field)
    for what in ("params", "macs", "activations"):
        assert sum(getattr(s, what) for s in facts.stages) == getattr(facts, what)


@pytest.mark.parametrize("name", ["NASNetMobile", "EfficientNetV2B0", "ConvNeXtTiny"])
def test_no_layer_of_keras_applications_is_unknown(name):
    with abstract():
        model = getattr(keras.applications, name)(weights=None)
    assert kcnn.facts(model).params == sum(math.prod(w.shape) for w in model.trainable_weights)


def test_nested_shared_and_open_models():
    """A model inside another one is opened up; what is called twice works twice and weighs once."""
    with abstract():
        inner = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(8, 3, name="c"), layers.ReLU(name="r")])
        a, b = keras.Input((16, 16, 3)), keras.Input((16, 16, 3))
        both = layers.concatenate([inner(a), inner(b)])
        model = keras.Model([a, b], layers.Dense(5)(layers.Flatten()(both)))
    facts = kcnn.facts(model)
    assert facts.params == 3 * 3 * 3 * 8 + 8 + 14 * 14 * 16 * 5 + 5
    assert facts.activations == 2 * 14 * 14 * 8
    assert facts.macs == 2 * 14 * 14 * 8 * 27 + 14 * 14 * 16 * 5
    assert "sequential" in facts.layers[0].name and facts.layers[0].name.endswith("/c")
    with pytest.raises(kcnn.InputError, match="open: give a resolution"):
        kcnn.facts(inner)
    assert kcnn.facts(inner, resolution=10).activations == 8 * 8 * 8


def test_operations_of_keras_are_layers_too():
    with abstract():
        x = keras.Input((8, 8, 4))
        y = keras.ops.relu(layers.SeparableConv2D(6, 3, padding="same")(x) + 3.0) * 0.5
        model = keras.Model(x, keras.ops.mean(y, axis=(1, 2)))
    facts = kcnn.facts(model)
    assert facts.macs == 8 * 8 * (4 * 9 + 4 * 6)
    assert facts.activations == 8 * 8 * (4 + 6)
    assert facts.receptive_field == 3


def test_frozen_weights_are_not_trainable():
    model = kcnn.build("resnet-18", 10, width=0.125, resolution=32)
    whole = kcnn.facts(model)
    for layer in model.layers[:-1]:
        layer.trainable = False
    frozen = kcnn.facts(model)
    assert frozen.params == 64 * 10 + 10
    assert frozen.params + frozen.params_nontrainable == whole.params + whole.params_nontrainable
    assert frozen.memory(8) < whole.memory(8)
    assert frozen.memory_parts(8)["activations"] == 8 * 4 * 64  # the last layer's input


def test_an_unknown_layer_is_an_error_that_names_it():
    x = keras.Input((8, 8, 4))
    model = keras.Model(x, layers.Conv3D(2, 1, name="odd")(layers.Reshape((8, 8, 4, 1))(x)))
    with pytest.raises(kcnn.InputError, match="'odd' is a Conv3D"):
        kcnn.facts(model)
    with pytest.raises(kcnn.InputError, match="'odd' is a Lambda"):
        kcnn.facts(keras.Model(x, layers.Lambda(lambda x: x, name="odd")(x)))


@pytest.mark.parametrize(
    "wrong, says",
    [
        (lambda: kcnn.facts(keras.Sequential([layers.Dense(3)])), "has no graph"),
        (lambda: kcnn.facts(3), "has no graph"),
        (lambda: kcnn.facts("resnet-18").memory(0), "batch 0"),
        (lambda: kcnn.facts("resnet-18").memory(8, "int7"), "precision 'int7'"),
        (lambda: kcnn.facts(keras.Sequential([keras.Input((4,)), layers.Dense(3)]), width=2), "has been built"),
    ],
)
def test_bad_input_is_one_clear_line(wrong, says):
    with pytest.raises(kcnn.InputError, match=says) as error:
        wrong()
    assert "\n" not in str(error.value)


def test_large_networks_cost_nothing_to_count():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert kcnn.facts("regnety-32gf").params == 145_046_770
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 300e6  # the weights would take 580


def test_facts_are_plain_data():
    facts = kcnn.facts("mobilenet-v2", resolution=64)
    assert pickle.loads(pickle.dumps(facts)) == facts
    plain = json.loads(json.dumps(facts.to_dict()))
    assert plain["macs"] == facts.macs and [s["name"] for s in plain["stages"]] == [s.name for s in facts.stages]
    assert sum(row["kept"] for row in facts.layer_dicts()) == sum(s.kept for s in facts.stages)


def test_stages_of_ours_and_of_others():
    ours = kcnn.facts("resnet-50")
    assert [s.name for s in ours.stages] == ["stem", "stage1", "stage2", "stage3", "stage4", "head"]
    assert [s.resolution for s in ours.stages] == [56, 56, 28, 14, 7, 1]
    assert [s.blocks for s in ours.stages] == [2, 3, 4, 6, 3, 1]
    assert [s.stride for s in ours.stages] == [4, 4, 8, 16, 32, None]
    with abstract():
        theirs = kcnn.facts(keras.applications.VGG16(weights=None))
    assert [s.name for s in theirs.stages] == [*(f"stride{2**n}" for n in range(6)), "head"]
    assert "the receptive field, 212 pixels, is smaller than the image of 224" in kcnn.facts("vgg-16").remarks


# Receptive fields


def test_axes():
    assert Axis().window(1, 3, 2) == Axis(-1, 1, 2)
    assert Axis(-1, 1, 2).window(1, 3) == Axis(-3, 3, 2)
    assert Axis(-3, 3, 2).union(Axis(0, 8, 2)) == Axis(-3, 8, 2)
    assert (Axis(-3, 8, 2).size, Axis(-3, 8, 2).centre) == (12, 2.5)


# One network a family, as deep as one can measure in float32. Gates and all that is not linear are replaced below.
SEEN = {
    "vgg-11-bn": {},
    "googlenet": {},
    "inception-v3": {"depth": 0.3},
    "inception-v4": {"depth": 0.1},
    "inception-resnet-v2": {"depth": 0.1},
    "resnet-18": {},
    "resnet-50-v1": {"depth": 0.3},
    "resnet-50-v2": {"depth": 0.3},
    "plain-18": {},
    "wide-resnet-50-2": {"depth": 0.3},
    "resnext-50-32x4d": {"depth": 0.3},
    "densenet-121": {"depth": 0.1},
    "xception": {"depth": 0.1},
    "mobilenet-v1": {},
    "mobilenet-v2": {"depth": 0.4},
    "mobilenet-v3-large": {"depth": 0.3},
    "mnasnet-1.0": {"depth": 0.3},
    "efficientnet-b0": {"depth": 0.3},
    "efficientnet-lite0": {"depth": 0.3},
    "regnetx-200mf": {"depth": 0.3},
    "regnety-200mf": {"depth": 0.3},
}


@pytest.mark.parametrize("name", SEEN)
def test_receptive_fields_equal_measured_ones(name):
    check_field(name, **SEEN[name])


def check_field(name, **scaling):
    """The gradient of the middle output of a network that is linear and has positive weights alone: it differs from 0
    just where the output sees the image, which is large enough to hold all of that."""
    scaling = {"width": 0.125, "stem": "standard", **scaling}
    size = 32 * math.ceil(1.2 * kcnn.facts(name, **scaling).receptive_field / 32 + 3)
    model = linear(kcnn.build(name, 2, resolution=size, drop_path=0.0, **scaling))
    facts = kcnn.facts(model)
    end = next(c for c in reversed(facts.layers) if c.field)
    assert end.receptive_field == facts.receptive_field
    seen = gradient_of_the_middle(model, end.name, size)
    for axis, along, n in zip(end.field, (1, 0), end.shape, strict=False):
        places = np.flatnonzero(seen.max(axis=along))
        shift = n // 2 * axis.jump
        assert (places[0], places[-1]) == (axis.lo + shift, axis.hi + shift)
        assert places[-1] - places[0] + 1 == axis.size


def gradient_of_the_middle(model, name, size):
    import tensorflow as tf

    trunk = keras.Model(model.input, model.get_layer(name).output)
    image = tf.fill((1, size, size, 3), 255.0)
    with tf.GradientTape() as tape:
        tape.watch(image)
        y = trunk(image)
        # The scale keeps small gradients from vanishing; places of padding bring no gradient, and are not asked for.
        middle = tf.reduce_sum(y[:, y.shape[1] // 2, y.shape[2] // 2]) * 1e20
    return tape.gradient(middle, image).numpy()[0].sum(-1)


class Closed(layers.GlobalAveragePooling2D):
    """A gate of 1 in place of one that depends on the mean: gates do not count."""

    def call(self, inputs):
        return keras.ops.ones_like(super().call(inputs))


def linear(model):
    """The same graph: averages for maxima, no activations, positive weights that keep the size of what passes."""

    def swap(layer):
        config = layer.get_config()
        if isinstance(layer, layers.MaxPooling2D):
            return layers.AveragePooling2D.from_config(config)
        if isinstance(layer, layers.Activation):
            return layers.Activation.from_config(config | {"activation": "linear"})
        if type(layer).__name__ == "ResponseNormalization":
            return layers.Activation("linear", name=layer.name)
        if isinstance(layer, layers.GlobalAveragePooling2D) and layer.keepdims:
            return Closed.from_config(config)
        return type(layer).from_config(config)

    twin = keras.models.clone_model(model, clone_function=swap)
    for w in twin.weights:
        if "kernel" in w.path:
            inputs = math.prod(w.shape[:-2]) if "depthwise" in w.path else math.prod(w.shape[:-1])
            w.assign(np.full(w.shape, 1 / inputs))
    return twin


def test_fields_of_long_and_of_growing_windows():
    """1x7 and 7x1 apart; transposed convolutions, enlargement, dilation, cropping, by measurement."""
    x = keras.Input((48, 48, 3))
    y = layers.Conv2D(2, (1, 7), padding="same", name="wide")(x)
    y = layers.Conv2D(2, 3, dilation_rate=2, padding="same")(y)
    y = layers.Conv2D(2, 3, strides=2, padding="same")(y)
    y = layers.Conv2DTranspose(2, 4, strides=2, padding="same")(y)
    y = layers.Cropping2D(((3, 1), (2, 1)))(y)
    y = layers.UpSampling2D(2)(y)
    y = layers.Conv2D(2, 3, padding="same", name="end")(y)
    model = linear(keras.Model(x, layers.Dense(1)(layers.Flatten()(y))))
    facts = kcnn.facts(model)
    wide = next(c for c in facts.layers if c.name == "wide")
    assert [axis.size for axis in wide.field] == [1, 7]
    end = next(c for c in facts.layers if c.name == "end")
    seen = gradient_of_the_middle(model, "end", 48)
    for axis, along, n in zip(end.field, (1, 0), end.shape, strict=False):
        places = np.flatnonzero(seen.max(axis=along))
        shift = n // 2 * axis.jump
        # Where strides are undone, neighbours differ in what they see: the field is right to within that.
        assert axis.lo + shift - 1 <= places[0] and places[-1] <= axis.hi + shift + 1
        assert abs(axis.size - (places[-1] - places[0] + 1)) <= 4


def test_a_gate_does_not_count():
    """Squeeze-and-excite sees the whole image; its field is that of the network without it."""
    arch = kcnn.get("efficientnet-b0")
    plain = replace(arch, stages=tuple(replace(s, options={k: v for k, v in s.options.items() if k != "se"})
                                       for s in arch.stages))  # fmt: skip
    assert kcnn.facts(plain).receptive_field == kcnn.facts(arch).receptive_field == 851


# Memory


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
    assert kept == {"Conv2D": big, "BatchNormalization": 0, "ReLU": 0, "MaxPooling2D": small,
                    "Dropout": small + small // 4, "Flatten": 0, "Dense": 0} | {"BatchNormalization": big}  # fmt: skip


def test_every_rule_holds_known_letters():
    allowed = set("xyhmiv")
    for rule in RULES.values():
        layer = layers.Conv2D(1, 1, activation="silu") if rule.keeps.__name__ != "rectified" else layers.ReLU()
        assert set(rule.keeps(layer)) <= allowed


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg-16", "resnet-50", "densenet-121", "mobilenet-v2", "efficientnet-b0"])
@pytest.mark.parametrize("batch", [8, 16])
def test_memory_is_what_a_step_allocates(name, batch):
    """Within 15 % of the most that TensorFlow's own allocator had given out at once in a step, in a fresh process.

    Momentum SGD, gradients clipped by their global norm, 128 pixels, float32: weights and slots are part of it; what
    the process itself takes (TensorFlow's code, the graph) is not. Operations run one after another: where they
    overlap, the timing of threads moves a step's peak by some 5 %, VGG's by 10.
    """
    ran = subprocess.run([sys.executable, "-c", STEP, name, str(batch)], capture_output=True, text=True, check=True)
    measured, estimated = map(int, ran.stdout.split())
    print(f"{name}, batch {batch}: measured {measured / 1e6:.1f} MB, estimated {estimated / 1e6:.1f} MB")
    assert estimated == pytest.approx(measured, rel=0.15)
