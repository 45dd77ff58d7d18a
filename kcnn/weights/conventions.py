"""What weights expect of a network beside its rows: padding, epsilon, normalization, crop. It travels with them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kcnn.arch import Arch, Each, Stage, block

Library = Literal["timm", "torchvision", "keras", "kcnn"]
IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
HALF = {"mean": (127.5,) * 3, "std": (127.5,) * 3}  # -1 to 1
CAFFE = {"mean": (123.68, 116.779, 103.939), "std": (1.0,) * 3}  # and blue first
TORCH = {"padding": "symmetric", "bn_epsilon": 1e-5}
TENSORFLOW = {"padding": "same", "bn_epsilon": 1e-3}


@dataclass(frozen=True)
class Conventions:
    """What a source expects.

    style: fields of the architecture's style. rows: what it changes in the architecture's rows. crop: the share of a
    picture's shorter side that evaluation sees. blue_first: whether the first kernel takes blue, green, red.
    """

    style: Mapping[str, Any] = field(default_factory=dict)
    rows: Callable[[Arch], Arch] = lambda arch: arch
    crop: float | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    blue_first: bool = False

    def apply(self, arch: Arch) -> Arch:
        """Returns the architecture as these weights expect it."""
        arch = self.rows(arch)
        return replace(arch, style=replace(arch.style, **self.style))


def conventions(library: Library, family: str, name: str = "", config: Mapping[str, Any] | None = None) -> Conventions:
    """Returns those of a family in a library.

    name: the library's own of the network, which tells TensorFlow's weights in timm from its own: "tf_mobilenetv3".
    config: what timm publishes beside the weights, its pretrained_cfg.
    """
    if library == "keras":
        return sized(KERAS[family], library, name)
    if library == "kcnn":
        return Conventions()
    ours = TORCHVISION if library == "torchvision" else TIMM
    found = ours.get(family, Conventions(TORCH | IMAGENET, crop=0.875, interpolation="bilinear"))
    if library == "timm" and name.startswith("tf_"):
        found = replace(found, style={**found.style, **TENSORFLOW, **(HALF if name.startswith(TF_HALF) else {})})
    return published(sized(found, library, name), config or {})


def sized(found: Conventions, library: Library, name: str) -> Conventions:
    """Returns the conventions as a network has them whose size differs from its family."""
    return replace(found, style={**found.style, **SIZES.get((library, name), {})})


def published(found: Conventions, config: Mapping[str, Any]) -> Conventions:
    """Returns the conventions with what timm's pretrained_cfg says; other values than it can hold are left out."""
    style = dict(found.style)
    for key in ("mean", "std"):
        values = config.get(key)
        if isinstance(values, list | tuple) and len(values) == 3 and all(is_share(v) for v in values):
            style[key] = tuple(255 * float(v) for v in values)
    crop, method = config.get("crop_pct"), config.get("interpolation")
    return replace(
        found,
        style=style,
        crop=float(crop) if crop and is_share(crop) else found.crop,
        interpolation=method if method in ("bilinear", "bicubic") else found.interpolation,
    )


def is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def late_strides(arch: Arch) -> Arch:
    """keras.applications' ResNet V2: the last block of a stage has the stride, and its shortcut skips places.

    That block begins the next stage here, with the width of the one before. The stem's pool is padded by zeros.
    """
    stem = tuple(block("max_pool", stride=2, kernel=3) if s.block == "max_pool" else s for s in arch.stem)
    depths, widths = [s.depth for s in arch.stages], [s.width for s in arch.stages]
    depths = [depths[0] - 1, *depths[1:-1], depths[-1] + 1]
    stages: list[Stage] = []
    for i, (s, depth, width) in enumerate(zip(arch.stages, depths, widths, strict=True)):
        row = width if i == 0 else Each((widths[i - 1],) + (width,) * (depth - 1))
        stages.append(replace(s, depth=depth, width=row, options={**s.options, "skip": True}))
    return replace(arch, stem=stem, stages=tuple(stages))


def padded_at_end(arch: Arch) -> Arch:
    """keras.applications' MobileNet pads its strided depthwise convolutions at the bottom right alone."""
    return replace(arch, stages=tuple(replace(s, options={**s.options, "padding": "end"}) for s in arch.stages))


def torch_googlenet(arch: Arch) -> Arch:
    """torchvision's GoogLeNet: 3x3 where the paper has 5x5, no local norms, and pools that keep a last part window."""
    stem = tuple(replace(s, options={**s.options, "padding": "end"}) if s.block == "max_pool" else s for s in arch.stem)
    stem = tuple(s for s in stem if s.block != "local_norm")
    paths = tuple(p.replace("5x5", "3x3") for p in arch.stages[0].options["paths"])
    stages = tuple(
        replace(s, options={**s.options, "paths": paths, "padding": "end", "pool": pool})
        for s, pool in zip(arch.stages, (3, 3, 2), strict=True)
    )
    return replace(arch, stem=stem, stages=stages)


