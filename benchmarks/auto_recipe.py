"""What the default recipe is worth: `kcnn train --data DIR` against what a person would try instead, at equal epochs.

python -m benchmarks.auto_recipe                          # against Keras's fit: 4 kinds of data, 3 seeds
python -m benchmarks.auto_recipe --sides auto keras timm torchvision --peers-python PYTHON
python -m benchmarks.auto_recipe --sides auto search      # the best of 12 random recipes, too
python -m benchmarks.auto_recipe --kinds --folders DIR    # folders of one's own, with train/ and val/

All sides train the same network (a narrow resnet-18 without strides in its stem) at the same resolution for the same
number of epochs, and the figure is the accuracy on the same validation images after the last epoch. keras is `fit` with
Adam and nothing else; timm and torchvision are the defaults of timm's train.py and of torchvision's reference script;
search is the best of so many recipes drawn at random, chosen by one training each and measured by others with other
seeds: among twelve figures of a few hundred images the best is higher than it deserves.
"""

import argparse
import contextlib
import io
import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.recipes import picture

SIDES = ("auto", "keras", "timm", "torchvision", "search")
RESOLUTION = 32
SEARCHED = 1000  # the seed of the trials of a search
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Kind:
    """A kind of data: what draws it into a folder, and for how many epochs all sides train on it."""

    draw: Callable[[Path], None]
    epochs: int = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--folders", nargs="*", type=Path, default=[], help="further data, with train/ and val/")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["auto", "keras"])
    parser.add_argument("--trials", type=int, default=12, help="of the random search")
    parser.add_argument("--arch", default="resnet-18")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, help="of every run (default: each kind's own)")
    parser.add_argument("--peers-python", help="a Python with torch, timm and torchvision")
    parser.add_argument("--flags", type=json.loads, default={}, help="JSON of further settings of the side auto")
    args = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = {}
    folders = {path.name: path.absolute() for path in args.folders}
    names = [*args.kinds, *folders]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            data = folders.get(name) or drawn_to(Path(folder, name), KINDS[name])
            epochs = args.epochs or (KINDS[name].epochs if name in KINDS else Kind.epochs)
            for seed in range(args.seeds):
                for side in args.sides:
                    task = Task(args, data, epochs, seed, Path(folder, "runs"))
                    found.setdefault((name, side), []).append(MEASURES[side](task))
                    print(f"{name}, seed {seed}, {side}: {found[name, side][-1]:.2%}", flush=True)
    print(f"\n{'validation accuracy':<22}" + "".join(f"{side:>20}" for side in args.sides))
    for name in names:
        cells = (summary(found[name, side]) for side in args.sides)
        print(f"{name:<22}" + "".join(f"{cell:>20}" for cell in cells))


def drawn_to(data: Path, kind: Kind) -> Path:
    kind.draw(data)
    return data


def summary(values: list[float]) -> str:
    spread = f" +- {100 * np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.2f} %{spread}"


@dataclass(frozen=True)
class Task:
    """What a side is to train on, and how long."""

    args: argparse.Namespace
    data: Path
    epochs: int
    seed: int
    runs: Path

    @property
    def network(self) -> dict[str, Any]:
        return {"arch": self.args.arch, "width": self.args.width, "resolution": RESOLUTION}


def ours(task: Task, **flags: Any) -> float:
    """The accuracy of `kcnn train`; without flags it is the default recipe's."""
    from trainers import TrainConfig, fit

    task.runs.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=task.runs) as run, contextlib.redirect_stdout(io.StringIO()):
        flags = task.network | {"data": str(task.data), "epochs": task.epochs, "seed": task.seed} | flags
        return fit(TrainConfig(**flags, run_dir=f"{run}/run")).figures["val_accuracy"]


def auto(task: Task) -> float:
    return ours(task, **task.args.flags)


def keras_fit(task: Task) -> float:
    """The accuracy of Keras's `fit` with Adam, its defaults, and images that are only resized."""
    import keras

    import kcnn

    keras.utils.set_random_seed(task.seed)
    (images, labels), (others, expected) = (pixels(task.data / part) for part in ("train", "val"))
    arch = kcnn.scale(kcnn.get(task.args.arch), width=task.args.width)
    model = kcnn.build(arch, classes=int(labels.max()) + 1, resolution=RESOLUTION)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    history = model.fit(images, labels, epochs=task.epochs, validation_data=(others, expected), verbose=0)
    keras.backend.clear_session()
    return history.history["val_accuracy"][-1]


