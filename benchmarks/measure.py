"""One comparison, from its cases to the rows of its table."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import kcnn
from benchmarks.figures import summary
from benchmarks.photos import make_photos
from benchmarks.sides.ceiling import COPY_BYTES, PRODUCT_MACS
from benchmarks.sides.input import CORES
from benchmarks.tables import TWINS, Topic, Way
from benchmarks.turns import Failed, Fresh, Live, Side, Together, fastest, take_turns
from kcnn.terminal.processor import cpuinfo
from trainers.launch import environment, free_ports

COMPARED = ("tensorflow", "keras", "torch", "timm", "torchvision", "onnxruntime")
PEERS = ("keras", "timm", "torchvision", "onnxruntime")
TRY = 4  # steps by which the fastest way is chosen
TRAINING = 3  # multiply-adds of a training step: forward, gradient by the input, gradient by the weights


@dataclass(frozen=True)
class Case:
    """A network at a batch size and a resolution; all sides of a case take turns."""

    network: str
    batch: int
    pixels: int
    folder: str = ""

    @property
    def name(self) -> str:
        return f"{self.network}, batch {self.batch}" if self.network else f"batch {self.batch}"


def cases(topic: Topic, against: Sequence[str]) -> Iterator[Case]:
    """The cases of a topic that a peer takes part in."""
    for network in topic.networks:
        if not network or set(against) & {"onnxruntime", *TWINS[network]} or not has_peers(topic):
            yield from (Case(network, batch, topic.pixels) for batch in topic.batches)


def has_peers(topic: Topic) -> bool:
    return any(way.peer for ways in topic.sides.values() for way in ways.values())


def chosen(topic: Topic, case: Case, against: Sequence[str]) -> dict[str, dict[str, Way]]:
    """The sides of a case: ours, and those of the peers asked for which have the network."""
    known = TWINS.get(case.network)
    return {
        side: dict(ways)
        for side, ways in topic.sides.items()
        if (name := side.split(",")[0]) not in PEERS
        or (name in against and (known is None or name in known or name == "onnxruntime"))
    }


def run_topic(
    topic: Topic, against: Sequence[str], rounds: int, begin: Callable[..., Side], say: Callable[[str], None]
) -> dict[str, Any]:
    """Measures all cases: {"rows": of each case and side, "failed": lines that name what could not be measured}."""
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        if topic.folder:
            make_photos(Path(folder), 256, (300, 420), quality=96)
        for case in cases(topic, against):
            case = replace(case, folder=folder if topic.folder else "")
            found, lines = run_case(topic, case, against, rounds, begin)
            for line in lines:
                say(line)
            rows += found
            failed += lines
            say(f"measured: {case.name}")
    return {"rows": rows, "failed": failed}


def run_case(
    topic: Topic, case: Case, against: Sequence[str], rounds: int, begin: Callable[..., Side]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a case, and a line for each way that failed."""
    wanted = chosen(topic, case, against)
    first, ceilings = next(iter(wanted)), topic.ceilings or {}
    wanted |= {name: {"": way} for name, way in ceilings.items()}
    sides: dict[str, Side] = {}
    ways: dict[str, str] = {}
    lines: list[str] = []
    try:
        for name, choice in wanted.items():
            starts = {label: partial(begin, way, case, topic.fresh) for label, way in choice.items()}
            try:
                ways[name], sides[name], told = fastest(
                    starts, 1 if topic.fresh else TRY, warmup=1 if topic.fresh else 2
                )
            except Failed as error:
                lines.append(f"{case.name}: {name}: {error}")
                continue
            lines += [f"{case.name}: {name}, {way}: {why}" for way, why in told.items() if isinstance(why, str)]
        turns, ended = take_turns(sides, rounds, topic.steps)
    finally:
        for side in sides.values():
            side.end()
    lines += [f"{case.name}: {name}: {why}" for name, why in ended.items()]
    rows = [
        {"case": case.name, "network": case.network, "batch": case.batch, "pixels": case.pixels, "side": name}
        | {"way": ways[name], "ceiling": name in ceilings, **figures}
        for name, figures in summary(turns, first).items()
    ]
    return with_shares(rows, case), lines


def with_shares(rows: list[dict[str, Any]], case: Case) -> list[dict[str, Any]]:
    """Adds what the machine reached, and to the trainings the share that their multiply-adds reach of it."""
    walls = {row["side"]: row["wall"]["median"] for row in rows}
    for row in rows:
        if row["side"] == "matrix product":
            row["macs_per_second"] = PRODUCT_MACS / walls["matrix product"]
        elif row["side"] == "copy":
            row["bytes_per_second"] = COPY_BYTES / walls["copy"]
        elif "matrix product" in walls:
            row["macs_per_second"] = TRAINING * macs(case.network, case.pixels) * case.batch / walls[row["side"]]
            row["share"] = row["macs_per_second"] * walls["matrix product"] / PRODUCT_MACS
        else:
            row["images_per_second"] = case.batch / walls[row["side"]]
    return rows


def macs(network: str, pixels: int) -> int:
    return kcnn.facts(network, resolution=pixels, stem="standard").macs


def start(way: Way, case: Case, fresh: bool, *, python: str, limit: float) -> Side:
    """Starts the process or processes of a way."""
    module = [python if way.peer in ("timm", "torchvision") else sys.executable, "-m", f"benchmarks.sides.{way.module}"]
    network = TWINS[case.network][way.peer] if case.network and way.peer else case.network
    numbers = [str(case.batch), str(case.pixels)]
    if way.module == "ceiling":
        command = [*module, *way.words]
    elif way.module == "input":
        command = [*module, *way.words, *numbers, case.folder]
    else:
        command = [*module, network, *numbers, *([case.folder] if case.folder else []), *way.words]
    if fresh:
        return Fresh(command, limit)
    if way.workers == 1:
        return Live(command, way.environment, limit)
    ports = free_ports(way.workers)
    places = [environment(number, ports) for number in range(way.workers)]
    return Together([Live(command, way.environment | place, limit) for place in places])


def machine(peers_python: str | None) -> dict[str, Any]:
    """The processor's name, its cores that this process may use, its load now, and the versions compared."""
    code = "import importlib.metadata as m; print(*(f'{d.name}={d.version}' for d in m.distributions()))"
    versions: dict[str, str] = {}
    for python in dict.fromkeys((sys.executable, peers_python or sys.executable)):
        told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.split()
        versions |= {name.lower(): number for name, _, number in (word.partition("=") for word in told)} | versions
    return {
        "processor": cpuinfo().get("model name", os.uname().machine),
        "cores": CORES,
        "load": os.getloadavg()[0],
        "versions": {name: versions[name] for name in COMPARED if name in versions},
    }
