import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def exported(shot, tmp_path_factory):
    """(folder of the versions, reports of two exports of the run on the photos), which are only read."""
    from trainers.serving.exports import export_run

    folder = tmp_path_factory.mktemp("served") / "saved_model"
    flags = {"out": str(folder), "images": 16, "seconds": 0.0}
    first = export_run(str(shot.folder), **flags)
    with pytest.MonkeyPatch.context() as patch:
        load_in_this_process(patch)
        return folder, [first, export_run(str(shot.folder), **flags, fold_bn=False, signatures=("image",), top=1)]


@pytest.fixture
def in_this_process(monkeypatch):
    """A SavedModel is loaded and compared in this process; another one would import TensorFlow, for seconds. The first
    export of `exported` has a process of its own."""
    load_in_this_process(monkeypatch)


def load_in_this_process(patch):
    from trainers.serving import reloaded, saved_model

    patch.setattr(saved_model, "reload", reloaded.main)


@pytest.fixture(scope="session")
def standin():
    """The module of the server that stands in for TensorFlow Serving."""
    pytest.importorskip("tensorflow_serving", reason="pip install '.[serving]'")
    spec = importlib.util.spec_from_file_location("standin", Path(__file__).with_name("standin.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
