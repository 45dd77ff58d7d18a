"""The look at a data set: what is planted in it is found, and nothing else."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kcnn.data
from kcnn.errors import InputError
from trainers.look import labels
from trainers.look.duplicates import alike, groups
from trainers.look.survey import look


def stripes(draws, side=48):
    """A picture of random stripes and patches, which is like no other one."""
    grid = draws.integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Two parts of two classes, of which one has a name that HTML would read, with faults that the tests know."""
    root, draws = tmp_path_factory.mktemp("look") / "planted", np.random.default_rng(0)
    for part, counts in (("train", {"<b>": 3, "cat": 36}), ("val", {"<b>": 3, "cat": 5})):
        for name, count in counts.items():
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                stripes(draws).save(root / part / name / f"{i:02}.png")
    shutil.copy(root / "val/cat/00.png", root / "train/cat/same.png")
    Image.open(root / "val/cat/01.png").resize((90, 90)).save(root / "train/cat/again.jpg", quality=85)
    Image.open(root / "train/cat/05.png").resize((64, 64)).save(root / "train/<b>/other.jpg", quality=85)
    turn = Image.Exif()
    turn[0x0112] = 6
    stripes(draws).resize((60, 48)).save(root / "train/cat/turned.jpg", exif=turn)
    (root / "train/cat/broken.jpg").write_bytes(b"no picture")
    whole = (root / "train/cat/turned.jpg").read_bytes()
    (root / "val/<b>/cut.jpg").write_bytes(whole[: len(whole) // 2])
    stripes(draws).convert("L").save(root / "train/cat/grey.gif")
    return root


@pytest.fixture(scope="module")
def found(planted, tmp_path_factory):
    return look(str(planted), out=str(tmp_path_factory.mktemp("look") / "out"))


def test_what_is_there_is_counted(found):
    assert found["images"] == {"train": 45, "val": 9} and found["classes"] == 2
    assert found["per_class"] == [{"class": "<b>", "train": 4, "val": 4}, {"class": "cat", "train": 41, "val": 5}]
    assert found["formats"] == {"PNG": 48, "JPEG": 3, "GIF": 1} and found["grey"] == 1 and found["turned"] == 1
    assert found["sides"] == {
        "shorter": {"min": 48, "median": 48, "max": 90},
        "longer": {"min": 48, "median": 48, "max": 90},
    }


def test_planted_faults_are_found_and_nothing_else(found):
    assert {row["image"]: row["part"] for row in found["broken"]} == {
        "train/cat/broken.jpg": "train",
        "val/<b>/cut.jpg": "val",
    }
    assert all(row["reason"] for row in found["broken"])
    pairs = {(g["same_file"], *sorted(row["image"] for row in g["images"])) for g in found["twice"]}
    assert pairs == {
        (True, "train/cat/same.png", "val/cat/00.png"),
        (False, "train/cat/again.jpg", "val/cat/01.png"),
        (False, "train/<b>/other.jpg", "train/cat/05.png"),
    }


def test_each_fault_is_a_line(found):
    told = dict(line.split(maxsplit=1) for line in found["lines"])
    assert told["broken"].startswith("2 images that cannot be decoded: train/cat/broken.jpg (")
    assert told["leaks"].startswith("2 images of val or test that train has, too: val/cat/01.png, val/cat/00.png;")
    assert told["twice"] == "1 image that the same part has already: train/cat/05.png"
    assert told["conflicts"].startswith("2 images that have another class elsewhere: train/<b>/other.jpg (<b>), ")
    assert told["turned"] == "1 image turned as EXIF says"
    assert told["balance"] == (
        "training has 4 (<b>) to 41 (cat) images a class; 1 class has fewer than 20; --class-weights sqrt or balanced "
        "evens them out"
    )


def test_the_page_shows_it_and_needs_nothing_else(found):
    folder = Path(found["folder"])
    page = (folder / "look.html").read_text("utf-8")
    assert "<b>" not in page and "&lt;b&gt;" in page and "http" not in re.sub(r"base64,[^\"]*", "", page)
    assert page.count("<figure>") == 6  # three pairs
    assert page.count("<h3>") == 2 and "What training sees" in page
    assert json.loads((folder / "look.json").read_text("utf-8")) == found


def test_copies_are_found_among_pictures_and_plain_ones_are_not():
    draws = np.random.default_rng(1)
    pictures = [stripes(draws, 64) for _ in range(300)]
    small = [np.array(p.convert("L").resize((32, 32), Image.Resampling.BILINEAR)) for p in pictures]
    darker = [(0.8 * s + 5).astype(np.uint8) for s in small[:20]]
    plain = [np.full((32, 32), level, np.uint8) for level in (0, 0, 128, 255)]
    pairs = alike(np.stack(small + darker + plain))
    assert pairs.tolist() == [[i, 300 + i] for i in range(20)]
    same_files = groups(np.array([7, 8, 7, 9, 8, 7]), None)
    assert [(same, places.tolist()) for same, places in same_files] == [(True, [0, 2, 5]), (True, [1, 4])]


def test_images_that_resemble_each_other_anyway_are_no_copies():
    """X-rays or characters are alike where photographs are not: what counts as a copy follows the data."""
    draws = np.random.default_rng(2)
    common = np.array(stripes(draws).convert("L").resize((32, 32)), np.float32)
    small = np.clip(common + draws.normal(0, 4, (400, 32, 32)), 0, 255).astype(np.uint8)
    assert np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1] > 0.985
    small[17] = np.clip(small[3].astype(int) + 1, 0, 255)
    assert alike(small).tolist() == [[3, 17]]


def test_wrong_labels_are_found_by_a_classifier_that_has_not_seen_them():
    draws = np.random.default_rng(3)
    right = draws.integers(0, 5, 1000)
    features = (draws.normal(0, 1, (5, 32))[right] + draws.normal(0, 0.7, (1000, 32))).astype(np.float32)
    given, wrong = right.copy(), draws.permutation(1000)[:50]
    given[wrong] = (right[wrong] + draws.integers(1, 5, 50)) % 5
    found = labels.suspects(features, given, 5)
    hits = [s for s in found if s.at in set(wrong)]
    assert len(hits) >= 47 and len(found) - len(hits) <= 2
    assert all(s.likely == right[s.at] for s in hits)
    assert [s.margin for s in found] == sorted((s.margin for s in found), reverse=True)


@pytest.mark.slow
def test_labels_that_look_wrong_to_a_run(shot, photos, tmp_path, capsys):
    data = shutil.copytree(photos, tmp_path / "photos")
    with pytest.raises(SystemExit) as left:
        kcnn.data.main([str(data), "--run", str(shot.folder), "--out", str(tmp_path / "out"), "--json"])
    assert left.value.code == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["run"] == str(shot.folder) and (tmp_path / "out/look.html").exists()
    assert all(row["label"] != row["likely"] for row in result["suspects"])


@pytest.mark.parametrize("flags, message", [
    ({"data": "./nowhere"}, "data folder './nowhere' does not exist"),
    ({"out": "a-file"}, "out 'a-file' is a file; name a folder"),
    ({"recipe": "none"}, "recipe 'none'"),
    ({"run": "nowhere"}, "nowhere"),
])  # fmt: skip
def test_bad_input_is_one_line(here, planted, flags, message):
    (here / "a-file").write_text("")
    with pytest.raises(InputError, match=re.escape(message)):
        look(**({"data": str(planted)} | flags))
    assert [p.name for p in here.iterdir()] == ["a-file"]


def test_a_run_of_other_classes_is_refused(shot, planted):
    with pytest.raises(InputError, match="the data's 2 classes are not the 2 that"):
        look(str(planted), run=str(shot.folder))


@pytest.mark.slow
def test_any_number_of_labels(tmp_path, planted):
    listed = [
        f"{p.relative_to(planted)},{'<b>|cat' if i % 3 else 'cat'}"
        for i, p in enumerate(sorted(planted.rglob("*.png")))
    ]
    (planted / "list.csv").write_text("\n".join(["path,labels", *listed]) + "\n")
    try:
        found = look(str(planted / "list.csv"), multi_label=True, out=str(tmp_path / "out"))
    finally:
        (planted / "list.csv").unlink()
    both = sum(range(len(listed))[i] % 3 > 0 for i in range(len(listed)))
    counts = {row["class"]: row["train"] + row["val"] for row in found["per_class"]}
    assert counts == {"<b>": both, "cat": len(listed)}
    assert [row["class"] for group in found["twice"] for row in group["images"]]
