"""How large an encoded picture is, read from its header in the graph before anything is decoded.

Headers lie cheaply: a PNG of a few kilobytes can decode to gigabytes, and a JPEG can ask for a thousand passes over its
pixels. So every picture, in training as in a served network, is measured first, and refused where it is too large or of
a kind that TensorFlow's decoders misread. Offsets are those of the formats' own specifications: JPEG
(https://www.w3.org/Graphics/JPEG/itu-t81.pdf), PNG (https://www.w3.org/TR/png), GIF89a
(https://www.w3.org/Graphics/GIF/spec-gif89a.txt), BMP's BITMAPINFOHEADER, and WebP
(https://developers.google.com/speed/webp/docs/riff_container).
"""

from typing import NamedTuple

import tensorflow as tf

from trainers.data.decoding.orientation import orientation

FORMATS = "JPEG, PNG, GIF, BMP or WebP"
MAX_PIXELS = 2**26  # 67 million; such a picture takes up to 0.8 GB while it is decoded and resized
MAX_SIDE = 2**16 - 1  # as in JPEG and GIF; a resize keeps some hundred rows of this width as floats

APART = {"_noinline": True}  # of a function, which stays one node of the graph that calls it

_HEAD = 128  # bytes that hold every header but JPEG's and the frames of a GIF
_SCANNED = 2**31  # pixels that all scans of a JPEG pass over: seconds of work
_SCANS = [b"\0\x08\1", b"\0\x0a\2", b"\0\x0c\3", b"\0\x0e\4"]  # how each begins, after the bytes FF DA
_SCAN = 10  # bytes of the shortest scan: its mark, its length, and what is in it
_TEXTS = 32  # compressed texts in a PNG; each of them may unpack to 8 MB
_READ_WHOLE = [b"TXt", b"tEXt", b"iCCP", b"sPLT", b"CAL", b"eXIf"]  # in the names of chunks that need room for all
_BLOCKS = 2**16  # of a GIF and of pieces of their data, besides those that its length calls for
_HOPS = 8  # pieces of a GIF's data that are passed in one go

Read = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # the sizes and the data of a Header, and what is wrong, if anything


class Header(NamedTuple):
    """The header of a picture.

    kind: its format, a place in KINDS, int32. sizes: its height, its width, and the pixels that are unpacked, int64
    (3,). data: the bytes to decode, which are the picture's but for what its decoder would misread. turn: the
    orientation of a JPEG, int32, which tells how its pixels are to be turned; 1 for the other formats.
    """

    kind: tf.Tensor
    sizes: tf.Tensor
    data: tf.Tensor
    turn: tf.Tensor


def checked(data: tf.Tensor, max_pixels: int = MAX_PIXELS, who: tf.Tensor | str = "the picture") -> Header:
    """The header of encoded bytes, a scalar string. Raises InvalidArgumentError, whose message begins with `who`, for
    anything but a picture of at most `max_pixels` pixels whose sides and decoding time are within bounds.
    """
    return _checked(data, tf.constant(max_pixels, tf.int64), tf.convert_to_tensor(who))


# Traced once for all pipelines: it has some hundreds of nodes.
@tf.function(input_signature=[tf.TensorSpec((), d) for d in (tf.string, tf.int64, tf.string)], autograph=False)
def _checked(data: tf.Tensor, max_pixels: tf.Tensor, who: tf.Tensor) -> Header:
    jpeg = tf.strings.substr(data, 0, 3) == b"\xff\xd8\xff"
    kind, sizes, data, fault = tf.cond(jpeg, lambda: (tf.constant(0), *_jpeg(data)), lambda: _any_kind(data))
    fine = (fault == "") & (tf.reduce_max(sizes[:2]) <= MAX_SIDE) & (sizes[2] <= max_pixels)

    def refuse() -> tf.Operation:
        return tf.raw_ops.Assert(condition=False, data=[tf.strings.join([who, _words(sizes, max_pixels, fault)])])

    with tf.control_dependencies([tf.cond(fine, tf.no_op, refuse)]):
        turn = tf.cond(jpeg, lambda: orientation(data), lambda: tf.constant(1))
        return Header(kind, tf.identity(sizes), tf.identity(data), turn)


