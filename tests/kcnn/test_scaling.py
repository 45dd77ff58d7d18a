"""One rule scales every family: what it changes, what it must not, and what it refuses."""

import math
import re
from dataclasses import replace

import pytest

import kcnn
from kcnn.arch import Each, block, compound, quantum, round_width, scale_width, stage
from kcnn.builder import abstract, resolve, takes

FAMILIES = {kcnn.get(name).family: name for name in reversed(kcnn.names())}  # the first name of each
MULTIPLIERS = (0.5, 1.3, 2.0)


def flat(width):
    return [w for part in width for w in flat(part)] if isinstance(width, tuple) else [] if width is None else [width]


def widths(arch):
    return [w for s in (*arch.stem, *arch.stages, *arch.head) for w in flat(s.width)]


def shapes(name, **scaling):
    with abstract():
        model = kcnn.build(name, 10, **scaling)
    return model


@pytest.mark.parametrize("name", kcnn.names())
def test_a_multiplier_of_one_is_the_identity(name):
    arch = kcnn.get(name)
    assert kcnn.scale(arch) == kcnn.scale(arch, 1, 1, 1) == compound(arch, 0) == arch


@pytest.mark.parametrize("name", kcnn.names())
@pytest.mark.parametrize("by", MULTIPLIERS)
def test_widths_lose_at_most_a_tenth_and_fit_their_groups(name, by):
    arch = kcnn.get(name)
    scaled = kcnn.scale(arch, width=by)
    assert len(widths(scaled)) == len(widths(arch))
    for before, after in zip(
        (*arch.stem, *arch.stages, *arch.head), (*scaled.stem, *scaled.stages, *scaled.head), strict=True
    ):
        for old, new in zip(flat(before.width), flat(after.width), strict=True):
            assert new >= 0.9 * old * by or before.widen == "fixed"
            assert new % 8 == 0 or new == old
        if "groups" in after.options:
            assert all(w * after.options["ratio"] % after.options["groups"] == 0 for w in flat(after.width))
        if "group_width" in after.options:
            inner = [round(w * after.options["ratio"]) for w in flat(after.width)]
            assert all(i % min(i, after.options["group_width"]) == 0 for i in inner)


@pytest.mark.parametrize("name", kcnn.names())
def test_depth_two_doubles_what_repeats(name):
    arch, deep = kcnn.get(name), kcnn.scale(kcnn.get(name), depth=2)
    assert [s.depth for s in deep.stages] == [s.depth * (2 if s.deepen else 1) for s in arch.stages]
    assert sum(s.depth for s in deep.stages) >= 1.5 * sum(s.depth for s in arch.stages)
    assert all(s.depth >= 1 for s in kcnn.scale(arch, depth=1 / 16).stages)


@pytest.mark.parametrize("name", FAMILIES.values())
def test_one_network_of_each_family_builds_scaled(name):
    model = shapes(name, width=1.3, depth=1.3, resolution=96)
    assert model.output_shape == (None, 10)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", kcnn.names())
@pytest.mark.parametrize("by", MULTIPLIERS)
def test_every_network_builds_scaled(name, by):
    for scaling in ({"width": by}, {"depth": by}):
        assert shapes(name, **scaling).output_shape == (None, 10)


# LeNet-5 has the stem that small images need.
@pytest.mark.parametrize("name", [n for n in FAMILIES.values() if n != "lenet-5"])
def test_an_input_of_32_pixels_keeps_places_to_learn_from(name):
    """The small stem: no total stride above 32, and the last stage still sees several pixels of most families."""
    arch = resolve(name, resolution=32)
    stride = math.prod(s.stride for s in (*arch.stem, *arch.stages, *arch.head))
    assert 8 <= stride <= 32
    assert not any(s.options.get("padding") == "valid" for s in arch.stem if s.stride == 1)
    assert shapes(name, resolution=32).output_shape == (None, 10)


@pytest.mark.parametrize("name", FAMILIES.values())
@pytest.mark.parametrize("resolution", [65, pytest.param(97, marks=pytest.mark.slow)])
def test_a_resolution_is_taken_or_refused_with_the_smallest(name, resolution):
    try:
        shapes(name, resolution=resolution)
    except kcnn.InputError as error:
        arch, least = kcnn.get(name), int(re.search(r"(\d+) pixels at least", str(error))[1])
        assert resolution < least and takes(arch, least, 3) and not takes(arch, least - 1, 3)


def test_a_stage_takes_its_rows_at_equal_distances():
    s = stage("plain", 3, Each((8, 16, 24)))
    picked = {depth: [kcnn.arch.pick(s.width, j, depth) for j in range(depth)] for depth in (1, 2, 3, 6)}
    assert picked == {1: [8], 2: [8, 16], 3: [8, 16, 24], 6: [8, 8, 16, 16, 24, 24]}
    assert scale_width(Each((8, (16, ()))), 2, s) == Each((16, (32, ())))


