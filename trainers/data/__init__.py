"""From data sets to batches of pixels: a source, its splits, and the pipelines over them."""

from trainers.data.augment import Augmentation
from trainers.data.decoding.images import READ_ERRORS, decode, eval_array, eval_image, reason, train_image
from trainers.data.names import shown
from trainers.data.pipeline import Order, broken_files, eval_batches, train_batches, training_records
from trainers.data.sampling import sample
from trainers.data.sources import open_data
from trainers.data.splits import Source, Split
from trainers.data.stored.listing import SUFFIXES

decode_eval = eval_image

__all__ = [
    "READ_ERRORS",
    "SUFFIXES",
    "Augmentation",
    "Order",
    "Source",
    "Split",
    "broken_files",
    "decode",
    "decode_eval",
    "eval_array",
    "eval_batches",
    "eval_image",
    "open_data",
    "reason",
    "sample",
    "shown",
    "train_batches",
    "train_image",
    "training_records",
]
