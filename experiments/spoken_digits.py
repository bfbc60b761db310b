"""What in a spoken digit does a network listen to, and how does a digit sound that it likes best?

  python -m saliency_jax.data spoken_digits
  python experiments/spoken_digits.py

The network's first part is a log-mel spectrogram, so its score has two inputs to be explained: the
spectrogram, over time and frequency, and the waveform, through the transform. For the recordings of
the test split, integrated gradients of the true digit's logit from silence, over both. The maps are
measured by deletion and insertion of the probability, with silence in place of what is hidden: of
the spectrogram a value at a time, of the waveform 10 ms at a time. Beside the map's order stand a
random one, and the loudest first, which asks nothing of the network. Recordings of one speaker and
digit are alike: these pairs are the units of the bootstrap.

The class visualization of each digit is made twice by gradient ascent on its logit: on the
waveform, which can be listened to, and on the spectrogram, which need not be one of any sound.
Compared with them are the mean spectrograms of the test split's digits, by Pearson's correlation.

Measured, of the bundled network on the 300 recordings of the test split (100 % recognized), in 2
minutes on two processor cores: over the spectrogram the map finds what the digit's probability
needs. Deleting by it leaves an area of 0.044 [0.040, 0.047], against 0.128 if the loudest values go
first and 0.333 in random order. Shown on silence in that order, the loudest values are recognized
sooner, however: 0.825 against the map's 0.739 [0.700, 0.777] and 0.321. Over the waveform, 10 ms at
a time, the map is better than chance (deletion 0.303, insertion 0.778; random 0.578, 0.570) and not
better than loudness (0.196, 0.797): where a digit is loud, the network listens. In the examples red
and blue take turns at the voice's lower harmonics, which carry the vowels, and in time lie at the
first tenths of a second, where the vowel sets in; the fricatives of "six" hardly count. The class
visualizations are certain of their digit (100 %), and are no digits: short patterns, such as the
burst and the band below of "two" or the rising band of "three", are repeated three to six times a
second, as the network averages over time, and the correlation with the digit's mean spectrogram is
-0.01 to 0.16. The likest mean is the digit's own in 1 of 10 made on the spectrogram, and in 3 of 10
made on the waveform.

The run's folder then holds `examples.png`, `waveforms.png`, `visualizations.png`, `DIGIT.wav`,
`measurements.npz`, `visualizations.npz`, `config.json` and `index.html`, which shows and plays it
all.
"""

import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import command_line
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm
from jax.tree_util import Partial
from matplotlib.figure import Figure

from saliency_jax import ascent, attribution, data, metrics, models, plots, report, scores, sweep

# The curves' steps: of a spectrogram 100 of its 3,880 values, of a waveform each 10 ms.
CURVE_STEPS = 39
WINDOW_SECONDS = 0.01
PATH_STEPS = 32
ORDERS = ("map", "random", "loudest first")
INPUTS = ("spectrogram", "waveform")
# The ascent's start: faint noise; and the length of a step, in root-mean-square of its input.
START_NOISE = 0.01
WAVEFORM_STEP, SPECTROGRAM_STEP = 0.002, 0.5
# How far each step shifts the input at random: 50 ms, and frames and bands.
WAVEFORM_JITTER, SPECTROGRAM_JITTER = 400, 2
# Of a tone at full scale, after the bundled model's normalization.
LOUDEST = 20.0
CELL_WIDTH = 220
HOW_TO_READ = (
    "Area under the probability of the true digit, while the values that come first in the order "
    "are replaced by silence (deletion: lower is better) or are shown on silence (insertion: "
    "higher is better); in brackets the 95 % bootstrap interval over pairs of speaker and digit. "
    "Advantage: by how much the map is better than that order, likewise."
)


