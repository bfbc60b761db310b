"""What is there to see of a class: its pictures, its maps, the channels that matter for it?

  python experiments/atlas.py
  python experiments/atlas.py --classes flamingo corn --model efficientnet-lite0 --seeds 3 \
    --recipe smooth maco
  python experiments/atlas.py --runs runs/imagenet_visualization-001 --images ./photographs

A folder to browse, with a page for each class. On it are the pictures that models have of the
class, made here by recipe and seed, or taken from finished runs of `class_visualization.py`,
`imagenet_visualization.py` and those that compare recipes; what a network that had no part in them
takes them for, and the rank of the class; photographs of the class with each model's map; and the
channels that most of the class's relevance passes through, in a photograph of it or else in the
model's own picture, with where they find it and what excites them most.

Photographs are files or folders of them, of the class whose WordNet id their name or their folder's
begins with; without any the cat and the cup of coffee that scikit-image carries.

Three classes with a photograph each, under the three models: 8 minutes on two processor cores
beside much other work, of which 3.5 go into EfficientNet-Lite0's channels and what excites them.
Interrupted, the same command continues.

The atlas's folder then holds `index.html`, a page for each class, `pictures-MODEL.npz` (what was
made here), `channels-MODEL.npz` and `config.json`.
"""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from lab import channels, frame, imagenet, loading, methods, photographs, pictures
from lab.channels import Channels
from lab.frame import SOME, Count, Natural, Run
from lab.photographs import Explanation, Photograph, likeliest

from saliency_jax.models import Classifier
from saliency_jax.runs import Link, Section, Table, file_name, plots

# Of pictures of small images, the default recipe of class visualization.
PIXELS: pictures.RecipeName = "pixels"
# Of the carried photographs.
CLASSES = {"cat": "tabby", "coffee": "espresso"}
# Of a class's photographs that are shown, and of a finished run's pictures of it.
MOST_PHOTOGRAPHS, MOST_PICTURES = 4, 24


@dataclasses.dataclass(frozen=True)
class Settings(photographs.Explaining):
    classes: Annotated[tuple[str, ...], SOME] = ("lemon", "espresso", "monarch")
    """Names of classes, each of which gets a page."""
    model: tuple[str, ...] = (imagenet.MAKER, *loading.BUNDLED_PAIR)
    """Names of models that come with the package, or folders of saved ones."""
    recipe: Annotated[tuple[imagenet.RecipeName, ...], SOME] = (imagenet.SHOWN,)
    """How pictures from 128 pixels on are made; smaller ones are by 64 steps on the pixels."""
    seeds: Natural = 1
    """How many pictures of each class and recipe are made; 0 for those of runs alone."""
    judge: str | None = imagenet.JUDGE
    """A network that had no part in the pictures, by name or folder, which ranks the right class;
    None for none."""
    images: tuple[Path, ...] = ()
    """Photographs, or folders of them; scikit-image's cat and coffee if none."""
    runs: tuple[Path, ...] = ()
    """Folders of finished runs whose pictures of the classes are shown as well."""
    method: methods.Name = "saliency"
    """How photographs are explained."""
    channels: Natural = 3
    """How many of the channels that matter are shown; 0 for none."""
    batch_size: Count = 4
    """Pictures made, or photographs explained, at once."""


class Seen(NamedTuple):
    """A picture of a class.

    Attributes:
      model: whom it was made for.
      recipe: how.
      seed: of what.
      source: the run that it is from, or "" if it was made here.
      image: (h, w, c) in [0, 1].
    """

    model: str
    recipe: str
    seed: int
    source: str
    image: np.ndarray


class Mattering(NamedTuple):
    """The channels that matter for one class under one model, and where.

    Attributes:
      model: its name.
      layer: whose they are.
      image: (h, w, c), in which they were found.
      what: what that image is.
      found: the channels.
      pictures: (k, h, w, c), what excites them.
    """

    model: str
    layer: str
    image: np.ndarray
    what: str
    found: Channels
    pictures: np.ndarray


# Of each model the numbers of the classes that it knows.
Known = Mapping[Classifier, Mapping[str, int]]


