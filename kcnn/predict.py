"""Predict the classes of images with the network of a run."""

import csv
import sys
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from kcnn import cli


def predict(
    run: Annotated[str, Parameter(help="Folder of a run of kcnn train.")],
    /,
    *images: Annotated[str, Parameter(help="Image files, or folders of them.")],
    top: Annotated[int, Parameter(help="How many classes of each image, the likeliest first.")] = 5,
    format: Annotated[Literal["text", "csv"], Parameter(help="Of what is printed; --json adds that.")] = "text",
    checkpoint: Annotated[Literal["last", "best"], Parameter(help="Whose weights.")] = "last",
    batch_size: Annotated[int, Parameter(help="Images at once.")] = 32,
    json: cli.Json = False,
    seed: cli.Seed = 0,
) -> dict[str, Any]:
    """Print the likeliest classes of images, with their probabilities.

    kcnn predict logs/resnet-50-photos-... cat.jpg holiday/
    """
    from kcnn.errors import InputError
    from trainers.checkpoints import load_run
    from trainers.predict import find_images
    from trainers.predict import predict as classify

    if top < 1 or batch_size < 1:
        raise InputError(f"top {top}, batch-size {batch_size}: at least 1 of each is needed")
    if not images:
        raise InputError("no images: name image files, or folders of them, after the run")
    paths = find_images(images)
    rows, errors = classify(*load_run(run, checkpoint), paths, top, batch_size)
    if format == "csv":
        table = csv.writer(sys.stdout)
        table.writerow(["image", "rank", "class", "probability"])
        table.writerows(
            [row["image"], rank, best["class"], best["probability"]]
            for row in rows
            for rank, best in enumerate(row["top"], 1)
        )
    else:
        for row in rows:
            print(row["image"], *(f"{best['class']} {best['probability']:.1%}" for best in row["top"]), sep="  ")
    for error in errors:
        print(error, file=sys.stderr)
    return {"predictions": rows, "errors": errors}


def main(argv: list[str] | None = None) -> None:
    cli.run(predict, "kcnn predict", argv)


if __name__ == "__main__":
    main()
