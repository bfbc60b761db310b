"""What does a classifier think that a class looks like?

  python experiments/class_visualization.py
  python experiments/class_visualization.py --classes lemon goose --model tiny-imagenet-robust \
    --optimizer adam --steps 256

Class model visualization (Simonyan et al. 2013, arXiv:1312.6034): gradient ascent on the image for
the class score. Without arguments: ten classes under the bundled standard and robust ResNet, then
the saliency maps of two photographs; 29 s and 0.8 GB measured on two processor cores.

Anyone can name most of the robust model's pictures. Measured: the standard model, which they were
not made for, recognizes 10 of the 10, with 94 % or more each; the standard model's pictures are
grey ripples in which the robust one recognizes 4 of the 10, with 33 to 61 %. A picture that only
its own network recognizes is noise.

The run's folder then holds `class_visualization.png`, `saliency.png`, arrays (`.npz`),
`config.json` and `index.html`, which shows it all.
"""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import classifiers
import command_line
import comparison
import jax
import numpy as np
import optax
import saliency
import tqdm
from classifiers import Classifier
from comparison import INITIAL, OPTIMIZERS, make_optimizer
from matplotlib.figure import Figure

from saliency_jax import ascent, plots, report

MAX_SEGMENT = 10
COLUMNS = 5


@dataclasses.dataclass(frozen=True)
class Settings:
    classes: tuple[str, ...] | None = None
    """Names or numbers of classes; ten that look well if none."""
    model: tuple[str, ...] = classifiers.BUNDLED_PAIR
    """Names of bundled models, or folders of saved ones."""
    score: Literal["logit", "log_prob"] = "logit"
    """What is maximized: the logit, as in the paper, or the logarithm of the probability."""
    optimizer: Literal[
        "normalized", "sgd", "momentum", "adam", "nadam", "rmsprop", "sign", "lbfgs"
    ] = "normalized"
    """The step; normalized divides the gradient by its Euclidean norm, lbfgs searches along a line
    for it."""
    learning_rate: float | None = None
    """For normalized steps their length; one that suits the optimizer if none."""
    steps: int = 200
    jitter: int = 4
    """Largest random shift before each step, in pixels."""
    l2: float = 0.0
    """Weight of the L2 prior, the squared distance from the mean colour."""
    initial: Literal["zeros", "ones", "grey", "mean", "uniform", "normal", "smooth"] = "normal"
    """Where the ascent begins: black, white, grey, the mean colour of the training set, uniform
    noise, grey with normal noise, or smooth noise about the mean colour."""
    seed: int = 0
    output: Path | None = None
    """Folder of the run, which must not exist; a new one in runs/ if none."""


class Visualization(NamedTuple):
    """What one classifier thinks that n classes look like.

    Attributes:
      labels: (n,), the classes.
      images: (n, h, w, c) in [0, 1].
      values: (n, steps), the objective that each step saw before it moved.
      failed_at: (n,), the step that met or made infinity or nan, 0 if none did; the picture is the
        one before it.
    """

    labels: np.ndarray
    images: np.ndarray
    values: np.ndarray
    failed_at: np.ndarray


class Verdict(NamedTuple):
    """What a classifier takes the pictures of a classifier, itself or another, for.

    Attributes:
      judge: who looks.
      labels: (n,), the pictures' classes, as the judge numbers them.
      probabilities: (n, k).
    """

    judge: Classifier
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def of_class(self) -> np.ndarray:
        """(n,), the probability of each picture's class."""
        return np.take_along_axis(self.probabilities, self.labels[:, None], axis=1)[:, 0]

    @property
    def recognized(self) -> np.ndarray:
        """(n,), whether the class is the likeliest one."""
        return self.probabilities.argmax(axis=1) == self.labels


