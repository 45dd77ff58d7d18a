"""Files of weights, read as arrays alone: their names and shapes first, and then one tensor at a time.

Nothing here runs code that a file names, and nothing is allocated that a file cannot fill.
"""

import json
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kcnn.errors import InputError, shown

if TYPE_CHECKING:
    import numpy as np

MOST_TENSORS = 100_000
CHUNK = 2**25  # bytes read from a memory-mapped file before it is opened again, which gives its pages back
PART = (
    48 * 2**20
)  # bytes of a larger tensor that are read at once: above what the C library keeps for itself when freed
WHOLE = slice(None)
FLOATS = ("F64", "F32", "F16", "BF16")
PICKLES = (".pth", ".pt", ".bin", ".pkl", ".ckpt", ".tar")
CONVERT = (
    "it is a pickle, which can run code when it is opened. Convert it where you trust it: "
    "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'weights.safetensors')"
)


@dataclass(frozen=True)
class Tensors:
    """The tensors of a source by their names there.

    where: what messages call the source. layout: whose order of axes they have. read: one of them, or a part of its
    first axis, in float32. about: what the file says of itself.
    """

    where: str
    layout: Literal["torch", "keras"]
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[..., "np.ndarray"]
    about: Mapping[str, Any] = field(default_factory=dict)

    def renamed(self, name: Callable[[str], str]) -> "Tensors":
        """Returns the tensors under the names that a function makes of theirs."""
        theirs = {name(old): old for old in self.shapes}
        shapes = {new: self.shapes[old] for new, old in theirs.items()}
        return replace(self, shapes=shapes, read=lambda new, *part: self.read(theirs[new], *part))


def open_file(path: Path) -> Tensors:
    """Opens a .safetensors, .weights.h5, .h5 or .keras. Raises InputError for what is none, or is damaged."""
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise InputError(f"weights {str(path)!r}: {error.strerror or error}") from error
    if re.match(rb"\s*<(!doctype|html|\?xml)", start, re.IGNORECASE):
        raise InputError(f"weights {str(path)!r}: this is a web page, saved instead of the file that it links to")
    if start.startswith(b"version https://git-lfs"):
        raise InputError(
            f"weights {str(path)!r}: this is a pointer of Git LFS, not the file: `git lfs pull` fetches it"
        )
    if path.suffix in PICKLES or start.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        raise InputError(f"weights {str(path)!r}: {CONVERT}")
    from kcnn.weights.hdf5 import open_hdf5, open_keras  # which need this module

    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return open_hdf5(path)
    if zipfile.is_zipfile(path):
        return open_keras(path)
    if path.suffix != ".safetensors":
        raise InputError(f"weights {str(path)!r}: a .safetensors, .weights.h5, .h5 or .keras file is needed")
    return open_safetensors(path)


def open_safetensors(path: Path) -> Tensors:
    """Opens a .safetensors; the package checks lengths, offsets and overlaps before it hands out a tensor."""
    import numpy as np

    safe_open, SafetensorError = safetensors()
    try:
        with safe_open(path, "numpy") as file:
            shapes, kinds, about = {}, {}, dict(file.metadata() or {})
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                part = file.get_slice(name)
                shapes[name], kinds[name] = tuple(part.get_shape()), part.get_dtype()
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"weights {str(path)!r}: no whole safetensors file ({brief(error)})") from error
    check_count(path, len(shapes))
    counters = {name for name in shapes if kinds[name] not in FLOATS and name.endswith("num_batches_tracked")}
    for name in shapes.keys() - counters:
        if kinds[name] not in FLOATS:
            raise InputError(f"weights {str(path)!r}: {shown(name)} is of {kinds[name]}: floating-point is needed")
    opened: dict[str, Any] = {}

    def read(name: str, part: slice = WHOLE) -> "np.ndarray":
        try:
            if not opened:
                opened.update(file=safe_open(path, "numpy").__enter__(), left=CHUNK)
            file = opened["file"]
            array = file.get_tensor(name) if part == WHOLE else file.get_slice(name)[part]
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"weights {str(path)!r}: {shown(name)} cannot be read ({brief(error)})") from error
        opened["left"] -= array.nbytes
        if opened["left"] <= 0:
            opened.clear()
        return np.asarray(array, np.float32)

    own = about.get("format") == "kcnn"
    shapes = {name: shape for name, shape in shapes.items() if name not in counters}
    return Tensors(str(path), "keras" if own else "torch", shapes, read, about)


