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
`measurements.npz`, with all values for every signal, `config.json` and `index.html`, which shows
it all.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import command_line
import comparison
import jax
import jax.numpy as jnp
import labelled_images
import numpy as np
from classifiers import Classifier
from jax.tree_util import Partial
from matplotlib.figure import Figure

from saliency_jax import (
    attribution,
    data,
    metrics,
    models,
    plots,
    radio,
    report,
    scores,
    spectrograms,
)

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


@dataclasses.dataclass(frozen=True)
class Settings:
    model: str = "radio-modulations"
    """Name of a bundled model of radio signals, or the folder of a saved one."""
    dataset: str = "radio_modulations"
    """A TFDS name."""
    split: str = "test"
    count: int = 4
    """How many signals of each modulation at each signal-to-noise ratio get maps."""
    window_size: int = 64
    """Samples of a window of the short-time Fourier transform, which has as many frequencies."""
    hop: int = 16
    """Samples from one window to the next."""
    steps: int = 16
    """Of integrated gradients, of deletion and of insertion."""
    shown_snr: int = 10
    """The signal-to-noise ratio of the signals that figures show, in dB."""
    batch_size: int = 32
    """Signals at once; those finished are kept when the run is interrupted."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""
    output: Path | None = None
    """Folder of the run, which must not exist; a new one in runs/ if none."""


class Maps(NamedTuple):
    """A signal's maps over time and frequency, and over its samples: (2, h, w), as METHODS."""

    time_frequency: Any
    samples: Any


class Measurements(NamedTuple):
    """What is measured of one signal; in the order of METHODS, and of DOMAINS before.

    Attributes:
      probability: of its modulation.
      in_band: (2,), the maps' share within the occupied band.
      power_in_band: that of the received power.
      band: the share of the map that the band is.
      near_decisions: (2,), the maps' share near the decision instants; nan without symbols.
      power_near_decisions: that of the received power.
      decisions: the share of the samples that is near them.
      deletion: (2, 4), the areas by domain, of METHODS and of CONTROLS.
      insertion: (2, 4), likewise.
    """

    probability: Any
    in_band: Any
    power_in_band: Any
    band: Any
    near_decisions: Any
    power_near_decisions: Any
    decisions: Any
    deletion: Any
    insertion: Any


def main(settings: Settings) -> None:
    check(settings)
    with report.RunFolder(settings.output, "radio_signals") as run:
        run.save_config(settings)
        classifier = load(settings.model)
        names = classifier.class_names
        signals = read(settings, classifier)
        predicted = predict(classifier, signals["image"], settings.batch_size)
        right = predicted == signals["label"]
        chosen = choose(signals, settings.count)
        explainer = Explainer(settings.window_size, settings.hop, settings.steps)
        with comparison.working(run, settings, len(chosen["label"])) as work:
            measured, _ = comparison.timed_sweep(
                work,
                classifier,
                "measurements",
                explainer.measure,
                {"example": chosen},
                classifier.model,
            )
        run.save_arrays(
            "measurements",
            **measured._asdict(),
            labels=chosen["label"],
            snrs=chosen["snr"],
            predicted=predicted,
            true=signals["label"],
            all_snrs=signals["snr"],
        )
        strong, measured_strong = signals["snr"] >= LEAST_SNR, chosen["snr"] >= LEAST_SNR
        of_strong = jax.tree.map(lambda leaf: leaf[measured_strong], measured)
        labels = chosen["label"][measured_strong]
        overall = tabulate(of_strong)
        by_modulation = tabulate_modulations(names, of_strong, labels, signals, right)
        shown = pick(signals, settings.shown_snr, len(names))
        maps = jax.jit(jax.vmap(explainer.maps, (None, 0)))(classifier.model, shown)
        pictures = {
            "time_frequency": draw_time_frequency(names, shown, explainer, maps),
            "symbols": draw_symbols(names, shown, maps),
        }
        text = (
            f"Of the test signals of {LEAST_SNR} dB and more {plots.percent(right[strong].mean())} "
            "are named rightly. Each number is a mean over signals with its 95 % bootstrap "
            "interval. Within the band: the share of a map's values that lie at frequencies that "
            "hold 99 % of the signal's power. Near decisions: the share within a quarter of a "
            "symbol of the decision instants, of the modulations that have symbols. Deletion and "
            "insertion: the area under the curve of the probability, while what is first in the "
            "order becomes 0 or is shown on 0; a good map has a small one when it deletes and a "
            "large one when it inserts. Less a control: how far it is below or above it."
        )
        sections = [
            report.Section(
                "Accuracy",
                "Over the signal-to-noise ratio, with 95 % bootstrap intervals.",
                [run.save_figure("accuracy", draw_accuracy(names, signals, right))],
                table=confusions(names, signals["label"][strong], predicted[strong]),
            ),
            report.Section("Measured", text, table=overall),
            report.Section(
                "By modulation",
                f"Of the signals of {LEAST_SNR} dB and more, means of the gradient's maps.",
                table=by_modulation,
            ),
            report.Section(
                "Over the signal-to-noise ratio",
                figures=[run.save_figure("measured", draw_measured(measured, chosen["snr"]))],
            ),
            report.Section(
                "A signal of each modulation",
                f"At {settings.shown_snr} dB. Below: in-phase and quadrature samples of the first "
                f"{SHOWN_SYMBOLS} symbols; the darker the ground, the longer the logit's gradient "
                "at the sample; the dotted lines are the decision instants.",
                [run.save_figure(name, figure) for name, figure in pictures.items()],
            ),
        ]
        run.save_page("Radio signals", sections, __doc__.partition("\n")[0])
    print(f"\n{by_modulation}")
    labelled_images.finish(run, overall, text)


