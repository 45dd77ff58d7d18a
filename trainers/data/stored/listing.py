"""The images in a folder of class folders, by class; links are followed."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath

from kcnn.errors import InputError
from trainers.data.names import shown

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")

Files = list[list[bytes]]  # per class, the sorted paths
Other = Callable[[str, str], str | None]
Walk = Callable[[str, str, Other], Iterable[tuple[bytes, str]]]


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except PermissionError:
        raise InputError(f"data folder {folder!r} may not be read; grant permission to list it") from None


def subfolders(folder: str) -> list[str]:
    return sorted(entry.name for entry in _scan(folder) if _kind(entry) == "folder")


def _kind(entry: os.DirEntry[str]) -> str:
    """folder, file or other (a pipe, a socket, a device). A link is of the kind that it leads to."""
    try:
        if entry.is_dir():
            return "folder"
        # A link that leads nowhere counts as a file: reading it then names it, where dropping it would hide it.
        return "file" if entry.is_file() or not os.path.exists(entry.path) else "other"
    except OSError:  # a link to itself
        return "file"


def class_images(root: str, classes: list[str], other: Other, skip: bool, corrupt: list[str], walk: Walk) -> Files:
    """The images of each class, as `walk` finds them. A pipe or device that is named like an image is added to
    `corrupt` where `skip` is set. Otherwise it raises InputError, as does a class without images.
    """
    images: Files = []
    for label in classes:
        folder = os.path.join(root, label)
        found = sorted(walk(folder, label, other))
        odd = [shown(path) for path, kind in found if kind == "other"]
        if odd and not skip:
            raise InputError(
                f"'{odd[0]}' is a pipe, a socket or a device, not an image: remove it, or use --on-corrupt skip"
            )
        corrupt += odd
        images.append([path for path, kind in found if kind == "file"])
        if not images[-1]:
            files = " ".join(SUFFIXES)
            raise InputError(f"class folder {folder!r} has no images; put {files} files there or remove it")
    return images


def walk(folder: str, label: str, other: Other) -> Iterator[tuple[bytes, str]]:
    """(path, kind) of all that is named like an image in a class's folder and below. Links to folders are followed,
    each folder once. Raises InputError where one leads to images of another class.
    """
    ahead, links, seen = [folder], list[str](), set[str]()
    while ahead or links:
        place = (ahead or links).pop()  # links last: what can be reached without one has its name from there
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        if stranger := other(real, label):
            raise InputError(
                f"'{shown(place)}' of class {label!r} leads to images of class {stranger!r}: one image "
                "can have one class; remove the link"
            )
        for entry in sorted(_scan(place), key=lambda entry: entry.name, reverse=True):
            kind = _kind(entry)
            if kind == "folder":
                (links if entry.is_symlink() else ahead).append(entry.path)
            elif entry.name.lower().endswith(SUFFIXES):
                yield os.fsencode(entry.path), kind


def other_class(roots: list[str], classes: list[str]) -> Other:
    """A function other(folder, label): another class whose folder is this one, lies in it or around it, if any.

    It remembers the class of each folder that it is asked for. Folders are given by their real paths.
    """
    inside: dict[str, str] = {}
    below: dict[str, set[str]] = {}

    def up(folder: str) -> list[str]:
        return [folder, *map(str, PurePath(folder).parents)]

    def other(folder: str, label: str) -> str | None:
        labels = {inside[place] for place in up(folder) if place in inside} | below.get(folder, set())
        inside[folder] = label
        return min(labels - {label}, default=None)

    for root in roots:
        for label in classes:
            home = os.path.realpath(os.path.join(root, label))
            inside[home] = label
            for place in up(home):
                below.setdefault(place, set()).add(label)
    return other
