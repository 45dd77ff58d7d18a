"""Points of the design spaces, by name: any AnyNet and RegNet is an architecture like the published ones."""

from dataclasses import replace

import pytest

import kcnn
from kcnn.families.points import point
from kcnn.families.regnet import X_ROWS, Y_ROWS

PUBLISHED = {
    f"regnet{kind}-{size}": (kind, row) for kind, rows in (("x", X_ROWS), ("y", Y_ROWS)) for size, row in rows.items()
}


# Depths, widths and group width of the published networks, read off those of timm 1.0.31.
STAGES = {
    "regnetx-200mf": ((1, 1, 4, 7), (24, 56, 152, 368), 8),
    "regnetx-400mf": ((1, 2, 7, 12), (32, 64, 160, 384), 16),
    "regnetx-600mf": ((1, 3, 5, 7), (48, 96, 240, 528), 24),
    "regnetx-800mf": ((1, 3, 7, 5), (64, 128, 288, 672), 16),
    "regnetx-1.6gf": ((2, 4, 10, 2), (72, 168, 408, 912), 24),
    "regnetx-3.2gf": ((2, 6, 15, 2), (96, 192, 432, 1008), 48),
    "regnetx-4.0gf": ((2, 5, 14, 2), (80, 240, 560, 1360), 40),
    "regnetx-6.4gf": ((2, 4, 10, 1), (168, 392, 784, 1624), 56),
    "regnetx-8.0gf": ((2, 5, 15, 1), (80, 240, 720, 1920), 120),
    "regnetx-12gf": ((2, 5, 11, 1), (224, 448, 896, 2240), 112),
    "regnetx-16gf": ((2, 6, 13, 1), (256, 512, 896, 2048), 128),
    "regnetx-32gf": ((2, 7, 13, 1), (336, 672, 1344, 2520), 168),
    "regnety-200mf": ((1, 1, 4, 7), (24, 56, 152, 368), 8),
    "regnety-400mf": ((1, 3, 6, 6), (48, 104, 208, 440), 8),
    "regnety-600mf": ((1, 3, 7, 4), (48, 112, 256, 608), 16),
    "regnety-800mf": ((1, 3, 8, 2), (64, 128, 320, 768), 16),
    "regnety-1.6gf": ((2, 6, 17, 2), (48, 120, 336, 888), 24),
    "regnety-3.2gf": ((2, 5, 13, 1), (72, 216, 576, 1512), 24),
    "regnety-4.0gf": ((2, 6, 12, 2), (128, 192, 512, 1088), 64),
    "regnety-6.4gf": ((2, 7, 14, 2), (144, 288, 576, 1296), 72),
    "regnety-8.0gf": ((2, 4, 10, 1), (168, 448, 896, 2016), 56),
    "regnety-12gf": ((2, 5, 11, 1), (224, 448, 896, 2240), 112),
    "regnety-16gf": ((2, 4, 11, 1), (224, 448, 1232, 3024), 112),
    "regnety-32gf": ((2, 5, 12, 1), (232, 696, 1392, 3712), 232),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_parameters_give_the_published_networks(name):
    kind, (d, w, a, m, g) = PUBLISHED[name]
    own, regnet = kcnn.get(name), kcnn.get(point(f"regnet{kind}", d=d, w=w, a=a, m=m, g=g))
    assert replace(regnet, name=name) == own
    depths, widths, group = STAGES[name]
    assert (tuple(s.depth for s in own.stages), tuple(s.width for s in own.stages)) == (depths, widths)
    assert [s.options["group_width"] for s in own.stages] == [min(group, w) for w in widths]
    rows = [(s.depth, s.width, s.options["group_width"]) for s in own.stages]
    anynet = kcnn.get(point(f"anynet{kind}", **dict(zip("dwg", zip(*rows, strict=True), strict=True))))
    assert anynet.stages == own.stages and anynet.family == f"anynet{kind}"


def test_a_name_has_one_canonical_form():
    name = "regnetx-d13-w24-a36.44-m2.49-g8-b1"
    for written in ("regnetx-d13-w24-a36.44-m2.49-g8", "RegNetX_G8_D13_W24_A36.440_M2.49", name):
        assert kcnn.get(written).name == name
    arch = kcnn.get("anynety-d1x2-w32x64-g8x16-b2")
    assert arch.name == "anynety-d1x2-w32x64-g8x16-b2" and kcnn.get(arch.name) == arch
    assert kcnn.get("anynety-d1x2-w32x64-g8x16-b2x2").stages == arch.stages


def test_the_bottleneck_narrows_the_inner_width_by_whole_groups():
    arch = kcnn.get("regnetx-d8-w24-a24-m2.5-g16-b4")
    for s in arch.stages:
        inner = s.width / 4
        assert s.options["ratio"] == 0.25 and inner % s.options["group_width"] == 0
    convs = [c for c in kcnn.facts(arch, 10).layers if c.name.endswith("_block1_conv")]
    assert [c.shape[-1] for c in convs] == [s.width // 4 for s in arch.stages]


def test_a_point_is_scaled_and_measured_like_any_other():
    arch = kcnn.scale(kcnn.get("anynetx-d1x1-w16x32-g8-b2"), width=2, depth=2)
    assert [(s.depth, s.width) for s in arch.stages] == [(2, 32), (2, 64)]
    assert kcnn.facts("anynetx-d1x1-w16x32-g8-b2", 10, resolution=32).macs > 0


FORM, ANY = "regnetx-d13-w24-a36.44-m2.49-g8-b1", "anynetx-d1x1x4x7-w24x56x152x368-g8-b1"


@pytest.mark.parametrize("name, says", [
    ("regnetx-d13-w24", FORM),
    ("regnetx-d13-w24-a36.44-m2.49-g8-d3", FORM),
    ("regnetx-d13-w24-a36.44-m2.49-g8-z3", FORM),
    ("regnetx-d13-w24-a36.4.4-m2.49-g8", FORM),
    ("regnetx-d13x2-w24-a36.44-m2.49-g8", "one number for each symbol"),
    ("regnetx-d-w24-a36.44-m2.49-g8", FORM),
    ("regnetx-d0-w24-a36.44-m2.49-g8", "depth 0"),
    ("regnetx-d20000-w24-a36.44-m2.49-g8", "depth 20000"),
    ("regnetx-d13-w24-a36.44-m1-g8", "wm 1"),
    ("regnetx-d13-w24-a36.44-m" + "9" * 400 + "-g8", FORM),
    ("anynetx-d1x2-w24x56x3-g8", "2 depths, 3 widths"),
    ("anynetx-d1x2-w24x56-g9", "group width 9 does not divide the inner width 24"),
    ("anynetx-d1x2-w24x56-g8-b0", ANY),
    ("regnetx-900mf", "did you mean"),
    ("regnetx-d9999-w24-a36.44-m2.49-g8", "depth 9999"),
    ("regnetx-d13.5-w24-a36.44-m2.49-g8", "whole numbers are needed for d"),
    ("anynetx-d1-w24-g8.5", "whole numbers are needed for g"),
    ("anynetx-d1-w24.5-g8", "whole numbers are needed for w"),
    ("anynetx-d" + "1x" * 98 + "1-w24-g8", "99 stages: at most 16"),
    ("anynetx-d1501-w24-g8", "at most 1,500 blocks"),
    ("a" * 100_000, "unknown architecture 'aaa"),
    (5, "architecture 5: a name is needed"),
])  # fmt: skip
def test_half_a_name_is_one_line_that_shows_the_form(name, says):
    with pytest.raises(kcnn.InputError) as error:
        kcnn.get(name)
    assert says in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 500
