"""The only loop that makes a network of an architecture: of Keras's layers, or in outline."""

import bisect
import contextlib
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from kcnn.arch import LEAST, MOST_CHANNELS, MOST_PIXELS, Arch, Stage, check_size, number, pick, scale
from kcnn.blocks import BLOCKS, outline
from kcnn.blocks.scope import Scope, Tensor
from kcnn.errors import InputError, shown, whole
from kcnn.families import get
from kcnn.terminal.starting import load_keras
from kcnn.weights import find

if TYPE_CHECKING:
    import keras

MOST_CLASSES = 10_000_000
Stem = Literal["auto", "standard", "small"]


def build(
    arch: Arch | str,
    classes: int = 1000,
    *,
    width: float = 1.0,
    depth: float = 1.0,
    resolution: int | None = None,
    dropout: float | None = None,
    drop_path: float | None = None,
    weights: str | None = None,
    channels: int = 3,
    stem: Stem = "auto",
    aux: bool = False,
) -> "keras.Model":
    """Builds a network of the architecture, from pixels to logits.

    Input: (batch, resolution, resolution, channels), pixel values from 0 to 255 (normalization is the first
    layer). Output: logits (batch, classes), float32 whatever the precision.
    classes: 0 leaves the classifier out: the output is what it would read, the head's features (batch, features), of
    the layers' dtype. All other layers and weights are the same. For maps of features see `kcnn.features`.
    width, depth: multipliers, see `scale`. resolution: pixels, the architecture's own by default.
    dropout, drop_path: rates of the head's dropout and of stochastic depth, which grows linearly from block to
    block up to this; the architecture's own by default; families without a place for one ignore it.
    stem: "small" takes the strides out of the stem; "auto" does so for inputs of 64 pixels and less, or whatever
    `Arch.small` says.
    aux: whether the network gets its auxiliary heads, for training: outputs are then a list, the logits first and
    then those of each of `Arch.aux`, if it has any. All other layers have the names that they have without.
    For images of any height and width see `kcnn.any_size`.
    weights: where they come from, see `kcnn.weights.find`; the network then follows their conventions, and what became
    of each tensor is said on stderr. The stem is then the one that they were trained with.
    Raises InputError for an unknown name, a resolution that the network cannot take, weights that do not fit it, or
    that are beyond the memory.
    """
    if "keras" not in sys.modules:
        load_keras()
    import keras
    from keras.src.backend.common.stateless_scope import in_stateless_scope

    from kcnn import layers

    found = None if weights is None else find(weights, arch if isinstance(arch, Arch) else get(arch))
    if found is not None and stem == "auto":
        stem = found.stem
    arch = resolve(arch, width, depth, resolution, stem)
    if found is not None:
        arch = found.apply(arch)
    ends = Ends.of(arch, classes, channels, dropout, drop_path, aux)
    if aux and not classes:
        raise InputError("aux True: auxiliary heads classify, so classes of 1 or more are needed")
    drawn = assemble(outline, arch, ends)
    if not in_stateless_scope():
        refuse_absurd(drawn, arch.resolution)
    # Keras walks a graph by recursion, some fifteen layers a block.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 1000 + 30 * sum(s.depth for s in arch.stages)))
    if found is None:
        with keras.StatelessScope():  # which allocates all weights at its end, and is a fifth faster
            return assemble(layers, arch, ends)
    with abstract():
        model = assemble(layers, arch, ends)
    report = found.fill(model)
    for v in model.variables:  # what is new, and the seeds of dropout
        if v._value is None:
            v._deferred_initialize()
    print(f"weights {found.label}: {report}", file=sys.stderr)
    return model


def draw(
    arch: Arch | str,
    classes: int = 1000,
    *,
    width: float = 1.0,
    depth: float = 1.0,
    resolution: int | None = None,
    channels: int = 3,
    stem: Stem = "auto",
) -> outline.Model:
    """Draws the outline of the network that `build` makes of the same arguments. This takes neither Keras nor memory.

    Raises InputError as `build` does, but for weights beyond the memory.
    """
    arch = resolve(arch, width, depth, resolution, stem)
    return assemble(outline, arch, Ends.of(arch, classes, channels))


