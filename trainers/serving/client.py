"""A client of TensorFlow Serving: encoded pictures to a server, probabilities back, over REST or gRPC.

The APIs: https://github.com/tensorflow/serving/blob/master/tensorflow_serving/g3doc/api_rest.md and
.../tensorflow_serving/apis/prediction_service.proto, model_service.proto.
"""

import base64
import http.client
import importlib.util
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from kcnn.errors import InputError

PORTS = {"rest": 8501, "grpc": 8500}  # the official container's
LONGEST = 8.0  # seconds between two tries
TRANSIENT = {429, 502, 503, 504}  # of HTTP: too many requests, bad gateway, unavailable, gateway timeout


@dataclass(frozen=True)
class Server:
    """Where a model is served, and how patient to be. timeout: seconds for one request."""

    address: str
    protocol: str = "rest"
    model: str = "model"
    version: int | None = None
    label: str | None = None
    timeout: float = 10.0
    retries: int = 3
    tls: bool = False


class Transient(Exception):
    """No answer, but there may be one later."""


class Refused(Exception):
    """The server cannot make anything of what it was sent."""


Answer = tuple[np.ndarray, list[list[str]]]
Ask = Callable[[list[bytes]], Answer]


def parse(server: str, protocol: str, **more: Any) -> Server:
    """HOST, HOST:PORT or https://HOST:PORT, the last with TLS. Raises InputError."""
    found = re.fullmatch(r"(?:(https?)://)?([\w.-]+|\[[0-9a-fA-F:]+\])(?::(\d{1,5}))?/?", server)
    if not found:
        raise InputError(f"server {server!r}: HOST:PORT is needed, such as localhost:{PORTS[protocol]}")
    scheme, host, port = found.groups()
    return Server(f"{host}:{port or PORTS[protocol]}", protocol, tls=scheme == "https", **more)


def connect(server: Server) -> Ask:
    """A function that asks the server, once it has said that the model is ready. Raises InputError."""
    status, ask = (rest if server.protocol == "rest" else grpc)(server)
    states = patiently(server, status)
    if "AVAILABLE" not in states.values():
        told = ", ".join(f"version {version} is {state}" for version, state in states.items()) or "no version is loaded"
        raise InputError(f"server {server.address}: model {server.model!r} is not ready ({told})")
    return lambda pictures: patiently(server, lambda: ask(pictures))


def patiently(server: Server, call: Callable[[], Any]) -> Any:
    """The call's value, after as many tries as the server deserves, with longer and longer pauses."""
    for i in range(server.retries + 1):
        try:
            return call()
        except Transient as error:
            if i == server.retries:
                raise InputError(f"no answer from {server.protocol} server {server.address} in {i + 1} "
                                 f"{'tries' if i else 'try'}: {error}") from error  # fmt: skip
            # Pauses of random lengths, or clients that failed together would come back together.
            time.sleep(min(LONGEST, 0.25 * 2**i) * random.uniform(0.5, 1))
    raise AssertionError


