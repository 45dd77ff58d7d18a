"""What a broken or hostile server sends ends in one line: soon, in little memory, and never as a prediction."""

import gzip
import json
import socket
import threading
import time
from concurrent import futures
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import tensorflow as tf

from kcnn.errors import InputError
from trainers.serving import client, protocols
from trainers.serving.client import connect, parse

STATUS = {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}
GOOD = {"outputs": {"probabilities": [[0.25, 0.75]], "labels": [["b", "a"]]}}


def http(body, status="200 OK", headers=()):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextmanager
def serving(predicted, status=None):
    """The address of a server that answers questions for its status with `status` and others with `predicted`.

    Both are bytes or functions that are called with the connection; without a status the model is ready.
    """
    status = http(STATUS) if status is None else status
    listener = socket.create_server(("localhost", 0))

    def answer(connection):
        with connection:
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536)
            head, _, body = request.partition(b"\r\n\r\n")
            length = next((int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-l")), 0)
            while len(body) < length:
                body += connection.recv(65536)
            content = status if request.startswith(b"GET") else predicted
            with suppress(OSError):  # the client may have left
                content(connection) if callable(content) else connection.sendall(content)

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"localhost:{listener.getsockname()[1]}"
    finally:
        listener.close()


def ask(address, protocol="rest", pictures=(b"x",), timeout=10.0):
    return connect(parse(address, protocol, timeout=timeout, retries=0))(list(pictures))


def test_a_good_answer_is_taken():
    with serving(http(GOOD)) as address:
        shares, labels = ask(address)
    np.testing.assert_array_equal(shares, [[0.25, 0.75]])
    assert labels == [["b", "a"]]


@pytest.mark.parametrize("head", [0, 20], ids=["from the first byte", "in the body"])
def test_an_answer_in_drops_is_not_waited_for(head):
    whole = http(GOOD)
    start = len(whole) - 20 if head else 0

    def drip(connection):
        connection.sendall(whole[:start])
        for byte in whole[start : start + 20]:
            time.sleep(0.2)  # each well within the timeout, all together beyond it
            connection.sendall(bytes([byte]))
        connection.sendall(whole[start + 20 :])

    with serving(drip) as address, pytest.raises(InputError, match=r"in 1 try: no whole answer within 1 s"):
        ask(address, timeout=1.0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("head", [b"", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 99999999999\r\n"])
def test_an_answer_without_end_is_given_up(head):
    sent = []

    def endless(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        block = b" " * 2**20
        block = b"100000\r\n" + block + b"\r\n" if b"chunked" in head else block
        while len(sent) < 1000:
            connection.sendall(block)
            sent.append(len(block))

    with serving(endless) as address, pytest.raises(InputError, match="larger than 32 MiB: ask for fewer images"):
        ask(address, timeout=60.0)
    assert sum(sent) < 2 * protocols.LARGEST


MALFORMED = [
    b"", b"no JSON", b"[]", b"7", b'"outputs"', b"[" * 100_000, {}, {"outputs": 7}, {"outputs": []}, {"outputs": None},
    {"outputs": {}}, {"outputs": {"probabilities": [[0.5, 0.5]]}}, {"outputs": {"labels": [["a"]]}},
    {"predictions": [[0.5, 0.5]]}, b'{"outputs": ' + b"1" * 10_000 + b"}",
]  # fmt: skip
PROBABILITIES = [
    None, 0.5, [0.25, 0.75], [[]], [], [[0.25, 0.75], [0.25, 0.75]], [[0.25], [0.25, 0.5]], [["0.25", "0.75"]],
    [[None, 1.0]], [[True, False]], [[[0.25, 0.75]]], {"a": 1}, "0.5", [[10**400, 0.0]], [[float("nan"), 1.0]],
    [[float("inf"), 0.0]], [[7.0, 0.0]], [[-0.5, 1.5]], [[0.25, 0.25]], [[0.9, 0.9]], [[1e308, 1e308]],
]  # fmt: skip
LABELS = [None, [], ["a"], [[]], [["a"], ["a"]], [[1, 2]], [[None]], {"a": "b"}, "a", [[["a"]]]]


@pytest.mark.parametrize("body", [
    *MALFORMED,
    *({"outputs": GOOD["outputs"] | {"probabilities": value}} for value in PROBABILITIES),
    *({"outputs": GOOD["outputs"] | {"labels": value}} for value in LABELS),
], ids=lambda body: str(body)[:60])  # fmt: skip
def test_a_malformed_answer_is_one_line(body):
    with serving(http(body)) as address, pytest.raises(InputError, match=f"server {address}, model 'model': ") as told:
        ask(address)
    assert len(str(told.value)) < 500 and str(told.value).isprintable()


@pytest.mark.parametrize("body", [
    b"", b"[]", {}, {"model_version_status": None}, {"model_version_status": {"1": "AVAILABLE"}},
    {"model_version_status": [7]}, {"model_version_status": [{}]}, {"model_version_status": []},
    {"model_version_status": [{"version": [1], "state": {"a": 2}}] * 1000},
], ids=lambda body: str(body)[:60])  # fmt: skip
def test_a_malformed_status_is_one_line(body):
    with serving(http(GOOD), http(body)) as address, pytest.raises(InputError, match=f"server {address}") as told:
        ask(address)
    assert len(str(told.value)) < 500


@pytest.mark.parametrize("status", [
    b"HTTP/1.1 abc\r\n\r\n", b"garbage" * 1000, b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000, b"\x00" * 100, b"",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 302 F\r\nLocation: file:///x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
    b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 999 " + b"z" * 60_000 + b"\r\n\r\n",
], ids=lambda body: str(body[:60]))  # fmt: skip
def test_what_is_no_http_is_one_line(status):
    with serving(http(GOOD), status) as address, pytest.raises(InputError, match=f"server {address}") as told:
        ask(address)
    assert len(str(told.value)) < 500 and str(told.value).isprintable()


def test_a_message_is_shown_without_its_terminal_codes():
    error = {"error": "\x1b[2Jgone\n\x07 " + "very " * 10_000 + "long"}
    with serving(http(error, "500 \x1b[31mred")) as address, pytest.raises(InputError, match=r"HTTP 500.*gone") as told:
        ask(address)
    assert str(told.value).isprintable() and len(str(told.value)) < 500


def test_a_compressed_answer_is_not_unpacked():
    body = gzip.compress(b" " * 2**28)
    with (
        serving(http(body, headers=["Content-Encoding: gzip"])) as address,
        pytest.raises(InputError, match="no JSON object"),
    ):
        ask(address)


def test_any_error_of_a_server_s_version_is_one_line():
    with serving(http(GOOD), http({"error": "no"}, "400 Bad Request")) as address, pytest.raises(InputError) as told:
        ask(address)
    assert "HTTP 400 Bad Request, no" in str(told.value)


# gRPC


@contextmanager
def predicting(response):
    """The address of a gRPC server whose model is ready and predicts `response`."""
    grpc = pytest.importorskip("grpc", reason="pip install '.[serving]'")
    from tensorflow_serving.apis import (
        get_model_status_pb2,
        model_service_pb2_grpc,
        prediction_service_pb2_grpc,
    )

    class Models(model_service_pb2_grpc.ModelServiceServicer):
        def GetModelStatus(self, request, context):
            state = get_model_status_pb2.ModelVersionStatus(version=1, state=30)
            odd = get_model_status_pb2.ModelVersionStatus(version=2, state=77)
            return get_model_status_pb2.GetModelStatusResponse(model_version_status=[odd, state])

    class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            return response

    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.max_send_message_length", -1)])
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None)


def tensors(probabilities=None, labels=None):
    pytest.importorskip("tensorflow_serving", reason="pip install '.[serving]'")
    from tensorflow_serving.apis import predict_pb2

    given = {"probabilities": probabilities, "labels": labels}
    answer = predict_pb2.PredictResponse()
    for name, value in given.items():
        if value is not None:
            answer.outputs[name].CopyFrom(value)
    return answer


def proto(dtype, shape, **content):
    """A TensorProto whose shape and content need not agree."""
    from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2

    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=n) for n in shape]
    return tensor_pb2.TensorProto(dtype=dtype, tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=dims), **content)


FLOAT, STRING, RESOURCE, UNKNOWN = 1, 7, 20, 999
SHARES, NAMES = tf.make_tensor_proto([[0.25, 0.75]], tf.float32), tf.make_tensor_proto([["b", "a"]])


def test_a_good_grpc_answer_is_taken():
    with predicting(tensors(SHARES, NAMES)) as address:
        shares, labels = ask(address, "grpc")
    np.testing.assert_array_equal(shares, [[0.25, 0.75]])
    assert labels == [["b", "a"]]


@pytest.mark.parametrize("shares, names", [
    (None, None), (SHARES, None), (None, NAMES), (SHARES, SHARES), (NAMES, NAMES),
    (proto(FLOAT, [1, 2**40], float_val=[0.5]), NAMES), (proto(FLOAT, [1, 2], tensor_content=b"xyz"), NAMES),
    (proto(FLOAT, [-1, 2], float_val=[0.5]), NAMES), (proto(FLOAT, [2**62, 2**62], float_val=[0.5]), NAMES),
    (proto(FLOAT, [], float_val=[0.5]), NAMES), (proto(FLOAT, [1, 2], float_val=[0.1, 0.2, 0.7]), NAMES),
    (proto(RESOURCE, [1, 2]), NAMES), (proto(UNKNOWN, [1, 2]), NAMES), (proto(STRING, [1, 2]), NAMES),
    (proto(FLOAT, [1, 2], float_val=[float("nan"), 1]), NAMES), (proto(FLOAT, [1, 2], float_val=[7, 0]), NAMES),
    (SHARES, proto(STRING, [1, 2**40], string_val=[b"a"])), (SHARES, proto(STRING, [1, 0])),
    (SHARES, proto(STRING, [1, 2], tensor_content=b"xyz")), (SHARES, proto(STRING, [2], string_val=[b"a", b"b"])),
])  # fmt: skip
def test_a_malformed_tensor_is_one_line(shares, names):
    with predicting(tensors(shares, names)) as address, pytest.raises(InputError, match="its answer is malformed"):
        ask(address, "grpc")


def test_a_name_that_is_no_text_is_not_a_class_of_the_run(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"x")
    with predicting(tensors(SHARES, tf.make_tensor_proto([[b"\xff", b"a"]]))) as address:
        asks = connect(parse(address, "grpc", retries=0))
        with pytest.raises(InputError, match="the server's model has other classes than the run"):
            client.predict(asks, ("a", "b"), [str(tmp_path / "x.jpg")], 5, 1)


def test_a_grpc_answer_beyond_the_limit_is_one_line():
    shares = proto(FLOAT, [1, 2**24], tensor_content=bytes(2**26))
    with predicting(tensors(shares, NAMES)) as address, pytest.raises(InputError, match="ask for fewer images"):
        ask(address, "grpc")