def check(settings: Settings) -> None:
    """Says at once what would only fail after the model is loaded."""
    for name in ("count", "steps", "batch_size"):
        if getattr(settings, name) < 1:
            flag = name.replace("_", "-")
            raise ValueError(f"expected --{flag} to be at least 1, got {getattr(settings, name)}")
    if settings.shown_snr not in radio.SNRS:
        raise ValueError(
            f"expected --shown-snr to be one of {', '.join(map(str, radio.SNRS))}, got "
            f"{settings.shown_snr}"
        )


def load(name: str) -> Classifier:
    """The model of radio signals of this name or folder."""
    model = models.load(name)
    if model.channels != 2 or model.input_size[0] != 1:
        height, width = model.input_size
        raise ValueError(
            f"expected a model of radio signals (1, t, 2), got {name} for images "
            f"({height}, {width}, {model.channels})"
        )
    # Free of their device, so that one program is compiled.
    free = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), model)
    return Classifier(Path(name).name, free)


def read(settings: Settings, classifier: Classifier) -> dict[str, np.ndarray]:
    """All signals of the split, with what is known of them."""
    described = data.describe(settings.dataset, data_dir=settings.data_dir)
    if described.class_names != classifier.class_names:
        raise ValueError(
            f"expected {settings.dataset} to have the classes of {classifier.name}, got "
            f"{', '.join(described.class_names)}"
        )
    fields = ("snr", "band", "timing")
    batches = list(
        data.load(
            settings.dataset,
            settings.split,
            settings.batch_size,
            fields=fields,
            data_dir=settings.data_dir,
        )
    )
    return {
        name: np.concatenate([batch[name][batch["mask"]] for batch in batches])
        for name in ("image", "label", *fields)
    }


def predict(classifier: Classifier, images: np.ndarray, batch_size: int) -> np.ndarray:
    """(n,), the likeliest modulation of each signal."""
    run = jax.jit(lambda model, batch: model(batch).argmax(-1))
    found = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        filled = np.resize(batch, (batch_size, *images.shape[1:]))
        found.append(np.asarray(run(classifier.model, filled))[: len(batch)])
    return np.concatenate(found)


