"""An oracle that workers in other processes ask: KerasTuner's chief and its clients over gRPC."""

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kcnn.errors import InputError

ADDRESS, PORT, NAME = "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID"
LOOPBACK = "127.0.0.1"
ANY = ("0.0.0.0", "[::]")  # addresses to listen on, but not to reach
REACH_SECONDS = 60.0  # for the chief to be there

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
            seconds = f"{REACH_SECONDS:.0f} seconds"
            raise InputError(
                f"no chief answers at {target} for {seconds}: start it, or correct {ADDRESS} and {PORT}"
            ) from None
    try:
        yield OracleClient(None), os.environ[NAME]
    except grpc.RpcError as error:
        raise InputError(f"lost the chief at {target} ({error.code().name})") from error


def surroundings(name: str, address: str, port: int) -> dict[str, str]:
    """The environment that tells a worker on this machine its name and where its oracle is."""
    return {ADDRESS: LOOPBACK if address in ANY else address, PORT: str(port), NAME: name}
