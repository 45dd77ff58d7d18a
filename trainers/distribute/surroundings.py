"""What a process finds around it: GPUs, a TPU, other workers. TensorFlow is imported only to look for GPUs."""

import json
import os
from typing import Any, Literal

from kcnn.errors import InputError
from kcnn.terminal.quiet import quiet


def strategy_name(strategy: str, replicas: int | None = None) -> str:
    """The strategy that is asked for; auto is multi-worker, tpu, mirrored or one-device, as the process finds them."""
    if strategy != "auto":
        return strategy
    if cluster_size() > 1:
        return "multi-worker"
    if tpu_name():
        return "tpu"
    return "mirrored" if len(visible_gpus()) > 1 or (replicas or 1) > 1 else "one-device"


def usual_precision(strategy: str) -> Literal["float32", "mixed_bfloat16"]:
    """The precision where none is asked for."""
    return "mixed_bfloat16" if strategy == "tpu" else "float32"


def usually_compiled(strategy: str, sync_bn: bool) -> bool:
    """Whether XLA compiles the step where --jit says nothing: it pays off on GPUs; on CPUs it makes depthwise networks
    several times slower."""
    return xla_can_compile(strategy, sync_bn) and bool(visible_gpus())


def xla_can_compile(strategy: str, sync_bn: bool) -> bool:
    """Whether there is a choice: a TPU's strategy compiles all that it runs by itself, and synchronized batch
    normalization of several replicas is what XLA cannot compile."""
    return strategy != "tpu" and not (sync_bn and strategy != "one-device")


def cluster_size() -> int:
    """The number of workers that TF_CONFIG, or else SLURM, names. Raises InputError."""
    if "TF_CONFIG" not in os.environ:
        return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) if "SLURM_PROCID" in os.environ else 1
    try:
        cluster = json.loads(os.environ["TF_CONFIG"])
        return sum(len(cluster.get("cluster", {}).get(job, [])) for job in ("chief", "worker"))
    except (ValueError, AttributeError, TypeError):
        raise InputError(f"TF_CONFIG {os.environ['TF_CONFIG']!r}: JSON of a cluster and a task is needed") from None


def tpu_name() -> str | None:
    """The name of the TPU that TPU_NAME gives."""
    return os.environ.get("TPU_NAME")


def visible_gpus() -> list[Any]:
    """TensorFlow's physical devices of the kind GPU."""
    import tensorflow as tf

    with quiet():  # a machine without a driver says so at the first look
        return tf.config.list_physical_devices("GPU")