def choose(signals: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """The first `count` signals of each modulation at each signal-to-noise ratio."""
    cells = np.stack([signals["label"], signals["snr"]], axis=1)
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    order = np.argsort(cell.ravel(), kind="stable")
    sizes = np.bincount(cell.ravel())
    if sizes.min() < count:
        raise ValueError(
            f"expected --count to be at most {sizes.min()}, the signals of a modulation at a "
            f"signal-to-noise ratio, got {count}"
        )
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = np.sort(order[place < count])
    return {name: values[kept] for name, values in signals.items()} | {"number": kept}


def pick(signals: Mapping[str, np.ndarray], snr: int, num_classes: int) -> dict[str, np.ndarray]:
    """The first signal of each modulation at one signal-to-noise ratio."""
    firsts = [
        np.flatnonzero((signals["label"] == label) & (signals["snr"] == snr))[0]
        for label in range(num_classes)
    ]
    return {name: values[firsts] for name, values in signals.items()}


def in_band(band: Any, window_size: int, frames: int) -> jax.Array:
    """(frequencies, frames), whether a coefficient is within half a window's resolution of it."""
    low, high = band
    frequencies = spectrograms.frequencies(window_size, two_sided=True)
    margin = 0.5 / window_size
    inside = (frequencies >= low - margin) & (frequencies <= high + margin)
    return jnp.broadcast_to(inside[:, None], (window_size, frames))


def near_decisions(timing: Any, length: int) -> jax.Array:
    """(1, t), whether a sample is within a quarter of a symbol of a decision instant."""
    period = radio.SAMPLES_PER_SYMBOL
    away = (jnp.arange(length) - timing + period / 2) % period - period / 2
    return (jnp.abs(away) <= NEAR)[None]


def _of_coefficients(score: Any, hop: int, image: Any) -> Any:
    return score(radio.from_time_frequency(image, hop=hop))


@dataclasses.dataclass(frozen=True)
class Explainer:
    """How maps are made and measured.

    Attributes:
      window_size: of the short-time Fourier transform, in samples.
      hop: from one window to the next, in samples.
      steps: of integrated gradients, of deletion and of insertion.
    """

    window_size: int
    hop: int
    steps: int

    def coefficients(self, image: Any) -> jax.Array:
        """A signal over frequency and time."""
        return radio.time_frequency(image, window_size=self.window_size, hop=self.hop)

    def through(self, score: Any) -> Any:
        """A score of such coefficients, from one of signals."""
        return Partial(_of_coefficients, score, self.hop)

    def maps(self, model: Any, example: Mapping[str, Any]) -> Maps:
        """A signal's maps, in both domains."""
        score, image = scores.logit(model, example["label"]), example["image"]
        return Maps(
            self._both(self.through(score), self.coefficients(image)), self._both(score, image)
        )

    def measure(self, model: Any, *, example: Mapping[str, Any]) -> Measurements:
        """What is measured of one signal."""
        image, timing = example["image"], example["timing"]
        coefficients = self.coefficients(image)
        maps = self.maps(model, example)
        band = in_band(example["band"], *coefficients.shape[:2])
        near = near_decisions(timing, image.shape[1])

        def of_band(of):
            return metrics.relevance_mass_accuracy(jnp.abs(of), band)

        def of_symbols(of):
            share = metrics.relevance_mass_accuracy(jnp.abs(of), near)
            return jnp.where(jnp.isfinite(timing), share, jnp.nan)

        probability = metrics.probability(model, example["label"])
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), example["number"]))

        def areas(curve):
            over_time_and_frequency = self._areas(
                curve, self.through(probability), coefficients, maps.time_frequency, keys[0]
            )
            over_samples = self._areas(curve, probability, image, maps.samples, keys[1])
            return jnp.stack([over_time_and_frequency, over_samples])

        return Measurements(
            probability=probability(image),
            in_band=jax.vmap(of_band)(maps.time_frequency),
            power_in_band=of_band(jnp.sum(coefficients**2, -1)),
            band=band.mean(),
            near_decisions=jax.vmap(of_symbols)(maps.samples),
            power_near_decisions=of_symbols(jnp.sum(image**2, -1)),
            decisions=of_symbols(jnp.ones(near.shape)),
            deletion=areas(metrics.deletion),
            insertion=areas(metrics.insertion),
        )

    def _both(self, score: Any, image: Any) -> jax.Array:
        """(2, h, w), the maps by METHODS."""
        gradient = attribution.input_gradient(score, image)
        path = attribution.integrated_gradients(
            score, image, baseline=attribution.baselines.zeros, steps=self.steps
        )
        return jnp.stack([attribution.l2_norm(gradient), attribution.sum_channels(path)])

    def _areas(self, curve: Callable, score: Any, image: Any, maps: Any, key: Any) -> jax.Array:
        """(4,), the areas under the curves of METHODS and of CONTROLS."""
        power = jnp.sum(image**2, -1)
        controls = jnp.stack([power, jax.random.uniform(key, power.shape)])
        orders = jnp.concatenate([maps, controls])

        def area(order):
            zeros = attribution.baselines.zeros
            return curve(score, image, order, baseline=zeros, steps=self.steps).area

        return jax.vmap(area)(orders)


