"""What does a classifier of radio signals look at: their band, their symbols, or the noise?

  python -m saliency_jax.data radio_modulations
  python experiments/radio_signals.py
  python experiments/radio_signals.py --count 1 --shown-snr 0

Each map is of the logit of a signal's own modulation, by the gradient (its length over in-phase and
quadrature) and by integrated gradients from silence. A map over time and frequency is that of the
short-time Fourier coefficients, whose inverse transform stands before the model. Measured of each:
its share within the band that holds 99 % of the signal's power, beside the share of the received
power and of a map that is the same everywhere; of the seven modulations that have symbols its share
within a quarter of a symbol of the decision instants, the rest being the transitions; and the areas
under the deletion and insertion curves of the probability, where what is deleted becomes 0, beside
those of a random order and of the strongest first, which asks nothing of the model.

All 7,200 test signals for the accuracy, 576 of them for the maps, four of each modulation at each
signal-to-noise ratio. Interrupted, the same command continues.

Measured, of the bundled network at 0 dB and more, where it names 86 % rightly (48 % at -10 dB, 88 %
at 20; the mistakes are between QPSK and 8PSK, and between 16QAM and 64QAM), in 3 minutes on two
processor cores: it looks at the band. Of the integrated gradients 0.924 [0.919, 0.929] lie within
it, of the received power 0.858, of a constant map 0.147. At -10 dB they still do, 0.78, where 0.23
of the power is left in the band: the noise beside it is not what the network goes by. The gradient
alone has 0.535 there, at any noise: the network is sensitive beside the band too, but nothing comes
in there. It looks at the symbols as much as at the transitions. Within a quarter of a symbol of the
decision instants, half of the time, lie 0.500 [0.498, 0.502] of the gradient and 0.527 [0.522,
0.532] of the integrated gradients, and 0.523 of the power, too: where the signal is strong.
Deletion by integrated gradients is better than strongest first in time and frequency (0.066 against
0.135; random 0.456) and over samples (0.228 against 0.373; random 0.492). Insertion is better than
random and no better than strongest first in time and frequency (0.676 against 0.766; random 0.458),
and about as good over samples (0.601 against 0.582). The gradient's order of the samples is hardly
better than chance (0.440 and 0.494; random 0.492 and 0.488).

The run's folder then holds `accuracy.png` and `measured.png`, over the signal-to-noise ratio,
`time_frequency.png` and `symbols.png` (a signal of each modulation with its maps),
`measurements.npz`, with all values for every signal, `maps.npz`, of the signals that are shown,
`config.json` and `index.html`, which shows it all, those under a slider of the ratio.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from lab import frame, loading, methods, tables, waves
from lab.frame import SOME, Count, Run
from matplotlib.figure import Figure

from saliency_jax import attribution, baselines, metrics, scores
from saliency_jax.runs import Section, Table, plots, sweep
from saliency_jax.signals import radio, spectrograms

# What is said in sentences is of signals at least as strong as the noise.
LEAST_SNR = 0
# A quarter of a symbol on each side of a decision instant: half of the time.
NEAR = radio.SAMPLES_PER_SYMBOL / 4
METHODS = ("gradient", "integrated gradients")
DOMAINS = ("time and frequency", "samples")
CONTROLS = ("strongest first", "random order")
SHOWN_SYMBOLS = 16
CELL_WIDTH = 200
RED = (1.0, 0.0, 0.0)
# Of spectrograms in figures: 40 dB below the power of a signal that is all in one frequency.
FLOOR = 1e-4
X_LABEL = "signal-to-noise ratio (dB)"
HOW_TO_READ = (
    "Each number is a mean over signals with its 95 % bootstrap interval. Within the band: the "
    "share of a map's values that lie at frequencies that hold 99 % of the signal's power. Near "
    "decisions: the share within a quarter of a symbol of the decision instants, of the "
    "modulations that have symbols. Deletion and insertion: the area under the curve of the "
    "probability, while what is first in the order becomes 0 or is shown on 0; a good map has a "
    "small one when it deletes and a large one when it inserts. Less a control: how far it is "
    "below or above it."
)
Columns = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Settings(waves.Settings):
    model: str = "radio-modulations"
    """Name of a bundled model of radio signals, or the folder of a saved one."""
    dataset: str = "radio_modulations"
    """A TFDS name."""
    count: Count = 4
    """How many signals of each modulation at each signal-to-noise ratio get maps."""
    window_size: int = 64
    """Samples of a window of the short-time Fourier transform, which has as many frequencies."""
    hop: int = 16
    """Samples from one window to the next."""
    steps: Count = 16
    """Of integrated gradients, of deletion and of insertion."""
    shown_snr: Annotated[tuple[int, ...], SOME] = (-10, 0, 10)
    """The signal-to-noise ratios of the signals that are shown, in dB; figures show the last."""


@frame.experiment("Radio signals")
def main(settings: Settings, run: Run) -> list[Section]:
    for snr in settings.shown_snr:
        if snr not in radio.SNRS:
            raise ValueError(
                f"expected --shown-snr to be one of {', '.join(map(str, radio.SNRS))}, got {snr}"
            )
    (classifier,) = loading.load([settings.model], "iq")
    network, names = classifier.network, classifier.class_names
    signals = waves.read(settings, settings.dataset, classifier, ("snr", "band", "timing"))
    chosen = choose(signals, settings.count)
    run.expect(len(chosen["label"]), "signal")
    predicted = sweep(
        likeliest, {"image": signals["image"]}, shared=network, batch_size=settings.batch_size
    )
    measured, _ = run.sweep(
        classifier,
        "measurements",
        functools.partial(measure, settings=settings),
        {"example": chosen},
        shared=network,
        batch_size=settings.batch_size,
    )
    measured |= {"labels": chosen["label"], "snrs": chosen["snr"]}
    answers = {"predicted": predicted, "true": signals["label"], "all_snrs": signals["snr"]}
    run.save_arrays("measurements", **measured, **answers)
    strong = among(measured, measured["snrs"] >= LEAST_SNR)
    strong_answers = among(answers, answers["all_snrs"] >= LEAST_SNR)
    accuracy = (strong_answers["predicted"] == strong_answers["true"]).mean()
    of_shown = jax.jit(jax.vmap(functools.partial(maps, settings=settings), (None, 0)))
    shown = {}
    for snr in settings.shown_snr:
        at_snr = among(chosen, chosen["snr"] == snr)
        at_snr = among(at_snr, np.unique(at_snr["label"], return_index=True)[1])
        transformed, sampled = map(np.asarray, of_shown(network, at_snr))
        taken_for = {"predicted": predicted[at_snr["number"]]}
        shown[snr] = at_snr | taken_for | {"time_frequency": transformed, "samples": sampled}
    stacked = {key: np.stack([each[key] for each in shown.values()]) for key in shown[snr]}
    run.save_arrays("maps", **stacked)
    view = run.save_view("time_frequency", explore(names, shown, settings))
    symbols = run.save_figure("symbols", draw_symbols(names, shown[snr]))
    return [
        Section(
            "Accuracy",
            f"Of the test signals of {LEAST_SNR} dB and more {plots.percent(accuracy)} "
            "are named rightly. Over the signal-to-noise ratio, with 95 % bootstrap intervals.",
            [run.save_figure("accuracy", draw_accuracy(names, answers))],
            table=confusions(names, strong_answers),
        ),
        Section("Measured", HOW_TO_READ, table=tabulate(strong)),
        Section(
            "By modulation",
            f"Of the signals of {LEAST_SNR} dB and more, means of the gradient's maps.",
            table=tabulate_modulations(names, strong, strong_answers),
        ),
        Section(
            "Over the signal-to-noise ratio",
            figures=[run.save_figure("measured", draw_measured(measured))],
        ),
        Section(
            "A signal of each modulation",
            f"Below, at {snr} dB: in-phase and quadrature samples of the first {SHOWN_SYMBOLS} "
            "symbols; the darker the ground, the longer the logit's gradient at the sample; the "
            "dotted lines are the decision instants.",
            [symbols],
            views=[view],
        ),
    ]


def among(columns: Columns, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Of columns (n, ...) some of the rows."""
    return {name: column[chosen] for name, column in columns.items()}


