"""Evaluate a run: loss, top-1, top-5, each class, and which are taken for which."""

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from kcnn.terminal import cli, starting


def evaluate(
    run: cli.Run,
    /,
    *,
    data: Annotated[
        str | None,
        Parameter(
            help="Evaluate on this data, whose classes are the run's or some of them (default: the run's data). A "
            "folder of class folders, or a list.csv or list.jsonl without the column split, is evaluated whole."
        ),
    ] = None,
    split: Annotated[
        Literal["val", "test", "train"] | None,
        Parameter(help="Evaluate this part of the data (default: val; of a --data without val, its test part)."),
    ] = None,
    checkpoint: Annotated[
        Literal["last", "best"], Parameter(help="Use the weights of the last checkpoint, or of the best one.")
    ] = "last",
    batch_size: Annotated[
        int | None, Parameter(help="Evaluate this many images at once (default: as in training).")
    ] = None,
    tta: Annotated[
        Literal["none", "flip", "ten-crop"],
        Parameter(
            help="Test-time augmentation: the mean of the probabilities of an image and its mirror image, or of "
            "the corners, the middle and their mirror images."
        ),
    ] = "none",
    imports: cli.Imports = None,
    json: cli.Json = False,
    seed: cli.Unused = 0,
) -> dict[str, Any]:
    """Evaluate the network of a run and print its accuracy, in all and for each class.

    Every evaluation leaves evaluation.json, confusion.png and mistakes.html in a
    folder of its own, RUN/evaluations/SPLIT-TIME; RUN itself holds copies of the
    newest ones. mistakes.html shows which images the network gets wrong, which
    only just right, and whether it is as sure as it is right.

    kcnn evaluate logs/resnet-50-photos-...

    kcnn evaluate logs/resnet-50-photos-... --data holiday/

    kcnn evaluate logs/resnet-50-photos-... --split test
    """
    starting.need_tensorflow()
    from trainers.data.tfds_source import import_builders
    from trainers.evaluation import evaluate_run

    import_builders(imports)
    result = evaluate_run(run, data=data, split=split, checkpoint=checkpoint, batch_size=batch_size, tta=tta)
    if "map" in result:
        figures = f"mAP {result['map']:.2%}" + (f"  F1 {result['f1']:.2%}" if result["f1"] is not None else "")
    else:
        low, high = result["accuracy_interval"]
        figures = f"top-1 {result['accuracy']:.2%} ({low:.1%} to {high:.1%})  top-5 {result['top5']:.2%}"
    print(f"{result['images']} images: loss {result['loss']:.4f}  {figures}")
    classes, seen = len(result["per_class"]), sum(row["count"] > 0 for row in result["per_class"])
    some = f", which have images of {seen} of the run's {classes} classes" if seen < classes else ""
    print(f"evaluated on {result['place']}{some}")
    show_classes(result)
    if "picture" in result:
        found = result["calibration"]
        print(f"\ncalibration       {calibration(found)}")
        print(f"confusion matrix  {result['picture']}\nmistakes          {result['page']}")
    return result


def calibration(found: dict[str, Any]) -> str:
    """How well confidence fits accuracy, in a line."""
    text = f"confidence and accuracy differ by {found['ece']:.1%} (ECE)"
    if found["ece_with_temperature"] is None:
        return text
    return f"{text}, by {found['ece_with_temperature']:.1%} with kcnn export --temperature {found['temperature']:.3g}"


def show_classes(result: dict[str, Any]) -> None:
    """Prints the figures of each class, a line each."""
    width = max(len(row["class"]) for row in result["per_class"])
    more = {"average_precision": "AP", "threshold": "threshold"} if "map" in result else {}
    columns = more | {"recall": "recall", "precision": "precision"}
    print(f"\n{'class':<{width}}  images", *(f"{title:>6}" for title in columns.values()), sep="  ")
    for row in result["per_class"]:
        values = (f"{row[k]:.1%}" if row[k] is not None else "-" for k in columns)
        print(
            f"{row['class']:<{width}}  {row['count']:>6}",
            *(f"{v:>{max(6, len(title))}}" for v, title in zip(values, columns.values(), strict=True)),
            sep="  ",
        )


def main(argv: list[str] | None = None) -> None:
    cli.command("evaluate", argv)


if __name__ == "__main__":
    main()
