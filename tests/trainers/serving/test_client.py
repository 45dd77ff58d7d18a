"""`kcnn predict --server` against a server that speaks TensorFlow Serving's APIs."""

import base64
import json
import os
import re
import socket
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml

import kcnn.predict
from trainers.prediction import predict
from trainers.runs.checkpoints import load_run
from trainers.serving import client, warmup

PROTOCOLS = ("rest", "grpc")


@pytest.fixture(scope="module")
def server(standin, exported):
    server = standin.StandIn(exported[0], labels={"stable": 1, "canary": 2})
    yield server
    server.close()


@pytest.fixture
def album(photos, tmp_path):
    """Three pictures, of two classes and two formats."""
    (tmp_path / "a.jpg").write_bytes((photos / "val" / "china" / "0.jpg").read_bytes())
    (tmp_path / "b.jpg").write_bytes((photos / "val" / "flower" / "0.jpg").read_bytes())
    tf.io.write_file(str(tmp_path / "c.png"), tf.io.encode_png(warmup.gradient(50)))
    return tmp_path


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)


def command(*argv):
    with pytest.raises(SystemExit) as left:
        kcnn.predict.main([str(a) for a in argv])
    return left.value.code


def asked(server, protocol):
    return ["--server", getattr(server, protocol), "--protocol", protocol]


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("more", [[], ["--batch-size", "2"], ["--model-version", "1"], ["--version-label", "stable"]])
def test_a_server_predicts_what_this_machine_does(shot, server, album, capsys, protocol, more):
    paths = [str(album / name) for name in ("a.jpg", "b.jpg", "c.png")]
    expected, _ = predict(*load_run(shot.folder), paths, 2, 32)
    assert command(shot.folder, album, *asked(server, protocol), *more, "--json") == 0
    rows = last_line(capsys)["predictions"]
    assert [row["image"] for row in rows] == paths
    for row, right in zip(rows, expected, strict=True):
        assert [best["class"] for best in row["top"]] == [best["class"] for best in right["top"]]
        np.testing.assert_allclose(
            [best["probability"] for best in row["top"]], [best["probability"] for best in right["top"]], atol=1e-5
        )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_broken_pictures_are_told_and_the_others_predicted(shot, server, album, capsys, protocol):
    (album / "aa.jpg").write_bytes((album / "a.jpg").read_bytes()[:300])
    (album / "ab.png").write_bytes(b"not a picture")
    assert command(shot.folder, album, *asked(server, protocol), "--json") == 2
    out, err = capsys.readouterr()
    assert [row["image"][-5:] for row in json.loads(out.splitlines()[-1])["predictions"]] == ["a.jpg", "b.jpg", "c.png"]
    lines = err.splitlines()
    assert "aa.jpg: the server refuses it" in lines[0]
    assert "ab.png" in lines[1] and "picture 0 of the request is no" in lines[1] and "JPEG" in lines[1]
    assert "2 failed" in lines[2]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_busy_server_is_asked_again(shot, server, album, capsys, protocol):
    server.unavailable, before = 2, server.requests
    assert command(shot.folder, album / "a.jpg", *asked(server, protocol)) == 0
    assert server.requests == before + 4  # the status in three tries, and the picture
    server.unavailable = 5
    assert command(shot.folder, album / "a.jpg", *asked(server, protocol), "--retries", "1") == 2
    server.unavailable = 0
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"no answer from {protocol} server {getattr(server, protocol)} in 2 tries" in line
    assert "the queue of requests is full" in line


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_slow_server_is_not_waited_for(shot, server, album, capsys, protocol):
    server.delay = 3
    try:
        code = command(shot.folder, album / "a.jpg", *asked(server, protocol), "--timeout", "0.3", "--retries", "0")
    finally:
        server.delay = 0
    assert code == 2 and "in 1 try:" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nobody_there_is_one_line(shot, album, capsys, protocol):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = ["--server", address, "--protocol", protocol, "--retries", "1", "--timeout", "2"]
    assert command(shot.folder, album / "a.jpg", *flags) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"no answer from {protocol} server {address} in 2 tries" in line


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("flags, words", [
    (["--model", "cats"], "model 'cats'"),
    (["--model-version", "7"], "7"),
    (["--version-label", "beta"], "beta"),
])  # fmt: skip
def test_what_is_not_served_is_one_line(shot, server, album, capsys, protocol, flags, words):
    assert command(shot.folder, album / "a.jpg", *asked(server, protocol), *flags) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line and ("NOT_FOUND" in line or "404" in line)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_file_given_twice_is_answered_twice(shot, server, album, capsys, protocol):
    given = [str(album / name) for name in ("a.jpg", "b.jpg", "a.jpg")]
    assert command(shot.folder, *given, *asked(server, protocol), "--json") == 0
    rows = last_line(capsys)["predictions"]
    assert [row["image"] for row in rows] == given and rows[0] == rows[2] != rows[1]


