"""What is drawn, what it costs, and what is refused."""

import keras
import numpy as np
import pytest

import kcnn
from kcnn.errors import InputError
from trainers import TrainConfig
from trainers.settings import resolve
from tuning.trials.latency import latency_ms
from tuning.trials.objective import Objective, parse
from tuning.trials.options import Limits, Ranges
from tuning.trials.space import make_space

CONFIG = TrainConfig(arch="resnet-18", data="digits")


def space(config=CONFIG, bounds=(), **ranges):
    return make_space(config, Ranges(**ranges), dict(bounds), 10, frozenset(dict(bounds)))


def test_costs_are_those_of_the_network_that_is_trained():
    found = space(bounds={"memory": 1e12}).costs({"width": 0.3, "depth": 0.7, "resolution": 24})
    model = kcnn.build("resnet-18", 10, width=0.3, depth=0.7, resolution=24)
    facts = kcnn.facts(model)
    assert found["params"] == facts.params == sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert (found["macs"], found["activations"]) == (facts.macs, facts.activations)
    assert found["memory"] == facts.memory(resolve(CONFIG).batch_size)
    keras.backend.clear_session()


def test_a_sample_changes_its_own_fields_alone():
    s = space(TrainConfig(arch="resnet-18", seed=7), lr_range=(1e-4, 1e-2), recipes=("digits", "default"))
    run = s.run({"width": 0.123456, "depth": 1.0, "resolution": 20, "lr": 0.00123456, "recipe": "default"})
    assert run == TrainConfig(arch="resnet-18", seed=7, width=0.1235, resolution=20, lr=0.001235, recipe="default")


def test_what_is_given_is_not_searched():
    s = space(TrainConfig(arch="resnet-18", width=0.5, resolution=24))
    assert [str(d) for d in s.dimensions] == ["depth 0.5 to 1.5"]
    s = space(width_range=(0.5, 0.5))
    assert (s.config.width, [d.name for d in s.dimensions]) == (0.5, ["depth", "resolution"])


def test_a_sample_over_a_bound_is_pulled_to_it():
    bounds = {"macs": 30e6, "params": 1e6}
    s = space(bounds=bounds)
    for width, depth, resolution in ((1.5, 1.5, 48), (1.0, 0.5, 16), (0.3, 1.5, 40)):
        values = {"width": width, "depth": depth, "resolution": resolution}
        assert s.excess(values) in bounds
        pulled = s.pulled(values)
        assert s.excess(pulled) is None
        share = max(s.costs(pulled)[what] / bound for what, bound in bounds.items())
        assert share > 0.7, "widths come in steps of 8, but not in such"


def test_latency_is_measured_where_it_is_bounded(monkeypatch):
    monkeypatch.setattr("tuning.trials.space.latency_ms", latency_ms)
    s = space(bounds={"latency_ms": 1e4, "macs": 1e9})
    values = {"width": 0.1, "depth": 0.5, "resolution": 16}
    assert s.excess(values) is None
    assert 0 < s.costs(values)["latency_ms"] < 1e4


@pytest.mark.parametrize(
    "ranges, config, says",
    [
        ({"width_range": (1, 0.5)}, {}, "width-range 1 0.5: it is empty"),
        ({"depth_range": (0, 0.5)}, {}, "depth-range 0 0.5: numbers above 0"),
        ({"drop_path_range": (0, 1)}, {}, "rates below 1"),
        ({"width_range": (0.1, 0.5)}, {"width": 0.5}, "--width and --width-range contradict"),
        ({"lr_range": (0.1, 0.5)}, {"lr": 0.5}, "--lr and --lr-range contradict"),
        ({"recipes": ("nope",)}, {}, "recipes 'nope': one of"),
        ({"recipes": ("digits",)}, {"recipe": "default"}, "contradict"),
        ({"width_range": (0.5, 1.0)}, {"weights": "nowhere"}, "width-range: weights fit networks of one width"),
    ],
)
def test_ranges_that_cannot_be(ranges, config, says):
    with pytest.raises(InputError, match=says):
        space(TrainConfig(arch="resnet-18", **config), **ranges)


def test_weights_leave_resolution_and_rates_to_search():
    found = space(
        TrainConfig(arch="resnet-18", data="digits", weights="nowhere", freeze="backbone"), lr_range=(1e-4, 1e-2)
    )
    assert [d.name for d in found.dimensions] == ["resolution", "lr"]


def test_a_space_with_nothing_feasible_says_so_and_by_how_much():
    least = space().costs({"width": 0.25, "depth": 0.5, "resolution": 16})["macs"]
    space(bounds={"macs": least}).check()
    with pytest.raises(InputError, match=r"max-macs 4\.0\d M: no network of the space is within.*has 4\.0\d M"):
        space(bounds={"macs": least - 1}).check()
    with pytest.raises(InputError, match="cannot be built"):
        space(TrainConfig(arch="inception-v3"), resolution_range=(10, 20)).check()
    with pytest.raises(InputError, match="nothing to search"):
        space(TrainConfig(arch="resnet-18", width=0.5, depth=0.5, resolution=16)).check()


def test_limits_are_quantities():
    limits = Limits(max_macs="1.5G", max_params="2M", max_memory="8GB", max_latency_ms=3.0)
    assert limits.bounds() == {"macs": 1.5e9, "params": 2e6, "memory": 8e9, "latency_ms": 3.0}
    for bad in ({"max_macs": "lots"}, {"max_params": "0"}, {"max_latency_ms": float("nan")}):
        with pytest.raises(InputError):
            Limits(**bad).bounds()


def test_objectives():
    assert parse("val_accuracy") == Objective("val_accuracy")
    o = parse("val_accuracy:macs^-0.07")
    # MnasNet: twice the target costs 5 % of the reward.
    assert o.score({"val_accuracy": 0.8}, {"macs": 2e8}, {"macs": 1e8}) == pytest.approx(0.8 * 2**-0.07)
    assert parse("val_loss:params^0.1").direction == "min"
    with pytest.raises(InputError, match="nan"):
        parse("val_loss").score({"val_loss": float("nan")}, {}, {})
    for bad in (
        "accuracy",
        "val_accuracy:macs",
        "val_accuracy:flops^-0.1",
        "val_accuracy:macs^0.07",
        "val_accuracy:macs^-0.1:macs^-0.1",
        "val_loss:macs^-0.1",
    ):
        with pytest.raises(InputError, match="objective"):
            parse(bad)
