"""A client of TensorFlow Serving: encoded pictures to a server, probabilities back, over REST or gRPC."""

import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kcnn.errors import InputError
from trainers.data import reason
from trainers.prediction import reached
from trainers.serving.protocols import Ask, Refused, Server, Transient, grpc, rest, told
from trainers.serving.versions import HIGHEST

PORTS = {"rest": 8501, "grpc": 8500}  # the official container's
DAY = 86400.0  # seconds that an answer may take
MOST = 1000  # retries
LONGEST = 8.0  # seconds between two tries
EDGE = 1e-4  # how far a probability may be outside 0 to 1: rounding
SUM = 1e-2  # how far the sum of an image's probabilities may be from 1: rounding to 8 bits, over many classes


def check(server: Server) -> Server:
    """The server itself. Raises InputError for settings that no request can have."""
    timeout, retries, version, label = server.timeout, server.retries, server.version, server.label
    if not 0 < timeout <= DAY or not 0 <= retries <= MOST:
        raise InputError(
            f"timeout {timeout}, retries {retries}: a time above 0 and up to {DAY:g} seconds, and 0 to "
            f"{MOST} retries are needed"
        )
    if version is not None and label is not None:
        raise InputError(f"model-version {version}, version-label {label!r}: only one can be asked for")
    if version is not None and not 0 <= version <= HIGHEST:
        raise InputError(f"model-version {version}: a whole number from 0 to {HIGHEST} is needed")
    if not server.model or label == "":
        raise InputError(f"model {server.model!r}, version-label {label!r}: a name is needed")
    return server


def parse(server: str, protocol: str, **more: Any) -> Server:
    """HOST, HOST:PORT or https://HOST:PORT, the last with TLS. Raises InputError."""
    found = re.fullmatch(r"(?:(https?)://)?([\w.-]+|\[[0-9a-fA-F:]+\])(?::(\d{1,5}))?/?", server)
    scheme, host, port = found.groups() if found else (None, None, None)
    if not host or not 0 < int(port or PORTS[protocol]) < 2**16:
        raise InputError(f"server {server!r}: HOST:PORT is needed, such as localhost:{PORTS[protocol]}")
    return check(Server(f"{host}:{port or PORTS[protocol]}", protocol, tls=scheme == "https", **more))


def connect(server: Server, apart: bool = False) -> Ask:
    """A function that asks the server, once it has said that the model is ready. Raises InputError.

    Its answers are checked: probabilities float64 (pictures, classes), which add up to 1 unless each class is `apart`
    from the others, and for each picture a list of names.
    """
    status, ask = (rest if server.protocol == "rest" else grpc)(server)
    try:
        states = patiently(server, status)
    except Refused as error:
        server.refuse(str(error))
    if "AVAILABLE" not in states.values():
        some = [f"version {version} is {state}" for version, state in list(states.items())[:5]]
        raise InputError(
            f"server {server.address}: model {server.model!r} is not ready "
            f"({', '.join(some) or 'no version is loaded'})"
        )
    return lambda pictures: checked(server, patiently(server, lambda: ask(pictures)), len(pictures), apart)


def patiently(server: Server, call: Callable[[], Any]) -> Any:
    """The call's value, after at most `server.retries` further tries, with longer and longer pauses between them."""
    for i in range(server.retries + 1):
        try:
            return call()
        except Transient as error:
            if i == server.retries:
                raise InputError(
                    f"no answer from {server.protocol} server {server.address} in {i + 1} "
                    f"{'tries' if i else 'try'}: {error}"
                ) from error
            # Pauses of random lengths, or clients that failed together would come back together.
            time.sleep(min(LONGEST, 0.25 * 2 ** min(i, 10)) * random.uniform(0.5, 1))
    raise AssertionError


def checked(
    server: Server, answer: tuple[Any, Any], count: int, apart: bool = False
) -> tuple[np.ndarray, list[list[str]]]:
    """The probabilities and names in an answer for `count` pictures. Raises InputError where it is malformed."""
    try:
        shares = np.asarray(answer[0])
    except (ValueError, TypeError, OverflowError, RecursionError):  # rows of different lengths, and worse
        shares = np.empty(0)
    if shares.dtype.kind not in "fiu" or shares.ndim != 2 or len(shares) != count or not shares.size:
        server.refuse(f"its answer is malformed: probabilities must be numbers, a row for each of the {count} pictures")
    shares = shares.astype(np.float64)
    for bad in shares[~((shares >= -EDGE) & (shares <= 1 + EDGE))][:1]:  # NaN, too
        server.refuse(f"its answer is malformed: one of its probabilities is {bad:g}, not a number from 0 to 1")
    for total in (sums := shares.sum(-1))[(abs(sums - 1) > SUM) & (not apart)][:1]:
        server.refuse(f"its answer is malformed: the probabilities of a picture add up to {total:g}, not to 1")
    labels = answer[1]
    if not (
        isinstance(labels, list)
        and len(labels) == count
        and all(isinstance(row, list) and row for row in labels)
        and all(isinstance(name, str) for row in labels for name in row)
    ):
        server.refuse(f"its answer is malformed: labels must be names, a row for each of the {count} pictures")
    return shares, labels


def predict(
    ask: Ask,
    classes: tuple[str, ...],
    paths: list[str],
    top: int,
    batch: int,
    thresholds: tuple[float, ...] | None = None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Predicts as `trainers.prediction.predict` does, by a server. Raises InputError where its classes are others."""
    rows, errors = [], []
    for start in range(0, len(paths), batch):
        pictures = []
        for path in paths[start : start + batch]:
            try:
                pictures.append((path, Path(path).read_bytes()))
            except OSError as error:
                errors.append(f"{path}: cannot be read ({error.strerror})")
        for path, shares, labels in answered(ask, pictures, errors):
            best = np.argsort(-shares, kind="stable")[:top]
            place = classes.index(labels[0]) if labels[0] in classes else -1
            if len(shares) != len(classes) or place < 0 or shares[place] < shares.max():
                raise InputError(
                    f"the server's model has other classes than the run: it answers {told(labels[0])!r} "
                    f"with {len(shares)} probabilities, the run has {len(classes)} classes"
                )
            row = {"image": path, "top": [{"class": classes[i], "probability": float(shares[i])} for i in best]}
            rows.append(row | reached(shares, classes, thresholds))
    return rows, errors


def answered(ask: Ask, pictures: list[tuple[str, bytes]], errors: list[str]) -> list[tuple[str, np.ndarray, list[str]]]:
    """(path, probabilities, labels) of the pictures that the server accepts; it is asked for each picture of a refused
    batch alone."""
    if not pictures:
        return []
    try:
        shares, labels = ask([picture for _, picture in pictures])
        return [(path, *answer) for (path, _), *answer in zip(pictures, shares, labels, strict=True)]
    except Refused as error:
        if len(pictures) > 1:
            return [one for picture in pictures for one in answered(ask, [picture], errors)]
        [(path, _)] = pictures
        errors.append(f"{path}: the server refuses it ({reason(error)})")
        return []
