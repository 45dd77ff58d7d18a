"""What a step does to the weights of each stage: the norms of gradient, update and weight."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from kcnn.analysis.graph import walk
from kcnn.analysis.summary import order, stage_names
from trainers.optim.optimizers import decays
from trainers.run import Scalars


def kernels_by_stage(model: keras.Model, variables: Sequence[keras.Variable]) -> dict[str, list[int]]:
    """The kernels of each stage, from the image on, as places among the variables."""
    graph = walk(model)
    stages = dict(zip((call.name for call in graph.calls), stage_names(graph), strict=True))
    found: dict[str, list[int]] = {}
    for k, v in enumerate(variables):
        if decays(v):
            found.setdefault(stages.get(v.path.split("/")[-2], "head"), []).append(k)
    return {stage: found[stage] for stage in sorted(found, key=order)}


def norms(groups: dict[str, list[int]], *values: Sequence[tf.Tensor]) -> tf.Tensor:
    """The norms of each list of values in each group, float32 (lists, groups)."""
    return tf.stack(
        [tf.stack([tf.linalg.global_norm([x[k] for k in group]) for group in groups.values()]) for x in values]
    )


def scalars(stages: Sequence[str], seen: np.ndarray) -> Scalars:
    """What TensorBoard shows of the norms (3, stages) of gradient, update and weight: the gradient, and the share of
    the weights that a step changes."""
    gradient, update, weight = seen
    shares = update / np.maximum(weight, 1e-12)
    named = zip(("gradient", "update"), (gradient, shares), strict=True)
    return {f"{what}/{stage}": float(v) for what, row in named for stage, v in zip(stages, row, strict=True)}
