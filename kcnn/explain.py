"""Explain predictions: where in an image a run's network sees a class, and which pixels count."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kcnn.errors import InputError
from kcnn.terminal import cli, starting


def explain(
    run: cli.Run,
    /,
    *images: str,
    checkpoint: cli.Checkpoint = "last",
    top: Annotated[int, Parameter(help="Explain this many of the likeliest classes.")] = 3,
    out: Annotated[str | None, Parameter(help="The file for the page (default: RUN/explain.html).")] = None,
    json: cli.Json = False,
    seed: cli.Unused = 0,
) -> dict[str, Any]:
    """Show what a run's network looks at in images: where it sees each of the
    likeliest classes (Grad-CAM), and which pixels add to the first one
    (integrated gradients), side by side on a page.

    Both tell what moves the network, not whether it is right. The values of
    integrated gradients add up to the class's logit; the page says how exactly.

    kcnn explain logs/resnet-50-photos-... cat.jpg holiday/

    Parameters
    ----------
    images
        Image files, or folders of them.
    """
    starting.need_tensorflow()
    from trainers.lab.explained import explained
    from trainers.prediction import find_images
    from trainers.runs import files
    from trainers.runs.checkpoints import load_run

    if top < 1:
        raise InputError(f"top {top}: at least 1 is needed")
    if not images:
        raise InputError("no images: name image files, or folders of them, after the run")
    paths = find_images(images)
    model, config, classes = load_run(run, checkpoint)
    rows, errors, page = explained(model, config, classes, paths, top)
    place = Path(out) if out else Path(run) / "explain.html"
    files.write_text(place, page)
    for row in rows:
        answer = ", ".join(f"{best['class']} {best['probability']:.1%}" for best in row["top"])
        print(f"{row['image']}  {answer}  (complete to {row['completeness_error']:.1e})")
    print(f"page: {place}")
    return {"explanations": rows, "errors": errors, "page": str(place)}


app = cli.make_app("explain", explain)


def main(argv: list[str] | None = None) -> None:
    cli.command("explain", argv)


if __name__ == "__main__":
    main()
