"""The verdict on a run: it is read off its history, with its evidence in numbers, and with advice on what to try."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["diverged", "still improving", "overfit", "underfit", "fine"]
Interval = tuple[float, float]
History = Sequence[Mapping[str, float]]

SIGNIFICANT = 0.05  # how often chance alone may look like a trend
TREND_EPOCHS = 4  # the fewest whose order can be significant: one of 4! = 24 is in order by chance
DIVERGED = 2.0  # times a loss that it had, or that guessing has: no noise does that to a mean
COLLAPSED = 0.5  # share of its best skill in training; stronger augmentation on the way costs less than that
OVERFIT_GAP = 0.05  # one image in twenty is right only because it was seen: more than noise and taste explain
TURNED = 1.2  # times its lowest value: a trend that small is no reason to change a recipe
UNDERFIT_SKILL = 0.8  # of the way from guessing to perfect, on the very images it was trained on
LAG = 0.1  # images right in training, with all its handicaps, that are wrong in evaluation: weights are not to blame
PAYS = 0.25  # share of the error that half as many epochs again must promise to take away
ANNEALED = 0.1  # of its peak: below, validation rises because the learning rate falls, and stops with it


@dataclass(frozen=True)
class Verdict:
    """kind; evidence: sentences with numbers; advice: flags with a value, the present one and a reason."""

    kind: Kind
    evidence: tuple[str, ...]
    advice: tuple[str, ...]


def verdict(
    history: History,
    *,
    train_accuracy: float,
    train_images: int,
    val_images: int,
    chance: float,
    guess_loss: float,
    settings: Mapping[str, Any] | None = None,
) -> Verdict:
    """The verdict on a run with this history: one mapping an epoch, as Keras's History has them.

    train_accuracy: the accuracy of the final weights on `train_images` training images that are prepared as those of
    validation are. (The history's figures were measured on augmented images while the weights changed, and say nothing
    of the gap.) chance: the accuracy of always guessing the most frequent class. guess_loss: the loss of answering
    with the classes' frequencies, in nats. settings: the run's flags, for the advice.
    Whichever error is larger, that on training images or the gap, decides between underfit and overfit.
    """
    last, epochs = history[-1], len(history)
    trained, validated = wilson(train_accuracy, train_images), wilson(last["val_accuracy"], val_images)
    gap, gap_low, gap_high = difference(train_accuracy, train_images, last["val_accuracy"], val_images)
    best = max(range(epochs), key=lambda i: history[i]["val_accuracy"])
    where = "the last" if best == epochs - 1 else f"number {best + 1} of {epochs}"
    evidence = (
        f"Right without augmentation: {percent(train_accuracy)} of {train_images:,} training images "
        f"({span(trained)}), {percent(last['val_accuracy'])} of {val_images:,} validation images ({span(validated)}). "
        f"The gap is {100 * gap:.1f} points ({100 * gap_low:.1f} to {100 * gap_high:.1f}).",
        f"The best epoch in validation was {where}: {percent(history[best]['val_accuracy'])}.",
    )

    def concluded(kind: Kind, *more: str, why: str = "") -> Verdict:
        return Verdict(kind, (*more, *evidence), tuple(advice(why or kind, settings or {})))

    if found := diverged(history, val_images, chance, guess_loss):
        return concluded("diverged", found)
    turn = turned(history)
    if not turn and (found := improving(history, val_images)):
        return concluded("still improving", found)
    if turn and gap_low > 0:
        return concluded("overfit", turn)
    if gap_low > OVERFIT_GAP and gap >= 1 - train_accuracy:
        share = gap / (1 - last["val_accuracy"])
        return concluded(
            "overfit", f"The gap is {percent(share)} of the validation error: what it learnt does not carry over."
        )
    if skill(trained[1], chance) >= UNDERFIT_SKILL:
        return concluded("fine")
    if last["accuracy"] - trained[1] > LAG:
        return concluded(
            "underfit",
            f"Of the same training images it had {percent(last['accuracy'])} right while it "
            "was in training: what evaluation uses instead, batch normalization's moving statistics or "
            "the weights' moving average, has not caught up.",
            why="lagging",
        )
    if epochs < TREND_EPOCHS:
        return concluded("still improving", f"After {epochs} epoch{'s' * (epochs != 1)} it is too early for more.")
    return concluded(
        "underfit",
        f"It does not even fit what it was trained on: {percent(skill(trained[1], chance))} "
        f"of the way from guessing ({percent(chance)} right) to perfect at best.",
    )


def diverged(history: History, val_images: int, chance: float, guess_loss: float) -> str | None:
    """A sentence that says how training diverged, or None if it did not."""
    loss, accuracy, val = (series(history, name) for name in ("loss", "accuracy", "val_accuracy"))
    for epoch in np.flatnonzero(~np.isfinite(loss))[:1]:
        return f"Training loss was no number in epoch {epoch + 1}."
    if not math.isfinite(as_float(history[-1]["val_loss"])):
        return "Validation loss is no number."
    low, high = int(loss.argmin()), int(accuracy.argmax())
    blind = wilson(val[-1], val_images)[0] <= chance
    lost = blind or val[-1] < val.max() - noise(val.max(), val_images)
    norms = series(history, "grad_norm")
    steep = f" The gradient's norm was {np.median(norms):.2g} in the median epoch, {norms.max():.2g} at most."
    if lost and loss[-1] > DIVERGED * loss[low] and loss[-1] >= loss[0]:
        return f"Training loss was {loss[low]:.4g} in epoch {low + 1} and is {loss[-1]:.4g} now.{steep}"
    if lost and skill(accuracy[-1], chance) < COLLAPSED * skill(accuracy[high], chance) and val[-1] < val[high]:
        return (
            f"Training accuracy was {percent(accuracy[high])} in epoch {high + 1} and is {percent(accuracy[-1])} "
            f"now.{steep}"
        )
    wrong = history[-1]["val_loss"]
    if len(val) >= TREND_EPOCHS and blind and accuracy[-1] < chance + LAG and wrong > DIVERGED * guess_loss:
        return (
            f"Validation loss is {wrong:.4g}: it is surer of wrong answers than guessing, {guess_loss:.2g}, is.{steep}"
        )
    return None


def improving(history: History, val_images: int) -> str | None:
    """A sentence that says how validation still improves, or None where longer training promises little.

    It looks at the last tenth of the run, at least four epochs. It needs a trend (Kendall's tau), a gain that pays,
    and a learning rate that is still up.
    """
    epochs = len(history)
    tail = max(TREND_EPOCHS, round(epochs / 10))
    if epochs < tail:
        return None
    rate = [figures.get("lr", 1.0) for figures in history]
    if rate[-tail] < ANNEALED * max(rate):
        return None
    for name, sign in (("val_accuracy", 1), ("val_loss", -1)):
        values = series(history, name)
        left = 1 - values[-1] if sign > 0 else values[-1]
        pace = sign * slope(values[-tail:])
        promise = pace * epochs / 2
        floor = noise(values[-1], val_images) if sign > 0 else 0.0
        if rises(sign * values[-tail:]) and promise >= PAYS * left > 0 and promise > floor:
            what, by = ("accuracy rose", f"{100 * pace:.2g} points") if sign > 0 else ("loss fell", f"{pace:.2g}")
            return (
                f"Validation {what} by {by} an epoch in the last {tail} of {epochs} epochs: half as many again "
                f"would take away {percent(min(1.0, promise / left))} of what is left at that pace."
            )
    return None


def turned(history: History) -> str | None:
    """A sentence that says how validation got worse while training still got better, or None if it did not."""
    loss, val = series(history, "loss"), series(history, "val_loss")
    smooth = medians(val)
    low = int(smooth.argmin())
    if not (rises(val[low:]) and smooth[-1] > TURNED * smooth[low] and loss[-1] < loss[low]):
        return None
    return (
        f"Validation loss was lowest about epoch {low + 1}, {smooth[low]:.4g}, and rose to {smooth[-1]:.4g}, while "
        f"training loss fell from {loss[low]:.4g} to {loss[-1]:.4g}."
    )


def wilson(share: float, n: int) -> Interval:
    """The 95 % interval of a share measured on n images. Wilson, 1927: honest near 0 and 1, too."""
    from scipy.stats import binomtest

    interval = binomtest(round(share * n), n).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)


def difference(a: float, n: int, b: float, m: int) -> tuple[float, float, float]:
    """a - b of two shares measured on n and m other images, and its 95 % interval.

    Newcombe, 1998 (https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I), method 10.
    """
    (a_low, a_high), (b_low, b_high) = wilson(a, n), wilson(b, m)
    return a - b, a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low)


def noise(share: float, n: int) -> float:
    """Half of the interval's width: how far a share measured on n images is off by their choice."""
    low, high = wilson(share, n)
    return (high - low) / 2


def rises(values: np.ndarray) -> bool:
    """Whether values in time (n,) have an upward trend beyond chance. Mann, 1945; Kendall, 1938."""
    from scipy.stats import kendalltau

    if len(values) < TREND_EPOCHS or np.ptp(values) == 0:
        return False
    return bool(kendalltau(np.arange(len(values)), values, alternative="greater").pvalue < SIGNIFICANT)


def slope(values: np.ndarray) -> float:
    """The median of the slopes between any two of values in time (n,). Sen, 1968."""
    from scipy.stats import theilslopes

    return float(theilslopes(values).slope)


def medians(values: np.ndarray) -> np.ndarray:
    """Running median of three, (n,) -> (n,): one odd epoch is no turn."""
    padded = np.pad(values, 1, mode="edge")
    return np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)