def test_another_model_s_classes_are_noticed(finished, server, album, capsys):
    assert command(finished.folder, album / "a.jpg", *asked(server, "rest")) == 2
    assert "the server's model has other classes than the run" in capsys.readouterr().err


@pytest.mark.parametrize("flags, words", [
    (["--server", "a b"], "server 'a b': HOST:PORT is needed, such as localhost:8501"),
    (["--server", ""], "server '': HOST:PORT is needed"),
    (["--server", "x:0"], "server 'x:0': HOST:PORT is needed"),
    (["--server", "x:99999"], "server 'x:99999': HOST:PORT is needed"),
    (["--server", "a..b:1", "--retries", "0"], "server a..b:1"),
    (["--server", "x:1", "--timeout", "0"], "timeout 0.0"),
    (["--server", "x:1", "--timeout", "nan"], "timeout nan"),
    (["--server", "x:1", "--timeout", "inf"], "timeout inf"),
    (["--server", "x:1", "--timeout", "1e300"], "timeout 1e+300"),
    (["--server", "x:1", "--retries", "-1"], "retries -1"),
    (["--server", "x:1", "--retries", "1" + "0" * 30], "retries 1000"),
    (["--server", "x:1", "--model-version", "-1"], "model-version -1"),
    (["--server", "x:1", "--protocol", "grpc", "--model-version", str(2**63)], f"model-version {2**63}"),
    (["--server", "x:1", "--model", ""], "model ''"),
    (["--server", "x:1", "--version-label", ""], "version-label ''"),
    (["--top", "2.7"], "2.7: a whole number is needed"),
    (["--server", "x:1", "--protocol", "soap"], "soap"),
    (["--server", "x:1", "--model-version", "1", "--version-label", "b"], "only one can be asked for"),
])  # fmt: skip
def test_bad_input_is_one_line(shot, album, capsys, flags, words):
    assert command(shot.folder, album / "a.jpg", *flags) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize("text, address, tls", [
    ("models", "models:8501", False), ("10.0.0.1:80", "10.0.0.1:80", False),
    ("https://m.example", "m.example:8501", True), ("[::1]:8501", "[::1]:8501", False),
])  # fmt: skip
def test_addresses(text, address, tls):
    server = client.parse(text, "rest")
    assert (server.address, server.tls) == (address, tls)


