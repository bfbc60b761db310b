"""What does `models.for_inference` save, forwards and of the input gradient?

  python experiments/benchmarks/inference.py

A bundled model at 64 pixels, EfficientNet-Lite0 and a ResNet-50 with random weights at 224, one
image and several: the network as it is and rewritten, in turn. Times are the processor's, of all
cores together, which other work on the machine disturbs least. Beside them |rewritten - as it is| /
|as it is| of the input gradients, and their correlation with those of bfloat16 and float16 inside.

Measured on two cores with AVX-512 (jax 0.10.2), which other work shared:

                       forwards  rewritten  ratio   gradient  rewritten  ratio  differs  bf16   f16
  tiny-imagenet   x  1    8.4 ms    7.8 ms   1.07    10.8 ms    10.1 ms   1.07    2e-07  .998  1.000
                  x 32     99 ms     96 ms   1.03     239 ms     222 ms   1.07
  EfficientNet    x  1   17.9 ms   16.8 ms   1.07      58 ms      53 ms   1.10    6e-03  .801  .972
                  x  8    166 ms    154 ms   1.08     415 ms     424 ms   0.98
  ResNet-50       x  1    101 ms    103 ms   0.98     226 ms     224 ms   1.01    4e-03  .923  .990
                  x  8    739 ms    785 ms   0.94    1714 ms    1685 ms   1.02

So folding saves little: the products are the work, and XLA joins what is left of a normalization to
the rectifier behind it. Tracing and compiling is what gets shorter, for the input gradient of one
image from 2.0 to 1.3 s and from 6.0 to 4.9 s (tiny-imagenet-robust, EfficientNet-Lite0). In single
precision a rectifier whose input is 0 up to rounding may open, which moves a gradient by 1e-3; in
double precision the two agree to 1e-10 (tests/test_inference.py). A map's correlation stays above
0.999 with float16 inside the tiny-imagenet models alone, and with bfloat16 nowhere.

What else was tried, in the processor's time:
- The input gradient of kernels that are larger than their maps as one product and shifted sums, not
  as a convolution with a kernel turned over, is in `models.convolution` for all: of one image of 64
  pixels 15.6 to 10.0 ms, of ResNet-50 216 to 192 ms. Of larger maps it is up to four times slower.
- Kernels kept turned over as well are no faster than that, and twice the weights, which whatever
  changes weights would have to change alike.
- Winograd's F(2x2, 3x3) and F(4x4, 3x3): about as fast on maps of 16 pixels and below, five and two
  times slower on 32; relevance propagation would not see the kernel.
- Convolutions as products of shifted images: 1.1 to 2 times slower forwards.
- Blocks of pixels as channels under every stride: for a stem of 3x3 or 4x4 kernels 2 to 3 times as
  fast forwards, for ResNet-50's of 7x7 five times slower (15 and 70 ms of 8 images; the table has
  it so, since then it is left alone), deeper 1.3 to 4 times slower. A gradient by parities of
  pixels gains nothing.
- The image's normalization folded too: its mean cannot be, as zeros surround the normalized image.
- XLA's flags: convolutions and products already go to YNNPACK; what asks for oneDNN or XNNPACK
  leaves the program as it was, and vectors of 512 bits a product's time.
- Memory that the process keeps (`lab/frame.py`) in place of pages brought in anew at every call:
  of EfficientNet-Lite0's gradient 45 to 32 ms, of 32 images of 64 pixels 201 to 178 ms.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from _ours import load, photographs

from saliency_jax import models, runs

# The side of the images, and how many at once.
CASES = {
    "tiny-imagenet-robust": (64, (1, 32)),
    "efficientnet-lite0": (224, (1, 8)),
    "resnet50": (224, (1, 8)),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    networks: tuple[str, ...] = tuple(CASES)
    """Of those in the table."""
    repeats: int = 15
    """Turns, of whose timings the median counts."""


def logits(network, images):
    return jax.vmap(network)(images)


def gradients(network, images):
    return jax.vmap(jax.grad(lambda image: network(image)[0]))(images)


def in_turn(call: Callable, cases: list[tuple], repeats: int) -> list[float]:
    """Milliseconds of a call on each of several arguments, after one that compiles."""
    times = []
    for _ in range(repeats + 1):
        turn = []
        for arguments in cases:
            start = time.process_time()
            jax.block_until_ready(call(*arguments))
            turn.append(1e3 * (time.process_time() - start))
        times.append(turn)
    return [statistics.median(each) for each in zip(*times[1:], strict=True)]


def main(settings: Settings) -> None:
    titles = ("forwards", "rewritten", "ratio", "gradient", "rewritten", "ratio", "difference")
    print(f"{'':25s}" + "".join(f"{each:>11s}" for each in (*titles, "bfloat16", "float16")))
    for name in settings.networks:
        network = load(name)
        rewritten = models.for_inference(network)
        inside = [models.for_inference(network, dtype=each) for each in (jnp.bfloat16, jnp.float16)]
        side, counts = CASES[name]
        for count in counts:
            images = jnp.asarray(photographs(count, side))
            line = f"{name:20s} x {count:<3d}"
            for function in map(jax.jit, (logits, gradients)):
                cases = [(each, images) for each in (network, rewritten)]
                before, after = in_turn(function, cases, settings.repeats)
                line += f"{before:8.1f} ms{after:8.1f} ms{before / after:11.2f}"
            exact, equal, *halves = (
                np.asarray(jax.jit(gradients)(each, images[:1])).ravel()
                for each in (network, rewritten, *inside)
            )
            line += f"{np.linalg.norm(equal - exact) / np.linalg.norm(exact):11.0e}"
            line += "".join(f"{np.corrcoef(half, exact)[0, 1]:11.4f}" for half in halves)
            print(line, flush=True)


if __name__ == "__main__":
    runs.from_command_line(main, Settings, __doc__ or "")