def choose(signals: Columns, count: int) -> dict[str, np.ndarray]:
    """The first `count` signals of each modulation at each signal-to-noise ratio."""
    _, cell, sizes = np.unique(
        np.stack([signals["label"], signals["snr"]], axis=1),
        axis=0,
        return_inverse=True,
        return_counts=True,
    )
    if sizes.min() < count:
        raise ValueError(
            f"expected --count to be at most {sizes.min()}, the signals of a modulation at a "
            f"signal-to-noise ratio, got {count}"
        )
    firsts = [np.flatnonzero(cell.ravel() == number)[:count] for number in range(len(sizes))]
    kept = np.sort(np.concatenate(firsts))
    return among(signals, kept) | {"number": kept}


def likeliest(network, *, image):
    return network(image).argmax()


def inputs(score, image, settings):
    """By DOMAINS a score, and its value for a signal."""
    coefficients = radio.time_frequency(image, window_size=settings.window_size, hop=settings.hop)
    return (radio.over_time_frequency(score, hop=settings.hop), coefficients), (score, image)


def maps(network, example, settings):
    """By DOMAINS a signal's maps (2, h, w), by METHODS."""
    made = []
    for score, value in inputs(scores.logit(network, example["label"]), example["image"], settings):
        gradient = attribution.input_gradient(score, value)
        path = attribution.integrated_gradients(
            score, value, baseline=baselines.zeros, steps=settings.steps
        )
        made.append(jnp.stack([attribution.l2_norm(gradient), attribution.sum_channels(path)]))
    return made


