"""Versions of an export are whole or not there, whatever else lies in their folder."""

import os
import signal

import pytest

from kcnn.errors import InputError
from trainers.serving import versions
from trainers.serving.versions import HIGHEST, publish, workplace


def published(folder):
    with workplace(folder) as place:
        content = place / "model"
        content.mkdir()
        (content / "file").write_text("whole")
        return publish(content, folder)


@pytest.mark.parametrize("names, following", [
    ([], 1), (["1", "2"], 3), (["9", "10"], 11), (["007"], 8), (["20261121"], 20261122),
    # What a server does not take for a version is none.
    (["model", "1.5", "-3", "+4", "0x7", "1e3", "", "v2", "5 ", "٣", "²", "९९"], 1), ([str(HIGHEST + 1)], 1),
    (["9" * 30], 1), (["9" * 200, "4"], 5), ([str(HIGHEST - 1)], HIGHEST),
])  # fmt: skip
def test_the_next_version_is_one_more_than_a_server_knows(tmp_path, names, following):
    for name in filter(None, names):
        (tmp_path / name).mkdir()
    path = published(tmp_path)
    assert path == tmp_path / str(following) and (path / "file").read_text() == "whole"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({*filter(None, names), str(following)})


def test_after_the_last_version_there_is_none(tmp_path):
    (tmp_path / str(HIGHEST)).mkdir()
    with pytest.raises(InputError, match=f"holds version {HIGHEST}, the highest that there can be"):
        published(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [str(HIGHEST)]


def test_what_is_no_folder_has_a_number_all_the_same(tmp_path):
    (tmp_path / "1").write_text("a file")
    (tmp_path / "2").symlink_to(tmp_path / "nowhere")
    (tmp_path / "3").symlink_to(tmp_path / "1")
    assert published(tmp_path) == tmp_path / "4" and (tmp_path / "1").read_text() == "a file"


def test_an_export_that_was_faster_is_not_overwritten(tmp_path, monkeypatch):
    def rename(old, new):
        monkeypatch.undo()
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "file").write_text("another's")
        os.rename(old, new)

    monkeypatch.setattr(versions.os, "rename", rename)
    assert published(tmp_path) == tmp_path / "2" and (tmp_path / "1" / "file").read_text() == "another's"


def test_links_to_elsewhere_are_not_cleared(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / ".partial-x").symlink_to(tmp_path / "mine")
    (tmp_path / "exports" / ".partial-y").write_text("")
    published(tmp_path / "exports")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["file"]


@pytest.mark.parametrize("number, error", [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_an_interrupted_export_leaves_nothing(tmp_path, number, error):
    before = signal.getsignal(number)
    with pytest.raises(error), workplace(tmp_path / "exports") as place:
        (place / "half").write_text("ha")
        os.kill(os.getpid(), number)
    assert not (tmp_path / "exports").exists() and signal.getsignal(number) is before


def test_a_full_disk_is_one_line(tmp_path, files_of_at_most):
    with (
        files_of_at_most(3),
        pytest.raises(InputError, match=r"cannot write to .*exports: File too large"),
        workplace(tmp_path / "exports") as place,
    ):
        (place / "half").write_text("more than that")
    assert not (tmp_path / "exports").exists()
