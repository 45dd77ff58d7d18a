"""Where weights come from: --weights imagenet | keras | timm/NAME[.TAG] | torchvision/NAME | FILE | RUN."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kcnn.arch import Arch
from kcnn.errors import InputError, shown
from kcnn.families import get
from kcnn.notation import from_data
from kcnn.weights import known
from kcnn.weights.conventions import Conventions, Library, conventions, is_share
from kcnn.weights.keras_names import KERAS
from kcnn.weights.loading import Report, Value, match, values
from kcnn.weights.maps import Names
from kcnn.weights.tensors import Tensors, brief, of_model, open_checkpoint, open_file, read_json
from kcnn.weights.timm_names import TIMM
from kcnn.weights.torchvision_names import TORCHVISION

FORMS = "imagenet, keras, timm/NAME[.TAG], torchvision/NAME, a file of weights or the folder of a run"
TABLES: dict[Library, Mapping[str, Names]] = {"timm": TIMM, "torchvision": TORCHVISION, "keras": KERAS}
TITLES = {"timm": "timm", "torchvision": "torchvision", "keras": "keras.applications", "kcnn": "kcnn"}


@dataclass(frozen=True)
class Pretrained:
    """Weights that were found and opened, and what they expect of the network.

    label: how messages call them. names: the rules of the library's names; None for our own. stem: the one that they
    were trained with. classes: the names of their classes, where these are known. notes: what was assumed of them.
    """

    label: str
    library: Library
    tensors: Tensors
    names: Names | None
    conventions: Conventions
    stem: Literal["standard", "small"] = "standard"
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def apply(self, arch: Arch) -> Arch:
        """Returns the architecture, scaled and with its stem, as these weights expect it."""
        return self.conventions.apply(arch)

    def values(self, model: Any, report: Report) -> Iterator[tuple[Any, Value]]:
        """Yields the network's weights with their values, and reports. Raises InputError where they do not fit."""
        report.notes += self.notes
        layers = [layer.name for layer in model.layers if layer.weights]
        found = match(layers, self.tensors, self.names)
        return values(model, found, f"weights {self.label!r}", report, self.conventions.blue_first)

    def fill(self, model: Any) -> Report:
        """Sets the network's weights. Raises InputError where they do not fit, and the network is of no use then."""
        report = Report()
        for weight, value in self.values(model, report):
            value.begin(weight)
        return report


def find(source: Any, arch: Arch) -> Pretrained:
    """Finds and opens the weights of a source for an architecture; what is downloaded is kept by who downloads it.

    Raises InputError for an unknown source, for one that has no weights of this network, and for a damaged file.
    """
    if not isinstance(source, str | Path) or not str(source):
        raise InputError(f"weights {shown(source)}: {FORMS} are possible")
    source = str(source)
    if source == "imagenet":
        best = known.best(arch.name)
        if best is None:
            raise InputError(
                f"weights imagenet: no public ones are known for {arch.name}; `kcnn info --weights` lists all"
            )
        return find(best, arch)
    if source == "keras" or source == f"keras/{known.keras_name(arch.name)}":
        return of_keras(arch)
    library, _, name = source.partition("/")
    if library in ("timm", "torchvision") and name and "/" not in name:
        return of_hub(source, library, name, arch)  # type: ignore[arg-type]
    path = Path(source)
    # os.path, unlike Path, takes a name that no file can have for a file that is not there.
    if os.path.isfile(path / "config.yaml"):
        return of_run(path, arch)
    if os.path.isfile(path / "model.safetensors"):
        path = path / "model.safetensors"
    if not os.path.isfile(path):
        what = "a folder that is no run" if os.path.isdir(path) else "neither a known source nor a file"
        raise InputError(f"weights {shown(source)}: this is {what}; {FORMS} are possible")
    return of_file(path, arch)


