"""Find the learning rate of a training: a range test."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kcnn.arch import Arch
from kcnn.terminal import cli, starting
from trainers.config import TrainConfig


def find_lr(
    *,
    config: TrainConfig | None = None,
    config_file: Annotated[
        str | None, Parameter("--config", help="YAML of flags, such as a run's config.yaml; flags win over it.")
    ] = None,
    imports: cli.Imports = None,
    json: cli.Json = False,
) -> dict[str, Any]:
    """Find the learning rate for a training, in under 100 steps.

    The rate rises at each step, from one at which nothing happens to one at
    which the loss blows up. The suggestion is a third of the rate at which
    the loss first rises (a tenth without batch normalization), as the peak
    of the schedule, which --lr is. The flags are those of kcnn train; images,
    augmentation, optimizer and weights are those of the training that they
    describe, and --lr is not read. Nothing is kept but the figures and their
    picture, in --run-dir or in logs/ARCH-DATA-TIME.

    kcnn find-lr --arch resnet-18 --data photos/ --optimizer sgd

    kcnn find-lr --config logs/resnet-18-photos-.../config.yaml

    kcnn train --lr find finds it, writes it into the run and trains with it.
    """
    starting.need_tensorflow()
    from trainers.data.tfds_source import import_builders
    from trainers.training import find_lr as find

    import_builders(imports)
    config = config or TrainConfig()
    if config_file and config.arch == TrainConfig.arch:
        config = dataclasses.replace(config, arch=own_arch(config_file) or config.arch)
    folder, test = find(config)
    print(f"""learning rate {test.rate:g}: {test.evidence}
picture    {folder / "range_test.png"}
next       kcnn train with the same flags and --lr {test.rate:g}""")
    return test.to_dict() | {"folder": str(folder), "picture": str(folder / "range_test.png")}


def values_of_file(typed: Mapping[str, str]) -> tuple[Path, dict[str, Any]] | None:
    """The file that --config names, and those of its values that flags can hold."""
    if "--config" not in typed:
        return None
    starting.need_tensorflow()
    from trainers.settings import read

    path = Path(typed["--config"])
    return path, {k: v for k, v in read(path).items() if k != "built_as" and not isinstance(v, Arch)}


def own_arch(path: str) -> Arch | None:
    """The file's architecture of the user's own, which no flag can hold, if it has one."""
    from trainers.settings import read

    arch = read(path).get("arch")
    return arch if isinstance(arch, Arch) else None


app = cli.make_app("find-lr", find_lr, values_of_file)


def main(argv: list[str] | None = None) -> None:
    cli.command("find-lr", argv)


if __name__ == "__main__":
    main()
