"""--imports: a builder of one's own is known once its module was imported, and no run makes anyone import it again."""

import sys

import pytest

import kcnn.evaluate
import kcnn.train
from kcnn.errors import InputError
from trainers.data import open_data
from trainers.data.tfds_source import import_builders

MODULE = """
import numpy as np
import tensorflow_datasets as tfds


class {name}(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        label = tfds.features.ClassLabel(names=["dark", "light"])
        features = {{"image": tfds.features.Image(shape=(16, 16, 3)), "label": label}}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {{"train": self._generate_examples(40), "test": self._generate_examples(10)}}

    def _generate_examples(self, count):
        for k in range(count):
            yield k, {{"image": np.full((16, 16, 3), 200 * (k % 2) + k, np.uint8), "label": k % 2}}
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(module, name):
        (tmp_path / f"{module}.py").write_text(MODULE.format(name=name))

    return write


@pytest.mark.parametrize("form", ["{}", "{}.py"])
def test_a_module_or_a_file_makes_its_builder_known(written, form, tmp_path):
    module, name = ("imports_one", "ImportsOne") if form == "{}" else ("imports_two", "ImportsTwo")
    written(module, name)
    with pytest.raises(InputError, match="--imports"):
        open_data(f"tfds:{module}", data_dir=str(tmp_path / "data"))
    import_builders([form.format(module)])
    source = open_data(f"tfds:{module}", data_dir=str(tmp_path / "data"))
    assert source.classes == ("dark", "light") and (source.train.size, source.val.size) == (40, 10)


@pytest.mark.parametrize(
    "text, words", [(None, "ModuleNotFoundError"), ("1 / 0", "ZeroDivisionError"), ("a b", "Syntax")]
)
def test_what_cannot_be_imported_is_one_line(written, tmp_path, text, words):
    if text:
        (tmp_path / f"imports_{words.lower()}.py").write_text(text)
    with pytest.raises(InputError, match=f"imports 'imports_{words.lower()}': it cannot be imported .{words}"):
        import_builders([f"imports_{words.lower()}"])


@pytest.mark.slow
def test_a_run_does_not_keep_it(written, tiny, tmp_path, no_pictures):
    written("imports_three", "ImportsThree")
    flags = tiny | {"batch_size": 8, "epochs": 1, "data": "tfds:imports_three", "data_dir": "data", "run_dir": "run"}
    words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    with pytest.raises(SystemExit) as left:
        kcnn.train.main([*words, "--imports", "imports_three"])
    assert left.value.code == 0
    assert "imports" not in (tmp_path / "run" / "config.yaml").read_text().replace("imports_three", "")
    del sys.modules["imports_three"]
    with pytest.raises(SystemExit) as left:
        kcnn.evaluate.main(["run"])
    assert left.value.code == 0 and "imports_three" not in sys.modules
