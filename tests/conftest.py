import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
# One thread for each worker of pytest-xdist and for each process that a test starts: tiny networks gain nothing from
# more, and workers that share cores lose by them. TensorFlow reads these when it is imported.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import io
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

STARTED = time.monotonic()


def pytest_addoption(parser):
    parser.addoption("--budget", type=float, help="skip the tests that this many seconds leave no time to begin")


def pytest_runtest_setup(item):
    """CI has a limit of time and runs on machines of any speed: what a slow one cannot do is said, not forgotten."""
    budget = item.config.getoption("budget")
    if budget and time.monotonic() - STARTED > budget:
        pytest.skip(f"not begun: the {budget:g} seconds of --budget are over")


def pytest_configure(config):
    # Our own warnings are errors; other people's are theirs.
    for module in ("kcnn", "trainers", "tuning"):
        warnings.filterwarnings("error", module=rf"{module}(\..*)?")
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # the process that shares out the tests runs none, and need not wait for TensorFlow
    import tensorflow as tf

    import kcnn  # noqa: F401  (turns on oneDNN)

    # Before TensorFlow starts: two replicas on the one CPU.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )


def pytest_collection_modifyitems(config, items):
    """Leaves out the exhaustive tests, also with `-m "not slow"`, unless the command names them. Begins with those
    that have minutes to run, so that the last of several processes has not one of them to itself."""
    items.sort(key=allowed_seconds, reverse=True)
    if "exhaustive" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if item.get_closest_marker("exhaustive")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("exhaustive")]


def pytest_collection_finish():
    """What was imported stays to the end: the garbage collector, which a search calls after each trial, need not look
    through TensorFlow's and Keras's 400,000 objects every time."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """Says how many comparisons with other libraries ran, and how far the worst is off: what is skipped looks
    green, too."""
    reports = [r for outcome in ("passed", "failed") for r in terminalreporter.stats.get(outcome, [])]
    compared = [dict(r.user_properties) for r in reports if any(key == "family" for key, _ in r.user_properties)]
    torch = [found for found in compared if not found["family"].endswith(" keras")]
    shares = [share for found in compared for key, share in found.items() if key != "family"]
    if compared:
        terminalreporter.write_line(
            f"{len(torch)} networks compared with PyTorch, {len(compared) - len(torch)} with keras.applications; "
            f"logits differ by at most {max(shares, default=0):.1e} of the largest"
        )


def allowed_seconds(item):
    """A timeout of a test's own that is longer than that of all, or 0."""
    marker = item.get_closest_marker("timeout")
    return marker.args[0] if marker and marker.args[0] > 900 else 0


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """JPEGs cut from the two photographs that scikit-learn ships: photos/{train,val}/{china,flower}/*.jpg."""
    from sklearn.datasets import load_sample_image

    root = tmp_path_factory.mktemp("photos")
    draws = np.random.default_rng(0)
    for name in ("china", "flower"):
        picture = load_sample_image(f"{name}.jpg")
        for part, count in (("train", 24), ("val", 8)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                top, left = draws.integers(0, picture.shape[0] - 160), draws.integers(0, picture.shape[1] - 200)
                Image.fromarray(picture[top : top + 160, left : left + 200]).save(folder / f"{i}.jpg", quality=90)
    return root


# Two stages of one block each. A point of AnyNet's design space has a name that any process can build it from, and is
# traced in less than half of the time that resnet-18 takes.
ARCH = "anynetx-d1x1-w64x512-g512"
TINY = {"arch": ARCH, "width": 0.125, "resolution": 16, "batch_size": 64, "lr": 3e-3, "warmup_epochs": 0.0}


@pytest.fixture(scope="session")
def tiny():
    """The flags of a run that takes a few seconds, most of which TensorFlow spends on tracing its functions."""
    return dict(TINY)


@pytest.fixture
def no_pictures(monkeypatch):
    """For a test that trains and does not look at the run's pictures: matplotlib renders nothing, and TensorBoard gets
    black images instead of the first batch. Both would take as long as a tiny network's training."""
    without_pictures(monkeypatch)


def without_pictures(patch):
    blank = io.BytesIO()
    Image.new("RGB", (1, 1)).save(blank, "PNG")

    def savefig(figure, file, format=None, **_):
        file.write(b"<svg/>" if format == "svg" else blank.getvalue())

    patch.setattr("matplotlib.figure.Figure.savefig", savefig)
    patch.setattr("trainers.reports.evaluation_board.show", lambda *_: None)
    patch.setattr(
        "trainers.runs.showing.first_images", lambda run, step: (np.zeros((2, 16, 16, 3), np.uint8), ["a", "b"])
    )


@pytest.fixture
def training_only(monkeypatch):
    """For a test of what happens up to the last step: as `no_pictures`, and a finished run leaves its figures in
    result.json without a verdict, a card and model.keras."""
    without_conclusion(monkeypatch)


@pytest.fixture(scope="module")
def training_only_in_this_module():
    """The same from the first test of a module that uses it to the module's last one."""
    with pytest.MonkeyPatch.context() as patch:
        without_conclusion(patch)
        yield


def without_conclusion(patch):
    import importlib

    from trainers.runs import files, folders

    def conclude(run, position, result):
        files.write_json(run.folder / folders.RESULT, result)
        return {}

    without_pictures(patch)
    # The package has its function `fit` beside the module.
    patch.setattr(importlib.import_module("trainers.training"), "conclude", conclude)


@pytest.fixture(scope="session")
def shot(tmp_path_factory, tiny, photos):
    """A finished run on the photos, whose folder is only read."""
    import trainers

    flags = tiny | {"recipe": "default", "resolution": 32, "batch_size": 16}
    folder = tmp_path_factory.mktemp("runs") / "photos"
    return trainers.fit(trainers.TrainConfig(**flags, data=str(photos), epochs=2, run_dir=str(folder)))


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny):
    """A finished run on digits, whose folder is only read."""
    import trainers

    return trainers.fit(trainers.TrainConfig(**tiny, epochs=2, run_dir=str(tmp_path_factory.mktemp("runs") / "digits")))


