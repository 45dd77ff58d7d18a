"""All that `kcnn diagnose` measures of a network, and what stands out of it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kcnn.diagnosis import Diagnosis, diagnose
from kcnn.diagnosis.advice import MOST, Finding, told
from kcnn.errors import InputError
from trainers.lab.gradients import Field, Gradients, effective_field, gradients
from trainers.lab.pipeline import Pace, pace
from trainers.lab.subject import remembering, subject
from trainers.lab.timing import Timing, timing
from trainers.runs.folders import is_run, open_run
from trainers.training import make, prepare

WAITS = 0.2  # of training's time, for images
STARTED = 0.5  # of a step's time, in layers that are bound by being started


@dataclass(frozen=True)
class Measured:
    """what: the images in words. field: None where no map has places. pace: of a run whose data is there, else None.
    notes: what could not be measured, and why."""

    diagnosis: Diagnosis
    what: str
    gradients: Gradients
    field: Field | None
    timing: Timing
    pace: Pace | None
    notes: tuple[str, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What stands out, the most important first."""
        found = [*self.diagnosis.findings, *of_training(self.gradients, self.timing, self.pace)]
        return tuple(sorted(found, key=lambda f: -f.weight)[:MOST])

    def to_dict(self) -> dict[str, Any]:
        return self.diagnosis.to_dict() | {
            "findings": told(self.findings),
            "gradients": self.gradients.to_dict(),
            "effective_field": self.field and self.field.to_dict(),
            "timing": self.timing.to_dict(),
            "pipeline": self.pace and self.pace.to_dict(),
            "notes": list(self.notes),
        }


def measured(network: str, *, batch_size: int = 16, seed: int = 0, **options: Any) -> tuple[Measured, Path]:
    """Measures a run, or the network of a name, and tells into which folder a page goes. Options are those of
    `subject`. Raises InputError."""
    model, batches, what, folder = subject(network, batch_size=batch_size, seed=seed, **options)
    notes: list[str] = []
    first, batches = remembering(batches)
    found = diagnose(model, batches)
    flow = gradients(model, first, seed)
    field = fed = None
    try:
        field = effective_field(model, first, found.facts.receptive_field)
    except InputError as error:
        notes.append(f"the effective receptive field: {error}")
    spent = timing(model, batch_size)
    if is_run(Path(network)):
        place, config, _ = open_run(network)
        try:
            fed = pace(prepare(replace(config, strategy="one-device"), place), make)
        except InputError as error:
            notes.append(f"the input pipeline: {error}")
    return Measured(found, what, flow, field, spent, fed, tuple(notes)), folder


def of_training(flow: Gradients, spent: Timing, fed: Pace | None) -> Iterator[Finding]:
    """Yields what stands out of gradients and times."""
    if flow.verdict != "passed on":
        norms = ", ".join(f"{stage} {norm:.2g}" for stage, norm in flow.stages.items())
        yield Finding(
            0.8,
            f"gradients are {flow.verdict}" if flow.verdict != "not finite" else "gradients are no finite numbers",
            f"their norm at the first stage is {flow.first_to_last:.2g} times that at the last ({norms})",
            "shortcuts around the layers (resnet instead of plain), batch normalization, or a lower --lr with "
            "--warmup-epochs and --clip-norm 1",
        )
    if fed and fed.bound == "the input pipeline" and fed.waiting > WAITS:
        yield Finding(
            0.5 + 0.5 * fed.waiting,
            f"training spends {fed.waiting:.0%} of its time on making images",
            f"a batch takes {fed.images * 1e3:.3g} ms to make, and {fed.network * 1e3:.3g} ms to train on",
            "--cache ram or disk, smaller files, kcnn data convert for a slow disk, or less augmentation",
        )
    overhead = spent.shares()["overhead"]
    if overhead > STARTED:
        yield Finding(
            0.2 + 0.5 * overhead,
            f"{overhead:.0%} of a step's time goes into starting small operations",
            f"at {spent.batch} images a layer has too little to do on this device",
            "a larger --batch-size, or --jit on",
        )
