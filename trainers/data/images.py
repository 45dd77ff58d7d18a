"""Encoded bytes to pixels, as TensorFlow graph functions: the same code trains, evaluates and serves.

JPEG, PNG, GIF (first frame), BMP and WebP, in any of their colour modes, come out as RGB. Alpha is dropped, 16 bits
become the upper 8, and an EXIF orientation is not applied: a turned photograph stays turned.
"""

import re
from collections.abc import Callable

import tensorflow as tf

from trainers.data.headers import MAX_PIXELS, Header, checked
from trainers.data.names import shown

# Equal to Pillow's to the bit; TensorFlow's own choice, the fast transform, is off by up to a dozen levels.
_DCT = "INTEGER_ACCURATE"
# A JPEG's colours are stored coarser than its pixels and smoothed over neighbours, which a crop at its edge lacks.
_MARGIN = 8

# The errors of reading and decoding. TensorFlow's messages are bytes that hold names of files as they are.
READ_ERRORS = (tf.errors.OpError, UnicodeDecodeError)


def decode(data: tf.Tensor, *, max_pixels: int = MAX_PIXELS, who: tf.Tensor | str = "the picture") -> tf.Tensor:
    """Encoded bytes, a scalar string, to uint8 (h, w, 3).

    Raises InvalidArgumentError for anything else and for pictures above `max_pixels`; its message begins with `who`
    where the header is at fault.
    """
    return _decoded(checked(data, max_pixels, who))


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
    data: tf.Tensor,
    resolution: int,
    seed: tf.Tensor,
    *,
    crop_scale: tuple[float, float] = (0.08, 1.0),
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = True,
) -> tf.Tensor:
    """Encoded bytes to uint8 (resolution, resolution, 3): a random crop, resized, perhaps mirrored.

    The crop covers `crop_scale` of the area at a width to height of `crop_ratio` (Szegedy et al. 2015); where ten
    tries find none, it is the whole image. The integers `seed`, shape (2,), decide everything.
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

    image = _resize(_decode_box(checked(data), random_box), resolution)
    if not flip:
        return image
    return tf.cond(tf.random.stateless_uniform([], seeds[1]) < 0.5, lambda: image[:, ::-1], lambda: image)


def eval_image(
    data: tf.Tensor,
    resolution: int,
    crop: float = 0.875,
    *,
    method: str = "bilinear",
    max_pixels: int = MAX_PIXELS,
    who: tf.Tensor | str = "the picture",
) -> tf.Tensor:
    """Encoded bytes to uint8 (resolution, resolution, 3): the central square of side crop * min(h, w), resized
    by the method, bilinear or bicubic.

    Raises InvalidArgumentError as `decode` does.
    """
    header = checked(data, max_pixels, who)
    return _resize(_decode_box(header, lambda height, width: _central_box(height, width, crop)), resolution, method)


def eval_array(image: tf.Tensor, resolution: int, crop: float = 0.875, *, method: str = "bilinear") -> tf.Tensor:
    """What `eval_image` does, from decoded pixels: uint8 (h, w, 3) to uint8 (resolution, resolution, 3)."""
    shape = tf.shape(image)
    return _resize(_cut(image, _central_box(shape[0], shape[1], crop)), resolution, method)


def _decode_box(header: Header, box: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """The pixels inside box(height, width) = (top, left, height, width); of a JPEG, no others are decoded."""
    size = tf.cast(header.sizes[:2], tf.int32)
    inner = box(size[0], size[1])

    def fused() -> tf.Tensor:
        begin = tf.maximum(inner[:2] - _MARGIN, 0)
        end = tf.minimum(inner[:2] + inner[2:] + _MARGIN, size)
        window = tf.concat([begin, end - begin], 0)
        pixels = tf.io.decode_and_crop_jpeg(header.data, window, channels=3, dct_method=_DCT)
        return _cut(pixels, tf.concat([inner[:2] - begin, inner[2:]], 0))

    return tf.cond(header.kind == 0, fused, lambda: _cut(_decoded(header), inner))


def _central_box(height: tf.Tensor, width: tf.Tensor, crop: float) -> tf.Tensor:
    side = tf.cast(tf.round(crop * tf.cast(tf.minimum(height, width), tf.float32)), tf.int32)
    side = tf.maximum(side, 1)
    return tf.stack([(height - side) // 2, (width - side) // 2, side, side])


def _cut(image: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    return image[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]


def _resize(image: tf.Tensor, resolution: int, method: str = "bilinear") -> tf.Tensor:
    pixels = tf.image.resize(image, (resolution, resolution), method, antialias=True)
    return tf.ensure_shape(tf.saturate_cast(tf.round(pixels), tf.uint8), (resolution, resolution, 3))


def _decoded(header: Header) -> tf.Tensor:
    """uint8 (h, w, 3) of what the header says."""
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
