"""Of a hundred of ImageNet's classes: which recipe's pictures does another network recognize?

  python experiments/imagenet_visualization.py
  python experiments/imagenet_visualization.py --photographs ./photographs
  python experiments/imagenet_visualization.py --classes 20 --skip 100 --recipes coarse-to-fine

Class model visualization by the recipes of `lab/imagenet.py`: the paper's (Simonyan et al. 2013,
arXiv:1312.6034), lucid's (Olah et al. 2017), one from coarse to fine, a smoother one, the main
command's, and MACO (Fel et al. 2023, arXiv:2306.06805) with the spectrum and the colours of
ImageNet's photographs, as `color_statistics.py` measures them. A hundred classes are drawn by the
seed; of each a picture is made for EfficientNet-Lite0, and EfficientNet-Lite2, which had no part in
it, says what it shows. `--photographs` asks it about photographs too. Steps at 224 pixels are alike
in cost, so that 64 of each recipe are a like budget; coarse-to-fine and smooth make 64 at 112
pixels and 32 at 224, three quarters of it. The last command is of classes after the hundred, on
which recipes are chosen. Interrupted, the same command continues.

All of it but the smooth ones takes 44 minutes, and they 9, on two processor cores that others used
as well, with `JAX_NUM_CPU_DEVICES=2`: 4 to 8 s a picture.

Measured, in percent with 95 % intervals: Lite2 ranks first the class of 80 [71, 87] of the hundred
pictures from coarse to fine, and 88 [80, 93] among its first five; of the smooth ones 71 [62, 79]
and 86 [78, 92]; of MACO's 63 [53, 72] and 85 [77, 91]; of lucid's 60 [50, 69] and 70 [60, 78]; of
the paper's none, 0 [0, 4]; of 203 photographs of ImageNet 87 [81, 91] and 97 [94, 99]. Animals are
named as photographs of them are, 95 [84, 99] first against 89 [80, 94], other things less well, 70
[58, 80] against 85 [78, 91]. Lite0 is as sure of what nobody recognizes: it gives 1.00 to the
paper's pictures, which are fine noise, and 0.99 to lucid's, which are faint after an eighth of its
512 steps. The pictures from coarse to fine show whole things or large parts of them, in gaudy
colours beyond those of photographs, full of fine patterns. The smooth ones show them in plain
colours, as if out of focus, and clip 4 % of the values. MACO's have photographs' contrast, and
small parts of a thing in a textured ground.

The L2 norm keeps pictures from clipping. With a weight of 0.0003 14 % of the values are below 0.02
or above 0.98, with 0.0005, which is taken, 9 %, with 0.001 4 %; 81, 80 and 77 [68, 84] of the
hundred are ranked first, which does not tell the weights apart, and 88 among the first five each
time. Of the forty classes after them 38 are with 0.0003 and 34 with 0.001.

Of recipes tried on the twenty classes after the hundred, with a weight of 0.0003: the
log-probability in place of the logit names 65 % where the logit names 90. On those and twenty more,
ImageNet's colours in place of Tiny-ImageNet's change nothing, 37 and 38 of 40. MACO's crops of half
the side and more were no better than the zooms and turns, 4 and 5 of 10; with crops of 0.2 to 0.25
of the side, as published for pictures of 1280 pixels, nothing is recognized. The paper's recipe was
mended after a first look at the hundred, and made again alone: it began from grey, of which Lite0
has hardly a gradient, and 47 pictures stayed grey. Lite2 recognized none of the others either.

The run's folder then holds `pictures.png`, with the first ten classes of the draw, a file
`pictures-RECIPE.npz` of each (images, labels, probabilities and ranks), `config.json` and
`index.html`.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from lab import frame, imagenet, loading, pictures, tables
from lab.frame import SOME, Count, Natural, Output, Run, Seed
from lab.imagenet import RECIPES, TOP, RecipeName
from lab.photographs import ScoreName, likeliest

from saliency_jax import data
from saliency_jax.models import Classifier
from saliency_jax.runs import Section, Table, plots

COLUMNS = 10
CELL_WIDTH = 224
HOW_TO_READ = (
    "Top 1 and top {top}: the share, in percent, whose class is the likeliest or among the {top} "
    "likeliest for {judge}, which had no part in the pictures; the same of animals and of other "
    "classes alone; in brackets the 95 % Wilson interval. Rank: the place of the class in the "
    "judge's order. Own probability: what {maker} gives to the pictures as they are. Seconds: wall "
    "time, without compilation."
)


@dataclasses.dataclass(frozen=True)
class Settings(Output):
    model: str = imagenet.MAKER
    """For whose classes the pictures are made: a name of a model, or the folder of a saved one."""
    judge: str = imagenet.JUDGE
    """Who has to recognize them, of the same classes."""
    recipes: Annotated[tuple[RecipeName, ...], SOME] = tuple(RECIPES)
    """Ways to make them, see `RECIPES` in lab/imagenet.py."""
    classes: Count = 100
    """How many classes are drawn by the seed, other than the main command's ten."""
    skip: Natural = 0
    """How many of the draw are passed over: those after 100 are for choosing recipes."""
    score: ScoreName = "logit"
    """What is maximized: the logit, as in the paper, or the logarithm of the probability."""
    photographs: Path | None = None
    """A folder of photographs, validation/CLASS/*, that the judge is asked about too; a class is
    named, or called by its WordNet id."""
    batch_size: Count = 2
    """Pictures made at once; those finished are kept when the run is interrupted."""
    seed: Seed = 0
    """Of the draw, and of the pictures."""


