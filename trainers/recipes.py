"""Recipes: named settings of a training run, most of them from a paper. A flag overrides its recipe."""

from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """about: the purpose, in a line. source: the paper and the place in it. changes: what differs from DEFAULT.

    Learning rates are for a batch of 256 and scale with it. Where a paper leaves something open, a comment says whose
    value stands in. In all of them momentum is Nesterov's, and biases and normalization do not decay.
    """

    about: str
    source: str
    changes: Settings = field(default_factory=dict)


DEFAULT: Settings = {
    "epochs": 100, "batch_size": 64, "optimizer": "adamw", "lr_base": 1e-3, "momentum": 0.9, "epsilon": 1e-3,
    "weight_decay": 0.05, "layer_decay": 1.0, "schedule": "cosine", "warmup_epochs": 0.0, "step_epochs": [30.0],
    "step_gamma": 0.1, "min_lr": 0.0, "loss": "cross-entropy", "focal_gamma": 2.0, "label_smoothing": 0.1, "ema": 0.0,
    "clip_norm": 0.0, "sam": 0.0, "crop_scale": 0.08, "flip": True, "eval_crop": 0.875, "augment": "none",
    "interpolation": "bilinear",
    "augment_magnitude": 9.0, "augment_std": 0.0, "augment_layers": 2, "augment_probability": 1.0, "color_jitter": 0.0,
    "erase": 0.0, "repeats": 1, "mixup": 0.0, "cutmix": 0.0, "mix_switch": 0.5, "mix_off_epochs": 0,
}  # fmt: skip

SGD: Settings = {"batch_size": 256, "optimizer": "sgd", "lr_base": 0.1, "weight_decay": 1e-4, "label_smoothing": 0.0}

# TensorFlow's RMSprop with the epsilon of the Inceptions.
RMSPROP: Settings = {"optimizer": "rmsprop", "epsilon": 1.0, "weight_decay": 4e-5, "schedule": "step", "ema": 0.9999}

# What A1, A2 and A3 share. Their code, timm's, has a target of 1 for each of two mixed classes, where here it is the
# class's share of the image, draws each operation of RandAugment with probability 0.5, and its LAMB divides a gradient
# longer than 1 by its length, of which the paper says nothing: --clip-norm 1 does that here.
STRIKES_BACK: Settings = {
    "batch_size": 2048, "optimizer": "lamb", "schedule": "cosine", "warmup_epochs": 5.0, "loss": "bce",
    "label_smoothing": 0.0, "mixup": 0.1, "cutmix": 1.0, "mix_switch": 0.5, "augment": "randaugment",
    "augment_std": 0.5, "augment_layers": 2, "augment_probability": 0.5, "eval_crop": 0.95,
}  # fmt: skip

# Images as evaluation sees them: those of --features-only.
PLAIN: Settings = {
    "crop_scale": 1.0, "flip": False, "augment": "none", "color_jitter": 0.0, "erase": 0.0, "repeats": 1, "mixup": 0.0,
    "cutmix": 0.0, "mix_off_epochs": 0, "progressive": None,
}  # fmt: skip

