"""A photograph's orientation: cameras store what the sensor saw, and in EXIF how it is to be turned.

The tag is read where cameras write it: in a JPEG's first segment, or in the one behind a JFIF segment of the usual
length. CIPA DC-008 (Exif 2.32), sections 4.5.2, 4.6.2 and 4.6.4.
"""

import tensorflow as tf

_EXIF = b"Exif\0\0"
_PLACES = (6, 24)  # of these six bytes, after FF D8, FF E1 and a length; 18 bytes later behind a JFIF segment
_WINDOW = 4096  # bytes of the TIFF header and its first directory that are looked at
_ENTRIES = 128  # of the directory
_TAG = 0x0112


def orientation(data: tf.Tensor) -> tf.Tensor:
    """The orientation of a JPEG, an encoded scalar string: 1 to 8 as EXIF numbers them, int32; 1 where nothing, or
    nothing valid, is said."""
    length = tf.strings.length(data)
    marks = [tf.strings.substr(data, tf.minimum(at, length), len(_EXIF)) == _EXIF for at in _PLACES]
    start = tf.where(marks[0], *_PLACES) + len(_EXIF)
    return tf.cond(marks[0] | marks[1], lambda: _read(data, start), lambda: tf.constant(1))


@tf.function(
    input_signature=[tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.int32)],
    autograph=False,
    experimental_attributes={"_noinline": True},
)
def _read(data: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """What the directory of a TIFF says, which begins at `start`."""
    start = tf.minimum(start, tf.strings.length(data))
    head = tf.io.decode_raw(tf.strings.substr(data, start, _WINDOW) + b"\0" * _WINDOW, tf.uint8)[:_WINDOW]
    head = tf.cast(head, tf.int32)
    big = tf.reduce_all(head[:4] == [0x4D, 0x4D, 0, 42])
    little = tf.reduce_all(head[:4] == [0x49, 0x49, 42, 0])

    def numbers(places: tf.Tensor, size: int) -> tf.Tensor:
        """Numbers of so many bytes, with 0 for bytes beyond the window."""
        indices = tf.expand_dims(places, -1) + tf.range(size)
        digits = tf.where(indices < _WINDOW, tf.gather(head, tf.minimum(indices, _WINDOW - 1)), 0)
        weights = tf.constant([256**i for i in range(size)])
        return tf.reduce_sum(digits * tf.where(big, weights[::-1], weights), -1)

    # Three bytes of the four tell whether the directory is near enough.
    far = tf.where(big, head[4], head[7]) > 0
    directory = tf.where(far, _WINDOW, numbers(tf.where(big, 5, 4), 3))
    directory = tf.minimum(directory, _WINDOW)
    places = directory + 2 + 12 * tf.range(_ENTRIES)
    there = (numbers(places, 2) == _TAG) & (tf.range(_ENTRIES) < numbers(directory, 2))
    value = numbers(tf.gather(places, tf.argmax(there, output_type=tf.int32)) + 8, 2)
    valid = (big | little) & tf.reduce_any(there) & (value >= 1) & (value <= 8)
    return tf.where(valid, value, 1)


def sides(size: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """The height and width, int32 (2,), of an upright picture that is stored with these sides; and the reverse."""
    return tf.where(turn >= 5, size[::-1], size)


def stored(box: tf.Tensor, size: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Where a box (top, left, height, width) of the upright picture, whose sides are `size`, lies in what is stored."""
    down, across = _flips(turn)
    far = size - box[:2] - box[2:]
    corner = tf.where(tf.stack([down, across]), far, box[:2])
    return tf.where(
        turn >= 5, tf.gather(tf.concat([corner, box[2:]], 0), [1, 0, 3, 2]), tf.concat([corner, box[2:]], 0)
    )


def upright(pixels: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Stored pixels (h, w, 3) as they are to be seen."""

    def exchanged() -> tf.Tensor:
        # Three bytes and a fourth, which makes a common float of them, in the place of a float for each byte: a large
        # photograph so takes a third of the memory. Not oneDNN's transpose, which complains of an old processor.
        whole = tf.bitcast(tf.pad(pixels, ((0, 0), (0, 0), (0, 1)), constant_values=0x3F), tf.float32)
        return tf.bitcast(tf.raw_ops.Einsum(inputs=[whole], equation="ij->ji"), tf.uint8)[..., :3]

    def turned() -> tf.Tensor:
        aligned = tf.cond(turn >= 5, exchanged, lambda: pixels)
        return tf.raw_ops.Reverse(tensor=aligned, dims=tf.stack([*_flips(turn), False]))

    return tf.ensure_shape(tf.cond(turn == 1, lambda: pixels, turned), (None, None, 3))


def _flips(turn: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether rows and columns run the other way, after rows and columns were exchanged from orientation 5 on."""
    return tuple(tf.reduce_any(turn == cases) for cases in ([3, 4, 7, 8], [2, 3, 6, 7]))  # type: ignore[return-value]
