"""From a strategy's name to its tf.distribute.Strategy."""

import functools
import os
import signal
import sys
import threading

import tensorflow as tf
from tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2 import CoordinatedJob
from tensorflow.python.eager import context  # how long a worker may be silent has no public name

from kcnn.errors import InputError
from kcnn.terminal.quiet import quiet
from trainers.distribute.allocator import keep_freed_memory
from trainers.distribute.surroundings import strategy_name, tpu_name, visible_gpus


def make_strategy(
    strategy: str = "one-device", replicas: int | None = None, worker_timeout: float = 60.0
) -> tf.distribute.Strategy:
    """The strategy of this process, of which there is one. Raises InputError where devices or neighbours are missing.

    Several workers wait here until all have started.
    """
    name = strategy_name(strategy, replicas)
    if replicas and name in ("multi-worker", "tpu"):
        raise InputError(f"replicas {replicas}: {name} uses all devices of its workers; leave it out")
    gpus = visible_gpus()
    if not gpus and name != "tpu":
        keep_freed_memory()
    if name in ("multi-worker", "tpu"):
        return multi_worker(worker_timeout) if name == "multi-worker" else tpu(tpu_name() or "local")
    if name == "one-device":
        if (replicas or 1) > 1:
            raise InputError(f"replicas {replicas} on one device: use --strategy mirrored")
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    kind = "GPU" if gpus else "CPU"
    wanted = replicas or max(1, len(gpus))
    if kind == "GPU" and wanted > len(gpus):
        raise InputError(f"replicas {wanted}: there are {len(gpus)} GPUs")
    if kind == "CPU":
        split_cpu(wanted)
    return mirrored(tuple(f"/{kind.lower()}:{i}" for i in range(wanted)))


@functools.cache
def mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """The one mirrored strategy of the process: two would number their collectives alike and mix up their data."""
    return tf.distribute.MirroredStrategy(devices)


@functools.cache
def multi_worker(timeout: float) -> tf.distribute.Strategy:
    """The strategy over all workers that TF_CONFIG or SLURM names; one that is silent for half the timeout counts as
    dead."""
    if "TF_CONFIG" in os.environ:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    elif "SLURM_PROCID" in os.environ:
        resolver = slurm()
    else:
        raise InputError(
            "strategy 'multi-worker': TF_CONFIG or SLURM's variables must name the workers; "
            "`kcnn launch --workers N -- ...` starts some on this machine"
        )
    cluster = resolver.cluster_spec()
    jobs = [job for job in ("chief", "worker") if job in cluster.jobs]
    if resolver.task_type not in jobs or resolver.task_id >= cluster.num_tasks(resolver.task_type):
        raise InputError(
            f"TF_CONFIG's task is {resolver.task_type} {resolver.task_id}: one of its cluster is needed, "
            f"{cluster.as_dict()}"
        )
    print(f"{resolver.task_type} {resolver.task_id} waits for all of {cluster.as_dict()}", file=sys.stderr, flush=True)
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{jobs[0]}/replica:0/task:0",
        heartbeat_timeout_in_ms=int(timeout * 500),
        coordinated_jobs=[CoordinatedJob(name=job, num_tasks=cluster.num_tasks(job)) for job in jobs],
    )
    with quiet():
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which TensorFlow made workers ignore
    return strategy


def slurm() -> tf.distribute.cluster_resolver.ClusterResolver:
    """The tasks of a SLURM job step. Their ports depend on the job, as several jobs may share a machine."""
    gpus = int(os.environ.get("SLURM_GPUS_ON_NODE", 0))
    # The resolver counts tasks by GPUs, and finds none without; tasks that see only their own have no use for a share.
    shares = {} if gpus and "SLURM_GPUS_PER_TASK" not in os.environ else {"gpus_per_task": 1, "auto_set_gpu": False}
    try:
        return tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=20000 + int(os.environ.get("SLURM_JOB_ID", 0)) % 10000,
            gpus_per_node=gpus if not shares else 2**20,
            **shares,
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"SLURM's variables name no cluster ({error}): srun with one task a worker sets them"
        ) from error


@functools.cache
def tpu(name: str) -> tf.distribute.Strategy:
    """The strategy of a Cloud TPU by its name, which is "local" on a TPU VM."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise InputError(
            f"strategy 'tpu': no TPU answers to the name {name!r} ({str(error).splitlines()[0]}); "
            "set TPU_NAME, or run on a TPU VM"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


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
