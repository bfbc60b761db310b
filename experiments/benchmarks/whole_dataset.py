"""How fast is a data set explained, does the device wait, does memory grow, and what would it cost?

  python experiments/benchmarks/whole_dataset.py --photographs ./photographs

Saliency of training images under a bundled ResNet-18 at 64x64, in chunks of 64, each run in a
process of its own; then a trace of a run; then the time that reading a photograph takes.

Measured on two processor cores, each a device, under a load of other work that left about a third
of them (jax 0.10.2; 12 minutes):

   1,000 images: 920 MiB, 24.3 images/s, 24,312 bytes each
  10,000 images: 963 MiB, 23.9 images/s, 23,082 bytes each
  a device computes in 99.8 % of the time
  reading a photograph takes 4.2 ms

Ten times the images take 5 % more memory. A device computes all the time: reading, copying and
writing hide behind it. Of each device by itself, in a later run of 3,000 images, again under other
work (`--counts 3000`, 2.5 minutes):

  a device computes in 99.2 % of the time
  device 0 computes in 93.1 % of the time
  device 1 computes in 90.5 % of the time

Of 1,000 images the trace holds a few steps only. Maps of gradients in halves hardly shrink when
compressed (24,576 bytes).

On paper, ImageNet's 1,281,167 training images with maps of 224x224x3 halves, on devices that
explain as many a second as one of these cores does small ones, and a hundred times as many:

  devices    hours   images/s   cores that read   output
     1 x1      29.26         12               0.1       3 MiB/s
     8 x1       3.66         97               0.4      26 MiB/s
   256 x1       0.11      3,113              13.2     839 MiB/s
     1 x100     0.29      1,216               5.2     328 MiB/s
     8 x100     0.04      9,729              41.2   2,623 MiB/s
   256 x100     0.00    311,322           1,318.8  83,948 MiB/s

Slow devices are the bottleneck themselves. From a fast one on it is reading, five cores for each
device, and the output: eight need 2.6 GiB/s, a fast local disk's whole bandwidth, and more of them
a bucket that many machines write at once. `dtype="uint8"` halves the output, and maps that are
summed over the channels, as those of the script are, are a third.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _turns
import jax
import numpy as np

from saliency_jax import attribution, data, models, runs, scale

IMAGENET = 1_281_167
DEVICES = (1, 8, 256)
# What XLA calls the work of a CPU device, of all that a trace holds, and what says of which one.
COMPUTING, DEVICE = "ThunkExecutor::Execute", "device_ordinal"
# Rows before which a trace has not begun: compilation, and the first steps.
WARM = 4
HOUR = 3600


@dataclasses.dataclass(frozen=True)
class Settings:
    model: str = "tiny-imagenet-robust"
    dataset: str = "tiny_imagenet/paper20"
    split: str = "train"
    counts: tuple[int, ...] = (1000, 10000)
    """How many of its images: the first for the trace too."""
    batch_size: int = 64
    photographs: Path | None = None
    """A folder SPLIT/CLASS/* of photographs, whose reading at 224 pixels is timed."""
    data_dir: Path | None = None


def run(settings: Settings, count: int, output: Path, progress: Callable[[int, int], Any]) -> None:
    scale.attribute(
        attribution.input_gradient,
        models.load(settings.model),
        settings.dataset,
        output,
        split=f"{settings.split}[:{count}]",
        batch_size=settings.batch_size,
        progress=progress,
        data_dir=settings.data_dir,
    )


def of_process(settings: Settings, count: int) -> tuple[float, float, float]:
    """Of a run in a process of its own: MiB at most, images a second, stored bytes an image."""
    times: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "maps")
        run(settings, count, output, lambda done, total: times.append((time.monotonic(), done)))
        size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    (begun, before), (ended, after) = times[WARM], times[-1]
    return _turns.peak(), (after - before) / (ended - begun), size / count


def busy(settings: Settings, count: int) -> dict[str, float]:
    """The shares of the time, from a trace, in which a device computes, and each of them."""
    with tempfile.TemporaryDirectory() as folder:
        calls = 0

        def progress(done: int, total: int) -> None:
            nonlocal calls
            calls += 1
            if calls == WARM:
                jax.profiler.start_trace(f"{folder}/trace")
            # Before the last steps, after which there is nothing to compute.
            if total - done <= 3 * settings.batch_size * jax.device_count() and calls > WARM:
                jax.profiler.stop_trace()
                calls = -count

        run(settings, count, Path(folder, "maps"), progress)
        (file,) = Path(folder, "trace").rglob("*.xplane.pb")
        return shares_of(jax.profiler.ProfileData.from_file(str(file)))


def shares_of(trace: Any) -> dict[str, float]:
    """By device the share of the time from the first of all work to the last; first of any."""
    spans: dict[str, list[tuple[float, float]]] = {"a device": []}
    for plane in trace.planes:
        for line in plane.lines:
            for event in line.events:
                if event.name.startswith(COMPUTING):
                    spans["a device"].append((event.start_ns, event.end_ns))
                    # Only the spans of whole programs say whose they are.
                    if (device := dict(event.stats).get(DEVICE)) is not None:
                        spans.setdefault(f"device {device}", []).append(spans["a device"][-1])
    starts, ends = zip(*spans["a device"], strict=True)
    return {name: covered(spans[name]) / (max(ends) - min(starts)) for name in sorted(spans)}


def covered(spans: list[tuple[float, float]]) -> float:
    """How long at least one of the spans lasts."""
    total = until = 0.0
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def seconds_to_read(folder: Path) -> float:
    """Of a photograph at the size of EfficientNet-Lite0, on one core."""
    info = data.describe(str(folder))
    loaded = data.load(str(folder), info.test_split, 16, image_size=256)
    start = time.process_time()
    for number in range(len(loaded)):
        loaded.dataset[number]
    return (time.process_time() - start) / loaded.num_examples


def paper(images_a_second: float, bytes_an_image: float, seconds_to_read: float) -> str:
    """What ImageNet's training images cost on devices of this speed, and of a hundred times it."""
    lines = ["devices    hours   images/s   cores that read   output"]
    for speed in (1, 100):
        for devices in DEVICES:
            rate = images_a_second * speed * devices
            lines.append(
                f"{devices:>4} x{speed:<4}{IMAGENET / rate / HOUR:>8.2f}{rate:>11,.0f}"
                f"{rate * seconds_to_read:>18,.1f}{rate * bytes_an_image / 2**20:>8,.0f} MiB/s"
            )
    return "\n".join(lines)


def main(settings: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    rates = []
    for count in settings.counts:
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            peak, rate, size = pool.submit(of_process, settings, count).result()
        rates.append(rate)
        print(f"{count:>6,} images: {peak:,.0f} MiB, {rate:.1f} images/s, {size:,.0f} bytes each")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        for name, share in pool.submit(busy, settings, settings.counts[0]).result().items():
            print(f"{name} computes in {share:.1%} of the time")
    if settings.photographs is not None:
        reading = seconds_to_read(settings.photographs)
        print(f"reading a photograph takes {1000 * reading:.1f} ms")
        # A map of 224 x 224 x 3 halves, as it shrinks at 64.
        scaled = size * (224 / models.load(settings.model).input.size[0]) ** 2
        print(paper(float(np.max(rates)) / int(os.environ["JAX_NUM_CPU_DEVICES"]), scaled, reading))


if __name__ == "__main__":
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(os.cpu_count()))
    runs.from_command_line(main, Settings, __doc__ or "")