def zero_padded(*pools: str) -> Callable[[Arch], Arch]:
    """Returns what makes strided pools of NASNet's cells see zeros around the image: both pools in keras.applications,
    the mean in timm. The authors' see the image alone."""

    def change(arch: Arch) -> Arch:
        def cells(rows: tuple[Stage, ...]) -> tuple[Stage, ...]:
            return tuple(replace(s, options={**s.options, "zeros": pools}) if s.block == "cell" else s for s in rows)

        return replace(arch, stem=cells(arch.stem), stages=cells(arch.stages))

    return change


KERAS_TF = Conventions(TENSORFLOW | HALF, crop=0.875, interpolation="bilinear")
KERAS_CAFFE = Conventions(TORCH | CAFFE, crop=0.875, interpolation="bilinear", blue_first=True)
KERAS_RESNET = {"padding": "symmetric", "bn_epsilon": 1.001e-5}
KERAS = {
    "vgg": KERAS_CAFFE,
    "resnet-v1": replace(KERAS_CAFFE, style=KERAS_RESNET | CAFFE),
    "resnet-v2": replace(KERAS_TF, style=KERAS_RESNET | HALF | {"bare_bias": True}, rows=late_strides),
    "densenet": replace(KERAS_TF, style=KERAS_RESNET | IMAGENET),
    "mobilenet-v1": replace(KERAS_TF, rows=padded_at_end),
    "efficientnet": replace(KERAS_TF, style=TENSORFLOW | IMAGENET),
    "efficientnet-v2": replace(KERAS_TF, style=TENSORFLOW | IMAGENET),
    "convnext": replace(KERAS_TF, style=TORCH | IMAGENET | {"bn_epsilon": 1e-6}),
    "nasnet": replace(KERAS_TF, rows=zero_padded("avg", "max")),
    **dict.fromkeys(("mobilenet-v2", "mobilenet-v3", "xception", "inception-v3", "inception-resnet-v2"), KERAS_TF),
}
INCEPTION = {"padding": "same", "bn_epsilon": 1e-3}
CONVNEXT = Conventions(TORCH | IMAGENET | {"bn_epsilon": 1e-6}, crop=0.875, interpolation="bicubic")
TIMM = {
    "inception-v3": Conventions(INCEPTION | HALF | {"count_zeros": True}, crop=0.875, interpolation="bicubic"),
    "inception-v4": Conventions(INCEPTION | HALF, crop=0.875, interpolation="bicubic"),
    "inception-resnet-v2": Conventions(INCEPTION | HALF, crop=0.8975, interpolation="bicubic"),
    "xception": Conventions(TORCH | HALF, crop=0.8975, interpolation="bicubic"),
    "resnet-v2": Conventions(TORCH | HALF, crop=0.95, interpolation="bicubic"),
    **dict.fromkeys(("convnext", "convnext-v2"), CONVNEXT),
    "nasnet": Conventions(INCEPTION | HALF, zero_padded("avg"), crop=0.911, interpolation="bicubic"),
    **dict.fromkeys(
        ("se-resnet", "resnet-d", "ghostnet", "mobilenet-v4", "efficientnet-v2"),
        Conventions(TORCH | IMAGENET, crop=0.95, interpolation="bicubic"),
    ),
    **dict.fromkeys(
        ("mobilenet-v1", "mobilenet-v2", "mobilenet-v3", "mnasnet", "efficientnet", "efficientnet-lite"),
        Conventions(TORCH | IMAGENET, crop=0.875, interpolation="bicubic"),
    ),
}
# TensorFlow's weights in timm that expect an input of -1 to 1.
TF_HALF = ("tf_mobilenetv3", "tf_efficientnet_lite", *(f"tf_efficientnetv2_{size}" for size in ("s", "m", "l", "xl")))
# Networks with other conventions than their family's.
SIZES: dict[tuple[Library, str], dict[str, Any]] = {
    **{("torchvision", f"efficientnet_b{n}"): {"bn_epsilon": 1e-3} for n in (5, 6, 7)},
    ("torchvision", "efficientnet_v2_l"): HALF,
    **{("keras", f"efficientnet_v2_{size}"): {"mean": (128.0,) * 3, "std": (128.0,) * 3} for size in "sml"},
}
TORCHVISION = {
    "mobilenet-v3": Conventions(TORCH | IMAGENET | {"bn_epsilon": 1e-3}, crop=0.875, interpolation="bilinear"),
    "efficientnet": Conventions(TORCH | IMAGENET, crop=0.875, interpolation="bicubic"),
    "efficientnet-v2": Conventions(TORCH | IMAGENET | {"bn_epsilon": 1e-3}, crop=1.0, interpolation="bilinear"),
    "convnext": replace(CONVNEXT, crop=0.97, interpolation="bilinear"),
    "inception-v3": Conventions(INCEPTION | HALF | {"count_zeros": True}, crop=0.875, interpolation="bilinear"),
    "googlenet": Conventions(
        TORCH | HALF | {"norm": "batch", "bn_epsilon": 1e-3}, torch_googlenet, crop=0.875, interpolation="bilinear"
    ),
}
