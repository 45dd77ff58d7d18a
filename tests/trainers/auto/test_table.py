"""What `auto` chooses by the table, and that without auto nothing depends on it."""

import pytest

from kcnn.families import ARCHS
from trainers import TrainConfig
from trainers.auto import devices, table
from trainers.auto.devices import Devices
from trainers.auto.table import Choice
from trainers.settings import resolve


@pytest.mark.parametrize(
    "fields, environment, kind",
    [
        ({"flags": "sse avx512_bf16"}, {}, "cpu-bfloat16"),
        ({"flags": "amx_bf16"}, {}, "cpu-bfloat16"),
        ({"flags": "avx512f"}, {}, "cpu"),
        ({"flags": "avx512_bf16"}, {"TF_ENABLE_ONEDNN_OPTS": "0"}, "cpu"),
        ({}, {}, "cpu"),
    ],
)
def test_a_cpu_s_kind_follows_from_its_flags(fields, environment, kind, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert devices.of_cpu(fields).kind == kind


@pytest.mark.parametrize(
    "capabilities, kind",
    [([(9, 0)], "gpu-bfloat16"), ([(7, 5)], "gpu-float16"), ([(6, 1)], "gpu"), ([(8, 0), (7, 0)], "gpu-float16")],
)
def test_a_gpu_s_kind_follows_from_the_weakest_one(capabilities, kind):
    assert devices.of_gpus([{"compute_capability": c, "device_name": "it"} for c in capabilities]).kind == kind
    assert devices.of_gpus([{}]).kind == "gpu"


def test_the_measured_table_holds_what_is_asked_of_it():
    families = {arch.family for arch in ARCHS.values()}
    times = table.measured()["times"]
    assert times and times.keys() <= devices.HALVES.keys()
    for kind, rows in times.items():
        assert rows.keys() <= families
        for family, row in rows.items():
            assert row.keys() <= {*devices.HALVES[kind], table.XLA} and all(t > 0 for t in row.values())
            assert isinstance(table.by_table(kind, family), Choice)
    sources = table.measured()["sources"]  # each with date and versions
    assert all(f"{kind} {family}" in sources for kind in times.keys() - {"cpu"} for family in times[kind])


@pytest.fixture
def times(monkeypatch):
    """A table of one's own, on a CPU with bfloat16."""
    rows = {
        "resnet": {"mixed_bfloat16": 0.6, "xla": 1.7},
        "mobilenet-v2": {"mixed_bfloat16": 1.2, "xla": 0.5},
        "vgg": {"mixed_bfloat16": 0.96, "xla": 0.96},
    }
    monkeypatch.setattr(table, "measured", lambda: {"times": {"cpu-bfloat16": rows}})
    monkeypatch.setattr(table, "devices_of", lambda strategy: Devices("cpu-bfloat16", "it"))


AUTO = {"precision": "auto", "jit": "auto"}


@pytest.mark.parametrize(
    "flags, chosen",
    [
        ({"arch": "resnet-50"}, ("float32", False)),
        ({"arch": "resnet-50"} | AUTO, ("mixed_bfloat16", False)),
        ({"arch": "mobilenet-v2"} | AUTO, ("float32", True)),
        ({"arch": "vgg-11"} | AUTO, ("float32", False)),  # 4 % are no reason
        ({"arch": "densenet-121"} | AUTO, ("float32", False)),  # nothing was measured
        ({"arch": "resnet-50", "jit": "auto"}, ("float32", False)),
        ({"arch": "mobilenet-v2", "precision": "mixed_float16", "jit": "auto"}, ("mixed_float16", True)),
        ({"arch": "mobilenet-v2", "strategy": "mirrored", "sync_bn": True} | AUTO, ("float32", False)),
    ],
)
def test_auto_goes_by_the_table(flags, chosen, times):
    run = resolve(TrainConfig(**flags))
    assert (run.precision, run.jit) == chosen


@pytest.mark.parametrize(
    "kind, chosen",
    [
        ("cpu", "float32 without XLA"),
        ("cpu-bfloat16", "float32 without XLA"),
        ("gpu", "float32 with XLA"),
        ("gpu-float16", "mixed_float16 with XLA"),
        ("gpu-bfloat16", "mixed_bfloat16 with XLA"),
        ("tpu", "mixed_bfloat16 without XLA"),
    ],
)
def test_what_was_not_measured(kind, chosen):
    assert str(table.by_table(kind, "none of ours")) == chosen


def test_without_auto_gpus_alone_have_xla(monkeypatch):
    from trainers.distribute import surroundings

    monkeypatch.setattr(surroundings, "visible_gpus", lambda: ["GPU:0"])
    assert resolve(TrainConfig()).jit and resolve(TrainConfig()).precision == "float32"
    assert not resolve(TrainConfig(jit="off")).jit
    assert not resolve(TrainConfig(strategy="mirrored", sync_bn=True)).jit
    monkeypatch.setattr(surroundings, "visible_gpus", list)
    assert not resolve(TrainConfig()).jit and resolve(TrainConfig(jit="on")).jit