@dataclasses.dataclass(frozen=True)
class Settings:
    model: str = "spoken-digits"
    """Name of a bundled model of sounds, or folder of a saved one."""
    split: str = "test"
    """Part of spoken_digits whose recordings are explained."""
    steps: int = 200
    """Of each ascent."""
    batch_size: int = 10
    """Recordings, or ascents, at once; those finished are kept when the run is interrupted."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""
    output: Path | None = None
    """Folder of the run, which must not exist; a new one in runs/ if none."""


class Measurements(NamedTuple):
    """What is measured of a recording.

    Attributes:
      predicted: the likeliest digit.
      spectrogram: (frames, bands), in decibels.
      spectrogram_map: (frames, bands), in units of the logit.
      waveform_map: (t,), in units of the logit.
      deletion: (inputs, orders), areas.
      insertion: likewise.
    """

    predicted: Any
    spectrogram: Any
    spectrogram_map: Any
    waveform_map: Any
    deletion: Any
    insertion: Any


class Visualization(NamedTuple):
    """A digit's visualizations, by ascent on both inputs.

    Attributes:
      waveform: (t,), in [-1, 1].
      spectrograms: (inputs, frames, bands): made on the spectrogram, and the waveform's.
      probabilities: (inputs,), of the digit.
      failed_at: (inputs,), the step that was not finite, 0 if all were.
    """

    waveform: Any
    spectrograms: Any
    probabilities: Any
    failed_at: Any


def main(settings: Settings) -> None:
    for name in ("steps", "batch_size"):
        if getattr(settings, name) < 1:
            flag = name.replace("_", "-")
            raise ValueError(f"expected --{flag} to be at least 1, got {getattr(settings, name)}")
    with report.RunFolder(settings.output, "spoken_digits") as run:
        run.save_config(settings)
        model = models.load(settings.model)
        if not isinstance(model, models.SpectrogramResNet):
            raise ValueError(
                f"expected a model of sounds, got {settings.model}, a {type(model).__name__}"
            )
        recordings = read(settings)
        digits = np.arange(model.num_classes, dtype=np.int32)
        folder = run.unfinished(dataclasses.replace(settings, output=None))
        total = len(recordings["label"]) + len(digits)
        with tqdm.tqdm(total=total, unit="sound", file=sys.stdout) as bar:
            measured = sweep(
                measure,
                {"recording": {name: recordings[name] for name in ("image", "label", "number")}},
                shared=model,
                batch_size=settings.batch_size,
                folder=folder / "measurements",
                progress=bar.update,
            )
            made = sweep(
                functools.partial(visualize, steps=settings.steps),
                {"label": digits},
                shared=model,
                batch_size=settings.batch_size,
                folder=folder / "visualizations",
                progress=bar.update,
            )
        ascent.check_finite_steps(made.failed_at, label=digits[:, None])
        described = {name: recordings[name] for name in ("label", "speaker", "index")}
        run.save_arrays("measurements", **described, **measured._asdict())
        run.save_arrays("visualizations", **made._asdict())
        tables = [
            compare_orders(recordings, measured),
            recognize(model, recordings, measured, made),
        ]
        names = model.class_names
        sections = [
            report.Section("Measured", HOW_TO_READ, table=tables[0]),
            report.Section(
                "Maps over time and frequency",
                figures=[
                    run.save_figure("examples", draw_examples(model, recordings, measured)),
                    run.save_figure("waveforms", draw_waveforms(model, recordings, measured)),
                ],
            ),
            report.Section(
                "Class visualizations",
                figures=[run.save_figure("visualizations", draw_visualizations(model, made))],
                table=tables[1],
                sounds=[
                    run.save_sound(name, loud(waveform), model.sample_rate)
                    for name, waveform in zip(names, made.waveform, strict=True)
                ],
            ),
        ]
        run.save_page("Spoken digits", sections, __doc__.partition("\n")[0])
    for table in tables:
        print(table, end="\n\n")
    print(HOW_TO_READ)
    print(f"see {(run.path / 'index.html').resolve()}")


def read(settings: Settings) -> dict[str, np.ndarray]:
    """The recordings: image (n, 1, t, 1), label, number, speaker, index."""
    batches = data.load(
        "spoken_digits",
        settings.split,
        settings.batch_size,
        fields=("speaker", "index"),
        data_dir=settings.data_dir,
    )
    parts = [
        {name: np.asarray(column)[batch["mask"]] for name, column in batch.items()}
        for batch in batches
    ]
    recordings = {
        name: np.concatenate([part[name] for part in parts])
        for name in ("image", "label", "speaker", "index")
    }
    return recordings | {"number": np.arange(len(recordings["label"]), dtype=np.int32)}


def inputs(model: models.SpectrogramResNet, signal: jax.Array) -> dict[str, tuple[Any, jax.Array]]:
    """For each of what can be explained a model of it, and its value for a sound."""
    from_spectrogram = Partial(models.SpectrogramResNet.from_spectrogram, model)
    return {"spectrogram": (from_spectrogram, model.front_end(signal)), "waveform": (model, signal)}


def measure(model, *, recording):
    """What is measured of one recording."""
    signal, label = recording["image"], recording["label"]
    of = inputs(model, signal)
    silence = {name: value for name, (_, value) in inputs(model, jnp.zeros_like(signal)).items()}
    window = round(WINDOW_SECONDS * model.sample_rate)
    maps, areas = {}, []
    for number, (name, (network, value)) in enumerate(of.items()):
        maps[name] = attribution.sum_channels(
            attribution.integrated_gradients(
                scores.logit(network, label), value, baseline=silence[name], steps=PATH_STEPS
            )
        )
        key = jax.random.fold_in(jax.random.key(recording["number"]), number)
        random = jax.random.uniform(key, maps[name].shape)
        loudness = attribution.sum_channels(value if name == "spectrogram" else value**2)
        steps = CURVE_STEPS
        ordered = jnp.stack([maps[name], random, loudness])
        if name == "waveform":
            ordered = jax.vmap(functools.partial(in_windows, size=window))(ordered)
            steps = -(-signal.shape[1] // window)
        probability = metrics.probability(network, label)

        def curves(order, probability=probability, value=value, name=name, steps=steps):
            settings = {"baseline": silence[name], "steps": steps}
            return (
                metrics.deletion(probability, value, order, **settings).area,
                metrics.insertion(probability, value, order, **settings).area,
            )

        areas.append(jnp.stack(jax.vmap(curves)(ordered)))
    deletion, insertion = jnp.stack(areas, axis=1)
    return Measurements(
        jnp.argmax(model(signal)),
        of["spectrogram"][1][..., 0],
        maps["spectrogram"],
        maps["waveform"][0],
        deletion,
        insertion,
    )


def in_windows(waveform_map, *, size):
    """A map (1, t) summed over windows of samples, each of which gets its window's sum."""
    length = waveform_map.shape[1]
    padded = jnp.pad(waveform_map, ((0, 0), (0, -length % size)))
    sums = padded.reshape(1, -1, size).sum(-1)
    return jnp.repeat(sums, size, axis=1)[:, :length]


