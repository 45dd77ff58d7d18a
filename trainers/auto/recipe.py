"""`--recipe auto`: settings that follow from a glance at the training images, the network and the length of the run.

What it chooses becomes plain settings before the run begins; a flag that the user gives is never changed. The rules are
data: each has a reason, and applies where that holds. Of several that set the same thing, the last one counts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from kcnn.builder import smallest
from trainers.auto.glance import Glance
from trainers.config import TrainConfig
from trainers.distribute.surroundings import strategy_name
from trainers.recipes import DEFAULT, Settings, choose
from trainers.settings import own_or_named

LARGE = 200_000  # training images: for so many the papers' recipes were made
FEW, ENOUGH = 1_000, 20_000  # updates: so few are to be made more of, and so many leave time for slow averages
OFTEN = 30  # epochs: images that are seen so often are learnt by heart, where nothing changes them
SMALL = 64  # pixels of an image that was cut out around what it shows, where it is grey, too
SIDES = (32, 48, 64, 96, 128, 160, 192)  # resolutions in pixels
UNBALANCED = 2.0  # times as many images in one class as in another: more than chance makes of equal ones
# The peak of the learning rate at a batch of 32, by optimizer. It grows with the batch's root (Adam and its kin) or in
# proportion to it (SGD): Malladi et al., 2022 (https://arxiv.org/abs/2205.10287), and Goyal et al., 2017
# (https://arxiv.org/abs/1706.02677).
RATES = {"adamw": 2e-3, "lamb": 4e-3, "lion": 2e-4, "rmsprop": 5e-3, "sgd": 2.5e-2}
UNNORMALIZED = 0.1  # times the rate, for networks without batch normalization
LATER = 0.5  # times the rate, where there are enough steps


@dataclass(frozen=True)
class Facts:
    """All that the rules look at.

    own: whether the network is the user's own, which is trained as it is. normalized: whether it has batch
    normalization. side, least: its resolution in pixels, and the least that it can take; equal where the resolution is
    settled. batch, epochs: those of the run.
    """

    seen: Glance
    asked: TrainConfig
    own: bool
    normalized: bool
    side: int
    least: int
    epochs: int
    batch: int

    @property
    def optimizer(self) -> str:
        return self.asked.optimizer or DEFAULT["optimizer"]

    @property
    def steps(self) -> int:
        return self.epochs * max(1, self.seen.images // self.batch)

    @property
    def large(self) -> bool:
        return self.seen.images >= LARGE

    @property
    def few_steps(self) -> bool:
        return not self.large and self.steps < ENOUGH

    @property
    def glyphs(self) -> bool:
        """Whether the images are characters or signs: named so, or grey or of two tones on a plain ground."""
        seen = self.seen
        return seen.characters or (seen.grey > 0.9 and seen.plain > 0.9) or seen.drawn > 0.9

    @property
    def framed(self) -> bool:
        """Whether the images were cut out around what they show, as small grey ones are: what is at the rim counts."""
        return self.glyphs or (self.seen.grey > 0.9 and (self.seen.side or math.inf) <= SMALL)

    @property
    def objects(self) -> bool:
        """Whether most images show one thing on a plain ground."""
        return self.seen.extent is not None

    @property
    def pixels(self) -> int:
        """The resolution that shows what is there: no more pixels than images have, as far as the network can."""
        fits = [side for side in SIDES if side >= self.least and side >= 0.9 * (self.seen.side or math.inf)]
        return min([*fits, self.side])

    @property
    def rate(self) -> float:
        """The peak of the learning rate."""
        share = self.batch / 32
        rate = RATES[self.optimizer] * (share if self.optimizer == "sgd" else math.sqrt(share))
        rate *= 1.0 if self.few_steps else LATER
        return float(f"{rate * (1 if self.normalized else UNNORMALIZED):.2g}")


@dataclass(frozen=True)
class Rule:
    """about: "images" or "training". because: the reason, in words of which {} are facts."""

    about: str
    holds: Callable[[Facts], bool]
    because: Callable[[Facts], str]
    settings: Callable[[Facts], Settings]


RULES = (
    Rule("images", lambda f: not f.own and f.pixels < f.side,
         lambda f: f"{f.pixels} pixels, as they have about {f.seen.side}",
         lambda f: {"resolution": f.pixels}),
    # Small crops make many images of one, and take a run of many epochs.
    Rule("images", lambda f: not f.large,
         lambda f: f"crops of {crop(f):.0%} and more",
         lambda f: {"crop_scale": crop(f)}),
    Rule("images", lambda f: f.glyphs,
         lambda f: "not mirrored, as they look like characters",
         lambda f: {"flip": False}),
    Rule("images", lambda f: f.framed,
         lambda f: "evaluated whole, as they are small and grey" if not f.glyphs else "evaluated whole",
         lambda f: {"eval_crop": 1.0}),
    Rule("images", lambda f: bool(f.seen.handed) and not f.glyphs,
         lambda f: f"not mirrored, as {f.seen.handed}",
         lambda f: {"flip": False}),
    Rule("images", lambda f: not f.large and f.epochs >= OFTEN and not f.glyphs,
         lambda f: f"other colours and blends, as each is seen {f.epochs} times",
         lambda f: {"augment": "trivialaugment", "erase": 0.1}
         | ({"mixup": 0.2, "mix_off_epochs": f.epochs // 6} if f.batch > 2 and f.asked.loss != "focal" else {})),
    Rule("training", lambda f: f.large,
         lambda f: "as usual for large data", lambda f: {}),
    Rule("training", lambda f: not f.large,
         lambda f: f"{f.optimizer} at {f.asked.lr or f'{f.rate:g}'}, {f.steps:,} steps of {f.batch} images",
         lambda f: {"lr_base": f.rate * 256 / f.batch, "batch_size": f.batch, "clip_norm": 1.0,
                    "warmup_epochs": 0.0 if f.asked.schedule == "one-cycle" else f.epochs / 10}),
    Rule("training", lambda f: f.few_steps and not f.own,
         lambda f: "moving statistics that follow",
         lambda f: {"bn_momentum": 0.9}),
    Rule("training", lambda f: f.few_steps and not f.own and f.epochs < OFTEN,
         lambda f: "no dropout",
         lambda f: {"drop": 0.0, "drop_path": 0.0}),
    Rule("training", lambda f: f.seen.balance >= UNBALANCED,
         lambda f: f"classes weighted, as one has {f.seen.balance:.0f} times the images of another",
         lambda f: {"class_weights": "sqrt"}),
)  # fmt: skip


def crop(f: Facts) -> float:
    """The least share of an image that a crop covers."""
    if f.framed:
        return 0.8
    if f.epochs < OFTEN:
        return 0.75
    return 0.5 if f.objects or f.steps < FEW else 0.25


def undecided(config: TrainConfig) -> bool:
    """Whether a glance at the data is to decide some settings. Where all are given, as in a run's config.yaml, it
    would change nothing."""
    auto = config.recipe in (None, "auto") and choose(config.data, config.weights) == "auto"
    return auto and any(getattr(config, key) is None for key in DEFAULT)


def facts_of(config: TrainConfig, seen: Glance, own: str | None = None) -> Facts:
    """own: the JSON of the user's own network."""
    arch = own_or_named(config.arch)
    settled = own or config.resolution or config.phi or config.compound or config.progressive
    side = config.resolution or arch.resolution
    epochs = config.epochs or DEFAULT["epochs"]
    return Facts(
        seen,
        config,
        own=own is not None,
        normalized="BatchNormalization" in own if own else arch.style.norm == "batch",
        side=side,
        least=side if settled else smallest(arch),
        epochs=epochs,
        batch=config.batch_size or usual_batch(config, seen.images, epochs),
    )


