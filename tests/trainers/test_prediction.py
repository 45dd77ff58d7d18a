"""Images in, the likeliest classes out."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import kcnn.predict
from kcnn.errors import InputError
from trainers.data import eval_image
from trainers.evaluation import evaluate_run
from trainers.prediction import find_images, predict
from trainers.runs.checkpoints import load_run


@pytest.fixture(scope="module")
def loaded(shot):
    return load_run(shot.folder)


@pytest.fixture
def album(photos, tmp_path):
    """album/{a,b}.jpg, album/deep/c.png and a text."""
    folder = tmp_path / "album"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(photos / "val" / "china" / "0.jpg", folder / "a.jpg")
    shutil.copy(photos / "val" / "flower" / "0.jpg", folder / "b.JPG")
    Image.open(photos / "val" / "flower" / "1.jpg").convert("RGBA").save(folder / "deep" / "c.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def command(*argv):
    with pytest.raises(SystemExit) as left:
        kcnn.predict.main([str(a) for a in argv])
    return left.value.code


def test_folders_are_searched_and_files_taken_as_given(album):
    a, b, c = (str(album / name) for name in ("a.jpg", "b.JPG", "deep/c.png"))
    assert find_images([str(album)]) == [a, b, c]
    assert find_images([c, a]) == [c, a]
    assert find_images([str(album / "notes.txt")]) == [str(album / "notes.txt")]  # its reader will tell


@pytest.mark.parametrize("name, text", [
    ("list.csv", "path\ndeep/c.png\na.jpg\n"),
    ("list.csv", "label,path\ncat,deep/c.png\ndog,a.jpg\n"),
    ("list.jsonl", '{"path": "deep/c.png"}\n{"path": "a.jpg", "label": "dog"}\n'),
])  # fmt: skip
def test_lists_are_followed_in_their_order(album, monkeypatch, name, text):
    (album / name).write_text(text)
    assert find_images([str(album / name)]) == [str(album / "deep/c.png"), str(album / "a.jpg")]
    monkeypatch.chdir(album)
    assert find_images([name]) == ["deep/c.png", "a.jpg"]


@pytest.mark.parametrize("text, words", [
    ("image\na.jpg\n", "line 1: the names of the columns are needed"),
    ("path\n../other/a.jpg\n", "line 2: '../other/a.jpg' leads out of the list's folder"),
    ("path\na.jpg\n\n", "line 3: the line is empty"),
])  # fmt: skip
def test_a_list_that_is_wrong_is_named_by_its_line(album, text, words):
    (album / "list.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        find_images([str(album / "list.csv")])


@pytest.mark.parametrize("name, words", [("empty", "holds no images"), ("nowhere", "no image or folder")])
def test_where_there_is_no_image_is_named(tmp_path, name, words):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=words):
        find_images([str(tmp_path / name)])


def test_a_prediction_is_the_softmax_of_the_network(loaded, album):
    model, config, classes = loaded
    paths = find_images([str(album)])
    rows, errors = predict(model, config, classes, paths, top=9, batch=32)
    assert not errors and [row["image"] for row in rows] == paths
    for path, row in zip(paths, rows, strict=True):
        image = eval_image(tf.io.read_file(path), config.resolution, crop=config.eval_crop)
        shares = tf.nn.softmax(model(tf.cast(image, tf.float32)[None], training=False))[0].numpy()
        assert [best["class"] for best in row["top"]] == [classes[i] for i in np.argsort(-shares)]
        np.testing.assert_allclose([best["probability"] for best in row["top"]], np.sort(shares)[::-1], atol=1e-5)


def test_the_batch_changes_nothing(loaded, album):
    paths = find_images([str(album)])
    for one, all_ in zip(predict(*loaded, paths, 2, 1)[0], predict(*loaded, paths, 2, 32)[0], strict=True):
        assert one["image"] == all_["image"]
        for a, b in zip(one["top"], all_["top"], strict=True):
            assert a["class"] == b["class"] and a["probability"] == pytest.approx(b["probability"], abs=1e-5)


def test_text_is_a_line_an_image(shot, album, capsys):
    assert command(shot.folder, album, "--top", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == find_images([str(album)])
    assert all(line.split("  ")[1].split()[0] in ("china", "flower") and line.endswith("%") for line in lines)


def test_csv_is_a_table(shot, album, capsys):
    assert command(shot.folder, album, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["rank"] for row in rows] == ["1", "2"] * 3
    assert {row["class"] for row in rows} == {"china", "flower"}
    assert sum(float(row["probability"]) for row in rows) == pytest.approx(3, abs=1e-5)


def test_json_comes_last(shot, album, capsys):
    assert command(shot.folder, album / "a.jpg", "--json") == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["errors"] == []
    [row] = last["predictions"]
    assert row["image"] == str(album / "a.jpg") and len(row["top"]) == 2


@pytest.mark.parametrize("format", ["text", "csv"])
def test_a_broken_image_is_told_and_the_others_are_predicted(shot, album, capsys, format):
    (album / "aa.jpg").write_bytes((album / "a.jpg").read_bytes()[:300])
    (album / "ab.png").write_bytes(b"")
    assert command(shot.folder, album, "--json", "--format", format) == 2
    out, err = capsys.readouterr()
    last = json.loads(out.splitlines()[-1])
    assert [row["image"] for row in last["predictions"]] == [str(album / n) for n in ("a.jpg", "b.JPG", "deep/c.png")]
    assert len(last["errors"]) == 2
    lines = err.splitlines()
    assert len(lines) == 3 and str(album / "aa.jpg") in lines[0] and str(album / "ab.png") in lines[1]
    assert lines[2].startswith("kcnn predict: error: 2 failed")


def test_a_name_that_is_no_text_is_shown_with_its_bytes(shot, album, capsys):
    odd = os.fsdecode(os.fsencode(album) + b"/\xff.jpg")
    os.rename(album / "a.jpg", odd)
    Path(album / "b.JPG").write_bytes(b"broken")
    assert command(shot.folder, odd, album / "b.JPG", "--json") == 2
    out, err = capsys.readouterr()
    *lines, last = out.splitlines()
    assert json.loads(last)["predictions"][0]["image"] == odd and lines[0].split("  ")[0].endswith("\\xff.jpg")
    assert "b.JPG: cannot be read as an image (the picture is no JPEG, PNG, GIF, BMP or WebP)" in err


def test_only_broken_images_are_an_error_too(shot, album, capsys):
    assert command(shot.folder, album / "notes.txt") == 2
    assert "notes.txt: cannot be read as an image" in capsys.readouterr().err


@pytest.mark.parametrize("flags, words", [
    ([], "no images"),
    (["--top", "0", "x.jpg"], "top 0"),
    (["--batch-size", "0", "x.jpg"], "batch-size 0"),
    (["--checkpoint", "worst", "x.jpg"], "worst"),
    (["nowhere.jpg"], "no image or folder 'nowhere.jpg'"),
])  # fmt: skip
def test_bad_input_is_one_line(shot, capsys, flags, words):
    assert command(shot.folder, *flags) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize("tta, count", [("none", 1), ("flip", 2), ("ten-crop", 10)])
def test_test_time_augmentation_is_the_mean_over_views(shot, tta, count):
    """Against views cut and averaged here."""
    model, config, _ = load_run(shot.folder)
    result = evaluate_run(str(shot.folder), data=None, split="val", checkpoint="last", batch_size=8, tta=tta)
    side = 32 if tta != "ten-crop" else round(32 / 0.875)
    crop = config.eval_crop if tta != "ten-crop" else 1.0
    probabilities, labels = [], []
    for label, name in enumerate(("china", "flower")):
        for path in sorted((Path(config.data) / "val" / name).iterdir()):
            image = eval_image(path.read_bytes(), side, crop=crop).numpy().astype("float32")
            e = side - 32
            crops = {0: (image,)}.get(e) or [
                image[t : t + 32, s : s + 32] for t, s in ((0, 0), (0, e), (e, 0), (e, e), (e // 2, e // 2))
            ]
            views = [v for c in crops for v in ((c, c[:, ::-1]) if tta != "none" else (c,))]
            assert len(views) == count
            logits = model(np.stack(views)).numpy()
            probabilities.append(np.mean(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), 0))
            labels.append(label)
    chosen = np.array(probabilities)[np.arange(16), labels]
    np.testing.assert_allclose(result["loss"], -np.log(chosen).mean(), rtol=1e-4)
    assert result["accuracy"] == np.mean(np.argmax(probabilities, 1) == labels)
    assert result["tta"] == tta
