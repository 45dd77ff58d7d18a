"""Thousands of damaged and changed run folders, from a seed: each is opened rightly, or refused in one line.

What is opened is a run as training leaves it, with a tiny network: for going on with it, for evaluation and prediction,
and for export. Nothing is trained.
"""

import contextlib
import importlib
import io
import json
import random
import re
import resource
import struct
import time
import zipfile
from collections import Counter

import numpy as np
import pytest
import yaml
from keras.src.backend.common.stateless_scope import in_stateless_scope

import kcnn.train
from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.run import HISTORY, Position
from trainers.runs import checkpoints, folders, provenance, resuming
from trainers.runs.files import write_json
from trainers.serving.model_card import about_run

fitting = importlib.import_module("trainers.training")  # the package has its function under that name

SECONDS, BYTES = 10, 2**30  # a case may take
HOSTILE = [None, True, False, 0, -1, 1, 2**31, 2**63, 10**18, 10**400, 0.5, -0.0, 1e308, 1e-320, float("nan"),
           float("inf"), "", "x", "nan", "1e5", "\0", "a\nb", "é\U0001f600", "\udcff", "../../x", "/dev/zero",
           "x" * 10_000, [], {}, [[]], [None], [1, "2"], ["", ""], {"a": 1}, [{}] * 3,
           json.loads("[" * 40 + "]" * 40)]  # fmt: skip
