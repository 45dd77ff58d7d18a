"""A network cut in two: the part that stays as it is, and the part that is trained."""

import re
from dataclasses import dataclass, replace
from typing import Any

import keras

from kcnn import Facts
from kcnn.errors import InputError
from kcnn.pyramid import inputs_of, layer_of, leading_to
from trainers.settings import RunConfig


@dataclass(frozen=True)
class Parts:
    """Both parts share their layers with the network that was cut.

    still: from pixels to the tensors on which the trained part stands; None where there is nothing to compute below it.
    It is to be called as in inference, so that batch normalization uses its statistics and leaves them, and nothing is
    dropped.
    trained: from those tensors to the logits, and behind them the auxiliary logits that have something to teach.
    aux: the weights of the latter's losses.
    """

    still: keras.Model | None
    trained: keras.Model
    aux: tuple[float, ...]

    @property
    def still_weights(self) -> list[keras.Variable]:
        """The weights and statistics that stay as they are."""
        return self.still.weights if self.still else []

    def __call__(self, images: Any, training: bool) -> Any:
        """Returns the logits of the images."""
        return self.trained(self.entrance(images), training=training)

    def entrance(self, images: Any) -> Any:
        """Returns what the trained part takes of the images: a tensor, or a list of several."""
        return self.still(images, training=False) if self.still else images


def cut(model: keras.Model, config: RunConfig) -> Parts:
    """Cuts a run's network as `config.freeze` asks.

    backbone: all but the classifier stays, which is the last layer with weights, the dropout before it and what follows
    it. A number: stem and stages stay up to this one; so do auxiliary heads on them, as nothing below could learn of
    them. With `config.features_only` a batch holds what the still part makes of images, and there is only the other.
    """
    if config.freeze == "none":
        return Parts(None, model, tuple(a.weight for a in config.arch.aux))
    if config.freeze == "backbone":
        moving, kept = classifier(model), []
    else:
        last = int(config.freeze)
        moving = {id(layer) for layer in model.layers if place(layer) > last}
        kept = [k for k, a in enumerate(config.arch.aux, 1) if a.stage > last]
    outputs = [model.outputs[0], *(model.outputs[k] for k in kept if k < len(model.outputs))]
    edge = alone(boundary(outputs, moving))
    trained = keras.Model(edge, alone(outputs), name=f"{model.name}_trained")
    still = None if config.features_only else keras.Model(model.input, edge, name=f"{model.name}_still")
    return Parts(still, trained, tuple(config.arch.aux[k - 1].weight for k in kept))


def place(layer: keras.layers.Layer) -> float:
    """The number of a layer's stage, by its name: 0 below the first, and infinite above the last."""
    return 0 if isinstance(layer, keras.layers.InputLayer) else number(layer.name)


def number(name: str) -> float:
    """The number of the stage in a layer's name."""
    found = re.match(r"stage(\d+)_", name)
    if found:
        return int(found[1])
    return 0 if name.startswith(("stem", "normalize")) else float("inf")


def step_memory(facts: Facts, config: RunConfig, replicas: int) -> int:
    """The bytes of one replica's step: those of training, without gradients and slots of what stays frozen to the end;
    with `config.features_only` those of the network as it computes the features, which is more than its classifier's
    training takes.
    """
    graph = facts.graph
    if config.freeze != "none" and not config.unfreeze_epoch:
        last = [call.name for call in graph.calls if call.params][-1]
        rests = (
            (lambda name: name != last) if config.freeze == "backbone" else (lambda n: number(n) <= int(config.freeze))
        )
        calls = tuple(
            replace(c, params=0, params_nontrainable=c.params + c.params_nontrainable) if rests(c.name) else c
            for c in graph.calls
        )
        graph = replace(graph, calls=calls)
    batch = config.batch_size // replicas
    training = not config.features_only
    return replace(facts, graph=graph).memory(batch, config.precision, training, recompute=config.recompute)


def classifier(model: keras.Model) -> set[int]:
    """The ids of the layers from the last one with weights on, with the dropout right before it."""
    tensors = list(leading_to(model.outputs[:1]))
    x = next((x for x in tensors if layer_of(x).weights), None)
    if x is None:
        raise InputError(f"freeze 'backbone': the network {model.name} has no layer with weights")
    moving = {id(layer_of(x))}
    while isinstance(layer_of(x := inputs_of(x)[0]), keras.layers.Dropout):
        moving.add(id(layer_of(x)))
    taken = {id(layer_of(x)): inputs_of(x) for x in tensors}
    for layer in map(id, model.layers):  # in the order of their calls
        if any(id(layer_of(x)) in moving for x in taken.get(layer, ())):
            moving.add(layer)
    return moving


def boundary(outputs: list[keras.KerasTensor], moving: set[int]) -> list[keras.KerasTensor]:
    """The tensors that the moving layers on the way to the outputs take from the others, each once."""
    edge: dict[int, keras.KerasTensor] = {}
    seen, pending = set(), list(outputs)
    while pending:
        x = pending.pop(0)
        if id(layer_of(x)) not in moving:
            edge[id(x)] = x
        elif id(x) not in seen:
            seen.add(id(x))
            pending += inputs_of(x)
    return list(edge.values())


def alone(tensors: list[Any]) -> Any:
    """The tensor itself where there is but one."""
    return tensors[0] if len(tensors) == 1 else tensors
