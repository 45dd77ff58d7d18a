"""What a step's devices are to its speed: their kind, and what tells two of a kind apart."""

import os
import platform
from dataclasses import dataclass
from typing import Any

from kcnn.terminal.processor import cpuinfo
from trainers.config import Precision
from trainers.distribute.surroundings import visible_gpus

BFLOAT16 = {"avx512_bf16", "amx_bf16"}  # a CPU's instructions for products in bfloat16; without them it emulates them
TENSOR_CORES = ((8, "gpu-bfloat16"), (7, "gpu-float16"))  # a GPU's compute capability, from the highest down

# The precisions that are worth a trial on a kind of device, besides float32.
HALVES: dict[str, tuple[Precision, ...]] = {
    "cpu": (),
    "cpu-bfloat16": ("mixed_bfloat16",),
    "gpu": (),
    "gpu-float16": ("mixed_float16",),
    "gpu-bfloat16": ("mixed_bfloat16",),
    "tpu": ("mixed_bfloat16",),
}


@dataclass(frozen=True)
class Devices:
    """kind: a key of HALVES. name: it differs where a step's speed may."""

    kind: str
    name: str


def devices_of(strategy: str) -> Devices:
    """The devices that a strategy of this name trains on, as this process sees them."""
    if strategy == "tpu":
        return Devices("tpu", os.environ.get("TPU_NAME", ""))
    gpus = visible_gpus()
    return of_gpus([details(gpu) for gpu in gpus]) if gpus else of_cpu(cpuinfo())


def details(gpu: Any) -> dict[str, Any]:
    import tensorflow as tf

    return tf.config.experimental.get_device_details(gpu)


def of_gpus(found: list[dict[str, Any]]) -> Devices:
    """GPUs by what TensorFlow tells of each: its name, and its compute capability as (major, minor)."""
    major = min((one.get("compute_capability") or (0,))[0] for one in found)
    kind = next((kind for least, kind in TENSOR_CORES if major >= least), "gpu")
    return Devices(kind, ", ".join(str(one.get("device_name")) for one in found))


def of_cpu(lines: dict[str, str]) -> Devices:
    """A CPU by the fields of /proc/cpuinfo. Without oneDNN, TensorFlow has no fast products in bfloat16."""
    flags = set(lines.get("flags", "").split())
    fast = bool(flags & BFLOAT16) and os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0"
    variables = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "TF_ENABLE_ONEDNN_OPTS")
    settings = [os.environ.get(name, "") for name in variables]
    name = [lines.get("model name", platform.processor()), cpus(), *settings, *sorted(flags)]
    return Devices("cpu-bfloat16" if fast else "cpu", " ".join(map(str, name)))


def cpus() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
