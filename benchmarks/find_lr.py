"""What find-lr's suggestion is worth: it against a grid of rates, each with a short training of its own.

python -m benchmarks.find_lr            # three networks, two optimizers, five rates each: some 8 minutes on two cores

Networks are trained on digits at 32 pixels with the run's own step, schedule and augmentation. A rate's factor is the
ratio of the suggestion and the rate, whichever way it is above 1: of the best rate of the grid, and of the nearest
rate whose accuracy cannot be told from the best one's, by two standard errors of their difference.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

NETWORKS = (("vgg-11", 0.25), ("resnet-18", 0.25), ("mobilenet-v2", 0.35))
GRIDS = {
    "sgd": ({"weight_decay": 1e-4}, (0.01, 0.03, 0.1, 0.3, 1.0)),
    "adamw": ({"weight_decay": 0.05}, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4, help="of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arch", help="one network alone")
    args = parser.parse_args()
    for arch, width in NETWORKS:
        for optimizer, (flags, grid) in GRIDS.items():
            if args.arch in (None, arch):
                common = {"arch": arch, "width": width, "resolution": 32, "epochs": args.epochs, "seed": args.seed}
                compare(f"{arch} {optimizer}", common | flags | {"optimizer": optimizer}, grid)


def compare(name: str, flags: dict, grid: tuple[float, ...]) -> None:
    from trainers import TrainConfig
    from trainers.settings import resolve
    from trainers.training import prepare, tested

    run = prepare(resolve(TrainConfig(**flags)), Path("unused"))
    test = tested(run)
    rates = sorted((*grid, test.suggested)) if test.suggested else list(grid)
    accuracies = dict(zip(rates, trained(run, rates), strict=True))
    best = max(grid, key=accuracies.__getitem__)
    print(f"{name}: {test.evidence}; {len(test.losses)} steps")
    print("  " + "  ".join(f"{rate:g}{'*' * (rate == test.suggested)} {a:.1%}" for rate, a in accuracies.items()))
    if test.suggested:
        error = 2 * math.sqrt(2 * accuracies[best] * (1 - accuracies[best]) / run.source.val.size)
        good = [rate for rate in grid if accuracies[rate] >= accuracies[best] - error]
        factors = {rate: max(test.suggested / rate, rate / test.suggested) for rate in good}
        print(f"  suggested {test.suggested:g}, best of the grid {best:g}: factor {factors[best]:.1f}; ", end="")
        print(f"of the nearest as good {min(factors.values()):.1f}", flush=True)


def trained(run, rates: list[float]) -> list[float]:
    """The validation accuracies of trainings from the same weights with these peaks of the learning rate."""
    import tensorflow as tf

    from trainers.evaluation import evaluator
    from trainers.loop import phase_function
    from trainers.optim.optimizers import rule_of
    from trainers.phases import phase_of, training_data
    from trainers.training import make

    run = replace(run, config=replace(run.config, lr=1.0))
    state, phase = make(run), phase_of(run.config, 0)
    step = phase_function(run, state, phase)
    evaluate = evaluator(state.plain, [], run.source.val, len(run.source.classes), run.config, run.strategy)
    variables = [v.value for v in (*state.model.variables, *state.optimizer.variables)] + [state.step]
    start, accuracies = [v.numpy() for v in variables], []
    for rate in rates:
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        rule_of(state.optimizer).lr_scale.assign(rate)
        step(iter(training_data(run, phase, 0)), tf.constant(run.plan.steps))
        accuracies.append(evaluate().accuracy)
    return accuracies


if __name__ == "__main__":
    main()
