"""Which strategy the surroundings call for, and what can be shown of a TPU without one."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import kcnn
from kcnn.builder import smallest
from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.distribute import strategy, surroundings
from trainers.network import networks
from trainers.optim.optimizers import make_optimizer
from trainers.settings import resolve
from trainers.state import make_state, precision
from trainers.step import replica_step

CLUSTER = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}


@pytest.mark.parametrize("environment, name", [
    ({}, "one-device"),
    ({"TF_CONFIG": json.dumps(CLUSTER)}, "multi-worker"),
    ({"TF_CONFIG": json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}})}, "one-device"),
    ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}, "multi-worker"),
    ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, "one-device"),
    ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "4"}, "one-device"),  # in a job, but not one of a step's tasks
    ({"TPU_NAME": "local"}, "tpu"),
], ids=str)  # fmt: skip
def test_auto_reads_the_surroundings(monkeypatch, environment, name):
    for key in ("TF_CONFIG", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "TPU_NAME"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert surroundings.strategy_name("auto") == name
    assert surroundings.strategy_name("mirrored") == "mirrored"


def test_auto_takes_all_gpus(monkeypatch):
    monkeypatch.setattr(surroundings, "visible_gpus", lambda: ["gpu:0", "gpu:1"])
    assert surroundings.strategy_name("auto") == "mirrored"


def test_slurm_s_tasks_become_a_cluster(monkeypatch):
    for key, value in {
        "PROCID": "2",
        "STEP_NUM_TASKS": "4",
        "STEP_NODELIST": "n[1-2]",
        "STEP_TASKS_PER_NODE": "2(x2)",
        "JOB_ID": "10007",
    }.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    resolver = strategy.slurm()
    spec = resolver.cluster_spec().as_dict()
    assert spec == {"worker": ["n1:20007", "n1:20008", "n2:20007", "n2:20008"]}
    assert (resolver.task_type, resolver.task_id) == ("worker", 2)


@pytest.mark.parametrize("environment, flags, says", [
    ({}, {"strategy": "multi-worker"}, "TF_CONFIG or SLURM's variables must name the workers"),
    ({"TF_CONFIG": "{oops"}, {}, "JSON of a cluster and a task"),
    ({"TF_CONFIG": json.dumps(CLUSTER | {"task": {"type": "ps", "index": 0}})}, {}, "task is ps 0"),
    ({"TF_CONFIG": json.dumps(CLUSTER | {"task": {"type": "worker", "index": 2}})}, {}, "task is worker 2"),
    ({"TF_CONFIG": json.dumps(CLUSTER)}, {"replicas": 2}, "replicas 2: multi-worker uses all"),
    ({"TPU_NAME": "nowhere"}, {"replicas": 8}, "replicas 8: tpu uses all"),
], ids=str)  # fmt: skip
def test_surroundings_that_make_no_sense_are_told(monkeypatch, environment, flags, says):
    for key in ("TF_CONFIG", "SLURM_PROCID", "TPU_NAME"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(InputError, match=says):
        strategy.make_strategy(**{"strategy": "auto", **flags})


def test_a_tpu_is_found_started_and_used(monkeypatch):
    """TensorFlow's own calls, in their order, on a stand-in for the TPU; what a run then takes from them."""
    calls = []

    class Resolver:
        def __init__(self, tpu):
            calls.append(("resolver", tpu))

    class TPUs:
        def __init__(self, resolver):
            calls.append(("strategy", type(resolver)))

    monkeypatch.setenv("TPU_NAME", "my-pod")
    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", Resolver)
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda r: calls.append(("connect", type(r))))
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", lambda r: calls.append(("start", type(r))))
    monkeypatch.setattr(tf.distribute, "TPUStrategy", TPUs)
    strategy.tpu.cache_clear()
    assert isinstance(strategy.make_strategy("auto"), TPUs)
    assert calls == [("resolver", "my-pod"), ("connect", Resolver), ("start", Resolver), ("strategy", Resolver)]
    assert strategy.make_strategy("auto") is strategy.make_strategy("auto")  # the system is started once
    strategy.tpu.cache_clear()
    config = resolve(TrainConfig())
    assert config.precision == "mixed_bfloat16"
    assert not config.jit  # strategy.run compiles the whole step itself
    assert resolve(TrainConfig(precision="float32")).precision == "float32"


