"""Encoded bytes to pixels, as TensorFlow graph functions: the same code trains, evaluates and serves.

JPEG, PNG, GIF (first frame), BMP and WebP, in any of their colour modes, come out as RGB. Alpha is dropped, 16 bits
become the upper 8, and a JPEG is turned as its EXIF orientation says, so that it stands as it is looked at.
"""

import re
from collections.abc import Callable
from functools import partial

import numpy as np
import tensorflow as tf

from trainers.data.decoding.headers import MAX_PIXELS, Header, checked
from trainers.data.decoding.orientation import sides, stored, upright
from trainers.data.names import shown

# Equal to Pillow's to the bit; TensorFlow's own choice, the fast transform, is off by up to a dozen levels.
_DCT = "INTEGER_ACCURATE"
# A JPEG's colours are stored coarser than its pixels and smoothed over neighbours, which a crop at its edge lacks.
_MARGIN = 8
# How many times larger than what it becomes a crop still is after a JPEG was decoded at less than its size: at 1 the
# error against Pillow's resize is 1.4 to 4.4 levels of 256 on two photographs, at 2 it is 0.4 to 1.1.
_GAP = 2
_KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic"}
_FLAT = 2**20  # numbers that are resized at once by the thread that has them

# The errors of reading and decoding. TensorFlow's messages are bytes that hold names of files as they are.
READ_ERRORS = (tf.errors.OpError, UnicodeDecodeError)

Box = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # (height, width) to (top, left, height, width), int32
# cut(box, enough): the pixels of a picture inside a box, uint8 (h, w, 3). Where the picture is a JPEG and `enough` a
# number of pixels, they are those of the smallest of its sizes, 1, 1/2, 1/4 and 1/8, that leaves both sides so many.
Cut = Callable[[Box, int | None], tf.Tensor]


def decode(data: tf.Tensor, *, max_pixels: int = MAX_PIXELS, who: tf.Tensor | str = "the picture") -> tf.Tensor:
    """Encoded bytes, a scalar string, to uint8 (h, w, 3).

    Raises InvalidArgumentError for anything else and for pictures above `max_pixels`; its message begins with `who`
    where the header is at fault.
    """
    header = checked(data, max_pixels, who)
    return upright(_decoded(header), header.turn)


def reason(error: Exception) -> str:
    """Why TensorFlow could not read or decode something, in one line and without the places in its graph."""
    if isinstance(error, UnicodeDecodeError):  # of a message with a file name that is not UTF-8
        message = error.object.decode("utf-8", "backslashreplace")
    else:
        message = str(getattr(error, "message", error))
    message = re.sub(r"\{\{.*?\}\}|Error in user-defined function .*? transformation with iterator: \S+ ", "", message)
    message = re.split(r"\s*\[\[|\s*\[Op:", message)[0].strip()
    asserted = re.search(r"assertion failed: \[(.*)\]", message)
    return shown(asserted[1] if asserted else message.split("\n")[-1]) or type(error).__name__


def train_image(
    picture: tf.Tensor | Cut,
    resolution: int,
    seed: tf.Tensor,
    *,
    crop_scale: tuple[float, float] = (0.08, 1.0),
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = True,
) -> tf.Tensor:
    """Encoded bytes, or a picture that was decoded before, to uint8 (resolution, resolution, 3): a random crop,
    resized, perhaps mirrored.

    The crop covers `crop_scale` of the area at a width to height of `crop_ratio` (Szegedy et al. 2015); where ten
    tries find none, it is the whole image. The integers `seed`, shape (2,), decide everything.

    Where the crop of a JPEG is four times as large as what it becomes, or more, the picture is decoded at a half, a
    quarter or an eighth of its size, which is less work; on photographs that moves a pixel by about one level of
    256 in the mean.
    """
    seeds = tf.random.split(seed, 2)

    def random_box(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.stack([height, width, 3]),
            tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            seeds[0],
            min_object_covered=0.0,
            aspect_ratio_range=crop_ratio,
            area_range=crop_scale,
            max_attempts=10,
        )
        return tf.concat([begin[:2], size[:2]], 0)

    cut = picture if callable(picture) else partial(_decode_box, checked(picture))
    image = _resize(cut(random_box, _GAP * resolution), resolution)
    if not flip:
        return image
    # A slice with a stride of -1 takes forty times as long.
    mirrored = tf.random.stateless_uniform([], seeds[1]) < 0.5
    return tf.raw_ops.Reverse(tensor=image, dims=tf.stack([False, mirrored, False]))


