"""What do the channels of a classifier's layers look for?

  python experiments/feature_visualization.py
  python experiments/feature_visualization.py --channels 5 --seeds 2 --layers 3 4

Feature visualization: gradient ascent on the mean activation of one channel after the stem (layer
0) or after a stage (layers 1 to 4), by the recipe of class visualization: 64 normalized steps of
length 0.5 from normal noise about grey, each seeing the image shifted.

Twenty channels of each of five layers from five seeds, under the bundled standard and robust
ResNet: 64,000 gradient steps, 2 minutes on two processor cores, as most stop at a lower layer.
Interrupted, the same command continues.

Measured: the channels grow more selective with depth. A picture made for one excites it 2.7 (stem)
to 14 times (stage 4) as much as the layer's mean under the standard model, 3.6 to 9.1 times under
the robust one, whose channels share the later stages more. Up to stage 1 both models' pictures are
stripes and patches of one colour; from stage 2 on the robust model's are shapes with light and
shade, discs, scales, columns, with spectra nearing those of photographs (slope -1.5 to -2.0;
photographs -2.3), while the standard model's remain coloured stripes (-1.1 to -1.3). The other
model is surer of what it sees in the robust channels' pictures, 0.56 to 0.69 by stage against 0.35
to 0.65. One channel in eighteen is silent from every seed: rectified to 0 at the initial image, it
has no gradient to climb.

The run's folder then holds `layer-0.png` to `layer-4.png`, a grid a layer, arrays
`features-MODEL-LAYER.npz` (images and what was measured of them), `config.json` and `index.html`,
which shows it all.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import classifiers
import command_line
import comparison
import jax
import jax.numpy as jnp
import numpy as np
from classifiers import Classifier
from comparison import Measurements, Models
from jax.tree_util import Partial
from matplotlib.figure import Figure

from saliency_jax import ascent, plots, report, scores

COLUMNS = 10
CELL_WIDTH = 96
HOW_TO_READ = (
    "Each number is a mean over channels and seeds, with its 95 % bootstrap interval, the channels "
    "being resampled. Selectivity: the channel's mean activation over the mean of all the layer's "
    "channels. Confidence: the probability that the other model, which the pictures were never "
    "optimized for, gives to the class that it finds likeliest. Same class: the share of pairs of "
    "seeds in which that is the same class. Total variation, spectrum slope and seed distance as "
    "for pictures of classes."
)


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    layers: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Which; 0 is the stem, 1 to 4 the stages."""
    channels: int = 20
    """How many of each layer, evenly spaced."""


class Layer(NamedTuple):
    """Pictures of n channels from m seeds, and how they excite their layer.

    Attributes:
      channels: (n,).
      pictures: the measurements, with leading axes (n, m).
      activations: (n, m, d), of all channels of the layer, averaged over its places.
      seconds: wall time a picture.
    """

    channels: np.ndarray
    pictures: Measurements
    activations: np.ndarray
    seconds: float


def main(settings: Settings) -> None:
    check(settings)
    with report.RunFolder(settings.output, "feature_visualization") as run:
        run.save_config(settings)
        first, second = classifiers.load(settings.model)
        comparison.check_channels(first, second)
        recipes = {
            layer: functools.partial(visualize, layer=layer, steps=settings.steps)
            for layer in settings.layers
        }
        chosen = {
            (maker.name, layer): evenly_spaced(num_channels(maker, layer), settings.channels)
            for maker in (first, second)
            for layer in settings.layers
        }
        num_pictures = settings.seeds * sum(map(len, chosen.values()))
        made: dict[tuple[str, int], Layer] = {}
        with comparison.working(run, settings, num_pictures) as work:
            for maker, judge in ((first, second), (second, first)):
                shared = Models(maker.model, judge.model)
                for layer, recipe in recipes.items():
                    channels = chosen[maker.name, layer]
                    axes = {"channel": channels, "seed": np.arange(settings.seeds)}
                    (pictures, activations), seconds = comparison.timed_sweep(
                        work, maker, layer_name(layer), recipe, axes, shared
                    )
                    made[maker.name, layer] = Layer(channels, pictures, activations, seconds)
        measured = save(run, (first, second), settings.layers, made)
    comparison.finish(run, measured)


