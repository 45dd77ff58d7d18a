"""Data sets: convert a folder of images to a few large files."""

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from kcnn.terminal import cli, starting

app = cli.make_app("data")
app.help = "Convert a folder of images to a few large files, which --data takes as it takes the folder."


@app.command
def convert(
    data: Annotated[str, Parameter(help="A folder or a list of images, as kcnn train takes it.")],
    out: Annotated[str, Parameter(help="The folder to write: a new one, or one whose conversion was cut short.")],
    /,
    *,
    on_corrupt: Annotated[
        Literal["error", "skip"],
        Parameter(
            help="At a broken image, error stops and names it; skip keeps it in OUT, and kcnn train "
            "--on-corrupt skip leaves it out."
        ),
    ] = "error",
    json: cli.Json = False,
    seed: cli.Unused = 0,
) -> dict[str, Any]:
    """Convert a folder of images to a few large files, for disks that are slow at many small ones.

    Images keep their bytes, names and classes, and OUT is given where the
    folder was: kcnn train --data OUT makes the same run to the bit.
    --val-split, --on-corrupt and train/, val/ and test/ mean what they meant.

    Started again after it was cut short, the same command goes on where it
    was. Where OUT holds other files, it leaves them alone and says so.

    kcnn data convert photos/ photos-converted/
    """
    starting.need_tensorflow()
    from trainers.data.stored.convert import convert as convert_folder

    result = convert_folder(data, out, on_corrupt=on_corrupt)
    size = f"{result['images']:,} images, {result['bytes'] / 1e6:,.1f} MB"
    print(f"{size}: in {result['folder']}, give it as --data")
    return result


def main(argv: list[str] | None = None) -> None:
    cli.command("data", argv)


if __name__ == "__main__":
    main()