@frame.experiment("An atlas of classes")
def main(settings: Settings, run: Run) -> list[Section]:
    classifiers = loading.load(settings.model)
    judge = loading.load([settings.judge])[0] if settings.judge is not None else None
    methods.check([settings.method], classifiers)
    known = {each: labels(settings.classes, each) for each in classifiers}
    for name in settings.classes:
        if all(name not in of_model for of_model in known.values()):
            raise ValueError(f"expected --classes that a model knows, got {name}")
    earlier = [found for folder in settings.runs for found in from_run(folder, settings.classes)]
    if judge is not None:
        makers = [each.name for each in classifiers] if settings.seeds else []
        pictures.check_apart(judge.name, {*makers, *(one.model for _, one in earlier)})
    shown = pictured(run, settings, known)
    for name, one in earlier:
        shown[name].append(one)
    names, photographed = of_classes(settings)
    explained = explain(run, settings, known, names, photographed)
    mattering = matter(run, settings, known, shown, names, photographed)
    links = []
    for place, name in enumerate(settings.classes):
        chosen = [index for index, other in enumerate(names) if other == name]
        sections = [
            see(shown[name], judge, name),
            look(photographed, explained, chosen),
            pass_through(mattering[name]),
            around(settings.classes, place),
        ]
        question = f"What is there to see of {name}?"
        run.save_page(name, list(filter(None, sections)), question, name=file_name(name))
        first = plots.image(shown[name][0].image) if shown[name] else None
        links.append(Link(f"{file_name(name)}.html", name, f"{len(shown[name])} pictures", first))
    return [Section("Classes", links=links)]


def labels(names: Sequence[str], classifier: Classifier) -> dict[str, int]:
    """Of the classes that a classifier knows their numbers."""
    found = imagenet.labels(names, classifier)
    return {name: label for name, label in zip(names, found, strict=True) if label is not None}


def pictured(run: Run, settings: Settings, known: Known) -> dict[str, list[Seen]]:
    """The pictures of each class that are made here, kept where the run continues."""
    shown: dict[str, list[Seen]] = {name: [] for name in settings.classes}
    if not settings.seeds:
        return shown
    asked = {
        maker: settings.recipe if min(maker.input.size) >= imagenet.LEAST_SIDE else (PIXELS,)
        for maker in known
    }
    run.expect(settings.seeds * sum(len(known[one]) * len(asked[one]) for one in known), "picture")
    for maker, numbers in known.items():
        made = {}
        asked_labels = np.array([*numbers.values()], np.int32)
        for recipe in asked[maker] if numbers else ():
            images, _ = run.sweep(
                maker,
                recipe,
                functools.partial(visualize, score=settings.score, recipe=recipe),
                {"label": asked_labels, "seed": np.arange(settings.seeds)},
                shared=pictures.Models(maker.network, loading.mean_image(maker)),
                batch_size=settings.batch_size,
            )
            made[recipe] = images
            for name, of_class in zip(numbers, images, strict=True):
                shown[name] += [
                    Seen(maker.name, recipe, seed, "", image) for seed, image in enumerate(of_class)
                ]
        run.save_arrays(
            f"pictures-{maker.file_name}",
            labels=asked_labels,
            **{recipe: np.rint(images * 255).astype(np.uint8) for recipe, images in made.items()},
        )
    return shown


def visualize(models, *, label, seed, score, recipe):
    """One picture (h, w, c) of a class."""
    maker, mean = models
    if recipe != PIXELS:
        options = {"seed": seed, "shape": mean.shape, "score": score, "recipe": recipe}
        return imagenet.visualize(maker, label=label, **options).image
    image, step_key = pictures.start(mean, pictures.INITIAL[PIXELS], label, seed)
    function = photographs.SCORES[score](maker, label)
    return pictures.ascend(function, image, step_key, 64, PIXELS).image


