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
    """Its commands as they stand, but for the time and what needs Docker, then its program."""
    monkeypatch.chdir(tmp_path)
    os.symlink(photos, tmp_path / "photos")
    page = ROOT / "docs" / "first.md"
    ran = []
    for words in commands(page):
        if "--server" not in words and words != ["train", "--resume", "logs/first"]:
            words = [{"--time": "--epochs", "2m": "2"}.get(word, word) for word in words]
            words += ["--width", "0.25", "--resolution", "32"] if words[0] == "train" else []
            assert cli.main(words) == 0, words
            ran.append(words[0])
    assert ran == ["data", "train", "evaluate", "predict", "export"]
    [program] = blocks(page, "python")
    exec(compile(program, str(page), "exec"), {})


# What a command of the README gets besides, so that it takes seconds, and what is left out, with the reason.
TINY = ["--width", "0.25", "--resolution", "32"]
TRAINED = [*TINY, "--epochs", "1", "--batch-size", "8"]
SHORT = {
    "train": TRAINED, "diagnose": [*TINY, "--images", "16"], "find-lr": [*TINY, "--batch-size", "8"],
    "benchmark": [*TRAINED[:4], "--batch-size", "2", "--seconds", "0.1"],
    "search": ["--max-trials", "2", "--data", "digits", "--epochs", "1", "--resolution", "16", "--width", "0.25"],
}  # fmt: skip
LEFT_OUT = {
    "--weights imagenet": "it downloads", "--server": "it asks a server: tests/trainers/serving has one",
    "board": "it runs until Ctrl-C: tests/kcnn/test_board.py", "--time": "tests/trainers/auto has it",
    "litert": "tests/trainers/serving has it", "study": "tests/tuning/studies has it",
}  # fmt: skip


@pytest.mark.slow
def test_the_commands_of_the_readme_run_one_after_the_other(tmp_path, monkeypatch, photos, capsys):
    """As they stand, in a folder that has what they speak of: photos/, a list of some, few/, cat.jpg and logs/RUN."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, tmp_path / "photos")
    for name in ("few", "holiday"):
        shutil.copytree(photos / "train", tmp_path / name)
    shutil.copy(photos / "val" / "china" / "0.jpg", tmp_path / "cat.jpg")
    lines = [
        f"{p.relative_to(tmp_path / 'photos')},{p.parent.name}\n" for p in (tmp_path / "photos/train").rglob("*.jpg")
    ]
    (tmp_path / "photos" / "list.csv").write_text("path,label\n" + "".join(lines))
    run = ["train", "--arch", "resnet-50", "--data", "photos/", "--run-dir", "logs/RUN", *TRAINED]
    assert cli.main(run) == 0
    ran = 0
    for words in commands(ROOT / "README.md"):
        line = " ".join(words)
        if any(part in line for part in LEFT_OUT):
            continue
        short = SHORT.get(words[0], [])
        if words[0] == "train" and {"--resume", "--list-recipes", "--show-recipe"} & {*words}:
            short = []
        given = {word for word in words if word.startswith("--")}
        pairs = zip(short[::2], short[1::2], strict=True)
        words += [word for pair in pairs if pair[0] not in given for word in pair]
        assert cli.main(words) == 0, (line, capsys.readouterr().err)
        ran += 1
    assert ran >= 20
