"""TrainConfig: what is asked of a training run. It is the only source of the flags, their defaults and their help."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from kcnn.arch import Arch
from trainers.recipes import RECIPES

WHAT, DATA, TRAIN, DEVICES, RUN = map(Group.create_ordered, ("Network", "Data", "Training", "Devices", "Run"))
RECIPE = "(default: the recipe's)"


def flag(group: Group, help: str, **more: Any) -> Parameter:
    return Parameter(group=group, help=help, **more)


@Parameter(name="*")
@dataclass(frozen=True)
class TrainConfig:
    """What is asked. A value of None is left to the recipe, the network, the data or the machine; see `resolve`.

    arch: a name, or an `Arch` of one's own.
    """

    arch: Annotated[
        str | Arch, flag(WHAT, "The network's name; `kcnn info --list` shows them all.", accepts_keys=False)
    ] = "efficientnet-b0"
    width: Annotated[float, flag(WHAT, "Multiply the network's widths by this.")] = 1.0
    depth: Annotated[float, flag(WHAT, "Multiply the network's depths by this.")] = 1.0
    phi: Annotated[
        float,
        flag(WHAT, "Scale depth by alpha^phi, width by beta^phi and resolution by gamma^phi; 0 leaves them."),
    ] = 0.0
    alpha: Annotated[
        float | None, flag(WHAT, "The depth grows by this factor with each phi (default: --compound's, else 1.2).")
    ] = None
    beta: Annotated[
        float | None, flag(WHAT, "The width grows by this factor with each phi (default: --compound's, else 1.1).")
    ] = None
    gamma: Annotated[
        float | None,
        flag(WHAT, "The resolution grows by this factor with each phi (default: --compound's, else 1.15)."),
    ] = None
    compound: Annotated[
        str | None,
        flag(WHAT, "Read alpha, beta, gamma, stem and the resolution at phi 0 from a file of `tuning.compound`."),
    ] = None
    resolution: Annotated[
        int | None, flag(WHAT, "Side of the square input in pixels (default: the recipe's, or the network's own).")
    ] = None
    progressive: Annotated[
        list[int] | None,
        flag(
            WHAT,
            "Train first at these resolutions, for equally many epochs each, and last at --resolution; "
            "augmentation grows with them.",
            consume_multiple=True,
            negative="",
        ),
    ] = None
    stem: Annotated[
        Literal["auto", "standard", "small"],
        flag(WHAT, "Strides of the stem: small has none; auto is small for inputs of 64 pixels and less."),
    ] = "auto"
    drop: Annotated[float | None, flag(WHAT, "Rate of the dropout before the classifier (default: the network's).")] = (
        None
    )
    drop_path: Annotated[
        float | None,
        flag(
            WHAT,
            "Rate of stochastic depth at the last block (default: the network's); plain networks ignore it.",
        ),
    ] = None
    bn_momentum: Annotated[
        float | None,
        flag(
            WHAT,
            "Share of its old value that a moving statistic of batch normalization keeps in a step "
            "(default: the network's).",
        ),
    ] = None
    weights: Annotated[str | None, flag(WHAT, "Weights to start from (default: random ones).")] = None

    data: Annotated[
        str,
        flag(
            DATA,
            "Where the images come from: digits (embedded, offline), tfds:NAME, or a folder with train/ and val/, "
            "each with one folder a class, or with just one folder a class.",
        ),
    ] = "digits"
    data_dir: Annotated[str | None, flag(DATA, "Folder in which tensorflow-datasets keeps its data.")] = None
    val_split: Annotated[
        float, flag(DATA, "Share of the images that validation gets, where the data has no split of its own.")
    ] = 0.1
    on_corrupt: Annotated[
        Literal["error", "skip"],
        flag(
            DATA,
            "What to do about a broken image: error stops and names it; skip decodes all images once beforehand "
            "and leaves the broken ones out.",
        ),
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
        float | None,
        flag(DATA, f"Smallest share of an image's area that a random training crop covers; 1 crops nothing {RECIPE}."),
    ] = None
    flip: Annotated[bool | None, flag(DATA, f"Mirror training images at random {RECIPE}.")] = None
    augment: Annotated[
        Literal["none", "randaugment", "trivialaugment", "autoaugment"] | None,
        flag(DATA, f"Policy that changes colours and shapes of training images at random {RECIPE}."),
    ] = None
    augment_magnitude: Annotated[
        float | None,
        flag(DATA, f"Strength of randaugment, from 0 to 10 (timm's scale; torchvision's goes to 30) {RECIPE}."),
    ] = None
    augment_std: Annotated[
        float | None, flag(DATA, f"Standard deviation of that strength from one operation to the next {RECIPE}.")
    ] = None
    augment_layers: Annotated[
        int | None, flag(DATA, f"Number of operations that randaugment applies in a row {RECIPE}.")
    ] = None
    augment_probability: Annotated[
        float | None, flag(DATA, f"Probability that randaugment applies each of them {RECIPE}.")
    ] = None
    color_jitter: Annotated[
        float | None,
        flag(DATA, f"Change brightness, contrast and saturation by a factor of 1 -/+ up to this {RECIPE}."),
    ] = None
    erase: Annotated[
        float | None, flag(DATA, f"Probability that noise replaces a box of a training image {RECIPE}.")
    ] = None
    repeats: Annotated[
        int | None, flag(DATA, f"How often a batch holds each image, each time augmented anew {RECIPE}.")
    ] = None
    mixup: Annotated[
        float | None,
        flag(
            DATA,
            f"Blend pairs of images and their labels by a share drawn from Beta(MIXUP, MIXUP); 0 blends none {RECIPE}.",
        ),
    ] = None
    cutmix: Annotated[
        float | None,
        flag(
            DATA,
            "Paste a box of one image into another, its share of the area drawn from Beta(CUTMIX, CUTMIX); "
            f"0 pastes none {RECIPE}.",
        ),
    ] = None
    mix_switch: Annotated[
        float | None,
        flag(DATA, f"Probability that a batch gets cutmix rather than mixup, where both are on {RECIPE}."),
    ] = None
    mix_off_epochs: Annotated[
        int | None, flag(DATA, f"Number of epochs without mixup and cutmix at the end of the run {RECIPE}.")
    ] = None
    eval_crop: Annotated[
        float | None,
        flag(DATA, f"Side of the central crop in evaluation, as a share of the image's shorter side {RECIPE}."),
    ] = None

    recipe: Annotated[
        str | None,
        flag(
            TRAIN,
            f"Named settings, which other flags override: {', '.join(RECIPES)} "
            "(default: digits for the data digits, else default).",
        ),
    ] = None
    epochs: Annotated[int | None, flag(TRAIN, f"Number of passes over the training images {RECIPE}.")] = None
    batch_size: Annotated[
        int | None, flag(TRAIN, f"The global batch: images in a step, over all replicas {RECIPE}.")
    ] = None
    accumulate_steps: Annotated[
        int,
        flag(
            TRAIN,
            "Number of batches whose gradients are summed before an update: it acts as a batch that many times larger, "
            "in the memory of one. Batch normalization still sees one batch at a time.",
        ),
    ] = 1
    optimizer: Annotated[
        Literal["sgd", "rmsprop", "adamw", "lamb", "lion"] | None,
        flag(
            TRAIN,
            "Rule of the update. sgd (Nesterov) and rmsprop add the weight decay to the gradient, the others apply it "
            f"apart {RECIPE}.",
        ),
    ] = None
    lr: Annotated[float | None, flag(TRAIN, "Peak learning rate (default: lr-base times the batch / 256).")] = None
    lr_base: Annotated[float | None, flag(TRAIN, f"Peak learning rate for a batch of 256 {RECIPE}.")] = None
    momentum: Annotated[float | None, flag(TRAIN, f"Momentum of sgd and rmsprop {RECIPE}.")] = None
    epsilon: Annotated[
        float | None, flag(TRAIN, f"Epsilon of rmsprop, inside its square root as in TensorFlow 1 {RECIPE}.")
    ] = None
    weight_decay: Annotated[
        float | None, flag(TRAIN, f"Decay of kernels; biases and normalization do not decay {RECIPE}.")
    ] = None
    layer_decay: Annotated[
        float | None,
        flag(
            TRAIN,
            f"Learning rate of a block as a share of the next block's, for fine-tuning; 1 makes them equal {RECIPE}.",
        ),
    ] = None
    schedule: Annotated[
        Literal["cosine", "step", "exponential", "one-cycle", "constant"] | None,
        flag(TRAIN, f"Course of the learning rate after the warmup; one-cycle rises by itself {RECIPE}."),
    ] = None
    step_epochs: Annotated[
        list[float] | None,
        flag(
            TRAIN,
            "Epochs at which the schedule step multiplies the rate by step-gamma; one number means every so many "
            f"epochs. The schedule exponential spreads the change evenly over them {RECIPE}.",
            consume_multiple=True,
            negative="",
        ),
    ] = None
    step_gamma: Annotated[
        float | None, flag(TRAIN, f"Factor by which the schedules step and exponential change the rate {RECIPE}.")
    ] = None
    min_lr: Annotated[float | None, flag(TRAIN, f"Learning rate that the schedule does not go below {RECIPE}.")] = None
    warmup_epochs: Annotated[
        float | None, flag(TRAIN, f"Number of epochs in which the learning rate rises from 0 {RECIPE}.")
    ] = None
    loss: Annotated[
        Literal["cross-entropy", "bce", "focal"] | None,
        flag(
            TRAIN,
            "What training minimizes. bce asks a yes or no for each class; focal is cross entropy that counts images "
            f"less that are right already {RECIPE}.",
        ),
    ] = None
    focal_gamma: Annotated[
        float | None, flag(TRAIN, f"How much less focal counts them; 0 is cross entropy {RECIPE}.")
    ] = None
    label_smoothing: Annotated[
        float | None, flag(TRAIN, f"Share of a label that is spread over all classes {RECIPE}.")
    ] = None
    class_weights: Annotated[
        str | None,
        flag(
            TRAIN,
            "Weights of the classes in the loss: auto makes them inverse to the classes' frequencies, and "
            "NAME=WEIGHT,... sets them, with 1 for those not named (default: 1 for all).",
        ),
    ] = None
    ema: Annotated[
        float | None,
        flag(
            TRAIN,
            "Decay of the weights' exponential moving average, which is then what is evaluated and saved; 0 keeps none "
            f"{RECIPE}.",
        ),
    ] = None
    precise_bn: Annotated[
        int,
        flag(
            TRAIN,
            "Number of batches from which the statistics of batch normalization are measured anew at the end of an "
            "epoch, for the weights that are evaluated; 0 uses their moving averages.",
        ),
    ] = 0
    patience: Annotated[
        int | None,
        flag(TRAIN, "Stop after this many epochs without a better validation accuracy (default: never)."),
    ] = None
    clip_norm: Annotated[
        float | None, flag(TRAIN, f"Largest global norm that a gradient may have; 0 clips none {RECIPE}.")
    ] = None
    sam: Annotated[
        float | None,
        flag(
            TRAIN,
            "Radius of sharpness-aware minimization, which takes the gradient where the loss is highest within it; "
            f"0 takes it at the weights {RECIPE}.",
        ),
    ] = None

    strategy: Annotated[
        Literal["auto", "one-device", "mirrored", "multi-worker", "tpu"],
        flag(
            DEVICES,
            "Devices to train on: mirrored uses all GPUs of this machine, multi-worker all machines that TF_CONFIG or "
            "SLURM names; auto is what the surroundings call for.",
        ),
    ] = "auto"
    replicas: Annotated[
        int | None,
        flag(DEVICES, "Number of replicas of mirrored: GPUs, or logical CPUs where there is no GPU (default: all)."),
    ] = None
    worker_timeout: Annotated[
        float, flag(DEVICES, "Workers leave within this many seconds when one of them has vanished.")
    ] = 60.0
    precision: Annotated[
        Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"],
        flag(DEVICES, "Precision of activations; weights are float32. auto is mixed_bfloat16 on TPUs, else float32."),
    ] = "auto"
    jit: Annotated[
        Literal["auto", "on", "off"], flag(DEVICES, "Whether XLA compiles the step; auto compiles it on GPUs.")
    ] = "auto"
    sync_bn: Annotated[
        bool, flag(DEVICES, "Batch normalization takes its statistics over the global batch, not each replica's part.")
    ] = False
    deterministic: Annotated[bool, flag(DEVICES, "Make the run repeatable to the bit, at the cost of some speed.")] = (
        False
    )

    run_dir: Annotated[str | None, flag(RUN, "Folder of the run (default: logs/ARCH-DATA-TIME).")] = None
    resume: Annotated[
        str | None,
        flag(
            RUN,
            "Go on with the run in this folder. auto goes on with the one in --run-dir, or without that with the "
            "newest unfinished run of the same configuration in logs, and starts one where there is none.",
        ),
    ] = None
    checkpoint_every: Annotated[
        int | str | None,
        flag(RUN, "Steps between checkpoints, or minutes, as in 10m; the end of an epoch always has one."),
    ] = None
    keep: Annotated[int, flag(RUN, "Number of checkpoints to keep besides the best one.")] = 3
    recover: Annotated[
        int,
        flag(
            RUN,
            "How many times the run may go back to its last checkpoint, with half the learning rate, when the loss "
            "stops being a number; 0 stops the run.",
        ),
    ] = 0
    seed: Annotated[int, flag(RUN, "Seed of every random draw: equal seeds repeat a run.")] = 0
    dry_run: Annotated[bool, flag(RUN, "Print what would be run, and stop.", negative="")] = False


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