class Made(NamedTuple):
    """The pictures of n classes by one recipe, and what is said of them.

    Attributes:
      pictures: images (n, h, w, c), values, and the steps that failed.
      seconds: wall time a picture; nan if an interruption lost it.
      own: (n, k), the maker's probabilities.
      judged: (n, k), the judge's.
    """

    pictures: imagenet.Picture
    seconds: float
    own: np.ndarray
    judged: np.ndarray


@frame.experiment("A hundred classes of ImageNet")
def main(settings: Settings, run: Run) -> list[Section]:
    pictures.check_apart(settings.judge, [settings.model])
    maker, judge = loading.load([settings.model, settings.judge])
    pictures.check_channels(maker, judge)
    labels = draw(settings, maker)
    names = [maker.class_names[label] for label in labels]
    judge_labels = known(judge, names)
    run.expect(len(labels) * len(settings.recipes), "picture")
    made = {}
    for recipe in settings.recipes:
        found, seconds = run.sweep(
            maker,
            recipe,
            functools.partial(
                imagenet.visualize,
                seed=settings.seed,
                shape=(*maker.input.size, maker.input.channels),
                score=settings.score,
                recipe=recipe,
            ),
            {"label": labels},
            shared=maker.network,
            batch_size=settings.batch_size,
        )
        images = found.image
        own = np.asarray(imagenet.probabilities(maker.network, images))
        made[recipe] = Made(found, seconds, own, imagenet.answers(judge, images))
        run.save_arrays(
            f"pictures-{recipe}",
            labels=labels,
            images=np.rint(images * 255).astype(np.uint8),
            own=of_classes(own, labels),
            judged=of_classes(made[recipe].judged, judge_labels),
            ranks=imagenet.ranks(made[recipe].judged, judge_labels),
        )
    animals = np.array([imagenet.is_animal(name) for name in names])
    ranks = {recipe: imagenet.ranks(one.judged, judge_labels) for recipe, one in made.items()}
    rows = [
        [
            recipe,
            *cells(ranks[recipe], animals),
            f"{of_classes(one.own, labels).mean():.2f}",
            ", ".join(RECIPES[recipe].at_heights(maker.input.size[0])),
            tables.seconds(one.seconds),
        ]
        for recipe, one in made.items()
    ]
    if settings.photographs is not None:
        rows.append(
            ["photographs", *cells(*of_photographs(settings.photographs, judge)), *3 * [""]]
        )
    top = f"top {TOP}"
    measures = ["top 1", top, "top 1, animals", "top 1, others", "median rank"]
    table = Table(["recipe", *measures, "own probability", "steps", "seconds a picture"], rows)
    what = [f"{recipe}: {RECIPES[recipe].description}." for recipe in settings.recipes]
    failed = [
        f"{np.count_nonzero(one.pictures.failed_at)} pictures of {recipe} stopped before a step "
        "that was not finite."
        for recipe, one in made.items()
        if one.pictures.failed_at.any()
    ]
    text = HOW_TO_READ.format(top=TOP, judge=judge.name, maker=maker.name)
    said = pictures.said_of_photographs(maker.input.size[0], judge.name)
    view = run.save_view("pictures", show(made, maker, judge, labels))
    return [
        Section(
            f"Recognized by {judge.name}",
            " ".join(filter(None, [text, said, *what, *failed])),
            table=table,
        ),
        Section(f"The first {min(COLUMNS, len(labels))} classes of the draw", views=[view]),
    ]