def test_warm_up_requests_are_prediction_logs_that_run(server, exported):
    import grpc
    from tensorflow_serving.apis import prediction_log_pb2, prediction_service_pb2_grpc

    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(server.grpc))
    names = []
    for record in tf.data.TFRecordDataset(str(exported[0] / "1" / warmup.PLACE)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        names.append(request.model_spec.signature_name)
        assert kind == ("classify_log" if names[-1] == "classify" else "predict_log")
        request.model_spec.name = "model"
        request.model_spec.version.value = 1
        if kind == "classify_log":
            (row,) = stub.Classify(request).result.classifications
            assert {c.label for c in row.classes} == {"china", "flower"}
            assert sum(c.score for c in row.classes) == pytest.approx(1, abs=1e-5)
        else:
            answer = stub.Predict(request)
            assert all(tensor.tensor_shape.dim[0].size == 1 for tensor in answer.outputs.values())
    assert set(names) == set(tf.saved_model.load(str(exported[0] / "1")).signatures)


# The stand-in, as curl and other people's clients see it.


def rest(server, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(f"http://{server.rest}{path}", data) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_rest_in_rows_and_columns(server, album):
    picture = {"b64": base64.b64encode((album / "a.jpg").read_bytes()).decode()}
    code, rows = rest(server, "/v1/models/model/versions/1:predict", {"instances": [{"image_bytes": picture}, picture]})
    assert code == 200
    first, second = rows["predictions"]
    assert first == second and set(first) == {"probabilities", "classes", "labels", "scores"}
    code, columns = rest(server, "/v1/models/model/labels/stable:predict", {"inputs": {"image_bytes": [picture]}})
    assert columns["outputs"]["labels"] == [first["labels"]]
    body = {"signature_name": "features", "instances": [picture]}
    code, rows = rest(server, "/v1/models/model/versions/1:predict", body)
    assert len(rows["predictions"][0]) == 64
    body = {"signature_name": "classify", "examples": [{"image_bytes": picture}]}
    code, answer = rest(server, "/v1/models/model/versions/1:classify", body)
    assert [name for name, _ in answer["results"][0]] == first["labels"]
    body = {"signature_name": "image", "instances": np.zeros((2, 5, 7, 3), int).tolist()}
    code, rows = rest(server, "/v1/models/model:predict", body)
    assert code == 200 and len(rows["predictions"]) == 2 and len(rows["predictions"][0]["labels"]) == 1  # version 2


def test_rest_tells_status_and_metadata(server):
    _, status = rest(server, "/v1/models/model")
    assert [(v["version"], v["state"]) for v in status["model_version_status"]] == [
        ("1", "AVAILABLE"),
        ("2", "AVAILABLE"),
    ]
    _, metadata = rest(server, "/v1/models/model/versions/1/metadata")
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert rest(server, "/v1/models/model:predict", {"instances": [{"b64": ""}]})[0] == 400
    assert rest(server, "/v1/models/cats")[0] == 404


def test_a_new_version_is_served_once_it_is_there(standin, exported, tmp_path):
    import shutil

    shutil.copytree(exported[0] / "1", tmp_path / "1")
    server = standin.StandIn(tmp_path)
    try:
        shutil.copytree(exported[0] / "2", tmp_path / ".partial-x" / "model")
        server.poll()
        assert [v["version"] for v in rest(server, "/v1/models/model")[1]["model_version_status"]] == ["1"]
        (tmp_path / ".partial-x" / "model").rename(tmp_path / "2")
        server.poll()
        assert [v["version"] for v in rest(server, "/v1/models/model")[1]["model_version_status"]] == ["1", "2"]
    finally:
        server.close()


# The real one.


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_real_server(shot, album, capsys, protocol):
    """KCNN_TF_SERVING=host:port names a TensorFlow Serving that serves an export of any run of two classes, china and
    flower, as "model"; its port for REST is the next one."""
    address = os.environ.get("KCNN_TF_SERVING")
    if not address:
        pytest.skip("KCNN_TF_SERVING=host:port names no server")
    host, port = address.rsplit(":", 1)
    place = address if protocol == "grpc" else f"{host}:{int(port) + 1}"
    assert command(shot.folder, album, "--server", place, "--protocol", protocol, "--json") == 0
    assert len(last_line(capsys)["predictions"]) == 3


# What the documentation tells people to copy.


def blocks(language=""):
    text = (Path(__file__).parents[3] / "docs" / "serving.md").read_text()
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [block for kind, block in fenced if kind == language]


def test_the_documented_settings_are_read(standin):
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    (models,) = (block for block in blocks() if "model_config_list" in block)
    config = text_format.Parse(models, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert model.name == "model" and model.version_labels == {"stable": 1, "canary": 2}
    (manifest,) = blocks("yaml")
    deployment, service = yaml.safe_load_all(manifest)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {port["name"] for port in container["ports"]} == {port["targetPort"] for port in service["spec"]["ports"]}


def test_the_documented_client_runs(server, tmp_path, album, monkeypatch, capsys):
    (code,) = blocks("python")
    monkeypatch.chdir(album)
    code = code.replace("localhost:8500", server.grpc).replace("cat.jpg", "a.jpg").replace("dog.png", "c.png")
    exec(code, {})
    assert "china" in capsys.readouterr().out
