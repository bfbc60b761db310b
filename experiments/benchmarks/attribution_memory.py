"""Do 50 and 5,000 steps need the same memory, and what does a map of each method take?

  python experiments/benchmarks/attribution_memory.py
  python experiments/benchmarks/attribution_memory.py --model efficientnet-lite0 --figures
  python experiments/benchmarks/attribution_memory.py --figures --method lrp deep_lift

For every method that takes many scores, this prints what XLA plans for the compiled program beside
weights, image and result: for 50 steps, samples or hidden parts, for 5,000 in the same batches of
16, and for 5,000 in one batch. Then the peak of a whole process (Linux) that runs a method that
differentiates and one that does not, with JAX, the model and the compiler in it.

Measured for a bundled ResNet-18 at 64x64 on two processor cores (jax 0.10.2; 3 minutes;
16 segments from lime on; occlusion and ablation of 49 and 4,096 parts):

  compiled program                      50       5,000     5,000 at once
  smoothgrad                      28.2 MiB    32.0 MiB         6,262 MiB
  vargrad                         28.3 MiB    32.1 MiB         6,263 MiB
  integrated_gradients            28.5 MiB    31.9 MiB         6,262 MiB
  blur_integrated_gradients       29.4 MiB    33.7 MiB         6,496 MiB
  guided_integrated_gradients     14.0 MiB    14.1 MiB            14 MiB
  expected_gradients              28.7 MiB    32.7 MiB         6,496 MiB
  occlusion                       11.9 MiB    15.6 MiB         2,640 MiB
  feature_ablation                11.8 MiB    15.5 MiB         2,560 MiB
  rise                            12.0 MiB    15.8 MiB         3,203 MiB
  lime                            11.8 MiB    16.0 MiB         3,125 MiB
  kernel_shap                     11.8 MiB    15.7 MiB         3,125 MiB
  sampled_shapley_values          15.5 MiB    16.8 MiB        53,125 MiB
  total_sobol_indices             15.5 MiB    17.1 MiB        53,125 MiB
  hsic                            11.8 MiB    16.5 MiB         3,125 MiB

  process that runs it
  integrated_gradients             505 MiB     522 MiB
  rise                             470 MiB     480 MiB

So memory is that of one batch: 50 samples are cut into four batches of 13, 5,000 into 313 of 16,
which is most of the difference between the first two columns; the rest is a key, a node, a score
or a row of segments for each sample. Guided integrated gradients take one step after the other, and
no batch. Two methods take 17 or 18 scores for each sample, hence their last column.

With `--figures`: the time and memory of one map of a photograph by each method that suits the
model, with the settings of the scripts' figures. The time is a ratio to that of saliency just
before it, in a process like it; the peak is that of the whole process, most of it JAX, the model
and the compiler. Measured for EfficientNet-Lite0 at 224
pixels in batches of 16, in 22 minutes on two processor cores while other work ran beside, so that
times are uncertain by a third: saliency took 1.3 times its own.

  one map                         time     program     process
  saliency                         1.3      33 MiB     613 MiB
  gradient                         0.8      33 MiB     601 MiB
  input_x_gradient                 0.9      33 MiB     604 MiB
  ten_crop                        16.9     273 MiB     874 MiB
  smoothgrad                      45.0     428 MiB   1,094 MiB
  smoothgrad_squared              54.7     428 MiB   1,093 MiB
  vargrad                         44.4     430 MiB   1,309 MiB
  integrated_gradients            52.9     527 MiB   1,188 MiB
  expected_gradients              50.5     544 MiB   1,261 MiB
  blur_integrated_gradients       54.5     535 MiB   1,232 MiB
  guided_integrated_gradients    376.1      37 MiB     667 MiB
  guided_backprop                    -      33 MiB     625 MiB
  deconvnet                          -       6 MiB     523 MiB
  guided_grad_cam                    -      33 MiB     630 MiB
  lrp                                -      61 MiB     901 MiB
  lrp_epsilon_gamma_box              -      57 MiB     907 MiB
  deep_lift                          -      65 MiB     708 MiB
  deep_shap                         32     576 MiB   1,327 MiB
  xrai                           110.5     620 MiB   1,398 MiB
  grad_cam                         0.4       9 MiB     530 MiB
  grad_cam_plus_plus               0.3       9 MiB     530 MiB
  layer_cam                        0.3       9 MiB     533 MiB
  score_cam                      629.0     149 MiB     837 MiB
  occlusion                       71.4     141 MiB     800 MiB
  feature_ablation                21.1     151 MiB     807 MiB
  rise                           396.6     152 MiB     746 MiB
  lime                           413.6     149 MiB     707 MiB
  kernel_shap                    331.9     149 MiB     751 MiB
  sampled_shapley_values         604.5     149 MiB     720 MiB
  total_sobol_indices            606.4     149 MiB     717 MiB
  hsic                           363.0     150 MiB     732 MiB

At 224 pixels every method stays under 1.4 GiB. The activation maps are the cheapest; Score-CAM, of
1,280 feature maps, and the methods that draw a thousand masks are hundreds of times dearer than a
gradient. Guided integrated gradients take 200 steps, other paths 64. The backward rules were
measured apart, when so much else ran that a single call says nothing of its time, which
backward_rules.py has; DeconvNet needs nothing of the forward pass.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from _measure import MEBIBYTE, planned, seconds
from _turns import peak

sys.path.insert(0, str(Path(__file__).parents[1]))  # What the experiments share.
from lab import methods, photographs
from lab.methods import METHODS, Case

from saliency_jax import models, runs, scores
from saliency_jax.segments import grid_segments

ALL_AT_ONCE = 10**9
SEGMENTS = (4, 4)
# One that differentiates and one that does not.
RUN_IN_PROCESSES = ("integrated_gradients", "rise")


@dataclasses.dataclass(frozen=True)
class Settings:
    model: str = "tiny-imagenet-standard"
    """A bundled model, or the folder of a saved one."""
    few: int = 50
    """Steps, samples or hidden parts of the first column."""
    many: int = 5000
    """Those of the others; parts are at most the image's pixels."""
    batch_size: int = 16
    """Images at once, but for the last column."""
    figures: bool = False
    """Instead: what one map of a photograph takes by each method's settings for figures."""
    method: tuple[methods.Name, ...] = ()
    """Of these methods alone, with `--figures`; all that suit the model if none."""


