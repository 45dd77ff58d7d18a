"""Facts in total and by stages."""

import json
import pickle
import resource

import keras
import pytest
from keras import layers

import kcnn
from kcnn.builder import abstract


@pytest.mark.parametrize(
    "wrong, says",
    [
        (lambda: kcnn.facts(keras.Sequential([layers.Dense(3)])), "has no graph"),
        (lambda: kcnn.facts(3), "has no graph"),
        (lambda: kcnn.facts("resnet-18").memory(0), "batch 0"),
        (lambda: kcnn.facts("resnet-18").memory(8, "int7"), "precision 'int7'"),
        (lambda: kcnn.facts(keras.Sequential([keras.Input((4,)), layers.Dense(3)]), width=2), "has been built"),
    ],
)
def test_bad_input_is_one_clear_line(wrong, says):
    with pytest.raises(kcnn.InputError, match=says) as error:
        wrong()
    assert "\n" not in str(error.value)


def test_large_networks_cost_nothing_to_count():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert kcnn.facts("regnety-32gf").params == 145_046_770
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 300e6  # the weights would take 580


def test_facts_are_plain_data():
    facts = kcnn.facts("mobilenet-v2", resolution=64)
    assert pickle.loads(pickle.dumps(facts)) == facts
    plain = json.loads(json.dumps(facts.to_dict()))
    assert plain["macs"] == facts.macs and [s["name"] for s in plain["stages"]] == [s.name for s in facts.stages]
    assert sum(row["kept"] for row in facts.layer_dicts()) == sum(s.kept for s in facts.stages)


def test_stages_of_ours_and_of_others():
    ours = kcnn.facts("resnet-50")
    assert [s.name for s in ours.stages] == ["stem", "stage1", "stage2", "stage3", "stage4", "head"]
    assert [s.resolution for s in ours.stages] == [56, 56, 28, 14, 7, 1]
    assert [s.blocks for s in ours.stages] == [2, 3, 4, 6, 3, 1]
    assert [s.stride for s in ours.stages] == [4, 4, 8, 16, 32, None]
    with abstract():
        theirs = kcnn.facts(keras.applications.VGG16(weights=None))
    assert [s.name for s in theirs.stages] == [*(f"stride{2**n}" for n in range(6)), "head"]
    assert "the receptive field, 212 pixels, is smaller than the image of 224" in kcnn.facts("vgg-16").remarks
