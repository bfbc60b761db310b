"""Does a network learn less when the pixels that a method calls the most salient are gone?

  python experiments/roar.py
  python experiments/roar.py --method smoothgrad_squared --share 0.5 --repeats 3

ROAR, remove and retrain (Hooker et al. 2018, arXiv:1806.10758). Of every image, of the training set
and of the test set, the most salient 50 and 90 % of the pixels get the training set's mean
colour, and a new network of the same architecture is trained on what is left. The faster its
accuracy falls, the more of what can be learnt was where the method said. Unlike with deletion, the
network knows such images. The controls are random pixels and the strongest edges (Sobel), which do
not look at the explained model: a method that is no better than random pixels finds nothing.

What it costs: explaining 6,000 images by the three methods takes 18 gradients each, 5 minutes on
two processor cores; then 11 networks are trained, two for each of the three methods and the two
controls and one on whole images, on 5,000 images, half of the training set, for four epochs each,
which took half an hour beside other work. That is enough to compare, not for good accuracies, and
with one training each (`--repeats`; the paper has five) differences of a few per cent are chance:
the intervals are over the test images alone. The paper trains ResNet-50 on ImageNet, with 10, 30,
50, 70 and 90 % of the pixels replaced. Interrupted, the same command continues, at the last epoch.

Measured: on whole images the short training reaches 39.3 %. With half of the pixels replaced at
random it still reaches 37.5 %, without the half that Grad-CAM calls the most salient 26.8 %
(10.7 points less [7.7, 13.9]), squared SmoothGrad 31.7 (5.8 less), saliency 32.9 (4.6 less). With
90 % replaced, random pixels leave 24.2 %, saliency 13.6 and Grad-CAM 14.3 (10.6 and 9.9 less, not
to be told apart), squared SmoothGrad 18.1. So all three find more than chance, unlike the paper's
plain gradient, which did no better than random pixels. But the edges, which know no model, take 3.3
and 7.8 points too: beyond them are only Grad-CAM at one half (7.4 points more [4.4, 10.3]) and,
just, saliency at nine tenths (2.8 more [0.3, 5.3]).

The run's folder then holds `accuracy.png` (over the share of pixels replaced), `examples.png` (what
the networks saw), `correct.npz` (whether each test image was classified right), `places.npz` (where
in each method's order the pixels of the images shown are), `config.json` and `index.html`, which
shows it all, what is left of the images under a slider of the share.
"""

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from lab import frame, loading, methods, tables
from lab.frame import Count, Output, Run
from matplotlib.figure import Figure

from saliency_jax import data, training
from saliency_jax.metrics._maps import rank
from saliency_jax.models import Classifier, Network
from saliency_jax.runs import Section, Table, plots

# Unlike that of `train.py` an average over the last fifty steps or so, as there are few.
AVERAGE_DECAY = 0.98
WHOLE = "nothing"
READ = 250
CELL_WIDTH = 192
HOW_TO_READ = (
    "Accuracy on the test images, of which the same share was replaced as of the training images. "
    "The lower it is, the more of what can be learnt was in the pixels that the method called the "
    "most salient. Means with 95 % bootstrap intervals, the test images being resampled, not the "
    "trainings. Random and edges are the controls, which do not look at the model; less than "
    "random: how far the accuracy is below that with random pixels replaced, paired by image."
)


@dataclasses.dataclass(frozen=True)
class Settings(Output):
    model: str = loading.BUNDLED_PAIR[0]
    """The explained model, a bundled one or the folder of a saved one, which knows the classes."""
    method: tuple[methods.Name, ...] = ("saliency", "smoothgrad_squared", "grad_cam")
    """Attribution methods."""
    share: tuple[float, ...] = (0.5, 0.9)
    """Shares of the pixels that are replaced."""
    repeats: Count = 1
    """Trainings of each, from seeds 0, 1, 2 ..."""
    dataset: str = "tiny_imagenet/paper20"
    """A prepared TFDS set whose images have one size, and labels."""
    train_split: str = "train[:50%]"
    test_split: str = "validation"
    epochs: Count = 4
    train_batch_size: Count = 128
    learning_rate: float = 0.2
    """Peak of the one-cycle schedule."""
    batch_size: Count = 20
    """Images explained at once."""
    shown: Count = 1
    """How many of the test images are shown."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""


class Images(NamedTuple):
    """Images, and where in its image's order of saliency each pixel stands."""

    images: np.ndarray
    """(n, h, w, c) of bytes."""
    labels: np.ndarray
    """(n,), as the explained model numbers them."""
    places: np.ndarray = np.empty(0)
    """(n, h, w), 0 for the most salient pixel."""