def from_run(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, Seen]]:
    """The pictures of these classes that a finished run has, with their names.

    Raises:
      ValueError: the folder holds no pictures of classes.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["settings"]
    asked = config.get("model", ())
    makers = loading.load([asked] if isinstance(asked, str) else asked)
    files = [*folder.glob("pictures-*.npz"), *folder.glob("class_visualization-*.npz")]
    if not files:
        raise ValueError(f"expected --runs with pictures of classes, got none in {folder}")
    for path in sorted(files):
        kind, _, rest = path.stem.partition("-")
        # Named by the maker, or of one maker by the recipe.
        maker = next((one for one in makers if one.file_name == rest), makers[0])
        with np.load(path) as stored:
            images = stored["images" if "images" in stored else "image"]
            numbers = stored["labels"].tolist()
            variants = [kind.replace("_", " ") if rest == maker.file_name else rest]
            if "variants" in stored:
                variants = stored["variants"].tolist()
        # Over variants, classes and seeds; one of each where the run has one.
        grid = images.reshape(len(variants), len(numbers), -1, *images.shape[-3:])
        scale = 255 if images.dtype == np.uint8 else 1
        for name, label in labels(names, maker).items():
            if label not in numbers:
                continue
            of_class = grid[:, numbers.index(label)]
            places = list(np.ndindex(of_class.shape[:2]))[:MOST_PICTURES]
            for variant, seed in places:
                image = np.asarray(of_class[variant, seed], np.float32) / scale
                yield name, Seen(maker.name, variants[variant], seed, folder.name, image)


def of_classes(settings: Settings) -> tuple[list[str], list[Photograph]]:
    """The first photographs of each class, after the names of their classes; no others are read."""
    if not settings.images:
        carried = photographs.carried_photographs()
        found = [one for one in carried if CLASSES[one.title] in settings.classes]
        return [CLASSES[one.title] for one in found], found
    paths: dict[str | None, list[Path]] = {name: [] for name in settings.classes}
    for path in photographs.files(settings.images):
        paths.get(photographs.class_of(path), []).append(path)
    chosen = [path for of_class in paths.values() for path in of_class[:MOST_PHOTOGRAPHS]]
    found = photographs.from_files(chosen) if chosen else []
    return [one.class_name or "" for one in found], found


def explain(
    run: Run,
    settings: Settings,
    known: Known,
    names: Sequence[str],
    photographed: Sequence[Photograph],
) -> list[Explanation]:
    """What each model says of the photographs: of their class, or of the likeliest if unknown."""
    if not photographed:
        return []
    run.expect(len(known) * len(names), "photograph")
    return [
        photographs.explain(
            run, each, photographed, settings.method, settings, [*map(numbers.get, names)]
        )
        for each, numbers in known.items()
    ]


def matter(
    run: Run,
    settings: Settings,
    known: Known,
    shown: Mapping[str, Sequence[Seen]],
    names: Sequence[str],
    photographed: Sequence[Photograph],
) -> dict[str, list[Mattering]]:
    """Of each class the channels that matter for it under each model that knows it."""
    mattering: dict[str, list[Mattering]] = {name: [] for name in settings.classes}
    for maker, numbers in known.items() if settings.channels else ():
        found_in = {}
        for name in numbers:
            own = [one.image for one in shown[name] if one.model == maker.name]
            if name in names:
                found_in[name] = photographed[names.index(name)].image, "a photograph"
            elif own:
                found_in[name] = own[0], "its own picture"
        if not found_in:
            continue
        images = np.stack([maker.preprocess(image) for image, _ in found_in.values()])
        asked = np.array([numbers[name] for name in found_in], np.int32)
        layer = methods.finer_map_name(maker.network, images[0])
        run.expect(len(images) * (1 + settings.channels), "channel")
        options: dict[str, Any] = {"shared": maker.network, "batch_size": 1}
        rank = functools.partial(
            channels.rank, score=settings.score, layer=layer, count=settings.channels
        )
        example = {"image": images, "label": asked}
        found = Channels(*run.sweep(maker, "channels", rank, {"example": example}, **options)[0])
        excite = functools.partial(channels.picture, layer=layer, seed=0, shape=images.shape[1:])
        wanted = np.unique(found.numbers).astype(np.int32)
        made, _ = run.sweep(maker, "channel pictures", excite, {"channel": wanted}, **options)
        run.save_arrays(
            f"channels-{maker.file_name}",
            images=images,
            labels=asked,
            pictured=wanted,
            pictures=made,
            **found._asdict(),
        )
        for place, (name, (_, what)) in enumerate(found_in.items()):
            of_class = Channels(*(values[place] for values in found))
            exciting = made[np.searchsorted(wanted, of_class.numbers)]
            mattering[name].append(
                Mattering(maker.name, layer, images[place], what, of_class, exciting)
            )
    return mattering


def see(shown: Sequence[Seen], judge: Classifier | None, name: str) -> Section | None:
    """A class's pictures, a row for each model, and what the judge takes them for."""
    if not shown:
        return None
    header = ["model", "recipe", "seed", "run"]
    cells: list[list[str]] = [[] for _ in shown]
    notes, caption, text = [""] * len(shown), "", ""
    label = labels([name], judge).get(name) if judge is not None else None
    if judge is not None and label is None:
        text = f"{judge.name} does not judge them, as it does not know {name}."
    if judge is not None and label is not None:
        answers = imagenet.answers(judge, [one.image for one in shown])
        ranks = imagenet.ranks(answers, np.full(len(shown), label))
        taken = [likeliest(judge, answer) for answer in answers]
        notes = [f"rank {rank}, {text}" for rank, text in zip(ranks, taken, strict=True)]
        cells = [[str(rank), text] for rank, text in zip(ranks, taken, strict=True)]
        header += ["rank", f"taken for by {judge.name}"]
        caption = f"Below: the rank that {judge.name} gives to {name}, and what it takes it for."
        sizes = dict.fromkeys(len(one.image) for one in shown)
        said = [pictures.said_of_photographs(size, judge.name) for size in sizes]
        text = " ".join(filter(None, said))
    rows: dict[str, list[plots.Cell | None]] = {}
    for one, note in zip(shown, notes, strict=True):
        title = ", ".join(filter(None, (one.recipe, f"seed {one.seed}", one.source)))
        rows.setdefault(one.model, []).append(plots.image(one.image, title, note))
    view = plots.explore([*rows.values()], row_titles=[*rows], caption=caption)
    table = [
        [one.model, one.recipe, str(one.seed), one.source, *judged]
        for one, judged in zip(shown, cells, strict=True)
    ]
    return Section("Pictures of it", text, views=[view], table=Table(header, table))


