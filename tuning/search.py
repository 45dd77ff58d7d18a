"""Search the multipliers of a network, and more where asked, under limits on what it costs."""

import sys
import types
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args

from kcnn.errors import InputError, whole
from kcnn.terminal import cli
from kcnn.terminal.tables import as_html
from trainers.config import TrainConfig
from trainers.reports.html import Link
from trainers.runs import folders
from trainers.runs.files import write_json, write_text
from trainers.settings import own_or_named, resolve
from tuning.pages import hparams
from tuning.pages import search as pages
from tuning.trials.engine import MOST_PARALLEL, carry_out, go_on, work_for_chief
from tuning.trials.options import SEARCH, Limits, Method, Ranges, Tuner, flag
from tuning.trials.oracles import Trial
from tuning.trials.search import (
    Row,
    Search,
    Settings,
    best_of,
    cheapest,
    equals_of,
    make_oracle,
    open_search,
    row,
    rows,
    write_settings,
)
from tuning.trials.service import role
from tuning.trials.settings import changed_flags, not_given, train_command, values_of_file
from tuning.trials.trainer import claimed, planned_folder

RESULT, PICTURE, PAGE = "result.json", "pareto.png", "page.html"
# Not of the network that was found: where it lies, and how long its trials were.
PLACES = ("arch", "run_dir", "resume", "dry_run", "epochs")


@dataclass(frozen=True)
class Result:
    """A finished search: its folder, one row a trial, and the best of them.

    equals: the trials that the best one does not beat beyond chance, itself among them. choice: the cheapest of these,
    which `command` trains in full.
    """

    folder: Path
    trials: list[Row]
    best: Row
    equals: list[str]
    choice: Row
    command: str
    seconds: float
    lost_seconds: float

    def _repr_html_(self) -> str:
        """The trials as a table, for notebooks."""
        heads, rows = pages.trial_table([row for row in self.trials if row["rungs"]], self.equals, self.folder)
        plain = [[cell.text if isinstance(cell, Link) else cell[1] if isinstance(cell, tuple) else cell for cell in row]
                 for row in rows]  # fmt: skip
        return as_html(f"take {pages.recommendation(self.to_dict())}", heads, plain)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"folder": str(self.folder)}


def search(
    config: TrainConfig | None = None,
    ranges: Ranges | None = None,
    limits: Limits | None = None,
    method: Method | None = None,
    parallel: int = 1,
    **changes: Any,
) -> Result:
    """Searches multipliers, and other fields where asked, of the run `config`; see `kcnn search --help`.

    `changes` are fields of Method: tuning.search(config, max_trials=8). config.run_dir is the search's folder
    (default: logs/search-ARCH-DATA-TIME); a search that it holds goes on. Raises InputError for what a user can put
    right, and Interrupted when told to stop.
    """
    method = replace(method or Method(), **changes)
    check_method(method, parallel)
    config = config or TrainConfig()
    settings = Settings(config, ranges or Ranges(), limits or Limits(), method)
    if role() == "worker":
        if not config.run_dir:
            raise InputError("a worker needs the chief's folder: give --run-dir, on a file system that both see")
        work_for_chief(open_search(settings, Path(config.run_dir)).run)
        return Result(Path(config.run_dir), [], {}, [], {}, "", 0.0, 0.0)
    found = open_search(settings, planned_folder(f"search-{own_or_named(config.arch).name}", config))
    found = replace(found, folder=claimed(found.folder, config))
    with folders.locked(found.folder):
        write_settings(found)

        def tell(trial: Trial) -> None:
            ended = sum(t.status not in ("RUNNING", "INVALID") for t in oracle.trials.values())
            names = [d.name for d in found.space.dimensions]
            line = pages.line(row(found, trial), names, f"{ended}/{method.max_trials}")
            print(line, file=sys.stderr, flush=True)

        oracle = make_oracle(found, tell)
        go_on(found, oracle)
        carry_out(found, oracle, parallel)
        return close(found, oracle)


def check_method(method: Method, parallel: int) -> None:
    """Raises InputError for numbers that no search can have."""
    whole("max-trials", method.max_trials, 10**6)
    whole("parallel", parallel, MOST_PARALLEL)
    whole("grid-points", method.grid_points, 1000, least=2)
    if method.tuner not in (tuners := get_args(Tuner)):
        raise InputError(f"tuner {method.tuner!r}: one of {', '.join(tuners)} is needed")


