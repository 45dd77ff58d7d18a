"""kcnn runs: the runs that there are, what they have come to, and the room that they take."""

from typing import Annotated, Any

from cyclopts import Parameter

from kcnn.terminal import cli
from kcnn.terminal.tables import short, table

Places = Annotated[str, Parameter(help="Folders of runs, or folders that hold some (default: logs).")]
Deep = Annotated[
    bool, Parameter("--all", negative="", help="Take runs at any depth, too, such as the trials of a search.")
]


def list_runs(*places: Places, deep: Deep = False, json: cli.Json = False, seed: cli.Unused = 0) -> dict[str, Any]:
    """List runs: which are running, stopped or finished, how far they are,
    their best accuracy, when they last wrote, and how large they are.

    kcnn runs                                     # those in logs
    kcnn runs logs/search-... --all               # the trials of a search
    kcnn runs compare logs/one logs/other         # what differs, and by chance?
    kcnn runs clean                               # what could be removed
    """
    from trainers.reports.overview import ago
    from trainers.runs.listing import entries

    found = entries(places or ("logs",), deep=deep)
    rows = [
        [run.folder.as_posix(), run.state, run.arch, f"{run.epoch}/{run.epochs}", f"{run.best:.2%}" if run.best else "",
         ago(run.changed), short(run.size, "B")]
        for run in found
    ]  # fmt: skip
    table(["name", "status", "network", "epoch", "best", "last written", "size"], rows)
    for run in found:
        if run.problem:
            print(f"damaged: {run.problem}")
    return {"runs": [run.to_dict() for run in found]}


def compare(*runs: Places, json: cli.Json = False, seed: cli.Unused = 0) -> dict[str, Any]:
    """Compare runs: the settings in which they differ, their figures, and
    whether the best one is better than each other by more than chance."""
    from trainers.reports.many import FIGURES, comparisons, differing, groups, value_of
    from trainers.runs.listing import entries

    found = [run for run in entries(runs or ("logs",)) if run.state != "damaged"]
    several = [which for which in ("arch", "data") if len({getattr(run, which) for run in found}) > 1]
    rows = [[name, *(value_of(run, name) for run in found)] for name in (*several, *differing(found))]
    for name, title in FIGURES.items():
        values = [run.result.get(name, run.best if name == "val_accuracy" else None) for run in found]
        spelled = "{:.2%}".format if name == "val_accuracy" else short
        rows.append([title, *("" if v is None else spelled(v) for v in values)])
    table(["name", *(run.folder.name for run in found)], rows)
    told = comparisons(groups(found))
    print("", *told, sep="\n")
    return {"runs": [run.to_dict() for run in found], "comparisons": told}


def clean(
    *places: Places,
    deep: Deep = False,
    yes: Annotated[bool, Parameter(negative="", help="Remove the files; without it they are only listed.")] = False,
    json: cli.Json = False,
    seed: cli.Unused = 0,
) -> dict[str, Any]:
    """Tell what finished runs no longer need: all checkpoints but the last and
    the best one, and files whose writing was cut short. With --yes, remove it."""
    from trainers.runs.listing import entries, spare

    removed: list[str] = []
    freed = 0
    for run in entries(places or ("logs",), deep=deep):
        files = spare(run)
        if not files:
            continue
        freed += sum(path.stat().st_size for path in files)
        removed += map(str, files)
        if yes:
            from trainers.runs.folders import locked

            with locked(run.folder):
                for path in files:
                    path.unlink()
    for name in removed:
        print(name)
    what = f"{len(removed)} files, {short(freed, 'B')}"
    print(
        f"removed {what}"
        if yes
        else f"{what} could be removed: kcnn runs clean --yes"
        if removed
        else "nothing to remove"
    )
    return {"files": removed, "bytes": freed, "removed": yes}


app = cli.make_app("runs", list_runs)
app.command(list_runs, name="list")
app.command(compare)
app.command(clean)


def main(argv: list[str] | None = None) -> None:
    cli.command("runs", argv)


if __name__ == "__main__":
    main()
