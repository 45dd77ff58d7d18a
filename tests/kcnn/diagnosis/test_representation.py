"""What a network makes of images, with faults planted in it."""

import keras
import numpy as np
import pytest

import kcnn
from kcnn.diagnosis.representation import representation

SIDE = 32


@pytest.fixture(scope="module")
def pictures():
    """96 pictures of large areas in three tints, and the tints as labels."""
    draws = np.random.default_rng(0)
    areas = draws.uniform(0, 255, (96, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    labels = draws.integers(0, 3, 96)
    return (0.5 * areas + 128 * np.eye(3)[labels][:, None, None]).astype(np.float32), labels


def batches(pictures, size=16):
    images, labels = pictures
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, len(images), size)]


def small(last=8, activation="linear", rank=None):
    """Two strides; the second stage has a projection to a few channels, of which a rank of 2 can be planted."""
    image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="first")(x)
    x = keras.layers.Conv2D(32, 3, strides=2, padding="same", name="wide")(x)
    x = keras.layers.ReLU(name="wide_act")(x)
    x = keras.layers.Conv2D(last, 1, name="narrow", use_bias=False)(x)
    x = keras.layers.Activation(activation, name="narrow_act")(x)
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    if rank:
        kernel = np.random.default_rng(1).normal(size=(32, rank)) @ np.random.default_rng(2).normal(size=(rank, last))
        model.get_layer("narrow").set_weights([kernel[None, None]])
    return model


def places(found):
    return {(s.stage, s.where): s for s in found.spans}


def test_stages_narrowest_layers_and_their_rank(pictures):
    found = places(representation(small(rank=2), batches(pictures)))
    assert list(found)[-4:] == [("stride2", "narrow"), ("stride2", "end"), ("stride4", "narrow"), ("stride4", "end")]
    narrow = found["stride4", "narrow"]
    assert (narrow.layer, narrow.channels, narrow.activated) == ("narrow", 8, "")
    assert 1 <= narrow.participation <= narrow.effective <= 2.001
    assert found["stride2", "end"].effective > 1 and found["stride2", "end"].layer == "first"


def test_what_a_relu_loses_is_what_a_regression_finds(pictures):
    model = small()
    narrow = places(representation(model, batches(pictures)))["stride4", "narrow"]
    looking = keras.Model(model.input, model.get_layer("narrow").output)
    x = looking.predict(pictures[0], verbose=0).reshape(-1, 8).astype(np.float64)
    y = np.c_[np.maximum(x, 0), np.ones(len(x))]
    rest = x - y @ np.linalg.lstsq(y, x, rcond=None)[0]
    # The network has 8 x 8 places there, of which 49 are looked at.
    assert narrow.relu_loses == pytest.approx((rest**2).sum() / ((x - x.mean(0)) ** 2).sum(), rel=0.1)


def test_an_activation_on_the_narrowest_layer_is_seen(pictures):
    assert places(representation(small(activation="relu"), batches(pictures)))["stride4", "narrow"].activated == "relu"


def test_planted_dead_and_saturated_units(pictures):
    model = small(activation="sigmoid")
    kernel, bias = model.get_layer("wide").get_weights()
    bias[[3, 7, 8]] = -1e6
    model.get_layer("wide").set_weights([kernel, bias])
    model.get_layer("narrow").set_weights([1e4 * np.abs(model.get_layer("narrow").get_weights()[0])])
    units = {u.layer: u for u in representation(model, batches(pictures)).units}
    assert (units["wide_act"].dead, units["wide_act"].units, units["wide_act"].saturated) == (3, 32, 0)
    assert units["first"].dead < 8 and units["narrow_act"].saturated > 0.9


def test_a_block_that_changes_nothing(pictures):
    image = keras.Input((SIDE, SIDE, 3))
    x = one = keras.layers.Conv2D(8, 3, strides=4, padding="same", name="one")(image)
    f = keras.layers.Conv2D(8, 3, padding="same", kernel_initializer="zeros", name="nothing")(x)
    x = keras.layers.Add(name="two")([one, f])
    f = keras.layers.Conv2D(8, 3, padding="same", activation="tanh", name="something")(x)
    x = keras.layers.Add(name="three")([x, keras.layers.Rescaling(100.0)(f)])
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    found = representation(model, batches(pictures), ["one", "two", "three"]).likeness
    assert [(r.before, r.after) for r in found] == [("one", "two"), ("two", "three")]
    assert found[0].cka == pytest.approx(1, abs=1e-6) and found[1].cka < 0.99


def test_probes_know_what_the_features_tell(pictures):
    images, labels = pictures
    found = places(representation(small(), batches(pictures)))
    assert found["stride4", "end"].probe > 0.9
    other = np.random.default_rng(3).permutation(labels)
    noise = places(representation(small(), batches((images, other))))["stride4", "end"].probe
    assert noise < 0.6
    assert places(representation(small(), [(images, None)]))["stride4", "end"].probe is None


def test_batches_do_not_matter(pictures):
    one, other = (representation(small(rank=2), batches(pictures, size)) for size in (96, 24))
    assert one.images == other.images == 96
    assert one.spans[0].probe == other.spans[0].probe  # the same means of the same maps


@pytest.mark.slow
def test_networks_of_ours_and_of_keras(pictures):
    images = [(np.zeros((4, 64, 64, 3), np.float32), None)]
    ours = representation(kcnn.build("efficientnet-b0", 3, width=0.25, depth=0.25, resolution=64), images)
    assert {s.stage for s in ours.spans} == {"stem", *(f"stage{k}" for k in range(1, 8))}
    theirs = representation(keras.applications.MobileNetV2(weights=None, input_shape=(64, 64, 3), alpha=0.35), images)
    assert [s.stage for s in theirs.spans if s.where == "end"] == [f"stride{2**k}" for k in range(1, 6)]
    assert all(s.effective == 0 for s in theirs.spans)  # equal images


def test_no_images_are_one_line():
    with pytest.raises(kcnn.InputError, match="no images"):
        representation(small(), [])


def test_features_that_are_no_numbers_are_one_line(pictures):
    model = small()
    model.get_layer("narrow").set_weights([model.get_layer("narrow").get_weights()[0] * np.nan])
    with pytest.raises(kcnn.InputError, match="narrow makes of the images is no finite number"):
        representation(model, batches(pictures))
