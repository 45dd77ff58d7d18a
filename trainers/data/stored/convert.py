"""From a folder of images to a few large files, which `shards` reads. A conversion that was cut short goes on."""

import contextlib
import functools
import hashlib
import os
import re
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.data.decoding.images import READ_ERRORS, decode, reason
from trainers.data.names import shown
from trainers.data.splits import THREADS
from trainers.data.stored import listing, lists, shards
from trainers.runs.files import remove_partial, replacing, write_bytes, write_json, write_text

_PARTS = ("train", "val", "validation", "test")
_SHARD = 2**28  # bytes of a shard's images, about
_BEFORE, _AFTER = 12, 4  # bytes of a TFRecord around each image
_AT_ONCE = 32  # images that are read at once
_OURS = re.compile(r"kcnn-(data\.json|data-begun\.json|names\.bin|list\.jsonl|\d{5,}\.(tfrecord|index))")
_PARTIAL = re.compile(r"\.kcnn-[\w-]+\.[0-9a-f]{8}\.partial\.\w+")


def convert(
    data: str, out: str, *, on_corrupt: Literal["error", "skip"] = "error", shard_bytes: int = _SHARD
) -> dict[str, Any]:
    """Writes the images of the folder or list `data` into shards in the folder `out`. Returns what is there then.

    Goes on where an earlier call was cut short. `on_corrupt="error"` stops at a file that cannot be decoded; "skip"
    keeps such files, so that a run can leave them out as it would from the folder. Raises InputError, also where `out`
    holds anything else, or where the data has changed since the earlier call.
    """
    source, folder = (os.path.realpath(os.path.expanduser(path)) for path in (data, out))
    listed = lists.list_of(source) == source
    if not (os.path.isdir(source) or listed) or shards.home_of(source):
        raise InputError(f"DATA {data!r}: a folder with one subfolder of images per class, or a list, is needed")
    if os.path.commonpath([source, folder]) == source:
        raise InputError(f"OUT {out!r} is in the folder that is to be converted; give one outside it")
    skip = on_corrupt == "skip"
    if listed:
        root, folders, names, odd, rows = _listed(os.path.abspath(os.path.expanduser(data)), skip)
    else:
        root, (folders, names, odd), rows = source, _found(source, skip), []
    sizes, state = _stated(root, names, rows)
    numbers = (np.cumsum(sizes) - 1) // shard_bytes
    groups = np.split(np.arange(len(names)), np.flatnonzero(np.diff(numbers)) + 1)
    about = {"version": shards.VERSION, "name": os.path.basename(source), "source": source, "folders": folders}
    about |= {"odd": odd, "images": len(names), "shards": len(groups), "listing": state}
    about |= {"list": True} if rows else {}
    done = {"folder": folder, "images": len(names), "files": len(groups), "bytes": int(sizes.sum())}
    if _claim(Path(folder), about):
        return done
    write_bytes(Path(folder, shards.NAMES), b"".join(name + b"\0" for name in names))
    if rows:
        write_text(Path(folder, shards.LIST), "".join(rows))
    with _progress(len(names)) as advance:
        for number, group in enumerate(groups):
            if not os.path.lexists(shards.shard(Path(folder), number).with_suffix(".index")):
                images = _images(root, [names[i] for i in group], sizes[group], skip)
                _write(Path(folder), number, images, advance)
            elif len(shards.read_index(Path(folder), number)) != len(group):
                raise InputError(f"{shards.shard(Path(folder), number)} is damaged: remove {folder!r} and start anew")
            else:
                advance(len(group))
    if _stated(root, names, rows)[1] != state:
        raise InputError(f"{data!r} changed while it was converted: remove {folder!r} and start anew")
    os.replace(Path(folder, shards.BEGUN), Path(folder, shards.DATA))
    return done


def _found(root: str, skip: bool) -> tuple[dict[str, list[str]], list[bytes], list[str]]:
    """The subfolders that decide over parts and classes, by the path of what they are in; the sorted paths of all
    images below the root; and those of pipes and devices that are named like images.
    """
    top = listing.subfolders(root)
    below = {part: listing.subfolders(os.path.join(root, part)) for part in _PARTS if part in top}
    below = {part: classes for part, classes in below.items() if classes}
    # As `open_folder` and `folder_parts` decide.
    split_already = ("train" in top and ("train" in below or set(top) & set(_PARTS[1:]))) or set(top) == set(below)
    parts = {part: below.get(part, []) for part in _PARTS if part in top} if split_already else {"": top}
    roots = {os.path.join(root, part) if part else root: classes for part, classes in parts.items()}
    if not any(roots.values()):
        raise InputError(f"data folder {root!r} has no class folders; give a folder with one subfolder per class")
    odd: list[str] = []

    def walk(folder: str, label: str, other: listing.Other) -> Iterator[tuple[bytes, str]]:
        for path, kind in listing.walk(folder, label, other):
            odd.extend([os.fsdecode(path)[len(root) + 1 :]] if kind == "other" else [])
            yield path, kind

    other = listing.other_class(list(roots), sorted({label for classes in roots.values() for label in classes}))
    found = [listing.class_images(part, classes, other, skip, [], walk) for part, classes in roots.items()]
    paths = sorted(path for files in found for members in files for path in members)
    return {"": top} | below, [path[len(os.fsencode(root)) + 1 :] for path in paths], odd


