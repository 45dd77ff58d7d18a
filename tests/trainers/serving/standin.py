"""A small server that conforms to TensorFlow Serving's APIs, for want of the real one.

It serves the numbered folders of one base path: gRPC Predict, Classify, GetModelMetadata and GetModelStatus with the
official messages, and version 1 of the REST API with base64, rows and columns. What it answers follows
https://github.com/tensorflow/serving/blob/master/tensorflow_serving/g3doc/api_rest.md; one model, the newest version
unless a request names another, errors as statuses.
"""

import base64
import json
import re
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

HTTP = {grpc.StatusCode.INVALID_ARGUMENT: 400, grpc.StatusCode.NOT_FOUND: 404, grpc.StatusCode.UNAVAILABLE: 503}
STATE = get_model_status_pb2.ModelVersionStatus


class Failure(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class StandIn:
    """Serves base/<version>/ under `name` until it is closed. `labels`: {label: version}.

    `unavailable` requests from now on are answered "unavailable", as by a server that is overloaded; `delay` seconds
    pass before any answer. `requests` counts all that came in.
    """

    def __init__(self, base, name="model", labels=None):
        self.base, self.name, self.labels = Path(base), name, labels or {}
        self.loaded, self.requests, self.unavailable, self.delay = {}, 0, 0, 0.0
        self.pause, self.lock = threading.Event(), threading.Lock()
        self.poll()
        self.grpc_server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(self), self.grpc_server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(self), self.grpc_server)
        self.grpc = f"localhost:{self.grpc_server.add_insecure_port('localhost:0')}"
        self.grpc_server.start()
        self.http_server = ThreadingHTTPServer(("localhost", 0), type("Handler", (Rest,), {"owner": self}))
        self.rest = f"localhost:{self.http_server.server_port}"
        threading.Thread(target=self.http_server.serve_forever, daemon=True).start()

    def close(self):
        self.pause.set()
        self.grpc_server.stop(None)
        self.http_server.shutdown()
        self.http_server.server_close()

    def poll(self):
        """Loads what has a number for a name, as a server does that watches the folder."""
        for path in sorted(self.base.iterdir()):
            if path.name.isdecimal() and int(path.name) not in self.loaded:
                self.loaded[int(path.name)] = tf.saved_model.load(str(path))

    def admit(self):
        with self.lock:
            self.requests += 1
            refuse = self.unavailable > 0
            self.unavailable -= refuse
        self.pause.wait(self.delay)
        if refuse:
            raise Failure(grpc.StatusCode.UNAVAILABLE, "the queue of requests is full")

    def version(self, name, version=None, label=None):
        if name != self.name:
            raise Failure(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({name})")
        if label:
            version = self.labels.get(label)
        elif version is None:
            version = max(self.loaded, default=None)
        if version not in self.loaded:
            raise Failure(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({name}, {label or version})"
            )
        return version

    def run(self, version, signature, inputs):
        """{name: array} to {name: array} by one of the model's signatures."""
        signatures = self.loaded[version].signatures
        signature = signature or "serving_default"
        if signature not in signatures:
            raise Failure(
                grpc.StatusCode.INVALID_ARGUMENT, f'Serving signature name: "{signature}" not found in signature def'
            )
        call = signatures[signature]
        specs = call.structured_input_signature[1]
        if inputs.keys() != specs.keys():
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, f"input keys {sorted(inputs)} are not {sorted(specs)}")
        try:
            values = {name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()}
            return {name: tensor.numpy() for name, tensor in call(**values).items()}
        except (tf.errors.OpError, ValueError, TypeError) as error:
            message = getattr(error, "message", str(error)).split("\n\n")[-1]  # a server has no Python to tell of
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, message) from error

    def statuses(self, version=None):
        if version is not None and version not in self.loaded:
            raise Failure(grpc.StatusCode.NOT_FOUND, f"Could not find version {version} of model {self.name}")
        return [STATE(version=v, state=STATE.AVAILABLE, status={}) for v in sorted(self.loaded) if version in (None, v)]

    def metadata(self, version):
        model = saved_model_pb2.SavedModel.FromString((self.base / str(version) / "saved_model.pb").read_bytes())
        content = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in model.meta_graphs[0].signature_def.items():
            content.signature_def[name].CopyFrom(signature)
        return content


def aborting(method):
    """A method of a servicer that answers a Failure with its status."""

    def answer(self, request, context):
        try:
            self.owner.admit()
            return method(self, request)
        except Failure as failure:
            context.abort(failure.code, str(failure))

    return answer


class Servicer:
    def __init__(self, owner):
        self.owner = owner

    def version_of(self, spec):
        asked = spec.version.value if spec.HasField("version") else None
        return self.owner.version(spec.name, asked, spec.version_label)


