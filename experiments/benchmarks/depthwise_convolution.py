"""What does a depthwise convolution cost, and its input gradient, beside lax's own?

  python experiments/benchmarks/depthwise_convolution.py

Layers of EfficientNet-Lite0 at 224x224, then the whole network, of one image: the forward pass and
the input gradient called alone, and the gradient as a step of a `lax.scan`; each by
`models.depthwise_convolution` and by `lax.conv_general_dilated(feature_group_count=channels)`.
"""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import tyro
from _measure import seconds
from jax import lax

from saliency_jax import models
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


def one_layer(convolve, side, channels, size, stride):
    kernel = 0.1 * jax.random.normal(jax.random.key(0), (size, size, 1, channels))
    padding = same_padding((side, side), size, stride)
    return lambda images: jnp.sum(convolve(images, kernel, stride=stride, padding=padding) ** 2)


def main(settings: Settings) -> None:
    print(f"{'':34s}{'forward':>12s}{'gradient':>12s}{'in a scan':>12s}")
    for name, convolve in (("ours", depthwise_convolution), ("lax's", library_convolution)):
        for side, channels, size, stride in LAYERS:
            case = f"{side}x{side}x{channels}, {size}x{size}/{stride}, {name}"
            energy = one_layer(convolve, side, channels, size, stride)
            measure(case, energy, (1, side, side, channels), settings)
        network = models.load("efficientnet-lite0").network
        with mock.patch.object(_efficientnet_lite, "depthwise_convolution", convolve):
            measure(
                f"EfficientNet-Lite0, {name}",
                lambda images, network=network: network(images[0])[0],
                (1, 224, 224, 3),
                settings,
            )


def measure(name, energy, shape, settings):
    images = jax.random.uniform(jax.random.key(1), shape)

    def step(images, _=None):
        return images + 1e-3 * jax.grad(energy)(images), None

    def loop(images):
        return lax.scan(step, images, length=settings.steps)[0]

    forward = seconds(jax.jit(energy), images, repeats=settings.repeats)
    alone = seconds(jax.jit(step), images, repeats=settings.repeats)
    looped = seconds(jax.jit(loop), images, repeats=settings.repeats) / settings.steps
    print(f"{name:34s}" + "".join(f"{1e3 * time:9.2f} ms" for time in (forward, alone, looped)))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
