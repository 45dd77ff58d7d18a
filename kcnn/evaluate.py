"""Evaluate a run: loss, top-1, top-5, each class, and which are taken for which."""

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from kcnn import cli


def evaluate(
    run: Annotated[str, Parameter(help="Folder of a run of kcnn train.")],
    /,
    *,
    data: Annotated[str | None, Parameter(help="Other data with the same classes (default: the run's).")] = None,
    split: Annotated[Literal["val", "train"], Parameter(help="Which of its splits.")] = "val",
    checkpoint: Annotated[Literal["last", "best"], Parameter(help="Whose weights.")] = "last",
    batch_size: Annotated[int | None, Parameter(help="Images at once (default: the run's).")] = None,
    tta: Annotated[
        Literal["none", "flip", "ten-crop"],
        Parameter(
            help="Test-time augmentation: the mean of the probabilities of an image and its mirror image, or of "
            "the corners, the middle and their mirror images."
        ),
    ] = "none",
    json: cli.Json = False,
    seed: cli.Seed = 0,
) -> dict[str, Any]:
    """Evaluate the network of a run, and leave evaluation.json and confusion.png in the run's folder.

    kcnn evaluate logs/resnet-50-photos-...
    """
    from trainers.evaluation import evaluate_run

    result = evaluate_run(run, data=data, split=split, checkpoint=checkpoint, batch_size=batch_size, tta=tta)
    top1, top5 = result["accuracy"], result["top5"]
    print(f"{result['images']} images: loss {result['loss']:.4f}  top-1 {top1:.2%}  top-5 {top5:.2%}")
    width = max(len(row["class"]) for row in result["per_class"])
    print(f"\n{'class':<{width}}  images  recall  precision")
    for row in result["per_class"]:
        recall, precision = (f"{row[k]:.1%}" if row[k] is not None else "-" for k in ("recall", "precision"))
        print(f"{row['class']:<{width}}  {row['count']:>6}  {recall:>6}  {precision:>9}")
    print(f"\nconfusion matrix: {result['picture']}")
    return result


def main(argv: list[str] | None = None) -> None:
    cli.run(evaluate, "kcnn evaluate", argv)


if __name__ == "__main__":
    main()
