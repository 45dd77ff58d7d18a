"""What is compared with what: the networks, what their twins are called, and the ways in which each side can be run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from benchmarks.sides.input import CORES
from kcnn.errors import InputError, shown

# Our name, and the same network's in keras.applications and in timm. Keras's ResNet50 is the paper's, with the stride
# on the first 1x1; timm's has it on the 3x3. At 128 pixels timm's VGG still has the classifier of 224.
NETWORKS: dict[str, dict[str, str]] = {
    "vgg-16": {"keras": "VGG16", "timm": "vgg16"},
    "resnet-50-v1": {"keras": "ResNet50"},
    "resnet-50": {"timm": "resnet50"},
    "densenet-121": {"keras": "DenseNet121", "timm": "densenet121"},
    "inception-v3": {"keras": "InceptionV3", "timm": "inception_v3"},
    "xception": {"keras": "Xception", "timm": "legacy_xception"},
    "mobilenet-v2": {"keras": "MobileNetV2", "timm": "mobilenetv2_100"},
    "efficientnet-b0": {"keras": "EfficientNetB0", "timm": "efficientnet_b0"},
    "regnety-800mf": {"timm": "regnety_008"},
    "resnext-50-32x4d": {"timm": "resnext50_32x4d"},
}
# Of 2021 and later: depthwise 7x7, layer norms, GELU; fused and universal inverted bottlenecks; branches.
YOUNG: dict[str, dict[str, str]] = {
    "convnext-tiny": {"keras": "ConvNeXtTiny", "timm": "convnext_tiny"},
    "convnext-v2-atto": {"timm": "convnextv2_atto"},
    "efficientnet-v2-b0": {"keras": "EfficientNetV2B0", "timm": "tf_efficientnetv2_b0"},
    "mobilenet-v4-conv-small": {"timm": "mobilenetv4_conv_small"},
    "repvgg-a0": {"timm": "repvgg_a0"},
}
TWINS = NETWORKS | YOUNG


@dataclass(frozen=True)
class Way:
    """A way to run a side: `python -m benchmarks.sides.MODULE NETWORK BATCH PIXELS WORDS...`, or as the kind demands.

    peer: whose network and which interpreter it needs; "" is ours. environment: variables that its process gets.
    workers: so many processes train as one.
    """

    module: str
    words: tuple[str, ...] = ()
    peer: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    workers: int = 1


@dataclass(frozen=True)
class Topic:
    """A comparison: its cases, and of each side the ways of which the fastest is taken.

    The first side is the one that the ratios refer to. steps: of a turn. fresh: a step is a process of its own.
    folder: the sides read a folder of JPEGs. ceilings: sides that tell what the machine can do.
    """

    sides: Mapping[str, Mapping[str, Way]]
    networks: tuple[str, ...]
    batches: tuple[int, ...] = (16,)
    pixels: int = 128
    steps: int = 6
    ceilings: Mapping[str, Way] | None = None
    fresh: bool = False
    folder: bool = False
    figure: str = "wall"  # which the totals are about


OURS = {"kcnn": {"": Way("kcnn_train")}}
KERAS = {"fit": Way("keras_train", ("0",), "keras"), "fit, XLA": Way("keras_train", ("1",), "keras")}


def threaded(module: str, ways: Mapping[str, str]) -> dict[str, Way]:
    """timm's ways, each on all cores and on one: OpenMP's threads wait busily, which costs most where others work."""
    return {
        f"{name}, {count} thread{'s' * (count > 1)}": Way(module, (word,), "timm", {"OMP_NUM_THREADS": str(count)})
        for name, word in ways.items()
        for count in sorted({1, CORES}, reverse=True)
    }


TIMM = threaded("timm_train", {"eager": "0", "torch.compile": "1"})
PRODUCT, COPY = Way("ceiling", ("product",)), Way("ceiling", ("copy",))

TOPICS = {
    "train": Topic(
        OURS | {"keras": KERAS, "timm": TIMM}, tuple(NETWORKS), ceilings={"matrix product": PRODUCT, "copy": COPY}
    ),
    "train-young": Topic(
        OURS | {"keras": KERAS, "timm": TIMM}, tuple(YOUNG), ceilings={"matrix product": PRODUCT, "copy": COPY}
    ),
    "kernels": Topic(
        OURS | {"TensorFlow's own kernels": {"": Way("kcnn_train", environment={"TF_ENABLE_ONEDNN_OPTS": "0"})}},
        ("vgg-16", "resnet-50", "densenet-121", "mobilenet-v2", "efficientnet-b0", "regnety-800mf", "convnext-tiny"),
        steps=4,
    ),
    "infer": Topic(
        {
            "kcnn": {"SavedModel": Way("kcnn_infer", ("network",))},
            "kcnn, signature": {"crop and resize, too": Way("kcnn_infer", ("served",))},
            "keras": {
                "predict_on_batch": Way("keras_infer", ("predict",), "keras"),
                "tf.function": Way("keras_infer", ("function",), "keras"),
                "tf.function, XLA": Way("keras_infer", ("xla",), "keras"),
            },
            "timm": threaded("timm_infer", {"eager": "eager"}),
            "timm, TorchScript": threaded("timm_infer", {"frozen": "script"}),
            "onnxruntime": {"our export": Way("kcnn_infer", ("onnx",))},
        },
        ("resnet-50-v1", "resnet-50", "mobilenet-v2", "efficientnet-b0"),
        batches=(1, 32),
        pixels=224,
        steps=8,
    ),
    "start": Topic(
        {"kcnn": {"kcnn train": Way("kcnn_start")}, "keras": {"a script": Way("keras_start", (), "keras")}},
        ("resnet-50-v1", "densenet-121", "efficientnet-b0"),
        steps=1,
        fresh=True,
        folder=True,
    ),
    "memory": Topic(
        OURS | {"kcnn, recompute": {"": Way("kcnn_train", ("recompute=true",))}, "keras": {"fit": KERAS["fit"]}},
        tuple(name for name, twins in NETWORKS.items() if "keras" in twins),
        steps=3,
        figure="peak",
    ),
    "input": Topic(
        {
            "kcnn": {"": Way("input", ("kcnn",))},
            "decoding alone": {"": Way("input", ("decode",))},
            "torchvision": {"DataLoader": Way("input", ("torchvision",), "torchvision")},
            "timm": {"DataLoader": Way("input", ("timm",), "timm")},
        },
        ("",),
        batches=(32,),
        pixels=224,
        steps=16,
        ceilings={"copy": COPY},
        folder=True,
    ),
    "scaling": Topic(
        {
            "one device": {"": Way("kcnn_train")},
            "2 replicas": {"": Way("kcnn_train", ("strategy=mirrored", "replicas=2"))},
            "2 workers": {"": Way("kcnn_train", ("strategy=multi-worker",), workers=2)},
        },
        ("resnet-50", "mobilenet-v2", "efficientnet-b0"),
        steps=4,
    ),
}


def overridden(
    what: str, topic: Topic, networks: tuple[str, ...], steps: int | None, batch: int | None, pixels: int | None
) -> Topic:
    """Returns the topic with what was asked for in place of its own. Raises InputError for a network it cannot have."""
    if what == "input":
        networks = ()
    for network in networks:
        if network not in TWINS:
            raise InputError(f"network {shown(network)}: one of {', '.join(TWINS)} is needed")
    return replace(
        topic,
        networks=networks or topic.networks,
        steps=steps or topic.steps,
        batches=(batch,) if batch else topic.batches,
        pixels=pixels or topic.pixels,
    )
