"""The evaluation of a network on a split: each example counts once."""

import contextlib
import functools
import itertools
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import track

from kcnn.errors import InputError
from trainers.checks import check
from trainers.data import Split, eval_batches, sample
from trainers.data.held_out import WHOLE, Part, open_held_out
from trainers.distribute.feed import distribute, naming_broken
from trainers.distribute.signals import leaving
from trainers.distribute.strategy import make_strategy
from trainers.evaluation_step import answer_function, eval_function
from trainers.reports import evaluation_board, mistakes
from trainers.reports.calibration import LARGEST, calibration, f1_interval, interval
from trainers.reports.mistakes import confused
from trainers.runs import files
from trainers.runs.checkpoints import load_run, need_finite
from trainers.runs.dashboards import confusion_png
from trainers.settings import RunConfig

FIGURES, PICTURE, PAGE = "evaluation.json", "confusion.png", "mistakes.html"
TOP = 5  # classes that are kept of each answer
SAMPLE = 2000  # images, which measure an accuracy within about 2 points


@dataclass(frozen=True)
class Evaluation:
    """loss in nats, accuracy and top5 as shares; confusion (classes, classes) counts by [label, prediction]."""

    loss: float
    accuracy: float
    top5: float
    confusion: np.ndarray

    def to_dict(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """JSON: the totals, for each class its count, recall, precision and F1 score, with their 95 % intervals, and
        the classes that are most often taken for each other."""
        hit, actual, predicted = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        per_class = [
            {
                "class": name,
                "count": int(actual[i]),
                "recall": ratio(hit[i], actual[i]),
                "recall_interval": interval(hit[i], actual[i]),
                "precision": ratio(hit[i], predicted[i]),
                "precision_interval": interval(hit[i], predicted[i]),
                "f1": ratio(2 * hit[i], actual[i] + predicted[i]),
                "f1_interval": f1_interval(hit[i], actual[i], predicted[i]),
            }
            for i, name in enumerate(classes)
        ]
        return {
            "images": int(actual.sum()),
            "loss": self.loss,
            "accuracy": self.accuracy,
            "accuracy_interval": interval(hit.sum(), actual.sum()),
            "top5": self.top5,
            "per_class": per_class,
            "most_confused": confused(self.confusion, classes),
            "confusion": self.confusion.astype(int).tolist(),
        }


@dataclass(frozen=True)
class Answers:
    """What a network says of each image of a split, by index.

    labels: int32 (n,). likely, shares: the likeliest classes of each and their probabilities, best first, (n, top).
    own: the probability of its label. loss: in nats. top5: whether its label is among the five likeliest. at, logits:
    some images, drawn from all, and their logits, float32 (m, classes).
    """

    labels: np.ndarray
    likely: np.ndarray
    shares: np.ndarray
    own: np.ndarray
    loss: np.ndarray
    top5: np.ndarray
    at: np.ndarray
    logits: np.ndarray

    def evaluation(self, classes: int) -> Evaluation:
        n, cells = len(self.labels), self.labels.astype(np.int64) * classes + self.likely[:, 0]
        confusion = np.bincount(cells, minlength=classes**2).reshape(classes, classes)
        hits = np.trace(confusion)
        return Evaluation(
            float(self.loss.sum(dtype=np.float64) / n), float(hits / n), float(self.top5.mean()), confusion
        )

    def calibration(self) -> dict[str, Any]:
        right = self.likely[:, 0] == self.labels
        return calibration(self.shares[:, 0], right, self.logits, self.labels[self.at])


def ratio(part: float, whole: float) -> float | None:
    """part / whole; None where the whole is 0."""
    return float(part / whole) if whole else None


def mirrored(images: tf.Tensor, side: int) -> list[tf.Tensor]:
    """Images (n, side, side, 3) as they are, and the same mirrored from left to right."""
    return [images, images[:, :, ::-1]]


def ten_crops(images: tf.Tensor, side: int) -> list[tf.Tensor]:
    """The corners and the middle of larger images, (n, side, side, 3) each, and all of these mirrored: Krizhevsky et
    al., 2012."""
    edge = images.shape[1] - side
    places = [(0, 0), (0, edge), (edge, 0), (edge, edge), (edge // 2, edge // 2)]
    crops = [images[:, top : top + side, left : left + side] for top, left in places]
    return [view for crop in crops for view in mirrored(crop, side)]


# Test-time augmentation: which views of an image a network sees.
VIEWS: dict[str, Callable[..., list[tf.Tensor]]] = {
    "none": lambda images, side: [images],
    "flip": mirrored,
    "ten-crop": ten_crops,
}
TEN_CROP = 0.875  # largest share of the square's side that a crop takes


def evaluator(
    model: keras.Model,
    averages: list[tuple[Any, tf.Variable]],
    split: Split,
    classes: int,
    config: RunConfig,
    strategy: tf.distribute.Strategy,
    tta: str = "none",
) -> Callable[[], Evaluation]:
    """A function, compiled once, that evaluates the split with the current weights, or with their `averages`."""
    # It imports this module.
    from trainers.multilabel.scores import MultiLabelEvaluation, score_function

    multi_label, views = split.label_sets is not None, functools.partial(VIEWS[tta], side=config.resolution)
    function = (score_function if multi_label else eval_function)(model, averages, classes, strategy, views)
    replicas = strategy.num_replicas_in_sync
    size = min(config.batch_size, -(-split.size // replicas) * replicas)  # a larger batch would only be padded
    batches = tf.constant(-(-split.size // size))
    side, crop = square(config, tta)
    # One iterator for all evaluations: TensorFlow may need up to a minute to end one.
    feed = iter(
        distribute(
            strategy,
            size,
            lambda batch, shard: eval_batches(
                split, batch=batch, resolution=side, crop=crop, method=config.interpolation, shard=shard
            ).repeat(),
        )
    )

    def evaluate() -> Evaluation:
        with naming_broken(split, lambda: (split.once(), None)):
            sums = {name: value.numpy() for name, value in function(feed, batches).items()}
        if multi_label:
            return MultiLabelEvaluation.of(**sums)
        n, confusion = split.size, sums["confusion"]
        return Evaluation(float(sums["loss"] / n), float(np.trace(confusion) / n), float(sums["top5"] / n), confusion)

    return evaluate


def square(config: RunConfig, tta: str) -> tuple[int, float]:
    """The side in pixels and the crop of the images from which a network's views are cut."""
    if tta == "ten-crop":  # from the square that the central crop would be cut from
        return round(config.resolution / min(config.eval_crop, TEN_CROP)), 1.0
    return config.resolution, config.eval_crop


def answers(model: keras.Model, split: Split, classes: int, config: RunConfig, tta: str = "none") -> Answers:
    """What the network says of each image of a split, with a progress bar on a terminal."""
    n, top = split.size, min(TOP, classes)
    answer = answer_function(model, classes, top, functools.partial(VIEWS[tta], side=config.resolution))
    side, crop = square(config, tta)
    batches = eval_batches(
        split, batch=min(config.batch_size, n), resolution=side, crop=crop, method=config.interpolation
    )
    chosen = np.sort(np.random.default_rng(0).permutation(n)[: max(1, int(LARGEST / classes))])
    kept = np.full(n, -1)
    kept[chosen] = np.arange(len(chosen))
    found = Answers(
        labels=np.zeros(n, np.int32), likely=np.zeros((n, top), np.int32), shares=np.zeros((n, top), np.float32),
        own=np.zeros(n, np.float32), loss=np.zeros(n, np.float32), top5=np.zeros(n, bool), at=chosen,
        logits=np.zeros((len(chosen), classes), np.float32),
    )  # fmt: skip
    console = Console(stderr=True)
    with naming_broken(split, lambda: (split.once(), None)):
        for batch in track(batches, "evaluating", console=console, transient=True, disable=not sys.stderr.isatty()):
            index = batch["index"].numpy()
            real = index >= 0
            index = index[real]
            values = {name: value.numpy()[real] for name, value in answer(batch["image"], batch["label"]).items()}
            found.labels[index] = batch["label"].numpy()[real]
            for name in ("likely", "shares", "own", "loss", "top5"):
                getattr(found, name)[index] = values[name]
            mine = kept[index] >= 0
            found.logits[kept[index[mine]]] = values["logits"][mine]
    return found


def evaluate_train_sample(
    model: keras.Model, split: Split, classes: int, config: RunConfig, images: int = SAMPLE
) -> Evaluation:
    """The evaluation of a network on training images that are prepared as those of validation are, not augmented.

    At most `images` of them are evaluated, drawn from all classes; every run draws the same ones.
    """
    one_device = make_strategy("one-device")
    return evaluator(model, [], sample(split, images, classes), classes, config, one_device)()


def evaluate_run(
    run: str,
    *,
    data: str | None = None,
    split: Part | None = None,
    checkpoint: str = "last",
    batch_size: int | None = None,
    tta: str = "none",
) -> dict[str, Any]:
    """Evaluates a run's network and returns the figures. Raises InputError.

    For `data` and `split` see `open_held_out`. Each evaluation leaves evaluation.json, confusion.png and mistakes.html
    in a folder of its own, RUN/evaluations/<split or data>-<time>/; RUN itself holds copies of the newest ones.
    """
    from trainers.multilabel.outcome import with_thresholds

    model, config, classes = load_run(run, checkpoint)
    config = replace(config, batch_size=config.batch_size if batch_size is None else batch_size)
    check(replace(config.flags, batch_size=config.batch_size))
    held_out = open_held_out(config, classes, run, data, split)
    stem = Path(held_out.data).absolute().name if held_out.part == WHOLE else held_out.part
    with new_folder(Path(run) / "evaluations", stem) as folder:
        if config.multi_label:
            result = evaluator(model, [], held_out.split, len(classes), config, make_strategy("one-device"), tta)()
            result = with_thresholds(result, Path(run), checkpoint)
        else:
            said = answers(model, held_out.split, len(classes), config, tta)
            result = said.evaluation(len(classes))
        need_finite(result.loss, f"the loss on {held_out.place}", checkpoint)
        figures = {
            "run": run,
            "data": held_out.data,
            "split": held_out.part,
            "place": held_out.place,
            "checkpoint": checkpoint,
            "tta": tta,
        } | result.to_dict(classes)
        if not config.multi_label:  # whose images have no one label that they could be taken for another with
            figures |= {"calibration": said.calibration(), "picture": str(folder / PICTURE), "page": str(folder / PAGE)}
            picture = confusion_png(result.confusion, classes)
            page = mistakes.page(figures, held_out.split, said, classes)
            for place in (folder, Path(run)):
                files.write_bytes(place / PICTURE, picture)
                files.write_text(place / PAGE, page)
            evaluation_board.show(folder, figures, said, held_out.split, classes)
        for place in (folder, Path(run)):
            files.write_json(place / FIGURES, figures)
    return figures


@contextlib.contextmanager
def new_folder(parent: Path, stem: str) -> Iterator[Path]:
    """A new folder parent/<stem>-<time>, made first so that nobody works in vain; gone again if the block fails."""
    word = re.sub(r"[^\w.-]+", "-", stem).strip(".-")[:50] or "data"
    name = f"{word}-{time.strftime('%Y%m%d-%H%M%S')}"
    if parent.is_symlink():
        raise InputError(f"{parent} is a symbolic link, which a run does not follow: put a folder there")
    parent.mkdir(exist_ok=True)
    for folder in (parent / (f"{name}-{i}" if i else name) for i in itertools.count()):
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            break
    try:
        with leaving():
            yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            parent.rmdir()  # only where it is empty
        raise
