"""The one engine for many trainings: an oracle hands out trials, and workers run them.

Nothing here knows what a trial does.
"""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from kcnn.errors import InputError, Interrupted
from trainers.distribute.signals import stop_signals
from trainers.distribute.supervisor import BAD_INPUT, Worker, all_signals, forget, start, stop, visible_gpus
from tuning.trials.oracles import COMPLETED, IDLE, STOPPED, Trial
from tuning.trials.records import inside
from tuning.trials.service import PORT, connected, role, served, surroundings
from tuning.trials.trainer import newest_checkpoint
from tuning.trials.trial import is_whole

MOST_PARALLEL = 1000
LEAVE_SECONDS = 60.0  # that workers have to save and leave
IDLE_SECONDS, POLL_SECONDS = 0.5, 0.2
DEATHS = 3  # of workers at one place of a trial, after which the trial has failed
FAILED = "FAILED"

Oracle = Any
Run = Callable[[Trial], float | None]


class Trials(Protocol):
    """What an engine runs. isolated: whether each worker is a process of its own, even a single one."""

    isolated: ClassVar[bool]

    @property
    def folder(self) -> Path: ...

    def run(self, trial: Trial) -> float | None:
        """Runs a trial and returns its score, or None where it failed."""

    def place(self, trial: Trial) -> Path:
        """The folder of the trial's run."""


def go_on(trials: Trials, oracle: Oracle) -> None:
    """Takes up an oracle's file where there is one. What has ended without leaving a record is run once more."""
    if oracle.path.is_file():
        oracle.reload(live=role() == "chief", is_kept=lambda trial: is_whole(trials.place(trial)))


def carry_out(trials: Trials, oracle: Oracle, parallel: int) -> None:
    """Runs all trials of an oracle: in this process, in worker processes of it, or in those of a cluster.

    Raises Interrupted when told to stop, once all is saved, and InputError where nobody can go on.
    """
    if role() == "chief":
        lead(oracle)
    elif trials.isolated or parallel > 1 or PORT in os.environ:
        command = [sys.executable, "-m", "tuning.sweep", str(trials.folder.absolute()), "--tied"]
        supervise(oracle, command, parallel, trials)
    else:
        work_alone(trials, oracle)


def work(oracle: Oracle, name: str, run: Run) -> None:
    """Runs trials until the oracle has no more of them."""
    while (trial := oracle.create_trial(name)).status != STOPPED:
        if trial.status == IDLE:  # others' results decide what comes next
            time.sleep(IDLE_SECONDS)
            continue
        score = run(trial)
        if score is not None:
            rung = trial.hyperparameters.values.get("tuner/rung", 0)
            oracle.update_trial(trial.trial_id, {"score": score}, step=int(rung))
        trial.status = FAILED if score is None else COMPLETED
        oracle.end_trial(trial)


def work_alone(trials: Trials, oracle: Oracle) -> None:
    """Runs one trial after the other in this process."""
    try:
        work(oracle, "worker-0", trials.run)
    except Interrupted as stopped:
        saved = str(stopped).partition("; ")[0].partition(": go on")[0]
        raise Interrupted(f"{saved}; the same command goes on with what is in {trials.folder}") from stopped


def work_for_chief(run: Run) -> None:
    """Runs the trials that the chief of the environment gives to this worker."""
    with connected() as (oracle, name):
        work(oracle, name, run)


def lead(oracle: Oracle) -> None:
    """Serves the oracle to the workers of a cluster until all trials have ended."""
    with served(oracle) as (servicer, address, port), stop_signals() as received:
        print(f"the chief listens on {address}:{port}", file=sys.stderr, flush=True)
        wait_for_workers(oracle, servicer, received)


