"""What Linux tells of the processor, before any library is loaded."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def cpuinfo() -> dict[str, str]:
    """Returns the fields that /proc/cpuinfo has for the first CPU; none on other systems."""
    try:
        first = CPUINFO.read_text("utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