def _listed(path: str, skip: bool) -> tuple[str, dict[str, list[str]], list[bytes], list[str], list[str]]:
    """The folder of a list; what `_found` finds of a folder; and the list anew, line by line."""
    home = os.path.dirname(path)
    multi_label = lists.has_labels(path)
    tree, listed = lists.open_list(path, skip, multi_label), lists.read_list(path, home, multi_label)[0]
    start, odd, names = len(os.fsencode(home.rstrip("/"))) + 1, list[str](), list[bytes]()
    for part, labels in listed.files.items():
        at = os.path.join(path, part)
        found = [pair for label in labels for pair in tree.walk(os.path.join(at, label), label, lambda *_: None)]
        odd += [os.fsdecode(place[start:]) for place, kind in found if kind == "other"]
        names += [place[start:] for place, kind in found if kind == "file"]
    return home, {}, sorted(names), odd, sorted(lists.write_rows(path, home))


def _stated(root: str, names: list[bytes], rows: list[str]) -> tuple[np.ndarray, str]:
    """The files' sizes in bytes, int64, and a hash of their names, sizes and times of change, and of a list's lines."""
    sizes, whole = np.zeros(len(names), np.int64), hashlib.blake2b(digest_size=16)
    for i, name in enumerate(names):
        with contextlib.suppress(OSError):  # what cannot be read is named when it is its turn
            status = os.stat(os.path.join(os.fsencode(root), name))
            sizes[i] = status.st_size
            whole.update(b"%s\0%d\0%d\0" % (name, status.st_size, status.st_mtime_ns))
    for row in rows:
        whole.update(row.encode())
    return sizes, whole.hexdigest()


def _claim(out: Path, about: dict[str, Any]) -> bool:
    """Makes the folder ready to be written. Returns whether it already holds the whole conversion."""
    out.mkdir(parents=True, exist_ok=True)
    with os.scandir(out) as entries:
        found = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    earlier = next((name for name in (shards.DATA, shards.BEGUN) if name in found), None)
    for name, plain in found.items():
        if not plain or not (_PARTIAL.fullmatch(name) or (earlier and _OURS.fullmatch(name))):
            raise InputError(f"OUT '{shown(str(out))}' holds other files, such as '{shown(name)}'; give a new folder")
    remove_partial(out)
    if earlier is None:
        write_json(out / shards.BEGUN, about)
    elif shards.read_about(out, earlier) != about:
        raise InputError(f"'{shown(str(out))}' was begun from other data, or the data has changed; give a new folder")
    return earlier == shards.DATA


def _images(root: str, names: list[bytes], sizes: np.ndarray, skip: bool) -> Iterator[bytes]:
    """The contents of files, in their order; nothing for one that cannot be read, where `skip` is set."""

    def read(name: bytes, size: int) -> bytes:
        path = os.path.join(os.fsencode(root), name)
        try:
            with open(path, "rb") as file:
                data = file.read(int(size) + 1)
        except OSError as error:
            if skip:
                return b""
            message = f"'{shown(path)}' cannot be read: {error.strerror}; remove it, or use --on-corrupt skip"
            raise InputError(message) from None
        if len(data) != size:
            raise InputError(f"'{shown(path)}' changed while it was converted: remove what was written and start anew")
        if not skip:
            try:
                _decodes()(data)
            except READ_ERRORS as error:
                message = f"'{shown(path)}' cannot be decoded: {reason(error)}; replace it, or use --on-corrupt skip"
                raise InputError(message) from None
        return data

    with ThreadPoolExecutor(THREADS) as pool:
        for i in range(0, len(names), _AT_ONCE):
            yield from list(pool.map(read, names[i : i + _AT_ONCE], sizes[i : i + _AT_ONCE]))


@functools.cache
def _decodes() -> Any:
    """A graph function that raises for bytes which cannot be decoded."""
    return tf.function(lambda data: tf.shape(decode(data)), input_signature=[tf.TensorSpec((), tf.string)])


def _write(folder: Path, number: int, images: Iterator[bytes], advance: Any) -> None:
    """Writes a shard, and then its index: where there is an index, the shard is whole."""
    rows, begin = [], _BEFORE
    with replacing(shards.shard(folder, number)) as partial:
        try:
            with tf.io.TFRecordWriter(str(partial)) as writer:
                for image in images:
                    writer.write(image)
                    rows.append((begin, len(image), zlib.crc32(image)))
                    begin += len(image) + _AFTER + _BEFORE
                    advance(1)
        except tf.errors.OpError as error:  # a full disk
            raise OSError(None, str(error.message)) from error
    write_bytes(shards.shard(folder, number).with_suffix(".index"), np.array(rows, shards.ROW).tobytes())


@contextlib.contextmanager
def _progress(images: int) -> Iterator[Any]:
    """A bar on a terminal, and the function that moves it on by some images."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("converting images", total=images)
        yield lambda count: bar.advance(task, count)
