"""The state of a run: all variables that a training step changes."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import tensorflow as tf


@dataclass(frozen=True)
class State:
    """A network, its optimizer, the moving averages of its weights (`ema`, empty where there are none), the step.

    model: the network that is trained, with auxiliary heads where the architecture has them: its outputs are then a
    list, of which the first are the logits. plain: the same network without those heads, which is evaluated; it shares
    all weights.
    """

    model: keras.Model
    plain: keras.Model
    optimizer: keras.Optimizer
    ema: list[tf.Variable]
    step: tf.Variable


def make_state(
    model: keras.Model, optimizer: keras.Optimizer, averaged: bool, plain: keras.Model | None = None
) -> State:
    """The state at step 0. It is to be made in the strategy's scope. `plain` is the model itself by default."""
    ema = [tf.Variable(v.value, trainable=False, name="ema") for v in model.weights] if averaged else []
    first = tf.VariableAggregation.ONLY_FIRST_REPLICA
    step = tf.Variable(0, trainable=False, dtype=tf.int64, name="step", aggregation=first)
    return State(model, plain or model, optimizer, ema, step)


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    """Within the block, layers are made with this Keras dtype policy, such as mixed_bfloat16."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
