"""TensorFlow Serving's two APIs: encoded pictures are sent, probabilities and labels are received, as plain data.

The APIs: https://github.com/tensorflow/serving/blob/master/tensorflow_serving/g3doc/api_rest.md and
.../tensorflow_serving/apis/prediction_service.proto, model_service.proto. A server may be broken or hostile: the
time and the size of its answers are limited, and they are checked before they are used.
"""

import base64
import concurrent.futures
import importlib.util
import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote

import numpy as np
import urllib3

from kcnn.errors import InputError

TRANSIENT = {429, 502, 503, 504}  # of HTTP: too many requests, bad gateway, unavailable, gateway timeout
LARGEST = 2**25  # bytes of an answer: more than a million probabilities as text
FEWER = "ask for fewer images at once, --batch-size"

Answer = tuple[Any, Any]  # probabilities and labels as the server gave them
Ask = Callable[[list[bytes]], Answer]


@dataclass(frozen=True)
class Server:
    """A served model. timeout: seconds for one whole request. retries: how often a request that failed is repeated."""

    address: str
    protocol: str = "rest"
    model: str = "model"
    version: int | None = None
    label: str | None = None
    timeout: float = 10.0
    retries: int = 3
    tls: bool = False

    def refuse(self, message: str) -> NoReturn:
        raise InputError(f"server {self.address}, model {self.model!r}: {message}")


class Transient(Exception):
    """The server did not answer, but may do so later."""


class Refused(Exception):
    """The server cannot process the request."""


def rest(server: Server) -> tuple[Callable[[], dict[str, str]], Ask]:
    """Version 1 of the REST API, in its columnar format: rows would repeat every name for every picture."""
    place = f"/v1/models/{quote(server.model, safe='')}"
    if server.version is not None:
        place += f"/versions/{server.version}"
    elif server.label is not None:
        place += f"/labels/{quote(server.label, safe='')}"
    try:
        pool = urllib3.connection_from_url(f"http{'s' * server.tls}://{server.address}", timeout=server.timeout)
    except urllib3.exceptions.LocationValueError as error:
        raise InputError(f"server {server.address!r}: {error}") from error

    def status() -> dict[str, str]:
        versions = request(server, pool, "GET", place).get("model_version_status")
        if not isinstance(versions, list) or not all(isinstance(v, dict) for v in versions):
            server.refuse("its status is malformed: it has no list model_version_status")
        return {told(str(v.get("version"))): told(str(v.get("state"))) for v in versions}

    def ask(pictures: list[bytes]) -> Answer:
        inputs = {"image_bytes": [{"b64": base64.b64encode(picture).decode()} for picture in pictures]}
        body = {"signature_name": "serving_default", "inputs": inputs}
        outputs = request(server, pool, "POST", f"{place}:predict", body).get("outputs")
        if not isinstance(outputs, dict):
            server.refuse("its answer is malformed: it has no outputs")
        return outputs.get("probabilities"), outputs.get("labels")

    return status, ask


