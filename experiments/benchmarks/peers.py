"""How fast are the methods beside other libraries, on the same weights and images, in one run?

  python -m pip install -e ".[bench,parity]" && python -m pip install grad-cam zennit
  python experiments/benchmarks/peers.py
  python experiments/benchmarks/peers.py --networks resnet50 --output runs/peers
  python experiments/benchmarks/peers.py --quick

Every library has a process of its own, with as many threads, in which a task is first prepared and
called once; then the libraries take turns, each asleep while another measures. A turn is one call,
and more until `--seconds` are over; of `--rounds` turns' medians the median and the quartiles
count. What the first calls return is compared, and a library that does not return the same has no
time: `Task.tolerance` says how much may differ, relative and L2, or 1 - the correlation of what is
drawn at random and of Grad-CAM, which some libraries scale; in bfloat16 20 times as much, up to a
half. A star marks times during which other processes had over 5 % of the cores.

Captum is taken as it comes, with images in PyTorch's channels_last layout, and with the network in
`torch.compile`; what it lacks is a plain loop in PyTorch there. A library that is not installed, or
has no such method, says so. At 224 pixels some tasks have fewer steps, samples or images: a call's
time is proportional to them, as the part `costs` measures.

The parts: `tasks`, the comparison; `costs`, the time over steps, images, labels, side and cores,
with the exponent of each; `memory`, the peak of a process over steps and images; `limit`, the
GFLOP/s of input gradients beside those of a product and of a convolution; `first-picture`, the
seconds from the README's first command to its first picture and to its end, without and with a
compilation cache. Everything is kept in `--output` as it is measured: the same command goes on, and
other networks, tasks and parts are added. Its tables and figures are of all that was measured.

Measured on two idle cores with AVX-512, 276 GFLOP/s in a product (jax 0.10.2, torch 2.13, captum
0.9.0; at 224 pixels beside Captum alone); the README has the table. Captum as it comes takes 1.36
times our time on the pair, 2.2 times on EfficientNet-Lite0 and 1.41 times on ResNet-50 (geometric
means), 1.55 times over all, and the fastest peer of each task 1.24, 1.55 and 1.13. Two were to be
reached, and no task was to be slower than its fastest peer by over 5 %: RISE (1.08) and occlusion
(1.06) are on the pair, and SmoothGrad (1.13), deletion and insertion (both 1.09) on ResNet-50, each
time than `torch.compile`. Over steps our time grows with exponent 0.94 and Captum's with 0.97, over
images 0.81 and 0.79, over labels 0.52 and 0.65, over the side 1.20 and 1.12; two cores are 1.7
times as fast as one for both. The README's command has its first picture after 70 s and ends after
81, with a compilation cache after 57 and 64 s, which is 1.26 times as fast and was to be 1.5: what
compiling took, 16 s, is gone, and the rest is the ascent's.

Why it is not more on the pair and on ResNet-50: our input gradients run at 181 and 175 GFLOP/s, two
thirds of a product and three quarters of a convolution of 256 channels, and PyTorch's nearly so:
all do the same operations near what the cores can. EfficientNet-Lite0's run at 62, as depthwise
convolutions wait for memory. What was tried on the pair:
- 16 images at once in place of 32, 8 on each device: forward passes alone 1.3 to 1.5 times the
  fastest peer's. XLA runs several convolutions of few images as one operation, which is slow (2.4
  and not 1.4 ms an image). `--xla_cpu_experimental_ynn_fusion_type=individual_dot,
  individual_convolution` mends that (1.5), but is slower from 12 images on (1.45 and not 1.35).
- Memory that processes keep (MALLOC_MMAP_MAX_=0 and so on), for all libraries alike: RISE 1.70 to
  1.34 s here, and 1.43 to 1.19 s in `torch.compile`; the others as before. Left out.
- One gradient of one image under a mesh: every device computes it, 9.1 and not 6.7 ms. Left alone.
- ResNet-50 with 32 images at once in place of 16, so that each device has more than 12: SmoothGrad
  takes `torch.compile` 1.10 times as long as ours, deletion 0.97 (2,971 and 2,762 ms ours).
- Curves with each image's steps shared out: 2.6 s; image by image, as sweeps do it: 1.37 s.
- What `inference.py` lists: Winograd's convolutions, products of shifted images, blocks of pixels.

On an accelerator, with rows in bfloat16, a choice that is to take some minutes:

  python experiments/benchmarks/peers.py --device gpu --dtype float32 bfloat16 --parts tasks limit \
    --networks resnet50 --tasks saliency saliency-batch path smoothgrad pgd visualization \
    --libraries ours Captum "Captum, channels_last" "Captum, compiled" --output runs/gpu
"""

