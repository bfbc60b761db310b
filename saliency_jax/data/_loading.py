"""Batches of any TFDS image-classification set, by name."""

import dataclasses
import functools
import logging
import math
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np
import tensorflow_datasets as tfds
from absl import flags
from numpy.typing import DTypeLike

from .._constants import NOT_MIRRORED, STATISTICS, imagenet_classes
from .._validation import check_count, check_instance, check_text, nearest
from ..images import decode, height_and_width, in_unit_range
from ._preparation import one_line, prepared

# Batches in flight: enough to hide one slow read, few enough to stay small in memory.
_PREFETCHED_BATCHES = 4
# Decoding leaves Python's lock about half of the time, so that more threads only queue for it.
_READ_THREADS = 2

# Of image features that do not say how many.
_USUAL_CHANNELS = 3

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Description:
    """What a dataset holds.

    Attributes:
      kind: "image"; or what the builder of signals calls them in its attribute `KIND`: "sound",
        "iq" for in-phase and quadrature, "signal" if it does not say.
      num_classes: number of classes k; labels are 0 to k - 1.
      class_names: the k names in label order; their numbers where the dataset has no names, and
        ImageNet's names for its WordNet ids.
      image_shape: (height, width, channels), None where images differ.
      num_examples: number of examples of every split.
      mean: per channel, of the training images, in units of [0, 1]; None where not published.
      std: per channel, likewise.
      mirrored: whether an image's mirror image is one of the same class.
      sample_rate: of sounds, in hertz, from the builder's attribute `SAMPLE_RATE`.
      left_out: how many files and folders in a folder of images are no picture.
      id_field: the text among the features that says which file an example is of, if there is one.
    """

    kind: str
    num_classes: int
    class_names: tuple[str, ...]
    image_shape: tuple[int | None, ...]
    num_examples: dict[str, int]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    mirrored: bool = True
    sample_rate: int | None = None
    left_out: int = 0
    id_field: str | None = None

    @property
    def test_split(self) -> str:
        """The split that is made for evaluation, or "train" if there is no other.

        "validation" before "test", of which some datasets keep the labels to themselves.
        """
        others = [name for name in self.num_examples if name != "train"]
        names = [name for name in ("validation", "val", "test") if name in others]
        return [*names, *others, "train"][0]


@dataclasses.dataclass(frozen=True)
class Batches:
    """Batches in a fixed order, which can be iterated any number of times.

    Attributes:
      dataset: the batches of all epochs by number, those before `start` too; in uint8 if all of a
        batch's pictures hold 8 bits.
      batches_per_epoch: number of batches in one pass over the split.
      num_examples: number of images in one pass.
      start: number of the first batch, counted over all epochs.
      workers: number of reading processes.
      dtype: of the images.
    """

    dataset: grain.MapDataset
    batches_per_epoch: int
    num_examples: int
    start: int
    workers: int
    dtype: np.dtype

    def __len__(self) -> int:
        return len(self.dataset) - self.start

    def __iter__(self) -> Iterator[Batch]:
        if len(self) == 0:
            return
        convert = functools.partial(_converted, dtype=self.dtype)
        options = grain.ReadOptions(_READ_THREADS, _PREFETCHED_BATCHES)
        dataset = self.dataset[self.start :]
        if self.workers == 0:
            yield from dataset.map(convert).to_iter_dataset(options)
            return
        if not flags.FLAGS.is_parsed():  # Grain's workers read a flag that only absl's app sets.
            flags.FLAGS.mark_as_parsed()
        # As pickles, because grain would send arrays through shared memory, of which it leaves
        # the last batches behind. Bytes go, a quarter of the floats.
        sent = dataset.map(pickle.dumps).to_iter_dataset(options)
        iterator = iter(
            sent.mp_prefetch(grain.MultiprocessingOptions(self.workers, _PREFETCHED_BATCHES))
        )
        try:
            for batch in iterator:
                yield convert(pickle.loads(batch))
        finally:
            iterator.close()