def wait_for_workers(oracle: Oracle, servicer: Any, received: Sequence[int]) -> None:
    """Returns once all trials have ended, and all workers know it or have been silent for a minute.

    Raises Interrupted once a signal was received.
    """
    busy = time.monotonic()
    while True:
        raise_failure(oracle)
        if received:
            raise Interrupted(f"{signal.Signals(received[0]).name}: the same command goes on")
        if not servicer.stop_triggered or oracle.ongoing_trials:
            busy = time.monotonic()
        elif not oracle.tuner_ids or time.monotonic() - busy > LEAVE_SECONDS:
            return
        time.sleep(POLL_SECONDS)


def supervise(oracle: Oracle, command: Sequence[str], count: int, trials: Trials) -> None:
    """Serves the oracle and runs `command` as so many worker processes until each has ended with exit code 0.

    One that dies is started again under its own name, so that it goes on with its trial; a trial that kills three at
    the same place is recorded as failed. Workers' output goes to workers/NAME.log in the folder. They leave with this
    process, however that ends. Raises InputError where workers die without a trial or for what no other could do
    better, and Interrupted on SIGTERM and Ctrl-C, once they have saved.
    """
    logs = inside(trials.folder, "workers")
    logs.mkdir(parents=True, exist_ok=True)
    deaths: Counter[tuple[str, str | None]] = Counter()
    workers: list[Worker] = []
    with served(oracle) as (servicer, address, port), all_signals() as received:

        def start_worker(number: int) -> Worker:
            name = f"worker-{number}"
            environment = surroundings(name, address, port) | share_of_machine(number, count)
            return start(command, number, environment, logs / f"{name}.log")

        try:
            workers += [start_worker(number) for number in range(count)]
            while any(worker.process.poll() != 0 for worker in workers):
                raise_failure(oracle)
                if received:
                    name = signal.Signals(received[0]).name
                    raise Interrupted(f"{name}: all runs are saved; the same command goes on")
                for worker in workers:
                    if worker.failed:
                        forget(worker)
                        record_death(worker, oracle, trials, deaths)
                        workers[worker.number] = start_worker(worker.number)
                time.sleep(POLL_SECONDS)
            if waiting := sorted(oracle.ongoing_trials):
                print(f"waiting for {', '.join(waiting)} on other machines", file=sys.stderr, flush=True)
            wait_for_workers(oracle, servicer, received)
        finally:
            stop(workers, LEAVE_SECONDS, received)


def record_death(worker: Worker, oracle: Oracle, trials: Trials, deaths: Counter[tuple[str, str | None]]) -> None:
    """Counts a death against the trial and the checkpoint it came in, and gives up on a trial that kills too many."""
    name, last = f"worker-{worker.number}", worker.last_line()
    if worker.exit_code == BAD_INPUT:
        raise InputError(f"{name} cannot go on: {last}")
    trial = oracle.ongoing_trials.get(name)
    where = f" in trial {trial.trial_id}" if trial else ""
    print(f"{name} died ({worker.ending}){where}", file=sys.stderr, flush=True)
    key = (trial.trial_id, newest_checkpoint(trials.place(trial))) if trial else (name, None)
    deaths[key] += 1
    if deaths[key] < DEATHS:
        return
    if not trial:
        raise InputError(f"{name} died {DEATHS} times before its first trial ({worker.ending}): {last}")
    raise_failure(oracle)
    trial.status = FAILED
    trial.message = f"{DEATHS} workers died in it at the same place (the last: {worker.ending}): {last}"
    oracle.end_trial(trial)


def raise_failure(oracle: Oracle) -> None:
    """Raises what kept an oracle's state from being written."""
    if failure := getattr(oracle, "failure", None):
        raise failure


def share_of_machine(number: int, count: int) -> dict[str, str]:
    """The environment that gives one of `count` workers a GPU, or its share of the cores where there is none."""
    # What can be imported here can be imported there, and in the same order.
    found = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if count == 1:
        return found
    if gpus := visible_gpus():
        return found | {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)], "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    threads = str(max(1, (os.cpu_count() or 1) // count))
    asked = {name: os.environ.get(name, threads) for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")}
    return found | asked