SNIPPETS = [b"*a", b"&a ", b"!!python/name:os.system ", b"!!binary ", b"? ", b"<<: ", b"[" * 2000, b"{" * 2000,
            b"- " * 2000, b"\xff\xfe", b"\0", b"\r", b"\xc2\x85", b"---\n", b"...\n", b"%YAML 9\n", b"#", b"'",
            b'"', b"\\", b"9" * 5000, b"1e999", b"0x" + b"f" * 999, b"1" + b":59" * 500, b"2001-99-99",
            b"\xed\xb3\xbf", b"NaN", b"-Infinity"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two epochs, of which the second is over: (folder, started, state)."""
    config = TrainConfig(
        arch="resnet-18", width=0.0625, depth=0.25, resolution=16, batch_size=480, epochs=3, ema=0.9, optimizer="sgd",
        run_dir=str(tmp_path_factory.mktemp("fuzz") / "run"),
    )  # fmt: skip
    started = fitting.prepare(*fitting.new_or_resumed(config))
    with contextlib.ExitStack() as stack:
        resuming.enter(started, stack)
    state = fitting.make(started)
    figures = dict.fromkeys(HISTORY, 0.5)
    for epoch in (1, 2):
        state.step.assign(3 * epoch)
        for v in checkpoints.variables(state).values():
            v.assign(v + 1)
        state.step.assign(3 * epoch)
        position = Position(3 * epoch, epoch, best=0.5, history=[figures] * epoch, steps_per_epoch=3)
        checkpoints.save(started.folder / "checkpoints", checkpoints.step_name(3 * epoch), state, vars(position))
        folders.append_metrics(started.folder, {"step": 3 * epoch, "epoch": epoch, **figures})
    result = {"planned": 6, "steps": 6, "epochs": 2, "val_accuracy": 0.5, "val_loss": 1.0, "seconds": 1.5,
              "verdict": "fine", "evidence": ["It is. Really."], "advice": [], "data_changes": []}  # fmt: skip
    write_json(started.folder / folders.RESULT, result)
    write_json(started.folder / "evaluation.json", {"loss": 1.0, "confusion": [[1, 0], [0, 1]]})
    return started.folder, started, state


@pytest.fixture(autouse=True, scope="module")
def built_once():
    """Building a network takes most of the time, and is no part of this: every one is built once."""
    network, known = checkpoints.network, {}

    def remembered(config, classes):
        key = (
            repr(config.arch),  # its options are dicts, which have no hash
            config.own_network,
            classes,
            config.drop,
            config.drop_path,
            config.weights,
            in_stateless_scope(),
        )
        if key not in known:
            known[key] = network(config, classes)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "network", remembered)
        yield


def attempt(use, case):
    """What `use` gives, or the line in which it refuses. Fails where it does anything else, or takes too much."""
    memory, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        outcome = use()
    except InputError as error:
        outcome = error
        if len(str(error)) > 2000:
            raise AssertionError(f"{case}: a line of {len(str(error))} characters: {str(error)[:500]}") from None
    except Exception as error:
        raise AssertionError(f"{case}: {error!r}") from error
    assert time.process_time() - started < SECONDS, case
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) < BYTES, case
    return outcome


# Checkpoints.


def flip_anywhere(draws, data):
    data[draws.randrange(len(data))] ^= 1 << draws.randrange(8)


def flip_directory(draws, data):
    start = data.rindex(b"PK\x05\x06")
    [start] = struct.unpack("<I", data[start + 16 : start + 20])
    data[draws.randrange(start, len(data))] ^= 1 << draws.randrange(8)


def flip_header(draws, data):
    """In what comes before an array: the zip's header, or NumPy's."""
    places = [match.start() for match in re.finditer(b"PK\x03\x04", data)]
    data[draws.choice(places) + draws.randrange(min(160, len(data) - places[-1]))] ^= 1 << draws.randrange(8)


def cut(draws, data):
    del data[draws.randrange(len(data)) :]


def drop(draws, data):
    start = draws.randrange(len(data))
    del data[start : start + draws.randint(1, 1000)]


def blank(draws, data):
    start = draws.randrange(len(data))
    data[start : start + 512] = bytes(len(data[start : start + 512]))


def overwrite_number(draws, data):
    """Sizes and places in the directory become extreme."""
    start = data.rindex(b"PK\x05\x06")
    [directory] = struct.unpack("<I", data[start + 16 : start + 20])
    at = draws.randrange(directory, len(data) - 4)
    data[at : at + 4] = draws.choice([bytes(4), b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0"])


def rezip(change):
    """A mutation of members, (name, bytes) each, which leaves a zip that is whole."""

    def mutate(draws, data):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(name, bytearray(archive.read(name))) for name in archive.namelist()]
        change(draws, members)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", draws.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
            for name, content in members:
                archive.writestr(name, bytes(content))
        data[:] = buffer.getvalue()

    return mutate


def swap_members(draws, members):
    """Two arrays of other shapes under each other's names."""
    i, j = draws.sample(range(len(members)), 2)
    if len(members[i][1]) != len(members[j][1]):
        (a, x), (b, y) = members[i], members[j]
        members[i], members[j] = (a, y), (b, x)
    else:
        del members[i]


def rename_member(draws, members):
    i = draws.randrange(len(members))
    name = members[i][0]
    other = draws.choice([name[:-5], name + "x", name.upper(), "../" + name, ".npy", "x" * 60_000, members[0][0]])
    members[i] = (other, members[i][1])


def change_header(draws, members):
    """Another shape, order or type in NumPy's header, of the same length."""
    content = members[draws.randrange(len(members))][1]
    end = content.index(b"\n")
    header = content[10:end].rstrip().decode("latin1")
    new = draws.choice(
        [
            lambda: header.replace(
                "<f4", draws.choice(["<f8", "<i4", "|O", ">f4", "<f2", "|V4", "<U1", "<c8", "<M8[s]"])
            ),
            lambda: header.replace("False", "True"),
            lambda: header.split("'shape'")[0] + f"'shape': {draws.choice(SHAPES)}, }}",
            lambda: draws.choice(
                ["", "{}", "[" * 90, "__import__('os')", "{'descr': []}", "1", header[:-1], header + "x"]
            ),
        ]
    )()
    content[10:end] = new.encode("latin1").ljust(end - 10)[: end - 10]


SHAPES = ["(10000000000000, 2)", "(-1,)", "(0,)", "()", "(1.5,)", "(True,)", "(2, 'x')", "x", "(99999999999999999999,)"]


def change_extra(draws, members):
    [content] = [content for name, content in members if name == "extra.npy"]
    text = str(np.load(io.BytesIO(content)))
    structured = draws.random() < 0.7
    text = changed_json(draws, text) if structured else changed_text(draws, text.encode()).decode("utf-8", "replace")
    buffer = io.BytesIO()
    np.save(buffer, np.array(text))
    content[:] = buffer.getvalue()


def flip_member(draws, members):
    """With a checksum that is right: in a header, as nobody could tell it from what was meant elsewhere."""
    content = members[draws.randrange(len(members))][1]
    content[draws.randrange(10)] ^= 1 << draws.randrange(8)


MUTATIONS = {
    "a bit anywhere": (1500, flip_anywhere),
    "a bit of the directory": (2200, flip_directory),
    "a bit of a header": (800, flip_header),
    "cut off": (200, cut),
    "a piece lost": (200, drop),
    "a piece of zeros": (150, blank),
    "a number of the directory": (400, overwrite_number),
    "arrays exchanged": (60, rezip(swap_members)),
    "another name": (60, rezip(rename_member)),
    "another shape or type": (120, rezip(change_header)),
    "a bit where NumPy begins": (60, rezip(flip_member)),
    "another position": (200, rezip(change_extra)),  # which may be as good a one
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_damaged_checkpoint_means_the_one_before(run, capsys):
    """5,950 mutations of the newer of two: what is taken is that one, as it was saved, or the older one."""
    folder, started, state = run
    newest, older = checkpoints.found(folder / "checkpoints")
    whole, (right, extra) = newest.read_bytes(), checkpoints.load(newest)
    aside = newest.with_name(f"{newest.name}.damaged")
    draws, outcomes = random.Random(0), Counter()
    for what, (count, mutate) in MUTATIONS.items():
        for i in range(count):
            data, case = bytearray(whole), f"{what} {i}"
            mutate(draws, data)
            newest.write_bytes(data)
            if i % 10 == 0:  # evaluation takes the newest, or says what is wrong with it
                attempt(lambda: checkpoints.load_run(folder), case)
            last = attempt(lambda: resuming.last_checkpoint(started, state), case)
            assert not isinstance(last, InputError), (case, last)
            path, arrays, found = last
            if path == newest:
                assert arrays.keys() == right.keys(), case
                assert all(np.array_equal(arrays[key], right[key]) for key in right), case
                assert found == extra or what == "another position", case
            else:
                assert path == older and aside.read_bytes() == data, case
                aside.unlink()
            outcomes[path == newest] += 1
    newest.write_bytes(whole)
    with capsys.disabled():
        print(f"\n{sum(outcomes.values())} mutations: {outcomes[False]} not taken, {outcomes[True]} harmless", end=" ")
    assert sum(outcomes.values()) >= 5000 and outcomes[False] > outcomes[True]


# The other files.


def changed_json(draws, text):
    """A value somewhere in it, or a name, becomes another."""
    value = json.loads(text)
    spot, key = None, None
    here = value
    while isinstance(here, dict | list) and here and (spot is None or draws.random() < 0.7):
        spot, key = here, draws.choice(list(here) if isinstance(here, dict) else range(len(here)))
        here = here[key]
    match draws.randrange(4) if spot is not None else 3:
        case 0:
            del spot[key]
        case 1 if isinstance(spot, dict):
            spot[draws.choice(["x", "", key + "x"])] = spot.pop(key)
        case 3 if draws.random() < 0.1:
            value = draws.choice(HOSTILE)
        case _:
            if spot is not None:
                spot[key] = draws.choice(HOSTILE)
    return json.dumps(value)


def changed_yaml(draws, text):
    values = yaml.safe_load(text)
    key = draws.choice(list(values))
    if draws.random() < 0.1:
        del values[key]
    else:
        values[key] = draws.choice(HOSTILE)
    return yaml.dump(values, sort_keys=False)


def changed_text(draws, data):
    """Bytes flipped, cut, doubled, moved or put in."""
    data = bytearray(data)
    for _ in range(draws.choice([1, 1, 1, 2, 5])):
        at, to = sorted(draws.randrange(len(data) + 1) for _ in range(2))
        match draws.randrange(8):
            case 0 | 1 if at < len(data):
                data[at] ^= 1 << draws.randrange(8)
            case 2:
                del data[at : at + draws.randint(1, 20)]
            case 3:
                del data[at:]
            case 4:
                data[at:at] = draws.choice(SNIPPETS)
            case 5:
                data[to:to] = data[at : at + 200]
            case 6:
                lines = bytes(data).splitlines(True)
                draws.shuffle(lines)
                data = bytearray(b"".join(lines))
            case 7:
                data[at:to] = draws.choice(SNIPPETS)
        data = data or bytearray(b"x")
    return bytes(data)


COUNTS = {folders.CONFIG: 1600, folders.CLASSES: 900, folders.METRICS: 900, folders.RESULT: 900, provenance.DATA: 600,
          folders.FACTS: 300, "evaluation.json": 200}  # fmt: skip


def uses_of(name, folder, started, state):
    """What opens a file, by the command that does."""

    def go_on():
        with contextlib.ExitStack() as stack:
            return resuming.enter(started, stack)

    def rewind():
        folders.last_step(folder)
        return folders.rewind_metrics(folder, 2)

    def parse():
        with contextlib.redirect_stderr(io.StringIO()) as said, pytest.raises(SystemExit) as left:
            kcnn.train.main(["--resume", str(folder)])
        assert left.value.code == 0 or (left.value.code == 2 and len(said.getvalue().splitlines()) == 1)

    return {
        folders.CONFIG: [
            lambda: fitting.new_or_resumed(TrainConfig(resume=str(folder))),
            lambda: checkpoints.load_run(folder),
            parse,
        ],
        folders.CLASSES: [go_on, lambda: folders.open_run(folder)],
        folders.METRICS: [rewind],
        folders.RESULT: [go_on, lambda: about_run(folder)],
        provenance.DATA: [go_on],
        folders.FACTS: [lambda: about_run(folder)],
        "evaluation.json": [lambda: about_run(folder)],
    }[name]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", COUNTS)
def test_a_changed_file_is_read_rightly_or_refused(run, request, monkeypatch, capsys, name):
    """5,400 mutations of the files beside the checkpoints."""
    folder, started, state = run
    path = folder / name
    whole, result = path.read_bytes(), (folder / folders.RESULT).read_bytes()
    monkeypatch.setattr(kcnn.train, "run", lambda config, imports=None: None)
    draws, outcomes = random.Random(name), Counter()
    request.addfinalizer(lambda: (path.write_bytes(whole), (folder / folders.RESULT).write_bytes(result)))
    for i in range(COUNTS[name]):
        if i % 2 and name != folders.METRICS:
            change = changed_yaml if name == folders.CONFIG else changed_json
            data = change(draws, whole.decode()).encode("utf-8", "surrogatepass")
        else:
            data = changed_text(draws, whole)
        uses = uses_of(name, folder, started, state)
        for k, use in enumerate(uses[: None if i % 8 == 0 else 2]):
            path.write_bytes(data)
            outcome = attempt(use, f"{name} {i}, use {k}: {data[:1000]!r}")
            outcomes[isinstance(outcome, InputError)] += 1
            (folder / folders.RESULT).write_bytes(result)  # which going on with more epochs takes away
    path.write_bytes(whole)
    for use in uses:
        assert not isinstance(attempt(use, "whole"), InputError)
        (folder / folders.RESULT).write_bytes(result)
    with capsys.disabled():
        print(f"\n{name}: {COUNTS[name]} mutations, {outcomes[True]} refused, {outcomes[False]} read", end=" ")
