"""Find how a network is best made larger: EfficientNet's alpha, beta and gamma, and the family that they give."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import yaml
from cyclopts import Group, Parameter

import kcnn
from kcnn.arch import GROWTH
from kcnn.errors import InputError, whole
from kcnn.scaling import costs
from kcnn.terminal import cli
from trainers.config import TrainConfig
from trainers.reports.chance import CHOICE, beaten
from trainers.runs.files import write_json, write_text
from trainers.settings import own_or_named, resolve
from tuning.pages import compound as pages
from tuning.pages import hparams
from tuning.trials.engine import MOST_PARALLEL
from tuning.trials.records import named
from tuning.trials.settings import changed_flags, not_given, train_command, values_of_file
from tuning.trials.sweep import RESULTS, Job, Row, read_jobs, sweep_folder, train_all
from tuning.trials.trainer import check_run, with_absolute_data

SETTINGS, FAMILY, PAGE, SUMMARY = "search.json", "compound.yaml", "page.html", "summary.json"
GRIDS = (10, 20)  # steps along each edge of the triangle of coefficients: the finer one where few fit
PHIS = range(8)
EPOCHS = 5
FIRST = (0.3, 0.3, 0.4)  # on the triangle, next to the paper's 1.2, 1.1, 1.15
BASE = "base"
COMPOUND = Group.create_ordered("Compound scaling")
Growth = dict[str, float]


@dataclass(frozen=True)
class Base:
    """The network at phi = 0, and what it is trained on: how many classes, how many validation images."""

    config: TrainConfig
    classes: int
    images: int


@Parameter(name="*")
@dataclass(frozen=True)
class Method:
    """How many candidates are trained, and how often."""

    trials: Annotated[int, Parameter(group=COMPOUND, help="At most this many candidates are trained.")] = 12
    tolerance: Annotated[
        float,
        Parameter(group=COMPOUND, help="Rounding may take a candidate's cost this share away from twice the cost."),
    ] = 0.15
    seeds: Annotated[
        int, Parameter(group=COMPOUND, help="Each candidate is trained this many times, and the mean counts.")
    ] = 1


def find_growth(config: TrainConfig, method: Method, parallel: int = 1) -> dict[str, Any]:
    """Step 1 trains twice-as-large versions of a network and takes the best one's alpha, beta and gamma; step 2 is the
    family phi = 0 ... 7 that these give, with its facts. Returns all figures.

    EfficientNet, Section 3.3. Goes on with what config.run_dir already holds. Raises InputError.
    """
    check(config, method, parallel)
    settings = {"config": changed_flags(config), "tolerance": method.tolerance, "trials": method.trials,
                "seeds": method.seeds}  # fmt: skip
    base = at_phi_0(config)

    def list_jobs(folder: Path) -> list[Job]:
        if (folder / SETTINGS).exists():
            return read_jobs(folder)
        twice = candidates(base.config, base.classes, method.trials, method.tolerance)
        return [job(base.config, growth, seed) for seed in range(method.seeds) for growth in ({}, *twice)]

    with sweep_folder("compound", config, SETTINGS, settings, list_jobs) as (folder, jobs):
        rows = [checked_row(row, str(folder / RESULTS)) for row in train_all(folder, jobs, parallel)]
        hparams.write(folder, {row["key"]: {name: row.get(name, 1.0) for name in GROWTH} for row in rows}, rows)
        return report(folder, base, rows, method.seeds)


def check(config: TrainConfig, method: Method, parallel: int) -> None:
    whole("trials", method.trials, 10**4)
    whole("seeds", method.seeds, 1000)
    whole("parallel", parallel, MOST_PARALLEL)
    if not 0 < method.tolerance < 1:
        raise InputError(f"tolerance {method.tolerance:g}: a share between 0 and 1 is needed")
    whys = {
        "resume": "the same --run-dir goes on by itself",
        "weights": "they fit networks of one width and depth, and both are searched",
    }
    for name in ("phi", "alpha", "beta", "gamma", "compound", *whys):
        if getattr(config, name) != getattr(TrainConfig, name, None):
            why = whys.get(name, "it is what is searched")
            raise InputError(f"{name} {getattr(config, name)!r}: leave it out, {why}")


def at_phi_0(config: TrainConfig) -> Base:
    """The small network, its resolution and stem settled, as both must not change on the way up.

    Raises InputError for what would fail every training.
    """
    config = with_absolute_data(config)
    epochs = EPOCHS if config.epochs is None else config.epochs
    keep = 1 if config.keep == TrainConfig.keep else config.keep
    config = replace(config, arch=own_or_named(config.arch).name, run_dir=None, epochs=epochs, keep=keep)
    arch = resolve(config).arch
    standard = arch.stem == resolve(replace(config, stem="standard")).arch.stem
    config = replace(config, resolution=arch.resolution, stem="standard" if standard else "small")
    source = check_run(config)
    return Base(config, len(source.classes), source.val.size)


def at(base: TrainConfig, phi: float, growth: Growth) -> TrainConfig:
    """The network of phi, as `kcnn train --phi PHI --compound FILE` makes it."""
    pixels = round(base.resolution * growth["gamma"] ** phi)
    return replace(base, phi=float(phi), **growth, resolution=pixels)  # type: ignore[arg-type]


def triangle(steps: int) -> list[tuple[float, float, float]]:
    """What shares of the doubling go to depth, width and resolution: all in steps of 1 / steps."""
    rows = itertools.product(range(steps + 1), repeat=2)
    return [(i / steps, j / steps, (steps - i - j) / steps) for i, j in rows if i + j <= steps]


def coefficients(place: Sequence[float]) -> dict[str, float]:
    """alpha, beta, gamma >= 1 with alpha * beta^2 * gamma^2 = 2, to their fourth decimal."""
    i, j, k = place
    return {"alpha": round(2**i, 4), "beta": round(2 ** (j / 2), 4), "gamma": round(2 ** (k / 2), 4)}


def candidates(base: TrainConfig, classes: int, count: int, tolerance: float) -> list[Growth]:
    """Coefficients whose networks at phi = 1 truly have twice the multiply-adds, within a share; spread widely.

    Widths, depths and resolutions are rounded, in a small network by much: what rounds to the same network is tried
    once, and what rounding takes too far from twice the cost, not at all. Raises InputError where nothing is left.
    """
    aim, ratios = 2 * multiply_adds(base, classes), dict[str, tuple[tuple[float, float, float], float]]()
    fitting: list[tuple[float, float, float]] = []
    for steps in GRIDS:
        for place in sorted(triangle(steps), key=lambda place: math.dist(place, FIRST)):
            config = at(base, 1, coefficients(place))
            if (same := repr(replace(resolve(config).arch, name=""))) in ratios:
                continue
            ratios[same] = place, multiply_adds(config, classes) / aim
            if abs(ratios[same][1] - 1) <= tolerance:
                fitting.append(place)
        if len(fitting) >= count:
            break
    if not fitting:
        place, ratio = min(ratios.values(), key=lambda found: abs(math.log(found[1])))
        nearest = ", ".join(f"{name} {value:g}" for name, value in coefficients(place).items())
        raise InputError(
            f"{base.arch}: rounding takes all {len(ratios)} candidates more than {tolerance:.0%} away from twice the "
            f"multiply-adds; the nearest, {nearest}, has {2 * ratio:.2f} times as many: a wider or deeper network, or "
            "more --tolerance is needed"
        )
    chosen = fitting[:1]
    while len(chosen) < min(count, len(fitting)):  # the one furthest from all that are chosen
        chosen.append(max(fitting, key=lambda place: min(math.dist(place, other) for other in chosen)))
    return [coefficients(place) for place in chosen]


def multiply_adds(config: TrainConfig, classes: int) -> int:
    return costs(resolve(config).arch, memory=False, classes=classes)["macs"]


def job(base: TrainConfig, growth: Growth, seed: int) -> Job:
    """The training of a candidate, or of the small network itself."""
    config = at(base, 1, growth) if growth else base
    key = "-".join(f"{what}{value:g}" for what, value in growth.items()) or BASE
    facts = {**growth, "candidate": key, "resolution": config.resolution}
    return Job(f"{key}-seed{seed}", replace(config, seed=config.seed + seed), facts)


def checked_row(row: Row, place: str) -> Row:
    """A result that tells which candidate it is of. Raises InputError."""
    growth = {} if row.get("candidate") == BASE else dict.fromkeys(GROWTH, float)
    return named(row, {"candidate": str, "resolution": int, **growth}, place)


def report(folder: Path, base: Base, rows: Sequence[Row], seeds: int) -> dict[str, Any]:
    """Writes compound.yaml and page.html, and returns all figures. Raises InputError where no candidate was trained."""
    tried: dict[str, list[Row]] = {}
    for row in rows:
        if "error" not in row:
            tried.setdefault(row["candidate"], []).append(row)
    small = tried.pop(BASE, [])
    if not tried:
        raise InputError(f"no candidate could be trained, the first: {next(r['error'] for r in rows if 'error' in r)}")
    found = [averaged(of_one) for of_one in tried.values()]
    found.sort(key=lambda row: (-row["val_accuracy"], row["val_loss"]))
    best, growth = found[0], {name: found[0][name] for name in GROWTH}
    error = math.sqrt(best["val_accuracy"] * (1 - best["val_accuracy"]) / (base.images * seeds))
    origin = {name: getattr(base.config, name) for name in ("arch", "width", "depth", "resolution", "stem")}
    write_text(folder / FAMILY, yaml.safe_dump(growth | origin, sort_keys=False))
    small_accuracy = mean(r["val_accuracy"] for r in small) if small else None
    figures = growth | {
        "product": growth["alpha"] * growth["beta"] ** 2 * growth["gamma"] ** 2,
        "base": origin | {"val_accuracy": small_accuracy},
        "paid": None if small_accuracy is None else paid(small_accuracy, found, base.images * seeds),
        "best": best,
        "standard_error": error,
        "within_error": sum(row["val_accuracy"] >= best["val_accuracy"] - error for row in found),
        "candidates": found,
        "failed": sum("error" in row for row in rows),
        "family": family(folder / FAMILY, base, growth),
        "run_dir": str(folder),
        "file": str(folder / FAMILY),
        "page": str(folder / PAGE),
    }
    write_json(folder / SUMMARY, figures)
    write_text(folder / PAGE, pages.as_page(figures))
    return figures


def paid(small: float, candidates: Sequence[Row], images: int) -> bool:
    """Whether twice the cost brought more accuracy than chance would: whether the best candidate beats the small
    network. images: validation images, times seeds."""
    accuracies = [small, *(row["val_accuracy"] for row in candidates)]
    return max(accuracies) > small and beaten(accuracies, images)[0] <= CHOICE


def averaged(rows: Sequence[Row]) -> Row:
    """A candidate's trainings as one row."""
    means = {name: mean(row[name] for row in rows) for name in ("val_accuracy", "val_loss")}
    return rows[0] | means | {"trainings": len(rows)}


