import contextlib
import resource
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def run(shot, tmp_path):
    """A copy of the run on the photos, which a test may change."""
    return Path(
        shutil.copytree(shot.folder, tmp_path / "run", ignore=shutil.ignore_patterns("evaluat*", "confusion.png"))
    )


@pytest.fixture
def files_of_at_most():
    """A block in which no file can be larger than so many bytes, as under `ulimit -f`."""

    @contextlib.contextmanager
    def limit(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.fixture
def everything():
    """everything(folder): the contents of all files below it, by name."""
    return lambda folder: {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