import dataclasses
import datetime
import importlib.metadata
import itertools
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tyro
from _peers_report import (
    CAPTUM,
    LIBRARIES,
    NO_METHOD,
    ONE_DEVICE,
    OURS,
    TASKS,
    Measured,
    Store,
    Task,
    report,
)
from _turns import Library, ProcessError

from saliency_jax import runs
from saliency_jax.runs import whole

HERE = Path(__file__).parent
PAIR = "tiny-imagenet-standard"
SIDES = {PAIR: 64, "efficientnet-lite0": 224, "resnet50": 224}
# How many times as much as in single precision may differ.
HALF_TOLERANCE = 20
PARTS = ("tasks", "costs", "memory", "limit", "first-picture")
PACKAGES = ("jax", "jaxlib", "torch", "captum", "saliency", "grad-cam", "zennit", "quantus")


NetworkName = tyro.extras.literal_type_from_choices(SIDES)
TaskName = tyro.extras.literal_type_from_choices(TASKS)
LibraryName = tyro.extras.literal_type_from_choices(LIBRARIES)
PartName = tyro.extras.literal_type_from_choices(PARTS)


@dataclasses.dataclass(frozen=True)
class Settings:
    output: Path = Path("runs/peers")
    """Folder of the measurements, which a later run goes on with."""
    networks: tuple[NetworkName, ...] = tuple(SIDES)
    """efficientnet-lite0 and resnet50, of random weights, take images of 224 pixels."""
    tasks: tuple[TaskName, ...] = tuple(TASKS)
    libraries: tuple[LibraryName, ...] = tuple(LIBRARIES)
    """Ours is always among them."""
    parts: tuple[PartName, ...] = PARTS
    rounds: int = 5
    """Turns of each library."""
    seconds: float = 0.3
    """What a turn takes at least."""
    batch_size: int | None = None
    """Images at once, in all libraries; if none 32 of 64 pixels, 16 of larger ones."""
    threads: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    """Cores of each library."""
    device: Literal["cpu", "gpu"] = "cpu"
    dtype: tuple[Literal["float32", "bfloat16"], ...] = ("float32",)
    """Of weights and images."""
    quick: bool = False
    """Two rounds, few steps and samples, to see that all works."""


class Libraries:
    """The processes of all libraries for one network, started when they are first asked for."""

    def __init__(self, network: str, dtype: str, settings: Settings, side: int | None = None):
        self._network, self._dtype, self._settings = network, dtype, settings
        self._side = side or SIDES[network]
        self._started: dict[str, Library] = {}
        self._problems: dict[str, ProcessError] = {}

    def __enter__(self) -> "Libraries":
        return self

    def __exit__(self, *error: Any) -> None:
        for library in self._started.values():
            library.close()

    def get(self, name: str) -> Library:
        """A library's process.

        Raises:
          ProcessError: it cannot be started, now or when it was first asked for.
        """
        if name in self._problems:
            raise self._problems[name]
        if name not in self._started:
            try:
                self._started[name] = self._start(name)
            except ProcessError as error:
                self._problems[name] = error
                raise
        return self._started[name]

    def _start(self, name: str) -> Library:
        settings, is_gpu = self._settings, self._settings.device == "gpu"
        source, options = LIBRARIES[name]
        few = self._side > SIDES[PAIR]
        batch_size = settings.batch_size or (16 if few else 32)
        options = options | {"batch_size": batch_size, "dtype": self._dtype}
        environment = {"PYTHONWARNINGS": "ignore", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        if source.startswith("_ours"):
            cores = options["cores"] or (1 if is_gpu else settings.threads)
            options |= {"cores": cores, "network": self._network, "side": self._side}
            environment |= {
                "JAX_PLATFORMS": "cuda" if is_gpu else "cpu",
                "JAX_NUM_CPU_DEVICES": str(cores),
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            }
        else:
            options |= {"inputs": self.get(OURS).ask("inputs"), "threads": settings.threads}
            options |= {"device": "cuda" if is_gpu else "cpu"}
        log = settings.output / "libraries.log"
        return Library(source, options, environment, log, settings.threads)


def compare(libraries: Libraries, task: Task, count: int, settings: Settings) -> dict[str, Any]:
    """Every library's times of one task, of those that return the same, and the date."""
    measured: dict[str, Measured] = {}
    ready: dict[str, Library] = {}
    for name in dict.fromkeys((OURS, *settings.libraries)):
        try:
            library = libraries.get(name)
            prepared = library.prepare(task.method, count)
        except ProcessError as error:
            measured[name] = Measured(problem=str(error))
            continue
        if prepared is None:
            measured[name] = Measured(problem=NO_METHOD)
            continue
        if name == OURS:
            reference = prepared.result
        elif OURS not in ready:
            measured[name] = Measured(problem="there is nothing to compare it with")
            continue
        differing = difference(task, reference, prepared.result)
        if differing <= task.tolerance:
            ready[name] = library
        problem = "" if name in ready else "does not return the same"
        measured[name] = Measured([], prepared.first, differing, 0.0, problem)
    for _ in range(settings.rounds):
        for name, library in ready.items():
            turn, row = library.turn(settings.seconds), measured[name]
            seconds = [*row.seconds, statistics.median(turn.seconds)]
            measured[name] = row._replace(seconds=seconds, others=max(row.others, turn.others))
    date = datetime.datetime.now().isoformat(" ", "minutes")
    return {"date": date, **{name: row._asdict() for name, row in measured.items()}}


def difference(task: Task, ours: np.ndarray, theirs: np.ndarray) -> float:
    """The relative L2 difference, or 1 - the correlation where the task says so."""
    if task.method == "deletion":  # Quantus has no value for the whole image.
        ours = ours[:, -theirs.shape[1] :]
    if ours.shape != theirs.shape:
        return math.inf
    if task.correlated:
        return 1 - float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1])
    return float(np.linalg.norm(theirs - ours) / np.linalg.norm(ours))


