"""The network of a run: it is built from an architecture, or it is the user's own, kept as Keras's JSON."""

import json
from collections.abc import Iterator
from typing import Any

import keras

import kcnn
import kcnn.layers  # Keras then knows them by name, in a network that is read
from kcnn.arch import Arch
from kcnn.errors import InputError
from trainers.auto.table import OWN
from trainers.settings import RunConfig

# Modules that the JSON of a network may name: Keras would import any module that stands there.
MODULES = (
    *(f"keras.{part}" for part in ("layers", "models", "ops", "initializers", "regularizers", "constraints")),
    *("keras.activations", "keras.src.layers", "keras.src.models", "keras.src.ops", "kcnn.layers"),
)
CLASSES = ("Functional", "Sequential", "DTypePolicy", "QuantizedDTypePolicy", "DTypePolicyMap")  # of "keras" itself


def network(config: RunConfig, classes: int, aux: bool = False) -> keras.Model:
    """The network of a run, with random weights; `aux`: with its auxiliary heads (see kcnn.build)."""
    if config.own_network:
        return read_own(config.own_network, classes)
    return kcnn.build(
        config.arch,
        classes,
        dropout=config.drop,
        drop_path=config.drop_path,
        stem="standard",
        aux=aux,
    )


def networks(config: RunConfig, classes: int) -> tuple[keras.Model, keras.Model]:
    """The network that is trained, and the one without auxiliary heads that is evaluated; they are the same where there
    are no such heads."""
    if not config.arch.aux:
        plain = network(config, classes)
        return plain, plain
    trained = network(config, classes, aux=True)
    return trained, keras.Model(trained.inputs, trained.outputs[0], name=trained.name)


def facts(config: RunConfig, classes: int) -> kcnn.Facts:
    if config.own_network:
        return kcnn.facts(network(config, classes))
    return kcnn.facts(config.arch, classes=classes, stem="standard")


def own_arch(model: keras.Model) -> Arch:
    """An Arch without rows for a network of the user's own: its name and resolution.

    Raises InputError for one that cannot be trained here: it must take pixels (batch, side, side, 3), values from 0 to
    255, and give logits (batch, classes).
    """
    if not isinstance(model, keras.Model) or not hasattr(model, "operations") or not model.built:
        name = getattr(model, "name", model)
        raise InputError(f"model {name!r} is no functional network: build it with keras.Model(inputs, outputs)")
    inputs, outputs = model.input_shape, model.output_shape
    if not (isinstance(inputs, tuple) and len(inputs) == 4 and inputs[1] == inputs[2] is not None and inputs[3] == 3):
        raise InputError(f"model {model.name!r} takes {inputs}: pixels of (batch, side, side, 3) are needed")
    if not (isinstance(outputs, tuple) and len(outputs) == 2 and outputs[1]):
        raise InputError(f"model {model.name!r} gives {outputs}: logits of (batch, classes) are needed")
    last = getattr(model.layers[-1], "activation", None)
    if last in (keras.activations.softmax, keras.activations.sigmoid):
        raise InputError(f"model {model.name!r} ends with {last.__name__}: logits are needed, without an activation")
    return Arch(model.name, OWN, inputs[1], (), (), ())


def read_own(text: str, classes: int) -> keras.Model:
    """A network of the user's own from its JSON. Raises InputError where it is no network for so many classes."""
    try:
        data = json.loads(text)
        for part in mappings(data):
            refuse_foreign(part)
        model = keras.models.model_from_json(text)
        own_arch(model)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the run's own network, network.json, cannot be read: {reason}") from error
    if model.output_shape[-1] != classes:
        raise InputError(f"model {model.name!r} has {model.output_shape[-1]} outputs, the data has {classes} classes")
    return model


def refuse_foreign(part: dict[str, Any]) -> None:
    """Raises ValueError for a class that is neither Keras's, nor ours, nor registered in this process."""
    module, name = part.get("module"), part.get("class_name")
    if module is None or part.get("registered_name") in keras.saving.get_custom_objects():
        return
    known = any(module == m or str(module).startswith(f"{m}.") for m in MODULES)
    if not known and not (module in ("keras", "builtins") and name in CLASSES):
        raise ValueError(f"it names {module}.{name}, which is none of Keras's layers")


def mappings(data: Any) -> Iterator[dict[str, Any]]:
    """All mappings in nested data."""
    if isinstance(data, dict):
        yield data
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from mappings(value)
