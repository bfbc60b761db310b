"""What does every attribution method show of a photograph of yours, and which says most?

  python experiments/compare_methods.py
  python experiments/compare_methods.py --model tiny-imagenet-standard tiny-imagenet-robust
  python experiments/compare_methods.py --images cat.jpg --label tabby --method saliency rise xrai

Every attribution method of the library, under EfficientNet-Lite0 or models that you name, of the
class that each finds likeliest, or of one that you name. Without arguments: the two photographs
that scikit-image carries, a cat and a cup of coffee.

Each map is judged by what happens to the probability of the class: when pixels are shown one after
the other on a blurred image, the most salient first, it should rise soon (insertion: the mean over
the way, higher is better), and when they are replaced by the mean colour it should fall soon
(deletion, lower is better). A map of random numbers is the control.

All 31 methods on both photographs under EfficientNet-Lite0 take 14 minutes of a processor's time,
and took 47 on two cores that much else ran on; the 24 that there were before the backward rules,
under the bundled standard and robust ResNet, 3.5 minutes. Interrupted, the same command continues.

Measured under EfficientNet-Lite0, two photographs alone: by insertion the methods of a few places
are best, RISE (0.673), feature ablation (0.643), occlusion (0.624) and the class activation maps
(0.60; random 0.368). Of the backward rules guided Grad-CAM has 0.487, guided backpropagation 0.421,
relevance by epsilon-gamma-box 0.419, DeepSHAP 0.416 and DeepLIFT 0.346; relevance by epsilon-plus
(0.335) and DeconvNet (0.312), which draws the lattice of the network's strides whatever is on the
photograph, are below random. By deletion guided integrated gradients are best (0.032), then
DeepLIFT and DeepSHAP (0.047 each) and integrated gradients (0.048; random 0.131), at 0.5, 4.7 and
9.5 s a map.

Measured on the cat and the coffee under that pair by those 24: integrated gradients,
their guided kind and expected gradients find the pixels that matter, with insertions of 0.85 to
0.91 and deletions of 0.07 to 0.08 under the standard model (random 0.60 and 0.43), and 0.69 to 0.75
and 0.05 to 0.06 under the robust one (random 0.40 and 0.33). Saliency, whose sign is lost, is worse
than random in insertion under the standard model (0.51). The perturbation methods come next in
deletion (0.10 to 0.20 and 0.08 to 0.18), those that draw masks at five to twelve times the time.
VarGrad does not tell an image's evidence from its lack: its deletion is no better than random under
either model (0.46 and 0.41).

The run's folder then holds `maps-MODEL-1.png` for the first photograph, and so on,
`METHOD-MODEL.npz` (images, labels, probabilities, signed attributions, maps and judgements),
`config.json` and `index.html`, which shows it all.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from lab import frame, loading, methods, photographs, tables
from lab.frame import Run
from lab.methods import METHODS
from lab.photographs import Explanation, Photograph

from saliency_jax import metrics, scores
from saliency_jax.models import Classifier
from saliency_jax.runs import Section, Table, plots

COLUMNS = 5
CELL_WIDTH = 192
CONTROL = "random"
# Parts of the pixels that are shown or replaced.
STEPS = 32
HOW_TO_READ = (
    "Means over the photographs. Insertion: the mean probability of the class while pixels are "
    "shown on the blurred photograph, the most salient first; higher is better. Deletion: while "
    "they are replaced by the mean colour; lower is better. Like saliency: Spearman's correlation "
    "of the absolute values with the same model's saliency map. Gini: 0 for a map that is the same "
    "everywhere, near 1 for a single pixel. Random: a map of random numbers."
)
HEADER = ("model", "method", "insertion", "deletion", "like saliency", "Gini", "seconds")
MEASURES = ("insertion", "deletion", "like_saliency", "gini")


@dataclasses.dataclass(frozen=True)
class Settings(photographs.Settings):
    method: tuple[methods.Name, ...] | None = None
    """Attribution methods; all that can explain the models if left out."""


@frame.experiment("Attribution methods compared")
def main(settings: Settings, run: Run) -> list[Section]:
    classifiers = loading.load(settings.model)
    chosen = methods.suiting(classifiers) if settings.method is None else settings.method
    methods.check(chosen, classifiers)
    labels = settings.labels(classifiers)
    shown = photographs.from_files(settings.images)
    function = functools.partial(judge, batch_size=settings.batch_size)
    # Saliency is what the others are compared with.
    names = list(dict.fromkeys([*chosen, "saliency"]))
    run.expect(len(classifiers) * (2 * len(names) + 1) * len(shown), "map")
    views, rows = [], []
    for classifier, label in zip(classifiers, labels, strict=True):
        explanations = {
            name: photographs.explain(run, classifier, shown, name, settings, label)
            for name in names
        }
        judged = judge_all(run, classifier, explanations, function)
        for name in chosen:
            arrays = explanations[name].arrays | judged[name]
            run.save_arrays(f"{name}-{classifier.file_name}", **arrays)
        asked = [explanations[name] for name in chosen]
        for index, photograph in enumerate(shown):
            name = f"maps-{classifier.file_name}-{index + 1}"
            views.append(run.save_view(name, draw(asked, photograph, index)))
        taken = [*(tables.seconds(each.seconds) for each in asked), ""]
        for name, seconds in zip([*chosen, CONTROL], taken, strict=True):
            means = [f"{judged[name][measure].mean():.3f}" for measure in MEASURES]
            rows.append([classifier.name, methods.title(name), *means, seconds])
    return [
        Section("Maps", " ".join(METHODS[name].meaning for name in chosen), views=views),
        Section("Judged", HOW_TO_READ, table=Table(HEADER, rows)),
    ]


def judge_all(
    run: Run, classifier: Classifier, explanations: Mapping[str, Explanation], function: Callable
) -> dict[str, dict[str, np.ndarray]]:
    """What is measured of each method's maps (n, h, w), and of maps of random numbers: (n,)."""
    reference = explanations["saliency"]
    count, *sides = reference.saliency_maps.shape
    maps = [explanation.saliency_maps for explanation in explanations.values()]
    maps.append(np.random.default_rng(0).random((count, *sides), np.float32))
    judged, _ = run.sweep(
        classifier,
        "judged",
        function,
        # Which photograph, beside each of the maps.
        {"example": {"map": np.concatenate(maps), "number": np.tile(range(count), len(maps))}},
        shared=(classifier.network, reference.images, reference.labels, reference.saliency_maps),
        batch_size=1,
    )
    by_method = {key: values.reshape(len(maps), count) for key, values in judged.items()}
    return {
        name: {measure: values[place] for measure, values in by_method.items()}
        for place, name in enumerate([*explanations, CONTROL])
    }


