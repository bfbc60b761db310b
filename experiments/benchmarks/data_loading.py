"""How many images a second does `data.load` deliver, and by which setting?

Command: python experiments/benchmarks/data_loading.py
Needs: python -m saliency_jax.data tiny_imagenet/paper20
Cost: 45 s and 1 GB on 2 cores.
Measured for 64x64 JPEGs in shuffled batches of 128 on 2 cores, images a second:

    workers  dtype    before all other work  beside a training and a test run (load 6)
    0        uint8    5,690                  4,910
    0        float32  5,850                  4,230
    2        uint8    7,820                  4,060
    2        float32  7,520                  3,810

So: threads (workers 0) beside a training on the CPU, processes when the cores are free.
"""

import dataclasses
import itertools
import os
import time

import numpy as np

from saliency_jax import data, runs


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to read; the worker processes and data types are swept."""

    dataset: str = "tiny_imagenet/paper20"
    split: str = "train"
    batch_size: int = 128
    epochs: int = 3
    workers: tuple[int, ...] = (0, 1, 2)


def images_per_second(settings: Settings, workers: int, dtype: str) -> float:
    """The rate after the first batch, which waits for the worker processes to start."""
    batches = iter(
        data.load(
            settings.dataset,
            settings.split,
            settings.batch_size,
            seed=0,
            epochs=settings.epochs,
            workers=workers,
            dtype=dtype,
        )
    )
    next(batches)
    begin = time.perf_counter()
    count = sum(int(np.sum(batch["mask"])) for batch in batches)
    return count / (time.perf_counter() - begin)


def main(settings: Settings) -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start")
    for workers, dtype in itertools.product(settings.workers, ("uint8", "float32")):
        rate = images_per_second(settings, workers, dtype)
        print(f"workers {workers}  {dtype:7}  {rate:6,.0f} images/s", flush=True)


if __name__ == "__main__":
    runs.from_command_line(main, Settings, __doc__ or "")
