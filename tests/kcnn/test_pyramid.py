"""Headless networks, maps of features, images of any size."""

import keras
import numpy as np
import pytest

import kcnn
from kcnn.errors import InputError

# The stages whose ends are the maps, and their strides.
MAPS = {
    "resnet-18": ([1, 2, 3, 4], [4, 8, 16, 32]),
    "resnet-50-v2": ([1, 2, 3, 4], [4, 8, 16, 32]),
    "densenet-121": ([1, 2, 3, 4], [4, 8, 16, 32]),
    "efficientnet-b0": ([2, 3, 5, 7], [4, 8, 16, 32]),
    "mobilenet-v3-small": ([1, 2, 4, 5], [4, 8, 16, 32]),
    "regnety-200mf": ([1, 2, 3, 4], [4, 8, 16, 32]),
    "xception": ([1, 2, 4, 5], [4, 8, 16, 32]),
    "inception-v3": ([1, 3, 5], [8, 16, 32]),
    "googlenet": ([1, 2, 3], [8, 16, 32]),
    "vgg-11": ([3, 4, 5], [4, 8, 16]),
}


def small(name, classes=0, **more):
    return kcnn.build(name, classes, width=0.25, depth=0.34, **more)


@pytest.mark.parametrize("name", MAPS)
def test_maps_are_the_last_ones_of_each_stride(name):
    model = small(name)
    maps, (stages, strides) = kcnn.features(model), MAPS[name]
    side = model.input_shape[1]
    assert [2 ** round(np.log2(side / x.shape[1])) for x in maps.outputs] == strides
    for x, other in zip(maps.outputs, kcnn.features(model, stages).outputs, strict=True):
        assert x is other
    names = [x._keras_history.operation.name for x in maps.outputs]
    assert [int(name.removeprefix("stage").split("_")[0]) for name in names] == stages
    assert {v.path for v in maps.weights} <= {v.path for v in model.weights}


@pytest.mark.parametrize("name", ["resnet-18", "inception-v3", "efficientnet-b0", "vgg-11"])
def test_images_may_have_any_size(name):
    """The maps are those of the network that is made for the size, and equal at its own."""
    maps = kcnn.features(small(name, resolution=96, stem="standard"))
    free = kcnn.any_size(maps)
    assert free.input_shape == (None, None, None, 3) and free.weights == maps.weights
    draws = np.random.default_rng(0)
    images = draws.uniform(0, 255, (1, 96, 96, 3)).astype("float32")
    for x, y in zip(free(images), maps(images), strict=True):
        np.testing.assert_array_equal(x, y)
    other = kcnn.features(small(name, resolution=128, stem="standard"))
    by_path = {v.path: v for v in maps.weights}
    for v in other.weights:
        v.assign(by_path[v.path])
    images = draws.uniform(0, 255, (1, 128, 128, 3)).astype("float32")
    for x, y in zip(free(images), other(images), strict=True):
        np.testing.assert_array_equal(x, y)
    assert [x.shape[2] for x in free(images[:, :, :80])] != [x.shape[1] for x in free(images[:, :, :80])]


def test_without_a_classifier():
    """All other layers and weights have the same names, and the output is what the classifier reads."""
    headless, whole = small("mobilenet-v3-small"), small("mobilenet-v3-small", 10)
    paths = [v.path for v in headless.weights]
    assert [*paths, "logits/kernel", "logits/bias"] == [v.path for v in whole.weights]
    assert headless.output_shape == whole.get_layer("logits").input.shape == (None, 1024)
    assert kcnn.any_size(headless)(np.zeros((2, 75, 40, 3), "float32")).shape == (2, 1024)
    assert kcnn.facts("resnet-18", classes=0).params == kcnn.facts("resnet-18").params - 513 * 1000


def test_a_classifier_of_any_size_and_its_maps():
    model = kcnn.any_size(small("resnet-18", 7))
    assert model(np.zeros((1, 90, 45, 3), "float32")).shape == (1, 7)
    assert [x.shape[-1] for x in kcnn.features(model).outputs] == [16, 32, 64, 128]


def test_what_cannot_be_is_one_line():
    with pytest.raises(InputError, match="its layer head2_flatten needs images of one size"):
        kcnn.any_size(small("vgg-11"))
    for stages, says in (
        ([5], "stages 5: a whole number from 1 to 4"),
        ([0], "stages 0"),
        ([], "one or more of 1 to 4"),
    ):
        with pytest.raises(InputError, match=says):
            kcnn.features(small("resnet-18"), stages)
    with pytest.raises(InputError, match="'mine': it has no layers"):
        image = keras.Input((8, 8, 3))
        kcnn.features(keras.Model(image, keras.layers.Flatten()(image), name="mine"))
    with pytest.raises(InputError, match="classes -1: a whole number from 0"):
        kcnn.build("resnet-18", -1)
    with pytest.raises(InputError, match="auxiliary heads classify"):
        small("googlenet", aux=True)
