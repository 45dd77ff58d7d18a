"""Files are written whole or not at all, never through a link, and read with bounds."""

import errno
import json
import os
import subprocess
import sys
from typing import Annotated, Any, Literal

import pytest

from kcnn.errors import InputError
from trainers.runs import files
from trainers.runs.typed import checked, fits

WRITERS = {
    "bytes": lambda path: files.write_bytes(path, b"new"),
    "text": lambda path: files.write_text(path, "new"),
    "json": lambda path: files.write_json(path, "new"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_link_is_replaced_and_its_target_left_alone(tmp_path, write):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("precious")
    link.symlink_to(target)
    write(link)
    assert target.read_text() == "precious"
    assert not link.is_symlink() and "new" in link.read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "target"]


def test_lines_are_not_appended_through_a_link(tmp_path):
    (tmp_path / "target").write_text("precious\n")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(InputError, match="link: it is a symbolic link"):
        files.append_line(tmp_path / "link", "more")
    assert (tmp_path / "target").read_text() == "precious\n"


def test_what_does_not_fit_leaves_what_was_there(tmp_path, files_of_at_most):
    path = tmp_path / "result.json"
    files.write_bytes(path, b"old")
    with files_of_at_most(100), pytest.raises(InputError, match=r"cannot write .*result.json: File too large"):
        files.write_bytes(path, bytes(101))
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["result.json"]


def test_a_line_that_does_not_fit_is_not_begun(tmp_path, files_of_at_most):
    path = tmp_path / "metrics.jsonl"
    files.append_line(path, "x" * 60)
    with files_of_at_most(100), pytest.raises(InputError, match=r"cannot write .*metrics.jsonl: File too large"):
        files.append_line(path, "y" * 60)
    assert path.read_text() == "x" * 60 + "\n"


def test_a_block_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "model.keras") as partial:
        assert partial.suffix == ".keras" and partial.parent == tmp_path  # Keras looks at the suffix
        partial.write_bytes(b"half")
        raise KeyboardInterrupt
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("write", [*WRITERS.values(), lambda path: files.append_line(path, "new")])
def test_a_folder_that_has_gone_is_told(tmp_path, write):
    with pytest.raises(InputError, match=r"cannot write .*x: its folder is gone"):
        write(tmp_path / "gone" / "x")


