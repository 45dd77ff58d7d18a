"""Which folder may import which: the arrows of the design."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The rooms of kcnn that make and measure networks: each imports only those before it.
ROOMS = (
    *("errors", "terminal", "arch", "families", "notation", "blocks", "layers", "weights"),
    *("builder", "drawing", "analysis", "scaling", "pyramid", "diagnosis"),
)
WITH_KERAS = {"layers", "diagnosis"}
COMMANDS = {
    *(
        "train",
        "evaluate",
        "predict",
        "export",
        "info",
        "budget",
        "data",
        "explain",
        "find_lr",
        "diagnosing",
        "runs",
        "report",
        "board",
        "benchmark",
    ),
    "diagnose",  # which only starts diagnosing, as its own name is that of a public function
    "__main__",
}


def imports(path, everywhere):
    """Modules a file imports: anywhere in it, or at import time alone."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = ast.walk(tree) if everywhere else top_level(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top_level(node):
    """What runs when the file is imported: no function's body, and nothing that type checkers alone read."""
    for child in ast.iter_child_nodes(node):
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        if not function and not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from top_level(child)


def files(package):
    return sorted((ROOT / package).rglob("*.py"))


def reaches(path, names, everywhere=True):
    return [name for name in imports(path, everywhere) if any(name == n or name.startswith(n + ".") for n in names)]


@pytest.mark.parametrize("path", files("kcnn"), ids=lambda p: str(p.relative_to(ROOT)))
def test_networks_know_no_trainer_and_no_tensorflow(path):
    command = path.parent.name == "kcnn" and path.stem in COMMANDS
    forbidden = [] if command else ["trainers", "tuning"]
    fused = path.parent.name == "layers"  # TensorFlow's fused kernels, where it is the backend
    assert not reaches(path, forbidden + ([] if fused else ["tensorflow"]), everywhere=not command)


@pytest.mark.parametrize("path", files("trainers"), ids=lambda p: str(p.relative_to(ROOT)))
def test_trainers_know_no_tuning_and_no_command(path):
    assert not reaches(path, ["tuning", *(f"kcnn.{name}" for name in COMMANDS)])


@pytest.mark.parametrize("path", files("kcnn/families"), ids=lambda p: p.name)
def test_families_know_architectures_alone(path):
    ours = reaches(path, ["kcnn"])
    assert all(name.startswith(("kcnn.arch", "kcnn.errors", "kcnn.families")) or name == "kcnn" for name in ours)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_know_those_before_them_and_keras_only_where_it_is_needed(room):
    module = ROOT / "kcnn" / f"{room}.py"
    for path in [module] if module.exists() else files(f"kcnn/{room}"):
        known = [f"kcnn.{other}" for other in ROOMS[: ROOMS.index(room) + 1]]
        ours = set(reaches(path, ["kcnn"])) - {"kcnn"}
        assert ours == set(reaches(path, known)) - {"kcnn"}, path
        assert room in WITH_KERAS or not reaches(path, ["keras", "tensorflow", "numpy", "kcnn.layers"], False), path


def test_nobody_imports_a_command():
    for package in ("kcnn", "trainers", "tuning"):
        for path in files(package):
            leaves = COMMANDS - {"__main__"} - ({"diagnosing"} if path.name == "diagnose.py" else set())
            assert not reaches(path, [f"kcnn.{name}" for name in leaves]), path
