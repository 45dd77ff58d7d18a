"""Mixup and CutMix: each example of a batch with another one, images and targets alike, inside the compiled step."""

import tensorflow as tf


def mix(
    images: tf.Tensor, targets: tf.Tensor, key: tf.Tensor, *, mixup: float, cutmix: float, switch: float = 0.5
) -> tuple[tf.Tensor, tf.Tensor]:
    """lam x + (1 - lam) x' for images and targets, where x' is x's partner: mixup (Zhang et al.,
    https://arxiv.org/abs/1710.09412). Or CutMix (Yun et al., https://arxiv.org/abs/1905.04899): a box of the image is
    the partner's, and lam the share of the pixels outside.

    images: (b, r, r, 3) and targets: (b, classes), both float32; returns the same. lam is from Beta(alpha, alpha),
    one for the batch; `mixup` and `cutmix` are the alphas, of which 0 leaves its method out; `switch` is the
    probability of CutMix where both are there. The integers `key`, shape (2,), decide all draws.

    The partner is at the mirrored place: as the order of examples is random, so are the pairs; no image is left
    out (but the middle one of an odd batch), and each pair comes in both proportions.
    """
    if not mixup and not cutmix:
        return images, targets
    weight, lam = weights(key, images.shape[1], images.shape[2], mixup, cutmix, switch)
    return (
        weight * images + (1 - weight) * tf.reverse(images, [0]),
        lam * targets + (1 - lam) * tf.reverse(targets, [0]),
    )


def weights(
    key: tf.Tensor, height: int, width: int, mixup: float, cutmix: float, switch: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """The weight of an image's own pixels, float32 (height, width, 1), and lam, its mean."""
    keys = tf.random.split(key, 3)
    lam = beta(keys[0], mixup or cutmix)
    plain = tf.fill((height, width, 1), lam)
    if not cutmix:
        return plain, lam
    outside = outside_box(keys[1], beta(keys[0], cutmix), height, width)
    cut = tf.random.stateless_uniform([], keys[2]) < (switch if mixup else 1)
    return tf.where(cut, outside, plain), tf.where(cut, tf.reduce_mean(outside), lam)


def outside_box(key: tf.Tensor, lam: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """1 outside and 0 inside a box, float32 (height, width, 1). The box has 1 - lam of the area and its middle
    anywhere; what then reaches over the border is cut off.
    """
    inside = tf.ones((), tf.bool)
    middles = tf.random.stateless_uniform([2], key)
    for axis, size in enumerate((height, width)):
        side = tf.floor(size * tf.sqrt(1 - lam))
        begin = tf.floor(size * middles[axis]) - tf.floor(side / 2)
        place = tf.reshape(tf.range(size, dtype=tf.float32), (-1, 1, 1) if axis == 0 else (1, -1, 1))
        inside &= (place >= begin) & (place < begin + side)
    return 1 - tf.cast(inside, tf.float32)


def beta(key: tf.Tensor, alpha: float) -> tf.Tensor:
    """A draw from Beta(alpha, alpha), float32: a / (a + b) with a and b from Gamma(alpha), in operations that XLA has.

    Gamma(alpha) is Gamma(alpha + 1) u^(1 / alpha), and that d (1 + c x)^3 with normal x, accepted or drawn anew
    (Marsaglia and Tsang 2000, https://doi.org/10.1145/358407.358414). Less than one in twenty fails, so that the
    first good one of 12 is as good as a loop. In logarithms, as a small alpha's draws are below the smallest float32.
    """
    tries = 12
    keys = tf.random.split(key, 3)
    d = alpha + 2 / 3
    x = tf.random.stateless_normal([2, tries], keys[0])
    root = 1 + x / (9 * d) ** 0.5
    cubed = tf.maximum(root, 1e-6) ** 3
    log = tf.math.log(cubed)
    # A uniform of 0 would be infinite as a logarithm.
    u, v = (
        tf.math.log(tf.random.stateless_uniform(shape, k, 1e-30, 1.0))
        for shape, k in (([2, tries], keys[1]), ([2], keys[2]))
    )
    accepted = (u < 0.5 * x**2 + d * (1 - cubed + log)) & (root > 0)
    first = tf.argmax(tf.cast(accepted, tf.int32), -1, tf.int32)
    a, b = tf.unstack(tf.gather(log, first, batch_dims=1) + v / alpha)
    return tf.sigmoid(a - b)
