"""The weights of a finished run, for a network that starts from them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from kcnn.arch import Arch
from kcnn.builder import abstract
from kcnn.errors import InputError
from trainers.network import networks
from trainers.runs import checkpoints, folders
from trainers.settings import RunConfig


@dataclass(frozen=True)
class Start:
    """The arrays that a network starts from, by the paths of its weights, and a line about them. Weights without an
    array stay random."""

    arrays: checkpoints.Arrays
    report: str

    def into(self, model: keras.Model) -> None:
        for v in model.weights:
            if v.path in self.arrays:
                v.assign(self.arrays[v.path])


def start_from_run(folder: str, config: RunConfig, classes: tuple[str, ...]) -> Start:
    """Reads the last weights of a run, their averages where it has them, for the network of `config`.

    Where the run's classes are others, its classifiers are left out. Raises InputError for what is no run with a
    checkpoint, for another network, and for numbers that are not finite.
    """
    try:
        path, saved, names = folders.open_run(folder)
    except InputError as error:
        raise InputError(f"weights {error}") from error
    if not folders.is_finished(path):
        raise InputError(f"weights {folder}: the run is unfinished; go on with it first: --resume {folder}")
    same_network(folder, saved, config.arch)
    found = checkpoints.found(path / "checkpoints")
    if not found:
        raise InputError(f"weights {folder}: the run has no checkpoint any more")
    arrays = named(checkpoints.load(found[0])[0])
    with abstract():
        expected = checkpoints.shapes({v.path: v for v in networks(config, len(classes))[0].weights})
    fresh = {key for key in expected if is_classifier(key)} if names != classes else set()
    # Auxiliary heads, which the run's network may have grown and this one not, are no loss.
    arrays = {key: array for key, array in arrays.items() if key in expected.keys() - fresh}
    checkpoints.compare({key: expected[key] for key in expected.keys() - fresh}, arrays, found[0])
    for key, array in arrays.items():
        checkpoints.need_finite(array, f"weights {folder}: a number of {key!r}", "best")
    dropped = f"; {', '.join(sorted(fresh))} start anew, as the run's classes are others" if fresh else ""
    return Start(arrays, f"{len(arrays)} tensors of {Path(folder)}, after step {int(found[0].stem[5:]):,}{dropped}")


def named(arrays: checkpoints.Arrays) -> checkpoints.Arrays:
    """A checkpoint's weights by their paths: the averages, or the weights themselves where there are none."""
    part = "ema/" if any(key.startswith("ema/") for key in arrays) else "model/"
    return {key.removeprefix(part): array for key, array in arrays.items() if key.startswith(part)}


def is_classifier(path: str) -> bool:
    """Tells whether a weight belongs to the classifier, or to that of an auxiliary head."""
    return path.split("/")[0] in ("logits", *(f"aux{k}" for k in range(1, 10)))


def same_network(folder: str, saved: RunConfig, arch: Arch) -> None:
    """Raises InputError where a run's network computes something else than one of this architecture."""
    if saved.own_network or not arch.stages:
        raise InputError(
            f"weights {folder}: a network of your own starts from the weights that it has; load the run's "
            "model.keras and give it to trainers.fit"
        )
    theirs, ours = essence(saved.arch), essence(arch)
    if theirs == ours:
        return
    if replace(theirs, stem=ours.stem) == ours:
        raise InputError(f"weights {folder}: its network has another stem; leave out --stem, which is then the run's")
    other = saved.arch.name if saved.arch.name != arch.name else f"{arch.name} with another width, depth or style"
    raise InputError(f"weights {folder}: its network is {other}; with --arch {saved.name} and its multipliers it fits")


def essence(arch: Arch) -> Any:
    """The architecture without what makes no difference to the weights."""
    style = replace(arch.style, bn_momentum=0.0)
    return replace(arch, name="", resolution=1, dropout=0.0, drop_path=0.0, small=0, aux=(), style=style)
