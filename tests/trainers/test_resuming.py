"""What a run that goes on makes of a folder and of data that are not as it left them.

The loop has a stand-in here, which leaves in the folder what training would, without its computations.
"""

import contextlib
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import yaml

from kcnn.errors import InputError, Interrupted
from trainers.config import TrainConfig
from trainers.run import HISTORY, SERIES
from trainers.runs import checkpoints, files, folders, listeners, provenance

fitting = importlib.import_module("trainers.training")  # the package has its function under that name

FLAGS = {"arch": "resnet-18", "width": 0.125, "depth": 0.5, "resolution": 16, "epochs": 3}
ACCURACY = [0.5, 0.9, 0.6, 0.7, 0.8, 0.6]  # of the epochs in validation: the second is the best


class Killed(Exception):
    """In the place of a kill."""


def stand_in(run, state, position, callbacks, until=None):
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


conclude = fitting.conclude


def concluded(run, position, result):
    files.write_json(run.folder / folders.RESULT, result)
    return {}


@pytest.fixture(autouse=True, scope="module")
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "Training", stand_in)
        patch.setattr(fitting, "conclude", concluded)
        yield


@pytest.fixture
def killed(monkeypatch):
    """killed(step): the next run is killed after this step."""

    def at(step):
        def once(*args):
            monkeypatch.setattr(fitting, "Training", stand_in)
            return stand_in(*args, until=step)

        monkeypatch.setattr(fitting, "Training", once)

    return at


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run on digits, killed in its last epoch: checkpoints of steps 3 and 6, of which the second is the best."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(fitting, "Training", lambda *args: stand_in(*args, until=8))
        train(folder)
    return folder


@pytest.fixture
def stopped(digits, tmp_path):
    """A copy of it."""
    subprocess.run(["cp", "-a", digits, tmp_path / "run"], check=True)  # best.npz remains a second name of step 6
    return tmp_path / "run"


@pytest.fixture(scope="module")
def interrupted_once(tmp_path_factory):
    place = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(fitting, "Training", lambda *args: stand_in(*args, until=8))
        train(place / "run", make_data(place / "data"))
    return place


@pytest.fixture
def interrupted(interrupted_once, tmp_path):
    """A run on files, killed in the second of its epochs of 6 steps, and its data."""
    subprocess.run(["cp", "-a", f"{interrupted_once}/.", tmp_path], check=True)
    path = tmp_path / "run" / folders.CONFIG
    path.write_text(path.read_text().replace(str(interrupted_once), str(tmp_path)))
    return tmp_path / "run", tmp_path / "data"