COOKBOOK: dict[str, Recipe] = {
    "default": Recipe(
        "fits most networks and large folders of images without a search",
        "decoupled decay (https://arxiv.org/abs/1711.05101), Inception's crops (https://arxiv.org/abs/1409.4842)",
    ),
    "auto": Recipe(
        "by a glance at the images, the network and the length of the run: see docs/recipes.md",
        "these settings where the data is large, else rules with their reasons; crops of Inception "
        "(https://arxiv.org/abs/1409.4842)",
    ),
    "digits": Recipe(
        "small grey digits: no mirror images, gentle crops, few steps",
        "ours",
        {"resolution": 32, "epochs": 12, "lr_base": 8e-3, "label_smoothing": 0.0, "crop_scale": 0.7, "flip": False,
         "eval_crop": 1.0, "warmup_epochs": 1.0, "bn_momentum": 0.9},
    ),
    "small-data": Recipe(
        "a few thousand images of your own: strong regularization, an average of the weights",
        "TrivialAugment (https://arxiv.org/abs/2103.10158), mixup (https://arxiv.org/abs/1710.09412)",
        {"epochs": 60, "batch_size": 32, "lr_base": 4e-3, "warmup_epochs": 3.0, "clip_norm": 1.0, "crop_scale": 0.25,
         "augment": "trivialaugment", "mixup": 0.2, "mix_off_epochs": 10, "erase": 0.1, "drop": 0.2,
         "bn_momentum": 0.9, "ema": 0.998},
    ),
    "finetune": Recipe(
        "for --weights: a low rate, lower still below, and mild augmentation",
        "layer-wise rates of BEiT (https://arxiv.org/abs/2106.08254) and ConvNeXt (https://arxiv.org/abs/2201.03545); "
        "statistics of Kornblith, Shlens and Le, 2018 (https://arxiv.org/abs/1805.08974); rate and length ours",
        # 1e-3 for the classifier at a batch of 32, a sixth of it eight blocks below, a fortieth in ResNet-50's stem.
        # No average of the weights: with few images there are too few steps for one.
        {"epochs": 30, "batch_size": 32, "lr_base": 8e-3, "weight_decay": 0.01, "layer_decay": 0.8,
         "warmup_epochs": 1.0, "clip_norm": 1.0, "crop_scale": 0.5, "bn_momentum": 0.9},
    ),
    "fast": Recipe(
        "a good result in a sixth of the default's epochs",
        "super-convergence (https://arxiv.org/abs/1708.07120), section 5, of AdamW instead of SGD",
        {"epochs": 16, "lr_base": 4e-3, "schedule": "one-cycle", "crop_scale": 0.25, "clip_norm": 1.0},
    ),
    "vgg": Recipe(
        "VGG, 74 epochs of SGD",
        "https://arxiv.org/abs/1409.1556, section 3.1",
        # A tenth three times, when accuracy stood still; at which epochs, the paper does not say. Crops of 224 pixels
        # out of images of 256 to 512 are 0.19 of the area and more. It also shifts colours along their principal
        # components.
        SGD | {"epochs": 74, "lr_base": 0.01, "weight_decay": 5e-4, "schedule": "step",
               "step_epochs": [20.0, 40.0, 60.0], "crop_scale": 0.19},
    ),
    "resnet": Recipe(
        "ResNet, 120 epochs of SGD",
        "https://arxiv.org/abs/1512.03385, section 3.4",
        # 600,000 steps, a tenth whenever the error stood still: figure 4 shows it after about 30 and 60 epochs. Crops
        # of 224 pixels out of images of 256 to 480. Colours as with VGG.
        SGD | {"epochs": 120, "schedule": "step", "step_epochs": [30.0, 60.0, 90.0], "crop_scale": 0.22},
    ),
    "inception-v3": Recipe(
        "Inception-v3, 100 epochs of RMSprop",
        "https://arxiv.org/abs/1512.00567, sections 7 and 8",
        # Its learning rate of 0.045 is of 50 asynchronous workers with 32 images each; this one is of the synchronous
        # code in tensorflow/tpu (0.165 for 1,024). Momentum, decay and average of the weights are slim's: the paper has
        # no value. It distorts colours, too, without saying how much; 0.4 is usual.
        RMSPROP | {"epochs": 100, "batch_size": 256, "lr_base": 0.0413, "step_epochs": [2.0], "step_gamma": 0.94,
                   "clip_norm": 2.0, "color_jitter": 0.4},
    ),
    "densenet": Recipe(
        "DenseNet, 90 epochs of SGD",
        "https://arxiv.org/abs/1608.06993, sections 4.1 and 4.2",
        # Images are augmented as in fb.resnet.torch, less its shift of colours along their principal components.
        SGD | {"epochs": 90, "schedule": "step", "step_epochs": [30.0, 60.0], "color_jitter": 0.4},
    ),
    "mobilenet-v1": Recipe(
        "MobileNet-v1, Inception-v3's with less regularization",
        "https://arxiv.org/abs/1704.04861, section 3.2",
        # No label smoothing and no very small crops, of which 0.25 is our limit. It has little or no decay of depthwise
        # kernels, which here decay like all. The rest is Inception-v3's and slim's mobilenet_v1_train.py.
        RMSPROP | {"epochs": 100, "batch_size": 256, "lr_base": 0.0413, "step_epochs": [2.5], "step_gamma": 0.94,
                   "label_smoothing": 0.0, "crop_scale": 0.25},
    ),
    "mobilenet-v2": Recipe(
        "MobileNet-v2, 420 epochs of RMSprop",
        "https://arxiv.org/abs/1801.04381, section 6.1",
        # 0.045 for 96 images. The paper's 0.98 is for each epoch of one of 16 asynchronous workers; epochs, step, label
        # smoothing and average are from the command that its code (slim's mobilenet/README.md) gives for 72.0 %.
        RMSPROP | {"epochs": 420, "batch_size": 96, "lr_base": 0.12, "step_epochs": [2.5], "step_gamma": 0.98,
                   "color_jitter": 0.4},
    ),
    "efficientnet": Recipe(
        "EfficientNet, 350 epochs of RMSprop with AutoAugment",
        "https://arxiv.org/abs/1905.11946, section 5.2",
        # 0.256 for a batch of 4,096. Epochs, warmup, label smoothing and average of the weights are from the code in
        # tensorflow/tpu, the paper does not say; its dropout and stochastic depth are the networks' own.
        RMSPROP | {"epochs": 350, "batch_size": 4096, "lr_base": 0.016, "epsilon": 1e-3, "weight_decay": 1e-5,
                   "step_epochs": [2.4], "step_gamma": 0.97, "warmup_epochs": 5.0, "augment": "autoaugment"},
    ),
    "efficientnet-v2": Recipe(
        "EfficientNetV2, 350 epochs of RMSprop at growing resolution, with RandAugment",
        "https://arxiv.org/abs/2104.00298, section 4 and tables 6 and 7",
        # V2-S's: from 128 to 300 pixels in four equal stages. M and L start at a third of their 380 and mix images with
        # 0.2 and 0.5. Its RandAugment grows from 5 to 15, and our scale ends at 10; its dropout grows from 0.1 to 0.3,
        # here the network's own stays. Label smoothing is from the code in google/automl.
        RMSPROP | {"epochs": 350, "batch_size": 4096, "lr_base": 0.016, "epsilon": 1e-3, "weight_decay": 1e-5,
                   "step_epochs": [2.4], "step_gamma": 0.97, "warmup_epochs": 5.0, "augment": "randaugment",
                   "augment_magnitude": 10.0, "progressive": [0.427, 0.618, 0.809]},
    ),
    "convnext": Recipe(
        "ConvNeXt, 300 epochs of AdamW with RandAugment, mixup, CutMix and erasing",
        "https://arxiv.org/abs/2201.03545, table 5",
        # 4e-3 for a batch of 4,096; stochastic depth is the networks' own. Its code, timm's, draws each operation of
        # RandAugment with probability 0.5.
        {"epochs": 300, "batch_size": 4096, "lr_base": 2.5e-4, "warmup_epochs": 20.0, "ema": 0.9999,
         "augment": "randaugment", "augment_std": 0.5, "augment_probability": 0.5, "erase": 0.25, "mixup": 0.8,
         "cutmix": 1.0, "interpolation": "bicubic"},
    ),
    "regnet": Recipe(
        "RegNet, 100 epochs of SGD, pycls's",
        "https://arxiv.org/abs/2003.13678, section 5; pycls's configs/dds_baselines",
        # pycls also shifts colours along their principal components, a little, and lets normalization decay.
        SGD | {"epochs": 100, "batch_size": 1024, "lr_base": 0.2, "weight_decay": 5e-5, "warmup_epochs": 5.0},
    ),
    "a1": Recipe(
        "ResNet strikes back A1, 600 epochs of LAMB: 80.4 % with ResNet-50",
        "https://arxiv.org/abs/2110.00476, table 2",
        STRIKES_BACK | {"epochs": 600, "lr_base": 5e-3 / 8, "weight_decay": 0.01, "label_smoothing": 0.1, "mixup": 0.2,
                        "augment_magnitude": 7.0, "repeats": 3, "drop_path": 0.05},
    ),
    "a2": Recipe(
        "ResNet strikes back A2, 300 epochs of LAMB: 79.8 % with ResNet-50",
        "https://arxiv.org/abs/2110.00476, table 2",
        STRIKES_BACK | {"epochs": 300, "lr_base": 5e-3 / 8, "weight_decay": 0.02, "augment_magnitude": 7.0,
                        "repeats": 3, "drop_path": 0.05},
    ),
    "a3": Recipe(
        "ResNet strikes back A3, 100 epochs of LAMB at 160 pixels: 78.1 % with ResNet-50",
        "https://arxiv.org/abs/2110.00476, table 2",
        # Its figure is of an evaluation at 224 pixels.
        STRIKES_BACK | {"epochs": 100, "lr_base": 8e-3 / 8, "weight_decay": 0.02, "augment_magnitude": 6.0,
                        "resolution": 160},
    ),
}  # fmt: skip

RECIPES: dict[str, Settings] = {name: DEFAULT | recipe.changes for name, recipe in COOKBOOK.items()}


def choose(data: str, weights: str | None = None) -> str:
    """The name of the recipe for this data and these weights to start from, where the user names none, or auto."""
    if weights:
        return "finetune"
    return "digits" if data == "digits" else "auto"


def stretched(recipe: Settings, epochs: int) -> Settings:
    """The recipe's settings that are counted in epochs, for a run of another length. Milestones and the end of mixing
    keep their share of the run; the warmup may get shorter, but not longer. A run of few epochs has the last ones of
    the stages of growing resolution, an epoch each."""
    share = epochs / recipe["epochs"]
    stages = recipe.get("progressive") or []
    return {
        "progressive": stages[max(0, len(stages) + 1 - epochs) :] or None,
        "step_epochs": [epoch * share for epoch in recipe["step_epochs"]],
        "mix_off_epochs": round(recipe["mix_off_epochs"] * share),
        "warmup_epochs": recipe["warmup_epochs"] * min(1.0, share),
    }
