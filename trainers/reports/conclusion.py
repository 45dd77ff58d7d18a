"""The end of a run: its figures, model.keras and the card."""

from typing import Any

from trainers.evaluation import evaluate_train_sample
from trainers.multilabel.outcome import conclude_multi_label
from trainers.reports.card import findings, write_card
from trainers.run import Position, Run
from trainers.runs import checkpoints, folders, provenance
from trainers.runs.dashboards import show_card
from trainers.runs.files import replacing, write_json
from trainers.serving.stock import stock


def outcome(run: Run, position: Position, figures: dict[str, float]) -> dict[str, Any]:
    """The figures of result.json, all but those that `conclude` adds."""
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_top5", "best_val_accuracy",
             "images_per_second")  # fmt: skip
    return {
        "arch": run.config.name,
        "data": run.config.data,
        "steps": position.step,
        "planned": run.plan.steps,  # a run may stop early
        "epochs": len(position.history),
        **{name: figures[name.removeprefix("train_")] for name in names},
        "params": run.facts.params,
        "macs": run.facts.macs,
        "replicas": run.strategy.num_replicas_in_sync,
        "recoveries": position.recoveries,
        "corrupt": len(run.source.corrupt),
        "data_changes": provenance.accepted(run.folder) if run.chief else [],
        "run_dir": str(run.folder),
    }


def conclude(run: Run, position: Position, result: dict[str, Any]) -> dict[str, Any]:
    """Writes model.keras, the card and, last of all, result.json. Returns the findings that it adds to the figures."""
    config, source, folder = run.config, run.source, run.folder
    model = checkpoints.load_run(folder)[0]
    with replacing(folder / "model.keras") as partial:
        stock(model).save(partial)
    if config.multi_label:
        found = conclude_multi_label(run, model, position, result)
        write_json(folder / folders.RESULT, result | found)
        return found
    sample = evaluate_train_sample(model, source.train, len(source.classes), config)
    found = findings(config, source, position.history, sample)
    show_card(folder, *write_card(folder, config, source, position.history, result | found), position.step)
    write_json(folder / folders.RESULT, result | found)
    return found
