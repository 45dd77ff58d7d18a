"""Search the multipliers of a network, and more where asked, under limits on what it costs."""

import itertools
import sys
import types
from typing import Annotated, Any

from cyclopts import Group, Parameter
from cyclopts.config import Yaml

from kcnn import cli
from trainers.config import TrainConfig
from tuning.pages import search as report
from tuning.trials import search as project
from tuning.trials.objective import METRICS
from tuning.trials.space import Limits, Ranges, flag

SEARCH = Group.create_ordered("Search")


def search(
    *,
    tuner: Annotated[
        project.Tuner,
        flag(SEARCH, "halving: short trials on small images, longer ones for their best third; or KerasTuner's."),
    ] = "halving",
    max_trials: Annotated[int, flag(SEARCH, "Networks to try at most (hyperband: trials, promoted ones too).")] = 20,
    objective: Annotated[
        str,
        flag(SEARCH, f"{', '.join(METRICS)}; or one at a cost, as val_accuracy:macs^-0.07."),
    ] = "val_accuracy",
    parallel: Annotated[int, flag(SEARCH, "Workers on this machine. Each takes its share of cores or a GPU.")] = 1,
    grid_points: Annotated[int, flag(SEARCH, "Of each range, for --tuner grid.")] = 3,
    ranges: Ranges | None = None,
    limits: Limits | None = None,
    config: TrainConfig | None = None,
    config_file: Annotated[str | None, Parameter("--config", help="YAML of flags.")] = None,
    json: cli.Json = False,
) -> dict[str, Any]:
    """Search the multipliers of a network, and more where asked, under limits on what it costs.

    python -m tuning.search --arch resnet-18 --data digits --max-trials 8 --max-macs 100M
    python -m tuning.search --arch mobilenet-v2 --data photos/ --parallel 2 --lr-range 1e-4 1e-2 --run-dir logs/mine
    python -m tuning.search --arch efficientnet-b0 --objective "val_accuracy:macs^-0.07" --tuner bayesian

    Each trial is a run of `kcnn train` in RUN-DIR/trials, with the flags given here. --width, --depth or
    --resolution fix what is otherwise searched. --epochs are a trial's (halving: of the last rung, else half the
    recipe's). The same command goes on with a search that was killed, in the middle of its trials.
    On a cluster, KERASTUNER_TUNER_ID (chief, worker-0, ...), KERASTUNER_ORACLE_IP and _PORT say who does what.
    """
    result = project.search(config, ranges, limits, tuner=tuner, objective=objective, max_trials=max_trials,
                            grid_points=grid_points, parallel=parallel)  # fmt: skip
    if result.trials:
        lost = result.lost_seconds / max(1e-9, result.seconds)
        print(f"""{report.table(result.trials, result.best)}

time       {result.seconds:.0f} s in trials, of which {result.lost_seconds:.0f} s \
({lost:.0%}) went into building and compiling{"" if lost < 1 / 3 else ": more --epochs would lose less"}
picture    {result.folder / "pareto.png"}
dashboard  tensorboard --logdir {result.folder}
winner     {result.command}""")
    return result.to_dict()


class Callable(types.ModuleType):
    """`tuning.search(...)` is the function even where `import tuning.search` has put this module in its place."""

    def __call__(self, *args: Any, **options: Any) -> project.Result:
        return project.search(*args, **options)


sys.modules[__name__].__class__ = Callable


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    cli.run(search, "python -m tuning.search", argv, config=lambda: config_of(argv))


def config_of(argv: list[str]) -> Yaml | None:
    """The values that --config sets; flags win over them."""
    paths = [value for key, value in itertools.pairwise(argv) if key == "--config"]
    paths += [arg.removeprefix("--config=") for arg in argv if arg.startswith("--config=")]
    return Yaml(paths[-1], must_exist=True) if paths else None


if __name__ == "__main__":
    main()
