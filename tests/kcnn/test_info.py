"""kcnn info: what it prints, what it returns, and how it refuses."""

import json
import re

import pytest

import kcnn
from kcnn import info
from kcnn.families.costs import costs


def told(capsys, *argv):
    """(exit code, standard output, standard error) of a command line."""
    with pytest.raises(SystemExit) as left:
        info.main([*argv])
    return left.value.code, *capsys.readouterr()


def test_one_network_by_its_stages(capsys):
    code, out, _ = told(capsys, "ResNet50", "--batch-size", "8")
    assert code == 0
    assert "25,557,032 parameters, 4,089,184,256 multiply-adds, 11,113,984 activations" in out
    assert "images of 224 pixels, standard stem" in out
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert {"stem", "stage1", "stage4", "head", "total"} <= set(rows)
    assert "25.6 M" in rows["total"] and "4.09 G" in rows["total"] and "427" in rows["total"]
    assert re.search(r"memory in training, a batch of 8 in float32: \d", out)
    assert "note: stage1 sees 35 of 224 pixels, less than half" in out
    assert "…" not in out


def test_small_images_get_the_small_stem_and_say_so(capsys):
    _, out, _ = told(capsys, "resnet-18", "--resolution", "32")
    assert "small stem: no strides, as the input has 64 pixels or less" in out
    _, out, _ = told(capsys, "resnet-18", "--resolution", "32", "--stem", "standard")
    assert "standard stem" in out


def test_several_networks_side_by_side(capsys):
    code, out, _ = told(capsys, "resnet-18", "mobilenet-v2", "--precision", "mixed_bfloat16")
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert code == 0 and "11.7 M" in rows["resnet-18"] and "301 M" in rows["mobilenet-v2"]


def test_every_layer(capsys):
    _, out, _ = told(capsys, "resnet-18", "--per-layer")
    layers = [c.name for c in kcnn.facts("resnet-18").layers]
    assert set(layers) <= {line.split()[0] for line in out.splitlines() if line}


def test_the_last_line_is_json(capsys):
    _, out, _ = told(capsys, "mobilenet-v2", "--width", "0.5", "--classes", "10", "--json", "--per-layer")
    result = json.loads(out.splitlines()[-1])
    facts = kcnn.facts("mobilenet-v2", 10, width=0.5)
    assert result.items() >= json.loads(json.dumps(facts.to_dict())).items()
    assert result["memory"]["training"]["total"] == facts.memory(32)
    assert sum(layer["macs"] for layer in result["layers"]) == facts.macs
    _, out, _ = told(capsys, "resnet-18", "resnet-34", "--json", "--seed", "1")
    assert [f["name"] for f in json.loads(out)["networks"]] == ["resnet-18", "resnet-34"]


def test_the_list(capsys):
    _, out, _ = told(capsys, "--list", "vgg-1?", "resnet-*")
    rows = [line.split() for line in out.splitlines()]
    assert rows[1][:3] == ["vgg-11", "vgg", "224"] and ["resnet-18", "resnet", "224"] in [row[:3] for row in rows]
    assert "133 M" in out and "7.61 G" in out and "70.4 %" in out and "vgg-16-bn" not in out
    _, out, _ = told(capsys, "--list", "--json")
    listed = json.loads(out)
    assert listed["names"] == kcnn.names() == sorted((n["name"] for n in listed["networks"]), key=kcnn.names().index)


def test_the_list_builds_nothing(capsys, monkeypatch):
    monkeypatch.setattr(info, "facts", None)
    code, out, _ = told(capsys, "--list")
    assert code == 0 and all(f"\n{name} " in out for name in kcnn.names())


def test_the_list_tells_what_is_built():
    for cost in costs().values():
        f = kcnn.facts(cost.name)
        assert (cost.resolution, cost.params, cost.macs) == (f.resolution, f.params, f.macs)
        assert (cost.activations, cost.receptive_field) == (f.activations, f.receptive_field)


def test_a_form_for_training_and_one_for_export(capsys):
    _, out, _ = told(capsys, "repvgg-a0")
    assert (
        "9,108,968 parameters" in out
        and "exported it has one convolution for the branches of a block: 8,309,384 " in out
    )
    _, out, _ = told(capsys, "repvgg-a0", "--json")
    assert json.loads(out)["exported"]["macs"] < json.loads(out)["macs"]
    _, out, _ = told(capsys, "resnet-18", "--json")
    assert "exported" not in json.loads(out)


def test_a_plot(capsys, tmp_path):
    code, *_ = told(capsys, "resnet-18", "plain-18", "--plot", str(tmp_path / "depth.png"))
    assert code == 0 and (tmp_path / "depth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "argv, says",
    [
        ([], "no network given"),
        (["resnet-51"], "unknown architecture 'resnet-51': did you mean resnet-50"),
        (["--list", "alexnot"], "no network matches 'alexnot'"),
        (["resnet-18", "--batch-size", "0"], "batch 0"),
        (["resnet-18", "--precision", "int3"], "int3"),
        (["resnet-18", "--width", "-1"], "width multiplier -1"),
        (["resnet-18", "--depth", "nan"], "depth multiplier nan"),
        (["resnet-50", "--phi", "30"], "phi 30: resnet-50-w17.4494-d237.376-r66.2118 would have 3,801 blocks"),
        (["resnet-18", "--phi", "nan"], "phi nan"),
        (["resnet-18", "--phi", "2", "--beta", "1e308"], "phi 2: the width would be multiplied by 1e+308^2"),
        (["regnetx-d9999-w24-a36.44-m2.49-g8"], "depth 9999"),
        (["resnet-18", "--classes", "-1"], "classes -1"),
        (["resnet-18", "--classes", "9" * 400], "classes 99999"),
        (["resnet-18", "--resolution", "9" * 400], "resolution 99999"),
        (["resnet-18", "--batch-size", "9" * 400], "batch 99999"),
        (["resnet-18", "--seed", "many"], "many"),
        (["vgg-16", "--resolution", "8"], "too small"),
        (["resnet-18", "--plot", "x.docx"], "docx"),
        (["resnet-18", "--plot", "/nowhere/x.png"], "/nowhere/x.png: No such file or directory"),
    ],
)
def test_bad_input_is_one_line(capsys, argv, says):
    code, _, err = told(capsys, *argv)
    assert code == 2 and says in err and err.count("\n") == 1 and err.startswith("kcnn info: error: ")
