"""Work on a search or a sweep that another process leads: train what it hands out, until there is no more."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kcnn.errors import InputError
from kcnn.terminal import cli
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

    One machine leads, the others share its folder and see the data at the same place:
    KERASTUNER_ORACLE_IP=0.0.0.0 KERASTUNER_ORACLE_PORT=8000 kcnn design-space --run-dir logs/two
    KERASTUNER_ORACLE_IP=leader KERASTUNER_ORACLE_PORT=8000 KERASTUNER_TUNER_ID=helper-1 python -m tuning.sweep logs/two

    Each helper has a name of its own, and whatever dies is started again under its name. With KERASTUNER_TUNER_ID=chief
    the leader trains nothing itself. On a single machine --parallel starts all workers.
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
    raise InputError(
        f"{str(folder)!r} holds neither {search.SETTINGS} nor {sweep.JOBS}: the folder of a search or a sweep is needed"
    )


def main(argv: list[str] | None = None) -> None:
    cli.run(work_on, "python -m tuning.sweep", argv)


if __name__ == "__main__":
    main()
