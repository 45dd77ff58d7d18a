"""How large an encoded picture is, read from its header in the graph, before anything is decoded.

Headers lie cheaply: a PNG of a few kilobytes can decode to gigabytes. Offsets are those of the formats' own
specifications: PNG (https://www.w3.org/TR/png), GIF89a (https://www.w3.org/Graphics/GIF/spec-gif89a.txt), BMP's
BITMAPINFOHEADER, WebP (https://developers.google.com/speed/webp/docs/riff_container).
"""

import tensorflow as tf

FORMATS = "JPEG, PNG, GIF, BMP or WebP"
_BLOCKS = 2**16  # of a GIF: some 16 MB of a sound one, seconds of reading of one made to cost time
_HEAD = 32  # bytes that hold all of these headers but JPEG's and the frames of a GIF


def checked(data: tf.Tensor, place: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """The encoded bytes as they are, a scalar string. Anything but a picture of at most `max_pixels` pixels is an
    InvalidArgumentError that names its place in the request. Of a GIF all frames count.
    """
    known = tf.reduce_any([tf.image.is_jpeg(data), *(_has(data, at, magic) for at, magic in _AREAS)])
    told = tf.strings.format("picture {} of the request is none: its bytes are not those of a " + FORMATS, place)
    with tf.control_dependencies([tf.debugging.Assert(known, [told])]):
        pixels = area(tf.identity(data))
    told = tf.strings.format(f"picture {{}} of the request has {{}} pixels, beyond the limit of {max_pixels}",
                             (place, pixels))  # fmt: skip
    with tf.control_dependencies([tf.debugging.Assert(pixels <= max_pixels, [told])]):
        return tf.identity(data)


def area(data: tf.Tensor) -> tf.Tensor:
    """Pixels, an int64 scalar, of a picture in one of the formats; of a GIF those of all its frames."""
    head = tf.io.decode_raw(data + b"\0" * _HEAD, tf.uint8)[:_HEAD]

    def jpeg() -> tf.Tensor:
        return tf.cast(tf.reduce_prod(tf.image.extract_jpeg_shape(data)[:2]), tf.int64)  # sides have 16 bits

    cases = [(_has(data, at, magic), lambda read=read: read(data, head)) for (at, magic), read in _AREAS.items()]
    return tf.case(cases, default=jpeg)


def _has(data: tf.Tensor, at: int, magic: bytes) -> tf.Tensor:
    return tf.strings.substr(data + b"\0" * _HEAD, at, len(magic)) == magic


def _little(head: tf.Tensor, at: int, count: int) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(head[at : at + count], tf.int64) * [256**i for i in range(count)])


def _png(data: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    backwards = head[::-1]
    width, height = _little(backwards, _HEAD - 20, 4), _little(backwards, _HEAD - 24, 4)
    return tf.minimum(width, 2**31) * tf.minimum(height, 2**31)  # more would not fit into 64 bits


def _bmp(data: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    sides = tf.stack([_little(head, 18, 4), _little(head, 22, 4)])
    return tf.reduce_prod(tf.abs(tf.where(sides < 2**31, sides, sides - 2**32)))  # a negative height: upside down


def _vp8x(data: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    return (_little(head, 24, 3) + 1) * (_little(head, 27, 3) + 1)


def _vp8l(data: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    bits = _little(head, 21, 4)
    return (bits % 2**14 + 1) * (bits // 2**14 % 2**14 + 1)


def _vp8(data: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    return _little(head, 26, 2) % 2**14 * (_little(head, 28, 2) % 2**14)


def _gif(data: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    """The decoder unpacks every frame although only the first is looked at, so all are counted, block by block."""
    content = tf.io.decode_raw(data + b"\0" * 16, tf.uint8)  # what ends early ends with a block of an unknown kind
    end = tf.strings.length(data)

    def table(flags: tf.Tensor) -> tf.Tensor:
        """Bytes of the colour table that these flags announce."""
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def step(at: tf.Tensor, inside: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        block = tf.cast(content[at : at + 10], tf.int32)
        kind = block[0]

        def data_block() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            return at + 1 + kind, kind > 0, pixels

        def new_block() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            frame, extension = kind == 0x2C, kind == 0x21
            sides = tf.cast(block[5:9:2] + 256 * block[6:10:2], tf.int64)
            after = tf.where(frame, at + 11 + table(block[9]), tf.where(extension, at + 2, end))
            return after, frame | extension, pixels + tf.where(frame, sides[0] * sides[1], 0)

        return tf.cond(inside, data_block, new_block)

    start = 13 + table(tf.cast(head[10], tf.int32))
    at, _, pixels = tf.while_loop(lambda at, *_: at < end, step, (start, False, tf.constant(0, tf.int64)),
                                  maximum_iterations=_BLOCKS)  # fmt: skip
    with tf.control_dependencies([tf.debugging.Assert(at >= end, [f"a GIF has more than {_BLOCKS} blocks"])]):
        return tf.identity(pixels)


_AREAS = {
    (0, b"\x89PNG"): _png,
    (0, b"GIF8"): _gif,
    (0, b"BM"): _bmp,
    (8, b"WEBPVP8X"): _vp8x,
    (8, b"WEBPVP8L"): _vp8l,
    (8, b"WEBPVP8 "): _vp8,
}
