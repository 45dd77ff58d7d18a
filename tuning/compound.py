"""Find how a network is best made larger: EfficientNet's alpha, beta and gamma, and the family that they give."""

import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, cast

import yaml
from cyclopts import Group, Parameter

import kcnn
from kcnn import cli
from kcnn.errors import InputError
from kcnn.scaling import costs
from trainers.config import TrainConfig
from trainers.runs import files, folders
from trainers.settings import GROWTH, own_or_named, resolve
from tuning.pages import hparams
from tuning.pages.compound import drawn, spoken
from tuning.trials import sweep
from tuning.trials.processes import MOST_WORKERS
from tuning.trials.records import claimed, named, need_whole

SWEEP = Group.create_ordered("Compound scaling")
SETTINGS, FAMILY, PAGE = "search.json", "compound.yaml", "page.html"
GRIDS = (10, 20)  # steps along each edge of the triangle of coefficients: the finer one where few fit
PHIS = range(8)
EPOCHS = 5
FIRST = (0.3, 0.3, 0.4)  # on the triangle, next to the paper's 1.2, 1.1, 1.15


@dataclass(frozen=True)
class Outcome:
    """folder: of the search, with compound.yaml and page.html; figures: coefficients, candidates, the family."""

    folder: Path
    figures: dict[str, Any]


def search(
    config: TrainConfig, trials: int = 12, tolerance: float = 0.15, seeds: int = 1, parallel: int = 1
) -> Outcome:
    """Step 1: trains twice-as-large versions of a network and takes the best one's alpha, beta and gamma.
    Step 2: the family phi = 0 ... 7 that these give, with its facts.

    EfficientNet, Section 3.3. Goes on with what config.run_dir already holds. Raises InputError.
    """
    need_whole(trials=(trials, 1, 10**4), seeds=(seeds, 1, 1000), parallel=(parallel, 1, MOST_WORKERS))
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance {tolerance:g}: a share between 0 and 1 is needed")
    for name in ("phi", "alpha", "beta", "gamma", "compound", "resume"):
        if getattr(config, name) != getattr(TrainConfig, name, None):
            why = "it is what is searched" if name != "resume" else "the same --run-dir goes on by itself"
            raise InputError(f"{name} {getattr(config, name)!r}: leave it out, {why}")
    from trainers.training import writable

    folder = Path(config.run_dir or sweep.new_folder("compound", config))
    settings = {"config": sweep.flags(config), "tolerance": tolerance, "trials": trials, "seeds": seeds}
    writable(folder)
    sweep.same_settings(folder / SETTINGS, settings)
    base, classes, images = at_phi_0(config)
    if (folder / SETTINGS).exists():
        jobs = sweep.read_jobs(folder)
    else:
        twice = candidates(base, classes, trials, tolerance)
        jobs = [job(base, c, seed) for seed in range(seeds) for c in ({}, *twice)]
    if not config.run_dir:  # another sweep may begin in the same second
        folder = claimed(folder)
    with folders.locked(folder):
        sweep.write_jobs(folder, jobs)
        files.write_json(folder / SETTINGS, settings)
        print(f"into {folder}; killed, the same command with --run-dir {folder} goes on", file=sys.stderr, flush=True)
        sweep.run(folder, parallel, sweep.say)
        rows = [as_row(row, str(folder / sweep.RESULTS)) for row in sweep.timed(folder)]
        hparams.write(folder, {row["key"]: {name: row.get(name, 1.0) for name in GROWTH} for row in rows}, rows)
        figures = report(folder, base, classes, images * seeds, rows)
    return Outcome(folder, figures)


def at_phi_0(config: TrainConfig) -> tuple[TrainConfig, int, int]:
    """The small network, its resolution and stem settled, as both must not change on the way up; the number of
    classes, and of validation images. Raises InputError for what would fail every training."""
    from trainers.distribute.strategy import visible_gpus
    from trainers.training import prepare

    visible_gpus()  # a machine without a driver says so at the first look
    if Path(config.data).is_dir():
        config = replace(config, data=str(Path(config.data).absolute()))
    epochs, keep = EPOCHS if config.epochs is None else config.epochs, config.keep
    config = replace(config, arch=own_or_named(config.arch).name, run_dir=None, epochs=epochs,
                     keep=1 if keep == TrainConfig.keep else keep)  # fmt: skip
    arch = resolve(config).arch
    standard = arch.stem == resolve(replace(config, stem="standard")).arch.stem
    config = replace(config, resolution=arch.resolution, stem="standard" if standard else "small")
    source = prepare(resolve(config), Path()).source
    return config, len(source.classes), source.val.size


