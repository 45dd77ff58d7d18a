"""A run: its plan and all that it needs before its first step, and its position after some steps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import tensorflow as tf

import kcnn
from kcnn.errors import InputError
from trainers.checks import checkpoint_seconds, checkpoint_steps
from trainers.data import Source
from trainers.distribute import workers
from trainers.runs.typed import checked
from trainers.settings import RunConfig

if TYPE_CHECKING:
    from trainers.transfer.start import Start

Scalars = dict[str, float]
SERIES = ("loss", "correct", "grad_norm", "lr")  # the figures of a step
# The figures of an epoch that a run's history must hold.
HISTORY = ("loss", "accuracy", "grad_norm", "lr", "val_loss", "val_accuracy", "val_top5")


@dataclass(frozen=True)
class Plan:
    """How long a run is, in steps of `config.global_batch` images, and when it writes."""

    steps_per_epoch: int
    epochs: int
    checkpoint_steps: int
    checkpoint_seconds: float
    log_every: int

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs


@dataclass(frozen=True)
class Run:
    """A run that can start: `training.prepare` has checked all of it."""

    config: RunConfig
    folder: Path
    source: Source
    strategy: tf.distribute.Strategy
    facts: kcnn.Facts
    plan: Plan
    class_weights: tuple[float, ...] | None
    start: "Start | None" = None  # what the network starts from, if not from random weights

    @property
    def chief(self) -> bool:
        """Whether this process writes the run's folder."""
        return workers.is_chief(self.strategy)


@dataclass
class Position:
    """Where a run stands. A checkpoint holds it besides the variables, so that a resumed run goes on exactly there.

    step: the number of steps done. lines: the number of lines in metrics.jsonl. epoch: the figures of each step of the
    current epoch. best: the highest validation accuracy. history: the figures of each epoch. recoveries: how often the
    loss was NaN or infinite; each time the learning rate was halved. steps_per_epoch: of the data at that time; it is 0
    in checkpoints of earlier versions.
    """

    step: int = 0
    lines: int = 0
    epoch: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SERIES})
    best: float = -1.0
    history: list[Scalars] = field(default_factory=list)
    recoveries: int = 0
    steps_per_epoch: int = 0

    def advance(self, series: Mapping[str, Any]) -> None:
        """Moves past the steps whose figures these are."""
        for name in SERIES:
            self.epoch[name].extend(float(v) for v in series[name])
        self.step += len(series["loss"])

    def close_epoch(self, figures: Scalars) -> bool:
        """Adds an epoch's figures to the history. Returns whether its validation accuracy is the best so far."""
        self.history.append(figures)
        self.epoch = {name: [] for name in SERIES}
        better = figures["val_accuracy"] > self.best
        self.best = max(self.best, figures["val_accuracy"])
        return better


def position_of(extra: dict[str, Any], step: int, where: str) -> Position:
    """The Position that a checkpoint of this step holds. Raises InputError where it is damaged."""
    kinds = get_type_hints(Position)
    values = vars(Position()) | extra
    checked(values, kinds, where)
    if unknown := values.keys() - kinds.keys():
        raise InputError(f"{where} remembers {min(unknown)!r}, which is unknown")
    position = Position(**values)
    counts = (position.step, position.lines, position.recoveries, position.steps_per_epoch)
    if position.step != step or min(counts) < 0:
        raise InputError(f"{where} remembers step {position.step}, and its variables are of step {step}")
    if position.epoch.keys() != set(SERIES) or len({len(values) for values in position.epoch.values()}) > 1:
        raise InputError(f"{where} remembers an epoch of {', '.join(position.epoch)}: {', '.join(SERIES)} are needed")
    for figures in position.history:
        checked(figures, dict.fromkeys(HISTORY, float), where)
    return position


def means(series: Mapping[str, list[float]], batch: int) -> Scalars:
    """The mean figures of some steps. They are summed one by one, so that the number of steps in a call changes no
    bit."""
    n = len(series["loss"])
    return {
        "loss": sum(series["loss"]) / n,
        "accuracy": sum(series["correct"]) / (n * batch),
        "grad_norm": sum(series["grad_norm"]) / n,
        "lr": series["lr"][-1],
    }


def make_plan(config: RunConfig, images: int) -> Plan:
    """The plan of a run on so many training images. Raises InputError where the batch is larger than the data."""
    if config.global_batch > images:
        times = f" times accumulate-steps {config.accumulate_steps}" if config.accumulate_steps > 1 else ""
        raise InputError(
            f"batch-size {config.batch_size}{times}: there are {images} training images, so at most that many"
        )
    per_epoch = images // config.global_batch
    if config.precise_bn > per_epoch:
        raise InputError(f"precise-bn {config.precise_bn}: an epoch has {per_epoch} batches, so at most that many")
    steps, seconds = (
        checkpoint_steps(config.checkpoint_every) or per_epoch,
        checkpoint_seconds(config.checkpoint_every) or math.inf,
    )
    return Plan(per_epoch, config.epochs, steps, seconds, max(1, min(100, per_epoch // 4)))


def make_class_weights(config: RunConfig, source: Source) -> tuple[float, ...] | None:
    """A weight for each class, or none. auto: N / (classes * n of the class), as scikit-learn's "balanced". sqrt: in
    proportion to the roots of these, with a mean of 1 over the images, halfway to equal classes (Mahajan et al., 2018,
    https://arxiv.org/abs/1805.00932, section 2.2, draw images so)."""
    if config.class_weights is None:
        return None
    if config.class_weights in ("auto", "sqrt"):
        counts = source.train.class_counts
        if not counts or not all(counts):
            raise InputError(
                f"class-weights {config.class_weights}: {source.name} does not tell how many images each class has; "
                "give NAME=WEIGHT,..."
            )
        if config.class_weights == "auto":
            return tuple(sum(counts) / (len(counts) * n) for n in counts)
        return tuple(sum(counts) / sum(map(math.sqrt, counts)) / math.sqrt(n) for n in counts)
    given: dict[str, float] = {}
    for part in config.class_weights.split(","):
        name, _, weight = part.rpartition("=")
        try:
            given[name.strip()] = float(weight)
        except ValueError:
            raise InputError(f"class-weights {part!r}: auto, sqrt, or NAME=WEIGHT,... is needed") from None
    for name, value in given.items():
        if name not in source.classes:
            some = ", ".join(source.classes[:10]) + (", ..." if len(source.classes) > 10 else "")
            raise InputError(f"class-weights names {name!r}, which is no class of {source.name}: {some}")
        if not 0 < value < math.inf:
            raise InputError(f"class-weights {name}={value:g}: a number above 0 is needed")
    return tuple(given.get(name, 1.0) for name in source.classes)