def in_precision(task: Task, dtype: str) -> Task:
    """The task, of which more may differ in half precision."""
    factor = 1 if dtype == "float32" else HALF_TOLERANCE
    return task._replace(tolerance=min(0.5, factor * task.tolerance))


def measure_tasks(settings: Settings, store: Store) -> None:
    for network, dtype in itertools.product(settings.networks, settings.dtype):
        with Libraries(network, dtype, settings) as libraries:
            for name in settings.tasks:
                task = in_precision(TASKS[name], dtype)
                count = task.counts[2 if settings.quick else SIDES[network] > 64]
                key = network, dtype, name, count
                if not store.has("tasks", key):
                    store.keep("tasks", key, compare(libraries, task, count, settings))
                    print(f"{network}, {dtype}: {task.title.format(count)}", flush=True)


def timed(libraries: Libraries, name: str, method: str, count: int, settings: Settings) -> float:
    """The median seconds of a library's turns, nan if it cannot."""
    try:
        library = libraries.get(name)
        if library.prepare(method, count) is None:
            return math.nan
    except ProcessError:
        return math.nan
    turns = [library.turn(settings.seconds) for _ in range(settings.rounds)]
    return statistics.median(statistics.median(turn.seconds) for turn in turns)


class Cost(NamedTuple):
    """A point of the part `costs`: what a call is measured over, and the call."""

    axis: str
    value: int
    method: str
    argument: int
    side: int = 64
    threads: int = 0


def cost_points(settings: Settings) -> list[Cost]:
    threads = settings.threads
    groups = (
        [Cost("steps", n, "integrated_gradients", n) for n in (8, 16, 32, 64, 128, 256)],
        [Cost("images", n, "saliency", n) for n in (1, 2, 4, 8, 16, 32, 64)],
        [Cost("labels", n, "several_labels", n) for n in (1, 2, 4, 8, 16)],
        [Cost("side", side, "saliency", 1, side) for side in (32, 64, 128, 256)],
        [Cost("cores", n, "saliency", 32, threads=n) for n in range(1, threads + 1)],
    )
    return [point for group in groups for point in group[: 2 if settings.quick else None]]


def measure_costs(settings: Settings, store: Store) -> None:
    """Of the pair's standard network."""
    places = itertools.groupby(cost_points(settings), lambda point: (point.side, point.threads))
    for (side, threads), points in places:
        chosen = dataclasses.replace(settings, threads=threads or settings.threads)
        with Libraries(PAIR, settings.dtype[0], chosen, side) as libraries:
            for point, name in itertools.product(points, (OURS, CAPTUM)):
                key = PAIR, point.axis, point.value, name
                if not store.has("costs", key):
                    seconds = timed(libraries, name, point.method, point.argument, settings)
                    store.keep("costs", key, seconds)