def make_data(folder, counts=(24, 24)):
    """Files of one size, of which nobody looks at the pixels."""
    for part, share in (("train", 1), ("val", 3)):
        for name, count in zip(("cat", "dog"), counts, strict=True):
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(count // share):
                (place / f"{i:02}.bmp").write_bytes(f"{name} {i:03}".encode() * 20)
    return folder


def train(folder, data="digits", resume=None, **flags):
    batch = {"batch_size": 480 if data == "digits" else 8}  # 3 steps an epoch, or 6
    if resume:
        return fitting.fit(TrainConfig(resume=str(folder), **flags))
    return fitting.fit(TrainConfig(**FLAGS | batch | flags, data=str(data), run_dir=str(folder)))


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def epochs(folder):
    return [(line["epoch"], line["step"]) for line in folders.read_metrics(folder) if "val_loss" in line]


# Data that changed.


def delete_most(data):
    for path in data.glob("train/*/*.bmp"):
        if int(path.stem) % 4:
            path.unlink()


def double(data):
    for path in list(data.glob("train/*/*.bmp")):
        shutil.copy(path, path.with_stem(f"copy-{path.stem}"))


def delete_one(data):
    (data / "train/cat/07.bmp").unlink()


def add_one(data):
    (data / "val/dog/new.bmp").write_bytes(b"x")


def exchange(data):
    """All files keep their names and their sizes."""
    for one, other in (("cat", "tmp"), ("dog", "cat"), ("tmp", "dog")):
        (data / "train" / one).rename(data / "train" / other)


def replace_one(data):
    (data / "train/dog/03.bmp").write_bytes(b"cow 003" * 20)


CHANGES = {
    delete_most: ["train: 12 images, it had 48 (cat 6, had 24; dog 6, had 24)", "36 files are gone ('train/cat/01."],
    double: ["train: 96 images, it had 48", "48 files are new ('train/cat/copy-00.bmp', "],
    delete_one: ["47 images, it had 48 (cat 23, had 24)", "1 file is gone ('train/cat/07.bmp')"],
    add_one: ["val: 17 images, it had 16 (dog 9, had 8)", "1 file is new ('val/dog/new.bmp')"],
    exchange: ["train: 48 files are of other contents ('train/cat/00.bmp', "],
    replace_one: ["train: 1 file is of other contents ('train/dog/03.bmp')"],
}  # fmt: skip


@pytest.mark.parametrize("change, words", CHANGES.items(), ids=[change.__name__ for change in CHANGES])
def test_changed_data_is_refused_and_told(interrupted, change, words):
    folder, data = interrupted
    change(data)
    before = contents(folder)
    with pytest.raises(InputError) as refused:
        train(folder, resume=True)
    assert all(word in str(refused.value) for word in [*words, "--data-changed accept"]), refused.value
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 600
    assert contents(folder) == before


@pytest.mark.parametrize("change, steps", [(delete_most, 1), (double, 12), (replace_one, 6)])
def test_changed_data_that_is_accepted_begins_the_epoch_anew(interrupted, change, steps):
    folder, data = interrupted
    change(data)
    result = train(folder, resume=True, data_changed="accept")
    [told] = result.figures["data_changes"]
    assert told["epoch"] == 2 and told["what"].startswith("train: ")
    assert epochs(folder) == [(1, 6), (2, 2 * steps), (3, 3 * steps)]
    assert [line["step"] for line in folders.read_metrics(folder) if "val_loss" not in line] == [
        *range(1, 7), *range(steps + 1, 3 * steps + 1)]  # fmt: skip
    assert (result.figures["steps"], result.figures["epochs"]) == (3 * steps, 3)
    arrays, extra = checkpoints.load(checkpoints.found(folder / "checkpoints")[-1])
    assert extra["step"] == int(arrays["step"])
    # Once accepted, it is the run's data.
    more = train(folder, resume=True, epochs=4)
    assert (more.figures["epochs"], more.figures["data_changes"]) == (4, [told])


def test_the_updates_follow_the_accepted_data(interrupted, monkeypatch):
    """The learning rate is that of the place in the run, not of the steps that were done."""
    folder, data = interrupted
    delete_most(data)
    seen = []

    def look(run, state, position, callbacks):
        seen.append((position.step, int(state.step), int(state.optimizer.iterations)))
        return stand_in(run, state, position, callbacks)

    monkeypatch.setattr(fitting, "Training", look)
    train(folder, resume=True, data_changed="accept")
    assert seen == [(1, 1, 1)]


def test_a_kill_after_changed_data_was_accepted_goes_on(interrupted, killed):
    folder, data = interrupted
    double(data)
    killed(13)  # before there is a checkpoint of the new data
    with pytest.raises(Killed):
        train(folder, resume=True, data_changed="accept")
    result = train(folder, resume=True)
    assert len(result.figures["data_changes"]) == 1
    assert epochs(folder) == [(1, 6), (2, 24), (3, 36)]


def test_a_finished_run_does_not_look_at_its_data(interrupted):
    folder, data = interrupted
    result = train(folder, resume=True)
    delete_most(data)
    assert train(folder, resume=True).figures == result.figures
    with pytest.raises(InputError, match="36 files are gone"):
        train(folder, resume=True, epochs=4)
    assert folders.is_finished(folder)


def test_a_run_of_an_earlier_version_goes_on(interrupted):
    folder, data = interrupted
    (folder / provenance.DATA).unlink()
    (folder / provenance.FILES).unlink()
    path = folder / folders.CONFIG
    path.write_text(
        "".join(line for line in path.read_text().splitlines(True) if not line.startswith(("data_changed", "sam")))
    )
    for path in checkpoints.found(folder / "checkpoints"):
        arrays, extra = checkpoints.load(path)
        del extra["steps_per_epoch"]
        np.savez(path, **arrays, extra=np.array(json.dumps(extra)))
    delete_one(data)
    assert train(folder, resume=True).figures["epochs"] == 3
    delete_most(data)  # from then on it is compared
    with pytest.raises(InputError, match="train: 12 images, it had 47"):
        train(folder, resume=True, epochs=4)


def test_the_list_of_files_may_be_lost(interrupted):
    """It is for the message alone."""
    folder, data = interrupted
    replace_one(data)
    packed = (folder / provenance.FILES).read_bytes()
    for damaged in (packed[:-9], packed[:20] + b"x" * 20, b"", None):
        (folder / provenance.FILES).unlink()
        if damaged is not None:
            (folder / provenance.FILES).write_bytes(damaged)
        else:
            (folder / provenance.FILES).mkdir()
        with pytest.raises(InputError, match="train: other images or labels, in the same number"):
            train(folder, resume=True)


def test_large_data_is_compared_by_names_sizes_and_samples(tmp_path, monkeypatch):
    """To read all of it would take as long as an epoch."""
    monkeypatch.setattr("trainers.data.folder._HASHED", 10)
    source = fitting.open_data(str(make_data(tmp_path / "data")))
    hashed = [name for name, _, digest in source.train.files() if digest]
    assert 0 < len(hashed) < 12 < len(source.train.files())
    provenance.record(tmp_path, source, [])
    exchange(tmp_path / "data")
    assert "of other contents" in provenance.difference(tmp_path, fitting.open_data(str(tmp_path / "data")))


# Checkpoints that are damaged, unreadable or gone.


def damage(path):
    data = path.read_bytes()
    path.unlink()  # best.npz may be the same file under another name
    path.write_bytes(data[: len(data) // 2])


def test_where_only_the_best_is_whole_the_run_goes_on_from_it(stopped):
    for path in checkpoints.found(stopped / "checkpoints"):
        damage(path)
    best = checkpoints.load(stopped / "checkpoints/best.npz")[1]
    result = train(stopped, resume=True)
    assert (best["step"], result.figures["steps"]) == (6, 9)
    assert epochs(stopped) == [(1, 3), (2, 6), (3, 9)]
    assert checkpoints.load(stopped / "checkpoints/best.npz")[1] == best
    assert {p.name for p in (stopped / "checkpoints").iterdir()} == {
        "best.npz", "step-000000003.npz.damaged", "step-000000006.npz.damaged", "step-000000009.npz"}  # fmt: skip


def test_where_none_is_whole_the_run_stops_and_nothing_is_touched(stopped):
    for path in (stopped / "checkpoints").iterdir():
        damage(path)
    before = contents(stopped)
    with pytest.raises(InputError, match=r"none of the 3 checkpoints in .* can be used, the newest: .*step-000000006"):
        train(stopped, resume=True)
    assert contents(stopped) == before


def test_a_name_that_was_given_to_a_damaged_one_is_not_given_again(stopped):
    newest, *_ = checkpoints.found(stopped / "checkpoints")
    newest.with_name(f"{newest.name}.damaged").write_bytes(b"an earlier one")
    damage(newest)
    train(stopped, resume=True)
    assert newest.with_name(f"{newest.name}.damaged").read_bytes() == b"an earlier one"
    assert newest.with_name(f"{newest.name}.damaged-1").exists()


def test_a_checkpoint_that_cannot_be_read_stops_the_run(stopped, monkeypatch):
    """It may be whole; who may not read it, or whose disk is away for a moment, must not lose it."""
    before, (newest, *_) = contents(stopped), checkpoints.found(stopped / "checkpoints")
    opened = os.open

    def refuse(path, *args, **kwargs):
        if str(path) == str(newest):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(
            InputError, match=r"step-000000006.npz: Permission denied: make it readable, or move it away"
        ):
            train(stopped, resume=True)
    assert contents(stopped) == before
    newest.unlink()
    newest.mkdir()
    with pytest.raises(InputError, match=r"step-000000006.npz: Is a directory: make it readable"):
        train(stopped, resume=True)


def test_a_disk_that_fails_while_it_is_read_is_no_damage(stopped, monkeypatch):
    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoints, "members", broken)
    before = contents(stopped)
    with pytest.raises(InputError, match=r"step-000000006.npz: Input/output error"):
        train(stopped, resume=True)
    assert contents(stopped) == before


@pytest.mark.parametrize("lose", [shutil.rmtree, lambda folder: [p.unlink() for p in folder.iterdir()]])
def test_lost_checkpoints_are_no_reason_to_begin_anew(stopped, lose):
    before = (stopped / folders.METRICS).read_bytes()
    lose(stopped / "checkpoints")
    with pytest.raises(InputError, match=r"figures up to step 8, and .*checkpoints has no checkpoint: put it back, or"):
        train(stopped, resume=True)
    assert (stopped / folders.METRICS).read_bytes() == before
    (stopped / folders.METRICS).unlink()  # as the message says
    assert train(stopped, resume=True).figures["steps"] == 9


@pytest.mark.parametrize("every", [None, 2])
def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path, killed, every):
    killed(2)
    with pytest.raises(Killed):
        train(tmp_path / "run")
    assert train(tmp_path / "run", resume=True, checkpoint_every=every).figures["steps"] == 9
    assert epochs(tmp_path / "run") == [(1, 3), (2, 6), (3, 9)]


def rename(arrays, extra):
    arrays["model/conv1_c0nv/kernel"] = arrays.pop(next(key for key in arrays if key.endswith("kernel")))


def retype(arrays, extra):
    arrays["step"] = arrays["step"].astype(np.float32)


def reshape(arrays, extra):
    arrays["model/logits/bias"] = arrays["model/logits/bias"][:5]


def forget(arrays, extra):
    del extra["epoch"]["loss"]


def mistake(arrays, extra):
    extra["history"] = [3]


def mislead(arrays, extra):
    extra["step"] = 3


def add(arrays, extra):
    extra["more"] = 3


@pytest.mark.parametrize("change", [rename, retype, reshape, forget, mistake, mislead, add])
def test_a_checkpoint_that_is_not_the_run_s_means_the_one_before(stopped, change):
    newest, *_ = checkpoints.found(stopped / "checkpoints")
    arrays, extra = checkpoints.load(newest)
    change(arrays, extra)
    newest.unlink()
    np.savez(newest, **arrays, extra=np.array(json.dumps(extra)))
    assert train(stopped, resume=True).figures["steps"] == 9
    assert newest.with_name(f"{newest.name}.damaged").exists() and epochs(stopped) == [(1, 3), (2, 6), (3, 9)]


def test_steps_are_numbers(tmp_path):
    for name in ("step-999999999.npz", "step-1000000000.npz", "step-000000010.npz", "step-x.npz", "step-1.npz.damaged"):
        (tmp_path / name).touch()
    assert [p.stem for p in checkpoints.found(tmp_path)] == ["step-1000000000", "step-999999999", "step-000000010"]


def test_lost_metrics_are_told(stopped, capsys):
    path = stopped / folders.METRICS
    path.write_text("".join(path.read_text().splitlines(True)[:2]))
    train(stopped, resume=True)
    assert "metrics.jsonl has only 2 of the 8 lines that the checkpoint remembers" in capsys.readouterr().err
    assert [line["step"] for line in folders.read_metrics(stopped)] == [1, 2, 7, 8, 9, 9]


# Files that were damaged or changed.

CONFIG_LINES = {
    "epochs: many": "epochs 'many': a whole number is needed",
    "epochs: 2.5": "epochs 2.5: a whole number is needed",
    "epochs: null": "epochs None: a whole number is needed",
    "epochs: -1": "epochs -1: a whole number of 1 or more is needed",
    "epochs: 99999999999": "epochs 99999999999: a number of at most 2147483647 is needed",
    "epochs: [1, 2]": r"epochs \[1, 2\]: a whole number is needed",
    "lr: .nan": "lr nan",
    "flip: 1": "flip 1: true or false is needed",
    "optimizer: adam": "optimizer 'adam': one of sgd, rmsprop",
    "progressive: []": r"progressive \[\]",
    "step_epochs: 3": "step_epochs 3: a list of numbers is needed",
    "arch: 18": "arch 18: text or an architecture.s fields is needed",
    "width: true": "width True: a number is needed",
    "surprise: 1": "sets 'surprise', which is no flag",
    "lr: *x": "aliases are not taken|undefined alias",
}


@pytest.mark.parametrize("line, words", CONFIG_LINES.items(), ids=CONFIG_LINES)
def test_a_changed_config_is_one_line_with_its_name(stopped, line, words):
    path, name = stopped / folders.CONFIG, line.partition(":")[0]
    lines = yaml.safe_dump({key: value for key, value in yaml.safe_load(path.read_text()).items() if key != name})
    path.write_text(lines + line)
    for use in (lambda: train(stopped, resume=True), lambda: checkpoints.load_run(stopped)):
        with pytest.raises(InputError, match=f"config.yaml.*({words})"):
            use()


def truncate(text):
    return text[: len(text) // 2]


OTHERS = {
    "no classes": (folders.CLASSES, lambda text: "[]", "a list of class names is needed"),
    "a class twice": (folders.CLASSES, lambda text: '["0", "0"]', "a list of class names is needed"),
    "numbers for classes": (folders.CLASSES, lambda text: "[0, 1]", "a list of class names is needed"),
    "half the classes": (folders.CLASSES, truncate, "not JSON"),
    "a mapping of classes": (folders.CLASSES, lambda text: '{"0": "1"}', "holds dict, where list is needed"),
    "no more classes": (folders.CLASSES, None, "No such file"),
    "damaged metrics": (folders.METRICS, lambda text: text.replace("}", "]", 1), "line 1 is not JSON"),
    "half the record of data": (provenance.DATA, truncate, "not JSON"),
    "a record of no data": (provenance.DATA, lambda text: "{}", "has no train"),
    "a record without counts": (provenance.DATA, lambda text: text.replace('"images"', '"pictures"'), "has no images"),
}


@pytest.mark.parametrize("name, change, words", OTHERS.values(), ids=OTHERS)
def test_another_damaged_file_is_one_line_with_its_name(stopped, name, change, words):
    path = stopped / name
    text = path.read_text()
    path.unlink()
    if change:
        path.write_text(change(text))
    with pytest.raises(InputError, match=f"{name}.*{words}"):
        train(stopped, resume=True)


RESULTS = {"planned": ('"many"', "planned 'many': a whole number is needed"), "val_loss": ("null", "val_loss None"),
           "seconds": ("[]", r"seconds \[\]")}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_a_changed_result_is_one_line_with_its_name(stopped, name):
    train(stopped, resume=True)
    path, (value, words) = stopped / folders.RESULT, RESULTS[name]
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: json.loads(value)}))
    with pytest.raises(InputError, match=f"result.json: {words}"):
        train(stopped, resume=True)


