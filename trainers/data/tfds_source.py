"""Data sets of TensorFlow Datasets; their images stay encoded."""

import contextlib
import difflib
import functools
import importlib
import os
import re
import socket
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.data.names import check_classes
from trainers.data.splits import Source, Split, as_written, digest, mixed_bits

_HELD_OUT = ("validation", "valid", "val", "test")
_BUFFER_BYTES = 2**29
_CLASSES = 10**6  # more would hardly be classes
# Two forms that TFDS knows are left out: "namespace:" fetches code and runs it, "/key=value" passes it to builders.
_NAME = re.compile(r"\w+(/\w[\w+.-]*)?(:(\d+|\*)(\.(\d+|\*)){2})?", re.ASCII)


def import_builders(modules: Iterable[str] | None) -> None:
    """Imports modules, found as Python finds them from the working directory, or files, whose builders TFDS then knows.

    Raises InputError.
    """
    for name in modules or ():
        try:
            folder = os.path.dirname(os.path.abspath(name)) if name.endswith(".py") else os.getcwd()
            sys.path.append(folder)  # where the module may have others
            importlib.import_module(os.path.basename(name).removesuffix(".py"))
        except Exception as error:  # whatever the module raises
            what = f"{type(error).__name__}: {_line(error)}"
            raise InputError(
                f"imports {name!r}: it cannot be imported ({what}); give a module that Python finds from here, or a "
                "file.py"
            ) from error


@dataclass(frozen=True)
class Prepared:
    """A data set of TFDS that is on the disk: its builder, and the keys of an example's image and label."""

    name: str
    builder: Any
    image: str
    label: str
    classes: tuple[str, ...]


def open_tfds(name: str, *, data_dir: str | None = None, val_split: float = 0.1, prepare: bool = True) -> Source:
    """ "tfds:NAME" or "NAME", with "/config" and ":version" at will; downloaded and prepared on first use.

    Shuffles through a buffer of half a gigabyte in each epoch. Without a validation or test part, the last
    `val_split` of the training examples are held out. Files in `data_dir` are not trusted: none of them
    makes this process import anything. Only `prepare` runs TFDS's own code over archives that may lie there.
    """
    name = name.removeprefix("tfds:")
    try:
        with _own_features():
            return _open(name, data_dir, val_split, prepare)
    except InputError:
        raise
    except Exception as error:  # whatever TFDS raises of files that it cannot make sense of
        raise InputError(f"data set {name!r} cannot be opened: {_line(error)}") from error


def _open(name: str, data_dir: str | None, val_split: float, prepare: bool) -> Source:
    builder = _builder(name, data_dir)
    image_key, label_key = _keys(builder, name)
    label = builder.info.features[label_key]
    _prepare(builder, name, prepare)
    if not 0 < (label.num_classes or 0) <= _CLASSES:
        raise InputError(f"data set {name!r} has {label.num_classes} classes; 1 to {_CLASSES} are needed")
    check_classes(label.names, f"data set {name!r}")
    sizes = {part: info.num_examples for part, info in builder.info.splits.items() if info.num_examples > 0}
    if not sizes.get("train"):
        raise InputError(f"data set {name!r} has no training examples, only {sorted(sizes)}; choose another")
    held_out = next((part for part in _HELD_OUT if sizes.get(part)), None)
    if held_out:
        slices = ("train", 0, sizes["train"]), (held_out, 0, sizes[held_out])
    else:
        cut = sizes["train"] - max(1, round(sizes["train"] * val_split))
        slices = ("train", 0, cut), ("train", cut, sizes["train"])
    opened = functools.partial(_split, Prepared(name, builder, image_key, label_key, tuple(label.names)))
    for part in {part for part, _, _ in slices}:
        _check_size(builder.info.splits[part], name)
    train, val = (opened(*where) for where in slices)
    test = functools.partial(opened, "test", 0, sizes["test"]) if "test" in sizes else None
    return Source(f"tfds:{name}", tuple(label.names), train, val, test=test)


def _check_size(part: Any, name: str) -> None:
    """Raises InputError where a part's files are too small for the examples that it claims to hold."""
    size = sum(tf.io.gfile.stat(path).length for path in part.filepaths)
    if part.num_examples > size:
        raise InputError(
            f"data set {name!r} should have {part.num_examples} examples in {part.name!r}, but its files "
            f"have {size} bytes; prepare it again"
        )


@contextlib.contextmanager
def _own_features() -> Iterator[None]:
    """Within the block, TFDS takes only its own feature classes from the files of a data set.

    Those files name the classes of features by their modules, and TFDS imports what it does not know: anything that
    lies in the working directory.
    """
    import tensorflow_datasets as tfds

    connector = tfds.features.FeatureConnector
    found = connector.cls_from_name.__func__

    def own(cls: Any, name: str) -> Any:
        if not name.startswith("tensorflow_datasets."):
            raise InputError(
                f"a file of the data set names the feature class {name!r}, which is not one of TensorFlow "
                "Datasets and is not imported: remove it, or choose other data"
            )
        return found(cls, name)

    connector.cls_from_name = classmethod(own)
    try:
        yield
    finally:
        connector.cls_from_name = classmethod(found)


