"""A folder of JPEGs to train on, cut from scikit-learn's two photographs."""

from pathlib import Path


def make_photos(folder: Path, count: int, sides: tuple[int, int] = (200, 250), quality: int = 75) -> None:
    """Writes count pictures to train on and a few to evaluate, of two classes, with sides of so many pixels, drawn."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    draws = np.random.default_rng(0)
    for name in ("china", "flower"):
        picture = load_sample_image(f"{name}.jpg")
        for part, n in (("train", -(-count // 2)), ("val", 8)):
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(n):
                height, width = (draws.integers(*sides, endpoint=True) for _ in range(2))
                height = min(height, picture.shape[0] - 1)
                top, left = draws.integers(0, picture.shape[0] - height), draws.integers(0, picture.shape[1] - width)
                cut = Image.fromarray(picture[top : top + height, left : left + width])
                cut.save(place / f"{i}.jpg", quality=quality)