def test_rounding():
    assert [round_width(w) for w in (1, 11, 12, 19.9, 20, 32)] == [8, 16, 16, 24, 24, 32]
    assert quantum(stage("bottleneck", 1, 256, ratio=0.5, groups=32)) == 64
    assert quantum(stage("bottleneck", 1, 256, ratio=1.0, group_width=24)) == 24
    assert quantum(stage("bottleneck", 1, 256, ratio=1.0, group_width=80), width=40) == 8


def test_mobilenets_head_only_grows_and_efficientnets_goes_both_ways():
    assert kcnn.scale(kcnn.get("mobilenet-v2"), width=0.5).head[0].width == 1280
    assert kcnn.scale(kcnn.get("mobilenet-v2"), width=2).head[0].width == 2560
    assert kcnn.scale(kcnn.get("efficientnet-b0"), width=0.5).head[0].width == 640


def test_a_network_made_for_small_images_keeps_its_strides():
    """LeNet's pools are its stem; a network for 224 pixels would lose them at 28."""
    stem = (block("conv", 6, kernel=5), block("max_pool", stride=2, kernel=2),
            block("conv", 16, kernel=5, padding="valid"), block("max_pool", stride=2, kernel=2))  # fmt: skip
    head = (block("flatten"), block("dense_layer", 120), block("dense_layer", 84))
    lenet = kcnn.Arch("lenet", "lenet", 28, stem, (), head, small=0)
    assert resolve(lenet) == lenet and resolve(lenet, resolution=16).stem == stem
    assert kcnn.facts(lenet, 10, channels=1).stages[0].resolution == 5
    assert resolve(lenet, stem="small").stem != stem != resolve(replace(lenet, small=64)).stem


def test_compound_scaling_doubles_the_work_with_each_step():
    for name in ("resnet-50", "efficientnet-b0"):
        arch = kcnn.get(name)
        one = kcnn.facts(arch).macs
        assert 2.2 < kcnn.facts(compound(arch, 2)).macs / one < 6.5
        assert kcnn.facts(compound(arch, -1)).macs < one
    scaled = compound(kcnn.get("resnet-50"), 1, alpha=2, beta=1, gamma=1)
    assert [s.depth for s in scaled.stages] == [6, 8, 12, 6] and scaled.resolution == 224


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, True, "2", None, 1 / 17, 8.001, 32, 10**400])
@pytest.mark.parametrize("what", ["width", "depth", "resolution"])
def test_multipliers_out_of_bounds_are_refused(what, bad):
    with pytest.raises(kcnn.InputError, match=f"{what} multiplier .*: a number from 1/16 to 8 is needed"):
        kcnn.scale(kcnn.get("resnet-18"), **{what: bad})


def test_pixels_given_for_a_multiplier_are_told_where_they_belong():
    with pytest.raises(kcnn.InputError, match=r"resolution multiplier 32: .* use kcnn.build\(..., resolution=32\)"):
        kcnn.scale(kcnn.get("resnet-18"), resolution=32)
    ends = [kcnn.scale(kcnn.get("resnet-18"), by, by, by) for by in (1 / 16, 8)]
    assert [(a.resolution, a.stages[0].width, a.stages[0].depth) for a in ends] == [(14, 8, 1), (1792, 512, 16)]


@pytest.mark.parametrize("bad, says", [
    ({"phi": math.nan}, "phi nan: a number is needed"),
    ({"phi": True}, "phi True: a number is needed"),
    ({"phi": 10**400}, "phi 10000.*: a number is needed"),
    ({"phi": 1, "alpha": 0}, "alpha 0: a positive number is needed"),
    ({"phi": 1, "gamma": math.inf}, "gamma inf: a positive number is needed"),
    ({"phi": 99}, r"phi 99: the width would be multiplied by 1.1\^99; 1/1024 to 1024 are the limits"),
    ({"phi": 2, "beta": 1e308}, r"phi 2: the width would be multiplied by 1e\+308\^2; 1/1024 to 1024 are the limits"),
    ({"phi": -2, "beta": 1e308}, "phi -2: the width would be multiplied"),
    ({"phi": 30}, "phi 30: resnet-18-w17.4494-d237.376-r66.2118 would have 1,900 blocks: 1,500 are the most"),
    ({"phi": 2, "gamma": 20}, "phi 2: .* would have 89,600 pixels a side: 65,536 are the most"),
    ({"phi": 2, "beta": 32}, "phi 2: .* would have 524,288 channels in a layer: 100,000 are the most"),
])  # fmt: skip
def test_phi_out_of_bounds_is_refused_before_anything_is_built(bad, says):
    with pytest.raises(kcnn.InputError, match=says):
        compound(kcnn.get("resnet-18"), **bad)