def rows(measured: Measurements) -> dict[str, np.ndarray]:
    """All that is reported: (n,) by name; nan where it is undefined."""
    result = {}
    for place, method in enumerate(METHODS):
        result[f"{method}: within the band"] = measured.in_band[:, place]
    result["received power: within the band"] = measured.power_in_band
    result["a constant map: within the band"] = measured.band
    for place, method in enumerate(METHODS):
        result[f"{method}: near decisions"] = measured.near_decisions[:, place]
    result["received power: near decisions"] = measured.power_near_decisions
    result["a constant map: near decisions"] = measured.decisions
    for domain_place, domain in enumerate(DOMAINS):
        for metric in ("deletion", "insertion"):
            areas = getattr(measured, metric)[:, domain_place]
            for place, order in enumerate((*METHODS, *CONTROLS)):
                result[f"{order}, {domain}: {metric}"] = areas[:, place]
            for place, method in enumerate(METHODS):
                for control_place, control in enumerate(CONTROLS, len(METHODS)):
                    gain = areas[:, place] - areas[:, control_place]
                    result[f"{method}, {domain}: {metric} less {control}"] = gain
    return result


def tabulate(measured: Measurements) -> report.Table:
    """A row for each measure, with its mean over the signals that it is defined for."""
    table = []
    for name, values in rows(measured).items():
        defined = values[np.isfinite(values)].astype(np.float32)
        table.append([name, labelled_images.cell(defined), str(len(defined))])
    return report.Table(["", "mean", "signals"], table)


def tabulate_modulations(
    names: Sequence[str],
    measured: Measurements,
    labels: np.ndarray,
    signals: Mapping[str, np.ndarray],
    right: np.ndarray,
) -> report.Table:
    """A row for each modulation: its accuracy, and means of the gradient's maps."""
    strong = signals["snr"] >= LEAST_SNR
    table = []
    for label, name in enumerate(names):
        of = jax.tree.map(lambda leaf, label=label: leaf[labels == label], measured)
        columns = (
            right[strong & (signals["label"] == label)],
            of.in_band[:, 0],
            of.band,
            of.near_decisions[:, 0],
            of.decisions,
        )
        cells = [
            labelled_images.cell(column[np.isfinite(column)].astype(np.float32))
            for column in columns
        ]
        table.append([name, *cells])
    header = ["", "accuracy", "within the band", "constant", "near decisions", "constant"]
    return report.Table(header, table)


def confusions(names: Sequence[str], true: np.ndarray, predicted: np.ndarray) -> report.Table:
    """In a row the percentages of what a modulation is taken for."""
    table = []
    for label, name in enumerate(names):
        taken = np.bincount(predicted[true == label], minlength=len(names))
        shares = 100 * taken / max(1, taken.sum())
        table.append([name, *(f"{share:.1f}" for share in shares)])
    return report.Table([f"% of those of {LEAST_SNR} dB and more", *names], table)


def draw_accuracy(
    names: Sequence[str], signals: Mapping[str, np.ndarray], right: np.ndarray
) -> Figure:
    """The accuracy over the signal-to-noise ratio, of all and of each modulation."""
    snrs = np.unique(signals["snr"])

    def curve(name, among):
        of_each = [right[among & (signals["snr"] == snr)] for snr in snrs]
        return labelled_images.curve(name, snrs, of_each)

    every = np.ones(len(right), bool)
    panels = {"all modulations": [curve("all", every)]}
    panels["each"] = [curve(name, signals["label"] == label) for label, name in enumerate(names)]
    return plots.curves(panels, X_LABEL)


