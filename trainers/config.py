"""TrainConfig: what is asked of a training run. It is the only source of the flags, their defaults and their help."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from cyclopts import Group, Parameter

from kcnn.arch import Arch
from trainers.recipes import DEFAULT, RECIPES

C = TypeVar("C")
Augment = Literal["none", "randaugment", "trivialaugment", "autoaugment"]
Optimizer = Literal["sgd", "rmsprop", "adamw", "lamb", "lion"]
Schedule = Literal["cosine", "step", "exponential", "one-cycle", "constant"]
Loss = Literal["cross-entropy", "bce", "focal"]
Strategy = Literal["one-device", "mirrored", "multi-worker", "tpu"]
Interpolation = Literal["bilinear", "bicubic"]
Cache = Literal["ram", "disk"]
Watch = Literal["gradients", "weights"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]

# The help of each flag, by group. Where recipes have a value for it, the help adds that the recipe's is the default.
HELP = {
    "Network": {
        "arch": "Train the network of this name; `kcnn info --list` shows them all.",
        "width": "Multiply the network's widths by this.",
        "depth": "Multiply the network's depths by this.",
        "phi": "Scale depth by alpha^phi, width by beta^phi and resolution by gamma^phi.",
        "alpha": "The depth grows by this factor with each phi (default: --compound's, else 1.2).",
        "beta": "The width grows by this factor with each phi (default: --compound's, else 1.1).",
        "gamma": "The resolution grows by this factor with each phi (default: --compound's, else 1.15).",
        "compound": "Read alpha, beta, gamma, stem and the resolution at phi 0 from `tuning.compound`'s file.",
        "resolution": "The square input has sides of this many pixels (default: the recipe's or network's).",
        "progressive": "Train first at these resolutions, in pixels or as shares of --resolution below 1, for equally "
        "many epochs each, and last at --resolution; augmentation grows stronger with them.",
        "stem": "A small stem has no strides; auto makes it small for inputs of 64 pixels and less.",
        "drop": "Drop this share of the features before the classifier (default: the network's).",
        "drop_path": "Leave out the last block of residual networks, at random, this often: stochastic depth (default: "
        "the network's).",
        "bn_momentum": "A moving statistic of batch normalization keeps this share of its old value in a step (default:"
        " the network's).",
        "weights": "Start from these weights: imagenet, keras, timm/NAME[.TAG], torchvision/NAME, a file, or a run's "
        "folder, at its resolution (default: random). The classifier starts anew where the classes are others.",
        "freeze": "Leave a part of the network as it is, with the statistics of its batch normalization: backbone is "
        "all but the classifier, and a number is the stem and the stages up to this one. It is faster, and safer with "
        "few images.",
        "unfreeze_epoch": "Train all of the network from this epoch on, the first being 1. Until then a new classifier "
        "learns without shaking what the weights below know (default: never).",
        "features_only": "Compute what the frozen backbone makes of each image once, as evaluation sees the image, not "
        "augmented, and train the classifier on that, in seconds. It implies --freeze backbone.",
    },
    "Data": {
        "data": "Train on digits (embedded, offline), on tfds:NAME, or on a folder with train/ and val/, each with one "
        "folder a class, or with just one folder a class; on a list.csv or list.jsonl of paths and labels; or on what "
        "kcnn data convert made of one of these.",
        "multi_label": "An image has any number of labels: those in the column labels of a list (cat|dog), or the names"
        " of all folders on its way. Training asks a yes or no for each (loss bce), and mAP stands for accuracy.",
        "data_dir": "tensorflow-datasets keeps its data in this folder.",
        "val_split": "Validation gets this share of the images, where the data has no split of its own.",
        "images_per_class": "Train on this many images of each class, which the seed draws, to see what more of them "
        "would bring (default: all).",
        "on_corrupt": "At a broken image, error stops and names it; skip decodes all images once before the run and "
        "leaves the broken ones out.",
        "data_changed": "Where the data changed since a run started, refuse stops the resumed run; accept goes on with "
        "the data as it is now, from the start of the current epoch, and notes that in the run's card.",
        "cache": "Decode all images before the first epoch and keep them in memory (ram), or in a file of the run's "
        "folder that goes with the process (disk): epochs then read and decode nothing, and see the same pixels "
        "(default: no cache).",
        "crop_scale": "A random training crop covers at least this share of the image's area; 1 crops nothing.",
        "flip": "Mirror training images at random.",
        "augment": "Change colours and shapes of training images at random, by this policy.",
        "augment_magnitude": "randaugment has this strength, from 0 to 10 (timm's scale; torchvision's ends at 30).",
        "augment_std": "The strength of randaugment's operations varies with this standard deviation.",
        "augment_layers": "randaugment applies this many operations in a row.",
        "augment_probability": "randaugment applies each of its operations with this probability.",
        "color_jitter": "Change brightness, contrast and saturation by factors of up to 1 -/+ this.",
        "erase": "Noise replaces a box of a training image with this probability.",
        "repeats": "A batch holds each image this many times, each time augmented differently.",
        "mixup": "Blend pairs of images and labels by a share drawn from Beta(MIXUP, MIXUP); 0 blends none.",
        "cutmix": "Paste a box of one image into another, with an area drawn from Beta(CUTMIX, CUTMIX); 0 pastes none.",
        "mix_switch": "Where mixup and cutmix are both on, a batch gets cutmix with this probability, else mixup.",
        "mix_off_epochs": "Mixup and cutmix are off for this many epochs at the end of the run.",
        "eval_crop": "Evaluation sees a central square of this share of the image's shorter side (with --weights: "
        "that of the weights, if they tell).",
        "interpolation": "Evaluation resizes images so (with --weights: as the weights expect, if they tell).",
    },
    "Training": {
        "recipe": f"Take the settings of this recipe, which other flags override: {', '.join(RECIPES)} (default: auto, "
        "which is finetune with --weights, digits for the data digits, and else chosen by a glance at the images).",
        "epochs": "Pass over the training images this many times.",
        "time": "Train as many epochs as fit into this time, such as 90s, 30m or 2h, by the pace of the first steps, "
        "which are done once for it and forgotten.",
        "batch_size": "A step sees this many images, over all replicas: the global batch.",
        "accumulate_steps": "Sum the gradients of this many batches before an update, which acts as a batch that many "
        "times larger, in the memory of one. Batch normalization still sees one batch at a time.",
        "optimizer": "Update the weights by this rule. sgd (Nesterov) and rmsprop add the weight decay to the gradient,"
        " the others apply it apart.",
        "lr": "The learning rate peaks at this (default: lr-base times the batch / 256). find looks for it first, in "
        "under 100 steps of a training that is thrown away, as `kcnn find-lr` does.",
        "lr_base": "The learning rate peaks at this for a batch of 256.",
        "momentum": "sgd and rmsprop have this momentum.",
        "epsilon": "rmsprop has this epsilon, inside its square root as in TensorFlow 1.",
        "weight_decay": "Kernels decay by this; biases and normalization do not decay.",
        "layer_decay": "For fine-tuning, a block learns at this share of the next block's rate; 1 makes them equal.",
        "schedule": "The learning rate takes this course after the warmup; one-cycle rises by itself.",
        "step_epochs": "The schedule step multiplies the rate by step-gamma at these epochs; one number means every so "
        "many epochs. The schedule exponential spreads the change evenly over them.",
        "step_gamma": "The schedules step and exponential change the rate by this factor.",
        "min_lr": "The schedule does not go below this learning rate.",
        "warmup_epochs": "The learning rate rises from 0 in this many epochs.",
        "loss": "Training minimizes this. bce asks a yes or no for each class; focal is cross entropy that counts "
        "images that are right already less.",
        "focal_gamma": "The higher this is, the less focal counts images that are right already; 0 is cross entropy.",
        "label_smoothing": "Spread this share of a label evenly over all classes.",
        "class_weights": "Weigh the classes in the loss: auto takes weights inverse to the classes' frequencies, sqrt "
        "to their roots, and NAME=WEIGHT,... sets them, with 1 for the classes not named (default: 1 for all).",
        "ema": "Evaluate and save an exponential moving average of the weights with this decay; 0 keeps none.",
        "precise_bn": "Measure the statistics of batch normalization on this many batches at the end of an epoch, for "
        "the weights that are evaluated; 0 uses their moving averages.",
        "patience": "Stop after this many epochs without a better validation accuracy (default: never).",
        "clip_norm": "Shorten a gradient whose global norm is above this; 0 shortens none.",
        "sam": "Take the gradient where the loss is highest within this radius of the weights: sharpness-aware "
        "minimization; 0 takes it at the weights.",
    },
    "Devices": {
        "strategy": "Train on these devices: mirrored uses all GPUs of this machine, multi-worker all machines that "
        "TF_CONFIG or SLURM names; auto looks which of them there are.",
        "replicas": "mirrored has this many replicas: GPUs, or logical CPUs where there is no GPU (default: all).",
        "worker_timeout": "When a worker vanishes, the others leave within this many seconds.",
        "precision": "Compute activations in this precision, weights in float32 (default: mixed_bfloat16 on TPUs, else "
        "float32). auto takes the fastest that the device has: a long run first times a few steps in each of them, and "
        "a short one goes by a table of measured times. The choice is kept in config.yaml.",
        "jit": "XLA compiles the step, or not (default: on with GPUs, else off). auto takes the faster of the two, "
        "found as with --precision.",
        "sync_bn": "Batch normalization takes its statistics over the global batch, not each replica's part.",
        "recompute": "Keep only a few of the activations for the gradient and compute the others again when they are "
        "needed: the same results in about half of the memory, for up to a third more time.",
        "deterministic": "Make the run repeatable to the bit, at the cost of some speed.",
    },
    "Run": {
        "run_dir": "Write the run to this folder (default: logs/ARCH-DATA-TIME).",
        "resume": "Go on with the run in this folder. auto goes on with the one in --run-dir, or without that with the "
        "newest unfinished run of the same configuration in logs, and starts one where there is none.",
        "checkpoint_every": "Save a checkpoint every so many steps, or minutes, as in 10m; the end of an epoch always "
        "has one.",
        "keep": "Keep this many checkpoints besides the best one.",
        "recover": "When the loss stops being a number, go back to the last checkpoint with half the learning rate, at "
        "most this many times; 0 stops the run.",
        "watch": "TensorBoard shows for each stage the gradient's norm, and the share of its weights that a step "
        "changes; weights adds histograms of all kernels (default: only the norm of the whole gradient).",
        "profile": "Record a profile of this many steps, after those that compile, for TensorBoard's page Profile "
        "(of the package tensorboard-plugin-profile; default: none).",
        "quiet": "Print no progress, only what came of it.",
        "seed": "Seed all random draws with this; equal seeds repeat a run.",
        "dry_run": "Print what would be run, and stop.",
    },
}
# What the parser of flags must know of some besides.
PARSING: dict[str, dict[str, Any]] = {
    "arch": {"accepts_keys": False},
    "progressive": {"consume_multiple": True, "negative": ""},
    "step_epochs": {"consume_multiple": True, "negative": ""},
    "dry_run": {"negative": ""},
    "features_only": {"negative": ""},
    "multi_label": {"negative": ""},
    "quiet": {"negative": ""},
}
# What auto leaves to a measurement at the start of a run; a resumed run keeps what was chosen.
AUTO = ("precision", "jit")
# What may change when a run goes on: how long and where it runs, not what it computes.
RESUMABLE = (
    "epochs",
    "data_dir",
    "data_changed",
    "cache",
    "strategy",
    "replicas",
    "worker_timeout",
    "jit",
    "recompute",
    "run_dir",
    "resume",
    "checkpoint_every",
    "keep",
    "recover",
    "watch",
    "profile",
    "quiet",
    "dry_run",
)


def flags(config: type[C]) -> type[C]:
    """Gives each field of the class its group and its help, as `cyclopts` reads them: from its annotation."""
    kinds = dict(config.__annotations__)
    for title, helps in HELP.items():
        group = Group.create_ordered(title)
        for name, text in helps.items():
            text = f"{text[:-1]} (default: the recipe's)." if name in DEFAULT else text
            kinds[name] = Annotated[kinds[name], Parameter(group=group, help=text, **PARSING.get(name, {}))]
    config.__annotations__ = kinds
    return config


@Parameter(name="*")
@dataclass(frozen=True)
@flags
class TrainConfig:
    """What is asked of a run. Where a value is None, the recipe, the network, the data or the machine decides it; see
    `settings.resolve`.

    arch: a name, or an `Arch` of one's own. built_as: the network as the weights that it starts from expect it; `fit`
    sets it, and it is no flag.
    """

    arch: str | Arch = "efficientnet-b0"
    width: float = 1.0
    depth: float = 1.0
    phi: float = 0.0
    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    compound: str | None = None
    resolution: int | None = None
    progressive: list[float] | None = None
    stem: Literal["auto", "standard", "small"] = "auto"
    drop: float | None = None
    drop_path: float | None = None
    bn_momentum: float | None = None
    weights: str | None = None
    freeze: str = "none"
    unfreeze_epoch: int | None = None
    features_only: bool = False

    data: str = "digits"
    multi_label: bool = False
    data_dir: str | None = None
    val_split: float = 0.1
    images_per_class: int | None = None
    on_corrupt: Literal["error", "skip"] = "error"
    data_changed: Literal["refuse", "accept"] = "refuse"
    cache: Cache | None = None
    crop_scale: float | None = None
    flip: bool | None = None
    augment: Augment | None = None
    augment_magnitude: float | None = None
    augment_std: float | None = None
    augment_layers: int | None = None
    augment_probability: float | None = None
    color_jitter: float | None = None
    erase: float | None = None
    repeats: int | None = None
    mixup: float | None = None
    cutmix: float | None = None
    mix_switch: float | None = None
    mix_off_epochs: int | None = None
    eval_crop: float | None = None
    interpolation: Interpolation | None = None

    recipe: str | None = None
    epochs: int | None = None
    time: str | None = None
    batch_size: int | None = None
    accumulate_steps: int = 1
    optimizer: Optimizer | None = None
    lr: float | Literal["find"] | None = None
    lr_base: float | None = None
    momentum: float | None = None
    epsilon: float | None = None
    weight_decay: float | None = None
    layer_decay: float | None = None
    schedule: Schedule | None = None
    step_epochs: list[float] | None = None
    step_gamma: float | None = None
    min_lr: float | None = None
    warmup_epochs: float | None = None
    loss: Loss | None = None
    focal_gamma: float | None = None
    label_smoothing: float | None = None
    class_weights: str | None = None
    ema: float | None = None
    precise_bn: int = 0
    patience: int | None = None
    clip_norm: float | None = None
    sam: float | None = None

    strategy: Literal["auto", Strategy] = "auto"
    replicas: int | None = None
    worker_timeout: float = 60.0
    precision: Literal["auto", Precision] | None = None
    jit: Literal["auto", "on", "off"] | None = None
    sync_bn: bool = False
    recompute: bool = False
    deterministic: bool = False

    run_dir: str | None = None
    resume: str | None = None
    checkpoint_every: int | str | None = None
    keep: int = 3
    recover: int = 0
    watch: Watch | None = None
    profile: int | None = None
    quiet: bool = False
    seed: int = 0
    dry_run: bool = False

    built_as: Annotated[Arch | None, Parameter(parse=False)] = None
