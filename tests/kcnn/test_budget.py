"""The search for multipliers: never over a bound, close under it, and one line where nothing fits."""

import json

import pytest

import kcnn
from kcnn.budget import main, memory_at, quantity
from kcnn.scaling import fit, short


def cost(name, found):
    return kcnn.facts(name, width=found.width, depth=found.depth, resolution=found.resolution)


@pytest.mark.parametrize(
    "name, budget, along",
    [
        ("resnet-50", {"macs": 1e9}, "compound"),
        ("mobilenet-v2", {"macs": 300e6, "params": 3e6}, "compound"),
        ("resnet-18", {"macs": 3e9}, "width"),
        ("resnet-18", {"macs": 3e9}, "depth"),
        ("resnet-18", {"macs": 3e9}, "resolution"),
        pytest.param("densenet-121", {"macs": 5e9}, "compound", marks=pytest.mark.slow),
        pytest.param("efficientnet-b0", {"macs": 100e6}, "compound", marks=pytest.mark.slow),
        pytest.param("inception-v3", {"macs": 1e9}, "compound", marks=pytest.mark.slow),
        pytest.param("resnext-50-32x4d", {"macs": 2e9}, "compound", marks=pytest.mark.slow),
        pytest.param("regnety-400mf", {"macs": 1e9}, "compound", marks=pytest.mark.slow),
    ],
)
def test_a_budget_is_met_from_below_within_three_percent(name, budget, along):
    found = fit(name, budget, along)
    facts = cost(name, found)
    for what, bound in budget.items():
        assert getattr(facts, what) == found.costs[what] <= bound
    near = 0.9 if along == "depth" else 0.97  # whole blocks are coarse
    assert facts.macs >= near * budget["macs"]
    changed = {what for what in ("width", "depth") if getattr(found, what) != 1}
    assert along == "compound" or changed | ({"resolution"} if found.resolution != 224 else set()) == {along}


def test_parameters_alone_and_memory_bind_too():
    found = fit("mobilenet-v2", {"params": 2.5e6})
    assert 0.95 * 2.5e6 < cost("mobilenet-v2", found).params <= 2.5e6
    found = fit("resnet-18", {"memory": 1e9}, "resolution", batch=8)
    assert 0.9e9 < cost("resnet-18", found).memory(8) <= 1e9


@pytest.mark.parametrize(
    "budget, along, says",
    [
        ({"macs": 1e3}, "width", "macs 1 K cannot be met: the smallest resnet-18 along width .* times as much"),
        ({"params": 1e6, "macs": 1e9}, "resolution", "params 1 M cannot be met: .* needs 11.7 M, 11.7 times as much"),
        ({}, "width", "no budget"),
        ({"macs": 0}, "width", "macs 0: a positive number is needed"),
        ({"macs": float("nan")}, "width", "macs nan"),
    ],
)
def test_what_cannot_be_met_is_said_in_one_line(budget, along, says):
    with pytest.raises(kcnn.InputError, match=says) as error:
        fit("resnet-18", budget, along)
    assert "\n" not in str(error.value)


def test_quantities():
    assert [quantity("macs", text) for text in ("600M", "1.5g", "7", "2 K", "1e6", "3B", "1T")] == [
        600e6,
        1.5e9,
        7,
        2000,
        1e6,
        3e9,
        1e12,
    ]
    assert memory_at("8GB@64") == (8e9, 64) and memory_at("512MiB@1") == (pytest.approx(512 * 2**20), 1)
    assert [short(x) for x in (3e9, 1234567, 999.9, 999999)] == ["3 G", "1.23 M", "1 K", "1 M"]


@pytest.mark.parametrize("text", ["", "M", "-1", "0", "1Q", "inf", "nan", "1,000", "1e999"])
def test_quantities_that_are_none(text):
    with pytest.raises(kcnn.InputError, match=r"macs .*: a positive number is needed, as 600M"):
        quantity("macs", text)


@pytest.mark.parametrize("text", ["8GB", "8GB@0", "@64", "GB@64", "8GB@x"])
def test_memory_needs_a_batch(text):
    with pytest.raises(kcnn.InputError, match="memory"):
        memory_at(text)


def test_the_command_prints_the_networks_and_how_to_train(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--arch", "mobilenet-v1", "--macs", "100M", "--along", "width", "--json"])
    assert exit.value.code == 0
    out = capsys.readouterr().out.strip().splitlines()
    result = json.loads(out[-1])
    assert result["scaled"]["macs"] <= 100e6 and 0.9 < result["share"]["macs"] <= 1
    assert out[-2] == result["command"] == f"kcnn train --arch mobilenet-v1 --width {result['width']:g}"
    assert any("multiply-adds" in line and "569 M" in line for line in out)


@pytest.mark.parametrize("argv, says", [
    (["--arch", "resnet-18"], "no budget"),
    (["--arch", "resnet-81", "--macs", "1G"], "resnet-81"),
    (["--arch", "resnet-18", "--macs", "x"], "macs 'x'"),
    (["--arch", "resnet-18", "--params", "9" * 400], "params '999"),
    (["--arch", "resnet-18", "--memory", "8GB@" + "9" * 400], "batch 999"),
    (["--arch", "resnet-18", "--macs", "1G", "--classes", "9" * 400], "classes 999"),
    (["--arch", "resnet-18", "--macs", "1G", "--along", "hight"], "hight"),
    (["--arch", "regnetx-d9999-w24-a36.44-m2.49-g8", "--macs", "1G"], "depth 9999"),
    (["--macs", "1G"], "--arch"),
])  # fmt: skip
def test_bad_flags_leave_with_two(argv, says, capsys):
    with pytest.raises(SystemExit) as exit:
        main(argv)
    assert exit.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line


@pytest.mark.parametrize("along, macs", [("width", 200e9), ("depth", 60e9), ("compound", 4e6)])
def test_what_is_found_can_be_built(along, macs):
    """At the ends of what a multiplier may be."""
    found = fit("plain-18", {"macs": macs}, along, classes=10)
    arch = kcnn.scale(kcnn.get("plain-18"), found.width, found.depth)
    assert kcnn.facts(arch, 10, resolution=found.resolution).macs == found.costs["macs"] <= macs
