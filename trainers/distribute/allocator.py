"""How the C library hands out memory in a training process."""

import ctypes

# Of glibc's <malloc.h>. A step frees its activations and asks for the same sizes again: memory that went back to the
# system meanwhile costs a page fault for each 4 KiB, 8 to 25 % of a step on CPUs.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8
SETTINGS = {
    M_MMAP_THRESHOLD: 2**31 - 1,  # bytes: no block has a mapping of its own
    M_TRIM_THRESHOLD: -1,  # freed memory stays with the process
    M_TOP_PAD: 2**28,  # bytes by which the heap grows
    M_ARENA_MAX: 1,  # threads share the heap: one of their own holds at most 64 MiB, and larger blocks are mapped again
}


def keep_freed_memory() -> None:
    """Lets the C library keep what is freed for the next step. Libraries other than glibc stay as they are."""
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt"):
        for setting, value in SETTINGS.items():
            library.mallopt(setting, value)