def test_a_bad_folder_in_logs_does_not_stop_resume_auto(stopped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    stopped.rename(tmp_path / "logs/good")
    good = (tmp_path / "logs/good/config.yaml").read_text()
    for name, text in {"bomb": "a: &a [x]\nb: *a\n", "list": "- 1\n", "type": good.replace("epochs: 3", "epochs: x"),
                       "key": "1: 2\n", "classes": good}.items():  # fmt: skip
        (tmp_path / "logs" / name).mkdir()
        (tmp_path / "logs" / name / "config.yaml").write_text(text)
    (tmp_path / "logs/classes/classes.json").write_text("[[[")
    (tmp_path / "logs/link").mkdir()
    (tmp_path / "logs/link/config.yaml").symlink_to("nowhere")
    (tmp_path / "logs/pipe").mkdir()
    os.mkfifo(tmp_path / "logs/pipe/config.yaml")
    (tmp_path / "logs/locked").mkdir()
    (tmp_path / "logs/locked/config.yaml").write_text(good)
    shutil.copy(tmp_path / "logs/good/classes.json", tmp_path / "logs/locked")
    (tmp_path / "logs/locked/.lock").symlink_to("elsewhere")
    result = fitting.fit(TrainConfig(**FLAGS, batch_size=480, resume="auto"))
    assert result.folder == Path("logs/good") and result.figures["epochs"] == 3


# Symbolic links in a run's folder.


@pytest.mark.parametrize("name", [".lock", *folders.FOLDERS])
def test_what_training_writes_to_may_be_no_link(stopped, tmp_path, name):
    precious = tmp_path / "precious"
    precious.mkdir()
    if name == ".lock":
        (stopped / name).unlink()
        precious = precious / "file"
        precious.write_text("old")
    elif (stopped / name).exists():
        shutil.copytree(stopped / name, precious, dirs_exist_ok=True)
        shutil.rmtree(stopped / name)
    (stopped / name).symlink_to(precious)
    before = contents(tmp_path / "precious")
    with pytest.raises(InputError, match=f"{name} is a symbolic link, which a run does not follow"):
        train(stopped, resume=True)
    assert contents(tmp_path / "precious") == before


def test_links_among_the_files_are_not_followed(stopped, tmp_path):
    names = [folders.METRICS, folders.RESULT, "checkpoints/step-000000009.npz", "checkpoints/best.npz"]
    target = tmp_path / "precious"
    for name in names:
        path = stopped / name
        target.with_name(path.name).write_bytes(path.read_bytes() if path.exists() else b"old")
        path.unlink(missing_ok=True)
        path.symlink_to(target.with_name(path.name))
    (stopped / folders.RESULT).unlink()
    (stopped / folders.RESULT).symlink_to(tmp_path / "nowhere")
    before = {name: (tmp_path / Path(name).name).read_bytes() for name in names if name != folders.RESULT}
    train(stopped, resume=True, epochs=5)
    assert {name: (tmp_path / Path(name).name).read_bytes() for name in before} == before
    assert not (tmp_path / "nowhere").exists()


# Signals, races, and folders that vanish.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("where", ["make", "conclude"])
def test_a_signal_outside_the_loop_stops_the_run_which_goes_on(tmp_path, monkeypatch, number, where):
    function, before = getattr(fitting, where), signal.getsignal(number)

    def told(*args):
        with contextlib.suppress(Exception):  # as TensorFlow's tracing has it
            os.kill(os.getpid(), number)
        return function(*args)

    with monkeypatch.context() as patch:
        patch.setattr(fitting, where, told)
        with pytest.raises(Interrupted, match=rf"{number.name}: go on with --resume {tmp_path / 'run'}"):
            train(tmp_path / "run")
    assert signal.getsignal(number) is before and not folders.is_finished(tmp_path / "run")
    assert train(tmp_path / "run", resume=True).figures["steps"] == 9
    assert epochs(tmp_path / "run") == [(1, 3), (2, 6), (3, 9)]


@pytest.mark.parametrize("where", [
    "keras.Model.save", *(pytest.param(f"trainers.{name}", marks=pytest.mark.slow) for name in (
        "training.evaluate_train_sample", "reports.card.curves_png", "reports.card.card"))])  # fmt: skip
def test_a_conclusion_that_is_stopped_or_finds_no_room_can_be_had_again(stopped, monkeypatch, where):
    """Each of its files is whole or not there, and result.json, which says that all are there, is the last."""
    monkeypatch.setattr(fitting, "conclude", conclude)

    def told(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)

    def full(*args, **kwargs):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        return function(*args, **kwargs)

    module, _, name = where.rpartition(".")
    place = keras.Model if module == "keras.Model" else importlib.import_module(module)
    function, before = getattr(place, name), resource.getrlimit(resource.RLIMIT_FSIZE)
    for instead, error, words in ((told, Interrupted, "SIGTERM: go on with"), (full, InputError, "File too large")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, instead)
            try:
                with pytest.raises(error, match=words):
                    train(stopped, resume=True)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not folders.is_finished(stopped) and not list(stopped.rglob("*partial*"))
        if (stopped / "model.keras").exists():
            keras.saving.load_model(stopped / "model.keras")
    result = train(stopped, resume=True)
    assert {"model.keras", "curves.png", "card.md", folders.RESULT} <= {path.name for path in stopped.iterdir()}
    assert (result.figures["steps"], epochs(stopped)) == (9, [(1, 3), (2, 6), (3, 9)])


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders.time, "strftime", lambda _: "now")
    config = TrainConfig(**FLAGS, batch_size=480)
    jobs = [fitting.prepare(*fitting.new_or_resumed(config)) for _ in range(2)]  # neither has a folder yet
    assert [job.folder for job in jobs] == [Path("logs/resnet-18-digits-now")] * 2
    with contextlib.ExitStack() as stack:
        made = [fitting.enter(job, stack)[0] for job in jobs]
    assert made == [Path("logs/resnet-18-digits-now"), Path("logs/resnet-18-digits-now-1")]
    assert all(folders.is_run(folder) for folder in made)


