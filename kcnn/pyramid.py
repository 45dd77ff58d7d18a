"""What detection and segmentation take of a network: its maps of features, for images of any size."""

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kcnn.errors import InputError, shown, whole

if TYPE_CHECKING:
    import keras

STRIDES = (4, 8, 16, 32)
PROBE = 512  # pixels: a side that all networks take, and that all strides divide


def features(model: "keras.Model", stages: Sequence[int] | None = None) -> "keras.Model":
    """Makes a network's model that gives the maps at the ends of stages: (batch, height, width, channels) each.

    Input: the model's. Outputs: a list, in the order of the stages; the layers, their names (stage3_block2_add) and
    their weights are the model's own, which may have a classifier or none.
    stages: their numbers, from 1; by default the last stage at each of the strides 4, 8, 16 and 32, of those that the
    network has. A stride is how many pixels of the input a step in the map covers, to the nearest power of 2, as
    windows without padding make maps a little smaller; inputs of 64 pixels and less have smaller strides, see `stem` of
    `kcnn.build`. The maps are as they go into the next stage: before the norm and activation that some heads begin with
    (ResNet v2, DenseNet), and without the head's last convolution (EfficientNet).
    For images of any size: kcnn.any_size(kcnn.features(model)).
    Raises InputError for a stage that the model does not have, and for a model without stages.
    """
    import keras

    ends = stage_ends(model)
    if not ends:
        raise InputError(
            f"model {shown(getattr(model, 'name', model))}: it has no layers named stage1_... as ours have"
        )
    if stages is None:
        every = keras.Model(model.input, list(ends.values()))
        stages = [stage for stride in STRIDES for stage in last_at(stride, list(ends), strides(every))]
    chosen = [whole("stages", stage, max(ends)) for stage in stages]
    if not chosen:
        raise InputError(f"stages {shown(stages)}: one or more of 1 to {max(ends)} are needed")
    return keras.Model(model.input, [ends[stage] for stage in chosen], name=f"{model.name}_features")


def any_size(model: "keras.Model") -> "keras.Model":
    """Makes a network's model that takes images of any height and width: (batch, any, any, channels).

    Its layers and weights are the model's own. Images of other proportions or sizes than in training change what it is
    worth, not only what it costs.
    Raises InputError for a network with a layer that needs one size, which the message names: VGG's head has one
    (`Flatten`), its stages have none, and so kcnn.any_size(kcnn.features(model)) serves for it.
    """
    import keras

    def call(layer: "keras.layers.Layer", *args: Any, **kwargs: Any) -> Any:
        y = layer(*args, **kwargs)
        if getattr(y, "shape", (0,))[-1] is None:
            raise InputError(
                f"model {model.name}: its layer {layer.name} needs images of one size; its stages alone may take any: "
                "kcnn.any_size(kcnn.features(model))"
            )
        return y

    image = keras.Input((None, None, model.input_shape[3]), name=model.inputs[0].name)
    return keras.models.clone_model(model, image, clone_function=lambda layer: layer, call_function=call)


def stage_ends(model: "keras.Model") -> dict[int, Any]:
    """Returns the last tensor of each stage, by its number."""
    ends: dict[int, Any] = {}
    for x in leading_to(getattr(model, "outputs", ())):
        if place := re.match(r"stage(\d+)_", layer_of(x).name):  # all ways into a stage lead through its end
            ends.setdefault(int(place[1]), x)
    return dict(sorted(ends.items()))


def leading_to(outputs: Iterable[Any]) -> Iterator[Any]:
    """Yields the tensors that lead to some, and these themselves: the nearest ones first, each once."""
    seen, pending = set(), deque(outputs)
    while pending:
        x = pending.popleft()
        if id(x) not in seen:
            seen.add(id(x))
            yield x
            pending += inputs_of(x)


# Keras has no public names for these two. `layer.input` is that of the layer's first call, in whichever model that was.


def layer_of(x: Any) -> "keras.layers.Layer":
    """Returns the layer that a tensor comes out of."""
    return x._keras_history.operation


def inputs_of(x: Any) -> list[Any]:
    """Returns the tensors that a layer made this one of; none for an input."""
    return layer_of(x)._inbound_nodes[x._keras_history.node_index].input_tensors


def strides(model: "keras.Model") -> list[int]:
    """Returns how many pixels a step in each of a model's maps covers, to the nearest power of 2."""
    side = model.input_shape[1]
    shapes = [x.shape for x in model.outputs]
    if side is None:
        side = PROBE
        shapes = model.compute_output_shape((1, side, side, model.input_shape[3]))
    return [2 ** round(math.log2(side / shape[1])) for shape in shapes]


def last_at(stride: int, stages: list[int], found: list[int]) -> list[int]:
    """Returns the last of the stages with this stride, or none."""
    return [stage for stage, other in zip(stages, found, strict=True) if other == stride][-1:]