def safetensors() -> tuple[Any, Any]:
    """Returns the package's reader and its error. Raises InputError where it is not installed."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise InputError("safetensors files need the package safetensors: pip install safetensors") from None
    return safe_open, SafetensorError


def check_count(path: Any, count: int) -> None:
    if not 0 < count <= MOST_TENSORS:
        raise InputError(f"weights {str(path)!r}: {count:,} tensors, where 1 to {MOST_TENSORS:,} are possible")


def tensor(layer: str, leaf: str) -> str:
    """Returns "conv1/kernel"; a separable convolution counts as two layers, "sep1.depthwise" and "sep1.pointwise"."""
    for part in ("depthwise", "pointwise"):
        if leaf == f"{part}_kernel":
            return f"{layer}.{part}/kernel"
    return f"{layer}/{leaf}"


def ranked(places: dict[str, str]) -> dict[str, str]:
    """Numbers layers that Keras named itself from 0: conv2d_17, conv2d_18 become conv2d:0, conv2d:1."""
    numbers: dict[str, set[int]] = {}
    automatic = re.compile(r"(conv2d|batch_normalization|normalization)(?:_(\d+))?/.*")
    for name in places:
        if match := automatic.fullmatch(name):
            numbers.setdefault(match[1], set()).add(int(match[2] or 0))
    order = {kind: sorted(found) for kind, found in numbers.items()}

    def renamed(name: str) -> str:
        match = automatic.fullmatch(name)
        if not match:
            return name
        return f"{match[1]}:{order[match[1]].index(int(match[2] or 0))}/{name.partition('/')[2]}"

    return {renamed(name): place for name, place in places.items()}


def of_model(model: Any, where: str) -> Tensors:
    """Returns the weights of a Keras network in memory."""
    import numpy as np

    found = {}
    for layer in model.layers:
        for v in layer.weights:
            leaf = "scale" if v.name == "variable" else v.name  # of Keras's layer scale
            if leaf == "depthwise_kernel" and not hasattr(layer, "pointwise_kernel"):
                leaf = "kernel"
            if leaf not in ("count", "seed_generator_state"):
                found[tensor(v.path.split("/")[-2], leaf)] = v  # the layer inside, where this one is a network
    names = ranked({name: name for name in found})
    shapes = {name: tuple(found[old].shape) for name, old in names.items()}
    return Tensors(where, "keras", shapes, lambda name, part=WHOLE: np.asarray(found[names[name]], np.float32)[part])


def brief(error: Exception) -> str:
    """Returns what an exception says, in a line that is not long."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def open_checkpoint(path: Path) -> Tensors:
    """Opens a checkpoint of a run, an .npz without pickles: the moving averages where it has them, else the weights."""
    import numpy as np

    try:
        archive = zipfile.ZipFile(path)
        members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
        if sum(m.file_size for m in members.values()) > path.stat().st_size:
            raise ValueError("its directory lists more than it holds")
        part = "ema/" if any(name.startswith("ema/") for name in members) else "model/"
        own = {name.removeprefix(part): member for name, member in members.items() if name.startswith(part)}
        shapes = {name: array_shape(archive, member) for name, member in own.items()}
    except Exception as error:  # a flipped bit can end in any exception that zipfile, struct or NumPy know
        raise InputError(f"checkpoint {str(path)!r} is damaged ({brief(error)})") from error
    check_count(path, len(shapes))

    def read(name: str, part: slice = WHOLE) -> "np.ndarray":
        try:
            with archive.open(own[name]) as file:
                return np.asarray(np.lib.format.read_array(file, allow_pickle=False), np.float32)[part]
        except Exception as error:
            raise InputError(f"checkpoint {str(path)!r}: {shown(name)} cannot be read ({brief(error)})") from error

    return Tensors(str(path), "keras", shapes, read, {"format": "kcnn"})


def array_shape(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[int, ...]:
    """Returns the shape of an array of floating-point numbers in an .npz. Raises ValueError for anything else."""
    import numpy as np

    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{member.filename} is of an unknown version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        left = member.file_size - file.tell()
    if fortran or dtype.kind != "f" or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != left:
        raise ValueError(f"{member.filename} is not as it was written")
    return shape


def read_json(path: Path, most: int = 2**20) -> Any:
    """Returns what a small JSON file holds, or None where there is none. Raises InputError for a damaged one."""
    if not path.is_file():
        return None
    try:
        with open(path, encoding="utf-8") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise ValueError(f"more than {most:,} characters")
        return json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({brief(error)})") from error
