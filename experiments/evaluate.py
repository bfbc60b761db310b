"""How many images does a classifier get right, as they are and under attack?

  python experiments/evaluate.py
  python experiments/evaluate.py --epsilons 1 --attack-steps 10 --restarts 1
  python experiments/evaluate.py --model runs/mine/model --dataset mnist --norm linf --epsilons 0.1
  python experiments/evaluate.py --model runs/mine/model --write
  python experiments/evaluate.py --model efficientnet-lite0 --dataset ./photographs --epsilons

Each image is attacked by projected gradient descent from random starts, once on its label's
log-probability and once on the margin between its label and the runner-up, since the gradient of
the former vanishes where a softmax is sure of itself. The accuracy under either counts the images
that no attack of both changed. All are upper bounds of the accuracy under the best attack, looser
ones than AutoAttack's. The second command measures under the ten steps that others often report.
The last command is of no attack, on folders of photographs `validation/CLASS`; classes are found
by their names, or by WordNet ids, and may be a part of the model's. `--write` puts the accuracies
into the folders of the models, and their cards.

Measured on 203 photographs of ImageNet, each of another class: EfficientNet-Lite0 names 84.2 %
[78.6, 88.6] rightly and Lite2 86.7 % [81.3, 90.7].

The run's folder then holds `accuracy-MODEL.npz` (the radii, 0 for none, and the accuracy under
each loss at each), `config.json` and `index.html`.
"""

import dataclasses
import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from lab import datasets, frame, loading, robustness, tables
from lab.frame import Count, Run

from saliency_jax import data, models, runs
from saliency_jax.models import Classifier
from saliency_jax.runs import Section, Table

Measured = Mapping[str, Mapping[float, float]]


@dataclasses.dataclass(frozen=True)
class Settings(frame.Output):
    model: tuple[str, ...] = loading.BUNDLED_PAIR
    """Bundled models, or folders of saved ones."""
    dataset: str = "tiny_imagenet/paper20"
    """A prepared TFDS set or a folder of images, of the models' classes."""
    split: str | None = None
    """If none that which is made for evaluation; slices are welcome: "validation[:100]"."""
    norm: Literal["l2", "linf"] = "l2"
    epsilons: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Radii of the attacks, in units of [0, 1]."""
    attack_steps: Count = 50
    """Steps of projected gradient descent, of 2.5 radii together."""
    restarts: Count = 3
    batch_size: Count = 128
    write: bool = False
    """Whether the accuracies are put into the folders of the models."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""


@frame.experiment("Accuracy, as it is and under attack")
def main(settings: Settings, run: Run) -> list[Section]:
    classifiers = [models.load(name) for name in settings.model]
    asked = robustness.Attacks(
        settings.norm, settings.epsilons, settings.attack_steps, settings.restarts
    )
    sections = []
    for name, classifier in zip(settings.model, classifiers, strict=True):
        images, labels = read(settings, classifier)
        with run.on_devices():
            measured = robustness.accuracies(
                models.for_inference(classifier.network),
                images,
                labels,
                asked,
                batch_size=settings.batch_size,
            )
        run.save_arrays(
            f"accuracy-{runs.file_name(name)}",
            images=np.array(len(images)),
            epsilons=np.array(list(measured["both"])),
            **{loss: np.array(list(by_radius.values())) for loss, by_radius in measured.items()},
        )
        text = "In brackets the 95 % Wilson interval."
        table = tabulate(measured, len(images), asked)
        sections.append(Section(f"{classifier.name}, {len(images)} images", text, table=table))
        if settings.write:
            write(name, robustness.stated(measured, asked), asked)
    return sections


def read(settings: Settings, classifier: Classifier) -> tuple[np.ndarray, np.ndarray]:
    """All examples of the split as the classifier takes them, and their labels."""
    info = data.describe(settings.dataset, data_dir=settings.data_dir)
    if info.kind != classifier.input.kind:
        raise ValueError(
            f"expected a dataset of kind {classifier.input.kind}, got {settings.dataset}, of kind "
            f"{info.kind}"
        )
    numbers = np.array([classifier.label(name) for name in info.class_names])
    height, width = classifier.input.resize
    batches = data.load(
        settings.dataset,
        settings.split or info.test_split,
        settings.batch_size,
        image_size=(height, width) if None in info.image_shape else None,
        data_dir=settings.data_dir,
    )
    images, labels = [], []
    for example in datasets.examples(batches):
        images.append(classifier.preprocess(example["image"]))
        labels.append(example["label"])
    if min(labels) < 0:
        raise ValueError(
            f"expected labelled examples in {settings.dataset}, got unlabelled ones; name another "
            "--split"
        )
    return np.stack(images), numbers[labels]


def tabulate(measured: Measured, count: int, asked: robustness.Attacks) -> Table:
    """A row for each radius, a column for each loss."""
    rows = []
    for epsilon in measured["both"]:
        right = (round(measured[loss][epsilon] * count) for loss in robustness.LOSSES)
        cells = (tables.share(number, count) for number in right)
        rows.append((asked.name(epsilon) if epsilon else "no attack", *cells))
    return Table(("", *robustness.LOSSES.values()), rows)


def write(name: str, accuracies: dict[str, float], asked: robustness.Attacks) -> None:
    """Puts the accuracies into a model's folder, in place of those of the same attacks."""
    bundled = Path(str(importlib.resources.files(models))) / "bundled" / name
    folder = bundled if name in models.bundled() else Path(name)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if "accuracies" not in config:
        raise ValueError(
            f"expected a folder of today's format, got {folder} of an older one, which "
            "models.save(models.load(FOLDER), NEW_FOLDER) brings into it"
        )
    replaced = tuple(asked.name(epsilon) for epsilon in asked.epsilons)
    kept = {
        measure: value
        for measure, value in config["accuracies"].items()
        if measure not in replaced and measure.rpartition(",")[0] not in replaced
    }
    config["accuracies"] = kept | accuracies
    # Until all is written there are none, so that none is wrong.
    (folder / "SHA256SUMS").unlink(missing_ok=True)
    for file, text in {
        "config.json": lambda: json.dumps(config, indent=2) + "\n",
        "card.md": lambda: models.card(config),
        "SHA256SUMS": lambda: models.checksums(folder),
    }.items():
        with runs.whole(folder / file) as partial:
            partial.write_text(text(), "utf-8")


if __name__ == "__main__":
    main.from_command_line()
