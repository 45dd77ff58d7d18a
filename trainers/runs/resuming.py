"""How a run enters its folder, and how it goes on from what is in it."""

import contextlib
import sys
from pathlib import Path
from typing import Any

from kcnn.errors import InputError
from trainers.checks import checkpoint_steps
from trainers.distribute import workers
from trainers.loop import set_lr_scale
from trainers.run import SERIES, Position, Run, position_of
from trainers.runs import checkpoints, folders, provenance
from trainers.runs.files import write_text
from trainers.state import State


def enter(run: Run, stack: contextlib.ExitStack) -> tuple[Path, dict[str, Any] | None, str]:
    """Locks the run's folder, and makes it where there is none.

    Returns the folder; the figures of a run that has ended, else None; and how its data changed, where that is
    accepted, else ''.
    """
    source, folder = run.source, run.folder if run.config.flags.run_dir else folders.claim(run.folder)
    stack.enter_context(folders.locked(folder))
    folders.refuse_links(folder)
    if not folders.is_run(folder):
        provenance.record(folder, source, [])
        if source.corrupt:
            write_text(folder / "corrupt.txt", "\n".join(source.corrupt) + "\n")
        folders.create(folder, run.config, run.facts.to_dict(), source.classes)
        return folder, None, ""
    if folders.is_finished(folder):
        result = folders.read_result(folder)
        if result["planned"] >= run.config.epochs * first_steps_per_epoch(run):
            return folder, result, ""
    folders.same_classes(folders.read_classes(folder), source.classes, folder)
    changed = provenance.difference(folder, source)
    if changed and run.config.flags.data_changed == "refuse":
        raise InputError(
            f"the data of {folder} is not what the run began with: {changed}. Put back what it was, or "
            "go on with --data-changed accept"
        )
    (folder / folders.RESULT).unlink(missing_ok=True)  # of fewer epochs
    if provenance.recorded(folder) is None:  # an earlier version began the run
        provenance.record(folder, source, [])
    return folder, None, changed


def first_steps_per_epoch(run: Run) -> int:
    """Steps of an epoch of the data that the run's folder records, or of today's data where it records none."""
    found = provenance.recorded(run.folder)
    return found["train"]["images"] // run.config.global_batch if found else run.plan.steps_per_epoch


def go_on(run: Run, state: State) -> Position:
    """Sets the state to the run's newest checkpoint, if it has one. Returns the position of that checkpoint."""
    last = workers.from_chief(run.strategy, lambda: last_checkpoint(run, state))
    if last is None:
        return Position(steps_per_epoch=run.plan.steps_per_epoch)
    path, arrays, extra = last
    checkpoints.restore(state, arrays, path)
    position = Position(**extra)
    set_lr_scale(state, position)
    if position.steps_per_epoch not in (0, run.plan.steps_per_epoch):  # there are more images now, or fewer
        position.step = len(position.history) * run.plan.steps_per_epoch
        position.epoch = {name: [] for name in SERIES}
        state.step.assign(position.step)
        state.optimizer.iterations.assign(position.step)
        if run.chief:
            position.lines = folders.lines_of_epochs(run.folder, len(position.history))
    position.steps_per_epoch = run.plan.steps_per_epoch
    return position


def last_checkpoint(run: Run, state: State) -> checkpoints.Checkpoint | None:
    """The newest checkpoint that fits the state, or None. Raises InputError where the run had one and it was lost: a
    start from the beginning would hide that."""
    expected = checkpoints.shapes(checkpoints.variables(state))

    def check(path: Path, arrays: checkpoints.Arrays, extra: dict[str, Any]) -> None:
        checkpoints.compare(expected, arrays, path)
        position_of(extra, int(arrays["step"]), f"checkpoint {path}")

    folder = run.folder / "checkpoints"
    last = checkpoints.newest(folder, check)
    if last is None and (steps := folders.last_step(run.folder)) > surely_kept(run):
        raise InputError(
            f"{run.folder} has figures up to step {steps}, and {folder} has no checkpoint: put it back, "
            f"or remove {run.folder / folders.METRICS} to begin the run anew"
        )
    return last


def surely_kept(run: Run) -> int:
    """The step by which a run has written a checkpoint, by the --checkpoint-every of its start and by today's."""
    every = [config.checkpoint_every for config in (folders.read_config(run.folder), run.config)]
    return min(first_steps_per_epoch(run), max(checkpoint_steps(value) or sys.maxsize for value in every))