@dataclass(frozen=True)
class Ends:
    """The values that an architecture leaves open. aux: whether the auxiliary heads grow, too."""

    classes: int
    channels: int
    dropout: float
    drop_path: float
    aux: bool = False

    @classmethod
    def of(
        cls,
        arch: Arch,
        classes: int,
        channels: int,
        dropout: float | None = None,
        drop_path: float | None = None,
        aux: bool = False,
    ) -> "Ends":
        """Checks the values; None takes the architecture's own. Raises InputError for what is no such number."""
        return cls(
            whole("classes", classes, MOST_CLASSES, 0),
            whole("channels", channels, MOST_CHANNELS),
            rate("dropout", arch.dropout if dropout is None else dropout),
            rate("drop_path", arch.drop_path if drop_path is None else drop_path),
            aux,
        )


def assemble(layers: Any, arch: Arch, ends: Ends) -> Any:
    """Makes the network with its classifiers; `layers` is the module of layers: kcnn.layers, or outline.

    Raises InputError for a resolution that it cannot take.
    """
    try:
        inputs, x, *others = grow(layers, arch, ends)
    except ValueError as error:
        least = smallest(arch, ends.channels)
        if arch.resolution >= least:
            raise
        raise InputError(
            f"resolution {arch.resolution} is too small for {arch.name}: {least} pixels at least"
        ) from error
    logits = classify(layers, x, ends.classes, "logits")
    if ends.aux:
        logits = [logits, *(classify(layers, x, ends.classes, f"aux{k}") for k, x in enumerate(others, 1))]
    return layers.Model(inputs, logits, name=arch.name)


def classify(layers: Any, x: Tensor, classes: int, name: str) -> Tensor:
    """x W + b in float32, or x itself for no classes. Of a map, where no average ends the head, the mean over its
    places: of relu(x W + b), as SqueezeNet classifies, or of x."""
    if classes:
        start = {"class_name": "RandomNormal", "config": {"stddev": 0.01}}
        x = layers.Dense(classes, kernel_initializer=start, dtype="float32", name=name)(x)
    if len(x.shape) == 2:
        return x
    if not classes:
        return layers.GlobalAveragePooling2D(name="head_average")(x)
    x = layers.Activation("relu", dtype="float32", name=f"{name}_act")(x)
    return layers.GlobalAveragePooling2D(dtype="float32", name=f"{name}_average")(x)


def grow(layers: Any, arch: Arch, ends: Ends) -> list[Tensor]:
    """Returns the input, what stem, stages and head make of it, and then what the auxiliary heads make."""
    style = replace(arch.style, bias=arch.style.bias or not arch.style.norm)
    network = Scope(layers, style)
    x = inputs = layers.Input((arch.resolution, arch.resolution, ends.channels), name="image")
    x, *past = in_a_row(network, arch.stem, normalize(network, x), "stem")
    total, done, others = sum(s.depth for s in arch.stages), 0, []
    for i, s in enumerate(arch.stages, 1):
        for j in range(s.depth):
            done += 1
            here = replace(network, past=tuple(past))
            past = [x, *past[:1]]
            x = block(here, s, x, j, f"stage{i}_block{j + 1}", ends.drop_path * done / total)
            for k, a in enumerate(arch.aux if ends.aux else (), 1):
                if (i, j + 1) == (a.stage, max(1, round(a.share * s.depth))):
                    others.append(in_a_row(network, a.head, x, f"aux{k}_", ends.dropout)[0])
    return [inputs, in_a_row(network, arch.head, x, "head", ends.dropout)[0], *others]


def in_a_row(network: Scope, rows: tuple[Stage, ...], x: Tensor, name: str, drop: float = 0.0) -> list[Tensor]:
    """Returns what the blocks of a stem or a head make of x, and before it what the last two of them have read."""
    past: list[Tensor] = []
    for i, s in enumerate(rows, 1):
        here = replace(network, past=tuple(past))
        past = [x, *past[:1]]
        x = block(here, s, x, 0, f"{name}{i}_{s.block}", drop)
    return [x, *past]


def resolve(
    arch: Arch | str, width: float = 1.0, depth: float = 1.0, resolution: int | None = None, stem: Stem = "auto"
) -> Arch:
    """Returns the architecture just as it will be built: scaled, at its resolution, with the stem that fits."""
    arch = scale(arch if isinstance(arch, Arch) else get(arch), width, depth)
    if resolution is not None:
        arch = replace(arch, resolution=whole("resolution", resolution, MOST_PIXELS))
    check_size(arch)
    if which_stem(arch, arch.resolution, stem) == "small":
        arch = replace(arch, stem=small_stem(arch.stem, (*arch.stages, *arch.head)))
    return arch