def usual_batch(config: TrainConfig, images: int, epochs: int) -> int:
    """Images in a batch: fewer where that makes more steps of few images. Several devices share the usual one."""
    usual = DEFAULT["batch_size"]
    if images >= LARGE or strategy_name(config.strategy, config.replicas) != "one-device":
        return usual
    seen = images * epochs
    batch = usual if seen >= ENOUGH * usual else usual // 2 if seen >= FEW * usual // 2 else usual // 4
    while batch > 2 and batch * 4 > images:
        batch //= 2
    return batch


def decided(config: TrainConfig, seen: Glance, own: str | None = None) -> tuple[TrainConfig, tuple[str, ...]]:
    """The configuration with what the rules choose where it says nothing, and the reasons in three lines."""
    facts = facts_of(config, seen, own)
    chosen: Settings = {"batch_size": facts.batch} if config.batch_size is None else {}
    because: dict[str, list[str]] = {"images": [], "training": []}
    for rule in RULES:
        if rule.holds(facts):
            settings = {key: value for key, value in rule.settings(facts).items() if getattr(config, key) is None}
            chosen |= settings
            if settings or not rule.settings(facts):
                because[rule.about].append(rule.because(facts))
    lines = (description(facts), *(f"  {about}: {'; '.join(why) or 'as usual'}" for about, why in because.items()))
    return replace(config, recipe="auto", **chosen), lines


def description(f: Facts) -> str:
    seen = f.seen
    kind = "like characters" if f.glyphs else "of one thing on a plain ground" if f.objects else "like photographs"
    size = f"of about {seen.side} pixels, " if seen.side else ""
    return f"recipe auto: {seen.images:,} images of {seen.classes} classes, {size}{kind}; {f.epochs} epochs"
