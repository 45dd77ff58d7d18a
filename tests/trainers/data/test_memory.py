"""A data set larger than memory streams: what is resident does not grow with the number of images."""

import os
import subprocess
import sys

import pytest

PASS = """
import sys
from trainers.data import Order, open_data, train_batches
def resident():  # MiB, now: a peak would count what importing took
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
split = open_data(sys.argv[1]).train
batches = train_batches(split, Order(0, split.size, 100), 32).take(split.size // 100)
highest, seen = 0.0, 0
for batch in batches:
    seen += len(batch["label"])
    highest = max(highest, resident())
print(seen, highest)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
def test_resident_memory_does_not_grow_with_the_images(photos, tmp_path, capsys):
    pictures = sorted(photos.rglob("*.jpg"))
    peaks = {}
    for count in (1_000, 10_000):
        for i in range(count + 20):
            folder = tmp_path / str(count) / ("val" if i >= count else "train") / ("a" if i % 2 else "b")
            folder.mkdir(parents=True, exist_ok=True)
            os.link(pictures[i % len(pictures)], folder / f"{i}.jpg")
        command = [sys.executable, "-c", PASS, str(tmp_path / str(count))]
        seen, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-2:]
        assert int(seen) == count
        peaks[count] = float(peak)
    with capsys.disabled():
        print(f"\nresident at most: {peaks[1_000]:.0f} MiB with 1,000 files, {peaks[10_000]:.0f} MiB with 10,000")
    # 9,000 images of 200 x 160 pixels would be 824 MiB decoded, and about 90 MiB encoded.
    assert peaks[10_000] - peaks[1_000] < 60