def rest(server: Server) -> tuple[Callable[[], dict[str, str]], Ask]:
    """Version 1 of the REST API; columns, as rows would repeat every name for every picture."""
    place = f"/v1/models/{quote(server.model)}"
    if server.version is not None:
        place += f"/versions/{server.version}"
    elif server.label is not None:
        place += f"/labels/{quote(server.label)}"

    def request(method: str, path: str, body: Any = None) -> Any:
        kind = http.client.HTTPSConnection if server.tls else http.client.HTTPConnection
        connection = kind(server.address, timeout=server.timeout)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Transient(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        try:
            parsed = json.loads(content)
        except ValueError:
            parsed = {}
        if response.status == 200 and isinstance(parsed, dict) and parsed:
            return parsed
        told = parsed.get("error") if isinstance(parsed, dict) else None
        message = f"HTTP {response.status} {response.reason}" + (f", {told}" if told else "")
        if response.status in TRANSIENT:
            raise Transient(message)
        if response.status == 400:
            raise Refused(message)
        raise InputError(f"server {server.address}, model {server.model!r}: {message}")

    def status() -> dict[str, str]:
        versions = request("GET", place)["model_version_status"]
        return {v["version"]: v["state"] for v in versions}

    def ask(pictures: list[bytes]) -> Answer:
        inputs = {"image_bytes": [{"b64": base64.b64encode(picture).decode()} for picture in pictures]}
        body = {"signature_name": "serving_default", "inputs": inputs}
        outputs = request("POST", f"{place}:predict", body)["outputs"]
        return np.array(outputs["probabilities"], np.float32), outputs["labels"]

    return status, ask


def grpc(server: Server) -> tuple[Callable[[], dict[str, str]], Ask]:
    """PredictionService and ModelService, with the official messages."""
    if importlib.util.find_spec("tensorflow_serving") is None:
        raise InputError("protocol grpc needs tensorflow-serving-api: pip install 'kcnn[serving]', or --protocol rest")
    import grpc as rpc
    import tensorflow as tf
    from tensorflow_serving.apis import (
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    if server.tls:
        channel = rpc.secure_channel(server.address, rpc.ssl_channel_credentials(), options)
    else:
        channel = rpc.insecure_channel(server.address, options)
    model_service = model_service_pb2_grpc.ModelServiceStub(channel)
    prediction_service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    transient = {rpc.StatusCode.UNAVAILABLE, rpc.StatusCode.DEADLINE_EXCEEDED, rpc.StatusCode.RESOURCE_EXHAUSTED}

    def to_model(request: Any) -> Any:
        request.model_spec.name = server.model
        if server.version is not None:
            request.model_spec.version.value = server.version
        elif server.label is not None:
            request.model_spec.version_label = server.label
        return request

    def call(method: Any, request: Any) -> Any:
        try:
            return method(to_model(request), timeout=server.timeout)
        except rpc.RpcError as error:
            code, message = error.code(), f"{error.code().name}, {error.details()}"
            if code in transient:
                raise Transient(message) from error
            if code is rpc.StatusCode.INVALID_ARGUMENT:
                raise Refused(message) from error
            raise InputError(f"server {server.address}, model {server.model!r}: {message}") from error

    def status() -> dict[str, str]:
        request = get_model_status_pb2.GetModelStatusRequest()
        versions = call(model_service.GetModelStatus, request).model_version_status
        return {str(v.version): get_model_status_pb2.ModelVersionStatus.State.Name(v.state) for v in versions}

    def ask(pictures: list[bytes]) -> Answer:
        request = predict_pb2.PredictRequest(output_filter=["probabilities", "labels"])
        request.model_spec.signature_name = "serving_default"
        request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(pictures, tf.string))
        outputs = call(prediction_service.Predict, request).outputs
        labels = tf.make_ndarray(outputs["labels"])
        return tf.make_ndarray(outputs["probabilities"]), [[name.decode() for name in row] for row in labels]

    return status, ask


def predict(
    ask: Ask, classes: tuple[str, ...], paths: list[str], top: int, batch: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """As `trainers.prediction.predict`, by a server. Raises InputError where its classes are not these."""
    rows, errors = [], []
    for start in range(0, len(paths), batch):
        pictures = {}
        for path in paths[start : start + batch]:
            try:
                pictures[path] = Path(path).read_bytes()
            except OSError as error:
                errors.append(f"{path}: cannot be read ({error.strerror})")
        for path, shares, labels in answered(ask, pictures, errors):
            best = np.argsort(-shares, kind="stable")[:top]
            place = classes.index(labels[0]) if labels[0] in classes else -1
            if len(shares) != len(classes) or place < 0 or shares[place] < shares.max():
                raise InputError(f"the server's model has other classes than the run: it answers {labels[0]!r} with "
                                 f"{len(shares)} probabilities, the run has {len(classes)} classes")  # fmt: skip
            rows.append({"image": path, "top": [{"class": classes[i], "probability": float(shares[i])} for i in best]})
    return rows, errors


def answered(ask: Ask, pictures: dict[str, bytes], errors: list[str]) -> list[tuple[str, np.ndarray, list[str]]]:
    """(path, probabilities, labels) of those that the server takes; of a refused batch each is asked for alone."""
    if not pictures:
        return []
    try:
        return list(zip(pictures, *ask(list(pictures.values())), strict=True))
    except Refused as error:
        if len(pictures) > 1:
            return [one for path, picture in pictures.items() for one in answered(ask, {path: picture}, errors)]
        [path] = pictures
        errors.append(f"{path}: the server refuses it ({plain(str(error))})")
        return []


def plain(message: str) -> str:
    """A TensorFlow error without the places in its graph."""
    asserted = re.search(r"assertion failed: \[(.*?)\]", message)
    return asserted[1] if asserted else re.sub(r"\{\{.*?\}\}\s*|\s*\[\[.*", "", message.split("\n")[0])
