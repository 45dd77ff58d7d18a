"""Export a run as a SavedModel for TF Serving."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from kcnn import cli


def export(
    run: Annotated[str, Parameter(help="Folder of a run of kcnn train.")],
    /,
    *,
    out: Annotated[str | None, Parameter(help="Folder of the versions (default: RUN/saved_model).")] = None,
    checkpoint: Annotated[Literal["last", "best"], Parameter(help="Whose weights.")] = "last",
    json: cli.Json = False,
    seed: cli.Seed = 0,
) -> dict[str, Any]:
    """Write the network of a run as RUN/saved_model/<version>/, pixels in and probabilities out.

    Its signature serving_default takes `image`, a batch of RGB images of one size with values from 0 to 255, and
    gives `probabilities` and `classes`. It is loaded again by TensorFlow alone and compared before it is in place.

    kcnn export logs/resnet-50-photos-...
    """
    from trainers.checkpoints import load_run
    from trainers.serving import export

    result = export(*load_run(run, checkpoint), Path(out) if out else Path(run) / "saved_model")
    print(f"exported {result['path']} ({result['bytes'] / 2**20:.1f} MiB), "
          f"equal to the model within {result['max_difference']:.1g}")  # fmt: skip
    return result


def main(argv: list[str] | None = None) -> None:
    cli.run(export, "kcnn export", argv)


if __name__ == "__main__":
    main()
