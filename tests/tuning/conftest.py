import pytest

import tuning.space


@pytest.fixture(autouse=True, scope="session")
def quick_latency():
    """Measuring a network takes longer than training the tests' tiny ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning.space, "latency_ms", lambda arch, classes: 0.01 * arch.resolution)
        yield
