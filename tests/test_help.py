"""Help texts, lists of commands, completion: what a newcomer asks first, and what needs no TensorFlow."""

import dataclasses
import importlib
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kcnn.terminal import cli
from trainers.config import TrainConfig

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(cli.COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_there(command, capsys):
    assert cli.main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert not err and f"kcnn {command}" in out
    # What launch starts prints as it always does, and data and runs have commands of its own.
    assert "--json" in out or command in ("launch", "data", "runs")


def test_help_of_train_names_every_flag(capsys):
    assert cli.main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    for field in dataclasses.fields(TrainConfig):
        assert field.name == "built_as" or f"--{field.name.replace('_', '-')}" in out  # which no flag can hold
    assert "--config" in out


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_kcnn_lists_its_commands(argv, capsys):
    assert cli.main(argv) == 0
    out = " ".join(word for word in capsys.readouterr().out.split() if word != "│")
    for command, (_, summary) in cli.COMMANDS.items():
        assert f"{command} {summary}" in out
    assert "--install-completion" in out and "--version" in out


@pytest.mark.parametrize(
    "typed, words", [("trian", "'trian' did you mean train?"), ("zzz", f"'zzz' {' '.join(COMMANDS)}")]
)
def test_an_unknown_command_is_one_line(typed, words, capsys):
    assert cli.main([typed]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words.split())


def test_the_version_is_the_project_s(capsys):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() in (project["version"], "a clone that is not installed")


def test_the_shell_completes_commands_and_flags(here, monkeypatch):
    # Loaded for the list, they are given the list's summary, and this process has more tests of their help.
    for module, _, name in (place.partition(":") for place, _ in cli.COMMANDS.values()):
        if name == "app":
            app = importlib.import_module(module).app
            monkeypatch.setattr(app, "help", app.help)
    assert cli.main(["--install-completion", "--shell", "bash", "--output", "completion.sh"]) == 0
    text = Path("completion.sh").read_text()
    for word in (*COMMANDS, "--label-smoothing", "--checkpoint", "--per-layer"):
        assert word in text


LIGHT = ["--help", "train --help", "train --show-recipe a2", "trian", "info --list", "info --list vgg-1*", "--version"]


def test_what_needs_no_keras_starts_without_it(here):
    """Keras and TensorFlow take seconds to load, which nobody should wait for who reads a help text."""
    code = """
import sys
from kcnn.terminal import cli
cli.main(sys.argv[1:])
print("keras" in sys.modules, "tensorflow" in sys.modules)
"""
    for argv in LIGHT:
        done = subprocess.run([sys.executable, "-c", code, *shlex.split(argv)], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "False False", argv
