"""What no network can be made of is refused at once, in one line that names the value."""

import math

import keras
import numpy as np
import pytest

import kcnn
from kcnn import builder
from kcnn.scaling import fit

HUGE = {"400 digits": 10**400, "5000 digits": 10**5000}
WHOLE = {"NaN": math.nan, "infinite": math.inf, "0": 0, "-1": -1, "half": 1.5, "text": "64", "bool": True, "list": [64]}
WHOLE |= HUGE


def refused(call, what):
    with pytest.raises(kcnn.InputError) as error:
        call()
    line = str(error.value)
    assert line.startswith(f"{what} ") and "is needed" in line and "\n" not in line and len(line) < 300


@pytest.mark.parametrize("value", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("what", ["classes", "channels", "resolution"])
@pytest.mark.parametrize("function", [kcnn.build, kcnn.facts])
def test_counts_are_whole_numbers(function, what, value):
    if what == "classes" and value == 0:  # a network without a classifier
        value = -1
    refused(lambda: function("resnet-18", **{what: value}), what)


@pytest.mark.parametrize("value", [math.nan, 1, -0.1, "0.1", True, None, *HUGE.values()],
                         ids=["NaN", "1", "-0.1", "text", "bool", "None", *HUGE])  # fmt: skip
def test_rates_are_from_0_to_below_1(value):
    for what in ("dropout", "drop_path"):
        if value is not None:  # the architecture's own
            refused(lambda what=what: kcnn.build("resnet-18", **{what: value}), what)


@pytest.mark.parametrize("value", WHOLE.values(), ids=WHOLE)
def test_facts_of_a_model_and_of_memory_take_whole_numbers(value):
    x = keras.Input((None, None, 3))
    model = keras.Model(x, keras.layers.GlobalAveragePooling2D()(x))
    refused(lambda: kcnn.facts(model, resolution=value), "resolution")
    refused(lambda: kcnn.facts(model, resolution=8).memory(value), "batch")
    refused(lambda: fit("resnet-18", {"macs": 1e9}, batch=value), "batch")


@pytest.mark.parametrize("value", [math.nan, math.inf, 0, -1, "1G", True, None, *HUGE.values()],
                         ids=["NaN", "infinite", "0", "-1", "text", "bool", "None", *HUGE])  # fmt: skip
def test_budgets_are_positive_numbers(value):
    for what in ("macs", "params", "memory"):
        refused(lambda what=what: fit("resnet-18", {what: value}), what)


def test_what_a_budget_does_not_know_is_refused():
    refused(lambda: fit("resnet-18", {"flops": 1e9}), "budget of 'flops':")
    refused(lambda: fit("resnet-18", {"macs": 1e9}, along="hight"), "along 'hight':")


def test_numpy_s_whole_numbers_serve():
    assert kcnn.facts("resnet-18", np.int64(10), resolution=np.int32(64)).resolution == 64


def test_weights_beyond_the_memory_are_refused_before_they_are_allocated(monkeypatch):
    """Also where nothing is scaled: a classifier can be the largest layer."""
    monkeypatch.setattr(builder, "physical_memory", lambda: 10**9)
    for scaling in ({"classes": 1_000_000}, {"width": 8}):
        with pytest.raises(kcnn.InputError, match=r"has weights of \d+ GB, this machine 1 GB"):
            kcnn.build("resnet-18", **scaling)
    assert kcnn.facts("resnet-18", 1_000_000).params > 500e6  # its facts can still be had
    kcnn.build("resnet-18", 10, width=0.25)  # and what was refused has left nothing behind


def test_too_many_blocks_are_counted_not_built(monkeypatch):
    monkeypatch.setattr(builder, "grow", None)
    for name, scaling in (
        ("regnetx-d300-w24-a1-m2.49-g8", {"depth": 6}),
        ("regnetx-d400-w24-a1-m2.49-g8", {"depth": 8}),
    ):
        with pytest.raises(kcnn.InputError, match=r"would have [\d,]+ blocks: 1,500 are the most"):
            kcnn.facts(name, **scaling)
