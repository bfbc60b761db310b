"""What do the backward rules cost, beside the plain gradient?

  python experiments/benchmarks/backward_rules.py
  python experiments/benchmarks/backward_rules.py --depth 18 --batch 4

Saliency's gradient, guided backpropagation, relevance by two composites and DeepLIFT, of a batch of
images at 224x224 through a ResNet with random weights: the median time, beside the gradient's; the
seconds that tracing and compiling take; and what the compiled program takes beside its arguments
and its result.

Measured on two idle processor cores, eight images through a ResNet-50, three rounds; the gradient
took 0.97 s:

                                   x gradient   compiling         MiB
  gradient                               1.00         2.2         392
  guided backpropagation                 0.97         2.5         392
  LRP, epsilon-plus                      2.27         5.5         660
  LRP, epsilon-gamma-box                 1.76         5.2         543
  DeepLIFT                               1.13         4.3         543
  DeepLIFT, RevealCancel                 5.92        22.1        1315

Relevance by epsilon-plus takes the products of both signs of the weights, and so twice as many as
the forward pass; what it works out besides is not kept. RevealCancel takes four times as many, in
either direction.

What relevance takes in memory beside the gradient's are copies of the weights, one of their
magnitudes or two by their signs, whatever the batch: on processors XLA works them out for all
layers at once, early, for the sake of concurrency. Without that

  XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=false \\
      python experiments/benchmarks/backward_rules.py

the gradient takes 383 MiB, relevance by epsilon-plus 389 and by epsilon-gamma-box 380, DeepLIFT
434, RevealCancel 1284.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from _measure import MEBIBYTE
from flax import nnx

from saliency_jax import attribution, models, rules, runs, scores

SIDE = 224
COLUMNS = ("s", "x gradient", "compiling", "MiB")
METHODS: Mapping[str, Callable] = {
    "gradient": attribution.input_gradient,
    "guided backpropagation": rules.guided_backprop,
    "LRP, epsilon-plus": rules.lrp,
    "LRP, epsilon-gamma-box": lambda score, image: rules.lrp(
        score, image, composite=rules.epsilon_gamma_box()
    ),
    "DeepLIFT": rules.deep_lift,
    "DeepLIFT, RevealCancel": lambda score, image: rules.deep_lift(
        score, image, rule=rules.reveal_cancel
    ),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    depth: int = 50
    """Of the ResNet."""
    batch: int = 8
    """Images at once."""
    rounds: int = 5
    """Each times every method once; medians count."""


def main(settings: Settings) -> None:
    network = models.ResNet(settings.depth, 1000, rngs=nnx.Rngs(0))
    images = jax.random.uniform(jax.random.key(0), (settings.batch, SIDE, SIDE, 3))
    programs: dict[str, Any] = {}
    compiling = {}
    for name, method in METHODS.items():

        def explain(network, images, method=method):
            return jax.vmap(lambda image: method(scores.logit(network, 3), image))(images)

        start = time.perf_counter()
        programs[name] = jax.jit(explain).lower(network, images).compile()
        compiling[name] = time.perf_counter() - start
        jax.block_until_ready(programs[name](network, images))
    # In turn, so that what else the machine does slows all of them.
    rounds: list[dict[str, float]] = []
    for _ in range(settings.rounds):
        rounds.append({})
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(network, images))
            rounds[-1][name] = time.perf_counter() - start
    print(f"{'':26s}" + "".join(f"{column:>12s}" for column in COLUMNS))
    for name, program in programs.items():
        taken = statistics.median(each[name] for each in rounds)
        ratio = statistics.median(each[name] / each["gradient"] for each in rounds)
        memory = program.memory_analysis().temp_size_in_bytes / MEBIBYTE
        print(f"{name:26s}{taken:12.2f}{ratio:12.2f}{compiling[name]:12.1f}{memory:12.0f}")


if __name__ == "__main__":
    runs.from_command_line(main, Settings, __doc__ or "")
