"""Settle a claim of the textbook: train what it compares, with several seeds, and test whether it holds here."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import keras
from cyclopts import Group, Parameter

import kcnn
from kcnn.errors import InputError, shown, whole
from kcnn.terminal import cli
from trainers.config import TrainConfig
from trainers.data import Source, Split
from trainers.distribute.surroundings import visible_gpus
from trainers.lab.gradients import gradients
from trainers.lab.subject import built
from trainers.lab.subject import shown as shown_images
from trainers.runs.files import write_json, write_text
from trainers.runs.folders import read_result
from trainers.settings import resolve
from trainers.transfer.pretrained import as_expected
from tuning.pages import study as pages
from tuning.studies.arms import facts_of
from tuning.studies.removal import kept
from tuning.studies.rows import RATE, STUDIES, Study
from tuning.studies.verdicts import outcome, verdict
from tuning.trials.engine import MOST_PARALLEL
from tuning.trials.settings import changed_flags, values_of_file
from tuning.trials.sweep import RUNS, Job, Row, read_jobs, sweep_folder, train_all
from tuning.trials.trainer import check_run, open_source, with_absolute_data

SETTINGS, PAGE, SUMMARY = "study.json", "page.html", "summary.json"
SEEDS, QUICK_SEEDS, MOST_SEEDS = 5, 2, 1000
IMAGES = 50  # of validation, at least: fewer would not tell two networks apart
CLOSE = 0.15  # by so much the costs of equal networks may differ, as widths are rounded
# What every run has, where the user names nothing else: nothing that a study may be about.
USUAL = {
    "recipe": "default", "optimizer": "adamw", "lr": RATE, "weight_decay": 0.05, "batch_size": 32, "epochs": 8,
    "warmup_epochs": 1.0, "flip": False, "crop_scale": 1.0, "eval_crop": 1.0, "bn_momentum": 0.9, "stem": "standard",
    "drop": 0.0,
}  # fmt: skip
QUICK = {"epochs": 4}
RESOLUTIONS = {"digits": 16}
RESOLUTION = 32
STUDY = Group.create_ordered("Study")


def flag(help: str, **more: Any) -> Any:
    return Parameter(group=STUDY, help=help, **more)


@Parameter(name="*")
@dataclass(frozen=True)
class Method:
    """How a study is carried out."""

    seeds: Annotated[int | None, flag("Train each network with this many seeds (default: 5; 2 with --quick).")] = None
    quick: Annotated[bool, flag("Take the smallest networks and half the epochs: a first look.", negative="")] = False
    parallel: Annotated[
        int | None,
        flag(
            "This many networks are trained at the same time on this machine (default: one a core, up to 4; 1 on GPUs)."
        ),
    ] = None


def carry_out(name: str, config: TrainConfig, method: Method) -> dict[str, Any]:
    """Trains what the study compares, and returns all figures. Goes on with what config.run_dir already holds.

    Raises InputError.
    """
    study = get(name)
    seeds = check(study, config, method)
    config = settled(study, config, method.quick)
    source = open_source(config)
    if source.val.size < IMAGES:
        raise InputError(f"data {config.data!r}: {source.val.size} validation images, and a study needs {IMAGES}")
    assert config.resolution
    arms = study.arms(config.resolution, method.quick)
    configs = {arm: replace(config, arch=a.arch or config.arch, **a.flags) for arm, a in arms.items()}
    costs = {arm: facts_of(c, len(source.classes)) for arm, c in configs.items()}
    for what, share in apart(study, costs).items():
        if share > CLOSE:
            raise InputError(
                f"resolution {config.resolution}: what {name} compares differs by {share:.0%} in {what} there, and is "
                f"to be equal to {CLOSE:.0%}; give another --resolution"
            )
    settings = {"study": name, "quick": method.quick, "config": changed_flags(replace(config, run_dir=None))}

    def list_jobs(folder: Path) -> list[Job]:
        wanted = [job(arm, configs[arm], seed) for seed in range(seeds) for arm in configs]
        for arm in configs.values():
            check_run(arm)
        had = {j.key: j for j in read_jobs(folder)} if (folder / SETTINGS).is_file() else {}
        return list((had | {j.key: j for j in wanted}).values())

    with sweep_folder(f"study-{name}", config, SETTINGS, settings, list_jobs) as (folder, jobs):
        rows = train_all(folder, jobs, method.parallel or usual_parallel())
        flow = {arm: at_start(c, source) for arm, c in configs.items()} if study.flow else {}
        return report(folder, name, method, rows, costs, flow, source.val)


def get(name: str) -> Study:
    if name not in STUDIES:
        raise InputError(f"study {shown(name)}: one of {', '.join(STUDIES)} is needed")
    return STUDIES[name]


def check(study: Study, config: TrainConfig, method: Method) -> int:
    """The number of seeds. Raises InputError."""
    seeds = method.seeds if method.seeds is not None else QUICK_SEEDS if method.quick else SEEDS
    whole("seeds", seeds, MOST_SEEDS, least=2)
    if method.parallel is not None:
        whole("parallel", method.parallel, MOST_PARALLEL)
    if study.weights and not config.weights:
        raise InputError("weights: this study compares them with random ones; give --weights and their --arch")
    for name in ("resume", *(() if study.weights else ("arch", "width", "depth", "phi", "weights"))):
        if getattr(config, name) != getattr(TrainConfig, name, None):
            why = "a study's networks are its own" if name != "resume" else "the same --run-dir goes on by itself"
            raise InputError(f"{name} {getattr(config, name)!r}: leave it out, {why}")
    return seeds


def settled(study: Study, config: TrainConfig, quick: bool) -> TrainConfig:
    """The settings of all runs: the user's, else the study's, else the usual ones."""
    usual: dict[str, Any] = (
        USUAL | {"resolution": RESOLUTIONS.get(config.data, RESOLUTION)} | dict(study.flags) | (QUICK if quick else {})
    )
    if study.weights:  # with the pixels and the stem that the weights expect, for random ones, too
        expected = resolve(as_expected(replace(config, recipe=config.recipe or "default"))).flags
        usual |= {"resolution": expected.resolution, "stem": expected.stem}
    chosen = {key: value for key, value in usual.items() if getattr(config, key) in (None, "auto")}
    return with_absolute_data(replace(config, **chosen, keep=1))


def job(arm: str, config: TrainConfig, seed: int) -> Job:
    key = "".join(letter if letter.isalnum() else "-" for letter in arm).strip("-")
    return Job(f"{key}-seed{seed}", replace(config, seed=config.seed + seed), {"arm": arm, "seed": seed})


def apart(study: Study, costs: dict[str, kcnn.Facts]) -> dict[str, float]:
    """By how much the costs differ that are to be equal, as shares of the lowest."""
    found = {what: [getattr(facts, what) for facts in costs.values()] for what in study.equal}
    return {what: max(values) / min(values) - 1 for what, values in found.items()}


def usual_parallel() -> int:
    return 1 if visible_gpus() else min(4, os.cpu_count() or 1)


def at_start(config: TrainConfig, source: Source) -> float:
    """The norm of the loss's gradient at the end of the first stage over that at the last, with random weights."""
    run, classes = resolve(config), len(source.classes)
    keras.utils.set_random_seed(run.seed)
    return gradients(built(run, classes, None), shown_images(source.val, classes, run, 64, 32)).first_to_last


