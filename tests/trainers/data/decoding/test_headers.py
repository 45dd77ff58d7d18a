"""Pictures are measured before they are decoded: too large ones, too much work and what is misread is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from trainers.data import decode, eval_image, reason, train_image
from trainers.data.decoding.headers import checked

DRAWS = np.random.default_rng(0)
LIMIT = 10**6


def graph(function):
    return tf.function(function, input_signature=[tf.TensorSpec((), tf.string)])


READ = graph(decode)


def measure(data):
    return checked(tf.constant(data), 2**40).sizes.numpy()[2]


def refusal(data, call=lambda data: checked(tf.constant(data), LIMIT, "picture 3")):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        call(data)
    line = reason(error.value)
    assert line.isprintable() and line.isascii()
    return line


def picture(height=37, width=61, mode="RGB"):
    return Image.fromarray(DRAWS.integers(0, 256, (height, width, 3), np.uint8)).convert(mode)


def encoded(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def by_pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def frames(count, height, width):
    first, *others = (picture(height, width) for _ in range(count))
    return encoded(first, "GIF", save_all=True, append_images=others)


def gif(*boxes):
    """A GIF of frames (left, top, width, height), all of one colour."""
    parts = [b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0xF0, 0, 0) + bytes(range(6))]
    for left, top, width, height in boxes:
        one = encoded(Image.new("P", (width, height), 1), "GIF")
        table = 3 * 2 ** (one[10] % 8 + 1) if one[10] & 128 else 0
        frame = one[one.index(b",\0\0\0\0", 13 + table) :]
        local = 3 * 2 ** (frame[9] % 8 + 1) if frame[9] & 128 else 0
        parts.append(b"," + struct.pack("<HHHH", left, top, width, height) + b"\0" + frame[10 + local : -1])
    return b"".join(parts) + b";"


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width, height):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def bmp(width, height, *, bits=24, compression=0, header=40, between=b"", rows=b"", after=b""):
    first = 14 + header + len(between)
    return (
        b"BM"
        + struct.pack("<IHHI", 0, 0, 0, first)
        + struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, 0, 0, 0, 0, 0).ljust(header, b"\0")
        + (between + rows + after)
    )


# Sizes.


@pytest.mark.parametrize("format, options", [
    ("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("BMP", {}), ("GIF", {}),
    ("WEBP", {}), ("WEBP", {"lossless": True}),
])  # fmt: skip
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pillow_s_pictures_are_measured(format, options, mode):
    for height, width in ((37, 61), (1, 1), (300, 2)):
        header = checked(tf.constant(encoded(picture(height, width, mode), format, **options)))
        assert header.sizes.numpy().tolist() == [height, width, height * width]


def test_all_frames_of_a_gif_count_and_the_canvas_of_them_all():
    assert measure(frames(4, 50, 60)) == 4 * 50 * 60
    assert measure(gif((0, 0, 2, 2), (0, 0, 300, 300))) == 4 + 300 * 300
    assert measure(gif((0, 0, 300, 1), (0, 0, 1, 200))) == 300 * 200
    assert measure(gif((0, 0, 100, 100), *[(3, 4, 5, 5)] * 20)) == 10000 + 20 * 25


def test_webp_with_transparency_and_animation():
    assert measure(encoded(picture(20, 30, "RGBA"), "WEBP")) == 600
    first, second = picture(50, 60), picture(50, 60)
    assert measure(encoded(first, "WEBP", save_all=True, append_images=[second])) == 2 * 3000  # and a second canvas


def test_a_bmp_upside_down():
    data = bytearray(encoded(picture(10, 20), "BMP"))
    data[22:26] = struct.pack("<i", -10)
    assert measure(bytes(data)) == 200
    np.testing.assert_array_equal(READ(bytes(data)), by_pillow(bytes(data)))


@pytest.mark.parametrize("data", [
    encoded(picture(), "JPEG"), encoded(picture(), "PNG"), encoded(picture(), "GIF"), encoded(picture(), "BMP"),
    encoded(picture(), "WEBP"), encoded(picture(1000, 1000), "PNG"), frames(3, 20, 20),
], ids=["jpeg", "png", "gif", "bmp", "webp", "just allowed", "animated"])  # fmt: skip
def test_sound_pictures_pass_as_they_are(data):
    assert checked(tf.constant(data), LIMIT).data.numpy() == data


@pytest.mark.parametrize("data, words", [
    (b"", "picture 3 is no JPEG, PNG, GIF, BMP or WebP"),
    (b"GIF", "picture 3 is no JPEG, PNG, GIF, BMP or WebP"),
    (b"<svg width='1'></svg>" * 9, "picture 3 is no JPEG, PNG, GIF, BMP or WebP"),
    (encoded(picture(), "TIFF"), "picture 3 is no JPEG, PNG, GIF, BMP or WebP"),
    (png_header(60000, 60000), "picture 3 has 3600000000 pixels, beyond the limit of 1000000"),
    (png_header(2**32 - 1, 2**32 - 1), "picture 3 has a side of 4294967295 pixels, beyond the limit of 65535"),
    (png_header(70000, 1), "picture 3 has a side of 70000 pixels"),
    (bmp(2**31 - 1, -(2**31)), "picture 3 has a side of 2147483648 pixels"),
    (bmp(70000, 1, rows=bytes(210000)), "picture 3 has a side of 70000 pixels"),
    (frames(12, 300, 300), "picture 3 has 1080000 pixels"),
    (gif((0, 0, 65535, 1), (0, 0, 1, 65535)), "picture 3 has 4294836225 pixels"),
    (encoded(picture(1001, 1000), "JPEG"), "picture 3 has 1001000 pixels"),
    (b"GIF89a" + b"\0" * 7 + b"\x21\xf9" + b"\1\1" * 70000, "picture 3 is a GIF in too many pieces"),
    (b"\xff\xd8\xff\xe0", "Invalid JPEG"),
], ids=range(14))  # fmt: skip
def test_others_are_refused(data, words):
    assert words in refusal(data)


@pytest.mark.parametrize("call", [
    lambda data: decode(data, max_pixels=100),
    lambda data: eval_image(tf.constant(data), 8, max_pixels=100),
    graph(lambda data: eval_image(data, 8, max_pixels=100)),
], ids=["decode", "eval", "graph"])  # fmt: skip
@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_every_way_to_decode_has_the_bound(call, format):
    assert "has 110 pixels, beyond the limit of 100" in refusal(encoded(picture(11, 10), format), call)
    call(encoded(picture(10, 10), format))


def test_training_has_the_bound():
    seed = tf.constant((0, 0), tf.int64)
    call = graph(lambda data: train_image(data, 8, seed))
    assert "has 67117056 pixels, beyond the limit of 67108864" in refusal(png_header(8193, 8192), call)


# Work.


def progressive(width, height, scans):
    """A grey progressive JPEG whose scans of 120 bytes say that nothing changes, of up to a million blocks.

    All scans but the first refine: for them the decoder looks at each coefficient again.
    """

    def segment(code, content):
        return b"\xff" + bytes([code]) + struct.pack(">H", len(content) + 2) + content

    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"
    table = b"\x10" + bytes([1, *[0] * 15]) + b"\xe0"  # a run of 16384 and more blocks without a change
    first, again = (segment(0xDA, b"\1\1\0\1\x3f" + bits) + b"\0" * 120 for bits in (b"\1", b"\x10"))
    head = segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC2, frame) + segment(0xC4, table)
    return b"\xff\xd8" + head + first + again * (scans - 1) + b"\xff\xd9"


@pytest.fixture
def decoded(monkeypatch):
    """The lengths of the JPEGs that have reached the decoder, which is replaced."""
    seen = []

    def decoder(data, *_, **__):
        return tf.ensure_shape(tf.numpy_function(replacement, [data], tf.uint8, stateful=False), (None, None, 3))

    def replacement(data):
        seen.append(len(data))
        return np.zeros((32, 32, 3), np.uint8)

    monkeypatch.setattr(tf.io, "decode_and_crop_jpeg", decoder)
    return seen


def test_a_progressive_jpeg_has_as_many_scans_as_its_size_allows():
    assert measure(progressive(1000, 1000, 1000)) == 10**6
    words = "picture 3 has more scans than a JPEG of its size may have"
    assert words in refusal(progressive(8000, 8000, 34), lambda data: checked(tf.constant(data), 10**8, "picture 3"))
    assert measure(progressive(8000, 8000, 33)) == 64 * 10**6
    np.testing.assert_array_equal(READ(progressive(64, 64, 40)), np.full((64, 64, 3), 128))  # a picture it is


def test_scans_are_counted_before_one_is_decoded(decoded):
    """The decoder would need half a minute for the second picture."""
    call = graph(lambda data: eval_image(data, 8))
    allowed, too_many = progressive(8000, 8000, 33), progressive(8000, 8000, 1000)
    call(allowed)
    assert "more scans than a JPEG of its size may have" in refusal(too_many, call)
    assert decoded == [len(allowed)]


def test_scans_are_those_of_the_picture_and_not_what_looks_like_them():
    """A preview of progressive scans, comments, and what cameras append to their pictures."""
    photo, preview = encoded(picture(), "JPEG"), encoded(picture(), "JPEG", progressive=True)
    for between in b"\xff\xda" * 32000, preview:
        data = photo[:2] + b"\xff\xfe" + struct.pack(">H", len(between) + 2) + between + photo[2:] + between * 9
        np.testing.assert_array_equal(READ(data), READ(photo))


def test_compressed_texts_of_a_png_are_bounded():
    sound = encoded(picture(), "PNG")
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(7 * 10**6)))
    international = chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(b"a" * 1000))
    for bomb in text, international:
        assert "picture 3 has more than 32 compressed texts" in refusal(sound[:33] + bomb * 33 + sound[33:])
    np.testing.assert_array_equal(READ(sound[:33] + international * 32 + sound[33:]), READ(sound))


# What the decoders misread.


def test_a_first_frame_that_stands_elsewhere_is_taken_whole():
    """TensorFlow cuts it off at the size of the frame."""
    np.testing.assert_array_equal(READ(gif((5, 6, 20, 10))), READ(gif((0, 0, 20, 10))))
    np.testing.assert_array_equal(READ(gif((5, 6, 20, 10), (0, 0, 3, 30))), READ(gif((0, 0, 20, 10))))


@pytest.mark.parametrize("options", [{}, {"lossless": True}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_with_transparency_or_moving_is_read(options, mode):
    """TensorFlow alone refuses three channels of these, and writes beyond its memory for an opaque animation."""
    still = picture(20, 30, mode)
    for data in (
        encoded(still, "WEBP", **options),
        encoded(still, "WEBP", save_all=True, append_images=[picture(20, 30, mode)], **options),
    ):
        np.testing.assert_array_equal(READ(data), by_pillow(data))


NOT_READ = "picture 3 is a BMP of other than 8, 24 or 32 bits a pixel without compression"


@pytest.mark.parametrize("data, words", [
    (bmp(4, 4, bits=16, rows=bytes(32)), NOT_READ),
    (bmp(4, 4, bits=12, rows=bytes(16)), NOT_READ),  # which TensorFlow takes for 8
    (bmp(4, 4, bits=8, compression=1, between=bytes(1024), rows=bytes(16)), NOT_READ),
    (bmp(4, 4, bits=32, compression=3, between=struct.pack("<III", 1, 2, 4), rows=bytes(64)), NOT_READ),
    (bmp(4, 4, header=12, rows=bytes(48)), NOT_READ),
    (bmp(0, 4, rows=bytes(48)), NOT_READ),
    (bmp(4, 4, rows=bytes(47)), "picture 3 is a BMP that ends early"),
    (b"BM\xff\xfe", NOT_READ),
], ids=range(8))  # fmt: skip
def test_bmps_that_no_decoder_reads_rightly_are_refused(data, words):
    assert words in refusal(data)


def test_a_bmp_with_masks_or_with_bytes_behind_it_is_read():
    usual = struct.pack("<III", 255 << 16, 255 << 8, 255)
    rows = DRAWS.bytes(64)
    for data in (
        bmp(4, 4, bits=32, compression=3, between=usual, rows=rows),
        bmp(4, 4, bits=32, rows=rows, after=b"\0\0"),
    ):
        np.testing.assert_array_equal(READ(data)[::-1], np.frombuffer(rows, np.uint8).reshape(4, 4, 4)[..., 2::-1])


def test_an_index_without_an_entry_in_a_bmp_s_palette_is_black():
    rows = np.arange(16, dtype=np.uint8).reshape(4, 4)
    data = bmp(4, 4, bits=8, between=b"".join(bytes([i, 100 + i, 200 + i, 0]) for i in range(8)), rows=rows.tobytes())
    expected = np.stack([np.where(rows < 8, rows + add, 0) for add in (200, 100, 0)], -1)
    np.testing.assert_array_equal(READ(data)[::-1], expected)


@pytest.mark.parametrize("size", [2**31 - 1, 2**31, 2**32 - 1, 2000, 3000])
def test_errors_of_a_palette_are_text(size):
    """A palette that should begin far behind the file: TensorFlow's own error holds the file, which is no UTF-8."""
    data = bytearray(encoded(picture(mode="P"), "BMP"))
    data[14:18] = struct.pack("<I", size)
    assert NOT_READ in refusal(bytes(data))