def test_a_folder_removed_under_a_run_is_noticed_and_not_made_again(tmp_path, monkeypatch):
    def removed(run, state, position, callbacks):
        shutil.rmtree(run.folder)
        return stand_in(run, state, position, callbacks)

    monkeypatch.setattr(fitting, "Training", removed)
    with pytest.raises(InputError, match=r"cannot write .*metrics.jsonl: its folder is gone"):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_does_not_bring_a_removed_folder_back(tmp_path, stopped):
    state = fitting.make(fitting.prepare(*fitting.new_or_resumed(TrainConfig(resume=str(stopped)))))
    with pytest.raises(InputError, match=r"cannot write .*best.npz: its folder is gone"):
        checkpoints.save(tmp_path / "gone/checkpoints", "best", state, {})
    assert not (tmp_path / "gone").exists()


# What evaluation, prediction and export open.


def test_weights_that_are_no_numbers_are_told(stopped):
    path, *_ = checkpoints.found(stopped / "checkpoints")
    arrays, extra = checkpoints.load(path)
    arrays = {key: np.array(array) for key, array in arrays.items()}
    arrays["model/logits/bias"][3] = np.nan
    path.unlink()
    np.savez(path, **arrays, extra=np.array(json.dumps(extra)))
    with pytest.raises(InputError, match=r"step-000000006.npz: a number of 'model/logits/bias' is nan"):
        checkpoints.load_run(stopped)


