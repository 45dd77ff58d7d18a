import pytest

import tuning.trials.space
import tuning.trials.sweep


@pytest.fixture(autouse=True, scope="module")
def quick_latency():
    """Measuring a network takes longer than training the tests' tiny ones."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (tuning.trials.space, tuning.trials.sweep):
            patch.setattr(module, "latency_ms", lambda arch, classes: 0.01 * arch.resolution)
        yield


@pytest.fixture(autouse=True, scope="module")
def no_cards():
    """No test here looks at the card that a run leaves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainers.training.write_card", lambda *_: None)
        yield