def visualize(model, *, label, steps):
    """The digit's visualizations, on the waveform and on the spectrogram."""
    waveform_key, step_key = jax.random.split(jax.random.fold_in(jax.random.key(0), label))
    start = ascent.normal(waveform_key, (*model.input_size, 1), 0.0, START_NOISE)
    (of_spectrogram, level), (_, waveform) = inputs(model, start).values()
    floor = model.front_end(jnp.zeros_like(start)).min()

    def ascended(network, start, step, low, high, jitter):
        optimizer = optax.chain(
            ascent.normalize_by_l2(),
            optax.sgd(step * start.size**0.5),
            ascent.keep_in_range(low, high),
        )
        state = ascent.initial_state(start, optimizer, step_key)
        return ascent.ascend(
            scores.logit(network, label), state, optimizer, steps, augment=ascent.jitter(jitter)
        )

    on_spectrogram = ascended(
        of_spectrogram, level, SPECTROGRAM_STEP, floor, LOUDEST, SPECTROGRAM_JITTER
    )
    on_waveform = ascended(model, waveform, WAVEFORM_STEP, -1.0, 1.0, WAVEFORM_JITTER)
    spectrograms = jnp.stack([on_spectrogram.image, model.front_end(on_waveform.image)])
    return Visualization(
        on_waveform.image[0, :, 0],
        spectrograms[..., 0],
        jax.nn.softmax(model.from_spectrogram(spectrograms))[:, label],
        jnp.stack([on_spectrogram.state.failed_at, on_waveform.state.failed_at]),
    )


def compare_orders(recordings: Mapping[str, np.ndarray], measured: Measurements) -> report.Table:
    """The areas of each input's orders, and the map's advantages."""
    pairs = [f"{s} {d}" for s, d in zip(recordings["speaker"], recordings["label"], strict=True)]
    members = [np.flatnonzero(np.array(pairs) == pair) for pair in sorted(set(pairs))]

    def interval(values: np.ndarray) -> str:
        of_pairs = jnp.array([values[of].mean() for of in members], jnp.float32)
        found = metrics.bootstrap_interval(of_pairs, key=jax.random.key(0))
        return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"

    rows = []
    for column, name in enumerate(INPUTS):
        areas = measured.deletion[:, column], measured.insertion[:, column]
        for place, order in enumerate(ORDERS):
            deletion, insertion = (area[:, place] for area in areas)
            better = deletion - areas[0][:, 0], areas[1][:, 0] - insertion
            advantages = map(interval, better) if place else ("", "")
            rows.append([f"{name}, {order}", interval(deletion), interval(insertion), *advantages])
    header = ("order", "deletion", "insertion", "advantage, deletion", "advantage, insertion")
    return report.Table(header, rows)


def likenesses(
    picture: np.ndarray, recordings: Mapping[str, np.ndarray], measured: Measurements
) -> dict[int, float]:
    """By digit the correlation of a spectrogram with the mean one of the digit's recordings."""
    means = {
        int(digit): measured.spectrogram[recordings["label"] == digit].mean(0)
        for digit in np.unique(recordings["label"])
    }
    return {
        digit: float(np.corrcoef(picture.ravel(), mean.ravel())[0, 1])
        for digit, mean in means.items()
    }


