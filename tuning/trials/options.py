"""What a search is asked for on its command line: how it chooses, between which values, within which limits."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from kcnn.arch import number
from kcnn.errors import InputError
from kcnn.scaling import quantity
from tuning.trials.objective import METRICS

SEARCH, SPACE, LIMITS = (Group.create_ordered(name) for name in ("Search", "Space", "Limits"))
Pair = tuple[float, float]
Tuner = Literal["halving", "random", "bayesian", "hyperband", "grid"]


def flag(group: Group, help: str, **more: Any) -> Any:
    return Parameter(group=group, help=help, **more)


@Parameter(name="*")
@dataclass(frozen=True)
class Method:
    """How a search chooses its trials and compares them."""

    tuner: Annotated[
        Tuner,
        flag(
            SEARCH,
            "halving trains all networks shortly on small images and the best third of them longer and on larger "
            "ones; the others are KerasTuner's.",
        ),
    ] = "halving"
    max_trials: Annotated[
        int, flag(SEARCH, "The search tries at most this many networks (hyperband counts promoted ones again).")
    ] = 20
    objective: Annotated[
        str,
        flag(
            SEARCH,
            f"The search looks for the best {', '.join(METRICS)}, or weighs one of them against a cost, as "
            "val_accuracy:macs^-0.07 does.",
        ),
    ] = "val_accuracy"
    grid_points: Annotated[int, flag(SEARCH, "With --tuner grid, each range is divided into this many values.")] = 3


@Parameter(name="*")
@dataclass(frozen=True)
class Ranges:
    """Between which values a search draws, each as LOW HIGH. Two equal ends fix a value."""

    width_range: Annotated[
        Pair | None,
        flag(SPACE, "LOW HIGH of the multiplier of widths (default: 0.25 1.5, unless --width or --weights is given)."),
    ] = None
    depth_range: Annotated[
        Pair | None,
        flag(SPACE, "LOW HIGH of the multiplier of depths (default: 0.5 1.5, unless --depth or --weights is given)."),
    ] = None
    resolution_range: Annotated[
        tuple[int, int] | None,
        flag(
            SPACE,
            "LOW HIGH of the image's side in pixels (default: 0.5 to 1.5 times the recipe's, unless --resolution is "
            "given).",
        ),
    ] = None
    lr_range: Annotated[
        Pair | None, flag(SPACE, "LOW HIGH of the peak learning rate (default: it is not searched).")
    ] = None
    weight_decay_range: Annotated[
        Pair | None, flag(SPACE, "LOW HIGH of the weight decay (default: it is not searched).")
    ] = None
    drop_path_range: Annotated[
        Pair | None, flag(SPACE, "LOW HIGH of stochastic depth's rate (default: it is not searched).")
    ] = None
    recipes: Annotated[
        tuple[str, ...],
        flag(SPACE, "The recipes to choose from (default: the recipe is not searched).", consume_multiple=True),
    ] = ()


@Parameter(name="*")
@dataclass(frozen=True)
class Limits:
    """What no network of a search may exceed. All but the latency is known before a network is built."""

    max_macs: Annotated[
        str | None, flag(LIMITS, "A network needs at most this many multiply-adds for one image, as 600M or 1.5G.")
    ] = None
    max_params: Annotated[str | None, flag(LIMITS, "A network has at most this many parameters, as 5M.")] = None
    max_memory: Annotated[
        str | None, flag(LIMITS, "A training step at --batch-size needs at most this many bytes, as 8G.")
    ] = None
    max_latency_ms: Annotated[
        float | None,
        flag(LIMITS, "A compiled network answers one image within this many milliseconds on this machine."),
    ] = None

    def bounds(self) -> dict[str, float]:
        """The limits that were given, by the names of costs. Raises InputError for one that is no positive number."""
        texts = {"macs": self.max_macs, "params": self.max_params, "memory": self.max_memory}
        found = {
            what: quantity(f"max-{what}", str(text).removesuffix("B") if what == "memory" else str(text))
            for what, text in texts.items()
            if text is not None
        }
        if self.max_latency_ms is not None:
            if not (number(self.max_latency_ms) and self.max_latency_ms > 0):
                raise InputError(f"max-latency-ms {self.max_latency_ms!r}: a positive number is needed")
            found["latency_ms"] = self.max_latency_ms
        return found