def close(found: Search, oracle: Any) -> Result:
    """Writes what a search has come to. Raises InputError where no trial succeeded."""
    trials = rows(found, oracle.trials)
    done = [made for made in trials if made["score"] is not None]
    if not done:
        why = next((made["error"] for made in trials if made["error"]), "nothing could be drawn")
        raise InputError(f"none of {len(trials)} trials succeeded, the first: {why}")
    method = found.settings.method
    if len(trials) < method.max_trials and method.tuner != "hyperband":
        missing = f"{len(trials)} of {method.max_trials} trials"
        print(f"the space has no more networks within its limits: {missing}", file=sys.stderr)
    for made in trials:
        if made["status"] == "completed" and made["score"] is None:
            print(f"trial {made['trial']} is left out: {made['error']}", file=sys.stderr)
    # Last of all, when no trial disturbs it.
    print("measuring how long each network takes for an image", file=sys.stderr, flush=True)
    timed = replace(found.space, measured=found.space.measured | {"latency_ms"})
    for made in trials:
        if made["rungs"]:
            made |= timed.costs(oracle.trials[made["trial"]].hyperparameters.values) or {}
    best = best_of(trials, found.objective.direction)
    seconds, lost = (sum(made[key] for made in trials) for key in ("seconds", "lost_seconds"))
    equals = equals_of(found, trials, best)
    choice = cheapest(equals)
    names = [made["trial"] for made in equals]
    result = Result(found.folder, trials, best, names, choice, full_command(found, choice), seconds, lost)
    write_json(found.folder / RESULT, result.to_dict())
    write_text(found.folder / PAGE, pages.as_page(result.to_dict(), found.images))
    pages.draw_pareto([made for made in trials if made["rungs"]], best, found.folder / PICTURE)
    searched = [d.name for d in found.space.dimensions]
    values = {made["trial"]: {name: made[name] for name in searched} for made in trials}
    hparams.write(found.folder, values, [{"key": made["trial"]} | made for made in trials])
    return result


def full_command(found: Search, best: Row) -> str:
    """What trains a trial's network in full: the run that was asked for, with what was found, as long as its recipe."""
    config = found.settings.config
    first = {"arch": own_or_named(config.arch).name, "data": config.data, "data_dir": config.data_dir}
    changed = changed_flags(not_given(config, *PLACES))
    values = first | changed | {d.name: best[d.name] for d in found.space.dimensions}
    own = resolve(not_given(replace(config, recipe=values.get("recipe")), "epochs")).epochs
    if (config.epochs or 0) > own:
        values["epochs"] = config.epochs
    return train_command(values)


def search_command(
    *,
    parallel: Annotated[
        int, flag(SEARCH, "The trials run in this many workers on this machine, each with its share of cores or a GPU.")
    ] = 1,
    method: Method | None = None,
    ranges: Ranges | None = None,
    limits: Limits | None = None,
    config: TrainConfig | None = None,
    config_file: cli.ConfigFile = None,
    json: cli.Json = False,
) -> dict[str, Any]:
    """Search the multipliers of a network, and more where asked, under limits on what it costs.

    kcnn search --arch resnet-18 --data digits --max-trials 8 --max-macs 100M
    kcnn search --arch mobilenet-v2 --data photos/ --parallel 2 --lr-range 1e-4 1e-2 --run-dir logs/mine
    kcnn search --arch efficientnet-b0 --objective "val_accuracy:macs^-0.07" --tuner bayesian

    Each trial is a run of `kcnn train` in RUN-DIR/trials, with the flags given here. --width, --depth or
    --resolution fix what is otherwise searched. --epochs are a trial's (halving: those of the last rung; by default
    half the recipe's). The same command goes on with a search that was killed, in the middle of its trials.
    Other machines help with `python -m tuning.sweep RUN-DIR`, whose help tells how they find this one.
    """
    result = search(config, ranges, limits, method, parallel)
    if result.trials:
        lost = result.lost_seconds / max(1e-9, result.seconds)
        advice = "" if lost < 1 / 3 else ": more --epochs would lose less"
        pages.show_trials(result.trials, result.best)
        print(
            f"\ntime       {result.seconds:.0f} s in trials, of which {result.lost_seconds:.0f} s ({lost:.0%}) "
            f"went into building and compiling{advice}"
        )
        print(f"page       {result.folder / PAGE}\npicture    {result.folder / PICTURE}")
        print(f"dashboard  kcnn board {result.folder}")
        print(f"choice     {pages.recommendation(result.to_dict())}\nnext       {result.command}")
    return result.to_dict()


class CallableModule(types.ModuleType):
    """A module that can be called as its function: `tuning.search(...)` and `import tuning.search` name the same."""

    def __call__(self, *args: Any, **options: Any) -> Result:
        return search(*args, **options)


sys.modules[__name__].__class__ = CallableModule


app = cli.make_app("search", search_command, values_of_file)


def main(argv: list[str] | None = None) -> None:
    cli.command("search", argv)


if __name__ == "__main__":
    main()