def judge(shared, *, example, batch_size):
    """What is measured of one map."""
    network, images, labels, references = shared
    saliency_map, number = example["map"], example["number"]
    image, label, reference = (
        jnp.asarray(values)[number] for values in (images, labels, references)
    )
    score = scores.probability(network, label)
    options = {"steps": STEPS, "batch_size": batch_size}
    return {
        "insertion": metrics.insertion(score, image, saliency_map, **options).area,
        "deletion": metrics.deletion(score, image, saliency_map, **options).area,
        "like_saliency": metrics.spearman_correlation(jnp.abs(saliency_map), reference),
        "gini": metrics.gini_sparsity(saliency_map),
    }


def draw(explanations: Sequence[Explanation], photograph: Photograph, index: int) -> plots.View:
    """The photograph and all maps of it."""
    first = explanations[0]
    cells: list[plots.Cell | None] = [
        first.image(index, photograph.title, first.explained(index)),
        *(each.map(index, METHODS[each.method].title) for each in explanations),
    ]
    return plots.explore(
        [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)],
        caption=f"{first.classifier.name}: the class below the photograph is explained. "
        f"{methods.COLORS} {methods.LAST_COLOR}",
        cell_width=CELL_WIDTH,
    )


if __name__ == "__main__":
    main.from_command_line()
