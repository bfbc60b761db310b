"""The images of a prepared data set, batch by batch or one by one."""

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from saliency_jax import data

from .frame import Count, Output


@dataclasses.dataclass(frozen=True)
class Settings(Output):
    dataset: str = "tiny_imagenet/paper20"
    """A prepared TFDS set."""
    split: str = "train"
    """Split of the dataset, sliced at will: "train[:90%]"."""
    image_size: int | None = None
    """Height and width that images are fitted to; needed where they differ in size."""
    batch_size: Count = 256
    """Images held at once."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""


def batches(settings: Settings, description: str) -> Iterator[dict[str, Any]]:
    """The fields, images (n, h, w, c) in [0, 1] among them, with nothing that fills up a batch."""
    loaded = data.load(
        settings.dataset,
        settings.split,
        settings.batch_size,
        image_size=settings.image_size,
        data_dir=settings.data_dir,
    )
    for batch in tqdm.tqdm(loaded, description, unit="batch", file=sys.stdout):
        yield {name: values[batch["mask"]] for name, values in batch.items()}


def examples(batches: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The fields of one example after the other."""
    for batch in batches:
        for index in np.flatnonzero(batch["mask"]):
            yield {name: values[index] for name, values in batch.items()}
