"""Keras's files: HDF5, of Keras 3 or in its older form, also inside a .keras archive."""

import io
import math
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kcnn.errors import InputError, shown
from kcnn.weights.tensors import CONVERT, WHOLE, Tensors, brief, check_count, ranked, tensor

if TYPE_CHECKING:
    import h5py
    import numpy as np

FILTERS = (1, 2, 3, 4, 5, 6, 32000)  # HDF5's own, and LZF, which comes with h5py


def open_keras(path: Path) -> Tensors:
    """Opens the weights inside a .keras; the network that the archive describes is not looked at.

    They are unpacked into a file without a name, which goes with the process.
    """
    data = tempfile.TemporaryFile()  # noqa: SIM115 - it is read when all is checked
    try:
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("data.pkl") for name in archive.namelist()):
                raise InputError(f"weights {str(path)!r}: {CONVERT}")
            member = archive.getinfo("model.weights.h5")
            if member.file_size > 100 * path.stat().st_size:
                raise InputError(f"weights {str(path)!r}: its weights would grow a hundredfold when unpacked")
            with archive.open(member) as packed:
                shutil.copyfileobj(packed, data)
    except InputError:
        raise
    except Exception as error:  # a flipped bit can end in any exception that zipfile, zlib or struct know
        raise InputError(f"weights {str(path)!r}: an archive without weights of Keras ({brief(error)})") from error
    return open_hdf5(data, str(path))


def open_hdf5(source: Any, where: str = "") -> Tensors:
    """Opens an HDF5 file of Keras 3, or in its older form, whose groups are named after the layers.

    source: its path, or the open file.
    """
    import h5py
    import numpy as np

    where = where or str(source)
    try:
        file = h5py.File(source, "r")
        size = source.seek(0, io.SEEK_END) if hasattr(source, "seek") else source.stat().st_size
        refuse_links(file)
        places = newer(file) if "layers" in file and "layer_names" not in file.attrs else older(file)
        shapes = {name: tuple(file[place].shape) for name, place in places.items()}
        for name, place in places.items():
            found = file[place]
            if found.dtype.kind != "f":
                raise InputError(f"weights {where!r}: {shown(name)} is of {found.dtype}: floating-point is needed")
            if found.is_virtual or found.external:
                raise ValueError(f"the numbers of {shown(name)} are in another file")
            pipeline = found.id.get_create_plist()
            if any(pipeline.get_filter(i)[0] not in FILTERS for i in range(pipeline.get_nfilters())):
                raise ValueError(f"{shown(name)} is packed by a filter that is none of HDF5's own")
        if sum(4 * math.prod(shape) for shape in shapes.values()) > 100 * size:
            raise InputError(f"weights {where!r}: its tensors would be a hundred times as large as the file")
    except InputError:
        raise
    except Exception as error:  # h5py and HDF5 have no common exception for what is damaged
        raise InputError(f"weights {where!r}: no whole HDF5 file of Keras ({brief(error)})") from error
    check_count(where, len(shapes))

    def read(name: str, part: slice = WHOLE) -> "np.ndarray":
        try:
            found = file[places[name]]
            return np.asarray(found if part == WHOLE else found[part], np.float32)
        except Exception as error:
            raise InputError(f"weights {where!r}: {shown(name)} cannot be read ({brief(error)})") from error

    return Tensors(where, "keras", shapes, read)


def refuse_links(file: "h5py.File") -> None:
    """Raises ValueError where anything in the file is a link by name, which may lead into another file.

    No link is followed for it. Keras writes none.
    """
    import h5py

    pending, seen = [file], set()
    while pending:
        group = pending.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"it has a link at {shown(name)}, which may lead to another file")
            child = group[name]
            address = h5py.h5o.get_info(child.id).addr
            if isinstance(child, h5py.Group) and address not in seen:
                pending.append(child)
            seen.add(address)


KINDS = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("kernel", "bias"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "layer_normalization": ("gamma", "beta"),
    "layer_scale": ("scale",),
    "normalization": ("mean", "variance"),
}


def newer(file: "h5py.File") -> dict[str, str]:
    """Returns the places of tensors by name in a file of Keras 3: layers/conv2d_3/vars/0, where vars has the name."""
    places = {}
    for path in holders(file, "layers"):
        held = file[f"{path}/vars"]
        kind, name = re.sub(r"_\d+$", "", path.rpartition("/")[2]), held.attrs.get("name")
        if not isinstance(name, str):
            raise ValueError("its layers have no names, as Keras writes them from 3.5 on")
        leaves = KINDS.get(kind, ())
        if kind == "batch_normalization" and len(held) == 3:
            leaves = leaves[1:]
        for index, leaf in enumerate(leaves[: len(held)]):
            places[tensor(name, leaf)] = f"{path}/vars/{index}"
    return ranked(places)


def holders(file: "h5py.File", root: str) -> Iterator[str]:
    """Yields the groups of layers that hold variables, with those inside the networks in it, one level down."""
    for group in sorted_by_number(file[root]):
        path = f"{root}/{group}"
        if len(file.get(f"{path}/vars", ())):
            yield path
        elif root == "layers" and f"{path}/layers" in file:
            yield from holders(file, f"{path}/layers")


def older(file: "h5py.File") -> dict[str, str]:
    """Returns the places of tensors by name in the older form, in which each layer lists the names of its weights."""
    root = "model_weights/" if "model_weights" in file else ""
    top = file[root] if root else file
    places = {}
    for layer in map(text, top.attrs["layer_names"]):
        weights = [text(weight) for weight in top[layer].attrs["weight_names"]]
        owners = {weight: weight.rpartition("/")[0].rpartition("/")[2] for weight in weights}
        nested = len(set(owners.values())) > 1  # layers in a layer: ConvNeXt's stem
        for weight in weights:
            leaf = weight.rpartition("/")[2].partition(":")[0]
            if leaf == "depthwise_kernel" and not any("pointwise" in w for w in weights):
                leaf = "kernel"
            if leaf.lower().startswith("variable"):  # ConvNeXt's layer scale has no name: variable_3
                leaf = "scale"
            if leaf != "count":
                places[tensor(owners[weight] if nested else layer, leaf)] = f"{root}{layer}/{weight}"
    return ranked(places)


def sorted_by_number(names: Any) -> list[str]:
    return sorted(names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