class Prediction(Servicer, prediction_service_pb2_grpc.PredictionServiceServicer):
    @aborting
    def Predict(self, request):
        version = self.version_of(request.model_spec)
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        outputs = self.owner.run(version, request.model_spec.signature_name, inputs)
        response = predict_pb2.PredictResponse(model_spec=request.model_spec)
        response.model_spec.version.value = version
        for name in request.output_filter or outputs:
            if name not in outputs:
                raise Failure(grpc.StatusCode.INVALID_ARGUMENT, f"output tensor alias not found in signature: {name}")
            response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
        return response

    @aborting
    def Classify(self, request):
        version = self.version_of(request.model_spec)
        examples = [e.SerializeToString() for e in request.input.example_list.examples]
        outputs = self.owner.run(version, request.model_spec.signature_name, {"inputs": examples})
        response = classification_pb2.ClassificationResponse()
        for names, scores in zip(outputs["classes"], outputs["scores"], strict=True):
            row = response.result.classifications.add()
            for name, score in zip(names, scores, strict=True):
                row.classes.add(label=name, score=score)
        return response

    @aborting
    def GetModelMetadata(self, request):
        version = self.version_of(request.model_spec)
        response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=request.model_spec)
        response.model_spec.version.value = version
        response.metadata["signature_def"].Pack(self.owner.metadata(version))
        return response


class Models(Servicer, model_service_pb2_grpc.ModelServiceServicer):
    @aborting
    def GetModelStatus(self, request):
        spec = request.model_spec
        self.owner.version(spec.name)
        asked = self.version_of(spec) if spec.HasField("version") or spec.version_label else None
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=self.owner.statuses(asked))


class Rest(BaseHTTPRequestHandler):
    owner = None
    PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata|:predict|:classify)?")

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer(None)

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body):
        try:
            self.owner.admit()
            status, content = 200, self.content(body)
        except Failure as failure:
            status, content = HTTP[failure.code], {"error": str(failure)}
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def content(self, body):
        found = self.PATH.fullmatch(self.path)
        if not found or (body is None) != (found[4] in (None, "/metadata")):
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, f"Malformed request: {self.command} {self.path}")
        name, version, label, verb = found.groups()
        asked = self.owner.version(name, int(version) if version else None, label)
        if verb is None:
            statuses = self.owner.statuses(asked if version or label else None)
            return {
                "model_version_status": [
                    {
                        "version": str(s.version),
                        "state": STATE.State.Name(s.state),
                        "status": {"error_code": "OK", "error_message": ""},
                    }
                    for s in statuses
                ]
            }
        if verb == "/metadata":
            spec = {"name": name, "signature_name": "", "version": str(asked)}
            signatures = json_format.MessageToDict(self.owner.metadata(asked), preserving_proto_field_name=True)
            return {"model_spec": spec, "metadata": {"signature_def": signatures}}
        try:
            request = json.loads(body)
        except ValueError as error:
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, f"JSON Parse error: {error}") from error
        return (self.predict if verb == ":predict" else self.classify)(asked, request)

    def predict(self, version, request):
        if ("instances" in request) == ("inputs" in request):
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "Missing 'inputs' or 'instances' key")
        rows = "instances" in request
        given = unpacked(request["instances" if rows else "inputs"])
        signature = request.get("signature_name", "serving_default")
        (only, *others) = self.owner.loaded[version].signatures[signature].structured_input_signature[1]
        assert not others
        if rows:
            inputs = {only: [row[only] if isinstance(row, dict) else row for row in given]}
        else:
            inputs = given if isinstance(given, dict) else {only: given}
        outputs = {name: listed(value) for name, value in self.owner.run(version, signature, inputs).items()}
        if not rows:
            return {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))}
        if len(outputs) == 1:
            return {"predictions": next(iter(outputs.values()))}
        columns = [[(name, value) for value in values] for name, values in outputs.items()]
        return {"predictions": [dict(row) for row in zip(*columns, strict=True)]}

    def classify(self, version, request):
        examples = []
        for given in unpacked(request["examples"]):
            features = {
                key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for key, value in given.items()
            }
            examples.append(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
        outputs = self.owner.run(version, request.get("signature_name"), {"inputs": examples})
        pairs = zip(listed(outputs["classes"]), listed(outputs["scores"]), strict=True)
        return {"results": [[list(pair) for pair in zip(*row, strict=True)] for row in pairs]}


def unpacked(value):
    """JSON with {"b64": text} as the bytes that they stand for."""
    if isinstance(value, dict):
        return base64.b64decode(value["b64"]) if value.keys() == {"b64"} else {k: unpacked(v) for k, v in value.items()}
    return [unpacked(v) for v in value] if isinstance(value, list) else value


def listed(array):
    """Nested lists, with text for bytes."""
    return np.char.decode(array.astype(bytes), "utf-8").tolist() if array.dtype == object else array.tolist()
