"""Blocks of paths that stand side by side."""

from kcnn.blocks.ends import max_pool
from kcnn.blocks.scope import Scope, Tensor


def inception(b: Scope, x: Tensor, *, paths: tuple[str, ...], padding: str | None = "same", pool: int = 3) -> Tensor:
    """Joins paths that stand side by side. A path is a line of steps, as in the paper's figures: "1x1 1x7 7x1".

    A step HxW is a convolution, which takes the next of the path's widths; avg and max are 3x3 pools; 1x3|3x1 are two
    ends of the path. A step that ends in /s has the block's stride and `padding`; where none does, a max-pool in front
    has them, with windows of `pool`.
    """
    if b.stride > 1 and not any("/s" in path for path in paths):
        x = max_pool(b, x, kernel=pool, padding=padding)
    return b.join(branches(b, x, paths, str(padding or b.style.padding)))


def inception_residual(b: Scope, x: Tensor, *, paths: tuple[str, ...], share: float, act: bool = True) -> Tensor:
    """act(x + share * f(x)), f = paths as in `inception` -> linear 1x1. Inception-ResNet."""
    f = b.join(branches(b, x, paths, "same"))
    f = b.linear.but(norm=None, bias=True).conv(f, x.shape[-1], 1, 1, "expand")
    f = b.layers.Rescaling(share, name=b.at("share"))(f)
    return b.acting(act).act(b.residual(x, f))


def branches(b: Scope, x: Tensor, paths: tuple[str, ...], padding: str) -> list[Tensor]:
    """Returns what the paths make of x: one tensor for each of their ends."""
    ends = []
    for i, (path, w) in enumerate(zip(paths, b.width, strict=True), 1):
        widths = iter(w if isinstance(w, tuple) else (w,))
        heads = [x]
        for j, step in enumerate(path.split(), 1):
            kind, at_stride = step.removesuffix("/s"), step.endswith("/s")
            by, around = (b.stride, padding) if at_stride else (1, "same")
            label = f"path{i}_{j}"
            if kind == "max":
                heads = [b.max_pool(h, 3, by, around, f"{label}_pool") for h in heads]
            elif kind == "avg":
                heads = [b.mean_pool(h, 3, by, around, f"{label}_pool") for h in heads]
            else:
                kernels = [tuple(int(k) for k in kernel.split("x")) for kernel in kind.split("|")]
                here = next(widths)
                here = here if isinstance(here, tuple) else (here,)
                letters = "ab" if len(here) > 1 else ("",)
                (h,) = heads
                heads = [
                    b.but(padding=around).conv(h, out, kernel, by, f"{label}{letter}")
                    for out, kernel, letter in zip(here, kernels, letters, strict=True)
                ]
        ends += heads
    return ends