def which_stem(arch: Arch, resolution: int, stem: Stem = "auto") -> Stem:
    """Returns "standard" or "small"; "auto" depends on the resolution."""
    if stem not in ("auto", "standard", "small"):
        raise InputError(f"stem {shown(stem)}: one of auto, standard, small is needed")
    return stem if stem != "auto" else "small" if resolution <= arch.small else "standard"


def small_stem(stem: tuple[Stage, ...], others: tuple[Stage, ...] = ()) -> tuple[Stage, ...]:
    """Takes the strides out of a stem: pooling goes, a kernel above 3 becomes 3, and all convolutions are padded.

    Where the other rows alone have a stride below 8, the stem's last strides stay: more places would only cost.
    """
    rows, stride = [], math.prod(s.stride for s in others) if others else 8
    for s in reversed(stem):
        if stride < 8 and s.stride > 1:
            stride *= s.stride
            rows.append(s)
        elif s.block != "max_pool":
            options = {key: value for key, value in s.options.items() if key != "padding"}
            if "kernel" in options:
                options["kernel"] = min(3, options["kernel"])
            rows.append(replace(s, stride=1, options=options))
    return tuple(reversed(rows))


def block(network: Scope, s: Stage, x: Tensor, j: int, name: str, drop: float) -> Tensor:
    """Returns what block j of a stage makes of x; j counts from 0, and the first block has the stride."""
    options = {key: pick(value, j, s.depth) for key, value in s.options.items()}
    scope = replace(network, name=name, width=pick(s.width, j, s.depth), stride=1 if j else s.stride, drop=drop)
    return BLOCKS[s.block](scope, x, **options)


def normalize(network: Scope, x: Tensor) -> Tensor:
    """(x - mean) / std, in float32: bfloat16 would lose pixels' last bits."""
    mean, std = network.style.mean, network.style.std
    if x.shape[-1] != len(mean):  # other channels than RGB: the averages serve
        mean, std = (sum(mean) / len(mean),) * x.shape[-1], (sum(std) / len(std),) * x.shape[-1]
    scale, offset = [1 / s for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
    return network.layers.Rescaling(scale, offset, dtype="float32", name="normalize")(x)


def refuse_absurd(model: outline.Model, resolution: int) -> None:
    """Raises InputError where the weights alone are larger than this machine's memory."""
    needed = 4 * sum(math.prod(v.shape) for v in model.weights)
    if needed > physical_memory():
        raise InputError(
            f"{model.name} at {resolution} pixels has weights of {needed / 1e9:,.0f} GB, this machine "
            f"{physical_memory() / 1e9:,.0f} GB of memory: smaller multipliers or fewer classes are needed"
        )


def physical_memory() -> int:
    """Returns the bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def rate(what: str, value: float) -> float:
    if not (number(value) and 0 <= value < 1):
        raise InputError(f"{what} {shown(value)}: a rate from 0 to below 1 is needed")
    return value


def takes(arch: Arch, resolution: int, channels: int) -> bool:
    """Tells whether the network can be built for a resolution."""
    try:
        grow(outline, replace(arch, resolution=resolution), Ends(1, channels, 0.0, 0.0))
    except ValueError:
        return False
    return True


def smallest(arch: Arch, channels: int = 3) -> int:
    """Finds the smallest resolution in pixels that the network can take."""
    arch = scale(arch, width=LEAST)  # which does not matter to it, and less is sooner tried
    return bisect.bisect_left(range(1, 1024), True, key=lambda r: takes(arch, r, channels)) + 1


@contextlib.contextmanager
def abstract() -> Iterator[None]:
    """Makes the Keras models that are built inside have shapes but no weights.

    Keras defers variables made in a stateless scope and remembers them to initialize them at the next chance, such as
    the end of another one; here they are forgotten again, for which Keras has no public name.
    """
    import keras
    from keras.src.backend.common import global_state

    known = list(global_state.get_global_attribute("uninitialized_variables", []))
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute("uninitialized_variables", known)
