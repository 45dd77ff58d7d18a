"""What TensorBoard shows of an evaluation: figures, mistakes, precision and recall, and where images lie to each
other."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from trainers.data import Split
from trainers.reports.mistakes import surest
from trainers.reports.pictures import thumbnails
from trainers.runs.dashboards import Dashboard, samples_png
from trainers.runs.files import write_text

CURVES, MISTAKES, PLACED, SPRITE = 10, 16, 1000, 32  # classes, images, images, pixels


def show(folder: Path, figures: dict[str, Any], said: Any, split: Split, classes: tuple[str, ...]) -> None:
    """Writes the event file of an evaluation into its folder. said: an `evaluation.Answers`."""
    board = Dashboard(folder)
    names = ("loss", "accuracy", "top5")
    board.scalars(0, {f"evaluation/{name}": figures[name] for name in names})
    board.confusion(np.array(figures["confusion"]), classes, 0)
    wrong = surest(said)[:MISTAKES]
    small = thumbnails(split, wrong)
    if found := [i for i in wrong if int(i) in small]:
        labels = [f"{classes[said.labels[i]]}, not\n{classes[said.likely[i, 0]]}" for i in found]
        png = samples_png(np.stack([small[int(i)] for i in found]), labels)
        board.picture("the most confident mistakes", png, 0)
    precision_and_recall(board, said, figures["per_class"])
    board.close()
    place(folder, said, split, classes)


def precision_and_recall(board: Dashboard, said: Any, per_class: list[dict[str, Any]]) -> None:
    """Curves of the classes with the lowest recall: precision over recall as the bound on a class's probability
    moves."""
    from tensorboard.plugins.pr_curve import summary

    scores = np.exp(said.logits - said.logits.max(1, keepdims=True))
    scores /= scores.sum(1, keepdims=True)
    labels = said.labels[said.at]
    seen = [i for i, row in enumerate(per_class) if row["count"]]
    with board.writer.as_default(0):
        for i in sorted(seen, key=lambda i: per_class[i]["recall"])[:CURVES]:
            curve = summary.pb(per_class[i]["class"], labels == i, scores[:, i].astype(np.float32))
            tf.summary.experimental.write_raw_pb(curve.SerializeToString())


def place(folder: Path, said: Any, split: Split, classes: tuple[str, ...]) -> None:
    """The logits of some images, with their pictures, labels and answers, for the page Projector."""
    from tensorboard.plugins import projector

    small = thumbnails(split, said.at[:PLACED], SPRITE)
    rows = [k for k, i in enumerate(said.at[:PLACED]) if int(i) in small]
    if not rows:
        return
    images = said.at[rows]
    tables = {
        "logits.tsv": ["\t".join(f"{v:.5g}" for v in said.logits[k]) for k in rows],
        "images.tsv": [
            "label\tanswer",
            *(f"{plain(classes[said.labels[i]])}\t{plain(classes[said.likely[i, 0]])}" for i in images),
        ],
    }
    for name, lines in tables.items():
        write_text(folder / name, "".join(f"{line}\n" for line in lines))
    across = int(np.ceil(np.sqrt(len(rows))))
    sheet = np.zeros((across * SPRITE, across * SPRITE, 3), np.uint8)
    for n, i in enumerate(images):
        top, left = SPRITE * (n // across), SPRITE * (n % across)
        sheet[top : top + SPRITE, left : left + SPRITE] = small[int(i)]
    Image.fromarray(sheet).save(folder / "images.png")
    config = projector.ProjectorConfig()
    embedding = config.embeddings.add(tensor_name="logits", tensor_path="logits.tsv", metadata_path="images.tsv")
    embedding.sprite.image_path = "images.png"
    embedding.sprite.single_image_dim.extend([SPRITE, SPRITE])
    projector.visualize_embeddings(str(folder), config)


def plain(name: str) -> str:
    return " ".join(name.split())