def family(file: Path, base: Base, growth: Growth) -> list[Row]:
    """Step 2: phi = 0 ... 7, each with its facts and the command that trains it. file: with the growth."""
    rows: list[Row] = []
    for phi in PHIS:
        config = at(base.config, phi, growth)
        run = resolve(config)
        made = kcnn.facts(run.arch, base.classes, stem="standard")
        # What --compound says itself is left out; so is phi 0's own resolution and stem.
        unscaled = not_given(base.config, "resolution", "stem", "epochs", "keep")
        command = replace(unscaled, phi=float(phi), compound=str(file))
        rows.append(
            {
                "phi": phi,
                "resolution": made.resolution,
                "depth": growth["alpha"] ** phi,
                "width": growth["beta"] ** phi,
                "params": made.params,
                "macs": made.macs,
                "activations": made.activations,
                "times": made.macs / (rows[0]["macs"] if rows else made.macs),
                "memory": made.memory(run.batch_size, run.precision, training=True),
                "command": train_command(changed_flags(command)),
            }
        )
    return rows


def compound_command(
    *,
    method: Method | None = None,
    parallel: Annotated[
        int, Parameter(group=COMPOUND, help="This many networks are trained at the same time on this machine.")
    ] = 1,
    config: TrainConfig | None = None,
    config_file: cli.ConfigFile = None,
    json: cli.Json = False,
) -> dict[str, Any]:
    """Find how a network is best made larger: EfficientNet's alpha, beta and gamma, and the family that they give.

    A small network first, as the search trains many that are twice as large:
    kcnn compound --arch resnet-18 --width 0.5 --run-dir logs/compound

    Then any of its family, phi = 0 ... 7, each with twice the multiply-adds of the one before:
    kcnn train --arch resnet-18 --width 0.5 --phi 2 --compound logs/compound/compound.yaml

    Depth grows with alpha^phi, width with beta^phi, resolution with gamma^phi, where each is 1 or more and
    alpha * beta^2 * gamma^2 = 2. Candidates are trained for 5 epochs; all flags of `kcnn train` hold. It leaves
    compound.yaml, page.html, results.jsonl and runs/. It can be killed at any time: the same command with the
    same --run-dir goes on. Tan and Le, 2019 (https://arxiv.org/abs/1905.11946), Section 3.3.
    """
    figures = find_growth(config or TrainConfig(), method or Method(), parallel)
    pages.show(figures)
    return figures


app = cli.make_app("compound", compound_command, values_of_file)


def main(argv: list[str] | None = None) -> None:
    cli.command("compound", argv)


if __name__ == "__main__":
    main()
