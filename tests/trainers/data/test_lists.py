"""Lists of images with their labels: equal to the folder that they describe; what is wrong with one is one line."""

import codecs
import os

import numpy as np
import pytest
from PIL import Image

from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.data import open_data
from trainers.data.held_out import open_held_out
from trainers.data.stored.convert import convert


@pytest.fixture
def photos(tmp_path):
    """data/{ant,bee}/0.png ... 5.png"""
    for number, label in enumerate(("ant", "bee")):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(np.full((6, 8, 3), 20 * number + i, np.uint8)).save(tmp_path / "data" / label / f"{i}.png")
    return tmp_path / "data"


def rows(photos, parts=None):
    """(path, label, part) of all images, the last ones first."""
    images = sorted(photos.rglob("*.png"), reverse=True)
    return [(f"{p.parent.name}/{p.name}", p.parent.name, parts and parts[int(p.stem)]) for p in images]


def write(photos, text, name="list.csv"):
    (photos / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(photos / name)


def table(photos, parts=None):
    columns = 3 if parts else 2
    return "\n".join(",".join(row[:columns]) for row in [("path", "label", "split"), *rows(photos, parts)]) + "\n"


def same(one, other):
    assert one.files() == other.files() and one.class_counts == other.class_counts
    assert one.fingerprint() == other.fingerprint()
    for a, b in zip(one.once(), other.once(), strict=True):
        assert one.load(a["image"]) == other.load(b["image"]) and a["label"] == b["label"]


def test_a_list_of_a_folder_is_the_folder(photos):
    folder = open_data(str(photos), val_split=0.4)
    json_rows = "".join(f'{{"label": "{label}", "path": "{path}", "more": [1]}}\n' for path, label, _ in rows(photos))
    absolute = table(photos).replace("ant/", f"{photos}/ant/").replace("bee/", "bee/../bee/")
    columns = "note,label,path\n" + "".join(f'"a, b",{label},{path}\n' for path, label, _ in rows(photos))
    for text, name in (
        (table(photos), "a.csv"),
        (codecs.BOM_UTF8 + table(photos).replace("\n", "\r\n").encode(), "b.CSV"),
        (json_rows, "c.jsonl"),
        (absolute, "d.csv"),
        (columns, "e.csv"),
    ):
        source = open_data(write(photos, text, name), val_split=0.4)
        assert (source.name, source.classes, source.test, source.note) == (name, ("ant", "bee"), None, "")
        same(source.train, folder.train)
        same(source.val, folder.val)


def test_the_column_split_makes_the_parts(photos):
    source = open_data(write(photos, table(photos, ["train", "train", "train", "validation", "val", "test"])))
    assert (source.train.class_counts, source.val.class_counts) == ((3, 3), (2, 2))
    assert source.test().class_counts == (1, 1) and not source.note
    assert [name for name, *_ in source.val.files()] == ["ant/3.png", "ant/4.png", "bee/3.png", "bee/4.png"]


def test_validation_may_lack_a_class(photos):
    text = "path,label,split\nant/0.png,ant,train\nbee/0.png,bee,train\nbee/1.png,bee,val\n"
    assert open_data(write(photos, text)).val.class_counts == (0, 1)


@pytest.mark.parametrize("parts", [None, ["train", "train", "train", "val", "val", "test"]])
def test_a_list_is_converted(photos, tmp_path, parts):
    place = write(photos, table(photos, parts))
    out = str(tmp_path / "out")
    assert convert(place, out, shard_bytes=300)["images"] == 12
    before, after = open_data(place), open_data(out)
    assert (before.name, before.classes) == (after.name, after.classes)
    same(before.train, after.train)
    same(before.val, after.val)
    if parts:
        same(before.test(), after.test())
    write(photos, table(photos, parts).replace("0.png,ant", "0.png,bee"))
    with pytest.raises(InputError, match="begun from other data"):
        convert(place, out, shard_bytes=300)


def opened(data, part=None, trained="digits", run="RUN"):
    return open_held_out(TrainConfig(data=trained), ("ant", "bee", "cat"), run, data, part)


def test_a_finished_network_is_tested_on_a_list(photos):
    found = opened(write(photos, table(photos)))
    assert (found.part, found.split.class_counts, found.place) == ("all", (6, 6, 0), f"all of {photos}/list.csv")
    place = write(photos, table(photos, ["train", "train", "train", "train", "test", "test"]))
    found = opened(place)
    assert (found.part, found.split.class_counts, found.place) == ("test", (2, 2, 0), f"all of {place}/test")
    assert opened(place, "train").split.size == 8
    with pytest.raises(InputError, match=r"split val: .* has no such part"):
        opened(place, "val")
    with pytest.raises(InputError, match=r"list.csv', line 3: label 'dog'; the run's are 'ant', 'bee', 'cat'"):
        opened(write(photos, "path,label\nant/0.png,ant\nbee/0.png,dog\n"))


def lines(*lines):
    return "\n".join(("path,label", *lines)) + "\n"


@pytest.mark.parametrize("text, message", [
    ("", "line 1: the names of the columns are needed"),
    ("ant/0.png,ant\n", "line 1: the names of the columns are needed, .* found 'ant/0.png,ant'"),
    ("path;label\nant/0.png;ant\n", "line 1: semicolons between the columns; commas are needed"),
    ("path\tlabel\nant/0.png\tant\n", "line 1: tabs between the columns"),
    ("path,label\n", "names no image"),
    (lines("ant/0.png,ant", "", "bee/0.png,bee"), "line 3: the line is empty"),
    (lines("ant/0.png,ant", "bee/0.png"), "line 3: 1 values, and the first line names 2 columns"),
    (lines('ant/0.png,"ant', "bee/0.png,bee"), "line 3: no CSV"),
    (lines("ant/0.png,ant", "bee/9.png,bee"), "line 3: '.*bee/9.png' is not there"),
    (lines("ant/0.png,ant", "bee,bee"), "line 3: '.*bee' is a folder"),
    (lines("ant/0.png,ant", "ant/../ant/0.png,bee"), "line 3: '.*ant/0.png' is in line 2 already"),
    (lines("../0.png,ant"), "line 2: '../0.png' leads out of the list's folder"),
    (lines("/etc/hosts,ant"), "line 2: '/etc/hosts' leads out of the list's folder"),
    (lines(",ant"), "line 2: path ''"),
    (lines("a\0b,ant"), "line 2: path"),
    (lines("ant/0.png,"), "class name '' in list .*line 2"),
    (lines("ant/0.png,ant", "ant/1.png,ant"), "training images of two labels; found only 'ant'"),
    (lines("ant/0.png,ant").encode() + b"bee/\xff.png,bee\n", "line 3: no text in UTF-8"),
    (lines("ant/0.png,ant").encode("utf-16"), "line 1: the list is in UTF-16"),
    (lines(f"ant/0.png,{'a' * 2**20}"), "line 2: at most .* bytes"),
    ("path,label,split\nant/0.png,ant,dev\n", "line 2: split 'dev'; train, val or test is needed"),
    ("path,label,split\nant/0.png,ant,val\n", "no line whose split is train, only val"),
    ("path,label,split\nant/0.png,ant,train\nbee/0.png,bee,train\nbee/1.png,cat,val\n", "line 4: label 'cat'; no tra"),
])  # fmt: skip
def test_what_is_wrong_with_a_list_is_one_line(photos, text, message):
    with pytest.raises(InputError, match=message) as error:
        open_data(write(photos, text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("line, message", [
    ("{", "line 1: no JSON"),
    ("[" * 100_000, "line 1: no JSON"),
    ("[1]", "line 1: an object with path and label is needed"),
    ('{"path": "ant/0.png"}', "line 1: an object with path and label is needed"),
    ('{"path": "ant/0.png", "label": 1.5}', "line 1: label 1.5; text is needed"),
    ('{"path": ["ant/0.png"], "label": 1}', "line 1: path .*; text is needed"),
    ('{"path": "\\ud800", "label": 1}', r"line 1: path '\\ud800'"),
    ('{"path": "ant/0.png", "label": "\\ud800"}', r"line 1: label '\\ud800'; a name in UTF-8"),
])  # fmt: skip
def test_what_is_wrong_with_json_lines_is_one_line(photos, line, message):
    with pytest.raises(InputError, match=message):
        open_data(write(photos, line + "\n", "list.jsonl"))


def test_a_split_is_for_all_lines_or_none(photos):
    for first, second in ((', "split": "train"', ""), ("", ', "split": "train"')):
        lines = (f'{{"path": "ant/{i}.png", "label": "ant"{more}}}\n' for i, more in enumerate((first, second)))
        with pytest.raises(InputError, match="line 2: all lines need a split, or none"):
            open_data(write(photos, "".join(lines), "list.jsonl"))


@pytest.mark.slow
def test_broken_and_missing_files_are_left_out_on_wish(photos):
    (photos / "ant" / "0.png").write_bytes(b"no image")
    os.mkfifo(photos / "ant" / "pipe")
    place = write(photos, table(photos) + "ant/9.png,ant\nant/pipe,ant\n")
    with pytest.raises(InputError, match=r"line 14: '.*ant/9.png' is not there; mend the list, or use --on-corrupt"):
        open_data(place)
    source = open_data(place, on_corrupt="skip")
    assert sorted(map(os.path.basename, source.corrupt)) == ["0.png", "9.png", "pipe"]
    assert source.train.size + source.val.size == 11


def test_a_list_that_is_not_there_or_of_another_kind_is_one_line(photos):
    for name, message in (("no.csv", "does not exist"), ("a.tsv", "is a file; .* ends with .csv or .jsonl")):
        write(photos, "path\tlabel", "a.tsv")
        with pytest.raises(InputError, match=message):
            open_data(str(photos / name))


def test_a_damaged_list_of_a_conversion_is_one_line(photos, tmp_path):
    convert(write(photos, table(photos)), str(tmp_path / "out"))
    place = tmp_path / "out" / "kcnn-list.jsonl"
    whole = place.read_text()
    place.write_text(whole + '{"path": "ant/9.png", "label": "ant"}\n')
    with pytest.raises(InputError, match=r"kcnn-list.jsonl', line 13, names no image of the data: convert anew"):
        open_data(str(tmp_path / "out"))
    place.unlink()
    place.symlink_to(photos / "list.csv")
    with pytest.raises(InputError, match="is a link or no file: convert the data anew"):
        open_data(str(tmp_path / "out"))
