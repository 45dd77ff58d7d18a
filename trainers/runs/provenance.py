"""The data of a run: it is recorded before the first step, and compared when the run goes on.

With other images, a run would mix up its epochs, and its figures would belong to no data set.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kcnn.errors import InputError
from trainers.data import Source, Split
from trainers.runs.files import CONFIG, LONGEST_LINE, parse_json, read_json, reading, replacing, write_json
from trainers.runs.typed import checked

DATA, FILES = "data.json", "files.jsonl.gz"
PARTS = ("train", "val")
SHOWN = 3  # names that a message shows
MOST_BYTES = 2**30  # of the list of files, unpacked

Changes = list[dict[str, Any]]


def record(folder: Path, source: Source, changes: Changes) -> None:
    """Records counts and fingerprints of the data's parts, and the list of their files, if they have any.

    changes: each change of the data since the run began, with the "epoch" from which on it holds, and "what" changed.
    """
    files = [(part, file) for part in PARTS for file in getattr(source, part).files()]
    if files:
        with replacing(folder / FILES) as partial, gzip.open(partial, "xt", compresslevel=1) as lines:
            lines.writelines(json.dumps([part, *file]) + "\n" for part, file in files)
    parts = {part: summary(getattr(source, part), source.classes) for part in PARTS}
    write_json(folder / DATA, parts | {"test_is_val": source.test_is_val, "changes": changes})


def summary(split: Split, classes: tuple[str, ...]) -> dict[str, Any]:
    counts = split.class_counts
    return {
        "images": split.size,
        "fingerprint": split.fingerprint(),
        "classes": dict(zip(classes, counts, strict=True)) if counts else {},
    }


def recorded(folder: Path) -> dict[str, Any] | None:
    """The record of a run's data; None for a run of an earlier version. Raises InputError where it is damaged."""
    path = folder / DATA
    if not path.exists():
        return None
    found = read_json(path, dict)
    checked(found, dict.fromkeys(PARTS, dict) | {"changes": list[dict]}, str(path))
    for part in PARTS:
        checked(found[part], {"images": int, "fingerprint": str, "classes": dict[str, int]}, f"{path}, {part}")
    for change in found["changes"]:
        checked(change, {"epoch": int, "what": str}, f"{path}, changes")
    return found


def test_is_val(folder: Path) -> bool:
    """Whether a folder holds a run of an earlier version, for which test/ is the validation part where there is no
    val/."""
    if not (folder / CONFIG).is_file():
        return False
    return (recorded(folder) or {}).get("test_is_val", True) is not False


def accepted(folder: Path) -> Changes:
    """The changes to the data with which the run went on."""
    found = recorded(folder)
    return found["changes"] if found else []


def difference(folder: Path, source: Source) -> str:
    """How the data changed since the run began, in words; "" where it did not, or where nothing was recorded."""
    old = recorded(folder)
    if old is None:
        return ""
    told = []
    for part in PARTS:
        split, before = getattr(source, part), old[part]
        now = summary(split, source.classes)
        if now["fingerprint"] != before["fingerprint"]:
            what = [counted(now, before), *names(folder, part, split, before["images"])]
            told.append(f"{part}: {'; '.join(filter(None, what)) or 'other images or labels, in the same number'}")
    return ". ".join(told)


def counted(now: dict[str, Any], before: dict[str, Any]) -> str:
    """ "18 images, it had 24 (cat 9, had 12; ...)", or "" where the counts are the same."""
    had = before["classes"]
    other = [f"{name} {n}, had {had.get(name)}" for name, n in now["classes"].items() if n != had.get(name)]
    if now["images"] == before["images"] and not other:
        return ""
    more = [f"and {len(other) - SHOWN} more classes"] if len(other) > SHOWN else []
    classes = f" ({'; '.join(other[:SHOWN] + more)})" if other else ""
    return f"{now['images']:,} images, it had {before['images']:,}{classes}"


def names(folder: Path, part: str, split: Split, images: int) -> Iterator[str]:
    """ "2 files are gone ('cat/1.jpg', 'cat/7.jpg')", and the like; nothing where the list of files is not whole."""
    new = {name: (size, digest) for name, size, digest in split.files()}
    gone, other, count = [], [], 0
    try:
        for name, size, digest in old_files(folder, part):
            count += 1
            if (here := new.pop(name, None)) is None:
                gone.append(name)
            elif here[0] != size or (here[1] and digest and here[1] != digest):
                other.append(name)
    except (InputError, OSError, EOFError, zlib.error):
        return
    if count != images:
        return
    for found, what in ((gone, "gone"), (list(new), "new"), (other, "of other contents")):
        if found:
            more = ", ..." if len(found) > SHOWN else ""
            yield (
                f"{len(found):,} file{'s are' if len(found) > 1 else ' is'} {what} "
                f"({', '.join(map(repr, found[:SHOWN]))}{more})"
            )


def old_files(folder: Path, part: str) -> Iterator[tuple[str, int, str]]:
    """The files that a part was made of. Raises InputError, OSError or zlib.error where the list is damaged."""
    with reading(folder / FILES) as packed, gzip.open(packed) as lines:
        left = MOST_BYTES
        while left > 0 and (line := lines.readline(LONGEST_LINE)):
            left -= len(line)
            entry = parse_json(line, str(folder / FILES), list)
            if [type(value) for value in entry] != [str, str, int, str]:
                raise InputError(f"{folder / FILES} is damaged")
            if entry[0] == part:
                yield entry[1], entry[2], entry[3]
