"""README and docs: their commands are ones that kcnn takes as they stand, and their programs run."""

import ast
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import cyclopts
import pytest

import kcnn
from kcnn.errors import InputError
from kcnn.terminal import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page):
    """The command lines of kcnn in a page, as words."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # NAME=value before a command
                del words[0]
            if words[:1] == ["kcnn"]:
                yield words[1:]
            elif words[:2] == ["python", "-m"] and words[2].startswith("kcnn."):
                yield [words[2].removeprefix("kcnn.").replace("_", "-"), *words[3:]]


COMMANDS = [pytest.param(words, id=f"{p.name}: {shlex.join(words)}"[:100]) for p in PAGES for words in commands(p)]


def test_commands_are_found():
    assert len(COMMANDS) > 80


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_is_one_that_kcnn_takes(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if words and words[0] not in cli.COMMANDS:
        assert words[0].startswith("--"), words
    app = cli.kcnn(words[0] if words else "--help")
    try:
        app.parse_args(words, exit_on_error=False, print_error=False)
    except (InputError, cyclopts.CycloptsError) as error:  # a file that the page speaks of, and that is not here
        assert re.search(r"no such file|cannot be read", str(error), re.IGNORECASE), error


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        if not target.startswith(("http", "mailto")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_is_python(page):
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    """Its cells one after the other, and what each shows: a notebook takes what `_repr_html_` gives."""
    monkeypatch.chdir(tmp_path)
    space = {}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            *lines, last = ast.parse("".join(cell["source"])).body
            exec(compile(ast.Module(lines, []), str(path), "exec"), space)
            if not isinstance(last, ast.Expr):
                exec(compile(ast.Module([last], []), str(path), "exec"), space)
                continue
            shown = eval(compile(ast.Expression(last.value), str(path), "eval"), space)
            for name in ("_repr_html_", "_repr_svg_"):
                assert not hasattr(shown, name) or getattr(shown, name)().startswith("<")


@pytest.mark.slow
def test_who_follows_the_first_guide_gets_to_a_prediction(tmp_path, monkeypatch, photos):
    """Its commands as they stand, but for the time, the size and what needs Docker, then its program."""
    monkeypatch.chdir(tmp_path)
    os.symlink(photos, tmp_path / "photos")
    page = ROOT / "docs" / "first.md"
    ran = []
    for words in commands(page):
        if "--server" not in words and words != ["train", "--resume", "logs/first"]:
            words = [{"--time": "--epochs", "2m": "2", "128": "32"}.get(word, word) for word in words]
            words += ["--width", "0.25"] if words[0] == "train" else []
            assert cli.main(words) == 0, words
            ran.append(words[0])
    assert ran == ["data", "train", "evaluate", "predict", "export"]
    [program] = blocks(page, "python")
    exec(compile(program, str(page), "exec"), {})


# So that a command takes seconds, these flags have these values in the place of their own, and it gets those that it
# lacks; and what is left out, with the reason.
TINY = {"--width": "0.25", "--resolution": "32"}
TRAINED = {**TINY, "--epochs": "2", "--batch-size": "8"}
SHORT = {
    "train": TRAINED, "diagnose": {**TINY, "--images": "16"}, "find-lr": {**TINY, "--batch-size": "8"},
    "benchmark": {**TINY, "--batch-size": "2", "--seconds": "0.1"},
    "search": {**TRAINED, "--max-trials": "2", "--max-macs": "100M"},
    "compound": {**TRAINED, "--trials": "2", "--tolerance": "0.9"},
}  # fmt: skip
ALSO = {"--unfreeze-epoch": "2", "--phi": "1"}  # these have these values where they are given
LEFT_OUT = {
    "--weights imagenet": "it downloads", "--server": "it asks a server: tests/trainers/serving has one",
    "board": "it runs until Ctrl-C: tests/kcnn/test_board.py", "--time": "tests/trainers/auto has it",
    "litert": "tests/trainers/serving has it", "study": "tests/tuning/studies has it",
    "design-space": "tests/tuning/test_design_space.py", "gs://": "it reads a bucket",
    "launch": "it starts processes: tests/trainers/test_launch.py", "--replicas": "tests/trainers/distribute has it",
    "--multi-label": "tests/trainers/multilabel has it", "localhost:8500": "it asks a server: tests/trainers/serving",
}  # fmt: skip
SHORTER = {"epochs=30": "epochs=1, width=0.25, resolution=32, batch_size=8", "max_trials=20": "max_trials=2",
           'run_dir="logs/mine"': 'run_dir="logs/mine", epochs=1, width=0.25, resolution=32, batch_size=8'}  # fmt: skip


def shortened(words):
    """A command as it is run here; none of what stands for the name of a run is left."""
    words = ["logs/RUN" if word.endswith("...") else word for word in words]
    short = {} if {"--resume", "--list-recipes", "--show-recipe"} & {*words} else SHORT.get(words[0], {})
    if words[:2] == ["diagnose", "logs/RUN"]:
        short = {"--images": "16"}
    given = {i: short | ALSO for i, word in enumerate(words) if word in (short | ALSO)}
    for i, values in given.items():
        words[i + 1] = values[words[i]]
    return [*words, *(word for pair in short.items() if pair[0] not in words for word in pair)]


@pytest.fixture(scope="module")
def place(tmp_path_factory, photos):
    """A folder with what the pages speak of: photos/ with a list of some, few/, holiday/, cat.jpg and logs/RUN."""
    root = tmp_path_factory.mktemp("place")
    shutil.copytree(photos, root / "photos")
    for name in ("few", "holiday"):
        shutil.copytree(photos / "train", root / name)
    for name in ("cat.jpg", "beach.jpg"):
        shutil.copy(photos / "val" / "china" / "0.jpg", root / name)
    paths = sorted((root / "photos" / "train").rglob("*.jpg"))
    lines = [f"{path.relative_to(root / 'photos')},{path.parent.name}\n" for path in paths]
    (root / "photos" / "list.csv").write_text("path,label\n" + "".join(lines))
    run = f"train --arch resnet-18 --data {root}/photos --run-dir {root}/logs/RUN --epochs 1 --width 0.25".split()
    assert cli.main([*run, "--resolution", "32", "--batch-size", "8"]) == 0
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.stem not in ("first", "CONTRIBUTING") and [*commands(p)]], ids=lambda p: p.stem
)
def test_the_commands_of_a_page_run_one_after_the_other(page, place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    for words in commands(page):
        line = " ".join(words)
        if not any(part in line for part in LEFT_OUT):
            assert cli.main(shortened(words)) == 0, (line, capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if [*blocks(p, "python")]], ids=lambda p: p.stem)
def test_the_programs_of_a_page_run(page, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    space = {"kcnn": kcnn}
    for program in blocks(page, "python"):
        for long, short in SHORTER.items():
            program = program.replace(long, short)
        if page.stem != "first" and not any(part in program for part in LEFT_OUT):
            exec(compile(program, str(page), "exec"), space)
