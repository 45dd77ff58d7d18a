"""Networks of grouped convolutions train alike with our layer and with Keras's, in every way of training."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from steps import run

import kcnn
from kcnn import layers

# The smallest of each design with more than one group in every stage.
NETWORKS = {"regnetx-200mf": {"width": 0.35}, "regnety-200mf": {"width": 0.35}, "resnext-50-32x4d": {"width": 0.25}}
WAYS = (
    {},
    {"strategy": "mirrored", "replicas": 2},
    {"strategy": "mirrored", "replicas": 2, "sync_bn": True},
    {"accumulate_steps": 2},
    {"sam": 0.05},
    {"ema": 0.9, "optimizer": "adamw", "lr": 1e-4},
    {"recompute": True},
    {"precision": "mixed_bfloat16"},
)


@pytest.mark.exhaustive
@pytest.mark.parametrize("flags", WAYS, ids=str)
@pytest.mark.parametrize("arch", NETWORKS)
def test_a_step_is_that_of_keras_s_layers(arch, flags, monkeypatch):
    """Without kinks: next to one of a ReLU the last bit decides on a gradient."""
    arch, given = kcnn.get(arch), {"depth": 0.3, "drop": 0.0, "drop_path": 0.0} | NETWORKS[arch] | flags
    arch = replace(arch, style=replace(arch.style, activation="silu"))
    losses, changes, model, _ = run(arch, **given)
    grouped = [x for x in model.layers if type(x) is layers.Conv2D and x.groups > 1]
    assert grouped
    monkeypatch.setattr(layers, "Conv2D", keras.layers.Conv2D)
    theirs, others, model, _ = run(arch, **given)
    assert not any(type(x) is not keras.layers.Conv2D for x in model.layers if x.name in {g.name for g in grouped})
    within = 2e-2 if "precision" in flags else 1e-5
    np.testing.assert_allclose(losses, theirs, rtol=within)
    largest = max(np.abs(c).max() for c in changes)
    for ours, other in zip(changes, others, strict=True):
        np.testing.assert_allclose(ours, other, rtol=0, atol=within * largest)