def report(
    folder: Path,
    name: str,
    method: Method,
    rows: Sequence[Row],
    costs: dict[str, kcnn.Facts],
    flow: dict[str, float],
    val: Split,
) -> dict[str, Any]:
    """Writes page.html and summary.json, and returns the latter. Raises InputError where too few runs came to an
    end."""
    study, figures = STUDIES[name], dict[int, dict[str, dict[str, float]]]()
    for row in rows:
        if "error" not in row:
            figures.setdefault(row["seed"], {})[row["arm"]] = measured(folder, row, study, val)
    whole_seeds = {seed: of for seed, of in figures.items() if of.keys() == costs.keys()}
    if len(whole_seeds) < 2:
        failed = next((row["error"] for row in rows if "error" in row), "they were not trained")
        raise InputError(f"{folder}: fewer than 2 seeds came to an end, the first failed: {failed}")
    found = [outcome(c, [c.value(of) for of in whole_seeds.values()]) for c in study.contrasts(method.quick)]
    result = {
        "study": name,
        "claim": study.claim,
        "paper": study.paper,
        "verdict": verdict(found),
        "contrasts": [o.to_dict() for o in found],
        "arms": {
            arm: {
                "macs": facts.macs,
                "params": facts.params,
                "resolution": facts.resolution,
                "flow": flow.get(arm),
                "figures": listed([of[arm] for of in whole_seeds.values()]),
            }
            for arm, facts in costs.items()
        },
        "equal": apart(study, costs),
        "seeds": len(whole_seeds),
        "failed": [f"{row['key']}: {row['error']}" for row in rows if "error" in row],
        "quick": method.quick,
        "validation_images": val.size,
        "folder": str(folder),
        "page": str(folder / PAGE),
    }  # fmt: skip
    write_json(folder / SUMMARY, result)
    write_text(folder / PAGE, pages.as_page(result))
    return result


