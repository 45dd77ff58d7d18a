"""Flags from a file, and a configuration as a command."""

import shlex
from typing import Annotated

import pytest
from cyclopts import Parameter

from kcnn.errors import InputError
from kcnn.terminal import cli
from trainers.config import TrainConfig
from tuning.trials.settings import changed_flags, not_given, train_command, values_of_file, words


def settings_of(argv):
    """What a command gets that has the flags of a run and one of its own."""
    found = {}

    def command(
        *,
        config: TrainConfig | None = None,
        max_trials: int = 20,
        config_file: Annotated[str | None, Parameter("--config")] = None,
    ):
        found.update(config=config or TrainConfig(), max_trials=max_trials)

    assert cli.call(cli.make_app("command", command, values_of_file), argv, "command") == 0
    return found


def test_flags_win_over_a_file_and_a_file_over_defaults(tmp_path):
    path = tmp_path / "flags.yaml"
    path.write_text("max-trials: 8\nbatch_size: 64\nlr: 0.1\nflip: false\n")
    found = settings_of(["--config", str(path), "--lr", "0.5"])
    assert found["max_trials"] == 8
    assert found["config"] == TrainConfig(batch_size=64, lr=0.5, flip=False)
    assert settings_of([]) == {"config": TrainConfig(), "max_trials": 20}


@pytest.mark.parametrize("text, says", [
    (None, "no configuration at"), ("[1]", "lines like `epochs: 10` are needed"), ("a: [", "is not YAML"),
])  # fmt: skip
def test_a_file_that_is_none_is_named(tmp_path, text, says):
    path = tmp_path / "flags.yaml"
    if text:
        path.write_text(text)
    with pytest.raises(InputError, match=says):
        values_of_file({"--arch": "resnet-18", "--config": str(path)})


def test_a_command_has_what_is_not_the_default():
    config = TrainConfig(arch="resnet-18", data="my photos", epochs=3, flip=False, step_epochs=[3.0, 4.5], width=2.0)
    assert changed_flags(not_given(config, "epochs")) == {
        "arch": "resnet-18",
        "data": "my photos",
        "flip": False,
        "step_epochs": [3.0, 4.5],
        "width": 2.0,
    }
    program, command, *flags = shlex.split(train_command(changed_flags(config)))
    assert (program, command) == ("kcnn", "train") and settings_of(flags)["config"] == config
    assert words({"sync_bn": True, "resolution": None}) == ["--sync-bn"]
