"""What a trained network loses with one of its blocks: Veit et al., 2016 (https://arxiv.org/abs/1605.06431), section
4.1.

A block is taken out by its weights: a residual one gives 0 to its sum, a dense one joins zeros, and one without
shortcut hands on what it got.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from trainers.data import Split
from trainers.distribute.strategy import make_strategy
from trainers.evaluation import evaluator
from trainers.runs.checkpoints import load_run


def kept(run: Path, split: Split) -> float:
    """The accuracy on a split without a block over that with all, in the mean over the blocks that change no shape."""
    model, config, classes = load_run(run)
    evaluate = evaluator(model, [], split, len(classes), config, make_strategy("one-device"))
    whole = evaluate().accuracy
    shares = [removed(model, block, lambda: evaluate().accuracy) / whole for block in removable(model)]
    return float(np.mean(shares)) if whole else 0.0


def removable(model: keras.Model) -> list[str]:
    """The blocks that are not the first of their stage, whose shapes and shortcuts are others."""
    found = [re.match(r"stage\d+_block(\d+)", layer.name) for layer in model.layers]
    return list(dict.fromkeys(m[0] for m in found if m and int(m[1]) > 1))


def removed(model: keras.Model, block: str, measure: Callable[[], Any]) -> Any:
    """What is measured without the block, which is then put back."""
    layers = [layer for layer in model.layers if re.match(rf"{block}_", layer.name)]
    values = [layer.get_weights() for layer in layers]
    kinds = [type(layer).__name__ for layer in layers]
    weighted = [layer for layer in layers if layer.weights]
    try:
        if "Add" in kinds or "Concatenate" in kinds:
            silence(weighted[-1])
        else:
            for layer in weighted:
                hand_on(layer)
        return measure()
    finally:
        for layer, weights in zip(layers, values, strict=True):
            layer.set_weights(weights)


def silence(layer: keras.Layer) -> None:
    """The layer gives zeros."""
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.gamma.assign(0 * layer.gamma)
        layer.beta.assign(0 * layer.beta)
    else:
        layer.set_weights([0 * value for value in layer.get_weights()])


def hand_on(layer: keras.Layer) -> None:
    """The layer gives what it gets."""
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.gamma.assign(np.sqrt(np.asarray(layer.moving_variance) + layer.epsilon))
        layer.beta.assign(np.asarray(layer.moving_mean))
        return
    kernel, *bias = layer.get_weights()
    same = np.zeros_like(kernel)
    same[kernel.shape[0] // 2, kernel.shape[1] // 2] = np.eye(*kernel.shape[2:])
    layer.set_weights([same, *(0 * value for value in bias)])
