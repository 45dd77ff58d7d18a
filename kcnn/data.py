"""Data sets: a look at one before training, and folders of images converted to a few large files."""

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from kcnn.terminal import cli, starting

app = cli.make_app("data")


@app.default
def look(
    data: Annotated[str, Parameter(help="A folder or a list of images, tfds:NAME, or digits.")],
    /,
    *,
    data_dir: Annotated[str | None, Parameter(help="The folder in which TFDS keeps its data sets.")] = None,
    val_split: Annotated[float, Parameter(help="The share held out, where the data has no validation part.")] = 0.1,
    multi_label: Annotated[bool, Parameter(negative="", help="Images have any number of labels.")] = False,
    run: Annotated[
        str | None, Parameter(help="Find labels that look wrong to the network of this run, trained on such images.")
    ] = None,
    recipe: Annotated[str | None, Parameter(help="Show the augmentation of this recipe (default: auto).")] = None,
    out: Annotated[
        str | None, Parameter(help="The folder for look.html and look.json (default: logs/look-DATA-TIME).")
    ] = None,
    imports: cli.Imports = None,
    json: cli.Json = False,
    seed: Annotated[int, Parameter(help="Draws the augmentation that is shown.")] = 0,
) -> dict[str, Any]:
    """Look at a data set before training: what is in it, and what is wrong.

    Decodes every image once and tells how many there are of each class, their
    sizes and colours, which are broken, and which are there more than once, as
    the same file or as the same picture saved again: those of val that train
    has, too, make a network look better than it is. look.html shows a contact
    sheet of each class, and what training makes of some images.

    kcnn data photos/                             # before training
    kcnn data photos/ --run logs/resnet-50-...    # after it: wrong labels
    kcnn data convert photos/ photos-converted/   # a few large files
    """
    starting.need_tensorflow()
    from trainers.data.tfds_source import import_builders
    from trainers.look.survey import look as look_at

    import_builders(imports)
    result = look_at(
        data, data_dir=data_dir, val_split=val_split, multi_label=multi_label, run=run, recipe=recipe, out=out,
        seed=seed,
    )  # fmt: skip
    print(*result["lines"], f"{'page':<10} {result['page']}", sep="\n")
    return result


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
