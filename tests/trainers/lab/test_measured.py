"""What stands out of gradients and times, and the page with all of it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import trainers.lab.measured as lab
from kcnn.diagnosis import diagnose
from kcnn.diagnosis.advice import MOST
from kcnn.diagnosis.advice import Finding as Advice
from kcnn.errors import InputError
from trainers.lab.gradients import Field, Gradients, LayerGradient
from trainers.lab.measured import Measured, of_training
from trainers.lab.page import page
from trainers.lab.pipeline import Pace
from trainers.lab.subject import photographs, subject
from trainers.lab.timing import LayerTime, Timing
from trainers.lab.updates import Updates

SOUND = Gradients((LayerGradient("conv", 2.0, 0.5),), {"stem": 1.0, "stage1": 2.0, "stage2": 1.0}, 2.0, "passed on")
BUSY = Timing(8, (LayerTime("conv", "Conv2D", "stage1", 1.0, 10, 10, "arithmetic"),), 1.25, 20, 20, 1e-6)
FED = Pace(images=1.0, network=2.0, both=2.1)


@pytest.mark.parametrize("flow, spent, fed, words", [
    (SOUND, BUSY, FED, None),
    (SOUND, BUSY, None, None),
    (SOUND, BUSY, Pace(images=3.0, network=1.0, both=3.0), "training spends 67% of its time on making images"),
    (replace(SOUND, verdict="vanishing"), BUSY, FED, "gradients are vanishing"),
    (replace(SOUND, verdict="not finite"), BUSY, FED, "gradients are no finite numbers"),
    (SOUND, replace(BUSY, layers=(replace(BUSY.layers[0], bound="overhead"),)), FED, "100% of a step's time goes into"),
])  # fmt: skip
def test_each_fault_is_a_finding_and_sound_figures_are_none(flow, spent, fed, words):
    found = [f.what for f in of_training(Measured(None, "", gradients=flow, timing=spent, pace=fed))]
    assert (found == []) if words is None else (len(found) == 1 and found[0].startswith(words))


@pytest.fixture(scope="module")
def seen():
    model, batches, _, _ = subject("resnet-18", width=0.125, depth=0.25, resolution=64, images=8)
    return diagnose(model, batches)


def test_findings_are_put_together_in_their_order(seen):
    few = tuple(Advice(k / 10, f"{k}", "", "") for k in range(7))
    found = Measured(replace(seen, findings=few), "", gradients=replace(SOUND, verdict="exploding"), timing=BUSY)
    assert [f.what for f in found.findings] == ["gradients are exploding", "6", "5", "4", "3", "2", "1"]
    assert len(found.findings) == MOST and len(found.to_dict()["findings"]) == MOST


def test_the_page_has_all_parts_and_names_what_was_not_measured(seen):
    field = Field("stage4", np.eye(8), 5.0, 1.25, 100)
    whole = page(Measured(seen, "pictures", SOUND, field, BUSY, Updates("sgd", 0.1, {"stem": 0.02}), FED))
    for part in (
        "What stands out",
        "What comes back",
        "What a place sees",
        "Where the time goes",
        "bound by the network",
        "by these shares of themselves: stem 0.02",
        "<title>conv: 0.25</title>",
    ):
        assert part in whole
    less = page(Measured(seen, "<pictures>", notes=("the input pipeline: gone",)))
    assert "What comes back" not in less and "Where the time goes" not in less
    assert "Not measured: the input pipeline: gone" in less and "What a place sees" not in less
    assert "8 &lt;pictures&gt;" in less and "bound by the network" not in less


def test_a_run_whose_data_is_gone_is_measured_without_its_pipeline(monkeypatch, run):
    monkeypatch.setattr(lab, "pace", lambda *_: SimpleNamespace())
    monkeypatch.setattr(lab, "prepare", lambda *_: (_ for _ in ()).throw(lab.InputError("the data is gone")))
    monkeypatch.setattr(lab, "timing", lambda *_: BUSY)
    monkeypatch.setattr(lab, "subject", lambda *_, **__: with_photographs(subject(str(run))))
    found, folder = lab.measured(str(run))
    assert found.notes == ("its training: the data is gone",) and found.pace is None and folder == run


def test_what_a_device_has_no_memory_for_is_told_and_the_rest_is_kept(monkeypatch):
    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[16,64,112,112]")

    options = {"width": 0.125, "depth": 0.25, "resolution": 64, "images": 8}
    for part in ("gradients", "effective_field", "timing"):
        monkeypatch.setattr(lab, part, exhausted)
    found, _ = lab.measured("resnet-18", **options)
    assert found.notes == tuple(
        f"{part}: the device ran out of memory"
        for part in ("gradients", "the effective receptive field", "the layers' times")
    )
    assert found.diagnosis.representation.images == 8 and found.to_dict()["timing"] is None
    monkeypatch.setattr(lab, "diagnose", exhausted)
    with pytest.raises(InputError, match=r"^batch-size 16: the device ran out of memory; give a smaller one$"):
        lab.measured("resnet-18", **options)


def with_photographs(found):
    model, _, what, folder = found
    return model, photographs(model.input_shape[1], 8, 8), what, folder
