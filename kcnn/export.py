"""Export a run: as a SavedModel for TF Serving, or for LiteRT or ONNX."""

from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from kcnn.terminal import cli, starting

SAVED_MODEL, CHECKS = Group.create_ordered("SavedModel"), Group.create_ordered("Checks")
Signature = Literal["serving_default", "image", "image_uint8", "classify", "predict", "features"]


def export(
    run: cli.Run,
    /,
    *,
    out: Annotated[
        str | None, Parameter(help="Write the numbered versions into this folder (default: RUN/FORMAT).")
    ] = None,
    checkpoint: cli.Checkpoint = "last",
    format: Annotated[
        Literal["saved_model", "litert", "onnx", "safetensors"],
        Parameter(
            help="saved_model is for TF Serving, litert for phones and small devices, onnx for other runtimes; "
            "safetensors holds the weights alone, for --weights."
        ),
    ] = "saved_model",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16", "int8"],
        Parameter(
            help="Compute in this type. saved_model allows float32 and bfloat16, litert float32, float16 and int8, "
            "the others float32."
        ),
    ] = "float32",
    fold_bn: Annotated[
        bool, Parameter(help="Fold batch normalizations into the convolutions before them, where that is exact.")
    ] = True,
    temperature: Annotated[
        float,
        Parameter(
            help="Divide the logits by this number, so that probabilities say how often the network is right; "
            "kcnn evaluate finds it. No answer changes."
        ),
    ] = 1.0,
    signatures: Annotated[
        tuple[Signature, ...],
        Parameter(
            group=SAVED_MODEL, consume_multiple=True, negative="", help="Offer these signatures beside serving_default."
        ),
    ] = ("image", "image_uint8", "classify", "predict", "features"),
    top: Annotated[int, Parameter(group=SAVED_MODEL, help="Name this many of the likeliest classes in an answer.")] = 5,
    max_pixels: Annotated[int, Parameter(group=SAVED_MODEL, help="Refuse larger pictures before they are decoded.")] = 2
    ** 26,
    images: Annotated[
        int, Parameter(group=CHECKS, help="Compare on this many validation images, drawn from all classes.")
    ] = 100,
    data: Annotated[
        str | None,
        Parameter(
            group=CHECKS, help="Compare and calibrate on this data, which has the same classes (default: the run's)."
        ),
    ] = None,
    tolerance: Annotated[
        float, Parameter(group=CHECKS, help="Refuse to lose more top-1 accuracy than this share.")
    ] = 0.01,
    json: cli.Json = False,
    seed: cli.Unused = 0,
) -> dict[str, Any]:
    """Write the network of a run as RUN/FORMAT/<version>/: pictures in, classes out.

    A SavedModel needs neither Keras nor this package. Its signature
    serving_default takes `image_bytes`, a batch of encoded pictures, and gives
    `probabilities` and, of the likeliest classes, `classes`, `labels` and
    `scores`; `image` takes pixels. It is loaded again by TensorFlow alone, in a
    process of its own, and compared with the run's network on validation images
    before it is in place. docs/serving.md tells how to serve it.

    kcnn export logs/resnet-50-photos-...

    kcnn export logs/resnet-50-photos-... --format litert --dtype int8

    kcnn export timm/resnet50.a1_in1k --out resnet-50/  # ImageNet's weights
    """
    starting.need_tensorflow()
    from trainers.serving.exports import export_run

    result = export_run(
        run,
        out=out,
        checkpoint=checkpoint,
        format=format,
        dtype=dtype,
        fold_bn=fold_bn,
        temperature=temperature,
        signatures=signatures,
        top=top,
        max_pixels=max_pixels,
        images=images,
        data=data,
        tolerance=tolerance,
    )
    print(text(result))
    return result


def text(result: dict[str, Any]) -> str:
    """A few lines for a person."""
    why = " (they follow no convolution alone)" if result["folded"] else ""
    kept = f", {result['kept']} kept{why}" if result["kept"] else ""
    accuracy = (
        ""
        if result["accuracy"] is None
        else (f", top-1 {result['accuracy_before']:.2%} before and {result['accuracy']:.2%} after")
    )
    lines = {
        "exported": f"{result['path']} ({result['format']} {result['dtype']}, {result['bytes'] / 2**20:.1f} MiB)",
        "signatures": ", ".join(result.get("signatures", ())),
        "normalizations": f"{result['folded']} folded{kept}",
        "checked": f"on {result['images']} pictures: probabilities within {result['max_difference']:.1g}{accuracy}",
        "runtime": "without XNNPACK, whose kernels refuse this model" if result.get("xnnpack") is False else "",
        "loaded in": "load_seconds" in result
        and f"{result['load_seconds']:.2f} s, the first answer after {result['first_seconds']:.2f} s more",
        "then": "  ".join(
            f"batch {batch}: {result[f'seconds_batch_{batch}'] * 1e3:.1f} ms, "
            f"{result[f'images_per_second_batch_{batch}']:.0f} images/s"
            for batch in (1, 8, 32)
            if f"seconds_batch_{batch}" in result
        ),
    }
    return "\n".join(f"{key:<15} {value}" for key, value in lines.items() if value)


def main(argv: list[str] | None = None) -> None:
    cli.command("export", argv)


if __name__ == "__main__":
    main()
