"""The signatures of a served network: graph functions from encoded pictures or pixels to answers."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import keras
import tensorflow as tf

from kcnn.analysis.graph import nodes, opened
from trainers.data import eval_array, eval_image
from trainers.data.decoding.headers import MAX_PIXELS
from trainers.data.stored.lists import BAR
from trainers.optim.losses import probabilities as shares_of
from trainers.settings import RunConfig

Name = Literal["serving_default", "image", "image_uint8", "classify", "predict", "features"]
NAMES: tuple[Name, ...] = get_args(Name)

# The method that a server's API looks for; `tf.saved_model.save` writes "predict" for all.
METHODS = {"classify": "tensorflow/serving/classify"}

Outputs = dict[str, tf.Tensor]


def make_signatures(
    model: keras.Model,
    config: RunConfig,
    classes: tuple[str, ...],
    names: tuple[str, ...],
    *,
    top: int = 5,
    max_pixels: int = MAX_PIXELS,
    thresholds: tuple[float, ...] | None = None,
) -> tuple[tf.Module, dict[str, Any]]:
    """The arguments of `tf.saved_model.save`: a module that owns the weights, and its functions by signature.

    serving_default, predict: image_bytes, (batch,) encoded pictures, cropped and resized as in evaluation.
    image, image_uint8: image, (batch, height, width, 3) of values from 0 to 255 in any size, cropped and resized
    likewise. All four give probabilities (batch, classes). Of the `top` likeliest classes, best first, they give
    classes, labels and scores, (batch, top) each: the indices, names and probabilities. With thresholds they also give
    predicted, (batch,): the names of all classes that reach theirs, with bars between, as in "cat|dog".
    classify: inputs, (batch,) serialized tf.Examples with the feature image_bytes; gives classes, (batch, top)
    names, and scores. features: image_bytes; gives features, (batch, n), what the classifier sees.
    """
    labels, top = tf.constant(classes), min(top, len(classes))
    both = keras.Model(model.inputs, [classifier_input(model), model.outputs[0]])

    @tf.function(input_signature=[tf.TensorSpec((None, config.resolution, config.resolution, 3), tf.uint8)])
    def network(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features, logits = both(tf.cast(pixels, tf.float32), training=False)
        return tf.cast(features, tf.float32), shares_of(logits, config.multi_label)

    def answer(pixels: tf.Tensor) -> Outputs:
        _, probabilities = network(pixels)
        scores, ids = tf.math.top_k(probabilities, top)
        return {
            "probabilities": probabilities,
            "classes": tf.cast(ids, tf.int64),
            "labels": tf.gather(labels, ids),
            "scores": scores,
        } | ({} if thresholds is None else {"predicted": names_from(probabilities, labels, thresholds)})

    def serve_bytes(image_bytes: tf.Tensor) -> Outputs:
        return answer(from_bytes(image_bytes, config, max_pixels))

    def serve_pixels(image: tf.Tensor) -> Outputs:
        return answer(from_pixels(image, config))

    def classify(inputs: tf.Tensor) -> Outputs:
        parsed = tf.io.parse_example(inputs, {"image_bytes": tf.io.FixedLenFeature((), tf.string)})
        outputs = answer(from_bytes(parsed["image_bytes"], config, max_pixels))
        return {"classes": outputs["labels"], "scores": outputs["scores"]}

    def features(image_bytes: tf.Tensor) -> Outputs:
        return {"features": network(from_bytes(image_bytes, config, max_pixels))[0]}

    strings, any_size = tf.TensorSpec((None,), tf.string), (None, None, None, 3)
    takes: dict[str, tuple[Callable[..., Outputs], tf.TensorSpec]] = {
        "serving_default": (serve_bytes, strings),
        "predict": (serve_bytes, strings),
        "image": (serve_pixels, tf.TensorSpec(any_size, tf.float32)),
        "image_uint8": (serve_pixels, tf.TensorSpec(any_size, tf.uint8)),
        "classify": (classify, strings),
        "features": (features, strings),
    }
    owner = tf.Module()
    owner.network, owner.weights = network, [v.value for v in both.weights]
    chosen = {
        name: tf.function(function, input_signature=[spec])
        for name, (function, spec) in takes.items()
        if name in ("serving_default", *names)
    }
    return owner, chosen


def names_from(probabilities: tf.Tensor, labels: tf.Tensor, thresholds: tuple[float, ...]) -> tf.Tensor:
    """(batch,) names of the classes that reach their thresholds, in the order of the classes, with bars between."""
    reached = probabilities >= tf.constant(thresholds, tf.float32)
    names = tf.where(reached, tf.strings.join([labels, BAR])[None], "")
    return tf.strings.regex_replace(tf.strings.reduce_join(names, -1), rf"\{BAR}$", "")


def from_bytes(pictures: tf.Tensor, config: RunConfig, max_pixels: int) -> tf.Tensor:
    """Encoded pictures (batch,) to uint8 (batch, r, r, 3), cropped and resized as in evaluation."""

    def one(item: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        place, data = item
        return eval_image(
            data,
            config.resolution,
            crop=config.eval_crop,
            method=config.interpolation,
            max_pixels=max_pixels,
            who=named(place),
        )

    return each(one, (tf.range(tf.size(pictures)), pictures), config.resolution)


def from_pixels(images: tf.Tensor, config: RunConfig) -> tf.Tensor:
    """Pixels (batch, height, width, 3) to uint8 (batch, r, r, 3), cropped and resized as in evaluation."""

    def one(item: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        place, image = item
        pixels = image if image.dtype == tf.uint8 else rounded(image, place)
        return eval_array(pixels, config.resolution, crop=config.eval_crop, method=config.interpolation)

    sides = tf.shape(images)[1:3]
    with tf.control_dependencies([demand(tf.reduce_all(sides > 0), "the request's pictures have no pixels")]):
        return each(one, (tf.range(tf.shape(images)[0]), images), config.resolution)


def classifier_input(model: keras.Model) -> keras.KerasTensor:
    """The tensor that the last layer, which makes the logits, starts from."""
    (last,) = (node for node in nodes(opened(model)) if node.outputs[0] is model.outputs[0])
    return last.input_tensors[0]


def named(place: tf.Tensor) -> tf.Tensor:
    """The name of a picture in an error's message."""
    return tf.strings.join(["picture ", tf.as_string(place), " of the request"])


def demand(holds: tf.Tensor, message: tf.Tensor | str) -> tf.Operation:
    """Raises InvalidArgumentError with the message where the condition does not hold."""
    return tf.raw_ops.Assert(condition=holds, data=[message])


def rounded(image: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """float32 values as uint8, clipped to 0 and 255. Raises InvalidArgumentError for NaN and infinite ones."""
    message = tf.strings.join([named(place), " has pixels that are not finite numbers"])
    with tf.control_dependencies([demand(tf.reduce_all(tf.math.is_finite(image)), message)]):
        return tf.saturate_cast(tf.round(image), tf.uint8)


def each(function: Callable[[Any], tf.Tensor], items: Any, resolution: int) -> tf.Tensor:
    """uint8 (batch, r, r, 3): the function maps the items one at a time, which bounds the memory."""
    count, spec = tf.shape(tf.nest.flatten(items)[-1])[0], tf.TensorSpec((resolution, resolution, 3), tf.uint8)
    with tf.control_dependencies([demand(count > 0, "the request holds no picture")]):
        items = tf.nest.map_structure(tf.identity, items)
    return tf.map_fn(function, items, parallel_iterations=1, fn_output_signature=spec)