def eval_image(
    picture: tf.Tensor | Cut,
    resolution: int,
    crop: float = 0.875,
    *,
    method: str = "bilinear",
    max_pixels: int = MAX_PIXELS,
    who: tf.Tensor | str = "the picture",
) -> tf.Tensor:
    """Encoded bytes, or a picture that was decoded before, to uint8 (resolution, resolution, 3): the central square of
    side crop * min(h, w), resized by the method, bilinear or bicubic.

    Raises InvalidArgumentError as `decode` does.
    """
    cut = picture if callable(picture) else partial(_decode_box, checked(picture, max_pixels, who))
    return _resize(cut(partial(_central_box, crop=crop), None), resolution, method)


def eval_array(image: tf.Tensor, resolution: int, crop: float = 0.875, *, method: str = "bilinear") -> tf.Tensor:
    """What `eval_image` does, from decoded pixels: uint8 (h, w, 3) to uint8 (resolution, resolution, 3)."""
    shape = tf.shape(image)
    return _resize(_cut(image, _central_box(shape[0], shape[1], crop)), resolution, method)


def halvings(box: tf.Tensor, enough: int | None) -> tf.Tensor:
    """How often a JPEG can be halved so that both sides of a box in it keep `enough` pixels: 0 to 3, int32."""
    if enough is None:
        return tf.constant(0)
    return tf.math.count_nonzero(tf.reduce_min(box[2:]) >= [2 * enough, 4 * enough, 8 * enough], dtype=tf.int32)


def most_halvings(sides: np.ndarray, resolution: int) -> np.ndarray:
    """How often `train_image` halves crops of a JPEG at most, whose shorter side has so many pixels."""
    return np.sum([sides >= ratio * _GAP * resolution for ratio in (2, 4, 8)], 0)


def _decode_box(header: Header, box: Box, enough: int | None) -> tf.Tensor:
    """The `Cut` of encoded bytes: of a JPEG, no pixels but those in the box are decoded."""
    size = tf.cast(header.sizes[:2], tf.int32)
    seen = sides(size, header.turn)
    inner = stored(box(seen[0], seen[1]), seen, header.turn)

    def fused() -> tf.Tensor:
        halved = halvings(inner, enough)
        ratio = tf.bitwise.left_shift(1, halved)
        corner, sides, whole = inner[:2] // ratio, inner[2:] // ratio, -(-size // ratio)
        begin = tf.maximum(corner - _MARGIN, 0)
        window = tf.concat([begin, tf.minimum(corner + sides + _MARGIN, whole) - begin], 0)

        def at(ratio: int) -> tf.Tensor:
            return tf.io.decode_and_crop_jpeg(header.data, window, channels=3, ratio=ratio, dct_method=_DCT)

        ratios = (1,) if enough is None else (1, 2, 4, 8)
        pixels = tf.switch_case(halved, [lambda ratio=ratio: at(ratio) for ratio in ratios])
        return _cut(pixels, tf.concat([corner - begin, sides], 0))

    return upright(tf.cond(header.kind == 0, fused, lambda: _cut(_decoded(header), inner)), header.turn)


