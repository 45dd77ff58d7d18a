"""The process that damaged and hostile pictures are decoded in, as what goes wrong may end it.

    python picture_worker.py mutations SEED COUNT FILE
    python picture_worker.py make BOMB FILE
    python picture_worker.py bomb FILE

Each picture goes through all that decodes pictures: training, evaluation and a served network. It must be answered
rightly or refused in one line, in bounded time and memory. FILE: the picture that is looked at.
"""

import ctypes
import hashlib
import io
import json
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from picture_mutations import BOMBS, encoded, mutated, sources
from PIL import Image

SECONDS, BYTES = 30, 2**30  # that one picture may take
SIDE = 16  # of what comes out
M_PERTURB = -6  # of glibc's mallopt: fresh memory is filled with what is not this
COMPARED, SMALL = ("PNG", "BMP", "WEBP", "GIF"), 2**20  # formats and pixels
REFUSED = ("bmp 1 bit", "bmp run length")


def decoders(folder):
    """What a picture goes through, by name: functions from its bytes to pixels, or to probabilities."""
    import keras
    import tensorflow as tf

    from trainers.config import TrainConfig
    from trainers.data import decode, eval_image, train_image
    from trainers.serving.signatures import make_signatures

    pixels = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(pixels, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(pixels)))
    config = TrainConfig(resolution=SIDE, eval_crop=0.875, interpolation="bilinear")
    owner, signatures = make_signatures(model, config, ("a", "b"), ("serving_default",))
    tf.saved_model.save(owner, str(folder), signatures=signatures)
    served = tf.saved_model.load(str(folder))

    def graph(function):
        return tf.function(function, input_signature=[tf.TensorSpec((), tf.string)])

    decoded, seed = graph(decode), tf.constant((1, 2), tf.int64)
    return {
        "decode": decoded,
        "train": graph(lambda data: train_image(data, SIDE, seed)),
        "evaluate": graph(lambda data: eval_image(data, SIDE)),
        "serve": lambda data: served.signatures["serving_default"](image_bytes=tf.constant([data]))["probabilities"],
    }


def outcome(name, call, data):
    """What a decoder makes of a picture: a hash, as pixels may be many, or the line that refuses it."""
    import tensorflow as tf

    from trainers.data import reason

    try:
        result = call(data).numpy()
    except tf.errors.InvalidArgumentError as error:
        line = reason(error)
        assert line and line.isprintable(), repr(line)
        return line
    if name == "serve":
        assert result.shape == (1, 2) and abs(result.sum() - 1) < 1e-5
    else:
        assert result.dtype == np.uint8 and result.ndim == 3 and result.shape[2] == 3
        assert name == "decode" or result.shape[:2] == (SIDE, SIDE)
    return hashlib.blake2b(result, digest_size=8).digest()


def examine(calls, data):
    """The outcomes by decoder. Raises AssertionError where a picture is neither answered rightly nor refused."""
    libc = ctypes.CDLL(None)
    outcomes = {}
    for name, call in calls.items():
        libc.mallopt(M_PERTURB, 0x55)
        outcomes[name] = outcome(name, call, data)
        if name in ("decode", "serve"):  # what is left over in memory must not come out
            libc.mallopt(M_PERTURB, 0xAA)
            assert outcome(name, call, data) == outcomes[name], f"{name} is not the same twice"
    assert isinstance(outcomes["evaluate"], str) == isinstance(outcomes["serve"], str), outcomes
    return outcomes


def as_pillow_has_it(call, data):
    """Whether the pixels are those that Pillow reads; None where one of the two refuses, or may mean something else.

    Left out are JPEGs, as the two need not agree on damaged ones, pictures of 16 bits, transparent GIFs and those
    whose first frame is not as large as their screen, and large pictures, whose memory in Pillow would be measured.
    """
    import tensorflow as tf

    try:
        image = Image.open(io.BytesIO(data))
        if image.format not in COMPARED or image.width * image.height > SMALL:
            return None
        image.load()
        pixels, ours = np.asarray(image.convert("RGB")), call(data).numpy()
    except (
        AssertionError,
        OSError,
        ValueError,
        SyntaxError,
        struct.error,
        IndexError,
        Image.DecompressionBombError,
        tf.errors.InvalidArgumentError,
    ):
        return None
    alike = "16" not in image.mode
    if image.format == "GIF":
        alike = "transparency" not in image.info and pixels.shape == ours.shape
    return np.array_equal(pixels, ours) if alike else None


def memory(name):
    """Bytes of this process's memory: VmRSS, now, or VmHWM, at most."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


class Bounds:
    """What a picture may take: seconds, and memory beyond that which the process has before it."""

    def __init__(self):
        self.slowest, self.most = 0.0, 0

    def keep(self, call):
        Path("/proc/self/clear_refs").write_text("5")  # lets VmHWM begin anew
        before, held = time.process_time(), memory("VmRSS")
        result = call()
        seconds, size = time.process_time() - before, memory("VmHWM") - held
        assert seconds < SECONDS, f"{seconds:.1f} s"
        assert size < BYTES, f"{size / 1e9:.2f} GB"
        self.slowest, self.most = max(seconds, self.slowest), max(size, self.most)
        return result


def mutations(seed, count, file):
    pictures = sources()
    with tempfile.TemporaryDirectory() as folder:
        calls = decoders(folder)
    for name, data in pictures.items():
        outcomes = examine(calls, data)
        refused = [isinstance(result, str) for result in outcomes.values()]
        assert all(refused) if name in REFUSED else not any(refused), (name, outcomes)
    bounds, answered, compared = Bounds(), 0, 0
    for i in range(int(count)):
        words, data = mutated(pictures, np.random.default_rng((int(seed), i)))
        Path(file).write_bytes(data)
        try:
            outcomes = bounds.keep(lambda data=data: examine(calls, data))
            alike = as_pillow_has_it(calls["decode"], data)
            assert alike is not False, "its pixels are not Pillow's"
        except Exception as error:
            raise SystemExit(f"case {i} ({words}): {type(error).__name__}: {error}") from error
        answered += not isinstance(outcomes["evaluate"], str)
        compared += bool(alike)
    return {"answered": answered, "compared": compared, "seconds": bounds.slowest, "bytes": bounds.most}


def make(name, file):
    """Writes a bomb; not in the process that is to open it, whose memory is measured."""
    return {"size": Path(file).write_bytes(BOMBS[name]())}


def bomb(file):
    with tempfile.TemporaryDirectory() as folder:
        calls = decoders(folder)
    for call in calls.values():
        call(encoded(Image.new("RGB", (9, 9)), "PNG"))
    data, bounds = Path(file).read_bytes(), Bounds()
    for name in ("evaluate", "train", "serve"):
        result = bounds.keep(lambda name=name: outcome(name, calls[name], data))
        assert not isinstance(result, str), result
    return {"seconds": bounds.slowest, "bytes": bounds.most}


if __name__ == "__main__":
    print(json.dumps({"mutations": mutations, "make": make, "bomb": bomb}[sys.argv[1]](*sys.argv[2:])))
