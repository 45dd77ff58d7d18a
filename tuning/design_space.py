"""Compare design spaces: sample networks from each, train them shortly, and see what their errors tell."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

import kcnn
from kcnn.errors import InputError, whole
from kcnn.families.anynet import MOST_STAGES
from kcnn.scaling import quantity
from kcnn.terminal import cli
from kcnn.terminal.tables import short
from trainers.config import TrainConfig
from trainers.recipes import RECIPES
from trainers.runs.files import write_json, write_text
from trainers.settings import architecture, resolve
from tuning.pages import design_space as pages
from tuning.pages import hparams
from tuning.spaces.anynet import NAMES, DesignSpace, Range, parse_space
from tuning.spaces.sampling import sample
from tuning.trials.engine import MOST_PARALLEL
from tuning.trials.records import named, read_lines
from tuning.trials.settings import changed_flags, not_given, train_command, values_of_file, words
from tuning.trials.sweep import JOBS, RESULTS, Job, Row, read_jobs, sweep_folder, train_all
from tuning.trials.trainer import (
    check_run,
    claimed,
    open_source,
    planned_folder,
    with_absolute_data,
)

SETTINGS, PAGE, SUMMARY = "design_space.json", "page.html", "summary.json"
EPOCHS = 5
RESOLUTION, BAND = 224, (360e6, 400e6)  # of the paper; at another resolution by its area
FEWEST = 5  # networks of a space that statistics need
MOST_NETWORKS = 100_000
DRAWN = ("macs", "params", "activations", "latency_ms", "epochs", "seconds")  # what a page draws of each network
SPACES = Group.create_ordered("Design spaces")


def flag(help: str, **more: Any) -> Any:
    return Parameter(group=SPACES, help=help, **more)


@Parameter(name="*")
@dataclass(frozen=True)
class Method:
    """What is drawn from which spaces, and how the spaces are compared."""

    space: Annotated[
        list[str],
        flag(
            f"The spaces to compare: {', '.join(NAMES)}; with narrower ranges as regnetx:b=1,d=12..28,m=2..3.",
            consume_multiple=True,
            negative="",
        ),
    ] = field(default_factory=lambda: ["anynetx-a", "regnetx"])
    networks: Annotated[int, flag("This many networks are drawn from each space.")] = 24
    max_macs: Annotated[
        str | None,
        flag(
            "A network has at most this many multiply-adds, as 400M, which is the default at 224 pixels; the default "
            "goes with the area of the image."
        ),
    ] = None
    min_macs: Annotated[
        str | None, flag("A network has at least this many multiply-adds (default: 0.9 of the most).")
    ] = None
    stages: Annotated[int, flag("Each network has this many stages.")] = 4
    best: Annotated[int, flag("Spaces are compared by the mean of this many least errors, too.")] = 5


def compare_spaces(config: TrainConfig, method: Method, parallel: int = 1) -> dict[str, Any]:
    """Samples, trains and compares networks, and returns all figures. Goes on with what config.run_dir already holds.

    Raises InputError.
    """
    spaces = check(method, parallel)
    config = short_runs(config)
    band = macs_band(method, config)
    settings = {"config": changed_flags(config), "band": list(band), "stages": method.stages}

    def list_jobs(folder: Path) -> list[Job]:
        return drawn_jobs(folder, spaces, config, method, band)

    with sweep_folder("design-space", config, SETTINGS, settings, list_jobs) as (folder, jobs):
        rows = [checked_row(row, str(folder / RESULTS)) for row in train_all(folder, jobs, parallel)]
        values = {row["key"]: {"space": row["space"]} | pages.of_network(row["symbols"]) for row in rows}
        hparams.write(folder, values, rows)
        flags = changed_flags(not_given(config, "run_dir", "keep"))
        sizes = {"networks": method.networks, "min-macs": f"{band[0]:.0f}", "max-macs": f"{band[1]:.0f}",
                 "stages": method.stages}  # fmt: skip
        return report(folder, rows, method.best, words(sizes | flags))


def check(method: Method, parallel: int) -> list[DesignSpace]:
    """The spaces, all of them different. Raises InputError."""
    spaces = [parse_space(text) for text in method.space]
    if not spaces or len({space.slug for space in spaces}) < len(spaces):
        raise InputError(f"space {' '.join(method.space)!r}: different ones are needed, and at least one")
    whole("networks", method.networks, MOST_NETWORKS, least=FEWEST)
    whole("stages", method.stages, MOST_STAGES)
    whole("best", method.best, MOST_NETWORKS)
    whole("parallel", parallel, MOST_PARALLEL)
    return spaces


def short_runs(config: TrainConfig) -> TrainConfig:
    """A few epochs of the fast recipe, unless the flags say otherwise; checked. Raises InputError."""
    for name in ("arch", "width", "depth", "phi", "resume", "weights"):
        if getattr(config, name) != getattr(TrainConfig, name, None):
            why = "a space's networks are its own" if name != "resume" else "the same --run-dir goes on by itself"
            raise InputError(f"{name} {getattr(config, name)!r}: leave it out, {why}")
    if config.recipe is None and "fast" in RECIPES and config.data not in RECIPES:
        config = replace(config, recipe="fast")
    if config.epochs is None:
        config = replace(config, epochs=EPOCHS)
    if config.keep == TrainConfig.keep:
        config = replace(config, keep=1)
    resolve(config)
    return with_absolute_data(config)


def macs_band(method: Method, config: TrainConfig) -> Range:
    """From the flags; by default the paper's, in proportion to the image's area. Raises InputError."""
    share = (resolve(config).resolution / RESOLUTION) ** 2
    high = BAND[1] * share if method.max_macs is None else quantity("max-macs", method.max_macs)
    low = BAND[0] / BAND[1] * high if method.min_macs is None else quantity("min-macs", method.min_macs)
    if low > high:
        raise InputError(f"min-macs {short(low)}, max-macs {short(high)}: the first has to be the smaller one")
    return low, high


def drawn_jobs(
    folder: Path, spaces: Sequence[DesignSpace], config: TrainConfig, method: Method, band: Range
) -> list[Job]:
    """The jobs that a sweep has, and what is missing of each space, drawn and measured."""
    had = {job.key: job for job in read_jobs(folder)} if (folder / JOBS).exists() else {}
    classes, flags = len(open_source(config).classes), resolve(config).flags
    jobs = dict(had)

    def finished(name: str) -> kcnn.Arch:
        return architecture(replace(flags, arch=name))

    def measure(arch: kcnn.Arch) -> kcnn.Facts:
        return kcnn.facts(arch, classes, stem="standard")

    for space in spaces:
        keys = [f"{space.slug}-{i:03d}" for i in range(method.networks)]
        if all(key in had for key in keys):
            continue
        wanted = f"{method.networks} networks of {short(band[0])} to {short(band[1])} multiply-adds"
        print(f"{space.name}: drawing {wanted}", file=sys.stderr, flush=True)
        found = sample(space, method.networks, band, finished, measure, config.seed, method.stages)
        for key, (name, symbols, facts) in zip(keys, found, strict=True):
            row = {"space": space.name, "symbols": symbols, "activations": facts.activations}
            jobs.setdefault(key, Job(key, replace(config, arch=name), row))
    if len(jobs) > len(had):
        check_run(next(reversed(jobs.values())).config)  # what is wrong with one is wrong with all
    return list(jobs.values())


def report(folder: Path, rows: Sequence[Row], best: int, flags: Sequence[str] = ()) -> dict[str, Any]:
    """Writes page.html and summary.json, and returns the latter. Raises InputError where no network was trained.

    flags: of a sweep that goes on from here.
    """
    results = pages.grouped(rows, best)
    figures = pages.figures_of(results)
    figures |= {
        "command": full_command(folder, figures["best"]),
        "run_dir": str(folder),
        "page": str(folder / PAGE),
        **pages.next_sweep(figures["spaces"], flags),
    }
    write_json(folder / SUMMARY, figures)
    write_text(folder / PAGE, pages.as_page(figures, results))
    return figures


def full_command(folder: Path, row: Row) -> str:
    """How to train a network in full: with the flags of its sweep, where that is at hand."""
    configs = {job.key: job.config for job in read_jobs(folder)}
    if config := configs.get(row.get("key", "")):
        return train_command(changed_flags(not_given(config, "epochs", "run_dir", "keep")))
    return f"kcnn train --arch {row['arch']}"


def redraw(tables: Sequence[Path], config: TrainConfig, best: int) -> dict[str, Any]:
    """The page of results that are there already. Raises InputError for a file that holds none."""
    rows = []
    for path in tables:
        if not path.is_file():
            raise InputError(f"no results at {str(path)!r}: a results.jsonl is needed")
        found = read_lines(path, checked_row)
        if not found:
            raise InputError(f"{path}: lines with space, arch and val_accuracy (or error) are needed")
        rows += found
    whole("best", best, MOST_NETWORKS)
    pages.grouped(rows, best)  # before a folder is made
    folder = claimed(planned_folder("design-space", config), config)
    folder.mkdir(parents=True, exist_ok=True)
    return report(folder, rows, best)


def checked_row(row: Row, place: str) -> Row:
    """A result whose figures and symbols can be drawn. Raises InputError."""
    optional = {"key": str, "error": str, "val_loss": float, **dict.fromkeys(DRAWN, float)}
    row = named(row, {"space": str, "arch": str}, place, optional)
    if "error" in row:
        return row
    named(row, {"val_accuracy": float}, place)
    if not 0 <= row["val_accuracy"] <= 1 or any(row.get(name, 0) < 0 for name in DRAWN):
        raise InputError(f"{place}: a val_accuracy from 0 to 1 and costs from 0 are needed")
    if "symbols" in row:
        check_symbols(row["symbols"], f"{place}: symbols")
    return row


def check_symbols(symbols: Any, place: str) -> None:
    regnet = "m" in named(symbols, {}, place)
    kinds: dict[str, Any] = dict.fromkeys("dwamgb", float) if regnet else dict.fromkeys("dwgb", list[float])
    values = [named(symbols, kinds, place)[name] for name in kinds]
    if not all(value > 0 if regnet else value and min(value) > 0 for value in values):
        raise InputError(f"{place}: numbers above 0 are needed")


def design_space_command(
    *,
    method: Method | None = None,
    parallel: Annotated[int, flag("This many networks are trained at the same time on this machine.")] = 1,
    table: Annotated[
        list[Path] | None,
        flag("Draw the page of these results.jsonl, together, and train nothing.", consume_multiple=True, negative=""),
    ] = None,
    config: TrainConfig | None = None,
    config_file: cli.ConfigFile = None,
    json: cli.Json = False,
) -> dict[str, Any]:
    """Compare design spaces: sample networks from each, train them shortly, and see what their errors tell.

    AnyNetX A against RegNetX on digits; the same again goes on, --networks 100 with more:
    kcnn design-space --run-dir logs/spaces

    A space against a part of it, on photos of your own:
    kcnn design-space --space regnetx regnetx:b=1,m=2..3 --data photos/

    The page of results that are there:
    kcnn design-space --table logs/a/results.jsonl logs/b/results.jsonl

    It leaves results.jsonl, a run of each network in runs/, and page.html: the error distributions, the likely
    best range of each parameter, and which space is better beyond chance. Each network is trained for 5 epochs,
    by the fast recipe where there is one; all flags of `kcnn train` hold. It can be killed at any time: the same
    command with the same --run-dir goes on. Other machines help with `python -m tuning.sweep RUN-DIR`, whose help
    tells how they find this one. The method is that of Radosavovic et al., 2020 (https://arxiv.org/abs/2003.13678).
    """
    method, config = method or Method(), config or TrainConfig()
    figures = redraw(table, config, method.best) if table else compare_spaces(config, method, parallel)
    pages.show(figures)
    return figures


app = cli.make_app("design-space", design_space_command, values_of_file)


def main(argv: list[str] | None = None) -> None:
    cli.command("design-space", argv)


if __name__ == "__main__":
    main()
