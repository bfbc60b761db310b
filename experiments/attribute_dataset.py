"""An attribution method over a whole data set, on all devices, stored as it comes.

Command: python experiments/attribute_dataset.py --output maps --dataset tiny_imagenet/paper20

Any method of the table, any prepared data set or folder SPLIT/CLASS/* of images, any model; those
of sounds and of radio's signals too, as `--model spoken-digits --dataset spoken_digits`. The output
is a group of zarr arrays in a folder or a bucket (gs://, s3://), with labels, predictions, scores,
ids and the settings, and a page that shows its beginning; `saliency_jax.scale.open` reads it.
Interrupted in any way, the same command continues, on however many devices.

On several machines, or in several processes of one, each runs the same command with its number:

    python experiments/attribute_dataset.py ... --coordinator HOST:PORT --processes 2 --process 0

On a TPU pod `--coordinator auto` finds the rest.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from lab import frame, methods
from lab.frame import Count, Natural
from lab.photographs import SCORES, ScoreName

from saliency_jax import models, runs, scale

AUTO = "auto"


@dataclasses.dataclass(frozen=True)
class Settings:
    output: str
    """Folder, or address such as gs://BUCKET/PATH, to begin or to continue."""
    method: methods.Name = "saliency"
    """Attribution method."""
    model: str = "tiny-imagenet-robust"
    """A bundled model, or the folder of a saved one."""
    dataset: str = "tiny_imagenet/paper20"
    """A prepared TFDS set or a folder of images."""
    split: str | None = None
    """If none that which is made for evaluation; slices are welcome: "validation[:100]"."""
    labels: Literal["true", "predicted", "top"] = "true"
    """Of which classes the maps are, unless --label names one."""
    label: str | None = None
    """A class for all images, by name or number."""
    top: Count = 5
    """How many classes --labels top explains."""
    score: ScoreName = "logit"
    """What of the class is explained, unless the method needs another."""
    dtype: Literal["float16", "float32", "uint8"] = "float16"
    """Of the stored maps."""
    batch_size: Count = 64
    """Images that a device maps at once, and rows of a chunk of the output."""
    devices: Count | None = None
    """How many of the devices; all if none."""
    model_devices: Count = 1
    """How many of them share each model, of which every one holds a part of the weights."""
    strict: bool = False
    """Whether to stop at the first image that cannot be read, or map that is not finite."""
    coordinator: str | None = None
    """Of several processes: host and port of the first, or auto."""
    processes: Count = 1
    """How many there are."""
    process: Natural = 0
    """The number of this one."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""
    keep_programs: bool = True
    """Whether compiled programs are kept for later runs, in the user's folder of caches."""


def main(settings: Settings) -> None:
    frame.check(settings)
    if settings.keep_programs:
        runs.keep_programs()
    connect(settings)
    classifier = models.for_inference(models.load(settings.model))
    methods.check([settings.method], [classifier], many=True)
    row = methods.row(settings.method)
    stored = scale.attribute(
        functools.partial(methods.explain, settings.method),
        classifier,
        settings.dataset,
        settings.output,
        batch_size=settings.batch_size,
        split=settings.split,
        labels=explained(settings, classifier),
        score=functools.partial(row.score, make_score=SCORES[settings.score]),
        dtype=settings.dtype,
        strict=settings.strict,
        devices=shared_out(settings),
        progress=scale.report(),
        data_dir=settings.data_dir,
    )
    if settings.process == 0:
        counts = np.bincount(stored["status"][:], minlength=len(scale.STATUS))
        told = ", ".join(
            f"{count} {name}" for count, name in zip(counts, scale.STATUS, strict=True)
        )
        print(f"maps {stored['maps'].shape} in {settings.output}: {told}")


def connect(settings: Settings) -> None:
    """Makes the processes one run, if there are several."""
    if settings.coordinator is None:
        return
    # A termination ends this process, as any other script.
    jax.config.update("jax_enable_preemption_service", False)
    if settings.coordinator == AUTO:
        jax.distributed.initialize()
    else:
        jax.distributed.initialize(settings.coordinator, settings.processes, settings.process)


def shared_out(settings: Settings) -> np.ndarray:
    """The devices (n,), or (n, m) where m of them share a model."""
    devices = np.array(jax.devices()[: settings.devices])
    count = settings.model_devices
    if len(devices) % count:
        raise ValueError(f"expected --model-devices to divide {len(devices)} devices, got {count}")
    return devices.reshape(-1, count) if count > 1 else devices


def explained(settings: Settings, classifier: models.Classifier) -> scale.Labels | int:
    """Which classes the maps are of."""
    if settings.label is not None:
        return classifier.label(settings.label)
    choices = {"true": scale.true_label, "predicted": scale.predicted_label}
    return choices.get(settings.labels) or scale.top_labels(settings.top)


if __name__ == "__main__":
    runs.from_command_line(main, Settings, __doc__)