def draw_measured(measured: Measurements, snrs_of: np.ndarray) -> Figure:
    """The shares, and the areas of deletion and insertion, over the signal-to-noise ratio."""
    snrs = np.unique(snrs_of)
    panels: dict[str, list[plots.Curve]] = {}
    for name, values in rows(measured).items():
        if " less " in name:
            continue
        who, _, what = name.partition(": ")
        method, _, domain = who.partition(", ")
        title = f"{what}, {domain}" if domain else what
        of_each = [values[snrs_of == snr] for snr in snrs]
        panels.setdefault(title, []).append(labelled_images.curve(method, snrs, of_each))
    return plots.curves(panels, X_LABEL)


def draw_time_frequency(
    names: Sequence[str], shown: Mapping[str, np.ndarray], explainer: Explainer, maps: Maps
) -> Figure:
    """A row for each modulation: its spectrogram and its maps, all over time and frequency."""
    power = jnp.sum(jax.vmap(explainer.coefficients)(shown["image"]) ** 2, axis=-1)
    levels = np.asarray(spectrograms.decibels(power, floor=FLOOR))
    cells: list[list[plots.Cell | None]] = []
    for place, label in enumerate(shown["label"]):
        gradient, path = np.asarray(maps.time_frequency[place])
        level = (levels[place] - levels.min()) / (levels.max() - levels.min())
        received = with_band(level, shown["band"][place])
        cells.append(
            [
                plots.image(received, names[label]),
                plots.saliency_map(gradient),
                plots.signed_map(path),
            ]
        )
    return plots.grid(
        cells,
        column_titles=["received", *METHODS],
        caption="Rows are frequencies, from -0.5 cycles per sample at the top to 0.5; columns are "
        "time. Left: the level in decibels, brighter where it is higher; the red lines are the "
        "ends of the band that holds 99 % of the signal's power. Middle: the length of the logit's "
        "gradient at each coefficient, black at 0. Right: integrated gradients from silence, red "
        "where the coefficient raised the logit, blue where it lowered it, white at 0. Below: the "
        "value of the last colour, which 99 % of the map's values do not exceed.",
        cell_width=CELL_WIDTH,
    )


def with_band(level: np.ndarray, band: np.ndarray) -> np.ndarray:
    """(frequencies, frames, 3), a level in [0, 1] with red lines at the ends of a band."""
    picture = np.repeat(level[..., None], 3, axis=-1)
    frequencies = spectrograms.frequencies(len(level), two_sided=True)
    for end in band:
        picture[np.abs(frequencies - end).argmin()] = RED
    return picture


def draw_symbols(names: Sequence[str], shown: Mapping[str, np.ndarray], maps: Maps) -> Figure:
    """A row for each modulation: its first samples over its gradient map, and its symbols."""
    period, length = radio.SAMPLES_PER_SYMBOL, shown["image"].shape[2]
    last = min(SHOWN_SYMBOLS * period, length)
    figure = Figure(figsize=(9, 1.2 * len(names)), dpi=100, layout="constrained")
    for row, place in enumerate(figure.subplots(len(names), 1, sharex=True)):
        signal = shown["image"][row, 0, :last]
        limit = 1.1 * np.abs(signal).max()
        place.imshow(
            np.asarray(maps.samples[row, 0, :, :last]),
            cmap="Oranges",
            aspect="auto",
            extent=(-0.5, last - 0.5, -limit, limit),
            vmin=0,
        )
        for column, name in zip(signal.T, ("in phase", "quadrature"), strict=True):
            place.plot(column, linewidth=1, label=name)
        timing = shown["timing"][row]
        instants = np.arange(timing, last, period) if np.isfinite(timing) else np.empty(0)
        place.vlines(instants, -limit, limit, colors="grey", linestyles="dotted", linewidth=0.8)
        place.set(yticks=[], ylabel=names[shown["label"][row]], xlim=(-0.5, last - 0.5))
    place.set_xlabel("samples")
    figure.legend(*place.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
