"""Predict the classes of images with the network of a run."""

import csv
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from kcnn.errors import InputError
from kcnn.terminal import cli, starting

SERVER = Group.create_ordered("Server")


def predict(
    run: cli.Run,
    /,
    *images: Annotated[
        str, Parameter(help="Image files, folders of them, or lists (.csv, .jsonl) with a column path.")
    ],
    top: Annotated[int, Parameter(help="Print this many classes of each image, the likeliest first.")] = 5,
    format: Annotated[Literal["text", "csv"], Parameter(help="Print lines for a person, or CSV.")] = "text",
    checkpoint: Annotated[
        Literal["last", "best"], Parameter(help="Use the weights of the last checkpoint, or of the best one.")
    ] = "last",
    batch_size: Annotated[int, Parameter(help="Classify this many images at once.")] = 32,
    server: Annotated[
        str | None,
        Parameter(
            group=SERVER, help="Ask the TF Serving at HOST:PORT (or https://HOST:PORT) instead of computing here."
        ),
    ] = None,
    protocol: Annotated[
        Literal["rest", "grpc"],
        Parameter(
            group=SERVER, help="Ask through this API of the server; grpc needs the package tensorflow-serving-api."
        ),
    ] = "rest",
    model: Annotated[
        str, Parameter(group=SERVER, help="The server serves the run's network under this name.")
    ] = "model",
    model_version: Annotated[
        int | None, Parameter(group=SERVER, help="Ask this version (default: the newest).")
    ] = None,
    version_label: Annotated[
        str | None, Parameter(group=SERVER, help="Ask the version with this label, such as canary.")
    ] = None,
    timeout: Annotated[float, Parameter(group=SERVER, help="Wait this many seconds for a whole answer.")] = 10.0,
    retries: Annotated[int, Parameter(group=SERVER, help="Ask this many times more where no answer came.")] = 3,
    json: cli.Json = False,
    seed: cli.Unused = 0,
) -> dict[str, Any]:
    """Print the likeliest classes of images, with their probabilities; of a run with
    --multi-label, all labels that reach their thresholds.

    With --server a TF Serving that serves the run's SavedModel is asked; the run
    tells the names of the classes.

    kcnn predict logs/resnet-50-photos-... cat.jpg holiday/

    kcnn predict logs/resnet-50-photos-... cat.jpg --server localhost:8501

    kcnn predict timm/resnet50.a1_in1k cat.jpg    # ImageNet's weights and classes
    """
    starting.need_tensorflow()
    from trainers.multilabel.outcome import read_thresholds
    from trainers.prediction import find_images
    from trainers.prediction import predict as classify
    from trainers.runs.folders import open_run
    from trainers.serving import client
    from trainers.transfer.pretrained import load_network

    if top < 1 or batch_size < 1:
        raise InputError(f"top {top}, batch-size {batch_size}: at least 1 of each is needed")
    if not images:
        raise InputError("no images: name image files, folders or lists of them after the run")
    where = client.parse(
        "localhost" if server is None else server,
        protocol,
        model=model,
        version=model_version,
        label=version_label,
        timeout=timeout,
        retries=retries,
    )
    paths = find_images(images)
    if server is not None:
        _, config, classes = open_run(run)
        ask = client.connect(where, apart=config.multi_label)
        thresholds = read_thresholds(Path(run), checkpoint, len(classes)) if config.multi_label else None
        rows, errors = client.predict(ask, classes, paths, top, batch_size, thresholds)
    else:
        network, config, classes = load_network(run, checkpoint)
        thresholds = read_thresholds(Path(run), checkpoint, len(classes)) if config.multi_label else None
        rows, errors = classify(network, config, classes, paths, top, batch_size, thresholds)
    show(rows, errors, format)
    return {"predictions": rows, "errors": errors}


def show(rows: list[dict[str, Any]], errors: list[str], format: str) -> None:
    """Prints a line for each image, or for each of its classes, and the errors."""
    from trainers.data import shown

    if format == "csv":
        table = csv.writer(sys.stdout)
        table.writerow(["image", "rank", "class", "probability"])
        table.writerows(
            [row["image"], rank, best["class"], best["probability"]]
            for row in rows
            for rank, best in enumerate(row.get("labels", row["top"]), 1)
        )
    else:
        for row in rows:
            found = [f"{best['class']} {best['probability']:.1%}" for best in row.get("labels", row["top"])]
            print(shown(row["image"]), *(found or ["no label"]), sep="  ")
    for error in errors:
        print(error, file=sys.stderr)


def main(argv: list[str] | None = None) -> None:
    cli.command("predict", argv)


if __name__ == "__main__":
    main()