# Not inlined: each node of a branch that is not taken costs the executor some time, too.
@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False, experimental_attributes=APART)
def _any_kind(data: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """The kind, and what its reader returns."""
    head = tf.io.decode_raw(tf.strings.substr(data, 0, _HEAD) + b"\0" * _HEAD, tf.uint8)[:_HEAD]
    starts = [list(start.ljust(16, b".")) for start in KINDS]
    any_byte = [[byte == ord(".") for byte in start] for start in starts]
    same = tf.reduce_all((head[:16] == tf.constant(starts, tf.uint8)) | any_byte, -1)
    kind, head = tf.argmax(same, output_type=tf.int32), tf.cast(head, tf.int64)
    return kind, *tf.switch_case(kind, [lambda reader=reader: reader(data, head) for reader in KINDS.values()])


def _words(sizes: tf.Tensor, max_pixels: tf.Tensor, fault: tf.Tensor) -> tf.Tensor:
    """What is wrong, in words: the sizes, if the reader found no other fault."""
    for number, what, most in (tf.reduce_max(sizes[:2]), "a side of ", MAX_SIDE), (sizes[2], "", max_pixels):
        words = " has ", what, tf.as_string(number), " pixels, beyond the limit of ", tf.as_string(most)
        fault = tf.where((number > most) & (fault == ""), tf.strings.join(words), fault)
    return fault


def _numbers(head: tf.Tensor, *places: range) -> list[tf.Tensor]:
    """Whole numbers, int64, of up to four bytes each; their places begin with the lowest byte."""
    indices = [[*place, *[_HEAD] * (4 - len(place))] for place in places]
    digits = tf.gather(tf.concat([head, [0]], 0), indices)
    return tf.unstack(tf.reduce_sum(digits * [256**i for i in range(4)], -1))


def _sizes(height: tf.Tensor, width: tf.Tensor, times: tf.Tensor | int = 1) -> tf.Tensor:
    sides = tf.stack([height, width])
    # More than 2^31 would not fit into 64 bits once multiplied.
    return tf.concat([sides, [tf.reduce_prod(tf.minimum(sides, 2**31)) * times]], 0)


def _pieces(data: tf.Tensor, mark: bytes) -> tf.Tensor:
    """The bytes after each of the marks in the data, up to the next mark."""
    return tf.raw_ops.StringSplitV2(input=[data], sep=mark).values[1:]


def _jpeg(data: tf.Tensor, head: tf.Tensor | None = None) -> Read:
    """Each scan passes over all pixels again, and may cost next to nothing in the file."""
    sizes = _sizes(*tf.unstack(tf.cast(tf.image.extract_jpeg_shape(data), tf.int64))[:2])

    def count() -> tf.Tensor:
        leads = tf.strings.substr(_pieces(data, b"\xff\xda"), 0, 3)
        return tf.math.count_nonzero(leads[:, None] == _SCANS)  # thumbnails have some, too

    most = tf.strings.length(data) // _SCAN
    scans = tf.cond(tf.cast(most, tf.int64) * sizes[2] > _SCANNED, count, lambda: tf.constant(0, tf.int64))
    return sizes, data, tf.where(scans * sizes[2] > _SCANNED, " has more scans than a JPEG of its size may have", "")


def _png(data: tf.Tensor, head: tf.Tensor) -> Read:
    """libpng unpacks compressed texts, too, although nobody reads them."""
    width, height = _numbers(head, range(19, 15, -1), range(23, 19, -1))
    texts = tf.size(_pieces(data, b"TXt"))  # the end of the names zTXt and iTXt
    fault = tf.where(texts > _TEXTS, f" has more than {_TEXTS} compressed texts", "")
    whole = tf.reduce_any([tf.size(_pieces(data, name)) > 0 for name in _READ_WHOLE])
    beyond = tf.cond(whole, lambda: _reaches_beyond(data), lambda: False)
    return _sizes(height, width), data, tf.where(beyond, " has a chunk that reaches beyond its end", fault)


def _reaches_beyond(data: tf.Tensor) -> tf.Tensor:
    """Whether a chunk of a PNG claims more bytes than there are: libpng makes room for them before it reads one."""
    length = tf.strings.length(data)
    content = tf.cast(tf.io.decode_raw(data + b"\0" * 8, tf.uint8), tf.int64)
    places = tf.constant([2**24, 2**16, 2**8, 1], tf.int64)

    def step(at: tf.Tensor) -> tf.Tensor:
        claimed = tf.reduce_sum(content[at : at + 4] * places)
        return at + 12 + tf.cast(tf.minimum(claimed, 2**30), tf.int32)

    (end,) = tf.while_loop(lambda at: at <= length - 12, lambda at: (step(at),), (tf.constant(8),))
    return end > length


def _gif(data: tf.Tensor, head: tf.Tensor) -> Read:
    """The decoder unpacks every frame although only the first is looked at, and puts that one on a canvas as wide as
    the widest of all and as high as the highest. Here the first is moved into the canvas's corner.
    """
    content = tf.io.decode_raw(data + b"\0" * 16, tf.uint8)  # what ends early ends with a block of an unknown kind
    length = tf.strings.length(data)
    most = _BLOCKS + length // 64

    def table(flags: tf.Tensor) -> tf.Tensor:
        """Bytes of the colour table that these flags announce."""
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def step(
        at: tf.Tensor, inside: tf.Tensor, count: tf.Tensor, first: tf.Tensor, sizes: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """A block's lead, or, inside a block, some of its data: pieces that tell their size, up to one of size 0."""
        lead = tf.cast(content[at : at + 10], tf.int32)
        frame, extension, flags = ~inside & (lead[0] == 0x2C), ~inside & (lead[0] == 0x21), lead[9]
        sides = tf.cast(tf.where(frame, lead[7:4:-2] + 256 * lead[8:5:-2], 0), tf.int64)  # height, width
        sizes = tf.concat(
            [tf.where(first < 0, sides, sizes[:2]), tf.maximum(sides, sizes[2:4]), sizes[4:] + tf.reduce_prod(sides)], 0
        )
        ahead = at
        for _ in range(_HOPS):
            size = tf.cast(tf.gather(content, ahead), tf.int32)
            ahead = tf.minimum(ahead + size + tf.sign(size), length)
        more = tf.gather(content, ahead) > 0
        ahead = ahead + tf.cast(~more, tf.int32)
        after = tf.where(frame, at + 11 + table(flags), tf.where(extension, at + 2, tf.where(inside, ahead, length)))
        return (
            tf.minimum(after, length),
            tf.where(inside, more, True),
            count + 1 + tf.where(inside, _HOPS, 0),
            tf.where((first < 0) & frame, at, first),
            sizes,
        )

    # Of the first frame its height and width, of all the greatest height and width, and their pixels.
    start = (tf.minimum(13 + table(tf.cast(head[10], tf.int32)), length), False, 0, -1, tf.zeros(5, tf.int64))
    at, _, _, first, sizes = tf.while_loop(lambda at, _, count, *__: (at < length) & (count < most), step, start)
    moved = tf.strings.join(
        [
            tf.strings.substr(data, 0, first + 1),
            b"\0" * 4,
            tf.strings.substr(data, tf.minimum(first + 5, length), length),
        ]
    )
    canvas = tf.maximum(sizes[2:3] * sizes[3:4], sizes[4:])
    fault = tf.where(at < length, " is a GIF in too many pieces", "")
    return tf.concat([sizes[:2], canvas], 0), tf.where(first < 0, data, moved), fault


def _bmp(data: tf.Tensor, head: tf.Tensor) -> Read:
    """The decoder looks at nothing but the sizes, and wants no byte behind the pixels."""
    first, header, width, height, bits, compression, *masks = _numbers(
        head, *(range(at, at + (2 if at == 28 else 4)) for at in (10, 14, 18, 22, 28, 30, 54, 58, 62))
    )
    height = tf.minimum(height, 2**32 - height)  # a negative one: upside down
    plain = (compression == 0) & tf.reduce_any(bits == [8, 24, 32])
    usual = (compression == 3) & (bits == 32) & tf.reduce_all(tf.stack(masks) == [0xFF0000, 0xFF00, 0xFF])
    length = tf.cast(tf.strings.length(data), tf.int64)
    end = first + (tf.minimum(width, 2**17) * bits // 8 + 3) // 4 * 4 * tf.minimum(height, 2**17)
    large = tf.maximum(width, height) > MAX_SIDE  # which is told for all formats
    read = (plain | usual) & (header >= 40) & (header <= 124) & (first >= 14 + header) & (width > 0) & (height > 0)
    fault = tf.where((end <= length) | large, "", " is a BMP that ends early")
    fault = tf.where(read, fault, " is a BMP of other than 8, 24 or 32 bits a pixel without compression")
    return _sizes(height, width), tf.strings.substr(data, 0, tf.cast(tf.minimum(end, length), tf.int32)), fault


def _vp8x(data: tf.Tensor, head: tf.Tensor) -> Read:
    """A WebP with a header of its own, which alone may be animated. That takes two canvases besides the picture.

    All get the flag of an alpha channel: TensorFlow writes four bytes for each pixel of an animation, and makes room
    for three of them where the flag is missing.
    """
    flags, width, height = _numbers(head, range(20, 21), range(24, 27), range(27, 30))
    animated, alpha = flags // 2 % 2, flags // 16 % 2
    flag = tf.gather([bytes([i]) for i in range(256)], flags + 16 * (1 - alpha))
    rest = tf.strings.substr(data, tf.minimum(tf.strings.length(data), 21), 2**31 - 1)
    data = tf.strings.join([tf.strings.substr(data, 0, 20), flag, rest])
    return _sizes(height + 1, width + 1, animated + 1), data, tf.constant("")


def _vp8l(data: tf.Tensor, head: tf.Tensor) -> Read:
    [bits] = _numbers(head, range(21, 25))
    return _sizes(bits // 2**14 % 2**14 + 1, bits % 2**14 + 1), tf.identity(data), tf.constant("")


def _vp8(data: tf.Tensor, head: tf.Tensor) -> Read:
    width, height = _numbers(head, range(26, 28), range(28, 30))
    return _sizes(height % 2**14, width % 2**14), tf.identity(data), tf.constant("")


def _none(data: tf.Tensor, head: tf.Tensor) -> Read:
    return tf.zeros(3, tf.int64), tf.identity(data), tf.constant(f" is no {FORMATS}")


# By how a file begins; a dot stands for any byte, and the first that fits is taken.
KINDS = {
    b"\xff\xd8\xff": _jpeg,
    b"\x89PNG\r\n\x1a\n": _png,
    b"GIF8": _gif,
    b"BM": _bmp,
    b"RIFF....WEBPVP8X": _vp8x,
    b"RIFF....WEBPVP8L": _vp8l,
    b"RIFF....WEBPVP8 ": _vp8,
    b"": _none,
}