def test_a_network_that_the_checkpoint_does_not_fit_takes_no_memory(stopped, monkeypatch):
    path = stopped / folders.CONFIG
    path.write_text(path.read_text().replace("width: 0.125", "width: 4.0"))
    built = []
    network = checkpoints.network
    monkeypatch.setattr(checkpoints, "network", lambda *args: built.append(args) or network(*args))
    with pytest.raises(InputError, match=r"step-000000006.npz: 'model/stem1_conv.*' is .*, this run has"):
        checkpoints.load_run(stopped)
    assert len(built) == 1  # without its weights


def header(shape, dtype="<f4"):
    """An .npy that claims to be of this shape, and holds nothing."""
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape})
    text += " " * (63 - (10 + len(text)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize("data", [
    header((10**13, 2)), header((2**64,)), header((-1, -4)), header((3,), "|O"), header((0, 2**70)),
    b"\x93NUMPY\x09\x00", header((1,)) + bytes(8), b"", header("x"),
])  # fmt: skip
def test_a_header_is_not_believed(stopped, data):
    import zipfile

    path, *_ = checkpoints.found(stopped / "checkpoints")
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("step.npy", data)
    with pytest.raises(checkpoints.Damaged, match=r"step-000000006.npz is damaged"):
        checkpoints.load(path)


def test_what_a_zip_blows_up_is_not_unpacked(stopped):
    path, *_ = checkpoints.found(stopped / "checkpoints")
    path.unlink()
    np.savez_compressed(path, zeros=np.zeros(2**24), extra=np.array("{}"))
    with pytest.raises(checkpoints.Damaged, match="its directory lists more than it holds"):
        checkpoints.load(path)


def test_configurations_keep_to_what_they_are(stopped):
    """What is read is what was written."""
    saved = folders.read_config(stopped).flags
    assert replace(saved, run_dir=None) == fitting.resolve(TrainConfig(**FLAGS, batch_size=480)).flags
