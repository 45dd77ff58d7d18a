"""A worker of a search on this machine: python -m tuning.worker FOLDER. Its supervisor starts it."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kcnn import cli


def worker(folder: Annotated[Path, Parameter(help="Of the search.")], /) -> None:
    """Run trials of a search until there are no more. `python -m tuning.search --parallel N` starts these."""
    from tuning.trials.processes import die_with_parent
    from tuning.trials.search import open_search, read_settings
    from tuning.trials.workers import connected, work

    die_with_parent()
    settings = read_settings(folder)
    config = replace(settings.config, run_dir=str(folder))
    search = open_search(replace(settings, config=config))
    with connected() as (oracle, name):
        work(oracle, name, search.run)


def main(argv: list[str] | None = None) -> None:
    cli.run(worker, "python -m tuning.worker", sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    main()
