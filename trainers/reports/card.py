"""The card of a run: its settings and data, its results, and the command that repeats it."""

import os
import platform
import shlex
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tensorflow as tf

import kcnn
from kcnn.builder import physical_memory
from kcnn.terminal.processor import cpuinfo
from trainers.config import RESUMABLE, TrainConfig
from trainers.data import Source
from trainers.distribute.surroundings import visible_gpus
from trainers.evaluation import Evaluation
from trainers.reports.curves import curves_png
from trainers.reports.verdict import History, percent, span, verdict, wilson
from trainers.runs import folders
from trainers.runs.files import write_bytes, write_text
from trainers.settings import RunConfig, architecture, filled, plain, text

CARD, CURVES = "card.md", "curves.png"
LIBRARIES = ("kcnn", "tensorflow", "keras", "numpy", "tensorflow-datasets", "scikit-learn")
# Settings that others follow from.
SOURCES = ("epochs", "batch_size", "accumulate_steps", "lr_base", "phi", "gamma", "features_only")
SHOWN = 40  # names of classes; the others are in classes.json


def findings(config: RunConfig, source: Source, history: History, sample: Evaluation) -> dict[str, Any]:
    """The verdict and other findings for result.json. sample: the evaluation of plain training images."""
    from scipy.stats import entropy

    settings = plain(config.flags) | {"bn_momentum": config.arch.style.bn_momentum}
    prior = sample.confusion.sum(1)  # images of each class
    found = verdict(
        history,
        train_accuracy=sample.accuracy,
        train_images=int(prior.sum()),
        val_images=source.val.size,
        chance=float(prior.max() / prior.sum()),
        guess_loss=float(entropy(prior)),
        settings=settings,
    )
    return {
        "verdict": found.kind,
        "evidence": list(found.evidence),
        "advice": list(found.advice),
        "plain_train_loss": sample.loss,
        "plain_train_accuracy": sample.accuracy,
        "plain_train_images": int(prior.sum()),
        "val_images": source.val.size,
        "val_accuracy_interval": list(wilson(history[-1]["val_accuracy"], source.val.size)),
        "fingerprint": {"train": source.train.fingerprint(), "val": source.val.fingerprint()},
    }


def write_card(
    folder: Path, config: RunConfig, source: Source, history: History, result: Mapping[str, Any]
) -> tuple[str, bytes]:
    """Writes card.md and its picture into the run's folder, and returns both. result: the figures and findings."""
    text = card(folder, config, source, history, result)
    picture = curves_png(history, source.val.size, result["plain_train_accuracy"])
    write_bytes(folder / CURVES, picture)
    write_text(folder / CARD, text)
    return text, picture


def card(folder: Path, config: RunConfig, source: Source, history: History, result: Mapping[str, Any]) -> str:
    """The Markdown of the card."""
    best = max(range(len(history)), key=lambda i: history[i]["val_accuracy"])
    n, plain = source.val.size, text(replace(config.flags, run_dir=None, resume=None))
    sections = [
        f"# {config.name} on {source.name}",
        f"**{result['val_accuracy']:.2%}** of {n:,} validation images right "
        f"({span(result['val_accuracy_interval'])}), after {count(result['epochs'], 'epoch')} "
        f"({count(result['steps'], 'step')} of {config.global_batch} images) in {duration(result['seconds'])}; "
        f"{result['params']:,} parameters, {result['macs']:,} multiply-adds an image.",
        f"![curves]({CURVES})",
        f"## Verdict: {result['verdict']}",
        bullets(result["evidence"]),
        *(["To try, one at a time:", bullets(result["advice"])] if result["advice"] else []),
        "## Figures",
        figures(result),
        *(
            [f"It recovered from {count(result['recoveries'], 'blow-up')}, each of which halved the learning rate."]
            if result.get("recoveries")
            else []
        ),
        f"Best checkpoint: `checkpoints/best.npz`, of epoch {best + 1}: {percent(history[best]['val_accuracy'])} of "
        f"the validation images ({span(wilson(history[best]['val_accuracy'], n))}; it was chosen on them, which "
        "flatters it).",
        "## Repeat it",
        repeat(folder, config),
        "## Settings",
        settings(config.flags),
        f"<details><summary>All of them</summary>\n\n```yaml\n{plain}```\n\n</details>",
        "## Data",
        data(source, result),
        "## Made with",
        table(
            ("what", "which"),
            [
                *environment(),
                *([("replicas", str(result["replicas"]))] if result.get("replicas", 1) > 1 else []),
                ("date", time.strftime("%Y-%m-%d %H:%M %z")),
            ],
        ),
    ]
    return "\n\n".join(sections) + "\n"