def measure(network, *, example, settings):
    """Of one signal the shares within band and near decisions (METHODS,), nan without symbols, of
    power and a constant map too; and the areas (DOMAINS, METHODS and CONTROLS).
    """
    image = example["image"]
    probability = scores.probability(network, example["label"])
    both_maps, given = maps(network, example, settings), inputs(probability, image, settings)
    powers = [jnp.sum(values**2, -1) for _, values in given]
    band = radio.band_mask(example["band"], both_maps[0].shape[1:])
    near = radio.decision_mask(example["timing"], image.shape[1], distance=NEAR)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), example["number"]))
    areas = []
    for (score, value), power, by_method, key in zip(given, powers, both_maps, keys, strict=True):
        controls = jnp.stack([power, jax.random.uniform(key, power.shape)])
        orders = jnp.concatenate([by_method, controls])
        areas.append(waves.areas(score, value, orders, baselines.zeros, settings.steps))

    def share(mask, saliency_map):
        inside = metrics.relevance_mass_accuracy(jnp.abs(saliency_map), mask)
        # Without symbols nothing is near a decision.
        return jnp.where(mask.any(), inside, jnp.nan)

    return {
        "probability": probability(image),
        "in_band": jax.vmap(functools.partial(share, band))(both_maps[0]),
        "power_in_band": share(band, powers[0]),
        "band": band.mean(),
        "near_decisions": jax.vmap(functools.partial(share, near))(both_maps[1]),
        "power_near_decisions": share(near, powers[1]),
        "decisions": share(near, jnp.ones(near.shape)),
        **waves.joined(areas),
    }


def values(measured: Columns) -> Columns:
    """All that is reported: (n,) by name; nan where it is undefined."""
    named = {}
    for what, where, constant in (
        ("within the band", "in_band", "band"),
        ("near decisions", "near_decisions", "decisions"),
    ):
        for place, method in enumerate(METHODS):
            named[f"{method}: {what}"] = measured[where][:, place]
        named[f"received power: {what}"] = measured[f"power_{where}"]
        named[f"a constant map: {what}"] = measured[constant]
    for place, domain in enumerate(DOMAINS):
        for curve in ("deletion", "insertion"):
            areas = dict(zip((*METHODS, *CONTROLS), measured[curve][:, place].T, strict=True))
            named |= {f"{order}, {domain}: {curve}": area for order, area in areas.items()}
            named |= {
                f"{method}, {domain}: {curve} less {control}": areas[method] - areas[control]
                for method in METHODS
                for control in CONTROLS
            }
    return named


def tabulate(measured: Columns) -> Table:
    """A row for each measure, with its mean over the signals that it is defined for."""
    rows = [
        [name, tables.cell(column), str(len(tables.defined(column)))]
        for name, column in values(measured).items()
    ]
    return Table(["", "mean", "signals"], rows)


def tabulate_modulations(names: Sequence[str], measured: Columns, answers: Columns) -> Table:
    """A row for each modulation: its accuracy, and means of the gradient's maps."""
    rows = []
    for label, name in enumerate(names):
        given = among(measured, measured["labels"] == label)
        gradients = given["in_band"][:, 0], given["near_decisions"][:, 0]
        columns = (gradients[0], given["band"], gradients[1], given["decisions"])
        right = answers["predicted"][answers["true"] == label] == label
        rows.append([name, *map(tables.cell, (right, *columns))])
    header = ["", "accuracy", "within the band", "constant", "near decisions", "constant"]
    return Table(header, rows)


