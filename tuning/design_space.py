"""Compare design spaces: sample networks from each, train them shortly, and see what their errors tell."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast

from cyclopts import Group, Parameter

from kcnn import cli
from kcnn.errors import InputError
from kcnn.scaling import quantity, short
from trainers.config import TrainConfig
from trainers.recipes import RECIPES
from trainers.runs import files, folders
from trainers.settings import architecture, filled, resolve
from tuning.pages import hparams
from tuning.pages.design_space import of_network, report, spoken
from tuning.spaces import anynet
from tuning.trials import sweep
from tuning.trials.processes import MOST_WORKERS
from tuning.trials.records import claimed, named, need_whole, read_lines, typed

SWEEP = Group.create_ordered("Design spaces")
SETTINGS = "design_space.json"
EPOCHS = 5
RESOLUTION, BAND = 224, (360e6, 400e6)  # of the paper; at another resolution by its area
FEWEST = 5  # networks of a space that statistics need
Row = dict[str, Any]
DRAWN = ("macs", "params", "activations", "latency_ms", "epochs", "seconds", "val_loss")


@dataclass(frozen=True)
class Outcome:
    """folder: of the sweep, with page.html; figures: spaces, comparisons, the best network and how to train it."""

    folder: Path
    figures: dict[str, Any]


def search(spaces: Sequence[str], config: TrainConfig, networks: int, band: anynet.Range, stages: int = 4,
           parallel: int = 1, best: int = 5) -> Outcome:  # fmt: skip
    """Samples, trains, compares and draws; goes on with what config.run_dir already holds. Raises InputError."""
    drawn_from = [anynet.space(text) for text in spaces]
    twice = [s.name for i, s in enumerate(drawn_from) if s.slug in [other.slug for other in drawn_from[:i]]]
    if twice or not drawn_from:
        raise InputError(f"space {' '.join(spaces)!r}: different ones are needed, and at least one")
    need_whole(networks=(networks, FEWEST, 10**5), stages=(stages, 1, anynet.MOST_STAGES),
               parallel=(parallel, 1, MOST_WORKERS), best=(best, 1, 10**5))  # fmt: skip
    config = short_runs(config)
    from trainers.training import writable

    folder = Path(config.run_dir or sweep.new_folder("design-space", config))
    settings = {"config": sweep.flags(config), "band": list(band), "stages": stages}
    writable(folder)
    sweep.same_settings(folder / SETTINGS, settings)
    jobs = listed(folder, drawn_from, config, networks, band, stages)
    if not config.run_dir:  # another sweep may begin in the same second
        folder = claimed(folder)
    with folders.locked(folder):
        sweep.write_jobs(folder, jobs)
        files.write_json(folder / SETTINGS, settings)
        print(f"into {folder}; killed, the same command with --run-dir {folder} goes on", file=sys.stderr, flush=True)
        sweep.run(folder, parallel, sweep.say)
        rows = [as_row(row, str(folder / sweep.RESULTS)) for row in sweep.timed(folder)]
        hparams.write(folder, {row["key"]: {"space": row["space"]} | of_network(row["symbols"]) for row in rows}, rows)
        sizes = {"networks": networks, "min-macs": f"{band[0]:.0f}", "max-macs": f"{band[1]:.0f}", "stages": stages}
        again = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
        figures = report(folder, rows, best, [*again, *sweep.words(config)])
    return Outcome(folder, figures)


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
    if Path(config.data).is_dir():
        config = replace(config, data=str(Path(config.data).absolute()))
    if config.keep == TrainConfig.keep:
        config = replace(config, keep=1)
    resolve(config)
    return config


def pixels(config: TrainConfig) -> int:
    return filled(config).resolution or RESOLUTION


def listed(folder: Path, spaces: Sequence[anynet.Space], config: TrainConfig, networks: int, band: anynet.Range,
           stages: int) -> list[sweep.Job]:  # fmt: skip
    """The jobs of a sweep: those that it has, and what is missing of each space, drawn and measured."""
    import kcnn
    from trainers.data import open_data
    from trainers.distribute.strategy import visible_gpus
    from trainers.training import prepare

    visible_gpus()  # a machine without a driver says so at the first look
    had = {job.key: job for job in sweep.read_jobs(folder)} if (folder / sweep.JOBS).exists() else {}
    flags = resolve(config).flags
    classes = len(open_data(config.data, data_dir=config.data_dir, val_split=config.val_split, seed=config.seed,
                            on_corrupt=config.on_corrupt).classes)  # fmt: skip
    jobs = dict(had)
    for s in spaces:
        keys = [f"{s.slug}-{i:03d}" for i in range(networks)]
        if all(key in had for key in keys):
            continue
        print(f"{s.name}: drawing {networks} networks of {short(band[0])} to {short(band[1])} multiply-adds",
              file=sys.stderr, flush=True)  # fmt: skip

        def finished(name: str) -> kcnn.Arch:
            return architecture(replace(flags, arch=name))

        def measure(arch: kcnn.Arch) -> Any:
            return kcnn.facts(arch, classes, stem="standard")

        for key, (name, symbols, facts) in zip(
            keys, anynet.sample(s, networks, band, finished, measure, config.seed, stages), strict=True
        ):
            row = {"space": s.name, "symbols": symbols, "activations": facts.activations}
            jobs.setdefault(key, sweep.Job(key, replace(config, arch=name), row))
    if len(jobs) > len(had):
        prepare(resolve(next(reversed(jobs.values())).config), Path())  # what is wrong with one is with all
    return list(jobs.values())


def main(argv: list[str] | None = None) -> None:
    def design_space(
        *,
        space: Annotated[
            list[str],
            Parameter(
                group=SWEEP,
                consume_multiple=True,
                negative="",
                help=f"Spaces: {', '.join(anynet.NAMES)}; with narrower ranges as regnetx:b=1,d=12..28,m=2..3.",
            ),
        ] = ["anynetx-a", "regnetx"],  # noqa: B006
        networks: Annotated[int, Parameter(group=SWEEP, help="Of each space.")] = 24,
        max_macs: Annotated[
            str | None,
            Parameter(
                group=SWEEP,
                help="Most multiply-adds of a network, as 400M, the default at 224 pixels; "
                "it goes with the area of the image.",
            ),
        ] = None,
        min_macs: Annotated[str | None, Parameter(group=SWEEP, help="Fewest (default: 0.9 of the most).")] = None,
        stages: Annotated[int, Parameter(group=SWEEP, help="Of a network.")] = 4,
        parallel: Annotated[int, Parameter(group=SWEEP, help="Networks to train at the same time.")] = 1,
        best: Annotated[int, Parameter(group=SWEEP, help="Compare spaces by the mean of so many least errors.")] = 5,
        table: Annotated[
            list[Path] | None,
            Parameter(
                group=SWEEP,
                consume_multiple=True,
                negative="",
                help="Train nothing: draw the page of these results.jsonl, together.",
            ),
        ] = None,
        config: TrainConfig | None = None,
        config_file: Annotated[str | None, Parameter("--config", help="YAML of flags of `kcnn train`.")] = None,
        json: cli.Json = False,
    ) -> dict[str, Any]:
        """Compare design spaces: sample networks from each, train them shortly, and see what their errors tell.

        AnyNetX A against RegNetX on digits; the same again goes on, --networks 100 with more:
        python -m tuning.design_space --run-dir logs/spaces

        A space against a part of it, on photos of your own:
        python -m tuning.design_space --space regnetx regnetx:b=1,m=2..3 --data photos/

        The page of results that are there:
        python -m tuning.design_space --table logs/a/results.jsonl logs/b/results.jsonl

        It leaves results.jsonl, a run of each network in runs/, and page.html: the error distributions, the likely
        best range of each parameter, and which space is better beyond chance. Each network is trained for 5 epochs,
        by the fast recipe where there is one; all flags of `kcnn train` hold. It can be killed at any time.
        `python -m tuning.sweep DIR` works on the same folder from other machines. The method is that of
        Radosavovic et al., 2020 (https://arxiv.org/abs/2003.13678).
        """
        wanted = config or TrainConfig()
        if table:
            outcome = redraw(table, wanted, best)
        else:
            outcome = search(space, wanted, networks, macs_band(min_macs, max_macs, wanted), stages, parallel, best)
        print(spoken(outcome.figures))
        return outcome.figures

    argv = sys.argv[1:] if argv is None else argv
    cli.run(design_space, "python -m tuning.design_space", argv, config=lambda: sweep.flags_of_file(argv))


def macs_band(least: str | None, most: str | None, config: TrainConfig) -> anynet.Range:
    """From the flags; by default the paper's, in proportion to the image's area."""
    share = (pixels(config) / RESOLUTION) ** 2
    high = quantity("max-macs", most) if most is not None else BAND[1] * share
    low = quantity("min-macs", least) if least is not None else BAND[0] / BAND[1] * high
    if low > high:
        raise InputError(f"min-macs {short(low)}, max-macs {short(high)}: the first has to be the smaller one")
    return low, high


def redraw(tables: Sequence[Path], config: TrainConfig, best: int) -> Outcome:
    """The page of results that are there already. Raises InputError for a file that holds none."""
    rows = []
    for path in tables:
        if not path.is_file():
            raise InputError(f"no results at {str(path)!r}: a results.jsonl is needed")
        found = read_lines(path, as_row)
        if not found:
            raise InputError(f"{path}: lines with space, arch and val_accuracy (or error) are needed")
        rows += found
    folder = Path(config.run_dir) if config.run_dir else claimed(sweep.new_folder("design-space", config))
    folder.mkdir(parents=True, exist_ok=True)
    return Outcome(folder, report(folder, rows, best))


def as_row(row: Any, place: str) -> Row:
    """A result whose figures and symbols can be drawn. Raises InputError."""
    row = named({"space": str, "arch": str}, row, place, {"key": str, "error": str, **dict.fromkeys(DRAWN, float)})
    if "error" in row:
        return cast(Row, row)
    row = named({"val_accuracy": float}, row, place)
    if not 0 <= row["val_accuracy"] <= 1 or any(row.get(name, 0) < 0 for name in DRAWN):
        raise InputError(f"{place}: a val_accuracy from 0 to 1 and costs from 0 are needed")
    if "symbols" in row:
        kinds: dict[str, Any] = {**dict.fromkeys("dwgb", list[float])}
        if "m" in typed(dict[str, Any], row["symbols"], f"{place}: symbols"):
            kinds = dict.fromkeys("dwamgb", float)
        symbols = named(kinds, row["symbols"], f"{place}: symbols")
        if not all(min(v, default=0) > 0 if isinstance(v, list) else v > 0 for v in map(symbols.get, kinds)):
            raise InputError(f"{place}: symbols: numbers above 0 are needed")
    return cast(Row, row)


if __name__ == "__main__":
    main()
