"""What a run is made of: a network, its optimizer, the averages of its weights, the step."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import keras
import tensorflow as tf

import kcnn
from kcnn.builder import resolve
from trainers.config import TrainConfig


@dataclass(frozen=True)
class State:
    """All that a step changes: a network, its optimizer, the moving average of its weights (if any), the step."""

    model: keras.Model
    optimizer: keras.Optimizer
    ema: list[tf.Variable]
    step: tf.Variable


def make_state(model: keras.Model, optimizer: keras.Optimizer, averaged: bool) -> State:
    """To be called in the strategy's scope."""
    ema = [tf.Variable(v.value, trainable=False, name="ema") for v in model.weights] if averaged else []
    first = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return State(model, optimizer, ema, tf.Variable(0, trainable=False, dtype=tf.int64, name="step", aggregation=first))


def architecture(config: TrainConfig) -> kcnn.Arch:
    """The network of a configuration just as it will be built."""
    arch = resolve(config.arch, config.width, config.depth, config.resolution, config.stem)
    if config.bn_momentum is not None:
        arch = replace(arch, style=replace(arch.style, bn_momentum=config.bn_momentum))
    return arch


def network(config: TrainConfig, classes: int) -> keras.Model:
    """The network of a configuration, with random weights."""
    return kcnn.build(
        architecture(config),
        classes,
        dropout=config.drop,
        drop_path=config.drop_path,
        weights=config.weights,
        stem="standard",
    )


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
