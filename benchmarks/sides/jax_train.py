"""A side that trains with Keras on JAX, on a GPU if there is one: `python -m benchmarks.sides.jax_train NETWORK BATCH
PIXELS POLICY`.

POLICY is Keras's dtype policy. The trainer is TensorFlow's, so the step is written out here: SGD, Nesterov momentum.
"""

import os
import sys
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the other sides need memory, too

import jax
import jax.numpy as jnp
import keras
import numpy as np

import kcnn
from benchmarks.turns import requests

CLASSES, RATE, MOMENTUM = 1000, 0.01, 0.9
Arrays = list[jax.Array]


def main() -> None:
    network, batch, side, policy = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    model = kcnn.build(network, CLASSES, resolution=side)
    step = jax.jit(step_of(model), donate_argnums=(0, 1, 2))
    draws = np.random.default_rng(0)
    images = jnp.asarray(draws.integers(0, 256, (batch, side, side, 3)), "uint8")
    labels = jnp.asarray(draws.integers(0, CLASSES, batch), "int32")
    weights, others = ([v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables))
    moments = [jnp.zeros_like(w) for w in weights]
    for steps in requests():
        for _ in range(steps):
            weights, others, moments, loss = step(weights, others, moments, images, labels)
        loss.block_until_ready()


def step_of(model: keras.Model) -> Any:
    """(weights, other variables, moments, images, labels) -> the first three after a step, and the loss."""

    def loss_of(weights: Arrays, others: Arrays, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, Arrays]:
        logits, others = model.stateless_call(weights, others, images.astype("float32"), training=True)
        logits = jax.nn.log_softmax(logits.astype("float32"))
        return -jnp.mean(jnp.take_along_axis(logits, labels[:, None], 1)), others

    def step(weights: Arrays, others: Arrays, moments: Arrays, images: jax.Array, labels: jax.Array) -> tuple[Any, ...]:
        (loss, others), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, others, images, labels)
        moments = [MOMENTUM * m - RATE * g for m, g in zip(moments, gradients, strict=True)]
        ahead = (MOMENTUM * m - RATE * g for m, g in zip(moments, gradients, strict=True))
        return [w + a for w, a in zip(weights, ahead, strict=True)], others, moments, loss

    return step


if __name__ == "__main__":
    main()
