"""What a run is made of: a network, its optimizer, the averages of its weights, the step."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import keras
import tensorflow as tf

import kcnn
from kcnn.arch import compound
from kcnn.builder import resolve
from trainers.config import TrainConfig


@dataclass(frozen=True)
class State:
    """All that a step changes: a network, its optimizer, the moving average of its weights (if any), the step.

    model: what is trained, with auxiliary heads where the architecture has them: its outputs are then a list, of
    which the first are the logits. plain: the same without those heads, what is evaluated; it shares all weights.
    """

    model: keras.Model
    plain: keras.Model
    optimizer: keras.Optimizer
    ema: list[tf.Variable]
    step: tf.Variable


def make_state(
    model: keras.Model, optimizer: keras.Optimizer, averaged: bool, plain: keras.Model | None = None
) -> State:
    """To be called in the strategy's scope. `plain` is the model itself by default."""
    ema = [tf.Variable(v.value, trainable=False, name="ema") for v in model.weights] if averaged else []
    first = tf.VariableAggregation.ONLY_FIRST_REPLICA
    step = tf.Variable(0, trainable=False, dtype=tf.int64, name="step", aggregation=first)
    return State(model, plain or model, optimizer, ema, step)


def architecture(config: TrainConfig) -> kcnn.Arch:
    """The network of a configuration just as it will be built."""
    growth = {key: value for key in ("alpha", "beta", "gamma") if (value := getattr(config, key)) is not None}
    arch = compound(kcnn.get(config.arch), config.phi, **growth)
    arch = resolve(arch, config.width, config.depth, config.resolution, config.stem)
    if config.bn_momentum is not None:
        arch = replace(arch, style=replace(arch.style, bn_momentum=config.bn_momentum))
    return arch


def network(config: TrainConfig, classes: int, aux: bool = False) -> keras.Model:
    """The network of a configuration, with random weights; `aux`: with its auxiliary heads (see kcnn.build)."""
    return kcnn.build(architecture(config), classes, dropout=config.drop, drop_path=config.drop_path,
                      weights=config.weights, stem="standard", aux=aux)  # fmt: skip


def networks(config: TrainConfig, classes: int) -> tuple[keras.Model, keras.Model]:
    """What is trained and what is evaluated: the same, where there are no auxiliary heads."""
    if not architecture(config).aux:
        plain = network(config, classes)
        return plain, plain
    trained = network(config, classes, aux=True)
    return trained, keras.Model(trained.inputs, trained.outputs[0], name=trained.name)


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
