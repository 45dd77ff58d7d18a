"""Work on a search or a sweep that another process leads: train what it hands out, until there is no more."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kcnn import cli
from kcnn.errors import InputError
from trainers.distribute.supervisor import leave_with_supervisor
from tuning.trials import search, sweep
from tuning.trials.engine import Trials, work_for_chief
from tuning.trials.oracles import Trial
from tuning.trials.service import ADDRESS, NAME, PORT, role


def work_on(
    folder: Annotated[Path, Parameter(help="The folder of tuning.search, tuning.design_space or tuning.compound.")],
    /,
    *,
    tied: Annotated[bool, Parameter(show=False, negative="")] = False,
    json: cli.Json = False,
) -> dict[str, Any]:
    """Work on a search or a sweep that another process leads: train what it hands out, until there is no more.

    On the machine that leads, and on each of the others, which share the folder and see the data at the same place:
    KERASTUNER_TUNER_ID=chief python -m tuning.design_space --run-dir logs/spaces ...
    KERASTUNER_TUNER_ID=worker-0 python -m tuning.sweep logs/spaces

    All need the chief's address and port in KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT. Whatever dies is started
    again under its own name. On a single machine --parallel starts the workers by itself.
    """
    if tied:
        leave_with_supervisor()
    if role() != "worker":
        raise InputError(f"{NAME}, {ADDRESS} and {PORT} in the environment must name this worker and its chief")
    trials, ran = opened(folder), 0

    def run(trial: Trial) -> float | None:
        nonlocal ran
        ran += 1
        return trials.run(trial)

    work_for_chief(run)
    return {"trials": ran, "folder": str(folder)}


def opened(folder: Path) -> Trials:
    """The search or the sweep that a folder holds. Raises InputError where it holds neither."""
    if (folder / search.SETTINGS).is_file():
        return search.reopened(folder)
    if (folder / sweep.JOBS).is_file():
        return sweep.reopened(folder)
    raise InputError(f"{str(folder)!r} holds neither {search.SETTINGS} nor {sweep.JOBS}: the folder of a search or a "
                     "sweep is needed")  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    cli.run(work_on, "python -m tuning.sweep", argv)


if __name__ == "__main__":
    main()
