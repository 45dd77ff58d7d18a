"""Train a network, on the digits that come along or on images of your own."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kcnn.arch import Arch
from kcnn.errors import InputError
from kcnn.terminal import cli, starting
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
    show_recipe: Annotated[
        str | None, Parameter(help="Print all settings of this recipe as --config takes them, and stop.")
    ] = None,
    imports: cli.Imports = None,
    json: cli.Json = False,
) -> dict[str, Any] | None:
    """Train a network. The run's folder gets its checkpoints, figures,
    dashboards, a card and the trained model.

    kcnn train                                    # EfficientNet-B0 on digits
    kcnn train --arch resnet-50 --data photos/    # photos/{train,val}/CLASS/*.jpg
    kcnn train --arch resnet-18 --width 0.5 --data tfds:cifar10 --epochs 30
    kcnn train --show-recipe a2                   # a paper's settings, in full
    kcnn train --arch resnet-50 --data few/ --weights logs/resnet-50-photos-...
    kcnn train --resume logs/resnet-50-photos-... # after a crash

    Flags win over --config, and --config wins over the recipe. A run can be
    killed at any time and resumed.
    """
    if show_recipe is not None:
        return recipe(show_recipe, quiet=json)
    if list_recipes:
        return recipes(quiet=json)
    config = config or TrainConfig()
    saved = saved_file(config_file, config.resume, config.run_dir)
    return run(completed(config, saved, resumed=config_file is None) if saved else config, imports)


def saved_values(typed: Mapping[str, str]) -> tuple[Path, dict[str, Any]] | None:
    """The file that --config, or the run to --resume, names, and the values in it."""
    config, resume, run_dir = (typed.get(flag) for flag in ("--config", "--resume", "--run-dir"))
    path = saved_file(config, resume, run_dir)
    if path is None:
        return None
    starting.need_tensorflow()
    from trainers.runs.folders import read_config
    from trainers.settings import plain, read

    # A run's folder may be of an earlier version, with fewer settings: read_config knows what they were.
    usual = {} if config else plain(read_config(path.parent).flags) | {"run_dir": run_dir}
    values = usual | read(path) | ({} if config else {"resume": resume})
    return path, {key: value for key, value in values.items() if key != "built_as" and not isinstance(value, Arch)}


def saved_file(config: str | None, resume: str | None, run_dir: str | None) -> Path | None:
    """The file that further values come from: --config, or that of the run to go on with."""
    if config:
        return Path(config)
    run = run_dir if resume == "auto" else resume
    path = Path(run, "config.yaml") if resume and run else None
    return path if path and path.is_file() else None


def completed(config: TrainConfig, saved: Path, resumed: bool) -> TrainConfig:
    """With the file's architecture of the user's own, which no flag can hold, where the file has one.

    Raises InputError where a flag says otherwise than the run that is to go on.
    """
    from trainers.runs.asked import placed
    from trainers.runs.folders import open_run, same_run
    from trainers.settings import read

    values = read(saved)
    arch = values.get("arch", config.arch)
    if not isinstance(arch, str) and config.arch == TrainConfig.arch:
        config = dataclasses.replace(config, arch=arch)
    if resumed:
        config = dataclasses.replace(config, built_as=values.get("built_as"))
        same_run(open_run(saved.parent)[1].flags, placed(config))
    return config


def recipe(name: str, quiet: bool) -> dict[str, Any]:
    """All settings of a recipe, those that it shares with the default too."""
    import yaml

    from trainers.recipes import COOKBOOK, RECIPES

    if name not in RECIPES:
        raise InputError(f"show-recipe {name!r}: one of {', '.join(RECIPES)} is needed")
    about, source = COOKBOOK[name].about, COOKBOOK[name].source
    if not quiet:
        print(f"# {about}\n# {source}")
        print(yaml.safe_dump({"recipe": name} | RECIPES[name], sort_keys=False), end="")
    return {"recipe": name, "about": about, "source": source, "settings": RECIPES[name]}


def recipes(quiet: bool) -> dict[str, Any]:
    """All recipes with their sources and settings."""
    from trainers.recipes import COOKBOOK

    if not quiet:
        names, abouts = (max(map(len, column)) for column in (COOKBOOK, (r.about for r in COOKBOOK.values())))
        for name, r in COOKBOOK.items():
            print(f"{name:{names}}  {r.about:{abouts}}  {r.source}")
    return {"recipes": {name: {"about": r.about, "source": r.source, **r.changes} for name, r in COOKBOOK.items()}}


def run(config: TrainConfig, imports: list[str] | None = None) -> dict[str, Any] | None:
    starting.need_tensorflow()
    from trainers.training import dry_run, fit

    if imports:
        from trainers.data.tfds_source import import_builders

        import_builders(imports)
    if config.dry_run:
        return dry_run(config)
    result = fit(config)
    if not result.chief:  # who has told it all
        return None
    folder, figures = result.folder, result.figures
    metric = figures.get("metric", "accuracy")
    print(f"""
validation {metric} {figures["val_accuracy"]:.2%}, loss {figures["val_loss"]:.4f} after {figures["epochs"]} epochs \
in {figures["seconds"]:.0f} s
{judged(figures)}run        {folder}
card       {folder / "card.md"}
dashboard  kcnn board {folder.parent}
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


app = cli.make_app("train", train, saved_values)


def main(argv: list[str] | None = None) -> None:
    cli.command("train", argv)


if __name__ == "__main__":
    main()