def _central_box(height: tf.Tensor, width: tf.Tensor, crop: float) -> tf.Tensor:
    side = tf.cast(tf.round(crop * tf.cast(tf.minimum(height, width), tf.float32)), tf.int32)
    side = tf.maximum(side, 1)
    return tf.stack([(height - side) // 2, (width - side) // 2, side, side])


def _cut(image: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    return image[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]


def _resize(image: tf.Tensor, resolution: int, method: str = "bilinear") -> tf.Tensor:
    """uint8 (h, w, 3) to (resolution, resolution, 3): the pixels of `tf.image.resize`, antialiased and rounded.

    Equal to the bit, in a quarter of the time: of a picture, ScaleAndTranslate adds up columns three numbers at a
    time, but rows as a whole. So the rows are resized, the picture turned over, and its rows resized again.
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    pixels = _resize_rows(tf.reshape(image, (height, width * 3)), resolution, method)
    pixels = _resize_rows(tf.reshape(_turned(pixels), (width, 3 * resolution)), resolution, method)
    pixels = _turned(tf.reshape(tf.round(pixels), (3 * resolution, resolution)))
    # The bicubic kernel, whose weights may be negative, can leave the range.
    pixels = tf.cast(pixels, tf.uint8) if method == "bilinear" else tf.saturate_cast(pixels, tf.uint8)
    return tf.reshape(pixels, (resolution, resolution, 3))


def _turned(rows: tf.Tensor) -> tf.Tensor:
    """float32 (h, k) to (k, h). Not oneDNN's transpose: it wakes other threads, which costs more than the work."""
    return tf.raw_ops.Einsum(inputs=[rows], equation="ij->ji")


def _resize_rows(rows: tf.Tensor, count: int, method: str) -> tf.Tensor:
    """(h, k) to float32 (count, k): means of rows, weighted by the method's kernel. Its unit is a new row, or
    an old one where there are fewer of them.
    """
    height, length = tf.unstack(tf.shape(rows))
    # What is one row high is not shared out among threads; but all of it, and not only what comes out, becomes floats.
    flat = height * length <= _FLAT
    shape = tf.where(flat, [1, 1, height, length], [1, height, 1, length])
    scale = count / tf.cast(height, tf.float32)
    means = tf.raw_ops.ScaleAndTranslate(
        images=tf.reshape(rows, shape),
        size=tf.where(flat, [1, count], [count, 1]),
        scale=tf.where(flat, [1.0, scale], [scale, 1.0]),
        translation=[0.0, 0.0],
        kernel_type=_KERNELS[method],
    )
    return tf.reshape(means, (count, length))


def all_sizes(header: Header, halved: tf.Tensor) -> tf.Tensor:
    """The pixels of a picture, one after the other, uint8 (n,): as it is stored, and `halved` times at half of the
    sides."""

    def at(times: int) -> tf.Tensor:
        decode_half = partial(tf.io.decode_jpeg, header.data, channels=3, ratio=2**times, dct_method=_DCT)
        empty = partial(tf.zeros, (0,), tf.uint8)
        return tf.cond(halved >= times, lambda: tf.reshape(decode_half(), (-1,)), empty)

    return tf.concat([tf.reshape(_decoded(header), (-1,)), *(at(times) for times in (1, 2, 3))], 0)


def _decoded(header: Header) -> tf.Tensor:
    """uint8 (h, w, 3) of what the header says, not turned."""
    pixels = tf.switch_case(header.kind, [lambda decoder=decoder: decoder(header) for decoder in _DECODERS])
    return tf.ensure_shape(pixels, (None, None, 3))


def _jpeg(header: Header) -> tf.Tensor:
    return tf.io.decode_jpeg(header.data, channels=3, dct_method=_DCT)


def _png(header: Header) -> tf.Tensor:
    return tf.io.decode_png(header.data, channels=3)


def _gif(header: Header) -> tf.Tensor:
    frame = tf.io.decode_image(header.data, channels=3, expand_animations=False)
    return frame[: header.sizes[0], : header.sizes[1]]


def _bmp(header: Header) -> tf.Tensor:
    """The decoder takes the indices of a palette for grey levels."""
    pixels = tf.io.decode_bmp(header.data)

    def from_palette() -> tf.Tensor:
        content = tf.io.decode_raw(tf.strings.substr(header.data, 0, 2**11) + b"\0" * 2**11, tf.uint8)
        first, size = tf.unstack(tf.bitcast(tf.reshape(content[10:18], (2, 4)), tf.int32))
        begin = 14 + size
        entries = tf.reshape(content[begin : begin + 1024], (256, 4))[:, 2::-1]
        # An index without an entry is black, as in Pillow.
        there = tf.range(256)[:, None] < (first - begin) // 4
        return tf.gather(tf.where(there, entries, 0), tf.cast(pixels[..., 0], tf.int32))

    return tf.cond(tf.shape(pixels)[-1] == 1, from_palette, lambda: pixels[..., :3])


def _webp(header: Header) -> tf.Tensor:
    return tf.io.decode_image(header.data, expand_animations=False)[..., :3]


_DECODERS = (_jpeg, _png, _gif, _bmp, _webp, _webp, _webp)  # in the order of KINDS
