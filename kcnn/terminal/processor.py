"""What Linux tells of the processor, before any library is loaded."""

import itertools
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def cpuinfo() -> dict[str, str]:
    """Returns the fields that /proc/cpuinfo has for the first CPU; none on other systems."""
    try:
        with CPUINFO.open(encoding="utf-8", errors="replace") as lines:
            first = list(itertools.takewhile(str.strip, lines))  # not hundreds of CPUs, of which Linux asks each
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first)
    return {key.strip(): value.strip() for key, _, value in pairs}