def network_of(source: str) -> Arch | None:
    """Returns the architecture that a source names: timm/NAME, torchvision/NAME, keras/NAME, or a file of ours.

    None for any other source. Raises InputError for a name that is not known.
    """
    library, _, name = source.partition("/")
    if library in ("timm", "torchvision", "keras") and name and "/" not in name:
        if library == "keras":
            named = [row.network for row in known.rows() if row.source == source]
            return get(named[0] if named else name)
        return get(name.partition(".")[0])
    path = Path(source)
    if os.path.isfile(path) and path.suffix == ".safetensors":
        tensors = open_file(path)
        if tensors.about.get("format") == "kcnn":
            return stored_arch(tensors)
    return None


def of_file(path: Path, arch: Arch) -> Pretrained:
    """Opens a file, and tells from the names of its tensors whose they are."""
    tensors = open_file(path)
    if tensors.about.get("format") == "kcnn":
        return of_ours(tensors, arch)
    if tensors.layout == "keras" and any(name.startswith(("stem1_", "stage1_")) for name in tensors.shapes):
        return Pretrained(str(path), "kcnn", tensors, None, Conventions())
    config = read_json(path.with_name("config.json")) or {}
    config = config if isinstance(config, dict) else {}
    name = str(config.get("architecture") or tensors.about.get("architecture") or "")
    if not name:
        name = next((part for part in (path.stem, path.parent.name) if part.startswith("tf_")), "")
    library = whose(tensors, arch)
    if library is None:
        raise InputError(
            f"weights {str(path)!r}: {unknown(arch, tensors.layout)}, and none of its {len(tensors.shapes)} tensors "
            f"has a name of ours; the first is {min(tensors.shapes)}"
        )
    inner = config.get("pretrained_cfg", config)
    found = pretrained(str(path), library, tensors, arch, name, inner if isinstance(inner, dict) else {})
    return found if name or library != "timm" else replace(found, notes=assumed(arch))


def assumed(arch: Arch) -> tuple[str, ...]:
    """Says that weights were taken for timm's own, where it has TensorFlow's, too, under the same names of tensors."""
    theirs = [row.source for row in known.rows() if row.network == arch.name and row.source.startswith("timm/tf_")]
    if not theirs:
        return ()
    name = theirs[0].removeprefix("timm/").partition(".")[0]
    return (
        f"taken for timm's {name.removeprefix('tf_')} (symmetric padding, epsilon 1e-5); if they are of its {name} "
        f"(TensorFlow's padding, epsilon 1e-3), name the file {name}.safetensors, or put their config.json beside it",
    )


def unknown(arch: Arch, layout: str) -> str:
    libraries = "keras.applications" if layout == "keras" else "timm and torchvision"
    if layout == "keras" and arch.family == "resnet":
        return f"keras.applications' ResNets have the stride on the first 1x1, as {arch.name}-v1 here"
    if layout == "torch" and arch.family == "resnet-v1":
        return f"PyTorch's ResNets have the stride on the 3x3, as {arch.name.removesuffix('-v1')} here"
    return f"no network like {arch.name} is known of {libraries}"


def family(arch: Arch) -> str:
    """Returns the key of the network in the tables of names."""
    return "vgg-bn" if arch.family == "vgg" and arch.style.norm else arch.family


def whose(tensors: Tensors, arch: Arch) -> Library | None:
    """Tells which library names tensors so: by the classifier's name, or else by the stem's. None for neither."""
    libraries: tuple[Library, ...] = ("keras",) if tensors.layout == "keras" else ("timm", "torchvision")
    tables = [(library, TABLES[library][family(arch)]) for library in libraries if family(arch) in TABLES[library]]
    leaf = "/kernel" if tensors.layout == "keras" else ".weight"
    for library, names in tables:
        if f"{names.logits}{leaf}" in tensors.shapes:
            return library
    for library, names in tables:
        stem = names.rules.get("stem1_conv", "")
        words = (names.pair or "{}").format(stem, stem).split() if isinstance(stem, str) else []
        if words and f"{words[0]}{leaf}" in tensors.shapes:
            return library
    return tables[0][0] if tables else None


