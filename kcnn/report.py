"""kcnn report: one page over any number of runs and searches."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kcnn.terminal import cli


def report(
    *runs: Annotated[str, Parameter(help="Folders of runs, or folders that hold some, as logs or a search's.")],
    out: Annotated[Path, Parameter(help="Write the page to this file.")] = Path("report.html"),
    json: cli.Json = False,
    seed: cli.Unused = 0,
) -> dict[str, Any]:
    """Lay runs side by side on one page, report.html, that needs nothing else.

    A sortable table of their figures and of the settings in which they differ,
    their curves laid over each other, accuracy against cost, which of them is
    better than which by more than chance, and the commands to go on.

    kcnn report logs/                             # all runs in logs, trials too
    kcnn report logs/resnet-50-... logs/regnet... --out mine.html
    """
    from trainers.reports.many import comparisons, groups
    from trainers.reports.overview import as_page, summary
    from trainers.runs.files import write_text
    from trainers.runs.listing import entries

    found = entries(runs or ("logs",))
    write_text(out, as_page(found, out))
    told = comparisons(groups(found))
    print(summary(found).partition(". ")[0], *told, f"page  {out}", sep="\n")
    return {"runs": [run.to_dict() for run in found], "comparisons": told, "page": str(out)}


def main(argv: list[str] | None = None) -> None:
    cli.command("report", argv)


if __name__ == "__main__":
    main()
