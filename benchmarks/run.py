"""The suite: kcnn against its peers on this machine, side by side in one run.

Each side is a live process that has made ready, and they take turns, A B A B; to `start`, each turn is a fresh process.
A ratio is the peer's time over ours in the same round: above 1, kcnn is faster. Shown are medians over the rounds, and
the quartiles of the ratios. Of a peer's ways (with and without XLA, eager or compiled, on one thread or all) the
fastest of a first short try is taken. A side that cannot run is named in a line, and the rest goes on.

    python -m benchmarks.run                                   # training, against all peers that are installed
    python -m benchmarks.run --what infer --against keras --networks mobilenet-v2
"""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from benchmarks.measure import PEERS, machine, run_topic, start
from benchmarks.page import drawn, sentences, write
from benchmarks.tables import TOPICS, overridden
from kcnn.errors import InputError
from kcnn.terminal import cli, tables

What = Literal["train", "train-young", "kernels", "infer", "start", "input", "memory", "scaling"]
Peer = Literal["keras", "timm", "torchvision", "onnxruntime"]


def compare(
    *,
    what: Annotated[
        tuple[What, ...], Parameter(consume_multiple=True, negative="", help="Measure these, one after the other.")
    ] = ("train",),
    against: Annotated[
        tuple[Peer, ...], Parameter(consume_multiple=True, negative="", help="Compare with these peers.")
    ] = PEERS,
    networks: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative="", help="Measure these networks alone (default: all of a topic)."),
    ] = (),
    rounds: Annotated[int, Parameter(help="Each side has so many turns.")] = 7,
    steps: Annotated[int | None, Parameter(help="A turn has so many steps (default: the topic's).")] = None,
    batch_size: Annotated[int | None, Parameter(help="A step sees this many images (default: the topic's).")] = None,
    resolution: Annotated[int | None, Parameter(help="Images have sides of this many pixels.")] = None,
    peers_python: Annotated[
        str | None, Parameter(help="The Python interpreter that has PyTorch (default: the one that runs this).")
    ] = None,
    limit: Annotated[float, Parameter(help="A side is given up where a turn takes more seconds than this.")] = 300.0,
    write_to: Annotated[
        str | None, Parameter("--write", help="Put the tables into this page, as docs/performance.md, in their places.")
    ] = None,
    out: Annotated[str | None, Parameter(help="Write the figures as JSON to this file.")] = None,
    json: cli.Json = False,
) -> dict[str, Any]:
    """Measure kcnn against its peers on this machine, side by side."""
    if rounds < 1 or (steps is not None and steps < 1):
        raise InputError(f"rounds {rounds}, steps {steps}: at least 1 is needed")
    asked = {name: overridden(name, TOPICS[name], networks, steps, batch_size, resolution) for name in what}
    result: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "machine": machine(peers_python), "rounds": rounds}
    result["topics"] = {}
    begin = partial(start, python=peers_python or sys.executable, limit=limit)
    for name, topic in asked.items():
        found = run_topic(topic, against, rounds, begin, lambda line: print(line, flush=True))
        result["topics"][name] = found | {"figure": topic.figure}
        print(f"\n{name}:")
        tables.table(*drawn(name, found["rows"]))
        for line in sentences(found["rows"], topic.figure):
            print(line)
        if write_to:
            write(Path(write_to), name, result)
        if out:
            Path(out).write_text(text(result), encoding="utf-8")
    return result


def text(result: dict[str, Any]) -> str:
    import json

    return json.dumps(result, indent=1) + "\n"


if __name__ == "__main__":
    cli.run(compare, "python -m benchmarks.run")
