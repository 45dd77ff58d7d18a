"""Pictures of blocks: what they show is what the network has."""

from xml.etree import ElementTree

import pytest

import kcnn
from kcnn.drawing import columns, distinct


@pytest.mark.parametrize("name", [f.ARCHS[0].name for f in kcnn.families.FAMILIES])
def test_every_family_is_drawn(name):
    drawn = kcnn.draw(name)
    root = ElementTree.fromstring(drawn)
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("from before") == len(distinct(kcnn.get(name))) >= 1
    assert drawn._repr_svg_() == drawn


def test_blocks_that_differ_in_their_widths_alone_are_drawn_once():
    [bottleneck] = distinct(kcnn.get("resnet-50"))
    assert bottleneck.title == ("stages 1, 2, 3, 4", "3, 4, 6, 3 blocks")
    assert bottleneck.nodes[0] == ("from before",) and bottleneck.nodes[1] == ("1x1 conv to 64", "norm", "relu")
    assert bottleneck.nodes[-1] == ("+", "relu") and (0, len(bottleneck.nodes) - 1) in bottleneck.edges
    kernels = [block.nodes[2][0] for block in distinct(kcnn.get("efficientnet-b0"))[1:3]]
    assert [kernel.split()[0] for kernel in kernels] == ["3x3", "5x5"]


def test_paths_stand_side_by_side():
    [module, *_] = distinct(kcnn.get("googlenet"))
    places = columns(module)
    assert sorted({places[b] for a, b in module.edges if a == 0}) == [0, 1, 2, 3]
    assert places[0] == places[-1] == 1.5
    [plain] = distinct(kcnn.get("mobilenet-v1"))[:1]
    assert set(columns(plain)) == {0}


def test_a_notebook_shows_architectures_and_facts():
    for shown in (kcnn.get("regnety-400mf"), kcnn.facts("regnety-400mf")):
        root = ElementTree.fromstring(shown._repr_html_())
        assert root.tag == "table" and len(root.findall("tr")) >= 5
