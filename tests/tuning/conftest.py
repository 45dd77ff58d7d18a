import importlib

import pytest

import tuning.trials.space
import tuning.trials.sweep
from trainers.runs import folders
from trainers.runs.dashboards import Dashboard
from trainers.runs.files import write_json


@pytest.fixture(autouse=True, scope="module")
def quick_latency():
    """Measuring a network takes longer than training the tests' tiny ones."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (tuning.trials.space, tuning.trials.sweep):
            patch.setattr(module, "latency_ms", lambda arch, classes: 0.01 * arch.resolution)
        yield


@pytest.fixture(autouse=True, scope="module")
def figures_only():
    """A search reads the figures of its runs: no test here looks at their pictures, verdicts, cards and networks."""

    def conclude(run, position, result):
        write_json(run.folder / folders.RESULT, result)
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("trainers.training"), "conclude", conclude)
        patch.setattr(Dashboard, "samples", lambda *_: None)
        patch.setattr(Dashboard, "confusion", lambda *_: None)
        patch.setattr("trainers.runs.showing.first_images", lambda run, step: ([], []))
        yield
