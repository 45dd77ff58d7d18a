"""The weights of a file or of another library, for a network that starts from them."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

import kcnn
from kcnn.builder import abstract
from kcnn.errors import InputError
from kcnn.weights import Report, find, network_of
from trainers.config import Interpolation, TrainConfig
from trainers.network import networks
from trainers.runs import checkpoints, folders
from trainers.settings import RunConfig, architecture, filled, own_or_named, resolve
from trainers.transfer.start import Start


def as_expected(config: TrainConfig) -> TrainConfig:
    """The flags of a new run with what its --weights expect: the network's style, crop and interpolation.

    Crop and interpolation that the flags name stay. They are all kept in the run's configuration: nothing reads the
    source again to go on, evaluate, predict or export. Raises InputError where there are no such weights.
    """
    config = replace(config, built_as=None)
    crop: float | None
    method: Interpolation | None
    if not config.weights:
        return config
    if folders.is_run(Path(config.weights)):
        _, saved, _ = folders.open_run(config.weights)
        arch = architecture(filled(config))
        if saved.flags.built_as is None or saved.arch.name != arch.name:
            return config
        style = replace(saved.arch.style, bn_momentum=arch.style.bn_momentum)
        kept: dict[str, Any] = {"resolution": arch.resolution, "dropout": arch.dropout, "drop_path": arch.drop_path}
        built, crop, method = replace(saved.arch, style=style, **kept), saved.eval_crop, saved.interpolation
    else:
        found = find(config.weights, own_or_named(config.arch))
        if config.stem == "auto":
            config = replace(config, stem=found.stem)
        built = found.apply(architecture(filled(config)))
        crop, method = found.conventions.crop, found.conventions.interpolation
    return replace(
        config,
        built_as=built,
        eval_crop=crop if config.eval_crop is None else config.eval_crop,
        interpolation=method if config.interpolation is None else config.interpolation,
    )


def load_network(run: str, checkpoint: str = "last") -> tuple[keras.Model, RunConfig, tuple[str, ...]]:
    """The network, configuration and class names of a run, or of public weights that name their network.

    Raises InputError, also where the names of the weights' classes are not known.
    """
    arch = None if folders.is_run(Path(run)) else network_of(run)
    if arch is None:
        return checkpoints.load_run(run, checkpoint)
    found = find(run, arch)
    if not found.classes:
        raise InputError(f"{run}: the names of its classes are not known")
    config = resolve(as_expected(TrainConfig(arch=arch, resolution=arch.resolution, weights=run)))
    model = kcnn.build(config.arch, len(found.classes), stem="standard")
    print(f"weights {found.label}: {found.fill(model)}", file=sys.stderr)
    return model, config, found.classes


def start_from(source: str, config: RunConfig, classes: tuple[str, ...]) -> Start:
    """Reads the weights of a source for the run's network. Raises InputError where they do not fit it."""
    found, report = find(source, own_or_named(config.flags.arch)), Report()
    with abstract():
        model = networks(config, len(classes))[0]
    arrays = {v.path: value.array() for v, value in found.values(model, report)}
    return Start(arrays, f"{found.label}: {report}")