def pretrained(
    label: str, library: Library, tensors: Tensors, arch: Arch, name: str = "", config: Mapping[str, Any] | None = None
) -> Pretrained:
    """Returns tensors with the library's names and conventions. Raises InputError where it has no such network."""
    key = family(arch)
    if key not in TABLES[library]:
        raise InputError(f"weights {label!r}: {unknown(arch, tensors.layout)}")
    config = config or {}
    if prefix := TABLES[library][key].prefix:
        tensors = tensors.renamed(lambda theirs: re.sub(f"^{prefix}", "", theirs))
    name = name or arch.name.replace("-", "_")
    rules = conventions(library, arch.family, name, config)
    if "normalization:0/mean" in tensors.shapes:
        rules = replace(rules, style={**rules.style, **own_input(tensors)})
    classes = known.imagenet_classes() if str(config.get("tag", "")).endswith("in1k") or library == "keras" else None
    return Pretrained(label, library, tensors, TABLES[library][key], rules, classes=classes)


# Keras


def own_input(tensors: Tensors) -> dict[str, tuple[float, ...]]:
    """Returns the mean and deviation of keras.applications' EfficientNet, whose first layer holds them.

    The published ones keep the deviation in place of the variance, and the network divides by its root once more.
    """
    mean, variance = (tensors.read(f"normalization:0/{leaf}").ravel().tolist() for leaf in ("mean", "variance"))
    if len(mean) != 3 or len(variance) != 3 or not all(0 < v < 100 for v in variance):
        raise InputError(f"weights {tensors.where!r}: mean {mean} and variance {variance} of its input are no colours'")
    twice = all(abs(v - s) < 1e-3 for v, s in zip(variance, (0.229, 0.224, 0.225), strict=True))
    return {"mean": tuple(255 * m for m in mean), "std": tuple(255 * (v if twice else v**0.5) for v in variance)}


def of_keras(arch: Arch) -> Pretrained:
    """Downloads keras.applications' weights by its own means, into ~/.keras, and reads them out of its network."""
    name = known.keras_name(arch.name)
    if name is None:
        raise InputError(f"weights keras: {unknown(arch, 'keras')}")
    import keras

    try:
        model = getattr(keras.applications, name)(weights="imagenet")
    except Exception as error:  # its downloader raises plain Exception
        raise InputError(f"weights keras: {name} cannot be downloaded ({brief(error)})") from error
    return pretrained(f"keras/{name}", "keras", of_model(model, f"keras/{name}"), arch)


# The Hugging Face hub


def of_hub(source: str, library: Library, name: str, arch: Arch) -> Pretrained:
    """Downloads timm's or torchvision's weights from the Hugging Face hub, where timm keeps both."""
    check_name(source, library, name, arch)
    name, _, tag = name.partition(".")
    repository = known.repository(source, library, name, tag)
    path = download(source, repository, "model.safetensors")
    config = read_json(download(source, repository, "config.json"))
    inner = config.get("pretrained_cfg") if isinstance(config, dict) else None
    inner = (inner if isinstance(inner, dict) else {}) | {"tag": repository.partition(".")[2]}
    # timm names its tensors alike, whoever trained them.
    return pretrained(f"timm/{repository}", "timm", open_file(path), arch, repository, inner)


def check_name(source: str, library: str, name: str, arch: Arch) -> None:
    """Raises InputError for a name of a network that is not the one that is built."""
    meant = get(name.partition(".")[0])
    if meant.name != arch.name:
        raise InputError(f"weights {source!r}: these are of {meant.name}, and {arch.name} is to be built")