@frame.experiment("Remove and retrain")
def main(settings: Settings, run: Run) -> list[Section]:
    shares = settings.share
    in_range = all(0 < share <= 1 for share in shares)
    if not shares or not in_range or len(set(shares)) < len(shares):
        raise ValueError(
            f"expected different --share above 0 and at most 1, got {' '.join(map(str, shares))}"
        )
    methods.check(settings.method, [], many=True)
    (classifier,) = loading.as_trained([settings.model])
    methods.check(settings.method, [classifier], many=True)
    train, test = (
        read(settings, classifier, split) for split in (settings.train_split, settings.test_split)
    )
    names = [*settings.method, *methods.CONTROLS]
    count, seeds = len(train.labels), range(settings.repeats)
    batch_size = min(settings.train_batch_size, count)
    num_steps = settings.epochs * (count // batch_size)
    num_trainings = settings.repeats * (1 + len(names) * len(shares))
    folder = run.expect(
        len(names) * (count + len(test.labels)) + num_trainings * num_steps * batch_size, "image"
    )
    correct: dict[tuple[str, float], np.ndarray] = {}
    shown: dict[str, np.ndarray] = {}
    trainer = training.Trainer(
        training.split(cast(Network, classifier.network))[0],
        training.one_cycle_sgd(num_steps, settings.learning_rate),
        training.flip_crop_and_zoom,
        average_decay=AVERAGE_DECAY,
    )
    retrain = Retraining(
        run, settings, classifier, folder, batch_size, count // batch_size, trainer
    )
    for name in names:
        placed = []
        for part, images in (("train", train), ("test", test)):
            places, _ = run.sweep(
                classifier,
                f"{name} {part}",
                place(name),
                {"example": {"images": images.images, "labels": images.labels}},
                shared=classifier.network,
                batch_size=settings.batch_size,
            )
            placed.append(images._replace(places=places))
        shown[name] = placed[1].places[: settings.shown]
        cases = [(name, share) for share in shares]
        for case in [(WHOLE, 0.0), *cases] if name == names[0] else cases:
            correct[case] = np.stack([retrain(*case, seed, *placed) for seed in seeds], 1)
    run.save_arrays("correct", **{f"{n}_{share:g}": right for (n, share), right in correct.items()})
    run.save_arrays("places", **shown)
    accuracy = run.save_figure("accuracy", draw_accuracy(names, shares, correct))
    saw = run.save_view("examples", explore(classifier, test, shown, correct))
    return [
        Section("What the networks saw, and how well they learnt", figures=[accuracy], views=[saw]),
        Section("Measured", HOW_TO_READ, table=tabulate(correct)),
    ]


def read(settings: Settings, classifier: Classifier, split: str) -> Images:
    """A whole split in memory."""
    description = data.describe(settings.dataset, data_dir=settings.data_dir)
    numbers = np.array([classifier.label(name) for name in description.class_names], np.int32)
    if description.image_shape[-1] != classifier.input.channels:
        raise ValueError(
            f"expected images with the {classifier.input.channels} channels that "
            f"{classifier.name} takes, got {settings.dataset} with {description.image_shape[-1]}"
        )
    batches = data.load(
        settings.dataset,
        split,
        READ,
        image_size=classifier.input.size,
        dtype=np.uint8,
        data_dir=settings.data_dir,
    )
    columns = data.joined(batches)
    return Images(columns["image"], numbers[columns["label"]])


@functools.cache
def place(name: str) -> Callable:
    """From a network and an example to its pixels' places; one function for equal arguments."""

    def placed(network, *, example):
        score = methods.row(name).score(network, example["labels"])
        return rank(methods.explain(name, score, example["images"].astype(jnp.float32) / 255))

    return placed


def degraded(images: Images, chosen: Any, share: float, mean: Sequence[float]) -> np.ndarray:
    """Some of the images in [0, 1], their most salient pixels in the mean colour."""
    height, width = images.images.shape[1:3]
    replaced = images.places[chosen] < round(share * height * width)
    pictures = images.images[chosen].astype(np.float32) / 255
    return np.where(replaced[..., None], np.asarray(mean, np.float32), pictures)


@dataclasses.dataclass(frozen=True)
class Retraining:
    """Trains new networks of the classifier's architecture, by one compiled step."""

    run: Run
    settings: Settings
    classifier: Classifier
    folder: Path
    batch_size: int
    steps: int
    trainer: training.Trainer

    def __call__(
        self, name: str, share: float, seed: int, train: Images, test: Images
    ) -> np.ndarray:
        """(n,), for each test image whether a network trained from a seed classifies it right."""
        self.run.advance(0, f"{name}, {share:g} replaced, training {seed}")
        folder = self.folder / f"{name}-{share:g}-{seed}"
        mean, epochs = self.classifier.input.mean_color, self.settings.epochs

        def batches(start: int) -> Iterator[dict[str, np.ndarray]]:
            for step in range(start, epochs * self.steps):
                epoch, within = divmod(step, self.steps)
                order = np.random.default_rng((seed, epoch)).permutation(len(train.labels))
                chosen = order[within * self.batch_size :][: self.batch_size]
                images, labels = degraded(train, chosen, share, mean), train.labels[chosen]
                yield {"image": images, "label": labels, "mask": np.ones(len(chosen), bool)}

        def retrained() -> np.ndarray:
            state, _ = training.fit(
                self.trainer,
                untrained(self.classifier, seed),
                batches,
                folder,
                key=jax.random.key(seed),
                epochs=epochs,
                steps_per_epoch=self.steps,
                progress=lambda steps, log: self.run.advance(steps * self.batch_size),
            )
            right = training.robustly_correct(
                lambda *given: is_right(*given[:-1]),
                nnx.merge(self.trainer.graphdef, *state.average),
                degraded(test, slice(None), share, mean),
                test.labels,
                (),  # No radius but none.
                jax.random.key(0),
                restarts=1,
                batch_size=self.batch_size,
            )
            return right[0.0].astype(np.float32)

        points = epochs * self.steps * self.batch_size
        right = self.run.kept(folder / "correct.npy", points, retrained)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return right


is_right = jax.jit(training.correct)


def untrained(classifier: Classifier, seed: int) -> Network:
    """A network of the classifier's architecture, with weights drawn anew."""
    network: Any = classifier.network
    return type(network)(**network.settings, rngs=nnx.Rngs(seed))


def tabulate(by_share: Mapping[tuple[str, float], np.ndarray]) -> Table:
    """A row for each method and share of pixels replaced, and one for whole images."""
    rows = []
    for (name, share), correct in by_share.items():
        random = by_share.get(("random", share))
        less = "" if random is None else tables.cell(random - correct)
        rows.append([methods.title(name), f"{share:g}", tables.cell(correct), less])
    return Table(["replaced by", "share", "accuracy", "less than random"], rows)


def draw_accuracy(
    names: Sequence[str], shares: Sequence[float], by_share: Mapping[tuple[str, float], np.ndarray]
) -> Figure:
    """A line for each method and control."""
    ordered = sorted(shares)
    whole_images = by_share[WHOLE, 0.0].mean(1)
    lines = [
        tables.curve(
            methods.title(name),
            np.array([0.0, *ordered]),
            [whole_images, *(by_share[name, share].mean(1) for share in ordered)],
        )
        for name in names
    ]
    return plots.curves({"accuracy": lines}, "share of the pixels replaced")


def explore(
    classifier: Classifier,
    test: Images,
    shown: Mapping[str, np.ndarray],
    by_share: Mapping[tuple[str, float], np.ndarray],
) -> plots.View:
    """What each method leaves of the first test images, under a slider of the share replaced."""
    count = len(next(iter(shown.values())))
    shares = sorted({share for _, share in by_share})

    def cell(name: str, index: int, share: float) -> plots.Layers:
        order = shown[name][index].astype(np.float32)
        image, left = (
            degraded(test._replace(places=shown[name]), index, part, classifier.input.mean_color)
            for part in (0.0, share)
        )
        right = by_share[(name, share) if share else (WHOLE, share)]
        title = f"accuracy {plots.percent(right.mean())}"
        made = plots.layers(image, 1 - order / order.size, title)
        return plots.Layers({**made.pictures, "what is left": plots.image(left)}, title)

    frames = {
        f"{100 * share:g} %": [
            [cell(name, index, share) for name in shown] for index in range(count)
        ]
        for share in shares
    }
    return plots.explore(
        frames,
        "share of the pixels replaced",
        start=list(frames)[1],
        row_titles=[classifier.class_names[label] for label in test.labels[:count]],
        column_titles=[*map(methods.title, shown)],
        caption="Test images, the share above of their pixels replaced by the training set's mean "
        "colour, the most salient ones first by the method above, and the accuracy of a network "
        "trained on such images. Map: that order, the first pixel the brightest.",
        cell_width=CELL_WIDTH,
    )


if __name__ == "__main__":
    main.from_command_line()