def recognize(
    model: models.SpectrogramResNet,
    recordings: Mapping[str, np.ndarray],
    measured: Measurements,
    made: Visualization,
) -> report.Table:
    """For each digit how well it is recognized, and how alike its pictures are to recordings."""
    right = measured.predicted == recordings["label"]
    rows = []
    for digit, name in enumerate(model.class_names):
        of_digit = recordings["label"] == digit
        cells = [name, plots.percent(right[of_digit].mean()) if of_digit.any() else ""]
        for column in range(len(INPUTS)):
            alike = likenesses(made.spectrograms[digit, column], recordings, measured)
            cells += [
                plots.percent(made.probabilities[digit, column]),
                f"{alike[digit]:.2f}" if digit in alike else "",
                model.class_names[max(alike, key=alike.__getitem__)],
            ]
        rows.append(cells)
    rows.append(["all", plots.percent(right.mean()), *[""] * 6])
    made_on = [f"on the {name}: {what}" for name in INPUTS for what in ("p", "r", "likest")]
    return report.Table(("digit", "recognized", *made_on), rows)


def firsts(recordings: Mapping[str, np.ndarray], measured: Measurements) -> list[int]:
    """The number of each digit's first recording, the first that is recognized if one is."""
    labels = recordings["label"]
    of_digits = [np.flatnonzero(labels == digit) for digit in np.unique(labels)]
    right = measured.predicted == labels
    return [int(numbers[np.argmax(right[numbers])]) for numbers in of_digits]


def upright(spectrogram: np.ndarray) -> np.ndarray:
    """Time to the right and frequency upwards."""
    return spectrogram.T[::-1]


def grey(spectrogram: np.ndarray, title: str = "") -> plots.Picture:
    low, high = spectrogram.min(), spectrogram.max()
    scaled = (upright(spectrogram) - low) / max(high - low, 1e-6)
    return plots.image(scaled[..., None].astype(np.float32), title, f"{low:.0f} to {high:.0f} dB")


def draw_examples(
    model: models.SpectrogramResNet, recordings: Mapping[str, np.ndarray], measured: Measurements
) -> Figure:
    rows = [
        [
            grey(measured.spectrogram[number], recordings["speaker"][number]),
            plots.signed_map(upright(measured.spectrogram_map[number])),
        ]
        for number in firsts(recordings, measured)
    ]
    names = [
        model.class_names[recordings["label"][number]] for number in firsts(recordings, measured)
    ]
    return plots.grid(
        rows,
        row_titles=names,
        column_titles=["log-mel spectrogram", "integrated gradients from silence"],
        caption="Time runs to the right, frequency upwards. Red raises the digit's logit, blue "
        "lowers it.",
        cell_width=CELL_WIDTH,
    )


def draw_waveforms(
    model: models.SpectrogramResNet, recordings: Mapping[str, np.ndarray], measured: Measurements
) -> Figure:
    """For each digit a waveform, over which windows are coloured by their attributions."""
    numbers = firsts(recordings, measured)
    window = round(WINDOW_SECONDS * model.sample_rate)
    figure = Figure(figsize=(8, 0.9 * len(numbers) + 0.4), dpi=100, layout="constrained")
    all_axes = figure.subplots(len(numbers), 1, sharex=True, squeeze=False)[:, 0]
    for axes, number in zip(all_axes, numbers, strict=True):
        samples = recordings["image"][number, 0, :, 0]
        seconds = len(samples) / model.sample_rate
        sums = np.add.reduceat(measured.waveform_map[number], np.arange(0, len(samples), window))
        limit, height = np.abs(sums).max() or 1, np.abs(samples).max() or 1
        axes.imshow(
            sums[None],
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            aspect="auto",
            extent=(0, seconds, -height, height),
        )
        axes.plot(np.arange(len(samples)) / model.sample_rate, samples, "k", linewidth=0.4)
        axes.set(yticks=[], ylabel=model.class_names[recordings["label"][number]])
    all_axes[-1].set_xlabel("seconds; red raises the digit's logit, blue lowers it, each 10 ms")
    return figure


def draw_visualizations(model: models.SpectrogramResNet, made: Visualization) -> Figure:
    rows: Sequence[Sequence[plots.Cell | None]] = [
        [
            grey(spectrogram, f"p = {plots.percent(probability)}")
            for spectrogram, probability in zip(spectrograms, probabilities, strict=True)
        ]
        for spectrograms, probabilities in zip(made.spectrograms, made.probabilities, strict=True)
    ]
    return plots.grid(
        rows,
        row_titles=model.class_names,
        column_titles=["ascent on the spectrogram", "ascent on the waveform: its spectrogram"],
        caption="The digit's logit maximized from faint noise; its probability is written above.",
        cell_width=CELL_WIDTH,
    )


def loud(waveform: np.ndarray) -> np.ndarray:
    """The waveform at full scale, to be listened to."""
    return waveform / max(np.abs(waveform).max(), 1e-6)


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