def check(settings: Settings) -> None:
    """Says at once what would only fail after the models are loaded."""
    comparison.check(settings)
    if settings.channels < 1:
        raise ValueError(f"expected --channels to be at least 1, got {settings.channels}")
    if not settings.layers or not set(settings.layers) <= set(range(5)):
        raise ValueError(f"expected --layers to be among 0 1 2 3 4, got {settings.layers}")


def layer_name(layer: int) -> str:
    return f"stage {layer}" if layer else "stem"


def num_channels(classifier: Classifier, layer: int) -> int:
    """The number of channels of a layer."""
    image = jax.ShapeDtypeStruct(comparison.shape(classifier.model), jnp.float32)
    return jax.eval_shape(classifier.model.stage_outputs, image)[layer].shape[-1]


def evenly_spaced(available: int, wanted: int) -> np.ndarray:
    """Channels from the first to the last, all of them if there are too few."""
    return np.unique(np.linspace(0, available - 1, wanted).astype(np.int32))


def visualize(models, *, channel, seed, layer, steps):
    """Gradient ascent on a channel, what is measured of its picture, and the whole layer."""
    image, step_key = comparison.default_start(models.maker, channel, seed)
    optimizer = comparison.make_optimizer("normalized", comparison.LEARNING_RATE)
    state = ascent.initial_state(image, optimizer, step_key)
    features = Partial(lambda model, image: model.stage_outputs(image)[layer], models.maker)
    score = scores.channel(features, channel)
    augment = ascent.jitter(comparison.JITTER)
    made = ascent.ascend(score, state, optimizer, steps, augment=augment)
    activations = features(made.image).mean((0, 1))
    return comparison.measure(models, score, made, made.image), activations


def values(layer: Layer) -> dict[str, np.ndarray]:
    """All that is reported of the pictures of a layer: by name, (n, m) or (n,)."""
    own = np.take_along_axis(layer.activations, layer.channels[:, None, None], axis=-1)[..., 0]
    likeliest = layer.pictures.judged.argmax(-1)
    pairs = list(itertools.combinations(range(likeliest.shape[1]), 2))
    named = {
        "selectivity": own / layer.activations.mean(-1),
        "confidence": layer.pictures.judged.max(-1),
    }
    if pairs:
        first, second = np.array(pairs).T
        named["same class"] = (likeliest[:, first] == likeliest[:, second]).astype(np.float32)
    return named | comparison.picture_values(layer.pictures)


def save(
    run: report.RunFolder,
    makers: Sequence[Classifier],
    layers: Sequence[int],
    made: dict[tuple[str, int], Layer],
) -> report.Section:
    """Writes the arrays, a figure for each layer, the table and the page."""
    rows = []
    sections = []
    for layer in layers:
        for maker in makers:
            of_maker = made[maker.name, layer]
            comparison.save_pictures(
                run,
                f"features-{maker.file_name}-{layer}",
                of_maker.pictures,
                channels=of_maker.channels,
                activations=of_maker.activations,
            )
            names = (maker.name, layer_name(layer))
            rows.append((names, values(of_maker), of_maker.seconds))
        figure = draw([(maker, made[maker.name, layer]) for maker in makers])
        name = run.save_figure(f"layer-{layer}", figure)
        sections.append(report.Section(layer_name(layer).capitalize(), figures=[name]))
    measured = report.Section("Measured", HOW_TO_READ, table=comparison.tabulate(rows))
    run.save_page("Feature visualization", [measured, *sections], __doc__.partition("\n")[0])
    return measured


def draw(makers: Sequence[tuple[Classifier, Layer]]) -> Figure:
    """Rows of a layer's channels for each classifier, from the first seed."""
    rows: list[list[plots.Cell | None]] = []
    row_titles = []
    for maker, layer in makers:
        selectivity = values(layer)["selectivity"][:, 0]
        cells: list[plots.Cell | None] = [
            plots.image(image, f"channel {channel}", f"x {ratio:.1f}" if ratio else "silent")
            for channel, image, ratio in zip(
                layer.channels, layer.pictures.image[:, 0], selectivity, strict=True
            )
        ]
        starts = range(0, len(cells), COLUMNS)
        rows += [cells[start : start + COLUMNS] for start in starts]
        row_titles += [maker.name] * len(starts)
    return plots.grid(
        rows,
        row_titles=row_titles,
        caption="Below each picture: the channel's mean activation over that of all the layer's "
        "channels. Silent: the rectified channel is 0 at the initial image, which then stays.",
        cell_width=CELL_WIDTH,
    )


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
