"""Oracles over a space with a bound, their trials scored by a formula instead of a training."""

import contextlib
import json
import os

import pytest

from kcnn.errors import InputError
from trainers import TrainConfig
from tuning.trials.engine import work
from tuning.trials.halving import HalvingOracle, Rung, plan, rung_of
from tuning.trials.options import Ranges
from tuning.trials.oracles import BayesianOracle, GridOracle, HyperbandOracle, RandomOracle, Start
from tuning.trials.space import make_space
from tuning.trials.sweep import ListOracle

BOUND = 12e6
SLOW = pytest.mark.slow
TUNERS = {
    "random": (RandomOracle, {}),
    "bayesian": (BayesianOracle, {"num_initial_points": 3}),
    "hyperband": (HyperbandOracle, {"max_epochs": 9}),
    "grid": (GridOracle, {"points": 3}),
    "halving": (HalvingOracle, {"rungs": plan(9, 12, False), "timing": lambda trial: (1.0, 5.0), "stretch": True}),
}


@pytest.fixture(scope="module")
def space():
    """One for all: it remembers what networks cost."""
    ranges = Ranges(width_range=(0.1, 0.5), depth_range=(0.5, 1.0), resolution_range=(12, 24))
    return make_space(TrainConfig(arch="resnet-18"), ranges, {"macs": BOUND}, 10)


def oracle(name, space, path, trials=9, seed=0):
    make, options = TUNERS[name]
    return make(Start(path, max_trials=trials, seed=seed), space, **options)


def score(trial):
    values = trial.hyperparameters.values
    return values["width"] * values["depth"] - abs(values["resolution"] - 18) / 100


class Killed(BaseException):
    """Ends the process, as far as this test is concerned."""


def samples(oracle):
    return {name: oracle.space.rounded(trial.hyperparameters.values) for name, trial in oracle.trials.items()}


@pytest.mark.parametrize("name", TUNERS)
def test_every_trial_is_within_the_bound_and_no_network_comes_twice(name, space, tmp_path):
    o = oracle(name, space, tmp_path / "oracle.json")
    work(o, "a", score)
    assert len(o.trials) == 9
    assert all(t.status == "COMPLETED" for t in o.trials.values())
    assert all(space.costs(values)["macs"] <= BOUND for values in samples(o).values())
    fresh = [
        v
        for v, t in zip(samples(o).values(), o.trials.values(), strict=True)
        if not t.hyperparameters.values.get("tuner/trial_id")
    ]
    assert len({space.network(values) for values in fresh}) == len(fresh)


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW) if name == "bayesian" else name for name in TUNERS])
def test_killed_in_a_trial_it_goes_on_with_that_trial(name, space, tmp_path):
    straight = oracle(name, space, tmp_path / "straight.json")
    work(straight, "a", score)
    ran = []

    def dies(trial):
        ran.append((trial.trial_id, rung_of(trial)))
        if len(ran) in (3, 6, 10):
            raise Killed
        return score(trial)

    for _ in range(4):
        o = oracle(name, space, tmp_path / "oracle.json")
        if o.path.exists():
            o.reload()
        try:
            work(o, "a", dies)
        except Killed:
            continue
    assert set(o.trials) == set(straight.trials)
    assert all(t.status == "COMPLETED" for t in o.trials.values())
    assert ran[2] == ran[3] and ran[5] == ran[6]
    if name not in ("bayesian", "hyperband"):  # the first draws from where its random state is
        assert samples(o) == samples(straight)


