import pytest

import tuning.trials.space
import tuning.trials.sweep


@pytest.fixture(autouse=True, scope="session")
def quick_latency():
    """Measuring a network takes longer than training the tests' tiny ones."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (tuning.trials.space, tuning.trials.sweep):
            patch.setattr(module, "latency_ms", lambda arch, classes: 0.01 * arch.resolution)
        yield
