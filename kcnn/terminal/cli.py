"""The command line: which commands there are, how one is found, and how bad input becomes one line and exit code 2."""

import contextlib
import difflib
import importlib.metadata
import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args

import cyclopts
from cyclopts.config import Dict

from kcnn.errors import InputError, Interrupted, shown
from kcnn.terminal import starting

# Each command: the place of its function, loaded only where it is asked for, and what the list of commands says of it.
COMMANDS = {
    "train": ("kcnn.train:app", "Train a network on the digits that come along, or on images of your own."),
    "evaluate": ("kcnn.evaluate:evaluate", "Evaluate a run: loss, top-1, top-5, each class, the confusion matrix."),
    "predict": ("kcnn.predict:predict", "Predict the classes of images with the network of a run."),
    "export": ("kcnn.export:export", "Export a run for TF Serving, LiteRT or ONNX."),
    "data": ("kcnn.data:app", "Look at a data set before training, or convert it to a few large files."),
    "info": ("kcnn.info:info", "Show what networks cost, see and need, or list their names."),
    "diagnose": (
        "kcnn.diagnosing:app",
        "Diagnose a network: its blocks, what it makes of images, what stands out.",
    ),
    "explain": ("kcnn.explain:app", "Show what a run's network looks at in images."),
    "find-lr": ("kcnn.find_lr:app", "Find the learning rate of a training, in under 100 steps."),
    "runs": ("kcnn.runs:app", "List runs, compare them, and remove what they no longer need."),
    "benchmark": ("kcnn.benchmark:benchmark", "Measure how fast networks train and predict on this device."),
    "board": ("kcnn.board:board", "Start TensorBoard over the runs of a folder."),
    "report": ("kcnn.report:report", "Lay runs and searches side by side on one page."),
    "budget": ("kcnn.budget:budget", "Scale a network to a budget of multiply-adds, parameters or memory."),
    "search": ("tuning.search:app", "Search the multipliers of a network under limits on its cost."),
    "compound": ("tuning.compound:app", "Find how a network is best made larger, as EfficientNet's authors did."),
    "design-space": ("tuning.design_space:app", "Compare spaces of networks, as RegNet's authors did."),
    "study": ("tuning.study:app", "Settle a claim of the textbook: train what it compares, and test it."),
    "launch": ("trainers.launch:launch", "Start a training on several workers, and start it again where one fails."),
}
Find = Callable[[Mapping[str, str]], tuple[Path, Mapping[str, Any]] | None]

LONGEST = 1000  # characters of a message
FULL = ("No space left on device", "File too large", "Disk quota exceeded")

Json = Annotated[bool, cyclopts.Parameter(negative="", help="Print the result as one JSON object, as the last line.")]
Run = Annotated[str, cyclopts.Parameter(help="The folder of a run of kcnn train.")]
Checkpoint = Annotated[
    Literal["last", "best"], cyclopts.Parameter(help="Use the weights of the last checkpoint, or of the best one.")
]
ConfigFile = Annotated[str | None, cyclopts.Parameter("--config", help="A YAML file of flags, over which flags win.")]
Imports = Annotated[
    list[str] | None,
    cyclopts.Parameter(
        "--imports",
        negative="",
        help="Import this Python module, or file.py, which defines a data set of your own for --data tfds:NAME; it may "
        "be given several times. A run does not keep it, as a stranger's could import anything: give it each time.",
    ),
]
# Scripts give every command the same --seed. Where nothing is drawn at random, the help does not speak of it.
Unused = Annotated[int, cyclopts.Parameter("--seed", show=False)]


def command(name: str, argv: list[str] | None = None) -> NoReturn:
    """Runs `kcnn NAME ARGV...` and leaves the process with its exit code: `python -m kcnn.NAME` is this."""
    sys.exit(main([name, *(sys.argv[1:] if argv is None else argv)]))


def run(function: Callable[..., Any], name: str, argv: list[str] | None = None) -> NoReturn:
    """Runs a function as a command line that is none of `kcnn`'s, and leaves the process with its exit code."""
    sys.exit(call(make_app(name, function), sys.argv[1:] if argv is None else argv, name))


def main(argv: Sequence[str]) -> int:
    """Runs `kcnn ARGV...` and returns its exit code."""
    asked = argv[0] if argv else "--help"
    if asked.startswith("-"):
        return call(kcnn(asked), argv, "kcnn")
    if asked in COMMANDS:
        return call(kcnn(asked), argv, f"kcnn {asked}")
    near = difflib.get_close_matches(asked, COMMANDS, 1)
    hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(COMMANDS)} is needed"
    return fail("kcnn", f"unknown command {shown(asked)}: {hint}")


