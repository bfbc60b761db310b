"""What does a depthwise convolution cost, and its gradients, beside lax's own?

  python experiments/benchmarks/depthwise_convolution.py

Layers of EfficientNet-Lite0 at 224x224, then the whole network, of one image: the forward pass and
the input gradient called alone, that gradient as a step of a `lax.scan`, and the gradient of the
weights; each by `models.depthwise_convolution` and by
`lax.conv_general_dilated(feature_group_count=channels)`.

Measured on two processor cores: EfficientNet-Lite0's forward pass takes 10 ms by ours and 106 ms by
lax's, its input gradient 34 and 315 ms, 23 and 153 ms as a step of a scan, and the gradient of its
weights 66 and 757 ms. A layer's input gradient, alone, is 14 to 83 times as fast, its kernel's
gradient 9 to 257 times.
"""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
from _measure import seconds
from flax import nnx
from jax import lax

from saliency_jax import models, runs, training
from saliency_jax.models import _efficientnet_lite, depthwise_convolution, same_padding

# Side of the image, channels, side of the kernel, stride.
LAYERS = ((112, 32, 3, 1), (112, 96, 3, 2), (56, 144, 5, 2), (14, 480, 5, 1), (7, 1152, 5, 1))


@dataclasses.dataclass(frozen=True)
class Settings:
    steps: int = 5
    """Steps in the scan."""
    repeats: int = 7
    """Timings, of which the median counts."""


def library_convolution(images, kernel, *, stride, padding):
    return lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=images.shape[-1],
    )


def layer_energy(convolve, side, size, stride):
    padding = same_padding((side, side), size, stride)
    return lambda kernel, images: jnp.sum(
        convolve(images, kernel, stride=stride, padding=padding) ** 2
    )


def main(settings: Settings) -> None:
    columns = ("forward", "gradient", "in a scan", "of weights")
    print(f"{'':34s}" + "".join(f"{column:>12s}" for column in columns))
    for name, convolve in (("ours", depthwise_convolution), ("lax's", library_convolution)):
        for side, channels, size, stride in LAYERS:
            case = f"{side}x{side}x{channels}, {size}x{size}/{stride}, {name}"
            kernel = 0.1 * jax.random.normal(jax.random.key(0), (size, size, 1, channels))
            energy = layer_energy(convolve, side, size, stride)
            measure(case, energy, kernel, (1, side, side, channels), settings)
        network = models.load("efficientnet-lite0").network
        graphdef, params, batch_stats = training.split(network)

        def logit(params, images, graphdef=graphdef, batch_stats=batch_stats):
            return nnx.merge(graphdef, params, batch_stats, copy=True)(images[0])[0]

        with mock.patch.object(_efficientnet_lite, "depthwise_convolution", convolve):
            measure(f"EfficientNet-Lite0, {name}", logit, params, (1, 224, 224, 3), settings)


def measure(name, energy, weights, shape, settings):
    images = jax.random.uniform(jax.random.key(1), shape)

    def step(weights, images):
        return images + 1e-3 * jax.grad(energy, 1)(weights, images)

    def loop(weights, images):
        return lax.scan(
            lambda images, _: (step(weights, images), None), images, length=settings.steps
        )[0]

    functions = (energy, step, loop, jax.grad(energy))
    calls = (1, 1, settings.steps, 1)
    times = [
        seconds(jax.jit(function), weights, images, repeats=settings.repeats) / count
        for function, count in zip(functions, calls, strict=True)
    ]
    print(f"{name:34s}" + "".join(f"{1e3 * time:9.2f} ms" for time in times))


if __name__ == "__main__":
    runs.from_command_line(main, Settings, __doc__ or "")
