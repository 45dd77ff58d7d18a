"""kcnn board: TensorBoard, on this machine alone."""

import json
import socket
import urllib.request

import pytest
import tensorflow as tf

from kcnn.board import board, launched
from kcnn.errors import InputError


def test_it_shows_the_runs_of_a_folder(tmp_path):
    with tf.summary.create_file_writer(str(tmp_path / "run")).as_default():
        tf.summary.scalar("train/loss", 1.0, step=1)
    url = launched(str(tmp_path), 0)
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(f"{url}data/runs", timeout=20) as answer:
        assert json.load(answer) in (["run"], [])  # it reads in the background


@pytest.mark.parametrize("folder, port, words", [("nowhere", 0, "no folder"), (".", 70000, "port 70000")])
def test_bad_input_is_one_line(folder, port, words):
    with pytest.raises(InputError, match=words):
        board(folder, port=port)


def test_a_port_in_use_is_told(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="it is in use; give another --port"):
            launched(str(tmp_path), taken.getsockname()[1])
