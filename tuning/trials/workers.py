"""One oracle, many workers: KerasTuner's gRPC service, and a supervisor that starts workers again when they die.

Nothing here knows what a trial does: an oracle hands out trials, `work` runs a function on each.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kcnn.errors import InputError, Interrupted
from trainers.distribute.signals import stop_signals
from tuning.trials.processes import LEAVE_SECONDS, Process, last_line, start, stop
from tuning.trials.records import inside

ADDRESS, PORT, NAME = "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID"
LOOPBACK = "127.0.0.1"
REACH_SECONDS = 60.0  # for the chief to be there
BAD_INPUT = 2  # a worker's exit code for what no other worker could do better
DEATHS = 3  # of workers on one trial, after which the trial has failed

Trial = Any
Oracle = Any


def role() -> str | None:
    """What the environment makes of this process: "chief", "worker", or None where it says nothing."""
    name = os.environ.get(NAME)
    if name is None:
        return None
    for key in (ADDRESS, PORT):
        if not os.environ.get(key):
            raise InputError(f"{NAME} is {name!r}, but {key} is not set: give the chief's address and port")
    return "chief" if "chief" in name else "worker"


def work(oracle: Oracle, name: str, run: Callable[[Trial], float | None]) -> None:
    """Runs trials until the oracle has no more. `run` returns a score, or None for a trial that failed."""
    while (trial := oracle.create_trial(name)).status != "STOPPED":
        if trial.status == "IDLE":  # others' results decide what comes next
            time.sleep(0.5)
            continue
        score = run(trial)
        if score is not None:
            rung = trial.hyperparameters.values.get("tuner/rung", 0)
            oracle.update_trial(trial.trial_id, {"score": score}, step=int(rung))
        trial.status = "FAILED" if score is None else "COMPLETED"
        oracle.end_trial(trial)


@contextlib.contextmanager
def served(oracle: Oracle) -> Iterator[tuple[Any, str, int]]:
    """Serves an oracle on the environment's address and port, by default on loopback and any free port.

    Gives the servicer (whose `stop_triggered` tells that a worker got no more trials), the address and the port.

    Raises InputError where the port is in use.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would tell a port in use in its own words, too
    import grpc
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    address, port = os.environ.get(ADDRESS, LOOPBACK), os.environ.get(PORT, "0")
    # Without this a second chief would share the port of the first, and half of its calls.
    server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
    servicer = OracleServicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        bound = server.add_insecure_port(f"{address}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise InputError(f"cannot listen on {address}:{port}: the port is in use, or the address is not this machine's")
    server.start()
    try:
        yield servicer, address, bound
    finally:
        server.stop(None).wait()


@contextlib.contextmanager
def connected() -> Iterator[tuple[Oracle, str]]:
    """The chief's oracle and this worker's name, as the environment has them. Raises InputError without a chief."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import grpc
    from keras_tuner.src.distribute.oracle_client import OracleClient

    target = f"{os.environ[ADDRESS]}:{os.environ[PORT]}"
    with grpc.insecure_channel(target) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=REACH_SECONDS)
        except grpc.FutureTimeoutError:
            raise InputError(f"no chief answers at {target} for {REACH_SECONDS:.0f} seconds: start it, or correct "
                             f"{ADDRESS} and {PORT}") from None  # fmt: skip
    try:
        yield OracleClient(None), os.environ[NAME]
    except grpc.RpcError as error:
        raise InputError(f"lost the chief at {target} ({error.code().name})") from error


def lead(oracle: Oracle) -> None:
    """Serves the oracle until all trials have ended and all workers were told so, or have been silent for long."""
    with served(oracle) as (servicer, address, port), stop_signals() as received:
        print(f"the chief listens on {address}:{port}", file=sys.stderr, flush=True)
        busy = time.monotonic()
        while True:
            time.sleep(0.2)
            unless_broken(oracle)
            if received:
                raise Interrupted(f"{signal.Signals(received[0]).name}: the same command goes on")
            if not servicer.stop_triggered or oracle.ongoing_trials:
                busy = time.monotonic()
            elif not oracle.tuner_ids or time.monotonic() - busy > LEAVE_SECONDS:
                return


def supervise(oracle: Oracle, command: Sequence[str], workers: int, logs: Path) -> None:
    """Serves the oracle and runs `command` as so many worker processes until each has ended with exit code 0.

    One that dies is started again under its own name, so that it goes on with its trial; a trial that kills three is
    recorded as failed. Workers' output goes to logs/NAME.log. They die with this process, however that ends.
    Raises InputError where workers die without a trial, and Interrupted on SIGTERM and Ctrl-C, once they have saved.
    """
    inside(logs.parent, logs.name).mkdir(parents=True, exist_ok=True)
    deaths: dict[str, int] = {}
    with served(oracle) as (_, address, port), stop_signals() as received:
        processes = {
            name: begin(command, name, i, workers, address, port, logs)
            for i, name in enumerate(f"worker-{i}" for i in range(workers))
        }
        try:
            while any(process.poll() != 0 for process in processes.values()):
                unless_broken(oracle)
                if received:
                    raise Interrupted(f"{signal.Signals(received[0]).name}: all runs are saved; "
                                      "the same command goes on")  # fmt: skip
                for i, (name, process) in enumerate(processes.items()):
                    if process.poll() in (None, 0):
                        continue
                    mourn(oracle, name, process, deaths, logs)
                    processes[name] = begin(command, name, i, workers, address, port, logs)
                time.sleep(0.2)
        finally:
            stop(list(processes.values()))


def unless_broken(oracle: Oracle) -> None:
    """Raises what an oracle's state could not be written for."""
    if failure := getattr(oracle, "failure", None):
        raise failure


def begin(command: Sequence[str], name: str, index: int, workers: int, address: str, port: int,
          logs: Path) -> Process:  # fmt: skip
    """Starts a worker that knows where its oracle is."""
    reached = LOOPBACK if address in ("0.0.0.0", "[::]") else address
    return start(command, logs / f"{name}.log", index, workers, **{ADDRESS: reached, PORT: str(port), NAME: name})


def mourn(oracle: Oracle, name: str, process: Process, deaths: dict[str, int], logs: Path) -> None:
    """Counts the deaths of a worker on its trial, and gives up on one that kills too many."""
    if process.stdin:
        process.stdin.close()
    last = last_line(logs / f"{name}.log")
    if process.returncode == BAD_INPUT:
        raise InputError(f"{name} cannot go on: {last}")
    trial = oracle.ongoing_trials.get(name)
    key = trial.trial_id if trial else name
    deaths[key] = deaths.get(key, 0) + 1
    code = process.returncode
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    print(f"{name} died ({how})" + (f" in trial {key}" if trial else ""), file=sys.stderr, flush=True)
    if deaths[key] < DEATHS:
        return
    if not trial:
        raise InputError(f"{name} died {DEATHS} times before its first trial ({how}): {last}")
    unless_broken(oracle)
    trial.status, trial.message = "FAILED", f"{DEATHS} workers died in it, the last by {how}: {last}"
    oracle.end_trial(trial)