def test_no_tpu_is_one_line(monkeypatch):
    def absent(resolver):
        raise tf.errors.NotFoundError(None, None, "No TPU devices\nand much more")

    monkeypatch.setenv("TPU_NAME", "local")
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda r: None)
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", absent)
    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", lambda tpu: None)
    strategy.tpu.cache_clear()
    with pytest.raises(InputError, match="no TPU answers to the name 'local'"):
        strategy.make_strategy("auto")


# The first network of each family; the slow ones have every block and every way of joining them.
KINDS = sorted({kcnn.get(name).family: name for name in reversed(kcnn.names())}.values())
SLOW = ("googlenet", "resnet-50-v2", "densenet-121", "xception", "mobilenet-v3-large", "regnety-200mf",
        "shufflenet-v2-0.5", "repvgg-a0", "convnext-base", "convnext-v2-atto", "nasnet-large")  # fmt: skip


def tpu_step(arch):
    """(the step of a small network as one XLA program, a batch for it), under mixed_bfloat16, as on a TPU."""
    size = max(32, smallest(kcnn.get(arch)))
    config = resolve(
        TrainConfig(
            arch=arch,
            width=0.125,
            depth=0.1,
            resolution=size,
            batch_size=2,
            ema=0.9,
            clip_norm=1.0,
            precision="mixed_bfloat16",
        )
    )
    with precision(config.precision):
        model, plain = networks(config, 10)
    state = make_state(model, make_optimizer(config, 5, model), averaged=True, plain=plain)
    step = tf.function(replica_step(state, config, 1), jit_compile=True)
    # Not of one colour: XLA's variance of equal numbers may come out below 0 (RepVGG's sum of three norms does).
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3))
    return step, {"image": tf.constant(images, tf.uint8), "label": tf.constant([1, 2])}


@pytest.mark.parametrize(
    "arch", [pytest.param(a, marks=pytest.mark.slow if a in SLOW else pytest.mark.exhaustive) for a in KINDS]
)
def test_every_family_s_step_is_one_program_for_a_tpu(arch):
    """The whole step (forward, backward, update, averages) becomes one XLA program of static shapes that never calls
    back to its host."""
    step, batch = tpu_step(arch)
    program = step.experimental_get_compiler_ir(batch)(stage="hlo")
    for call in ("custom-call", "infeed", "outfeed", "send(", "recv(", "<="):  # <=: a bounded dynamic size
        assert call not in program, call
    assert "bf16" in program


# The slow set compiles a network of plain, grouped and depthwise convolutions each.
COMPILED = ("resnet-18", "resnext-50-32x4d", "mobilenet-v2")


@pytest.mark.parametrize(
    "arch", [pytest.param(a, marks=pytest.mark.slow if a in COMPILED else pytest.mark.exhaustive) for a in KINDS]
)
def test_every_family_s_program_for_a_tpu_compiles(arch):
    """XLA compiles it for this machine's processor."""
    step, batch = tpu_step(arch)
    loss, *_ = step(batch)
    assert np.isfinite(loss)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["resnet-18", "efficientnet-b0"])
def test_a_step_compiled_by_xla_gives_the_same(arch):
    results = []
    for jit in (False, True):
        keras.utils.set_random_seed(0)
        config = resolve(
            TrainConfig(
                arch=arch,
                width=0.25,
                depth=0.1,
                resolution=32,
                batch_size=8,
                optimizer="sgd",
                lr=1e-3,
                drop=0.0,
                drop_path=0.0,
            )
        )
        model, plain = networks(config, 10)
        state = make_state(model, make_optimizer(config, 5, model), averaged=False, plain=plain)
        images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3)).astype("uint8")
        step = tf.function(replica_step(state, config, 1), jit_compile=jit)
        loss, *_ = step({"image": tf.constant(images), "label": tf.range(8)})
        results.append((loss.numpy(), [v.numpy() for v in model.trainable_variables]))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