@pytest.fixture(scope="session")
def interrupted():
    """interrupted(words, folder, seconds=0): see interrupt."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("what another process has loaded is read from /proc")
    return interrupt


def interrupt(words, folder, seconds=0.0, loads="libtensorflow_cc"):
    """(exit code, what it printed, its errors) of `python -m WORDS` in a folder, which gets Ctrl-C so many seconds
    after it has begun to load a library."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        # A shell's background jobs ignore Ctrl-C, and so would all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while process.poll() is None and loads not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.02)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err
    finally:
        process.kill()


@pytest.fixture(scope="session")
def same_run():
    """same_run(result, expected): asserts that figures, metrics and checkpoints are equal to the bit."""
    return assert_same_run


def metrics(folder):
    from trainers.runs import folders

    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in folders.read_metrics(folder)]


def assert_same_checkpoint(a, b):
    from trainers.runs import checkpoints

    (arrays, extra), (others, other_extra) = checkpoints.load(a), checkpoints.load(b)
    assert arrays.keys() == others.keys() and extra == other_extra
    for key in arrays:
        np.testing.assert_array_equal(arrays[key], others[key], err_msg=key)


def assert_same_run(result, expected):
    from trainers.runs import checkpoints

    timed = {"seconds", "images_per_second", "run_dir"}
    for key in expected.figures.keys() - timed:
        assert result.figures[key] == expected.figures[key], key
    assert metrics(result.folder) == metrics(expected.folder)
    names = [p.name for p in checkpoints.found(expected.folder / "checkpoints")]
    assert [p.name for p in checkpoints.found(result.folder / "checkpoints")] == names
    for name in [*names, "best.npz"]:
        assert_same_checkpoint(result.folder / "checkpoints" / name, expected.folder / "checkpoints" / name)
