"""Design spaces: draws keep to each step's restrictions, and samples to their band."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import kcnn
from kcnn.builder import resolve
from tuning.spaces import sampling
from tuning.spaces.anynet import NAMES, draw, log_uniform, name, parse_space
from tuning.spaces.sampling import estimate, most_stages, reach, sample


def draws(text, count=1000, stages=4):
    rng, found, of = random.Random(0), [], parse_space(text)
    while len(found) < count:
        if symbols := draw(of, rng, stages):
            found.append(symbols)
    return found


@pytest.mark.parametrize("text", [n for n in NAMES if n.startswith("anynet")])
def test_a_thousand_draws_keep_to_their_step(text):
    step = text[-1]
    for s in draws(text):
        d, w, g, b = (s[symbol] * (4 if len(s[symbol]) == 1 else 1) for symbol in "dwgb")
        assert len(d) == len(w) == len(g) == len(b) == 4
        assert all(1 <= v <= 16 for v in d) and all(8 <= v <= 1024 and v % 8 == 0 for v in w)
        assert all(v in (1, 2, 4) for v in b) and all(v in (1, 2, 4, 8, 16, 32) for v in g)
        assert all(outer % (groups * ratio) == 0 for outer, groups, ratio in zip(w, g, b, strict=True))
        assert step < "b" or len(set(b)) == 1
        assert step < "c" or len(set(g)) == 1
        assert step < "d" or w == sorted(w)
        assert step < "e" or d == sorted(d)


@pytest.mark.parametrize("step, free", [("a", "bgwd"), ("b", "gwd"), ("c", "wd"), ("d", "d"), ("e", "")])
def test_what_a_step_leaves_free_varies(step, free):
    found = draws(f"anynetx-{step}", 300)
    assert any(len(set(s["b"])) > 1 for s in found) == ("b" in free)
    assert any(len(set(s["g"])) > 1 for s in found) == ("g" in free)
    assert any(s["w"] != sorted(s["w"]) for s in found) == ("w" in free)
    assert any(s["d"] != sorted(s["d"]) for s in found) == ("d" in free)


@pytest.mark.parametrize("text", ["regnetx", "regnety"])
def test_a_thousand_regnets_keep_to_the_paper_s_ranges(text):
    for s in draws(text):
        assert s["d"] < 64 and s["w"] < 256 and s["a"] < 256 and 1.5 <= s["m"] <= 3
        assert s["w"] % 8 == 0 and s["b"] in (1, 2, 4) and s["g"] in (1, 2, 4, 8, 16, 32)
    for s in draws(text, 100):
        arch = kcnn.get(name(parse_space(text), s))
        assert len(arch.stages) == 4 and sum(stage.depth for stage in arch.stages) == s["d"]
        assert [stage.options["se"] for stage in arch.stages] == [0.25 if text == "regnety" else 0.0] * 4
        widths = [stage.width for stage in arch.stages]
        assert widths == sorted(widths) and arch.family == text


def test_draws_are_uniform_in_their_logarithm():
    rng = random.Random(0)
    values = np.log([log_uniform(rng, (1.5, 3), 0.001) for _ in range(2000)])
    assert stats.kstest(values, "uniform", (math.log(1.5), math.log(2))).pvalue > 0.01
    widths = np.array([log_uniform(rng, (8, 1024), 8) for _ in range(4000)])
    assert np.mean(widths <= 90) == pytest.approx(0.5, abs=0.03)  # the geometric middle of the range


def test_ranges_narrow_a_space():
    found = draws("regnetx:b=1,d=12..28,m=2..3,g=8..16", 200)
    assert {s["b"] for s in found} == {1} and {s["g"] for s in found} == {8, 16}
    assert all(12 <= s["d"] <= 28 and 2 <= s["m"] <= 3 for s in found)
    assert all(max(s["w"]) <= 64 for s in draws("AnyNetX-E:w=16..64", 200))
    assert {len(s["d"]) for s in draws("anynetx-a", 20, stages=3)} == {3}


def finished(arch):
    return resolve(arch, resolution=16)


def measure(arch):
    return kcnn.facts(arch, 10, stem="standard")


BAND = (1e6, 1.2e6)


@pytest.fixture(scope="module")
def sampled():
    return {text: list(sample(parse_space(text), 4, BAND, finished, measure)) for text in ("anynetx-a", "regnety")}


def test_samples_are_in_the_band_different_and_the_same_again(sampled):
    for text, found in sampled.items():
        names = [n for n, *_ in found]
        assert len(set(names)) == 4
        for n, symbols, facts in found:
            assert BAND[0] <= facts.macs <= BAND[1]
            assert facts.macs == kcnn.facts(n, 10, resolution=16).macs and name(parse_space(text), symbols) == n
        again = [n for n, *_ in sample(parse_space(text), 2, BAND, finished, measure)]
        assert again == names[:2]  # fewer are the first of more
    other = sample(parse_space("regnety"), 2, BAND, finished, measure, seed=1)
    assert [n for n, *_ in other] != [n for n, *_ in sampled["regnety"]][:2]


def test_the_estimate_is_close_enough_to_leave_nothing_out(sampled):
    for n, _, facts in (*sampled["anynetx-a"], *sampled["regnety"]):
        assert estimate(finished(n)) == pytest.approx(facts.macs, rel=0.01)  # all but the classifier
    published = replace(kcnn.get("regnety-400mf"), resolution=224)
    assert estimate(published) == pytest.approx(kcnn.facts(published).macs, rel=0.01)


def test_a_band_without_networks_says_so_at_once(monkeypatch):
    monkeypatch.setattr(sampling, "PATIENCE", 300)
    with pytest.raises(kcnn.InputError, match=r"have at least 260 K multiply-adds at 16 pixels, 1 to 2 are asked for"):
        list(sample(parse_space("anynetx-a"), 4, (1, 2), finished, measure))
    with pytest.raises(kcnn.InputError, match=r"gave only 0 of 4 networks .* 270 K multiply-adds, those .* go from"):
        list(sample(parse_space("anynetx-a"), 4, (270_000, 270_001), finished, measure))
    with pytest.raises(kcnn.InputError, match=r"300 draws gave only 1 of 2 networks"):  # there is but one
        only = parse_space("anynetx-e:d=1,w=8,g=8,b=1")
        list(sample(only, 2, (1, 1e12), finished, measure))


@pytest.mark.parametrize("text", ["anynetx-a", "anynety-e:w=64..128", "regnetx", "regnety:d=20..30,g=8..16,b=1"])
def test_all_networks_of_a_space_are_within_its_reach(text):
    of = parse_space(text)
    low, high = reach(of, finished("anynetx-d1x1x1x1-w8x8x8x8-g1-b1"), 4)
    found = [estimate(finished(name(of, symbols))) for symbols in draws(text, 200)]
    assert low <= min(found) and max(found) <= high
    assert all(len(s["d"]) == 4 for s in draws(text, 1)) if "any" in text else most_stages(of) >= 4


def test_a_wide_space_s_draws_beyond_all_bounds_are_passed_over():
    assert len(draws("regnetx:d=1..999", 20)) == 20


@pytest.mark.parametrize("text, says", [
    ("anynetx-f", "one of anynetx-a"),
    ("regnetz", "'regnetz'"),
    ("regnetx:z=1", "'z=1' is no range"),
    ("regnetx:d=many", "'d=many' is no range"),
    ("anynetx-a:m=2", "'m=2' is no range"),
    ("regnetx:d=28..12", "'d=28..12' is empty"),
    ("regnetx:d=0..12", "'d=0..12' is empty"),
    ("regnetx:b=3", "no power of two lies in b=3..3"),
    ("regnetx:g=9..15", "no power of two lies in g=9..15"),
    ("anynetx-a:w=9..15", "no multiple of 8 lies in w=9..15"),
    ("regnetx:m=1..2", "wm above 1"),
])  # fmt: skip
def test_ranges_that_make_no_sense_are_one_line(text, says):
    with pytest.raises(kcnn.InputError) as error:
        parse_space(text)
    assert says in str(error.value) and "\n" not in str(error.value)
