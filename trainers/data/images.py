"""Encoded bytes to pixels, as TensorFlow graph functions: the same code trains, evaluates and serves.

JPEG, PNG, GIF (first frame), BMP and WebP, in any of their colour modes, come out as RGB. Alpha is dropped, 16 bits
become the upper 8, and an EXIF orientation is not applied: a turned photograph stays turned.
"""

from collections.abc import Callable

import tensorflow as tf

# Equal to Pillow's to the bit; TensorFlow's own choice, the fast transform, is off by up to a dozen levels.
_DCT = "INTEGER_ACCURATE"
# A JPEG's colours are stored coarser than its pixels and smoothed over neighbours, which a crop at its edge lacks.
_MARGIN = 8


def decode(data: tf.Tensor) -> tf.Tensor:
    """Encoded bytes, a scalar string, to uint8 (h, w, 3). Anything else is an InvalidArgumentError."""
    return tf.case(
        [
            (tf.image.is_jpeg(data), lambda: tf.io.decode_jpeg(data, channels=3, dct_method=_DCT)),
            (tf.strings.substr(data, 0, 2) == b"BM", lambda: _decode_bmp(data)),
        ],
        default=lambda: tf.io.decode_image(data, channels=3, expand_animations=False),
    )


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

    image = _resize(_decode_box(data, random_box), resolution)
    if not flip:
        return image
    return tf.cond(tf.random.stateless_uniform([], seeds[1]) < 0.5, lambda: image[:, ::-1], lambda: image)


def eval_image(data: tf.Tensor, resolution: int, crop: float = 0.875) -> tf.Tensor:
    """Encoded bytes to uint8 (resolution, resolution, 3): the central square of side crop * min(h, w), resized."""
    return _resize(_decode_box(data, lambda height, width: _central_box(height, width, crop)), resolution)


def eval_array(image: tf.Tensor, resolution: int, crop: float = 0.875) -> tf.Tensor:
    """What `eval_image` does, from decoded pixels: uint8 (h, w, 3) to uint8 (resolution, resolution, 3)."""
    shape = tf.shape(image)
    return _resize(_cut(image, _central_box(shape[0], shape[1], crop)), resolution)


def _decode_box(data: tf.Tensor, box: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """The pixels inside box(height, width) = (top, left, height, width); of a JPEG, no others are decoded."""

    def fused() -> tf.Tensor:
        shape = tf.image.extract_jpeg_shape(data)
        inner = box(shape[0], shape[1])
        begin = tf.maximum(inner[:2] - _MARGIN, 0)
        end = tf.minimum(inner[:2] + inner[2:] + _MARGIN, shape[:2])
        window = tf.concat([begin, end - begin], 0)
        pixels = tf.io.decode_and_crop_jpeg(data, window, channels=3, dct_method=_DCT)
        return _cut(pixels, tf.concat([inner[:2] - begin, inner[2:]], 0))

    def whole() -> tf.Tensor:
        pixels = decode(data)
        shape = tf.shape(pixels)
        return _cut(pixels, box(shape[0], shape[1]))

    return tf.cond(tf.image.is_jpeg(data), fused, whole)


def _central_box(height: tf.Tensor, width: tf.Tensor, crop: float) -> tf.Tensor:
    side = tf.cast(tf.round(crop * tf.cast(tf.minimum(height, width), tf.float32)), tf.int32)
    side = tf.maximum(side, 1)
    return tf.stack([(height - side) // 2, (width - side) // 2, side, side])


def _cut(image: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    return image[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]


def _resize(image: tf.Tensor, resolution: int) -> tf.Tensor:
    pixels = tf.image.resize(image, (resolution, resolution), antialias=True)
    return tf.ensure_shape(tf.saturate_cast(tf.round(pixels), tf.uint8), (resolution, resolution, 3))


def _decode_bmp(data: tf.Tensor) -> tf.Tensor:
    """`decode_image(channels=3)` refuses grey and RGBA files, and takes the indices of a palette for grey levels."""
    pixels = tf.io.decode_bmp(data)

    def from_palette() -> tf.Tensor:
        header = tf.io.decode_raw(tf.strings.substr(data, 10, 8), tf.int32, little_endian=True)
        first, size = header[0], header[1]
        entries = tf.io.decode_raw(tf.strings.substr(data, 14 + size, first - 14 - size), tf.uint8)
        return tf.gather(tf.reshape(entries, (-1, 4))[:, 2::-1], tf.cast(pixels[..., 0], tf.int32))

    return tf.cond(tf.shape(pixels)[-1] == 1, from_palette, lambda: pixels[..., :3])
