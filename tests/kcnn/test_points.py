"""Points of the design spaces, by name: any AnyNet and RegNet is an architecture like the published ones."""

from dataclasses import replace

import pytest

import kcnn
from kcnn.families.regnet import X_ROWS, Y_ROWS, point

PUBLISHED = {f"regnet{kind}-{size}": (kind, row) for kind, rows in (("x", X_ROWS), ("y", Y_ROWS))
             for size, row in rows.items()}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_parameters_give_the_published_networks(name):
    kind, (d, w, a, m, g) = PUBLISHED[name]
    own, regnet = kcnn.get(name), kcnn.get(point(f"regnet{kind}", d=d, w=w, a=a, m=m, g=g))
    assert replace(regnet, name=name) == own
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
])  # fmt: skip
def test_half_a_name_is_one_line_that_shows_the_form(name, says):
    with pytest.raises(kcnn.InputError) as error:
        kcnn.get(name)
    assert says in str(error.value) and "\n" not in str(error.value)