def test_what_a_killed_process_left_is_removed(tmp_path):
    code = (
        "import os, sys; from trainers.runs import files\n"
        "with files.replacing(sys.argv[1]) as p: p.touch(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "best.npz")], check=False)
    assert [".partial" in name for name in os.listdir(tmp_path)] == [True]
    (tmp_path / "best.npz").touch()
    files.remove_partial(tmp_path)
    assert os.listdir(tmp_path) == ["best.npz"]


# Reading.

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

YAML = {
    "a bomb of aliases": (BOMB, "aliases are not taken"),
    "20,000 deep": ("[" * 20000, "50 deep"),
    "deep blocks": ("".join(f"{' ' * i}a:\n" for i in range(500)), "50 deep"),
    "100,000 values": (f"a: [{'1,' * 100_000}]", "more than 20,000"),
    "a number for a name": ("1: 2\n", "sets 1, which is no name"),
    "a list for a name": ("? [a]\n: b\n", "not YAML"),
    "a name twice": ("epochs: 1\nepochs: 2\n", "'epochs' is there twice"),
    "400 digits": (f"epochs: {'9' * 400}\n", "more than 19 digits"),
    "5,000 digits": (f"epochs: {'9' * 5000}\n", "not YAML"),
    "hexadecimal digits": (f"epochs: 0x{'f' * 9000}\n", "more than 19 digits"),
    "sixties": (f"epochs: 1{':59' * 900}\n", "more than 19 digits"),
    "a date that is none": ("a: 2001-99-99\n", "not YAML"),
    "a number that is none": ("a: !!float\n", "not YAML"),
    "bytes that are none": ("a: !!binary x\n", "not YAML"),
    "an object": ("a: !!python/object/apply:os.getcwd []\n", "not YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "not YAML"),
    "a list": ("- a\n", "holds list"),
    "text": ("a\n", "holds str"),
    "a control character": ("a: \0\n", "not YAML"),
    "not UTF-8": (b"a: \xff\n", "not UTF-8"),
    "2 MiB": ("#" * 2**21, "more than 1,048,576 bytes"),
}


@pytest.mark.parametrize("content, words", YAML.values(), ids=YAML)
def test_yaml_that_is_none_of_ours_is_one_line(tmp_path, content, words):
    path = tmp_path / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as refused:
        files.read_yaml(path)
    line = str(refused.value)
    assert words in line and str(path) in line and "\n" not in line and len(line) < 500


def test_yaml_of_ours_is_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("epochs: 10\nlr: 0.5\nprogressive: [16, 24]\nflip: true\nweights: null\n'on': 'yes: 1'\n")
    assert files.read_yaml(path) == {
        "epochs": 10,
        "lr": 0.5,
        "progressive": [16, 24],
        "flip": True,
        "weights": None,
        "on": "yes: 1",
    }
    path.write_text("# nothing\n")
    assert files.read_yaml(path) == {}


JSON = {
    "deep lists": ("[" * 100_000, "50 deep"),
    "deep objects": ('{"a":' * 100_000, "50 deep"),
    "400 digits": ("9" * 400, "400 digits"),
    "a name twice": ('{"a": 1, "b": {"a": 1, "a": 2}}', "'a' is there twice"),
    "cut off": ('{"a": ', "not JSON"),
    "nothing": ("", "not JSON"),
    "a list": ("[]", "holds list, where dict is needed"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8"),
}


@pytest.mark.parametrize("content, words", JSON.values(), ids=JSON)
def test_json_that_is_none_of_ours_is_one_line(tmp_path, content, words):
    path = tmp_path / "result.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as refused:
        files.read_json(path, dict)
    line = str(refused.value)
    assert words in line and str(path) in line and "\n" not in line and len(line) < 500


def test_json_of_ours_is_read(tmp_path):
    value = {"a": [1, -(2**63), 0.1, None, True, "[{" * 100, 'a \\" quote'], "deep": [[[{}]]], "loss": float("inf")}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_json(tmp_path / "x.json") == value


def test_many_small_lists_are_not_built(tmp_path):
    (tmp_path / "x.json").write_text("[" + "[]," * 2**21 + "[]]")
    with pytest.raises(InputError, match="more than 1,048,576 lists and objects"):
        files.read_json(tmp_path / "x.json")


def test_a_line_that_was_cut_off_does_not_count_and_a_damaged_one_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step"')
    assert list(files.read_json_lines(path)) == [{"step": 1}, {"step": 2}]
    path.write_text('{"step": 1}\n{"step": \x002}\n{"step": 3}\n')
    with pytest.raises(InputError, match=r"metrics.jsonl, line 2 is not JSON"):
        list(files.read_json_lines(path))
    path.write_text('{"step": 1}\n[2]\n')
    with pytest.raises(InputError, match=r"metrics.jsonl, line 2 holds list"):
        list(files.read_json_lines(path))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(InputError, match=r"config.yaml: it is not a regular file"):
        files.read_yaml(tmp_path / "config.yaml")


def test_what_cannot_be_read_is_told(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"cannot read .*nowhere: No such file"):
        files.read_json(tmp_path / "nowhere")

    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "open", broken)
    with pytest.raises(InputError, match=r"cannot read .*x: Input/output error"):
        files.read_json(tmp_path / "x")


# Types.

NUMBERS = list[float] | None


@pytest.mark.parametrize("value, kind, right", [
    (1, int, True), (1, float, True), (1.5, float, True), (1.5, int, False), (True, int, False), (True, float, False),
    (True, bool, True), (1, bool, False), ("1", int, False), (None, int, False), (None, int | None, True),
    ([1, 2.5], NUMBERS, True), ([1, "2"], NUMBERS, False), (None, NUMBERS, True), (1, NUMBERS, False),
    ("on", Literal["on", "off"], True), ("of", Literal["on", "off"], False), ([], Literal["on", "off"], False),
    ({"a": [1]}, dict[str, list[int]], True), ({1: [1]}, dict[str, list[int]], False),
    (float("nan"), float, True), ("x", Annotated[str, "help"], True), (1, Annotated[str, "help"], False),
    (object(), Any, True), ({}, dict, True), ([], dict, False),
])  # fmt: skip
def test_values_are_of_their_types_or_not(value, kind, right):
    assert fits(value, kind) is right


def test_the_file_and_the_value_are_named():
    with pytest.raises(InputError, match=r"x.yaml: epochs 'many': a whole number is needed"):
        checked({"epochs": "many"}, {"epochs": int}, "x.yaml")
    with pytest.raises(InputError, match=r"x.yaml has no epochs"):
        checked({}, {"epochs": int}, "x.yaml")
    with pytest.raises(InputError, match=r"a: a \[1, 1.*: a list of numbers or nothing is needed") as refused:
        checked({"a": json.loads("[" + "1," * 1000 + '"b"]')}, {"a": NUMBERS}, "a")  # the value is shortened
    assert len(str(refused.value)) < 400