def _builder(name: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    fits = _NAME.fullmatch(name)
    if fits:
        with contextlib.suppress(tfds.core.DatasetNotFoundError):
            return tfds.builder(name, data_dir=data_dir)
    known = tfds.list_builders(with_community_datasets=False)
    stem = re.split("[/:]", name.lower())[0]
    if stem in known and not fits:
        raise InputError(f"data set {name!r} cannot be opened: give NAME, NAME/CONFIG or NAME:VERSION")
    close = difflib.get_close_matches(stem, known, n=3, cutoff=0.5)
    hint = f"; close names there: {', '.join(close)}" if close else ""
    raise InputError(
        f"data {name!r} is not 'digits', not an existing folder of images, not a TFDS data set{hint}; name the "
        "module of one of your own with --imports"
    )


def _keys(builder: Any, name: str) -> tuple[str, str]:
    """The names of the image and the label among the features."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features)
    wanted = builder.info.supervised_keys or features
    images = [key for key in wanted if isinstance(features.get(key), tfds.features.Image)]
    labels = [key for key in wanted if isinstance(features.get(key), tfds.features.ClassLabel)]
    if len(images) != 1 or len(labels) != 1:
        found = {key: type(feature).__name__ for key, feature in features.items()}
        raise InputError(f"data set {name!r} must have one Image and one ClassLabel to classify; it has {found}")
    dtype = np.dtype(features[images[0]].np_dtype).name
    if dtype not in ("uint8", "uint16"):
        raise InputError(f"data set {name!r} has {dtype} images; choose one with uint8 images")
    return images[0], labels[0]


def _prepare(builder: Any, name: str, allowed: bool) -> None:
    """Downloads and prepares what is not there yet. Raises InputError where that is not allowed or not possible."""
    if builder.info.splits:
        return
    root = Path(builder.data_dir).parents[builder.info.full_name.count("/")]
    advice = f"prepare it where there is a network and give that folder as data_dir (now {str(root)!r}), or use digits"
    if not allowed:
        raise InputError(
            f"data set {name!r} is not prepared in {str(root)!r}; if you trust what is there, "
            f"`kcnn train --data tfds:{name} --data-dir {root} --dry-run` prepares it"
        )
    # TFDS itself tries for minutes. Archives already at hand, by whatever route, need no network, nor may a user's own.
    own = not type(builder).__module__.startswith("tensorflow_datasets.")
    if not own and not (root / "downloads").exists() and not _online():
        raise InputError(f"data set {name!r} is not there and there is no network to download it; {advice}")
    try:
        builder.download_and_prepare()
    except Exception as error:  # whatever the builder or the network below it raises
        raise InputError(f"data set {name!r} could not be prepared ({_line(error)}); {advice}") from error


def _online() -> bool:
    if urllib.request.getproxies():
        return True
    try:
        socket.create_connection(("storage.googleapis.com", 443), timeout=5).close()
    except OSError:
        return False
    return True


def _split(prepared: Prepared, part: str, begin: int, end: int) -> Split:
    """The examples of a part from number `begin` to before `end`."""
    import tensorflow_datasets as tfds

    name, builder, classes, size = prepared.name, prepared.builder, len(prepared.classes), end - begin
    info = builder.info.splits[part]
    buffer = min(size, max(1024, _BUFFER_BYTES * info.num_examples // max(1, info.num_bytes)))

    def read() -> tf.data.Dataset:
        records = builder.as_dataset(
            split=f"{part}[{begin}:{end}]",
            shuffle_files=False,
            read_config=tfds.ReadConfig(try_autocache=False),
            decoders=tfds.decode.PartialDecoding(
                {prepared.image: True, prepared.label: True}, decoders={prepared.image: tfds.decode.SkipDecoding()}
            ),
        )
        return records.enumerate()

    def record(epoch: tf.Tensor, index: tf.Tensor, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        label = features[prepared.label]
        message = tf.strings.join(
            [
                f"an example of {name}/{part} has the label ",
                tf.as_string(label),
                f"; {classes} classes are numbered from 0",
            ]
        )
        known = tf.raw_ops.Assert(condition=(label >= 0) & (label < classes), data=[message])
        with tf.control_dependencies([known]):
            label = tf.cast(label, tf.int32)
        return {"image": features[prepared.image], "label": label, "index": index, "epoch": epoch}

    def stream(seed: int, epoch_size: int, start: int) -> tf.data.Dataset:
        base = read()

        @as_written
        def run(epoch: tf.Tensor) -> tf.data.Dataset:
            # The seed of this function's graph: `shuffle` would mix in the program's, and takes no 0 here.
            tf.random.set_seed(1)
            key = tf.cast(mixed_bits(seed, epoch), tf.int64)
            shuffled = base.shuffle(buffer, seed=key, reshuffle_each_iteration=False)
            done = tf.maximum(start - epoch * epoch_size, 0)
            return shuffled.take(epoch_size).skip(done).map(lambda index, features: record(epoch, index, features))

        epochs = tf.data.Dataset.counter(start // epoch_size)
        return epochs.flat_map(run).apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    def once() -> tf.data.Dataset:
        return read().map(as_written(lambda index, features: record(tf.constant(0, tf.int64), index, features)))

    def fingerprint() -> str:
        what = (builder.info.full_name, part, begin, end, info.shard_lengths, info.num_bytes)
        return digest([repr(what).encode()])

    return Split(
        size, None, stream, once, lambda index: f"example {begin + index} of {name}/{part}", fingerprint=fingerprint
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
