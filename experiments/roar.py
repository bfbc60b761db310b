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
the networks saw), `correct.npz` (whether each test image was classified right), `config.json` and
`index.html`, which shows it all.
"""

import dataclasses
import functools
import inspect
import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import classifiers
import command_line
import comparison
import jax
import jax.numpy as jnp
import judging
import labelled_images
import methods
import numpy as np
import optax
from classifiers import Classifier
from comparison import Work
from flax import nnx
from matplotlib.figure import Figure

from saliency_jax import data, models, plots, report, scores, training
from saliency_jax.metrics._maps import rank

# As `train.py` has them, but for the average: of the last fifty steps or so, as there are few.
MOMENTUM, WEIGHT_DECAY, WARMING = 0.9, 5e-4, 0.25
AVERAGE_DECAY = 0.98
WHOLE = "nothing"
READ = 250
CELL_WIDTH = 96
HOW_TO_READ = (
    "Accuracy on the test images, of which the same share was replaced as of the training images. "
    "The lower it is, the more of what can be learnt was in the pixels that the method called the "
    "most salient. Means with 95 % bootstrap intervals, the test images being resampled, not the "
    "trainings. Random and edges are the controls, which do not look at the model; less than "
    "random: how far the accuracy is below that with random pixels replaced, paired by image."
)


@dataclasses.dataclass(frozen=True)
class Settings:
    model: str = classifiers.BUNDLED_PAIR[0]
    """The explained model, a bundled one or the folder of a saved one, which knows the classes."""
    method: tuple[methods.Name, ...] = ("saliency", "smoothgrad_squared", "grad_cam")
    """Attribution methods."""
    share: tuple[float, ...] = (0.5, 0.9)
    """Shares of the pixels that are replaced."""
    repeats: int = 1
    """Trainings of each, from seeds 0, 1, 2 ..."""
    dataset: str = "tiny_imagenet/paper20"
    """A prepared TFDS set whose images have one size, and labels."""
    train_split: str = "train[:50%]"
    test_split: str = "validation"
    epochs: int = 4
    train_batch_size: int = 128
    learning_rate: float = 0.2
    """Peak of the one-cycle schedule."""
    batch_size: int = 20
    """Images explained at once."""
    shown: int = 1
    """How many of the test images are shown."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""
    output: Path | None = None
    """Folder of the run, which must not exist; a new one in runs/ if none."""


class Images(NamedTuple):
    """n labelled images.

    Attributes:
      images: (n, h, w, c) of bytes.
      labels: (n,), as the explained model numbers them.
    """

    images: np.ndarray
    labels: np.ndarray


class Split(NamedTuple):
    """Training and test images, and where in its image's order of saliency each pixel stands.

    Attributes:
      train: the training images.
      test: the test images.
      train_places: (n, h, w), 0 for the most salient pixel.
      test_places: likewise.
    """

    train: Images
    test: Images
    train_places: np.ndarray
    test_places: np.ndarray


class Case(NamedTuple):
    """A network to be trained: by what, how much of the images is replaced, and its seed."""

    name: str
    share: float
    seed: int


def main(settings: Settings) -> None:
    check(settings)
    with report.RunFolder(settings.output, "roar") as run:
        run.save_config(settings)
        (classifier,) = classifiers.load([settings.model])
        judging.check(settings.method, [classifier])
        train, test = (
            read(settings, classifier, split)
            for split in (settings.train_split, settings.test_split)
        )
        names = [*settings.method, *judging.CONTROLS]
        seeds = range(settings.repeats)
        num_trainings = settings.repeats * (1 + len(names) * len(settings.share))
        count = len(train.labels)
        total = len(names) * (count + len(test.labels)) + num_trainings * settings.epochs * count
        correct: dict[Case, np.ndarray] = {}
        shown: dict[str, np.ndarray] = {}
        with comparison.working(run, settings, total) as work:
            retrain = Retraining(settings, classifier.model, count)
            for name in names:
                split = Split(
                    train,
                    test,
                    places(classifier, name, "train", train, work),
                    places(classifier, name, "test", test, work),
                )
                shown[name] = split.test_places[: settings.shown]
                cases = [Case(name, share, seed) for share in settings.share for seed in seeds]
                if name == names[0]:
                    cases = [*(Case(WHOLE, 0.0, seed) for seed in seeds), *cases]
                for case in cases:
                    correct[case] = retrain(case, split, work)
        of_shares = {
            (name, share): np.stack([correct[Case(name, share, seed)] for seed in seeds], 1)
            for name, share in dict.fromkeys((case.name, case.share) for case in correct)
        }
        run.save_arrays("correct", **{f"{n}_{share:g}": of for (n, share), of in of_shares.items()})
        table = tabulate(of_shares)
        figures = {
            "accuracy": draw_accuracy(names, settings.share, of_shares),
            "examples": draw_examples(settings, classifier, test, shown),
        }
        sections = [
            report.Section("Measured", HOW_TO_READ, table=table),
            *(
                report.Section(title, figures=[run.save_figure(name, figures[name])])
                for name, title in (
                    ("accuracy", "Over the share of pixels replaced"),
                    ("examples", "What the networks saw"),
                )
            ),
        ]
        run.save_page("Remove and retrain", sections, __doc__.partition("\n")[0])
    labelled_images.finish(run, table, HOW_TO_READ)


