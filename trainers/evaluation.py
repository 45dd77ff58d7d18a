"""The evaluation of a network on a split: each example counts once."""

import contextlib
import functools
import itertools
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.checks import check
from trainers.data import Split, eval_batches, sample
from trainers.data.held_out import WHOLE, Part, open_held_out
from trainers.distribute.feed import distribute, naming_broken
from trainers.distribute.signals import leaving
from trainers.distribute.strategy import make_strategy
from trainers.evaluation_step import eval_function
from trainers.runs import files
from trainers.runs.checkpoints import load_run, need_finite
from trainers.runs.dashboards import confusion_png
from trainers.settings import RunConfig

FIGURES, PICTURE = "evaluation.json", "confusion.png"
SAMPLE = 2000  # images, which measure an accuracy within about 2 points


@dataclass(frozen=True)
class Evaluation:
    """loss in nats, accuracy and top5 as shares; confusion (classes, classes) counts by [label, prediction]."""

    loss: float
    accuracy: float
    top5: float
    confusion: np.ndarray

    def to_dict(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """JSON: the totals, and for each class its count, recall, precision and F1 score."""
        hit, actual, predicted = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        per_class = [
            {
                "class": name,
                "count": int(actual[i]),
                "recall": ratio(hit[i], actual[i]),
                "precision": ratio(hit[i], predicted[i]),
                "f1": ratio(2 * hit[i], actual[i] + predicted[i]),
            }
            for i, name in enumerate(classes)
        ]
        return {
            "images": int(actual.sum()),
            "loss": self.loss,
            "accuracy": self.accuracy,
            "top5": self.top5,
            "per_class": per_class,
            "confusion": self.confusion.astype(int).tolist(),
        }


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
    side, crop = config.resolution, config.eval_crop
    if tta == "ten-crop":  # from the square that the central crop would be cut from
        side, crop = round(side / min(crop, TEN_CROP)), 1.0
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

    For `data` and `split` see `open_held_out`. Each evaluation leaves evaluation.json and confusion.png in a folder of
    its own, RUN/evaluations/<split or data>-<time>/; RUN itself holds copies of the newest ones.
    """
    from trainers.multilabel.outcome import with_thresholds

    model, config, classes = load_run(run, checkpoint)
    config = replace(config, batch_size=config.batch_size if batch_size is None else batch_size)
    check(replace(config.flags, batch_size=config.batch_size))
    held_out = open_held_out(config, classes, run, data, split)
    stem = Path(held_out.data).absolute().name if held_out.part == WHOLE else held_out.part
    with new_folder(Path(run) / "evaluations", stem) as folder:
        strategy = make_strategy("one-device")
        result = evaluator(model, [], held_out.split, len(classes), config, strategy, tta)()
        if config.multi_label:
            result = with_thresholds(result, Path(run), checkpoint)
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
            figures["picture"] = str(folder / PICTURE)
            picture = confusion_png(result.confusion, classes)
            for place in (folder, Path(run)):
                files.write_bytes(place / PICTURE, picture)
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
