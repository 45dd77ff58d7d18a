"""TrainConfig: the only source of a run's flags, their defaults and help, and of the YAML in its folder."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from trainers.recipes import RECIPES

WHAT, DATA, TRAIN, DEVICES, RUN = (Group.create_ordered(name) for name in
                                   ("Network", "Data", "Training", "Devices", "Run"))  # fmt: skip
RECIPE = "(default: the recipe's)"
RECIPE_S: Any = None  # until `resolve` puts the recipe's value in its place


def flag(group: Group, help: str, **more: Any) -> Parameter:
    return Parameter(group=group, help=help, **more)


@Parameter(name="*")
@dataclass(frozen=True)
class TrainConfig:
    """What a training run is. A value of None is for the recipe, the data or the machine to say; see `resolve`."""

    arch: Annotated[str, flag(WHAT, "Name of the network; `kcnn info --list` has them all.")] = "efficientnet-b0"
    width: Annotated[float, flag(WHAT, "Multiplier of its widths.")] = 1.0
    depth: Annotated[float, flag(WHAT, "Multiplier of its depths.")] = 1.0
    phi: Annotated[
        float, flag(WHAT, "Compound scaling: depth x alpha^phi, width x beta^phi, resolution x gamma^phi; 0: none.")
    ] = 0.0
    alpha: Annotated[float, flag(WHAT, "Growth of the depth with phi (default: --compound's, else 1.2).")] = RECIPE_S
    beta: Annotated[float, flag(WHAT, "Growth of the width with phi (default: --compound's, else 1.1).")] = RECIPE_S
    gamma: Annotated[float, flag(WHAT, "Growth of the resolution with phi (default: --compound's, else 1.15).")] = (
        RECIPE_S
    )
    compound: Annotated[
        str | None,
        flag(WHAT, "What tuning.compound found: alpha, beta, gamma, and its network's stem and resolution at phi 0."),
    ] = None
    resolution: Annotated[int, flag(WHAT, f"Side of its square input in pixels {RECIPE}, or the network's own.")] = (
        RECIPE_S
    )
    progressive: Annotated[
        list[int] | None,
        flag(
            WHAT,
            "Resolutions of equal stages before the last one, which has --resolution; augmentation grows with them.",
            consume_multiple=True,
            negative="",
        ),
    ] = None
    stem: Annotated[
        Literal["auto", "standard", "small"],
        flag(WHAT, "Strides of the stem; auto: small (none) for inputs of 64 pixels and less."),
    ] = "auto"
    drop: Annotated[float | None, flag(WHAT, "Dropout before the classifier (default: the network's).")] = None
    drop_path: Annotated[
        float | None,
        flag(
            WHAT, "Stochastic depth, at its last block (default: the network's); networks without shortcuts ignore it."
        ),
    ] = None
    bn_momentum: Annotated[
        float | None,
        flag(
            WHAT,
            "Share of its old value that batch normalization's moving mean keeps in a step (default: the network's).",
        ),
    ] = None
    weights: Annotated[str | None, flag(WHAT, "Weights to start from (default: random).")] = None

    data: Annotated[
        str,
        flag(
            DATA,
            "digits (embedded, offline), tfds:NAME, or a folder with train/ and val/ of one folder a class each, "
            "or just one folder a class.",
        ),
    ] = "digits"
    data_dir: Annotated[str | None, flag(DATA, "Where tensorflow-datasets keeps its data.")] = None
    val_split: Annotated[float, flag(DATA, "Share for validation of data that has no split of its own.")] = 0.1
    on_corrupt: Annotated[
        Literal["error", "skip"],
        flag(DATA, "A broken image: stop and name it, or decode all once beforehand and leave broken ones out."),
    ] = "error"
    data_changed: Annotated[
        Literal["refuse", "accept"],
        flag(
            DATA,
            "What to do when a run is resumed and its data is no longer what it began with: refuse to go on, or accept "
            "the data as it is now, begin the epoch under way anew, and say so in the run's card.",
        ),
    ] = "refuse"
    crop_scale: Annotated[
        float,
        flag(DATA, f"Smallest share of an image's area that a random training crop has {RECIPE}; 1: no random crops."),
    ] = RECIPE_S
    flip: Annotated[bool, flag(DATA, f"Mirror training images at random {RECIPE}.")] = RECIPE_S
    augment: Annotated[
        Literal["none", "randaugment", "trivialaugment", "autoaugment"],
        flag(DATA, f"Policy that changes colours and shapes of training images at random {RECIPE}."),
    ] = RECIPE_S
    augment_magnitude: Annotated[
        float, flag(DATA, f"Strength of randaugment, 0 to 10 (timm's scale; torchvision's goes to 30) {RECIPE}.")
    ] = RECIPE_S
    augment_std: Annotated[
        float, flag(DATA, f"Standard deviation of that strength, from operation to operation {RECIPE}.")
    ] = RECIPE_S
    augment_layers: Annotated[int, flag(DATA, f"Operations of randaugment in a row {RECIPE}.")] = RECIPE_S
    augment_probability: Annotated[
        float, flag(DATA, f"Probability that randaugment applies each of them {RECIPE}.")
    ] = RECIPE_S
    color_jitter: Annotated[
        float, flag(DATA, f"Brightness, contrast and saturation change by a factor of 1 -/+ up to this {RECIPE}.")
    ] = RECIPE_S
    erase: Annotated[
        float, flag(DATA, f"Probability that a box of a training image is replaced by noise {RECIPE}.")
    ] = RECIPE_S
    repeats: Annotated[int, flag(DATA, f"How often a batch holds each image, differently augmented {RECIPE}.")] = (
        RECIPE_S
    )
    mixup: Annotated[
        float,
        flag(
            DATA, f"Blend pairs of images and of labels, by a share drawn from Beta(MIXUP, MIXUP); 0: do not {RECIPE}."
        ),
    ] = RECIPE_S
    cutmix: Annotated[
        float,
        flag(
            DATA,
            f"Paste a box of one image into another, its area drawn from Beta(CUTMIX, CUTMIX); 0: do not {RECIPE}.",
        ),
    ] = RECIPE_S
    mix_switch: Annotated[
        float, flag(DATA, f"Probability that a batch gets cutmix rather than mixup, where both are on {RECIPE}.")
    ] = RECIPE_S
    mix_off_epochs: Annotated[int, flag(DATA, f"Epochs without mixup and cutmix at the end of the run {RECIPE}.")] = (
        RECIPE_S
    )
    eval_crop: Annotated[
        float, flag(DATA, f"Side of the central crop in evaluation, as a share of the shorter side {RECIPE}.")
    ] = RECIPE_S

    recipe: Annotated[
        str | None,
        flag(
            TRAIN,
            f"Named settings, which flags override: {', '.join(RECIPES)} (default: digits for digits, else default).",
        ),
    ] = None
    epochs: Annotated[int, flag(TRAIN, f"Passes over the training images {RECIPE}.")] = RECIPE_S
    batch_size: Annotated[int, flag(TRAIN, f"Global batch: images in a step, over all replicas {RECIPE}.")] = RECIPE_S
    accumulate_steps: Annotated[
        int,
        flag(
            TRAIN,
            "Batches whose gradients are summed before a step: as a batch that many times larger, in the "
            "memory of one. Batch normalization still sees one batch at a time.",
        ),
    ] = 1
    optimizer: Annotated[
        Literal["sgd", "rmsprop", "adamw", "lamb", "lion"],
        flag(TRAIN, f"sgd (Nesterov), rmsprop: decay as L2 in the gradient; the others: decoupled {RECIPE}."),
    ] = RECIPE_S
    lr: Annotated[float, flag(TRAIN, "Peak learning rate (default: lr-base times batch / 256).")] = RECIPE_S
    lr_base: Annotated[float, flag(TRAIN, f"Peak learning rate for a batch of 256 {RECIPE}.")] = RECIPE_S
    momentum: Annotated[float, flag(TRAIN, f"Of sgd and rmsprop {RECIPE}.")] = RECIPE_S
    epsilon: Annotated[float, flag(TRAIN, f"Of rmsprop, inside its square root as in TensorFlow 1 {RECIPE}.")] = (
        RECIPE_S
    )
    weight_decay: Annotated[float, flag(TRAIN, f"Of kernels; biases and normalization go without {RECIPE}.")] = RECIPE_S
    layer_decay: Annotated[
        float,
        flag(TRAIN, f"Learning rate of a block as a share of the next one's, for fine-tuning; 1: the same {RECIPE}."),
    ] = RECIPE_S
    schedule: Annotated[
        Literal["cosine", "step", "exponential", "one-cycle", "constant"],
        flag(TRAIN, f"Learning rate after the warmup; one-cycle rises by itself {RECIPE}."),
    ] = RECIPE_S
    step_epochs: Annotated[
        list[float],
        flag(
            TRAIN,
            "Epochs at which step multiplies it by step-gamma; one number: every so many. exponential does so evenly "
            f"{RECIPE}.",
            consume_multiple=True,
            negative="",
        ),
    ] = RECIPE_S
    step_gamma: Annotated[float, flag(TRAIN, f"Factor of step and exponential {RECIPE}.")] = RECIPE_S
    min_lr: Annotated[float, flag(TRAIN, f"The schedule goes no lower {RECIPE}.")] = RECIPE_S
    warmup_epochs: Annotated[float, flag(TRAIN, f"Epochs in which it grows from 0 {RECIPE}.")] = RECIPE_S
    loss: Annotated[
        Literal["cross-entropy", "bce", "focal"],
        flag(TRAIN, f"bce: a yes or no for each class; focal: cross entropy, less of what is right already {RECIPE}."),
    ] = RECIPE_S
    focal_gamma: Annotated[float, flag(TRAIN, f"How much less; 0: cross entropy {RECIPE}.")] = RECIPE_S
    label_smoothing: Annotated[float, flag(TRAIN, f"Share of a label spread over all classes {RECIPE}.")] = RECIPE_S
    class_weights: Annotated[
        str | None,
        flag(
            TRAIN,
            "Weights of classes in the loss: auto (inverse to their frequency), or NAME=WEIGHT,... with 1 for "
            "those not named (default: all alike).",
        ),
    ] = None
    ema: Annotated[
        float,
        flag(TRAIN, f"Decay of the weights' moving average, which is then evaluated and saved; 0: none {RECIPE}."),
    ] = RECIPE_S
    precise_bn: Annotated[
        int,
        flag(
            TRAIN,
            "Batches from which the statistics of batch normalization are measured anew at the end of an "
            "epoch, for the weights that are evaluated; 0: their moving averages.",
        ),
    ] = 0
    patience: Annotated[
        int | None, flag(TRAIN, "Epochs without a better validation accuracy after which to stop (default: never).")
    ] = None
    clip_norm: Annotated[float, flag(TRAIN, f"Largest global norm of the gradient; 0: any {RECIPE}.")] = RECIPE_S
    sam: Annotated[
        float,
        flag(
            TRAIN,
            f"Sharpness-aware: take the gradient where the loss is highest within this distance; 0: here {RECIPE}.",
        ),
    ] = RECIPE_S

    strategy: Annotated[
        Literal["auto", "one-device", "mirrored", "multi-worker", "tpu"],
        flag(
            DEVICES,
            "mirrored: all GPUs of this machine; multi-worker: all machines that TF_CONFIG or SLURM names; "
            "auto: what the surroundings call for.",
        ),
    ] = "auto"
    replicas: Annotated[
        int | None, flag(DEVICES, "Replicas of mirrored: GPUs, or logical CPUs where there is none.")
    ] = None
    worker_timeout: Annotated[
        float, flag(DEVICES, "Seconds within which workers leave when one of them has vanished.")
    ] = 60.0
    precision: Annotated[
        Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"],
        flag(DEVICES, "Of activations; weights are float32. auto: mixed_bfloat16 on TPUs, else float32."),
    ] = "auto"
    jit: Annotated[Literal["auto", "on", "off"], flag(DEVICES, "Compile with XLA; auto: on GPUs.")] = "auto"
    sync_bn: Annotated[bool, flag(DEVICES, "Batch normalization over the global batch, not each replica's.")] = False
    deterministic: Annotated[bool, flag(DEVICES, "Bitwise repeatable, somewhat slower.")] = False

    run_dir: Annotated[str | None, flag(RUN, "The run's folder (default: logs/ARCH-DATA-TIME).")] = None
    resume: Annotated[
        str | None,
        flag(
            RUN,
            "Go on with the run in this folder; auto: with the one in --run-dir, or without that with the newest "
            "unfinished one of the same configuration in logs, if there is one.",
        ),
    ] = None
    checkpoint_every: Annotated[
        int | str | None,
        flag(RUN, "Steps between checkpoints, or minutes, as in 10m; there is always one at the end of an epoch."),
    ] = None
    keep: Annotated[int, flag(RUN, "Checkpoints to keep, besides the best.")] = 3
    recover: Annotated[
        int,
        flag(
            RUN,
            "How many times to go back to the last checkpoint, with half the learning rate, when the loss is no "
            "number; 0: stop.",
        ),
    ] = 0
    seed: Annotated[int, flag(RUN, "Of every random draw.")] = 0
    dry_run: Annotated[bool, flag(RUN, "Say what would be run, and stop.", negative="")] = False

    @property
    def global_batch(self) -> int:
        """Images in a step: over all replicas, and over the batches whose gradients are summed."""
        return self.batch_size * self.accumulate_steps


# What may change when a run goes on: how long and where it runs, not what it computes.
RESUMABLE = (
    "epochs",
    "data_dir",
    "data_changed",
    "strategy",
    "replicas",
    "worker_timeout",
    "jit",
    "run_dir",
    "resume",
    "checkpoint_every",
    "keep",
    "recover",
    "dry_run",
)