def main(settings: Settings) -> None:
    check(settings)
    rate = learning_rate(settings)
    optimizer = make_optimizer(settings.optimizer, rate)
    with report.RunFolder(settings.output, "class_visualization") as run:
        run.save_config(dataclasses.replace(settings, learning_rate=rate))
        makers = classifiers.load(settings.model)
        labels = [class_labels(settings.classes, maker) for maker in makers]
        with tqdm.tqdm(total=settings.steps * len(makers), unit="step", file=sys.stdout) as bar:
            visualizations = [
                visualize(maker, of_maker, optimizer, settings, bar)
                for maker, of_maker in zip(makers, labels, strict=True)
            ]
        judges = makers if len(makers) > 1 else [*makers, *other_bundled(makers[0])]
        verdicts = [
            judge(maker, visualization, judges)
            for maker, visualization in zip(makers, visualizations, strict=True)
        ]
        for maker, visualization in zip(makers, visualizations, strict=True):
            run.save_arrays(f"class_visualization-{maker.file_name}", **visualization._asdict())
        figure = run.save_figure("class_visualization", draw(makers, visualizations, verdicts))
        complaint = " ".join(
            what_failed(maker, made, rate, settings)
            for maker, made in zip(makers, visualizations, strict=True)
        ).strip()
        tables = [
            report.Section(
                f"Who recognizes the pictures of {maker.name}?", table=tabulate(of_maker)
            )
            for maker, of_maker in zip(makers, verdicts, strict=True)
        ]
        photographs = saliency.carried_photographs()
        explanations = [saliency.explain(maker, photographs) for maker in makers]
        sections = [
            report.Section("What a class looks like to each model", complaint, [figure]),
            *tables,
            saliency.save(run, makers, photographs, explanations),
        ]
        run.save_page("Class visualization", sections, __doc__.partition("\n")[0])
    for section in tables:
        print(f"\n{section.title}\n{section.table}")
    print(f"\npictures, arrays and index.html are in {run.path.resolve()}")
    if complaint:
        raise ValueError(complaint)


def check(settings: Settings) -> None:
    """Says at once what would only fail after the models are loaded."""
    if settings.steps < 1:
        raise ValueError(f"expected --steps to be at least 1, got {settings.steps}")
    if settings.jitter < 0:
        raise ValueError(f"expected --jitter to be at least 0, got {settings.jitter}")
    if not 0 <= settings.l2 < np.inf:
        raise ValueError(f"expected --l2 to be at least 0 and finite, got {settings.l2}")
    if not 0 <= settings.seed < 2**32:
        raise ValueError(f"expected --seed to be in 0 .. 2**32 - 1, got {settings.seed}")


def learning_rate(settings: Settings) -> float:
    """The given learning rate, or the one that suits the optimizer."""
    _, rate = OPTIMIZERS[settings.optimizer]
    if settings.learning_rate is not None:
        rate = settings.learning_rate
    if not 0 < rate < np.inf:
        raise ValueError(f"expected --learning-rate to be positive and finite, got {rate}")
    return rate


def class_labels(names: Sequence[str] | None, classifier: Classifier) -> np.ndarray:
    """The labels of the named classes; if none are named, of ten that the classifier knows."""
    if names is None:
        known = [name for name in comparison.FAMILIAR_CLASSES if name in classifier.class_names]
        names = known or classifier.class_names[: len(comparison.FAMILIAR_CLASSES)]
    if not names:
        raise ValueError("expected at least one of --classes, got none")
    return np.array([classifier.label(name) for name in names], np.int32)


