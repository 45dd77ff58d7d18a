"""What a run of images with any number of labels leaves at its end: thresholds, and a card."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import keras

from kcnn.errors import InputError
from trainers.data import Split
from trainers.distribute.strategy import make_strategy
from trainers.evaluation import SAMPLE, Evaluation, evaluate_train_sample, evaluator
from trainers.multilabel.scores import HALF, MultiLabelEvaluation, best_thresholds
from trainers.runs import checkpoints
from trainers.runs.files import read_json, write_json, write_text
from trainers.settings import RunConfig, text

if TYPE_CHECKING:
    from trainers.run import Position, Run

THRESHOLDS = "thresholds.json"


def conclude_multi_label(
    run: "Run", model: keras.Model, position: "Position", result: dict[str, Any]
) -> dict[str, Any]:
    """Finds the thresholds of the last and the best checkpoint on the validation images, and writes them and the card.
    Returns the figures that it adds to the result."""
    config, source, folder = run.config, run.source, run.folder
    judged = {"last": judge(model, config, source.val, len(source.classes))}
    judged["best"] = judge(checkpoints.load_run(folder, "best")[0], config, source.val, len(source.classes))
    write_json(folder / THRESHOLDS, {name: list(found.thresholds or ()) for name, found in judged.items()})
    sample = evaluate_train_sample(model, source.train, len(source.classes), config)
    found = {
        "metric": "mAP",
        "plain_train_accuracy": sample.accuracy,
        "plain_train_images": min(SAMPLE, source.train.size),
        "val_f1": judged["last"].to_dict(source.classes)["f1"],
    }
    write_text(folder / "card.md", card(run, position, result | found, judged["last"]))
    return found


def judge(model: keras.Model, config: RunConfig, split: Split, classes: int) -> MultiLabelEvaluation:
    """The evaluation of a split, with the thresholds that are best on it."""
    made = evaluator(model, [], split, classes, config, make_strategy("one-device"))()
    found = cast(MultiLabelEvaluation, made)
    return replace(found, thresholds=best_thresholds(found.shares, found.truth))


def with_thresholds(evaluation: Evaluation, folder: Path, checkpoint: str) -> MultiLabelEvaluation:
    """The evaluation at the thresholds of a run's checkpoint."""
    found = cast(MultiLabelEvaluation, evaluation)
    return replace(found, thresholds=read_thresholds(folder, checkpoint, found.truth.shape[-1]))


def read_thresholds(folder: Path, checkpoint: str, classes: int) -> tuple[float, ...]:
    """The probabilities from which on the classes count as found; a half each for a run that has not ended.

    Raises InputError where the file is damaged.
    """
    path = folder / THRESHOLDS
    if not path.exists():
        return (HALF,) * classes
    values = read_json(path, dict).get(checkpoint)
    right = isinstance(values, list) and len(values) == classes
    if not right or not all(type(value) in (int, float) and 0 <= value <= 1 for value in values):
        raise InputError(f"{path}: {checkpoint}: {classes} numbers from 0 to 1 are needed; it was changed by hand")
    return tuple(map(float, values))


def card(run: "Run", position: "Position", result: dict[str, Any], evaluation: MultiLabelEvaluation) -> str:
    """The run's card: what it reached, class by class, and its settings."""
    history, source = position.history, run.source
    best = max(range(len(history)), key=lambda i: history[i]["val_accuracy"])
    rows = "".join(
        f"| {row['class'].replace('|', ' ')} | {row['count']:,} | {percent(row['average_precision'])} "
        f"| {row['threshold']:.3f} | {percent(row['recall'])} | {percent(row['precision'])} | {percent(row['f1'])} |\n"
        for row in evaluation.to_dict(source.classes)["per_class"]
    )
    return f"""# {run.config.arch.name} on {source.name}, any number of labels an image

**mAP {result["val_accuracy"]:.2%}** on {source.val.size:,} validation images after {result["epochs"]} epochs, F1
{percent(result["val_f1"])} over all labels at the thresholds below, which were chosen on these images and so flatter.
On {result["plain_train_images"]:,} training images, not augmented, mAP is {result["plain_train_accuracy"]:.2%}.
Best checkpoint: `checkpoints/best.npz`, of epoch {best + 1}, mAP {history[best]["val_accuracy"]:.2%}.

| class | validation images | average precision | threshold | recall | precision | F1 |
|---|---|---|---|---|---|---|
{rows}
{source.note}

<details><summary>All settings</summary>

```yaml
{text(replace(run.config.flags, run_dir=None, resume=None))}```

</details>
"""


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
