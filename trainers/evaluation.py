"""What a network makes of a split: each example counted once."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainers.data import Split, eval_batches, open_data
from trainers.distribute.feed import distribute, naming_broken
from trainers.distribute.strategy import make_strategy
from trainers.evaluation_step import eval_function
from trainers.runs.checkpoints import load_run
from trainers.runs.dashboards import confusion_png
from trainers.runs.folders import same_classes, write_json
from trainers.settings import RunConfig, check

SAMPLE = 2000  # images: enough to know an accuracy within about 2 points


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
    """None where there is nothing to take a share of."""
    return float(part / whole) if whole else None


def mirrored(images: tf.Tensor, side: int) -> list[tf.Tensor]:
    """(n, side, side, 3) as it is and left to right."""
    return [images, images[:, :, ::-1]]


def ten_crops(images: tf.Tensor, side: int) -> list[tf.Tensor]:
    """The corners and the middle, (n, side, side, 3), of larger images, and all mirrored: Krizhevsky et al., 2012."""
    edge = images.shape[1] - side
    places = [(0, 0), (0, edge), (edge, 0), (edge, edge), (edge // 2, edge // 2)]
    crops = [images[:, top : top + side, left : left + side] for top, left in places]
    return [view for crop in crops for view in mirrored(crop, side)]


# Test-time augmentation: what of an image a network sees.
VIEWS: dict[str, Callable[..., list[tf.Tensor]]] = {
    "none": lambda images, side: [images],
    "flip": mirrored,
    "ten-crop": ten_crops,
}
TEN_CROP = 0.875  # largest share of the square's side that a crop takes


def evaluator(model: keras.Model, averages: list[tuple[Any, tf.Variable]], split: Split, classes: int,
              config: RunConfig, strategy: tf.distribute.Strategy, tta: str = "none"
              ) -> Callable[[], Evaluation]:  # fmt: skip
    """A function that evaluates the split with the weights of the moment (or their averages), compiled once."""
    function = eval_function(model, averages, classes, strategy, functools.partial(VIEWS[tta], side=config.resolution))
    batches = tf.constant(-(-split.size // config.batch_size))
    side, crop = config.resolution, config.eval_crop
    if tta == "ten-crop":  # from the square that the central crop would be cut from
        side, crop = round(side / min(crop, TEN_CROP)), 1.0
    # One iterator for all evaluations: TensorFlow may need up to a minute to end one.
    feed = iter(distribute(strategy, config.batch_size, lambda batch, shard: eval_batches(
        split, batch=batch, resolution=side, crop=crop, shard=shard).repeat()))  # fmt: skip

    def evaluate() -> Evaluation:
        with naming_broken(split, lambda: (split.once(), None)):
            sums = {name: value.numpy() for name, value in function(feed, batches).items()}
        n, confusion = split.size, sums["confusion"]
        return Evaluation(float(sums["loss"] / n), float(np.trace(confusion) / n), float(sums["top5"] / n), confusion)

    return evaluate


def evaluate_train_sample(model: keras.Model, split: Split, classes: int, config: RunConfig, images: int = SAMPLE
                          ) -> Evaluation:  # fmt: skip
    """What a network makes of training images seen as those of validation are: not augmented, in evaluation mode.

    Of `images` of them at most, chosen at random, but the same in every run.
    """
    size = min(images, split.size)
    sample = replace(split, size=size, once=lambda: split.stream(0, split.size, 0).take(size))
    config = replace(config, batch_size=min(config.batch_size, size))
    return evaluator(model, [], sample, classes, config, make_strategy("one-device"))()


def evaluate_run(run: str, *, data: str | None, split: str, checkpoint: str, batch_size: int | None,
                 tta: str = "none") -> dict[str, Any]:  # fmt: skip
    """Evaluates a run's network; leaves evaluation.json and confusion.png in its folder. Raises InputError."""
    model, config, classes = load_run(run, checkpoint)
    batch_size = config.batch_size if batch_size is None else batch_size
    check(replace(config.flags, batch_size=batch_size))
    config = replace(config, batch_size=batch_size, data=data or config.data)
    source = open_data(config.data, data_dir=config.data_dir, val_split=config.val_split, seed=config.seed,
                       on_corrupt=config.on_corrupt)  # fmt: skip
    same_classes(classes, source.classes, run)
    strategy = make_strategy("one-device")
    result = evaluator(model, [], getattr(source, split), len(classes), config, strategy, tta)()
    picture = Path(run) / "confusion.png"
    picture.write_bytes(confusion_png(result.confusion, classes))
    figures = {"run": run, "data": config.data, "split": split, "checkpoint": checkpoint, "tta": tta}
    figures |= result.to_dict(classes) | {"picture": str(picture)}
    write_json(Path(run) / "evaluation.json", figures)
    return figures