def confusions(names: Sequence[str], answers: Columns) -> Table:
    """In a row the percentages of what a modulation is taken for."""
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (answers["true"], answers["predicted"]), 1)
    shares = 100 * counts / np.maximum(1, counts.sum(1, keepdims=True))
    rows = [[name, *map("{:.1f}".format, row)] for name, row in zip(names, shares, strict=True)]
    return Table([f"% of those of {LEAST_SNR} dB and more", *names], rows)


def draw_accuracy(names: Sequence[str], answers: Columns) -> Figure:
    """The accuracy over the signal-to-noise ratio, of all and of each modulation."""
    snrs, true = answers["all_snrs"], answers["true"]
    right = answers["predicted"] == true
    each = [
        tables.curve_over(name, snrs[true == label], right[true == label])
        for label, name in enumerate(names)
    ]
    every = tables.curve_over("all", snrs, right)
    return plots.curves({"all modulations": [every], "each": each}, X_LABEL)


def draw_measured(measured: Columns) -> Figure:
    """The shares, and the areas of deletion and insertion, over the signal-to-noise ratio."""
    panels: dict[str, list[plots.Curve]] = {}
    for name, column in values(measured).items():
        if " less " not in name:
            who, _, what = name.partition(": ")
            method, _, domain = who.partition(", ")
            title = f"{what}, {domain}" if domain else what
            panels.setdefault(title, []).append(tables.curve_over(method, measured["snrs"], column))
    return plots.curves(panels, X_LABEL)


def explore(names: Sequence[str], shown: Mapping[int, Columns], settings: Settings) -> plots.View:
    """A row for each modulation, its spectrogram and its maps, under a slider of the noise."""
    frames: dict[str, list[list[plots.Cell | None]]] = {}
    for snr, signals in shown.items():
        pictures = received(signals, settings)
        frames[f"{snr} dB"] = [
            [
                plots.image(picture, f"taken for {names[number]}"),
                plots.layers(picture, gradient),
                plots.layers(picture, path, draw=plots.signed_map),
            ]
            for picture, number, (gradient, path) in zip(
                pictures, signals["predicted"], signals["time_frequency"], strict=True
            )
        ]
    return plots.explore(
        frames,
        X_LABEL,
        start=[*frames][-1],
        row_titles=[names[label] for label in signals["label"]],
        column_titles=["received", *METHODS],
        caption="Rows are frequencies, from -0.5 cycles per sample at the top to 0.5; columns are "
        "time. Left: the level in decibels, brighter where it is higher; the red lines are the "
        "ends of the band that holds 99 % of the signal's power. Middle: the length of the logit's "
        "gradient at each coefficient, black at 0. Right: integrated gradients from silence, red "
        "where the coefficient raised the logit, blue where it lowered it, white at 0. "
        f"{methods.LAST_COLOR}",
        cell_width=CELL_WIDTH,
    )


def received(signals: Columns, settings: Settings) -> np.ndarray:
    """The levels (n, h, w, 3) of signals over time and frequency, the ends of their bands red."""
    transform = functools.partial(
        radio.time_frequency, window_size=settings.window_size, hop=settings.hop
    )
    coefficients = jax.vmap(transform)(jnp.asarray(signals["image"]))
    levels = np.asarray(spectrograms.decibels(jnp.sum(coefficients**2, -1), floor=FLOOR))
    levels = (levels - levels.min()) / (levels.max() - levels.min())
    pictures = np.repeat(levels[..., None], 3, axis=-1)
    frequencies = spectrograms.frequencies(settings.window_size, two_sided=True)
    ends = np.abs(frequencies - signals["band"][..., None]).argmin(-1)
    pictures[np.arange(len(ends))[:, None], ends] = RED
    return pictures


def draw_symbols(names: Sequence[str], shown: Columns) -> Figure:
    """A row for each modulation: its first samples over its gradient map, and its symbols."""
    last = SHOWN_SYMBOLS * radio.SAMPLES_PER_SYMBOL
    return waves.draw(
        shown["image"][:, 0, :last],
        shown["samples"][:, 0, 0, :last],
        [names[label] for label in shown["label"]],
        "samples",
        names=("in phase", "quadrature"),
        instants=[
            np.arange(np.nan_to_num(timing, nan=last), last, radio.SAMPLES_PER_SYMBOL)
            for timing in shown["timing"]
        ],
    )


if __name__ == "__main__":
    main.from_command_line()
