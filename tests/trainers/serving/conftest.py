import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def exported(shot, tmp_path_factory):
    """(folder of the versions, reports of two exports of the run on the photos), which are only read."""
    from trainers.serving.exports import export_run

    folder = tmp_path_factory.mktemp("served") / "saved_model"
    flags = [{}, {"fold_bn": False, "signatures": ("image",), "top": 1}]
    return folder, [export_run(str(shot.folder), out=str(folder), images=16, seconds=0.0, **more) for more in flags]


@pytest.fixture(scope="session")
def standin():
    """The module of the server that stands in for TensorFlow Serving."""
    pytest.importorskip("tensorflow_serving", reason="pip install 'kcnn[serving]'")
    spec = importlib.util.spec_from_file_location("standin", Path(__file__).with_name("standin.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