def draw(settings: Settings, maker: Classifier) -> np.ndarray:
    """(n,), the labels of classes drawn by the seed.

    The main command's ten are left out, as its recipe was chosen on them.
    """
    rest = [label for label, name in enumerate(maker.class_names) if name not in imagenet.CLASSES]
    if settings.skip + settings.classes > len(rest):
        raise ValueError(
            f"expected --skip and --classes to be at most {len(rest)} together, got "
            f"{settings.skip + settings.classes}"
        )
    order = np.random.default_rng(settings.seed).permutation(np.array(rest, np.int32))
    return order[settings.skip :][: settings.classes]


def known(judge: Classifier, names: list[str]) -> np.ndarray:
    """(n,), the judge's labels of classes."""
    found = imagenet.labels(names, judge)
    unknown = [name for name, label in zip(names, found, strict=True) if label is None]
    if unknown:
        raise ValueError(
            f"expected a judge that knows the classes, got {judge.name}, without {unknown[0]}"
        )
    return np.array(found)


def of_photographs(folder: Path, judge: Classifier) -> tuple[np.ndarray, np.ndarray]:
    """(n,), the ranks that a judge gives to the classes of photographs, and which are animals."""
    description = data.describe(str(folder))
    labels = np.array([judge.label(name) for name in description.class_names])
    height, width = judge.input.resize
    loaded = data.load(str(folder), description.test_split, 32, image_size=(height, width))
    ranks, animals = [], []
    for batch in loaded:
        asked = labels[batch["label"][batch["mask"]]]
        answers = imagenet.answers(judge, batch["image"][batch["mask"]])
        ranks.append(imagenet.ranks(answers, asked))
        animals += [imagenet.is_animal(judge.class_names[label]) for label in asked]
    return np.concatenate(ranks), np.array(animals)


def of_classes(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,), of each picture's class, of answers (n, k)."""
    return np.take_along_axis(answers, labels[:, None], axis=1)[:, 0]


def cells(ranks: np.ndarray, animals: np.ndarray) -> list[str]:
    """What a table says of ranks (n,): shares of the first and the first five, and the median."""
    groups = ranks == 1, ranks <= TOP, ranks[animals] == 1, ranks[~animals] == 1
    shares = [tables.share(int(group.sum()), len(group)) if len(group) else "" for group in groups]
    return [*shares, f"{np.median(ranks):g}"]


def show(
    made: Mapping[str, Made], maker: Classifier, judge: Classifier, labels: np.ndarray
) -> plots.View:
    """A row for each recipe, with the pictures of the first classes that were drawn."""
    rows = []
    for one in made.values():
        own = of_classes(one.own, labels)
        titles = [plots.percent(probability) for probability in own]
        notes = [likeliest(judge, answer) for answer in one.judged]
        images = list(map(plots.image, one.pictures.image, titles, notes))
        rows.append(images[:COLUMNS])
    return plots.explore(
        rows,
        row_titles=list(made),
        column_titles=[maker.class_names[label] for label in labels[:COLUMNS]],
        caption="Classes as they were drawn. Above each picture: the probability that "
        f"{maker.name}, for which it was made, gives to its class. Below: what {judge.name} takes "
        "it for.",
        cell_width=CELL_WIDTH,
    )


if __name__ == "__main__":
    main.from_command_line()
