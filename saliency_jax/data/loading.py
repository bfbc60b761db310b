"""Batches of any TFDS image-classification set, by name."""

import dataclasses
import functools
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np
import tensorflow_datasets as tfds
from absl import flags
from numpy.typing import DTypeLike
from PIL import Image as PILImage

from . import tiny_imagenet as tiny_imagenet  # Registers the builder with TFDS.
from .images import fit_picture, image_side

# Batches in flight: enough to hide one slow read, few enough to stay small in memory.
_PREFETCHED_BATCHES = 4
_READ_THREADS = 2

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Description:
    """What a dataset holds.

    Attributes:
        num_classes: Number of classes k; labels are 0 to k - 1.
        class_names: The k names in label order.
        image_shape: (height, width, channels), None where images differ.
        num_examples: Number of examples of every split.
    """

    num_classes: int
    class_names: tuple[str, ...]
    image_shape: tuple[int | None, ...]
    num_examples: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Batches:
    """Batches in a fixed order: iterable any number of times, with a length.

    Attributes:
        batches_per_epoch: Number of batches in one pass over the split.
        num_examples: Number of images in one pass.
        start: Number of the first batch, counted from the beginning of the first epoch.
    """

    dataset: grain.MapDataset
    batches_per_epoch: int
    num_examples: int
    start: int
    workers: int

    def __len__(self) -> int:
        return len(self.dataset) - self.start

    def __iter__(self) -> Iterator[Batch]:
        if len(self) == 0:
            return iter(())
        stream = self.dataset[self.start :].to_iter_dataset(
            grain.ReadOptions(_READ_THREADS, _PREFETCHED_BATCHES)
        )
        if self.workers:
            if (
                not flags.FLAGS.is_parsed()
            ):  # Grain's workers read a flag that only absl's app sets.
                flags.FLAGS.mark_as_parsed()
            stream = stream.mp_prefetch(
                grain.MultiprocessingOptions(self.workers, _PREFETCHED_BATCHES)
            )
        return iter(stream)


def describe(name: str, *, data_dir: str | Path | None = None) -> Description:
    """Classes, image shape and sizes of a dataset.

    Args:
        name: TFDS name, with the config after a slash: "mnist", "tiny_imagenet/paper20".
        data_dir: TFDS data folder; TFDS's own default when None.

    Returns:
        The description.
    """
    builder = _builder(name, data_dir)
    image, label = _keys(builder.info)
    classes = builder.info.features[label]
    return Description(
        num_classes=classes.num_classes,
        class_names=tuple(classes.names),
        image_shape=builder.info.features[image].shape,
        num_examples={split: info.num_examples for split, info in builder.info.splits.items()},
    )


def load(
    name: str,
    split: str,
    batch_size: int,
    *,
    seed: int | None = None,
    epochs: int = 1,
    start: int = 0,
    workers: int = 0,
    image_size: int | tuple[int, int] | None = None,
    dtype: DTypeLike = np.float32,
    fields: Sequence[str] = (),
    data_dir: str | Path | None = None,
) -> Batches:
    """Batches of a TFDS image-classification set.

    The order depends on `seed`, `batch_size` and the split alone: neither workers nor `start`
    change it, so the batches from `start` on equal those of an uninterrupted run.

    Args:
        name: TFDS name, with the config after a slash: "mnist", "tiny_imagenet/paper20".
        split: TFDS split, sliced at will: "train", "train[:90%]", "train[90%:]".
        batch_size: Number of images b in every batch.
        seed: Shuffles every epoch anew, from 0 to 2**32 - 1; None keeps the stored order.
        epochs: Number of passes over the split.
        start: Number of the batch to begin at, counted over all epochs.
        workers: Number of reading processes; 0 reads in threads of this one.
        image_size: Side, or (height, width), that images are fitted to; None keeps theirs.
        dtype: float32 for values in [0, 1], uint8 for the bytes from 0 to 255.
        fields: Further features to deliver under their own names, such as "bbox".
        data_dir: TFDS data folder; TFDS's own default when None.

    Returns:
        An iterable with a length, of dictionaries of `image` (b, h, w, c), `label` int32 (b,) and
        `mask` bool (b,): False marks the padding (zeros, label 0) that fills the last batch of an
        epoch.
    """
    builder = _builder(name, data_dir)
    image, label = _keys(builder.info)
    source = builder.as_data_source(split, decoders={image: tfds.decode.SkipDecoding()})
    read = functools.partial(
        _read_example,
        image=image,
        label=label,
        mode=_MODES[builder.info.features[image].shape[-1]],
        size=None if image_size is None else image_side(image_size),
        fields=tuple(fields),
    )
    dataset = grain.MapDataset.source(source)
    if seed is not None:
        dataset = dataset.shuffle(_spread(seed))
    collate = functools.partial(_collate, batch_size=batch_size, dtype=np.dtype(dtype))
    dataset = dataset.map(read).batch(batch_size, batch_fn=collate).repeat(epochs)
    return Batches(
        dataset=dataset,
        batches_per_epoch=math.ceil(len(source) / batch_size),
        num_examples=len(source),
        start=start,
        workers=workers,
    )


_MODES = {1: "L", 3: "RGB", 4: "RGBA", None: "RGB"}


def _spread(seed: int) -> int:
    """An unrelated 32-bit seed: grain shuffles epoch e of seed s as epoch 0 of seed s + e."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def _builder(name: str, data_dir: str | Path | None) -> tfds.core.DatasetBuilder:
    return tfds.builder(name, data_dir=data_dir)


def _keys(info: tfds.core.DatasetInfo) -> tuple[str, str]:
    """Names of the image and of the label feature."""
    return info.supervised_keys


def _read_example(
    example: Mapping[str, Any],
    *,
    image: str,
    label: str,
    mode: str,
    size: tuple[int, int] | None,
    fields: tuple[str, ...],
) -> dict[str, Any]:
    with PILImage.open(io.BytesIO(example[image])) as picture:
        pixels = picture.convert(mode)
    if size is not None:
        pixels = fit_picture(pixels, size)
    array = np.asarray(pixels)
    return {
        "image": array[..., None] if array.ndim == 2 else array,
        "label": np.int32(example[label]),
        **{field: _text_or_array(example[field]) for field in fields},
    }


def _text_or_array(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _collate(examples: Sequence[Mapping[str, Any]], *, batch_size: int, dtype: np.dtype) -> Batch:
    """Stacks examples, and fills the batch up with zeros."""
    padding = batch_size - len(examples)
    batch = {}
    for key in examples[0]:
        stacked = np.stack([example[key] for example in examples])
        filler = np.zeros((padding, *stacked.shape[1:]), stacked.dtype)
        batch[key] = np.concatenate([stacked, filler]) if padding else stacked
    if dtype != np.uint8:
        batch["image"] = batch["image"].astype(dtype) / dtype.type(255)
    batch["mask"] = np.arange(batch_size) < len(examples)
    return batch