def facts_of(config: TrainConfig, classes: int) -> kcnn.Facts:

    return kcnn.facts(resolve(config).arch, classes, stem="standard")


def at(base: TrainConfig, phi: float, growth: dict[str, float]) -> TrainConfig:
    """The network of phi: as `kcnn train --phi PHI --compound FILE` makes it."""
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


def candidates(base: TrainConfig, classes: int, count: int, tolerance: float) -> list[dict[str, float]]:
    """Coefficients whose networks at phi = 1 truly have twice the multiply-adds, within a share; spread widely.

    Widths, depths and resolutions are rounded, in a small network by much: what rounds to the same network is tried
    once, and what rounding takes too far from twice the cost, not at all. Raises InputError where nothing is left.
    """

    def multiply_adds(config: TrainConfig) -> int:
        return costs(resolve(config).arch, memory=False, classes=classes)["macs"]

    aim, known = 2 * multiply_adds(base), set()
    fitting: list[tuple[float, float, float]] = []
    nearest: tuple[float, dict[str, float]] = (math.inf, {})
    for steps in GRIDS:
        for place in sorted(triangle(steps), key=lambda place: math.dist(place, FIRST)):
            config = at(base, 1, coefficients(place))
            if (same := repr(replace(resolve(config).arch, name=""))) in known:
                continue
            known.add(same)
            ratio = multiply_adds(config) / aim
            nearest = min(
                nearest, (abs(math.log(ratio)), coefficients(place) | {"ratio": 2 * ratio}), key=lambda n: n[0]
            )
            if abs(ratio - 1) <= tolerance:
                fitting.append(place)
        if len(fitting) >= count:
            break
    if not fitting:
        c = nearest[1]
        raise InputError(
            f"{base.arch}: rounding takes all {len(known)} candidates more than {tolerance:.0%} away from twice the "
            f"multiply-adds; the nearest, alpha {c['alpha']:g}, beta {c['beta']:g}, gamma {c['gamma']:g}, has "
            f"{c['ratio']:.2f} times as many: a wider or deeper network, or more --tolerance is needed"
        )
    chosen = fitting[:1]
    while len(chosen) < min(count, len(fitting)):  # the one furthest from all that are chosen
        chosen.append(max(fitting, key=lambda place: min(math.dist(place, other) for other in chosen)))
    return [coefficients(place) for place in chosen]


def job(base: TrainConfig, growth: dict[str, float], seed: int) -> sweep.Job:
    """The training of a candidate, or of the small network itself."""
    config = at(base, 1, growth) if growth else base
    key = "-".join(f"{what}{value:g}" for what, value in growth.items()) or "base"
    facts = growth | {"candidate": key, "resolution": config.resolution}
    return sweep.Job(f"{key}-seed{seed}", replace(config, seed=config.seed + seed), facts)


def as_row(row: Any, place: str) -> dict[str, Any]:
    """A result that tells which candidate it is of. Raises InputError."""
    growth = dict.fromkeys(GROWTH, float) if row.get("candidate") != "base" else {}
    return cast(dict[str, Any], named({"candidate": str, "resolution": int, **growth}, row, place))