def check(settings: Settings) -> None:
    """Says at once what would only fail after the images are explained."""
    for name in ("repeats", "epochs", "train_batch_size", "batch_size", "shown"):
        value = getattr(settings, name)
        if value < 1:
            flag = name.replace("_", "-")
            raise ValueError(f"expected --{flag} to be at least 1, got {value}")
    shares = settings.share
    in_range = all(0 < share <= 1 for share in shares)
    if not shares or not in_range or len(set(shares)) < len(shares):
        raise ValueError(
            f"expected different --share above 0 and at most 1, got {' '.join(map(str, shares))}"
        )
    judging.check(settings.method, [])


def read(settings: Settings, classifier: Classifier, split: str) -> Images:
    """A whole split in memory."""
    description = data.describe(settings.dataset, data_dir=settings.data_dir)
    numbers = np.array([classifier.label(name) for name in description.class_names], np.int32)
    batches = data.load(
        settings.dataset,
        split,
        READ,
        image_size=classifier.input_size,
        dtype=np.uint8,
        data_dir=settings.data_dir,
    )
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for batch in batches:
        images.append(batch["image"][batch["mask"]])
        labels.append(numbers[batch["label"][batch["mask"]]])
    together = Images(np.concatenate(images), np.concatenate(labels))
    if together.images.shape[-1] != classifier.model.channels:
        raise ValueError(
            f"expected images with the {classifier.model.channels} channels that {classifier.name} "
            f"takes, got {settings.dataset} with {together.images.shape[-1]}"
        )
    return together


def places(classifier: Classifier, name: str, part: str, of: Images, work: Work) -> np.ndarray:
    """(n, h, w), where in its image's order each pixel stands by a method, or by a control."""
    values, _ = comparison.timed_sweep(
        work,
        classifier,
        f"{name} {part}",
        place(name),
        {"example": of._asdict()},
        classifier.model,
    )
    return values


@functools.cache
def place(name: str) -> Callable:
    """From a model and an example to its pixels' places; one function for equal arguments."""

    def of_example(model, *, example):
        score = scores.logit(model, example["labels"])
        return rank(judging.explain(name, score, example["images"] / jnp.float32(255)))

    return of_example


def degraded(of: Images, places: np.ndarray, chosen: Any, share: float, mean: Any) -> np.ndarray:
    """Some of the images in [0, 1], their most salient pixels in the mean colour."""
    images = of.images[chosen].astype(np.float32) / 255
    _, height, width = places.shape
    replaced = places[chosen] < round(share * height * width)
    return np.where(replaced[..., None], np.asarray(mean, np.float32), images)