def request(
    server: Server, pool: urllib3.HTTPConnectionPool, method: str, path: str, body: Any = None
) -> dict[str, Any]:
    """The JSON object that the server answers with. Raises Transient, Refused or InputError for anything else."""
    encoded = json.dumps(body).encode() if body else None

    def fetch() -> tuple[int, str, bytes]:
        # A compressed answer could be small here and without end once it is unpacked: it is left as it is.
        response = pool.urlopen(
            method,
            path,
            encoded,
            {"Content-Type": "application/json"},
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        try:
            return response.status, response.reason or "", response.read(LARGEST + 1)
        finally:
            response.close()

    try:
        status, reason, content = within(server.timeout, fetch)
    except TimeoutError as error:
        raise Transient(f"no whole answer within {server.timeout:g} s") from error
    except (urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
        raise Transient(told(str(error) or type(error).__name__)) from error
    if len(content) > LARGEST:
        server.refuse(f"the answer is larger than {LARGEST >> 20} MiB: {FEWER}")
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        parsed = None
    if status == 200 and isinstance(parsed, dict):
        return parsed
    why = parsed.get("error") if isinstance(parsed, dict) else None
    message = told(f"HTTP {status} {reason}" + (f", {why}" if why else ""))
    if status in TRANSIENT:
        raise Transient(message)
    if status == 400:
        raise Refused(message)
    server.refuse(f"{message}, with an answer that is no JSON object" if status == 200 else message)


def grpc(server: Server) -> tuple[Callable[[], dict[str, str]], Ask]:
    """PredictionService and ModelService, with the official messages."""
    need_grpc()
    import grpc as rpc
    import tensorflow as tf
    from tensorflow_serving.apis import (
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    options = [("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", -1)]
    if server.tls:
        channel = rpc.secure_channel(server.address, rpc.ssl_channel_credentials(), options)
    else:
        channel = rpc.insecure_channel(server.address, options)
    model_service = model_service_pb2_grpc.ModelServiceStub(channel)
    prediction_service = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def status() -> dict[str, str]:
        names = dict(map(reversed, get_model_status_pb2.ModelVersionStatus.State.items()))
        message = get_model_status_pb2.GetModelStatusRequest()
        versions = grpc_answer(server, model_service.GetModelStatus, message).model_version_status
        return {str(v.version): names.get(v.state, str(v.state)) for v in versions}

    def ask(pictures: list[bytes]) -> Answer:
        message = predict_pb2.PredictRequest(output_filter=["probabilities", "labels"])
        message.model_spec.signature_name = "serving_default"
        message.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(pictures, tf.string))
        outputs = grpc_answer(server, prediction_service.Predict, message).outputs
        names = array(outputs, "labels")
        if names is not None and names.dtype == object and names.ndim == 2:
            return array(outputs, "probabilities"), [[n.decode("utf-8", "replace") for n in row] for row in names]
        return array(outputs, "probabilities"), None

    return status, ask


def need_grpc() -> None:
    """Raises InputError where the package of the official messages is not installed."""
    if importlib.util.find_spec("tensorflow_serving") is None:
        raise InputError(
            "protocol grpc needs tensorflow-serving-api: pip install tensorflow-serving-api, or --protocol rest"
        )


def grpc_answer(server: Server, method: Callable[..., Any], message: Any) -> Any:
    """The server's answer to a message. Raises Transient, Refused or InputError where it has none."""
    import grpc as rpc

    transient = {rpc.StatusCode.UNAVAILABLE, rpc.StatusCode.DEADLINE_EXCEEDED, rpc.StatusCode.RESOURCE_EXHAUSTED}
    message.model_spec.name = server.model
    if server.version is not None:
        message.model_spec.version.value = server.version
    elif server.label is not None:
        message.model_spec.version_label = server.label
    try:
        return method(message, timeout=server.timeout)
    except rpc.RpcError as error:
        code, why = error.code(), told(f"{error.code().name}, {error.details()}")
        if code is rpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in why:
            server.refuse(f"{why}: {FEWER}")
        if code in transient:
            raise Transient(why) from error
        if code is rpc.StatusCode.INVALID_ARGUMENT:
            raise Refused(why) from error
        server.refuse(why)


def array(outputs: Any, name: str) -> np.ndarray | None:
    """The values of a tensor of a gRPC answer; None where there are none, or its shape does not go with them."""
    import tensorflow as tf

    tensor = outputs.get(name)
    # A tensor of one value may say that this stands for any number of them.
    if tensor is None or math.prod(max(0, d.size) for d in tensor.tensor_shape.dim) > LARGEST // 8:
        return None
    try:
        return tf.make_ndarray(tensor)
    except (TypeError, ValueError, KeyError, OverflowError):
        return None


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """The call's value. Raises TimeoutError once the seconds are over, whatever the call is at.

    A socket knows only how long one read may take: a server that sends a byte now and then could be waited for without
    end. A call that is given up goes on in its thread, which ends with the process.
    """
    outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return outcome.result(seconds)


def told(text: str) -> str:
    """A server's text as one short line, without characters that would control a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())
    return line if len(line) <= 300 else f"{line[:300]}..."