def download(source: str, repository: str, file: str) -> Path:
    """Fetches a file of timm's repository on the hub, or finds it in the cache. Raises InputError."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        raise InputError(f"weights {source!r} need huggingface_hub: pip install huggingface_hub") from None
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it tells of every try
    try:
        return Path(huggingface_hub.hf_hub_download(f"timm/{repository}", file))
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"weights {source!r}: the Hugging Face hub cannot be reached, and {file} of timm/{repository} is not in "
            "its cache on this machine"
        ) from error
    except Exception as error:  # from the network, the hub or the cache
        raise InputError(
            f"weights {source!r}: {file} of timm/{repository} cannot be downloaded from the Hugging Face hub "
            f"({type(error).__name__}: {brief(error)})"
        ) from error
    finally:
        logger.setLevel(level)


# Our own


def of_ours(tensors: Tensors, arch: Arch) -> Pretrained:
    """Opens what `kcnn export --format safetensors` wrote, with the architecture as it was built."""
    stored = stored_arch(tensors)
    try:
        classes = json.loads(tensors.about.get("classes", "[]"))
        crop, method = json.loads(tensors.about.get("crop", "null")), tensors.about.get("interpolation")
        if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
            raise ValueError("its class names are no list of names")
    except (KeyError, ValueError, RecursionError, TypeError) as error:
        raise InputError(f"weights {tensors.where!r}: no metadata of kcnn's ({brief(error)})") from error
    return ours(tensors.where, tensors, stored, crop, method, tuple(classes) or None)


def stored_arch(tensors: Tensors) -> Arch:
    """Returns the architecture in the metadata of a file of ours. Raises InputError where there is none."""
    try:
        return from_data(json.loads(tensors.about["arch"]))
    except (KeyError, ValueError, RecursionError, TypeError) as error:
        raise InputError(f"weights {tensors.where!r}: no metadata of kcnn's ({brief(error)})") from error


def ours(
    label: str, tensors: Tensors, stored: Arch, crop: Any, method: Any, classes: tuple[str, ...] | None
) -> Pretrained:
    """Returns weights of a network of ours, which is built again just as it was but for resolution and dropout."""

    def rows(arch: Arch) -> Arch:
        if arch.name != stored.name:
            raise InputError(f"weights {label!r}: these are of {stored.name}, and {arch.name} is to be built")
        kept = {key: getattr(arch, key) for key in ("resolution", "dropout", "drop_path")}
        style = replace(stored.style, bn_momentum=arch.style.bn_momentum)
        return replace(stored, style=style, **kept)

    crop = float(crop) if is_share(crop) else None
    return Pretrained(label, "kcnn", tensors, None, Conventions({}, rows, crop, known_method(method)), classes=classes)


def of_run(folder: Path, arch: Arch) -> Pretrained:
    """Opens the last checkpoint of a run, or its best one; its configuration tells its conventions."""
    checkpoints = folder / "checkpoints"
    steps = sorted(checkpoints.glob("step-*.npz"), key=lambda path: int("0" + re.sub(r"\D", "", path.stem)))
    path = steps[-1] if steps else checkpoints / "best.npz"
    if not path.is_file():
        raise InputError(f"weights {str(folder)!r}: the run has no checkpoint")
    values, classes = read_yaml(folder / "config.yaml"), read_json(folder / "classes.json")
    names = tuple(classes) if isinstance(classes, list) and all(isinstance(c, str) for c in classes) else None
    tensors, built, own = open_checkpoint(path), values.get("built_as"), values.get("arch")
    if isinstance(built, dict):
        return ours(str(folder), tensors, from_data(built), values.get("eval_crop"), values.get("interpolation"), names)
    name = own.get("name") if isinstance(own, dict) else own
    if not isinstance(name, str) or get_bare(name) != arch.name:
        raise InputError(f"weights {str(folder)!r}: these are of {shown(name)}, and {arch.name} is to be built")
    stem, pixels = values.get("stem"), values.get("resolution")
    if stem not in ("standard", "small"):
        stem = "small" if isinstance(pixels, int) and pixels <= arch.small else "standard"
    crop, method = values.get("eval_crop"), values.get("interpolation")
    found = Conventions({}, crop=crop if is_share(crop) else None, interpolation=known_method(method))
    return Pretrained(str(folder), "kcnn", tensors, None, found, "small" if stem == "small" else "standard", names)


def get_bare(name: str) -> str:
    """Returns the canonical name of an architecture, or the name itself where it is none of ours."""
    try:
        return get(name).name
    except InputError:
        return name


def known_method(method: Any) -> Literal["bilinear", "bicubic"] | None:
    return method if method in ("bilinear", "bicubic") else None


def read_yaml(path: Path) -> dict[str, Any]:
    """Returns the values of a run's configuration. Raises InputError for a damaged one."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")[: 2**20])
        if not isinstance(data, dict):
            raise ValueError("no mapping")
        return data
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({brief(error)})") from error
