"""kcnn board: TensorBoard over the runs of a folder, for this machine alone."""

import threading
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kcnn.errors import InputError, whole
from kcnn.terminal import cli
from kcnn.terminal.quiet import quiet


def board(
    folder: Annotated[str, Parameter(help="The folder of a run, of a search, or of many.")] = "logs",
    /,
    *,
    port: Annotated[int, Parameter(help="Listen on this port of 127.0.0.1; 0 takes one that is free.")] = 6006,
    json: cli.Json = False,
    seed: cli.Unused = 0,
) -> dict[str, Any]:
    """Start TensorBoard over the runs of a folder, until Ctrl-C ends it. Only
    this machine can see it.

    kcnn board                                    # all runs in logs
    kcnn board logs/search-... --port 0           # a search, on any free port

    The tab Time Series has the curves in groups, Custom Scalars training and
    validation in one chart, HParams the settings and figures of all runs.
    """
    whole("port", port, 65535, least=0)
    if not Path(folder).is_dir():
        raise InputError(f"{folder!r} is no folder: that of a run, or one that holds runs, such as logs, is needed")
    url = launched(folder, port)
    print(f"TensorBoard over {folder} at {url} (Ctrl-C ends it)", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()
    return {"url": url}


def launched(folder: str, port: int) -> str:
    """Starts TensorBoard in a thread of this process and returns its address. Raises InputError."""
    with quiet():  # what TensorFlow's libraries print when they are loaded
        from tensorboard import default, program

        server = program.TensorBoard(plugins=default.get_plugins())
    server.configure(logdir=folder, host="127.0.0.1", port=port, load_fast="false")
    try:
        return str(server.launch())
    except program.TensorBoardPortInUseError:
        raise InputError(f"port {port}: it is in use; give another --port, or 0 for any") from None


def main(argv: list[str] | None = None) -> None:
    cli.command("board", argv)


if __name__ == "__main__":
    main()