def listed(rows: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """{name: values} of [{name: value}]."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def measured(folder: Path, row: Row, study: Study, val: Split) -> dict[str, float]:
    """The figures of a run that contrasts are made of. gap: the loss on validation images less that on training images
    as they are."""
    run = folder / RUNS / row["key"]
    found = {name: float(row[name]) for name in ("val_accuracy", "val_loss", "train_loss")}
    found["gap"] = found["val_loss"] - float(read_result(run)["plain_train_loss"])
    return found | ({"kept": kept(run, val)} if study.removal else {})


def study_command(
    name: Annotated[str | None, Parameter(help="The study; --list tells their names.")] = None,
    /,
    *,
    method: Method | None = None,
    list: Annotated[bool, Parameter(negative="", help="List the studies and their claims, and stop.")] = False,
    write: Annotated[
        Path | None,
        Parameter(help="Write what was found into the study's section of this page, such as docs/studies.md."),
    ] = None,
    config: TrainConfig | None = None,
    config_file: cli.ConfigFile = None,
    json: cli.Json = False,
) -> dict[str, Any]:
    """Settle a claim of the textbook on your own images: what it compares is
    trained with several seeds, and a test that was fixed beforehand tells
    whether the claim holds here, does not, or cannot be told from this data.

    kcnn study --list

    kcnn study depth                       # on digits; --quick for a first look

    kcnn study separable --data photos/ --resolution 64 --seeds 10

    It leaves page.html with the verdict, its figures and their picture, and a
    run of each network in runs/. All flags of `kcnn train` hold for all runs.
    It can be killed at any time: the same command with the same --run-dir goes
    on, and with more --seeds adds to what is there. Other machines help with
    `python -m tuning.sweep RUN-DIR`.
    """
    if list:
        pages.show_list(STUDIES)
        return {"studies": {name: {"claim": s.claim, "paper": s.paper} for name, s in STUDIES.items()}}
    if name is None:
        raise InputError(f"which study? one of {', '.join(STUDIES)} is needed")
    result = carry_out(name, config or TrainConfig(), method or Method())
    if write:
        pages.write_section(write, result)
    pages.show(result)
    return result


app = cli.make_app("study", study_command, values_of_file)


def main(argv: Sequence[str] | None = None) -> None:
    cli.command("study", None if argv is None else [*argv])


if __name__ == "__main__":
    main()