def report(
    folder: Path, base: TrainConfig, classes: int, images: int, rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Writes compound.yaml and page.html, and returns all figures. Raises InputError where no candidate was trained."""
    tried: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if "error" not in row:
            tried.setdefault(row["candidate"], []).append(row)
    small = tried.pop("base", [])
    if not tried:
        raise InputError(f"no candidate could be trained, the first: {next(r['error'] for r in rows if 'error' in r)}")
    found = [rows[0] | {"val_accuracy": mean(r["val_accuracy"] for r in rows),
                        "val_loss": mean(r["val_loss"] for r in rows), "trainings": len(rows)}
             for rows in tried.values()]  # fmt: skip
    found.sort(key=lambda row: (-row["val_accuracy"], row["val_loss"]))
    best, growth = found[0], {name: found[0][name] for name in GROWTH}
    error = math.sqrt(best["val_accuracy"] * (1 - best["val_accuracy"]) / images)
    origin = {"arch": base.arch, "width": base.width, "depth": base.depth, "resolution": base.resolution,
              "stem": base.stem}  # fmt: skip
    files.write_text(folder / FAMILY, yaml.safe_dump(growth | origin, sort_keys=False))
    figures = growth | {
        "product": growth["alpha"] * growth["beta"] ** 2 * growth["gamma"] ** 2,
        "base": origin | {"val_accuracy": mean(r["val_accuracy"] for r in small) if small else None},
        "best": best,
        "standard_error": error,
        "within_error": sum(row["val_accuracy"] >= best["val_accuracy"] - error for row in found),
        "candidates": found,
        "failed": sum("error" in row for row in rows),
        "family": family(folder, base, classes, growth),
        "run_dir": str(folder),
        "file": str(folder / FAMILY),
        "page": str(folder / PAGE),
    }
    files.write_json(folder / "summary.json", figures)
    files.write_text(folder / PAGE, drawn(figures))
    return figures


def family(folder: Path, base: TrainConfig, classes: int, growth: dict[str, float]) -> list[dict[str, Any]]:
    """Step 2: phi = 0 ... 7, each with its facts and the command that trains it."""
    rows: list[dict[str, Any]] = []
    for phi in PHIS:
        config = at(base, phi, growth)
        facts = facts_of(config, classes)
        # What --compound says itself is left out; so is phi 0's own resolution and stem.
        named = replace(base, phi=float(phi), compound=str(folder / FAMILY), resolution=None, stem="auto")  # type: ignore[arg-type]
        rows.append({"phi": phi, "resolution": facts.resolution, "depth": growth["alpha"] ** phi,
                     "width": growth["beta"] ** phi, "params": facts.params, "macs": facts.macs,
                     "activations": facts.activations, "times": facts.macs / (rows[0]["macs"] if rows else facts.macs),
                     "memory": facts.memory(resolve(config).batch_size, resolve(config).precision, training=True),
                     "command": sweep.command(named)})  # fmt: skip
    return rows


def main(argv: list[str] | None = None) -> None:
    def compound(
        *,
        trials: Annotated[int, Parameter(group=SWEEP, help="Candidates to train, at most.")] = 12,
        tolerance: Annotated[
            float, Parameter(group=SWEEP, help="How far from twice the multiply-adds rounding may take a candidate.")
        ] = 0.15,
        seeds: Annotated[int, Parameter(group=SWEEP, help="Trainings of each, of which the mean counts.")] = 1,
        parallel: Annotated[int, Parameter(group=SWEEP, help="Networks to train at the same time.")] = 1,
        config: TrainConfig | None = None,
        config_file: Annotated[str | None, Parameter("--config", help="YAML of flags of `kcnn train`.")] = None,
        json: cli.Json = False,
    ) -> dict[str, Any]:
        """Find how a network is best made larger: EfficientNet's alpha, beta and gamma, and the family that they give.

        A small network first, as the search trains many that are twice as large:
        python -m tuning.compound --arch resnet-18 --width 0.5 --run-dir logs/compound

        Then any of its family, phi = 0 ... 7, each with twice the multiply-adds of the one before:
        kcnn train --arch resnet-18 --width 0.5 --phi 2 --compound logs/compound/compound.yaml

        Depth grows with alpha^phi, width with beta^phi, resolution with gamma^phi, where each is 1 or more and
        alpha * beta^2 * gamma^2 = 2. Candidates are trained for 5 epochs; all flags of `kcnn train` hold. It leaves
        compound.yaml, page.html, results.jsonl and runs/. It can be killed at any time: the same command with the
        same --run-dir goes on. Tan and Le, 2019 (https://arxiv.org/abs/1905.11946), Section 3.3.
        """
        outcome = search(config or TrainConfig(), trials, tolerance, seeds, parallel)
        print(spoken(outcome.figures))
        return outcome.figures

    argv = sys.argv[1:] if argv is None else argv
    cli.run(compound, "python -m tuning.compound", argv, config=lambda: sweep.flags_of_file(argv))


if __name__ == "__main__":
    main()