def test_a_kill_while_the_state_is_written_leaves_the_one_before(space, tmp_path, monkeypatch):
    o = oracle("random", space, tmp_path / "oracle.json")
    first = o.create_trial("a")
    replace = os.replace
    monkeypatch.setattr("trainers.runs.files.os.replace", lambda *names: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        o.update_trial(first.trial_id, {"score": 1.0})
        first.status = "COMPLETED"
        o.save()
    monkeypatch.setattr("trainers.runs.files.os.replace", replace)
    again = oracle("random", space, tmp_path / "oracle.json")
    again.reload()
    assert again.create_trial("a").trial_id == first.trial_id and len(again.trials) == 1


def test_a_damaged_state_is_named(space, tmp_path):
    (tmp_path / "oracle.json").write_text('{"trials": {')
    with pytest.raises(InputError, match="damaged"):
        oracle("random", space, tmp_path / "oracle.json").reload()


def test_a_restarted_chief_leaves_live_workers_their_trials(space, tmp_path):
    o = oracle("random", space, tmp_path / "oracle.json")
    held = {name: o.create_trial(name).trial_id for name in ("a", "b")}
    again = oracle("random", space, tmp_path / "oracle.json")
    again.reload(live=True)
    assert {name: again.create_trial(name).trial_id for name in ("b", "a")} == held
    assert again.create_trial("c").trial_id not in held.values()


def test_failures_do_not_end_a_search(space, tmp_path):
    o = oracle("random", space, tmp_path / "oracle.json")
    work(o, "a", lambda trial: None if int(trial.trial_id) < 6 else score(trial))
    assert [t.status for t in o.trials.values()] == ["FAILED"] * 6 + ["COMPLETED"] * 3


def test_grid_leaves_out_what_is_over_the_bound_and_takes_all_else(space, tmp_path):
    o = oracle("grid", space, tmp_path / "oracle.json", trials=100)
    work(o, "a", score)
    allowed = {
        space.network(values)
        for w in (0.1, 0.2236, 0.5)
        for d in (0.5, 0.7071, 1.0)
        for r in (12, 16, 24)
        if space.excess(values := {"width": w, "depth": d, "resolution": r}) is None
    }
    assert {space.network(values) for values in samples(o).values()} == allowed
    assert 3 < len(allowed) < 27


@SLOW
def test_bayesian_finds_better_than_it_began_with(space, tmp_path):
    o = oracle("bayesian", space, tmp_path / "oracle.json", trials=12)
    work(o, "a", score)
    scores = [score(t) for t in o.trials.values()]
    assert max(scores[3:]) > max(scores[:3])


def test_plans():
    assert plan(8, 12, False) == (Rung(8, 3, 0.7, 0.75), Rung(2, 6, 1.0, 1.5))
    assert [(r.networks, r.epochs) for r in plan(27, 100, False)] == [(27, 6), (9, 12), (3, 25), (1, 50)]
    assert [(r.networks, r.epochs) for r in plan(8, 1, True)] == [(8, 1)]
    assert [(r.networks, r.epochs) for r in plan(8, 10, True)] == [(8, 5), (2, 10)]
    assert [(r.networks, r.epochs) for r in plan(2, 12, False)] == [(2, 6)]


def halving(space, path, timing, stretch=True, trials=9):
    rungs = plan(trials, 12, False)
    return HalvingOracle(Start(path, max_trials=trials), space, rungs, timing, stretch)


def test_the_best_of_a_rung_are_promoted(space, tmp_path):
    o = halving(space, tmp_path / "oracle.json", lambda trial: (0.0, 1.0))
    ran = []

    def run(trial):
        values = trial.hyperparameters.values
        ran.append((trial.trial_id, values["tuner/rung"], values["tuner/epochs"], values["tuner/share"]))
        return score(trial)

    work(o, "a", run)
    ranked = sorted(o.trials, key=lambda name: -score(o.trials[name]))
    assert ran[:9] == [(str(i), 0, 3, 0.7) for i in range(9)]
    assert ran[9:] == [(name, 1, 6, 1.0) for name in sorted(ranked[:3])]


def test_a_second_worker_waits_for_the_rung_to_end(space, tmp_path):
    o = halving(space, tmp_path / "oracle.json", lambda trial: (0.0, 1.0), trials=3)
    trials = [o.create_trial(name) for name in "abc"]
    for name, trial in zip("abc", trials, strict=True):
        assert o.create_trial("d").status == "IDLE", name
        o.update_trial(trial.trial_id, {"score": score(trial)})
        trial.status = "COMPLETED"
        o.end_trial(trial)
    assert o.create_trial("d").status == "RUNNING"


@pytest.mark.parametrize("setup, epoch", [(1.0, 10.0), (5.0, 2.0), (5.0, 0.2)])
def test_rungs_are_so_long_that_building_and_compiling_take_less_than_a_third(setup, epoch, space, tmp_path):
    o = halving(
        space, tmp_path / "oracle.json", lambda trial: (setup, epoch * trial.hyperparameters["tuner/share"] ** 2)
    )
    done = {}
    lost = trained = 0.0

    def run(trial):
        nonlocal lost, trained
        rung, epochs = rung_of(trial), trial.hyperparameters.values["tuner/epochs"]
        before = done.get((trial.trial_id, rung), 0)
        assert epochs > before, "no run is repeated"
        lost += setup
        trained += epoch * trial.hyperparameters.values["tuner/share"] ** 2 * (epochs - before)
        done[trial.trial_id, rung] = epochs
        return score(trial)

    work(o, "a", run)
    assert lost / (lost + trained) < 1 / 3
    assert len({epochs for (_, rung), epochs in done.items() if rung == 0}) == 1, "all of a rung alike"
    assert json.loads(o.path.read_text())["measured"]
    if setup == 1.0:
        assert done["0", 0] == 3, "longer only where it must be"


def test_a_run_that_was_killed_after_its_last_epoch_measures_nothing(space, tmp_path):
    o = halving(space, tmp_path / "oracle.json", lambda trial: (0.5, 0.0 if trial.trial_id == "0" else 10.0))
    work(o, "a", score)
    assert [r.epochs for r in o.rungs] == [3, 6] and o.measured


def take(oracle, count):
    """The jobs of the next trials, which end at once."""
    taken = []

    def run(trial):
        taken.append(trial.hyperparameters.values["job"])
        if len(taken) > count:
            raise Killed
        return 0.5

    with contextlib.suppress(Killed):
        work(oracle, "a", run)
    return taken[:count]


def test_a_list_is_taken_in_order_and_goes_on_where_it_grew(tmp_path):
    start = Start(tmp_path / "oracle.json")
    o = ListOracle(start, ["a", "b", "c"])
    assert take(o, 2) == ["a", "b"] and not o.is_done
    o = ListOracle(start, ["a", "b", "c", "d"])
    o.reload()
    assert take(o, 9) == ["c", "d"] and o.is_done
    o = ListOracle(start, ["a", "b", "c", "d"])
    o.reload(is_kept=lambda trial: trial.hyperparameters.values["job"] != "b")
    assert not o.is_done and take(o, 9) == ["b"]  # its record was lost
    with pytest.raises(InputError, match="no job is called 'd'"):
        ListOracle(start, ["a", "b", "c"]).reload()