@pytest.mark.parametrize("error, line", [
    (tf.errors.InvalidArgumentError(None, None, "{{node x}} bad \x1b[31m thing\n\t [[{{node y}}]] [Op:Z]"),
     r"bad \x1b[31m thing"),
    (tf.errors.InvalidArgumentError(None, None, "assertion failed: [a [b] c] [[{{node A}}]]"), "a [b] c"),
    (tf.errors.InvalidArgumentError(None, None, "Graph execution error:\n\nDetected at node q\n\nwhy [Op:f]"), "why"),
    (tf.errors.NotFoundError(None, None, ""), "NotFoundError"),
    (UnicodeDecodeError("utf-8", b"/x/\xff.jpg; No file\n\t [[{{node r}}]]", 3, 4, "no"), r"/x/\xff.jpg; No file"),
], ids=range(5))  # fmt: skip
def test_reasons_are_one_line(error, line):
    assert reason(error) == line


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"sPLT", b"eXIf"])
def test_a_chunk_that_claims_more_bytes_than_there_are_is_refused(kind):
    """libpng would make room for all of them: a gigabyte for a file of some hundred bytes."""
    data = encoded(picture(9, 9), "PNG")
    whole = data[:33] + chunk(kind, b"Comment\0text") + data[33:]
    assert measure(whole) == 81
    lying = data[:33] + struct.pack(">I", 2**30 - 1) + kind + b"Comment\0text" + data[33:]
    assert "a chunk that reaches beyond its end" in refusal(lying)
