"""Keras by a plain script, up to the end of its first step: `python -m benchmarks.sides.keras_start ...` as ours."""

import os
import sys

import keras


def main() -> None:
    network, batch, side, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    data = keras.utils.image_dataset_from_directory(f"{folder}/train", image_size=(side, side), batch_size=batch)
    model = getattr(keras.applications, network)(weights=None, classes=2, input_shape=(side, side, 3))
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
    ending = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: os._exit(0))
    model.fit(data, epochs=1, verbose=0, callbacks=[ending])


if __name__ == "__main__":
    main()
