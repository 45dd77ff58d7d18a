"""All that `kcnn diagnose` measures of a network, and what stands out of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import tensorflow as tf

from kcnn.diagnosis import Diagnosis, diagnose
from kcnn.diagnosis.advice import MOST, Finding, told
from kcnn.errors import InputError
from trainers.lab.gradients import Field, Gradients, effective_field, gradients
from trainers.lab.pipeline import Pace, pace
from trainers.lab.subject import remembering, subject
from trainers.lab.timing import Timing, timing
from trainers.lab.updates import Updates, updates
from trainers.runs.folders import is_run, open_run
from trainers.training import make, prepare

WAITS = 0.2  # of training's time, for images
STARTED = 0.5  # of a step's time, in layers that are bound by being started
OUT_OF_MEMORY = "the device ran out of memory"
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """what: the images in words. notes: what could not be measured, and why; it is None. updates, pace: of a run."""

    diagnosis: Diagnosis
    what: str
    gradients: Gradients | None = None
    field: Field | None = None
    timing: Timing | None = None
    updates: Updates | None = None
    pace: Pace | None = None
    notes: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What stands out, the most important first."""
        found = [*self.diagnosis.findings, *of_training(self)]
        return tuple(sorted(found, key=lambda f: -f.weight)[:MOST])

    def to_dict(self) -> dict[str, Any]:
        return self.diagnosis.to_dict() | {
            "findings": told(self.findings),
            "gradients": self.gradients and self.gradients.to_dict(),
            "effective_field": self.field and self.field.to_dict(),
            "timing": self.timing and self.timing.to_dict(),
            "updates": self.updates and self.updates.to_dict(),
            "pipeline": self.pace and self.pace.to_dict(),
            "notes": list(self.notes),
        }


def measured(network: str, *, batch_size: int = 16, seed: int = 0, **options: Any) -> tuple[Measured, Path]:
    """Measures a run, or the network of a name, and tells into which folder a page goes. Options are those of
    `subject`. Raises InputError."""
    model, batches, what, folder = subject(network, batch_size=batch_size, seed=seed, **options)
    first, batches = remembering(batches)
    try:
        found = diagnose(model, batches)
    except tf.errors.ResourceExhaustedError:
        raise InputError(f"batch-size {batch_size}: {OUT_OF_MEMORY}; give a smaller one") from None
    notes: list[str] = []

    def part(name: str, work: Callable[[], T]) -> T | None:
        """What the work finds, or None and a note: the rest is kept."""
        try:
            return work()
        except tf.errors.ResourceExhaustedError:
            notes.append(f"{name}: {OUT_OF_MEMORY}")
        except InputError as error:
            notes.append(f"{name}: {error}")
        return None

    flow = part("gradients", lambda: gradients(model, first, seed))
    field = part("the effective receptive field", lambda: effective_field(model, first, found.facts.receptive_field))
    spent = part("the layers' times", lambda: timing(model, batch_size))
    changed = fed = None
    if is_run(Path(network)):
        place, config, _ = open_run(network)
        run = part("its training", lambda: prepare(replace(config, strategy="one-device"), place))
        if run:
            changed = part("the size of its steps", lambda: updates(run, make))
            fed = part("the input pipeline", lambda: pace(run, make))
    return Measured(found, what, flow, field, spent, changed, fed, tuple(notes)), folder


def of_training(found: Measured) -> Iterator[Finding]:
    """Yields what stands out of gradients, steps and times."""
    flow, spent, changed, fed = found.gradients, found.timing, found.updates, found.pace
    if flow and flow.verdict != "passed on":
        norms = ", ".join(f"{stage} {norm:.2g}" for stage, norm in flow.stages.items())
        yield Finding(
            0.8,
            f"gradients are {flow.verdict}" if flow.verdict != "not finite" else "gradients are no finite numbers",
            f"their norm at the first stage is {flow.first_to_last:.2g} times that at the last ({norms})",
            "shortcuts around the layers (resnet instead of plain), batch normalization, or a lower --lr with "
            "--warmup-epochs and --clip-norm 1",
        )
    if changed and changed.high:
        shares = ", ".join(f"{stage} {share:.2g}" for stage, share in changed.stages.items())
        yield Finding(
            1.0,  # what kills units and blows up gradients, too
            f"the learning rate, {changed.lr:g}, is far too high",
            f"a step at its peak changes the weights by {changed.typical:.2g} times themselves ({shares}); a "
            "thousandth to a tenth is usual",
            f"--lr {changed.lr / 100:.2g}, or --lr find",
        )
    if fed and fed.bound == "the input pipeline" and fed.waiting > WAITS:
        yield Finding(
            0.5 + 0.5 * fed.waiting,
            f"training spends {fed.waiting:.0%} of its time on making images",
            f"a batch takes {fed.images * 1e3:.3g} ms to make, and {fed.network * 1e3:.3g} ms to train on",
            "--cache ram or disk, smaller files, kcnn data convert for a slow disk, or less augmentation",
        )
    overhead = spent.shares()["overhead"] if spent else 0.0
    if spent and overhead > STARTED:
        yield Finding(
            0.2 + 0.5 * overhead,
            f"{overhead:.0%} of a step's time goes into starting small operations",
            f"at {spent.batch} images a layer has too little to do on this device",
            "a larger --batch-size, or --jit on",
        )