def kcnn(asked: str) -> cyclopts.App:
    """The command line `kcnn`, of which the command `asked` will be loaded."""
    app = make_app("kcnn")
    app.help = "Convolutional networks: chosen, scaled, trained, understood and served."
    app.version, app.version_flags = version, ("--version",)
    for i, (command, (place, summary)) in enumerate(COMMANDS.items()):
        # A command that was asked for has help of its own, which a summary given here would replace.
        app.command(place, name=command, help=None if command == asked else summary, sort_key=i)
    app.register_install_completion_command()
    return app


def version() -> str:
    try:
        return importlib.metadata.version("kcnn")
    except importlib.metadata.PackageNotFoundError:
        return "a clone that is not installed"


def make_app(name: str, function: Callable[..., Any] | None = None, find: Find | None = None) -> cyclopts.App:
    """A command line whose words are converted, and whose errors are told, as all of ours are.

    Flags win over the values of the file that `find` tells; it gets the flags that were typed, each with its last word.
    """
    app = cyclopts.App(
        name=name,
        help_format="plaintext",
        version_flags=(),
        default_parameter=cyclopts.Parameter(converter=exact),
        config=taking(find) if find else (),
        exit_on_error=False,
        print_error=False,
    )
    if function:
        app.default(function)
    return app


def taking(find: Find) -> Callable[[cyclopts.App, tuple[str, ...], cyclopts.ArgumentCollection], None]:
    """The source of further values, as cyclopts calls it, that a function tells."""

    def take(app: cyclopts.App, commands: tuple[str, ...], arguments: cyclopts.ArgumentCollection) -> None:
        typed = {argument.name: argument.tokens[-1].value for argument in arguments if argument.tokens}
        for flag in ("--config", "--resume", "--run-dir"):
            if typed.get(flag) == "":
                raise InputError(f"{flag} '': the name of a file or folder is needed")
        if found := find(typed):
            path, values = found
            # Told of the commands before it, cyclopts would drop each value that has the name of one, such as "data".
            Dict(dict(values), source=str(path))(app, (), arguments)

    return take


def call(app: cyclopts.App, argv: Sequence[str], name: str) -> int:
    """Runs a command line and returns its exit code. `name` is what its errors are said under.

    The parameters of a command's function are its flags, its docstring and theirs the help. What it returns is printed
    as JSON where its parameter `json` asks for it.
    """
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be bytes that are no text
            sys.stdout.reconfigure(errors="backslashreplace")
        function, bound, _ = app.parse_args(argv, exit_on_error=False, print_error=False)
        starting.done()
        result = function(*bound.args, **bound.kwargs)
        if bound.arguments.get("json") and result is not None:
            print(json.dumps(result), flush=True)
        if result and result.get("errors"):  # all else was done, and is not lost
            return fail(name, f"{len(result['errors'])} failed, the first: {result['errors'][0]}")
        return 0
    except Interrupted as stop:
        print(f"{name}: {stop}", file=sys.stderr, flush=True)
        return 75
    except (InputError, cyclopts.CycloptsError) as error:
        return fail(name, str(error))
    except BrokenPipeError:  # the reader of our output has left: `kcnn info --list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return fail(name, f"{error.filename or ''}: {error.strerror or error}".removeprefix(": "))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        # TensorFlow has errors of its own for what Python calls an OSError.
        reason = next((reason for reason in FULL if reason in str(error)), None)
        if reason is None:
            raise
        return fail(name, f"cannot write: {reason}; make room, then go on with --resume")


def exact(kind: Any, tokens: Sequence[cyclopts.Token]) -> Any:
    """Converts words of the command line as cyclopts does, but does not round 2.7 where a whole number is needed."""
    kinds = {kind, *get_args(kind)}
    kinds |= {part for each in kinds for part in get_args(each)}
    if int in kinds and float not in kinds:
        for token in tokens:
            with contextlib.suppress(ValueError):
                if "." in token.value and not float(token.value).is_integer():
                    raise cyclopts.CoercionError(msg=f"{token.keyword or ''} {token.value}: a whole number is needed")
    return cyclopts.convert(kind, tokens)


def fail(name: str, message: str) -> int:
    message = " ".join(message.split())
    if len(message) > LONGEST:  # with a value of a million characters in it
        message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
    print(f"{name}: error: {message} (`{name} --help` tells more)", file=sys.stderr, flush=True)
    return 2