class Retraining:
    """Trains new networks, by one compiled step, and keeps what is done.

    Args:
      settings: of the script.
      model: whose architecture the networks have.
      count: how many training images there are.
    """

    def __init__(self, settings: Settings, model: models.ResNet, count: int):
        self._settings, self._model = settings, model
        self._size = min(settings.train_batch_size, count)
        self._steps = count // self._size
        num_steps = settings.epochs * self._steps
        self._optimizer = optax.chain(
            optax.add_decayed_weights(
                WEIGHT_DECAY, mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)
            ),
            optax.sgd(
                optax.cosine_onecycle_schedule(
                    num_steps, settings.learning_rate, pct_start=WARMING
                ),
                momentum=MOMENTUM,
                nesterov=True,
            ),
        )
        trainer = training.Trainer(
            training.split(model)[0],
            self._optimizer,
            training.flip_crop_and_zoom,
            average_decay=AVERAGE_DECAY,
        )
        self._step = jax.jit(functools.partial(training.train_step, trainer))
        self._correct = jax.jit(training.correct)
        self._graphdef = trainer.graphdef

    def __call__(self, case: Case, split: Split, work: Work) -> np.ndarray:
        """(n,), for each test image whether the network trained for a case classifies it right."""
        folder = work.folder / f"{case.name}-{case.share:g}-{case.seed}"
        done = folder / "correct.npy"
        count = len(split.train.labels)
        work.bar.set_description(f"{case.name}, {case.share:g} replaced, training {case.seed}")
        if done.exists():
            work.bar.update(self._settings.epochs * count)
            return np.load(done)
        mean = self._model.mean
        checkpoints = training.Checkpoints(folder / "checkpoints", keep=1)
        state = checkpoints.restore(self._initial_state(case.seed))
        first = int(state.step) // self._steps
        work.bar.update(first * count)
        everywhere = np.ones(self._size, bool)
        for epoch in range(first, self._settings.epochs):
            order = np.random.default_rng((case.seed, epoch)).permutation(count)
            for chosen in order[: self._steps * self._size].reshape(self._steps, self._size):
                images = degraded(split.train, split.train_places, chosen, case.share, mean)
                state, _ = self._step(state, images, split.train.labels[chosen], everywhere)
                work.bar.update(self._size)
            work.bar.update(count - self._steps * self._size)
            checkpoints.save(state)
        model = nnx.merge(self._graphdef, *state.average)
        right = self._evaluate(model, case, split)
        write(done, right)
        shutil.rmtree(folder / "checkpoints")
        return right

    def _initial_state(self, seed: int) -> training.TrainState:
        _, params, batch_stats = training.split(new_network(self._model, seed))
        return training.initial_state(params, batch_stats, self._optimizer, jax.random.key(seed))

    def _evaluate(self, model: Any, case: Case, split: Split) -> np.ndarray:
        count = len(split.test.labels)
        right = np.empty(count, np.float32)
        for start in range(0, count, self._size):
            # Filled up, so that one program does for the last batch too.
            chosen = np.resize(np.arange(start, min(start + self._size, count)), self._size)
            images = degraded(split.test, split.test_places, chosen, case.share, self._model.mean)
            right[chosen] = self._correct(
                model, images, split.test.labels[chosen], jax.random.key(0)
            )
        return right


def new_network(model: Any, seed: int) -> Any:
    """A network of the same architecture that has learnt nothing."""
    network = type(model)
    settings = inspect.signature(network.__init__).parameters.keys() - {"self", "rngs"}
    return network(**{name: getattr(model, name) for name in settings}, rngs=nnx.Rngs(seed))


def write(path: Path, array: np.ndarray) -> None:
    """Writes an array that is there whole or not at all."""
    file = io.BytesIO()
    np.save(file, array)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(file.getvalue())
    partial.replace(path)


def tabulate(of_shares: Mapping[tuple[str, float], np.ndarray]) -> report.Table:
    """A row for each method and share of pixels replaced, and one for whole images."""
    rows = []
    for (name, share), correct in of_shares.items():
        random = of_shares.get(("random", share))
        less = "" if random is None else labelled_images.cell(random - correct)
        rows.append([methods.title(name), f"{share:g}", labelled_images.cell(correct), less])
    return report.Table(["replaced by", "share", "accuracy", "less than random"], rows)


def draw_accuracy(
    names: Sequence[str],
    shares: Sequence[float],
    of_shares: Mapping[tuple[str, float], np.ndarray],
) -> Figure:
    """A line for each method and control."""
    ordered = sorted(shares)
    whole = of_shares[WHOLE, 0.0].mean(1)
    lines = [
        labelled_images.curve(
            methods.title(name),
            np.array([0.0, *ordered]),
            [whole, *(of_shares[name, share].mean(1) for share in ordered)],
        )
        for name in names
    ]
    return plots.curves({"accuracy": lines}, "share of the pixels replaced")


def draw_examples(
    settings: Settings, classifier: Classifier, test: Images, shown: Mapping[str, np.ndarray]
) -> Figure:
    """For each of the first test images a row for each method, with what is left of the image."""
    grid: list[list[plots.Cell | None]] = []
    row_titles = []
    shares = sorted({0.0, *settings.share})
    for index, label in enumerate(test.labels[: settings.shown]):
        for name, places in shown.items():
            left = [
                degraded(test, places, [index], share, classifier.model.mean)[0] for share in shares
            ]
            grid.append([plots.image(image, classifier.class_names[label]) for image in left])
            row_titles.append(methods.title(name))
    return plots.grid(
        grid,
        row_titles=row_titles,
        column_titles=[plots.percent(share) for share in shares],
        caption="Test images, the share above of their pixels replaced by the training set's mean "
        "colour, the most salient ones first by the method at the left.",
        cell_width=CELL_WIDTH,
    )


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
