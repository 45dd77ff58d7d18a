"""Data sets to batches of pixels: a source, its splits, and the pipelines over them."""

from trainers.data.images import decode, eval_array, eval_image, train_image
from trainers.data.pipeline import broken_files, eval_batches, train_batches, training_records
from trainers.data.sampling import sample
from trainers.data.sources import open_data
from trainers.data.splits import Source, Split

decode_eval = eval_image

__all__ = [
    "Source",
    "Split",
    "broken_files",
    "decode",
    "decode_eval",
    "eval_array",
    "eval_batches",
    "eval_image",
    "open_data",
    "sample",
    "train_batches",
    "train_image",
    "training_records",
]
