"""Which colours, and how much of each frequency, do the images of a data set have?

  python experiments/color_statistics.py
  python experiments/color_statistics.py --dataset cifar10 --split "train[:50%]"
  python experiments/color_statistics.py --dataset ./photographs --image-size 224

What canvases need to know of natural images: the mean and the covariance of the colours, for
`ascent.color_canvas`, and the mean magnitude of the spectrum, for `ascent.phase_canvas` (MACO). The
images are read in batches, of which one is held at a time: 11 s for the 10,000 images without
arguments, measured on two processor cores with other work beside.

Measured on them: red, green and blue have means of 0.51, 0.45 and 0.37 and standard deviations of
0.28, 0.27 and 0.29; red and green are correlated by 0.86, green and blue by 0.85, red and blue by
0.66. These are the numbers of `ascent.TINY_IMAGENET_COLORS`. Those of `ascent.IMAGENET_COLORS` and
`imagenet_magnitude` are of 203 photographs of ImageNet, each of another class, in a folder
`photographs/train/CLASS` (11 s): the last command fits each one's largest centred square to 224
pixels. Colours are nearly Tiny-ImageNet's; encoded, the magnitudes fall with the
frequency's power 1.22 to 1.29.

The run's folder then holds `color_statistics.npz`, with `mean` and `covariance` of images in
[0, 1], their mean `magnitude`, and `encoded_magnitude`, that of the images as `color_canvas` of
this covariance and `sigmoid_canvas` encode them, for a `phase_canvas` before those two;
`config.json` and `index.html`.
"""

from collections.abc import Iterator

import jax
import numpy as np
from lab import datasets, frame
from lab.datasets import Settings
from lab.frame import Run

from saliency_jax import ascent, data
from saliency_jax.runs import Section, Table

HOW_TO_READ = (
    "The magnitude over the number of pixels: of frequency 0, the mean, and of the power law "
    "amplitude * k^-decay that is nearest to the others, k being the cycles over the shorter side."
)


@frame.experiment("Colours and frequencies")
def main(settings: Settings, run: Run) -> list[Section]:
    colors = ascent.color_statistics(images(settings, "colours"))
    canvas = ascent.chain_canvases(ascent.color_canvas(colors.covariance), ascent.sigmoid_canvas())
    encode = jax.jit(jax.vmap(canvas.encode))
    encoded = ascent.mean_magnitude(map(encode, images(settings, "encoded magnitudes")))
    run.save_arrays(
        "color_statistics",
        mean=colors.mean,
        covariance=colors.covariance,
        magnitude=ascent.mean_magnitude(images(settings, "magnitudes")),
        encoded_magnitude=encoded,
    )
    _, width, _ = data.describe(settings.dataset, data_dir=settings.data_dir).image_shape
    law = power_law(np.asarray(encoded), settings.image_size or int(width or 0))
    measured = f"{settings.dataset}, {settings.split}"
    return [
        Section(f"Mean and covariance of {measured}", table=tabulate(colors)),
        Section(f"Magnitudes of {measured}, encoded", HOW_TO_READ, table=tabulate_law(law)),
    ]


def images(settings: Settings, description: str) -> Iterator[np.ndarray]:
    for batch in datasets.batches(settings, description):
        yield batch["image"]


def tabulate(colors: ascent.ColorStatistics) -> Table:
    """A row for each channel: its mean, and its covariance with every channel."""
    channels = [str(channel) for channel in range(len(colors.mean))]
    rows = [
        (channel, f"{mean:.4f}", *(f"{value:.5f}" for value in row))
        for channel, mean, row in zip(channels, colors.mean, colors.covariance, strict=True)
    ]
    return Table(("channel", "mean", *(f"covariance, {name}" for name in channels)), rows)


def power_law(magnitude: np.ndarray, width: int) -> np.ndarray:
    """The mean, amplitude and decay (3, c) of `ascent.imagenet_magnitude`, nearest in logarithms.

    Frequencies that no image has are left out; where fewer than two are left, no law is: nan.
    """
    height, _, channels = magnitude.shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    cycles = frequency.ravel()[1:] * min(height, width)
    shares = magnitude.reshape(-1, channels) / (height * width)
    law = []
    for mean, *others in shares.T:
        found = np.flatnonzero(others)
        slope = intercept = np.nan
        if len(found) > 1:
            logarithms = np.log(cycles[found]), np.log(np.take(others, found))
            # There are as many frequencies in a ring as it is long: so all octaves count alike.
            slope, intercept = np.polyfit(*logarithms, 1, w=1 / cycles[found])
        law.append((mean, np.exp(intercept), -slope))
    return np.transpose(law)


def tabulate_law(law: np.ndarray) -> Table:
    """A row for each channel."""
    rows = [
        (str(channel), *(f"{value:.3f}" for value in values))
        for channel, values in enumerate(law.T)
    ]
    return Table(("channel", "mean", "amplitude", "decay"), rows)


if __name__ == "__main__":
    main.from_command_line()