def bound(name: str, image: jax.Array, count: int, batch_size: int) -> Callable:
    """A method, from score and image, of that many steps, samples or hidden parts."""
    method, side = METHODS[name], min(image.shape[:2])
    cells = min(round(count**0.5), side)
    width = -(-side // cells)
    settings: dict[str, Any] = dict.fromkeys(method.uses.benchmark, count)
    if "segments" in method.needs:
        settings["segments"] = grid_segments(image, SEGMENTS if settings else (cells, cells))
    if "window" in method.needs:
        settings |= {"window": (width, width), "stride": (width, width)}
    return lambda score, image: method(score, Case(image, score.model, batch_size), settings)


def score_and_image(name: str) -> tuple[Callable, jax.Array]:
    classifier = models.load(name)
    shape = (*classifier.input.size, classifier.input.channels)
    image = jax.random.uniform(jax.random.key(1), shape)
    return scores.logit(classifier.network, 0), image


def taken(name: str, model: str, count: int, batch_size: int) -> float:
    """MiB that this process has taken at most when it has run the method once (Linux)."""
    score, image = score_and_image(model)
    jax.block_until_ready(jax.jit(bound(name, image, count, batch_size))(score, image))
    return peak()


class Taken(NamedTuple):
    """Of one map: seconds, and MiB of the compiled program and at most of its process (Linux)."""

    seconds: float
    program: float
    process: float


def one_map(name: str, model: str, batch_size: int) -> Taken:
    """What a map of a photograph takes by a method's settings for figures."""
    classifier, method = models.load(model), METHODS[name]
    image = classifier.preprocess(photographs.carried_photographs()[0].image)
    found = methods.regions(image[None])[0] if "regions" in method.needs else None

    def explain(network, image, found):
        case = Case(image, network, batch_size, found)
        return method.reduce(method(method.score(network, 0), case, method.uses.figure))

    arguments = classifier.network, jnp.asarray(image), found
    program: Any = jax.jit(explain).lower(*arguments).compile()
    taken = seconds(program, *arguments, repeats=1)
    return Taken(taken, program.memory_analysis().temp_size_in_bytes / MEBIBYTE, peak())


def of_figures(settings: Settings) -> None:
    """A row for each method, beside saliency as it is just before, as other work comes and goes."""
    print(f"{'one map':28s}{'time':>8s}{'program':>12s}{'process':>12s}")
    for name in settings.method or methods.suiting([models.load(settings.model)]):
        saliency, taken = (
            in_a_process(one_map, each, settings.model, settings.batch_size)
            for each in ("saliency", name)
        )
        ratio = taken.seconds / saliency.seconds
        sizes = f"{taken.program:8,.0f} MiB{taken.process:8,.0f} MiB"
        print(f"{name:28s}{ratio:8,.1f}{sizes}", flush=True)


def in_a_process(function: Callable, *arguments):
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


def main(settings: Settings) -> None:
    if settings.figures:
        of_figures(settings)
        return
    few, many = settings.few, settings.many
    print(f"compiled program{f'{few:,}':>24s}{f'{many:,}':>12s}{f'{many:,} at once':>18s}")
    score, image = score_and_image(settings.model)
    columns = ((few, settings.batch_size), (many, settings.batch_size), (many, ALL_AT_ONCE))
    for name, method in METHODS.items():
        if method.uses.benchmark or {"segments", "window"} & set(method.needs):
            sizes = [planned(bound(name, image, *column), score, image) for column in columns]
            cells = f"{sizes[0]:8.1f} MiB{sizes[1]:8.1f} MiB{sizes[2]:14,.0f} MiB"
            print(f"{name:28s}{cells}", flush=True)
    print("\nprocess that runs it")
    for name in RUN_IN_PROCESSES:
        sizes = [
            in_a_process(taken, name, settings.model, count, settings.batch_size)
            for count in (few, many)
        ]
        print(f"{name:28s}{sizes[0]:8.0f} MiB{sizes[1]:8.0f} MiB", flush=True)


if __name__ == "__main__":
    runs.from_command_line(main, Settings, __doc__ or "")