def measure_memory(settings: Settings, store: Store) -> None:
    """Of processes that do one thing each."""
    points = [("integrated_gradients", 50), ("integrated_gradients", 500)]
    points += [("saliency", 1), ("saliency", 32)]
    for (method, count), name in itertools.product(points, (OURS, CAPTUM)):
        key = PAIR, method, count, name
        if not store.has("memory", key):
            with Libraries(PAIR, settings.dtype[0], settings) as libraries:
                try:
                    libraries.get(name).prepare(method, count)
                    taken = libraries.get(name).ask("peak")
                except ProcessError:
                    taken = math.nan
            store.keep("memory", key, taken)


def measure_limit(settings: Settings, store: Store) -> None:
    """GFLOP/s of a product, of a convolution, and of the networks' input gradients."""
    side, maps, images = (8192, 256, 256) if settings.device == "gpu" else (2048, 16, 32)
    if settings.quick:
        side, maps, images = 256, 2, 2
    ceilings = {"product": 2 * side**3, "convolution": 2 * maps * 9 * (28 * 256) ** 2}

    def work(libraries: Libraries, method: str, count: int) -> float:
        """The operations of a call, of a network's program as its own."""
        if method in ceilings:
            return ceilings[method]
        one = libraries.get(ONE_DEVICE)
        one.prepare(method, count)
        return one.ask("operations")

    counts = {"product": side, "convolution": maps, "saliency": images}
    for network, dtype in itertools.product(settings.networks, settings.dtype):
        with Libraries(network, dtype, settings) as libraries:
            for method, count in counts.items():
                key = network, dtype, method, count
                if not store.has("limit", key):
                    names = ONE_DEVICE, OURS
                    fastest = min(timed(libraries, name, method, count, settings) for name in names)
                    store.keep("limit", key, work(libraries, method, count) / fastest / 1e9)


def measure_first_picture(settings: Settings, store: Store) -> None:
    """Seconds from the start of the README's script to its first picture, and to its end."""
    script = HERE.parent / "class_visualization.py"
    flags = ["--model", "tiny-imagenet-robust", "--steps", "2"] if settings.quick else []
    names = "without a cache", "with a cache"
    if all(store.has("first-picture", (name,)) for name in names):
        return
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": f"{folder}/caches"}
        for name in names:
            runs = Path(folder, name)
            runs.mkdir()
            command = [sys.executable, str(script), "--output", str(runs / "run"), *flags]
            start, first = time.perf_counter(), math.nan
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
            while process.poll() is None:
                time.sleep(0.05)
                if math.isnan(first) and any(runs.rglob("*.png")):
                    first = time.perf_counter() - start
            if process.returncode:
                raise RuntimeError(f"{script.name} ended with status {process.returncode}")
            store.keep("first-picture", (name,), [first, time.perf_counter() - start])


def machine(settings: Settings) -> dict[str, Any]:
    """What the numbers were measured on."""
    model, flags = platform.processor() or platform.machine(), ""
    path = Path("/proc/cpuinfo")
    if path.exists():
        lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        fields = {name.strip(): value.strip() for name, value in lines.items()}
        model, flags = fields.get("model name", model), fields.get("flags", "")
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": settings.threads,
        "AVX-512": "avx512f" in flags.split(),
        "device": accelerator() if settings.device == "gpu" else "cpu",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": versions,
    }


def accelerator() -> str:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


MEASUREMENTS: Mapping[str, Callable[[Settings, Store], None]] = {
    "tasks": measure_tasks,
    "costs": measure_costs,
    "memory": measure_memory,
    "limit": measure_limit,
    "first-picture": measure_first_picture,
}


def main(settings: Settings) -> None:
    if settings.quick:
        settings = dataclasses.replace(settings, rounds=2, seconds=0.0)
    store = Store(settings.output, machine(settings))
    for part in settings.parts:
        MEASUREMENTS[part](settings, store)
    text = report(store)
    with whole(settings.output / "peers.md") as partial:
        partial.write_text(text + "\n")
    print(text)
    print(f"\nwhat was measured is in {settings.output.resolve()}")


if __name__ == "__main__":
    runs.from_command_line(main, Settings, __doc__ or "")
