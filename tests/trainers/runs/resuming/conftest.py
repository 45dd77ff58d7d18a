"""Runs that go on, without the computations of training: the loop has a stand-in here, which leaves in a run's folder
what training would.
"""

import contextlib
import importlib
import subprocess
from types import SimpleNamespace

import pytest

from trainers.config import TrainConfig
from trainers.run import HISTORY, SERIES
from trainers.runs import files, folders, listeners

fitting = importlib.import_module("trainers.training")  # the package has its function under that name

ACCURACY = [0.5, 0.9, 0.6, 0.7, 0.8, 0.6]  # of the epochs in validation: the second is the best


class Killed(Exception):
    """In the place of a kill."""


def loop_stand_in(run, state, position, callbacks, until=None):
    """In the place of the loop: it leaves a line every step and a checkpoint every epoch, until it is killed."""
    return SimpleNamespace(train=lambda: stood_in(run, state, position, until))


def stood_in(run, state, position, until):
    training = SimpleNamespace(position=position, state=state)
    record, keep = listeners.Metrics(run).record, listeners.Checkpoints(run, changing=False).keep
    while position.step < run.plan.steps:
        position.step += 1
        epoch, within = divmod(position.step - 1, run.plan.steps_per_epoch)
        position.epoch = {name: [*values, 0.5] for name, values in position.epoch.items()}
        state.step.assign(position.step)
        record(training, {"step": position.step, "epoch": epoch + 1, "loss": 0.5})
        if position.step == until:
            raise Killed
        if within + 1 == run.plan.steps_per_epoch:
            accuracy = ACCURACY[epoch]
            figures = dict.fromkeys(HISTORY, 0.5) | {"val_accuracy": accuracy}
            record(training, {"step": position.step, "epoch": epoch + 1, "val_loss": 0.5})
            position.history.append(figures)
            position.epoch = {name: [] for name in SERIES}
            best, position.best = accuracy > position.best, max(accuracy, position.best)
            keep(training, best)
    return position.history[-1] | {"images_per_second": 1.0, "best_val_accuracy": position.best}


def concluded(run, position, result):
    """In the place of training.conclude, which evaluates and draws."""
    files.write_json(run.folder / folders.RESULT, result)
    return {}


@contextlib.contextmanager
def killed_at(step):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(fitting, "Training", lambda *args: loop_stand_in(*args, until=step))
        yield


def write_data(folder, counts=(24, 24)):
    """Files of one size, of which nobody looks at the pixels."""
    for part, share in (("train", 1), ("val", 3)):
        for name, count in zip(("cat", "dog"), counts, strict=True):
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(count // share):
                (place / f"{i:02}.bmp").write_bytes(f"{name} {i:03}".encode() * 20)
    return folder


def contents_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def epochs_of(folder):
    return [(line["epoch"], line["step"]) for line in folders.read_metrics(folder) if "val_loss" in line]


@pytest.fixture(autouse=True, scope="module")
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "Training", loop_stand_in)
        patch.setattr(fitting, "conclude", concluded)
        yield


@pytest.fixture(scope="session")
def flags(tiny):
    """The flags of `stopped`: epochs of 3 steps."""
    return {"arch": tiny["arch"], "width": 0.125, "resolution": 16, "epochs": 3, "batch_size": 480}


@pytest.fixture(scope="session")
def train(flags):
    """train(folder): runs `trainers.fit` there; with resume=True it goes on with the run there."""

    def call(folder, data="digits", resume=False, **more):
        if resume:
            return fitting.fit(TrainConfig(resume=str(folder), **more))
        # 3 steps an epoch, or 6
        batch = {} if data == "digits" else {"batch_size": 8, "recipe": "default"}
        return fitting.fit(TrainConfig(**flags | batch | more, data=str(data), run_dir=str(folder)))

    return call


@pytest.fixture
def stand_in():
    return loop_stand_in


@pytest.fixture
def killed():
    """with killed(step): a run in the block is killed after this step."""
    return killed_at


@pytest.fixture
def make_data():
    """make_data(folder): leaves 48 files for training and 16 for validation there, all of one size."""
    return write_data


@pytest.fixture
def contents():
    """contents(folder): the bytes of all files below it but the lock, by path."""
    return contents_of


@pytest.fixture
def epochs():
    """epochs(folder): (epoch, step) of each end of an epoch that the run's metrics tell of."""
    return epochs_of


@pytest.fixture(scope="session")
def stopped_once(tmp_path_factory, train):
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with killed_at(8):
        train(folder)
    return folder


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A run on digits, killed in its last epoch: checkpoints of steps 3 and 6, of which the second is the best."""
    subprocess.run(["cp", "-a", stopped_once, tmp_path / "run"], check=True)  # best.npz remains a second name of step 6
    return tmp_path / "run"


@pytest.fixture(scope="session")
def interrupted_once(tmp_path_factory, train):
    place = tmp_path_factory.mktemp("interrupted")
    with killed_at(8):
        train(place / "run", write_data(place / "data"))
    return place


@pytest.fixture
def interrupted(interrupted_once, tmp_path):
    """A run on files, killed in the second of its epochs of 6 steps, and its data."""
    subprocess.run(["cp", "-a", f"{interrupted_once}/.", tmp_path], check=True)
    path = tmp_path / "run" / folders.CONFIG
    path.write_text(path.read_text().replace(str(interrupted_once), str(tmp_path)))
    return tmp_path / "run", tmp_path / "data"