def visualize(
    maker: Classifier,
    labels: np.ndarray,
    optimizer: optax.GradientTransformation,
    settings: Settings,
    bar: tqdm.tqdm,
) -> Visualization:
    """Gradient ascent for all classes at once, in segments that the bar is told of.

    It ends with the segment in which a step is not finite.
    """
    model = maker.model
    shape, mean = comparison.shape(model), comparison.mean_color(model)
    augment = ascent.jitter(settings.jitter)
    prior = ascent.l2(settings.l2, center=mean)

    def begin(label):
        image_key, step_key = comparison.keys(settings.seed, label)
        image = INITIAL[settings.initial](image_key, shape, mean)
        return ascent.initial_state(image, optimizer, step_key)

    state = jax.vmap(begin)(labels)
    # A divisor of the number of steps: segments of one length are compiled once.
    steps = max(n for n in range(1, MAX_SEGMENT + 1) if settings.steps % n == 0)
    bar.set_description(maker.name)
    values = []
    for _ in range(settings.steps // steps):
        result = _ascend(
            model,
            labels,
            state,
            augment,
            prior,
            score=saliency.SCORES[settings.score],
            optimizer=optimizer,
            steps=steps,
        )
        state = result.state
        values.append(np.asarray(result.values))
        bar.update(steps)
        if np.any(state.failed_at):
            break
    return Visualization(
        labels,
        np.asarray(result.image),
        np.concatenate(values, axis=1),
        np.asarray(state.failed_at),
    )


def what_failed(
    maker: Classifier, visualization: Visualization, rate: float, settings: Settings
) -> str:
    """The step that was not finite and what had been asked for, or nothing."""
    try:
        ascent.check_finite_steps(
            visualization.failed_at,
            model=maker.name,
            label=[maker.class_names[label] for label in visualization.labels],
            learning_rate=rate,
            l2=settings.l2,
        )
    except ValueError as error:
        return f"{error}; the pictures are those before it."
    return ""


@functools.partial(jax.jit, static_argnames=("score", "optimizer", "steps"))
def _ascend(model, labels, state, augment, prior, *, score, optimizer, steps):
    def of_one_class(label, state):
        return ascent.ascend(
            score(model, label), state, optimizer, steps, augment=augment, prior=prior
        )

    return jax.vmap(of_one_class)(labels, state)


def other_bundled(maker: Classifier) -> list[Classifier]:
    names = [name for name in classifiers.BUNDLED_PAIR if name != maker.name]
    return classifiers.load(names) if names else []


def judge(
    maker: Classifier, visualization: Visualization, judges: Sequence[Classifier]
) -> list[Verdict]:
    """What a classifier, then each other one that knows its classes, takes its pictures for."""
    names = [maker.class_names[label] for label in visualization.labels]
    able = [maker] + [
        other
        for other in judges
        if other is not maker
        and set(names) <= set(other.class_names)
        and other.model.channels == maker.model.channels
    ]
    return [
        Verdict(
            classifier,
            np.array([classifier.class_names.index(name) for name in names]),
            np.asarray(_probabilities(classifier.model, visualization.images)),
        )
        for classifier in able
    ]


@jax.jit
def _probabilities(model, images):
    return jax.nn.softmax(model(images))


def draw(
    makers: Sequence[Classifier],
    visualizations: Sequence[Visualization],
    verdicts: Sequence[Sequence[Verdict]],
) -> Figure:
    """A row of pictures for each model; further rows for further classes."""
    rows: list[list[plots.Cell | None]] = []
    row_titles = []
    for start in range(0, max(len(made.labels) for made in visualizations), COLUMNS):
        for maker, made, (own, *others) in zip(makers, visualizations, verdicts, strict=True):
            row: list[plots.Cell | None] = []
            for i in range(len(made.labels))[start : start + COLUMNS]:
                title = f"{maker.class_names[made.labels[i]]} {plots.percent(own.of_class[i])}"
                note = _likeliest(others[0], i) if others else ""
                row.append(plots.image(made.images[i], title, note))
            rows.append(row)
            row_titles.append(maker.name)
    captions = [
        "Above each picture: the class that it was made for, with the probability that its own "
        "model gives to it."
    ]
    captions += [
        f"Below, for {maker.name}: what {others[0].judge.name} takes the picture for."
        for maker, (_, *others) in zip(makers, verdicts, strict=True)
        if others
    ]
    return plots.grid(rows, row_titles=row_titles, caption=" ".join(captions))


def _likeliest(verdict: Verdict, index: int) -> str:
    probabilities = verdict.probabilities[index]
    label = probabilities.argmax()
    return f"{verdict.judge.class_names[label]} {plots.percent(probabilities[label])}"


def tabulate(verdicts: Sequence[Verdict]) -> report.Table:
    """Each picture's class, and its probability and the likeliest class under every judge."""
    own = verdicts[0]
    header = ["class"]
    for verdict in verdicts:
        header += [f"probability, {verdict.judge.name}", "likeliest"]
    rows = []
    for index, label in enumerate(own.labels):
        row = [own.judge.class_names[label]]
        for verdict in verdicts:
            likeliest = verdict.judge.class_names[verdict.probabilities[index].argmax()]
            row += [plots.percent(verdict.of_class[index]), likeliest]
        rows.append(row)
    counts = ["recognized"]
    for verdict in verdicts:
        counts += ["", f"{verdict.recognized.sum()} of {len(own.labels)}"]
    return report.Table(header, [*rows, counts])


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