def pixels(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """All images of a folder at the resolution, and their labels."""
    images, labels = [], []
    for label, place in enumerate(sorted(folder.iterdir())):
        for path in sorted(place.iterdir()):
            with Image.open(path) as image:
                images.append(np.asarray(image.convert("RGB").resize((RESOLUTION,) * 2, Image.Resampling.BILINEAR)))
            labels.append(label)
    return np.stack(images).astype("float32"), np.array(labels, "int32")


def peer(side: str, task: Task) -> float:
    """The accuracy of a side in another Python."""
    if not task.args.peers_python:
        raise SystemExit(f"side {side}: name a Python that has torch, timm and torchvision with --peers-python")
    channels = [round(width * task.args.width) for width in (64, 128, 256, 512)]
    words = [side, task.data, task.epochs, task.seed, RESOLUTION, *channels]
    script = ROOT / "benchmarks" / "sides" / "torch_fit.py"
    done = subprocess.run(
        [task.args.peers_python, str(script), *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"side {side}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])["val_accuracy"]


def search(task: Task) -> float:
    """The accuracy of the best of some recipes that are drawn at random, as a person would draw them."""
    kept = task.runs / f"best recipe on {task.data.name}.json"
    if not kept.exists():
        draws, trial = np.random.default_rng(0), replace(task, seed=SEARCHED)
        images = sum(1 for _ in (task.data / "train").glob("*/*"))
        recipes = [drawn(draws, images) for _ in range(task.args.trials)]
        best = max(recipes, key=lambda recipe: ours(trial, recipe="default", **recipe))
        print(f"{task.data.name}, best of {len(recipes)} recipes: {best}", flush=True)
        kept.write_text(json.dumps(best))
    return ours(task, recipe="default", **json.loads(kept.read_text()))


def drawn(draws: np.random.Generator, images: int) -> dict[str, Any]:
    batch = int(draws.choice([size for size in (16, 32, 64) if size <= images]))
    optimizer = str(draws.choice(["adamw", "sgd"]))
    rate = 10 ** (draws.uniform(-3.3, -2) if optimizer == "adamw" else draws.uniform(-2, -0.7))
    return {
        "batch_size": batch, "optimizer": optimizer, "lr": float(rate), "flip": bool(draws.random() < 0.5),
        "weight_decay": 0.05 if optimizer == "adamw" else 5e-4, "warmup_epochs": float(draws.choice([0.0, 1.0])),
        "crop_scale": float(draws.choice([0.25, 0.5, 0.75, 1.0])), "eval_crop": float(draws.choice([0.875, 1.0])),
        "label_smoothing": float(draws.choice([0.0, 0.1])), "mixup": float(draws.choice([0.0, 0.2])),
        "augment": str(draws.choice(["none", "trivialaugment"])), "bn_momentum": 0.9,
    }  # fmt: skip


# The kinds of data. Each is made of what packages ship, always the same.


def digits(side: int) -> Callable[[Path], None]:
    """scikit-learn's digits: 1,442 to train on and 355 to evaluate."""

    def draw(root: Path) -> None:
        from sklearn.datasets import load_digits

        found, seen = load_digits(), np.zeros(10, int)
        for grey, label in zip(found.images, found.target, strict=True):
            image = Image.fromarray(np.rint(grey * (255 / 16)).astype(np.uint8)).resize((side, side))
            save(image, root, "val" if seen[label] % 5 == 4 else "train", str(label))
            seen[label] += 1

    return draw


def photographs(root: Path) -> None:
    """Crops of thirds of scikit-learn's two photographs: six classes."""
    from sklearn.datasets import load_sample_image

    draws = np.random.default_rng(0)
    for name in ("china", "flower"):
        whole = load_sample_image(f"{name}.jpg")
        width = whole.shape[1] // 3
        for third in range(3):
            for part, count in (("val", 60), ("train", 100)):
                for _ in range(count):
                    side = draws.integers(36, 72)
                    top, left = draws.integers(0, whole.shape[0] - side), draws.integers(0, width - side)
                    left += third * width
                    save(Image.fromarray(whole[top : top + side, left : left + side]), root, part, f"{name}-{third}")


def drawings(counts: tuple[int, ...], val: int = 60) -> Callable[[Path], None]:
    """Shapes filled with textures, so many images of each class to train on, and equally many to evaluate."""

    def draw(root: Path) -> None:
        draws = np.random.default_rng(0)
        pairs = [(s, t) for s in ("disc", "triangle", "square") for t in ("stripes", "dots", "checks")]
        for (shape, texture), count in zip(pairs, counts, strict=False):
            for part, n in (("train", count), ("val", val)):
                for _ in range(n):
                    save(picture(shape, texture, draws), root, part, f"{shape}-{texture}")

    return draw


def save(image: Image.Image, root: Path, part: str, label: str) -> None:
    folder = root / part / label
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / f"{sum(1 for _ in folder.iterdir())}.png")


KINDS = {
    "digits at 8": Kind(digits(8)),
    "digits at 32": Kind(digits(32)),
    "photographs": Kind(photographs),
    "drawings, unbalanced": Kind(drawings((400, 240, 140, 80, 50, 30))),
    "few": Kind(drawings((20,) * 3, val=120), 30),
}
MEASURES: dict[str, Callable[[Task], float]] = {
    "auto": auto,
    "keras": keras_fit,
    "timm": lambda task: peer("timm", task),
    "torchvision": lambda task: peer("torchvision", task),
    "search": search,
}


if __name__ == "__main__":
    main()
