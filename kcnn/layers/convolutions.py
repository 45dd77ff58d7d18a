"""Convolutions by the operations that a CPU does fastest."""

import functools

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
else:
    tf = None


@keras.saving.register_keras_serializable("kcnn")
class Conv2D(keras.layers.Conv2D):
    """Convolves as Keras's layer does, with its settings and variable names, by the operations that a CPU does fastest.

    Keras compiles each grouped convolution with XLA, since TensorFlow's plain kernels on a CPU have no gradient of it.
    XLA's gradient takes 25 to 600 times as long there as oneDNN's, which TensorFlow uses where it can; elsewhere one
    convolution a group takes 5 to 8 times as long. Backends other than TensorFlow keep Keras's way.
    In training on a CPU a 1x1 convolution is a product of matrices: the gradient of its kernel takes 0.5 to 0.95 times
    as long so, the rest as long.
    """

    def call(self, inputs, training=None):
        one_product = self._is_one_product(inputs, training)
        if self.data_format != "channels_last" or not (one_product or (self.groups > 1 and self.use_bias)):
            return super().call(inputs)
        kernel = ops.convert_to_tensor(self.kernel)
        if one_product:
            outputs = tf.tensordot(inputs, tf.reshape(kernel, kernel.shape[2:]), 1)
            outputs = tf.nn.bias_add(outputs, ops.convert_to_tensor(self.bias)) if self.use_bias else outputs
        else:
            # The bias as a vector: the form that Keras gives it TensorFlow without oneDNN would fuse with the
            # convolution, and then fail: "Fused conv implementation does not support grouped convolutions for now".
            outputs = self.convolution_op(inputs, kernel) + ops.convert_to_tensor(self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    def _is_one_product(self, inputs, training):
        point = self.kernel_size == self.strides == (1, 1) and self.groups == 1
        return tf is not None and training and point and _on_cpu(inputs)

    def convolution_op(self, inputs, kernel):
        plain = self.groups == 1 or self.data_format != "channels_last" or max(self.dilation_rate) > 1
        if tf is None or plain:
            return super().convolution_op(inputs, kernel)
        inputs, kernel = ops.convert_to_tensor(inputs), ops.convert_to_tensor(kernel)
        settings = {"strides": self.strides, "padding": self.padding.upper()}
        whole = tf.nn.conv2d(inputs, kernel, **settings)
        if not _on_cpu(whole) or _cpu_differentiates_groups(whole.dtype):
            return whole
        pairs = zip(tf.split(inputs, self.groups, -1), tf.split(kernel, self.groups, -1), strict=True)
        return tf.concat([tf.nn.conv2d(x, k, **settings) for x, k in pairs], -1)


@keras.saving.register_keras_serializable("kcnn")
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Convolves as Keras's layer does, with its settings and variable names.

    In training on a CPU the gradient of a kernel of 5x5 and more is TensorFlow's own: it takes 0.2 to 0.6 times as long
    as oneDNN's, which is the faster one for smaller kernels and for all else.
    """

    def call(self, inputs, training=None):
        settled = self.data_format == "channels_last" and self.depth_multiplier == max(self.dilation_rate) == 1
        large = min(self.kernel_size) >= 5 and len(set(self.strides)) == 1
        if tf is None or not (training and settled and large and inputs.dtype == "float32" and _on_cpu(inputs)):
            return super().call(inputs)
        kernel = tf.convert_to_tensor(self.kernel)  # no variable, which TensorFlow would want a gradient of besides
        outputs = _depthwise(inputs, kernel, strides=[1, *self.strides, 1], padding=self.padding.upper())
        if self.use_bias:
            outputs += ops.convert_to_tensor(self.bias)
        return outputs if self.activation is None else self.activation(outputs)


def _depthwise(inputs, kernel, strides, padding):
    """tf.nn.depthwise_conv2d with the kernel's gradient by explicit padding, which oneDNN leaves to TensorFlow."""
    settings = {"strides": strides, "padding": padding}
    around = [(0, 0), *map(_around, inputs.shape[1:3], kernel.shape[:2], strides[1:3]), (0, 0)]
    explicit = [side for sides in around for side in (sides if padding == "SAME" else (0, 0))]

    @tf.custom_gradient
    def convolve(x, k):
        def gradients(g):
            of_x = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x), filter=k, out_backprop=g, **settings
            )
            of_kernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=x,
                filter_sizes=k.shape,
                out_backprop=g,
                strides=strides,
                padding="EXPLICIT",
                explicit_paddings=explicit,
            )
            return of_x, of_kernel

        return tf.raw_ops.DepthwiseConv2dNative(input=x, filter=k, **settings), gradients

    return convolve(inputs, kernel)


def _around(size, kernel, stride):
    """The places before and after that TensorFlow's padding "same" adds along an axis of so many."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _on_cpu(tensor):
    """Tells whether a tensor is computed on a CPU. A function that names no device takes the first GPU, if any."""
    device = tf.DeviceSpec.from_string(tensor.device).device_type
    return device == "CPU" or (device is None and not tf.config.list_logical_devices("GPU"))


@functools.cache
def _cpu_differentiates_groups(dtype):
    """Tells whether TensorFlow's CPU kernels have the gradients of a grouped convolution: those of oneDNN do."""
    with tf.init_scope(), tf.device("CPU:0"):
        x, kernel = tf.ones((1, 3, 3, 4), dtype), tf.ones((3, 3, 2, 4), dtype)
        settings = {"out_backprop": x, "strides": [1] * 4, "padding": "SAME"}
        try:
            tf.raw_ops.Conv2DBackpropInput(input_sizes=x.shape, filter=kernel, **settings)
            tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=kernel.shape, **settings)
        except tf.errors.OpError:
            return False
    return True