def skill(accuracy: float, chance: float) -> float:
    """0 for guessing, 1 for perfect."""
    return (accuracy - chance) / max(1e-9, 1 - chance)


def series(history: History, name: str) -> np.ndarray:
    return np.array([as_float(figures[name]) for figures in history])


def as_float(value: float | None) -> float:
    """The value, or infinity where it is None (metrics.jsonl has null for it) or NaN."""
    return math.inf if value is None or math.isnan(value) else float(value)


def percent(share: float) -> str:
    return f"{share:.1%}"


def span(interval: Interval) -> str:
    return f"95% interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def advice(why: str, settings: Mapping[str, Any]) -> list[str]:
    """Lines like `--mixup 0.2 (now 0): ...`, for flags that the run has and that can still change."""
    lines = thawing(settings) if why == "underfit" else []
    for key, better, reason in TRY.get(why, ()):
        now = settings.get(key)
        if key in settings and key not in idle(settings) and (value := better(now)) is not None and value != now:
            was = "the network's" if now is None else plain(now)
            lines.append(f"`--{key.replace('_', '-')} {plain(value)}` (now {was}): {reason}")
    return lines


def thawing(settings: Mapping[str, Any]) -> list[str]:
    """A line that proposes to train what stayed frozen, if anything did to the end."""
    freeze, epochs = settings.get("freeze", "none"), settings.get("epochs") or 0
    if freeze == "none" or settings.get("unfreeze_epoch") or epochs < 2:
        return []
    now = "in the place of `--features-only`" if settings.get("features_only") else "now never"
    epoch = max(2, epochs // 3)
    return [f"`--freeze {freeze} --unfreeze-epoch {epoch}` ({now}): what is frozen learns, too, after the classifier"]


def idle(settings: Mapping[str, Any]) -> set[str]:
    """The flags that change nothing about such a run, or that its weights do not fit."""
    found = {"width"} if settings.get("weights") else set()
    if settings.get("freeze") == "backbone" and not settings.get("unfreeze_epoch"):
        found |= {"drop_path", "bn_momentum"}
    if settings.get("features_only"):
        found |= {"mixup", "cutmix", "augment", "erase", "crop_scale"}
    return found


def plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def times(factor: float, least: float = 0.0, most: float = math.inf) -> Callable[[Any], Any]:
    """A proposal: the present value times a factor, within bounds; whole numbers stay whole."""

    def better(now: Any) -> Any:
        if now is None:
            return None
        value = min(max(now * factor, least), most)
        value = math.ceil(value) if isinstance(now, int) else float(f"{value:.2g}")
        return value if (value > now) == (factor > 1) else None

    return better


def to(value: Any) -> Callable[[Any], Any]:
    """A proposal: this value, where the present one is 0 or None."""
    return lambda now: None if now else value


def off(now: Any) -> Any:
    """A proposal: 0, where the present value is not 0."""
    return 0 if now else None


# Kind -> flag, present value -> a better one or None, and why. The first is what to try first.
TRY: dict[str, tuple[tuple[str, Callable[[Any], Any], str], ...]] = {
    "diverged": (
        ("lr", times(1 / 3), "smaller steps"),
        ("clip_norm", to(1.0), "no step larger than others, whatever the gradient"),
        ("warmup_epochs", times(2, least=1), "small steps while the weights are still random"),
        ("precision", {"mixed_float16": "float32"}.get, "a wider range of numbers"),
    ),
    "still improving": (
        ("epochs", times(2), "it has not come to rest"),
        ("lr", times(2), "larger steps, if there is no time for more epochs"),
    ),
    "overfit": (
        ("mixup", to(0.2), "blends of images cannot be learnt by heart"),
        ("cutmix", to(1.0), "nor can patchworks"),
        ("augment", {"none": "trivialaugment"}.get, "other colours and shapes every time"),
        ("erase", to(0.25), "images with a part missing"),
        ("crop_scale", times(0.5, least=0.08), "smaller crops: more different images"),
        ("weight_decay", times(3, least=1e-4), "smaller weights"),
        ("drop", to(0.2), "the classifier may not lean on single features"),
        ("drop_path", to(0.1), "nor the network on single blocks"),
        ("label_smoothing", to(0.1), "no reward for being too sure"),
        ("sam", to(0.05), "a flat minimum carries over better; steps take twice as long"),
        ("width", times(0.5, least=0.25), "a network with less room to remember in"),
    ),
    "underfit": (
        ("epochs", times(2), "more time to fit"),
        ("lr", times(3), "larger steps; or smaller ones, if the loss jumps about"),
        ("mixup", off, "an easier task"),
        ("cutmix", off, "an easier task"),
        ("augment", dict.fromkeys(("randaugment", "trivialaugment", "autoaugment"), "none").get, "an easier task"),
        ("erase", off, "an easier task"),
        ("crop_scale", times(3, most=0.35), "an easier task: larger crops"),
        ("drop", off, "all features at work"),
        ("drop_path", off, "all blocks at work"),
        ("weight_decay", times(0.1), "room for larger weights"),
        ("width", times(1.5), "a network that can hold more"),
        ("resolution", times(1.5), "details to see"),
    ),
    "lagging": (
        ("bn_momentum", lambda now: min(now, 0.9), "moving statistics that follow within tens of steps"),
        ("ema", times(0.99), "an average that follows faster"),
        ("epochs", times(2), "more steps for both"),
    ),
}  # fmt: skip