def figures(result: Mapping[str, Any]) -> str:
    """The table of losses and accuracies."""
    plain = wilson(result["plain_train_accuracy"], result["plain_train_images"])
    top5 = wilson(result["val_top5"], result["val_images"])
    rows = [
        (
            "validation",
            result["val_images"],
            result["val_loss"],
            f"{result['val_accuracy']:.2%}, {span(result['val_accuracy_interval'])}",
            f"{result['val_top5']:.2%}, {span(top5)}",
        ),
        (
            "training, not augmented",
            result["plain_train_images"],
            result["plain_train_loss"],
            f"{result['plain_train_accuracy']:.2%}, {span(plain)}",
            "",
        ),
        ("training, as trained on, last epoch", "all", result["train_loss"], f"{result['train_accuracy']:.2%}", ""),
    ]
    return table(
        ("images", "how many", "loss", "top-1", "top-5"),
        [
            (name, f"{size:,}" if isinstance(size, int) else size, f"{loss:.4f}", top, five)
            for name, size, loss, top, five in rows
        ],
    )


def repeat(folder: Path, config: RunConfig) -> str:
    """The command that repeats the run, and how equal the repetition will be."""
    saved = folders.open_run(folder)[1]
    command = ["python", "-m", "kcnn.train", "--config", str(folder / folders.CONFIG)]
    if saved.epochs != config.epochs:
        command += ["--epochs", str(config.epochs)]
        promise = (
            f"It was started for {count(saved.epochs, 'epoch')} and resumed for {config.epochs}: its "
            "learning rate took another course than a repetition's will."
        )
    elif config.deterministic:
        promise = "On the same machine, with the same versions and data, it ends with the same weights to the bit."
    else:
        promise = (
            "It ends with weights like these. To the bit they are the same only in runs with "
            "`--deterministic`, on the same machine, with the same versions and data."
        )
    return f"```sh\n{shlex.join(command)}\n```\n\n{promise} The seed was {config.seed}. It gets a folder of its own."


def settings(config: TrainConfig) -> str:
    """The settings that differ from the recipe, or from the default where the recipe has no value."""
    usual = usual_for(config)
    there = {"recipe", "arch", "data"} | set(RESUMABLE) - {"epochs", "replicas", "strategy", "jit"}
    rows = [
        (f"`--{f.name.replace('_', '-')}`", f"`{getattr(config, f.name)}`", f"`{getattr(usual, f.name)}`")
        for f in fields(TrainConfig)
        if f.name not in there and getattr(config, f.name) != getattr(usual, f.name)
    ]
    head = f"Recipe `{config.recipe}`, network `{config.arch}`, data `{config.data}`"
    return f"{head}; all else as usual." if not rows else f"{head}, and:\n\n{table(('flag', 'here', 'usually'), rows)}"


def usual_for(config: TrainConfig) -> TrainConfig:
    """The recipe's values and the defaults. Values that follow from others, like the learning rate, follow from the
    run's."""
    bare = TrainConfig(arch=config.arch, data=config.data, recipe=config.recipe)
    usual, given = filled(bare), {key: getattr(config, key) for key in SOURCES}
    follows = filled(replace(bare, **given))
    follows = replace(follows, resolution=follows.resolution or architecture(follows).resolution)
    return replace(follows, **{key: getattr(usual, key) for key in given})


def data(source: Source, result: Mapping[str, Any]) -> str:
    """The counts, fingerprints and classes of the data, and its accepted changes."""
    names = ", ".join(f"`{name}`" for name in source.classes[:SHOWN])
    more = f" and {len(source.classes) - SHOWN} more (`classes.json`)" if len(source.classes) > SHOWN else ""
    prints = result["fingerprint"]
    rows = [
        ("training", f"{source.train.size:,}", f"`{prints['train']}`"),
        ("validation", f"{source.val.size:,}", f"`{prints['val']}`"),
    ]
    left_out = f" {len(source.corrupt)} broken ones were left out (`corrupt.txt`)." if source.corrupt else ""
    counts = table(("images", "how many", "fingerprint"), rows)
    changes = [
        f"From epoch {change['epoch']} on, the data was another, and that was accepted: {change['what']}."
        for change in result.get("data_changes", ())
    ]
    return "\n\n".join([counts, f"{len(source.classes)} classes: {names}{more}.{left_out}", *changes])


def environment() -> Iterable[tuple[str, str]]:
    """Versions and hardware."""
    for name in LIBRARIES:
        yield name, release(name)
    if code := commit():
        yield "code", code
    yield "Python", platform.python_version()
    yield "system", platform.platform()
    yield "processor", f"{processor()}, {os.cpu_count()} threads, {physical_memory() / 1e9:.0f} GB"
    for gpu in visible_gpus():
        yield "GPU", tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)


def release(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def commit() -> str | None:
    """The commit of a checkout that the package is run from."""
    here = Path(kcnn.__file__).parent
    try:
        # Not that of somebody's own repository which merely has the installed package lying in it.
        git("ls-files", "--error-unmatch", "__init__.py", cwd=here)
        return f"commit {git('rev-parse', 'HEAD', cwd=here)}" + (", changed" if git("diff", "HEAD", cwd=here) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def git(*command: str, cwd: Path) -> str:
    return subprocess.run(["git", *command], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


def processor() -> str:
    return cpuinfo().get("model name") or platform.processor() or platform.machine()


def duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def count(n: int, what: str) -> str:
    return f"{n:,} {what}" + "s" * (n != 1)


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        for row in (head, ("---",) * len(head), *rows)
    )
