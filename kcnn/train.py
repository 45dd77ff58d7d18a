"""Train a network, on the digits that come along or on images of your own."""

import argparse
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.config import Dict

from kcnn import cli


def main(argv: list[str] | None = None) -> None:
    from trainers.config import TrainConfig

    def train(
        *,
        config: TrainConfig | None = None,
        config_file: Annotated[
            str | None,
            Parameter("--config", help="YAML of flags; a run's config.yaml repeats it, in a folder of its own."),
        ] = None,
        list_recipes: Annotated[
            bool, Parameter(negative="", help="Print the recipes and where they come from, and stop.")
        ] = False,
        json: cli.Json = False,
    ) -> dict[str, Any] | None:
        """Train a network and leave in the run's folder what it became: checkpoints, figures, dashboards, a model.

        kcnn train                                        # EfficientNet-B0 on digits, offline, in minutes
        kcnn train --arch resnet-50 --data photos/        # photos/train/CLASS/*.jpg and photos/val/CLASS/*.jpg
        kcnn train --arch resnet-18 --width 0.5 --data tfds:cifar10 --epochs 30
        kcnn train --recipe a2 --arch resnet-50 --data tfds:imagenet2012 --dry-run    # a paper's settings, in full
        kcnn train --resume logs/resnet-50-photos-...     # after a crash

        Flags win over --config, and that over the recipe. A run can be killed at any time and resumed.
        """
        return recipes(quiet=json) if list_recipes else run(config or TrainConfig())

    argv = sys.argv[1:] if argv is None else argv
    cli.run(train, "kcnn train", argv, config=lambda: saved_values(argv))


def saved_values(argv: list[str]) -> Dict | None:
    """The values that --config, or the run to --resume, sets; flags will win over them."""
    from trainers.runs.folders import CONFIG
    from trainers.settings import read

    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("--config", nargs="?")
    early.add_argument("--resume", nargs="?")
    early.add_argument("--run-dir", nargs="?")
    known, _ = early.parse_known_args(argv)
    if known.config:
        return Dict(read(known.config), source=known.config)
    run = known.run_dir if known.resume == "auto" else known.resume
    if known.resume and run and (path := Path(run, CONFIG)).is_file():
        return Dict(read(path) | {"resume": known.resume}, source=str(path))
    return None


def recipes(quiet: bool) -> dict[str, Any]:
    """All recipes with their sources and settings."""
    from trainers.recipes import COOKBOOK

    if not quiet:
        names, abouts = (max(map(len, column)) for column in (COOKBOOK, (r.about for r in COOKBOOK.values())))
        for name, r in COOKBOOK.items():
            print(f"{name:{names}}  {r.about:{abouts}}  {r.source}")
    return {"recipes": {name: {"about": r.about, "source": r.source, **r.changes} for name, r in COOKBOOK.items()}}


def run(config: Any) -> dict[str, Any] | None:
    from trainers.training import dry_run, fit

    if config.dry_run:
        return dry_run(config)
    result = fit(config)
    if not result.chief:  # who has told it all
        return None
    folder, figures = result.folder, result.figures
    print(f"""
validation accuracy {figures["val_accuracy"]:.2%}, loss {figures["val_loss"]:.4f} after {figures["epochs"]} epochs \
in {figures["seconds"]:.0f} s
{judged(figures)}run        {folder}
card       {folder / "card.md"}
dashboard  tensorboard --logdir {folder.parent}
next       kcnn evaluate {folder}
           kcnn predict {folder} IMAGES...
           kcnn export {folder}""")
    return figures


def judged(figures: dict[str, Any]) -> str:
    """What came of it and what to try first, in a line each."""
    if "verdict" not in figures:  # a run of an earlier version
        return ""
    first = figures["evidence"][0].partition(". ")[0].rstrip(".")
    lines = [f"verdict    {figures['verdict']}: {first}", *(f"to try     {line}" for line in figures["advice"][:1])]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