def look(
    photographed: Sequence[Photograph], explained: Sequence[Explanation], chosen: Sequence[int]
) -> Section | None:
    """The chosen photographs, each with every model's map and likeliest classes."""
    if not chosen:
        return None
    rows: list[list[plots.Cell | None]] = []
    titles = ["photograph"]
    for each in explained:
        titles += [each.classifier.name, "likeliest"]
    for index in chosen:
        rows.append([explained[0].image(index, photographed[index].title)])
        for each in explained:
            ranking = plots.Ranking(*each.top(index), title=each.classifier.name)
            rows[-1] += [each.map(index, each.explained(index)), ranking]
    method = methods.METHODS[explained[0].method]
    caption = f"Above each map: the class that it explains. {method.meaning} {method.colors}"
    view = plots.explore(rows, column_titles=titles, caption=caption)
    return Section("Photographs of it", views=[view])


def pass_through(mattering: Sequence[Mattering]) -> Section | None:
    """A row for each model, with the channels that matter: what excites them, and where."""
    if not mattering:
        return None
    rows: list[list[plots.Cell | None]] = []
    for _, layer, image, what, found, exciting in mattering:
        rows.append([plots.image(image, f"{layer}, in {what}")])
        for number, share, saliency_map, picture in zip(*found, exciting, strict=True):
            cell = plots.layers(image, saliency_map, draw=plots.signed_map)
            layers = {**cell.pictures, "what excites it": plots.image(picture)}
            title = f"channel {number}, {plots.percent(share)}"
            rows[-1].append(plots.Layers(layers, title))
    caption = (
        "After each channel's number its share of all that speaks for the class. The map: what of "
        f"that passes through it. {methods.SIGNED_COLORS}"
    )
    titles = [one.model for one in mattering]
    view = plots.explore(rows, row_titles=titles, caption=caption)
    return Section("Channels that matter for it", views=[view])


def around(names: Sequence[str], place: int) -> Section:
    """The ways to the page of all classes and to those before and after this one."""
    near = {"the class before": place - 1, "the class after": place + 1}
    links = [
        Link(f"{file_name(names[other])}.html", names[other], text)
        for text, other in near.items()
        if 0 <= other < len(names)
    ]
    return Section("Other classes", links=[Link("index.html", "all classes"), *links])


if __name__ == "__main__":
    main.from_command_line()