def describe(name: str, *, data_dir: str | Path | None = None) -> Description:
    """Classes, image shape, sizes and constants of a prepared dataset.

    Args:
      name, data_dir: see the room.

    Returns:
      The description.

    Raises:
      ValueError: there is no such dataset, or it is not one of classified images or signals.
      FileNotFoundError: it is not prepared; the message holds the command that prepares it.

    Example:
      >>> describe("tiny_imagenet/paper20").class_names[:2]  # doctest: +SKIP
      ('dining table', 'magnetic compass')
    """
    builder = prepared(name, data_dir=data_dir)
    info = builder.info
    image, label = _image_and_label(info)
    statistics = STATISTICS.get(f"{info.name}/{info.config_name}", STATISTICS.get(info.name))
    is_signal = _is_signal(info.features[image])
    return Description(
        kind=getattr(builder, "KIND", "signal") if is_signal else "image",
        num_classes=info.features[label].num_classes,
        class_names=_class_names(info.features[label].names),
        image_shape=_image_shape(info.features[image]),
        num_examples={split: content.num_examples for split, content in info.splits.items()},
        mean=statistics and statistics.mean,
        std=statistics and statistics.std,
        mirrored=info.name not in NOT_MIRRORED,
        sample_rate=getattr(builder, "SAMPLE_RATE", None) if is_signal else None,
        left_out=getattr(builder, "left_out", 0),
        id_field=_id_field(info.features),
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
    strict: bool = True,
    data_dir: str | Path | None = None,
) -> Batches:
    """Batches of a TFDS image-classification set, or of a folder of images.

    The order depends on `split`, `batch_size` and `seed` alone. Neither `workers` nor `start`
    changes it, so that the batches from `start` on equal those of an uninterrupted run. Pictures
    are decoded by `images.decode`: without `image_size` they have the very values of
    `images.read_image`; pictures of 8 bits are resized in 8 bits.

    Args:
      name, data_dir: see the room.
      split: TFDS split or a slice of it: "train", "train[:90%]", "train[90%:]". A slice is a
        random part with all classes, because TFDS stores examples shuffled.
      batch_size: number of images b in every batch.
      seed: shuffles every epoch anew, from 0 up; None keeps the stored order.
      epochs: number of passes over the split.
      start: number of the batch to begin at, counted over all epochs.
      workers: number of reading processes; 0 reads in threads of this one. Processes start this
        program's main module anew: guard a script by `if __name__ == "__main__"`.
      image_size: side, or (height, width), that `images.fit` brings images to: the largest centred
        window of these proportions, resized. None keeps theirs.
      dtype: float32 for values in [0, 1], uint8 for 0 to 255.
      fields: further features to deliver under their own names, such as "bbox".
      strict: whether an image that cannot be read is an error. If not, it comes black, with a
        warning in the log, and a batch says in `readable` bool (b,) which are as they should be.

    Returns:
      An iterable of dictionaries with `image` (b, h, w, c), `label` int32 (b,) and `mask` bool
      (b,). A label of -1 is one that the dataset keeps to itself, as of ImageNet's test images.
      The last batch of an epoch is filled up by zeros with mask False. `len` counts the batches
      from `start` to the end of the last epoch.

    Raises:
      ValueError: a name or a number is none that the dataset has, or the dataset is not one of
        classified images or signals, or its images differ in size and `image_size` is None. While
        iterated: an image cannot be read, if `strict`.
      TypeError: a number is no integer, or `fields` is one string.
      FileNotFoundError: it is not prepared; the message holds the command that prepares it. Or
        there is no such folder.

    Example:
      >>> for batch in load("tiny_imagenet/paper20", "train[:90%]", 128, seed=0):
      ...     batch["image"].shape, batch["label"].shape  # doctest: +SKIP
    """
    batch_size = check_count("batch_size", batch_size, 1)
    epochs = check_count("epochs", epochs, 1)
    start = check_count("start", start, 0)
    workers = check_count("workers", workers, 0)
    if seed is not None:
        seed = check_count("seed", seed, 0, None)
    try:
        known = np.dtype(dtype)
    except TypeError:
        known = None
    if known not in (np.float32, np.uint8):
        raise ValueError(f"expected dtype float32 or uint8, got {known or dtype}")
    check_text("split", split)
    builder = prepared(name, data_dir=data_dir)
    features = builder.info.features
    image, label = _image_and_label(builder.info)
    _check_fields(fields, sorted(set(features) - {image, label}))
    if _is_signal(features[image]) and (image_size is not None or np.dtype(dtype) != np.float32):
        raise ValueError(
            f"expected image_size None and dtype float32 for {name}, which holds signals, got "
            f"{image_size} and {np.dtype(dtype)}"
        )
    if image_size is None and None in features[image].shape:
        raise ValueError(f"expected image_size, as the images of {name} differ in size, got None")
    try:
        source = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        num_examples = len(source)
    except (ValueError, KeyError) as error:  # An empty slice fails in the record reader.
        raise ValueError(
            f"expected a nonempty part of the splits {', '.join(builder.info.splits)} of {name}, "
            f"got {split!r} ({one_line(error)})"
        ) from error
    batches_per_epoch = math.ceil(num_examples / batch_size)
    if start > epochs * batches_per_epoch:
        raise ValueError(
            f"expected start to be at most {epochs * batches_per_epoch} "
            f"({epochs} epochs of {batches_per_epoch} batches), got {start}"
        )
    read = _Reader(
        source=source,
        features=features,
        image=image,
        label=label,
        fields=tuple(fields),
        size=None if image_size is None else height_and_width(image_size),
        batch_size=batch_size,
        strict=strict,
    )
    order = grain.MapDataset.range(num_examples)
    if seed is not None:
        order = order.shuffle(_spread(seed))
    order = order.batch(batch_size, batch_fn=list).repeat(epochs)
    return Batches(
        dataset=order.map(read),
        batches_per_epoch=batches_per_epoch,
        num_examples=num_examples,
        start=start,
        workers=workers,
        dtype=np.dtype(dtype),
    )


