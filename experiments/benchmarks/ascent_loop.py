"""What does an ascent step cost inside a `lax.scan`, against the same step called alone?

  python experiments/benchmarks/ascent_loop.py

XLA's CPU compiler gives up its fast convolutions inside loops; `models.convolution` is written so
that it need not. For the bundled architecture, and for single 3x3 convolutions of stride 1 and 2
(forward and input gradient), this prints the time of one step called alone, of one step in a scan,
and their ratio; then the same with JAX's own convolution.

Measured on two processor cores (jax 0.10.2; ten images, ten steps, median of seven):

                                     alone   in a scan   ratio
  ResNet-18, width 32, 64x64       43.8 ms     46.6 ms    1.06
  3x3, stride 1, ours               3.1 ms      2.9 ms    0.95
  3x3, stride 2, ours               1.5 ms      1.4 ms    0.92
  3x3, stride 1, JAX's              3.2 ms     41.8 ms   13.20
  3x3, stride 2, JAX's              1.5 ms      7.2 ms    4.93
"""

import dataclasses

import jax
import jax.numpy as jnp
from _measure import seconds
from flax import nnx
from jax import lax

from saliency_jax import models, runs
from saliency_jax.models import convolution


@dataclasses.dataclass(frozen=True)
class Settings:
    batch_size: int = 10
    """Images at once."""
    steps: int = 10
    """Steps in the scan."""
    repeats: int = 7
    """Timings, of which the median counts."""


def library_convolution(images, kernel, *, stride, padding):
    return lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        ((padding, padding),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def one_convolution(convolve, stride):
    """The energy of one convolution of 32 channels."""
    kernel = 0.1 * jax.random.normal(jax.random.key(0), (3, 3, 32, 32))
    return lambda images: jnp.sum(convolve(images, kernel, stride=stride, padding=1) ** 2)


def network():
    model = models.ResNet(18, 20, width=32, stem=models.HALVING_STEM, even=True, rngs=nnx.Rngs(0))
    return lambda images: jax.vmap(model)(images)[:, 0].sum()


def main(settings: Settings) -> None:
    small = (settings.batch_size, 32, 32, 32)
    cases = {
        "ResNet-18, width 32, 64x64": (network(), (settings.batch_size, 64, 64, 3)),
        "3x3, stride 1, ours": (one_convolution(convolution, 1), small),
        "3x3, stride 2, ours": (one_convolution(convolution, 2), small),
        "3x3, stride 1, JAX's": (one_convolution(library_convolution, 1), small),
        "3x3, stride 2, JAX's": (one_convolution(library_convolution, 2), small),
    }
    print(f"{'':28s}{'alone':>12s}{'in a scan':>12s}{'ratio':>8s}")
    for name, (energy, shape) in cases.items():

        def step(images, _=None, energy=energy):
            return images + 1e-3 * jax.grad(energy)(images), None

        def loop(images, step=step):
            return lax.scan(step, images, length=settings.steps)[0]

        images = jax.random.uniform(jax.random.key(1), shape)
        alone = seconds(jax.jit(step), images, repeats=settings.repeats)
        looped = seconds(jax.jit(loop), images, repeats=settings.repeats) / settings.steps
        print(f"{name:28s}{1e3 * alone:9.1f} ms{1e3 * looped:9.1f} ms{looped / alone:8.2f}")


if __name__ == "__main__":
    runs.from_command_line(main, Settings, __doc__ or "")
