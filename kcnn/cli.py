"""What all commands have in common: a function becomes a command line, bad input one line and exit code 2."""

import contextlib
import inspect
import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, get_args

import cyclopts

from kcnn import starting
from kcnn.errors import InputError, Interrupted

LONGEST = 1000  # characters of a message
FULL = ("No space left on device", "File too large", "Disk quota exceeded")

Json = Annotated[bool, cyclopts.Parameter(negative="", help="Print the result as one JSON object, as the last line.")]
Seed = Annotated[int, cyclopts.Parameter(help="Of every random draw.")]


def run(
    command: Callable[..., Mapping[str, Any] | None],
    name: str,
    argv: list[str] | None = None,
    config: Callable[[], Any] | None = None,
) -> None:
    """Runs a function as the command `name` and leaves the process with its exit code.

    The function's parameters are the flags, its docstring and theirs the help. What it returns is printed as JSON
    where its parameter `json` asks for it. `config` gives a source of further values (see cyclopts.App).
    """
    sys.exit(call(command, name, sys.argv[1:] if argv is None else argv, config))


def call(
    command: Callable[..., Mapping[str, Any] | None],
    name: str,
    argv: list[str],
    config: Callable[[], Any] | None = None,
) -> int:
    try:
        starting.done()
        if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be bytes that are no text
            sys.stdout.reconfigure(errors="backslashreplace")
        app = cyclopts.App(
            name=name,
            help=inspect.getdoc(command),
            help_format="plaintext",
            version_flags=[],
            group_commands="Help",
            config=config() if config else None,
            default_parameter=cyclopts.Parameter(converter=exact),
            exit_on_error=False,
            print_error=False,
        )
        app.default(command)
        function, bound, _ = app.parse_args(argv, exit_on_error=False, print_error=False)
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