def joined(batches: Iterable[Mapping[str, np.ndarray]]) -> Batch:
    """All batches as one, without what fills them up: a whole split in memory.

    Args:
      batches: of one pass, as of `load`, at least one.

    Returns:
      By name the arrays (n, ...), in the order of the batches; `mask` is True everywhere.

    Raises:
      ValueError: there is no batch.

    Example:
      >>> import numpy as np
      >>> from saliency_jax import data
      >>> full = {"label": np.array([3, 1]), "mask": np.array([True, True])}
      >>> last = {"label": np.array([2, 0]), "mask": np.array([True, False])}
      >>> data.joined([full, last])["label"].tolist()
      [3, 1, 2]
    """
    check_instance("batches", batches, Iterable, "an iterable of batches")
    parts = [{name: values[batch["mask"]] for name, values in batch.items()} for batch in batches]
    if not parts:
        raise ValueError("expected at least one batch, got none")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def channel_statistics(
    batches: Iterable[Mapping[str, np.ndarray]],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels of a data set.

    Args:
      batches: of one pass, as of `load`, at least one.

    Returns:
      (means, standard deviations), each with c numbers, rounded to four decimals.

    Raises:
      ValueError: there is no batch.

    Example:
      >>> import numpy as np
      >>> from saliency_jax import data
      >>> images = np.array([[[[0.0, 0.5]]], [[[1.0, 0.5]]], [[[9.0, 9.0]]]])
      >>> data.channel_statistics([{"image": images, "mask": np.array([True, True, False])}])
      ((0.5, 0.5), (0.5, 0.0))
    """
    check_instance("batches", batches, Iterable, "an iterable of batches")
    moments = []
    for batch in batches:
        pixels = batch["image"][batch["mask"]].astype(np.float64)
        moments.append(
            (pixels.size / pixels.shape[-1], pixels.sum((0, 1, 2)), (pixels**2).sum((0, 1, 2)))
        )
    if not moments:
        raise ValueError("expected at least one batch, got none")
    count, total, squares = (sum(column) for column in zip(*moments, strict=True))
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads the batch of given example numbers.

    A batch at a time, and only the features that are asked for: example by example through the
    decoding of TFDS takes twice as long.
    """

    source: Any
    features: tfds.features.FeaturesDict
    image: str
    label: str
    fields: tuple[str, ...]
    size: tuple[int, int] | None
    batch_size: int
    strict: bool

    @functools.cached_property
    def _wanted(self) -> tfds.features.FeaturesDict:
        names = (self.image, self.label, *self.fields)
        return tfds.features.FeaturesDict({name: self.features[name] for name in names})

    def __call__(self, numbers: Sequence[int]) -> Batch:
        if _is_signal(self.features[self.image]):
            decoders, read = {}, lambda signal, record: signal[None]
        else:
            decoders, read = {self.image: tfds.decode.SkipDecoding()}, self._decode
        records = self.source.__getitems__(numbers)
        examples = [
            self._wanted.deserialize_example_np(record, decoders=decoders) for record in records
        ]
        images = [
            read(example[self.image], record)
            for example, record in zip(examples, records, strict=True)
        ]
        readable = [image is not None for image in images]
        if not all(readable):
            images = [self._black() if image is None else image for image in images]
        if len({image.dtype for image in images}) > 1:
            images = [in_unit_range(image) for image in images]
        columns: dict[str, Sequence[Any]] = {
            "image": images,
            "label": [np.int32(example[self.label]) for example in examples],
        }
        if not self.strict:
            columns["readable"] = readable
        for field in self.fields:
            columns[field] = [_text_or_array(example[field]) for example in examples]
        batch = {name: _padded(column, self.batch_size) for name, column in columns.items()}
        batch["mask"] = np.arange(self.batch_size) < len(examples)
        return batch

    def _decode(self, encoded: bytes, record: bytes) -> np.ndarray | None:
        try:
            return decode(encoded, channels=self._channels, size=self.size)
        except ValueError as error:
            complaint = (
                f"expected an image in {self._texts(record) or 'every example'}, got "
                f"{len(encoded)} bytes that are none ({one_line(error.__cause__ or error)})"
            )
            if self.strict:
                raise ValueError(complaint) from error
            logging.getLogger(__name__).warning("%s", complaint)
            return None

    @property
    def _channels(self) -> int:
        return self.features[self.image].shape[-1] or _USUAL_CHANNELS

    def _black(self) -> np.ndarray:
        size = self.size or self.features[self.image].shape[:2]
        return np.zeros((*size, self._channels), np.uint8)

    def _texts(self, record: bytes) -> str:
        """All texts of an example, among which is the file's name if the dataset has kept it."""
        texts = tfds.features.FeaturesDict(
            {
                name: feature
                for name, feature in self.features.items()
                if isinstance(feature, tfds.features.Text)
            }
        )
        return ", ".join(
            _text_or_array(text) for text in texts.deserialize_example_np(record).values()
        )


def _image_and_label(info: tfds.core.DatasetInfo) -> tuple[str, str]:
    """Names of the features that hold the image and the class."""
    features = dict(info.features) if isinstance(info.features, tfds.features.FeaturesDict) else {}
    images = [key for key, value in features.items() if _is_readable(value)]
    labels = [key for key, value in features.items() if isinstance(value, tfds.features.ClassLabel)]
    pair = info.supervised_keys
    if pair is not None and len(pair) == 2 and pair[0] in images and pair[1] in labels:
        return pair[0], pair[1]
    if len(images) == 1 and len(labels) == 1:
        return images[0], labels[0]
    kinds = ", ".join(f"{key}: {type(value).__name__}" for key, value in features.items())
    raise ValueError(
        "expected a dataset with one 8-bit image or float32 signal and one class label, got "
        f"{info.name} with {kinds}"
    )


def _id_field(features: tfds.features.FeaturesDict) -> str | None:
    texts = [name for name in features if isinstance(features[name], tfds.features.Text)]
    files = [name for name in texts if "file" in name]
    return next(iter([*files, *(name for name in texts if name in ("id", "image_id"))]), None)


def _class_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names, those of WordNet ids instead of the ids."""
    of_wnids = imagenet_classes()
    return tuple(of_wnids.get(name, name) for name in names)


def _is_readable(feature: Any) -> bool:
    return _is_signal(feature) or (
        isinstance(feature, tfds.features.Image)
        and feature.np_dtype == np.uint8
        and len(feature.shape) == 3
        and feature.shape[-1] in (None, 1, 3, 4)
    )


def _is_signal(feature: Any) -> bool:
    """Whether it is samples of some channels (t, c), which are delivered as an image of one row."""
    return (
        isinstance(feature, tfds.features.Tensor)
        and feature.np_dtype == np.float32
        and len(feature.shape) == 2
        and None not in feature.shape
    )


def _image_shape(feature: Any) -> tuple[int | None, ...]:
    return (1, *feature.shape) if _is_signal(feature) else tuple(feature.shape)


def _check_fields(fields: Sequence[str], known: Sequence[str]) -> None:
    if isinstance(fields, str) or not isinstance(fields, Sequence):
        raise TypeError(f"expected fields to be a sequence of names, got {fields!r}")
    for field in fields:
        check_text("fields", field)
        if field not in known:
            raise ValueError(
                f"expected fields to be among {', '.join(known)}, got {field!r}"
                f"{nearest(field, known)}"
            )


def _spread(seed: int) -> int:
    """An unrelated 32-bit seed: grain shuffles epoch e of seed s as epoch 0 of seed s + e."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def _text_or_array(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _converted(batch: Batch, *, dtype: np.dtype) -> Batch:
    image = batch["image"]
    if image.dtype == dtype:
        return batch
    return batch | {
        "image": np.rint(255 * image).astype(dtype) if dtype == np.uint8 else in_unit_range(image)
    }


def _padded(column: Sequence[Any], length: int) -> np.ndarray:
    """The stacked column, filled up with zeros."""
    stacked = np.stack(column)
    if len(stacked) == length:
        return stacked
    filled = np.zeros((length, *stacked.shape[1:]), stacked.dtype)
    filled[: len(stacked)] = stacked
    return filled
