"""Commands on photos, whole and broken ones."""

import json
import os
import shutil
from pathlib import Path

import pytest

from kcnn.terminal import cli


def command(*argv):
    """The exit code of a command."""
    return cli.main([str(a) for a in argv])


def test_photos_are_trained_on_and_evaluated(shot, photos, capsys):
    assert (shot.figures["data"], shot.figures["steps"], shot.figures["corrupt"]) == (str(photos), 6, 0)
    assert not (shot.folder / "corrupt.txt").exists()
    assert command("evaluate", shot.folder, "--json") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)
    assert figures["accuracy"] == pytest.approx(shot.figures["val_accuracy"]) and figures["images"] == 16
    assert figures["loss"] == pytest.approx(shot.figures["val_loss"], rel=1e-4)
    assert lines[0].startswith("16 images: loss ") and lines[-1].split()[-1] == figures["page"]
    assert lines[-2].split()[-1] == figures["picture"]
    assert command("evaluate", shot.folder, "--split", "train", "--data", photos, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["images"] == 48


@pytest.fixture
def broken(photos, tmp_path):
    """The photos, of which two for training are broken: (folder, {path: its name as it is shown})."""
    data = tmp_path / "data"
    for part in ("train", "val"):
        for name in ("china", "flower"):
            (data / part / name).mkdir(parents=True)
            for file in sorted((photos / part / name).iterdir())[:8]:
                (data / part / name / file.name).write_bytes(file.read_bytes())
    cut, empty = data / "train" / "china" / os.fsdecode(b"cut\xff.jpg"), data / "train" / "flower" / "empty.png"
    cut.write_bytes((photos / "val" / "china" / "0.jpg").read_bytes()[:200])
    empty.write_bytes(b"")
    return data, {cut: str(cut.with_name(r"cut\xff.jpg")), empty: str(empty)}


PHOTO_FLAGS = ["--arch=anynetx-d1x1-w64x512-g512", "--width=0.125", "--resolution=32", "--epochs=1", "--recipe=default"]


@pytest.mark.parametrize("batch", [18, 3], ids=["the first batch", "some batch"])
def test_a_broken_image_ends_a_training_in_one_line(broken, here, capsys, batch):
    data, names = broken
    assert command("train", *PHOTO_FLAGS, f"--batch-size={batch}", "--data", data, "--run-dir", "run") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert any(f"broken image {name}" in line for name in names.values()) and "--on-corrupt skip" in line


@pytest.mark.usefixtures("training_only")
def test_a_broken_image_of_validation_is_named(broken, here, capsys):
    data, paths = broken
    for path in paths:
        path.unlink()
    (data / "val" / "flower" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    assert command("train", *PHOTO_FLAGS, "--batch-size=16", "--data", data, "--run-dir", "run") == 2
    assert f"broken image {data / 'val' / 'flower' / 'cut.jpg'}:" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.slow
def test_broken_images_can_be_left_out(broken, here, capsys):
    data, names = broken
    flags = [*PHOTO_FLAGS, "--batch-size=16", "--data", data, "--run-dir", "run"]
    assert command("train", *flags, "--on-corrupt=skip", "--json") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert (result["corrupt"], result["steps"]) == (2, 1)
    assert result == json.loads(Path("run/result.json").read_text())
    assert Path("run/corrupt.txt").read_text().splitlines() == list(names.values())
    text = "\n".join(lines)
    assert "run        run" in text and "dashboard  kcnn board" in text
    for name in ("evaluate", "predict", "export"):
        assert f"kcnn {name} run" in text


@pytest.mark.slow
def test_classes_whose_names_are_formulas_are_trained_and_evaluated(photos, here, capsys):
    """Matplotlib could not draw the first, and would draw the second as something else."""
    classes = ["a$x^$b", "m$^2$"]
    for part in ("train", "val"):
        for label, name in zip(classes, ("china", "flower"), strict=True):
            shutil.copytree(photos / part / name, here / "data" / part / label)
    assert command("train", *PHOTO_FLAGS, "--batch-size=24", "--data=data", "--run-dir=run") == 0
    assert all(f"`{label}`" in Path("run/card.md").read_text() for label in classes)
    assert command("evaluate", "run", "--json") == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["class"] for row in figures["per_class"]] == classes and Path(figures["picture"]).is_file()
