"""Name -> tf.distribute.Strategy."""

import functools

import tensorflow as tf

from kcnn.errors import InputError
from kcnn.quiet import quiet
from trainers.config import TrainConfig


def make_strategy(config: TrainConfig) -> tf.distribute.Strategy:
    """One device, or one replica on each of several. Raises InputError where there are too few devices."""
    gpus = visible_gpus()
    name = config.strategy
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 or (config.replicas or 1) > 1 else "one-device"
    if name == "one-device":
        if (config.replicas or 1) > 1:
            raise InputError(f"replicas {config.replicas} on one device: use --strategy mirrored")
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    kind = "GPU" if gpus else "CPU"
    wanted = config.replicas or max(1, len(gpus))
    if kind == "GPU" and wanted > len(gpus):
        raise InputError(f"replicas {wanted}: there are {len(gpus)} GPUs")
    if kind == "CPU":
        split_cpu(wanted)
    return mirrored(tuple(f"/{kind.lower()}:{i}" for i in range(wanted)))


@functools.cache
def mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """One for a process: two would number their collectives alike, and mix up what they exchange."""
    return tf.distribute.MirroredStrategy(devices)


def visible_gpus() -> list[tf.config.PhysicalDevice]:
    with quiet():  # a machine without a driver says so at the first look
        return tf.config.list_physical_devices("GPU")


def split_cpu(replicas: int) -> None:
    """Makes the one CPU look like several; TensorFlow allows it until it has started."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or [0]) >= replicas:
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    except RuntimeError:
        have = len(tf.config.list_logical_devices("CPU"))
        raise InputError(
            f"replicas {replicas}: TensorFlow has started in this process with {have} logical CPUs"
        ) from None
