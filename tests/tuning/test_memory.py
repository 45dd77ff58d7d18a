"""Many trials in one process need hardly more memory than ten."""

import json
import os
import subprocess
import sys

import pytest

SEARCH = """
import json, sys
import tuning
from trainers import TrainConfig
from tuning.pages import search as pages
from tuning.trials.options import Ranges

line, resident = pages.line, []

def measured(*args):  # as each trial ends
    resident.append(int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20)
    return line(*args)

pages.line = measured
ranges = Ranges(width_range=(0.0625, 0.3), depth_range=(0.5, 1.5), resolution_range=(8, 16))
config = TrainConfig(arch="anynetx-d1x1-w64x512-g512", epochs=1, batch_size=256, run_dir=sys.argv[1])
tuning.search(config, ranges, tuner="random", max_trials=int(sys.argv[2]))
print(json.dumps(resident))
"""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "trials", [pytest.param(25, marks=pytest.mark.slow), pytest.param(50, marks=pytest.mark.exhaustive)]
)
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
def test_resident_memory_stays_flat_over_many_trials(tmp_path, capsys, trials):
    command = [sys.executable, "-c", SEARCH, str(tmp_path / "search"), str(trials)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    resident = json.loads(printed.splitlines()[-1])
    assert len(resident) == trials
    with capsys.disabled():
        print(f"\nresident after trial 10: {resident[9]:.0f} MiB, after trial {trials}: {resident[-1]:.0f} MiB")
    assert resident[-1] < 1.2 * resident[9]
