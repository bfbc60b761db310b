"""The tasks of `peers.py` by this library, and what its peers need to do the same ones."""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import skimage.data
from _tasks import (
    ATTACK_STEPS,
    CELLS,
    CURVE_STEPS,
    EPSILON,
    IMAGES,
    LEARNING_RATE,
    NOISE_SCALE,
    PICTURES,
    RISE_CELLS,
    STEP_SIZE,
    Inputs,
    windows,
)
from flax import nnx

from saliency_jax import (
    ascent,
    attacks,
    attribution,
    baselines,
    devices,
    metrics,
    models,
    rules,
    scores,
)
from saliency_jax.images import fit
from saliency_jax.segments import grid_segments

PHOTOGRAPHS = ("chelsea", "coffee", "rocket", "astronaut")
# The deepest map that each network makes.
LAYERS = {
    "tiny-imagenet-standard": "stage 4",
    "efficientnet-lite0": "stage 7",
    "resnet50": "stage 4",
}
RESIDUAL_SCALE = 0.8


def load(name: str) -> models.Network:
    """One that comes with the package, or a ResNet-50 with random weights."""
    if name != "resnet50":
        return models.load(name).network
    network = models.ResNet(50, 1000, rngs=nnx.Rngs(0))
    # As it is drawn it would be sure of one class, and no loss would have a gradient.
    for block in (block for stage in network.stages for block in stage):
        block.bn3.scale[...] = RESIDUAL_SCALE * block.bn3.scale[...]
    return network


# From (height, width, inputs, outputs) of a convolution and (inputs, outputs) of a matrix.
TORCH_AXES = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
TORCH_NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def weights(network: models.Network) -> dict[str, np.ndarray]:
    """A ResNet's weights by the names and in the layout of `_torch_networks.ResNet`."""
    state = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(network))):
        *layers, name = (str(entry.key) for entry in path)
        values = np.asarray(leaf)
        state[".".join([*layers, TORCH_NAMES.get(name, name)])] = np.ascontiguousarray(
            values.transpose(TORCH_AXES[values.ndim])
        )
    return state


def photographs(count: int, side: int) -> np.ndarray:
    """(count, side, side, 3), drawn square windows of scikit-image's photographs, in [0, 1]."""
    generator = np.random.default_rng(0)
    crops = []
    for number in range(count):
        name = PHOTOGRAPHS[number % len(PHOTOGRAPHS)]
        photograph = getattr(skimage.data, name)().astype(np.float32) / 255
        height, width, _ = photograph.shape
        extent = generator.integers(min(height, width) // 2, min(height, width) + 1)
        top, left = (generator.integers(size - extent + 1) for size in (height, width))
        crops.append(fit(photograph[top : top + extent, left : left + extent], side))
    return np.stack(crops)


class Ours:
    """See `_turns`: of every task the call is one compiled program, whose weights are arguments.

    The cores share out what is of several images, steps, samples or masks; one gradient of one
    image is computed on one device, whose operations have the threads of all of them.
    """

    def __init__(
        self,
        *,
        network: str,
        side: int,
        batch_size: int,
        dtype: str,
        cores: int,
        is_rewritten: bool = True,
    ):
        self.name, self.side, self.batch_size = network, side, batch_size
        self.trained = load(network)
        used = models.for_inference(self.trained) if is_rewritten else self.trained
        self.network = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), used)
        self.images = jnp.asarray(photographs(IMAGES, side), dtype)
        self.labels = jax.jit(_answers)(self.network, self.images)
        generator = np.random.default_rng(1)
        starts = generator.normal(0.5, 0.05, (PICTURES, side, side, 3)).clip(0, 1)
        self.starts = jnp.asarray(starts, dtype)
        self.maps = jnp.asarray(generator.random((IMAGES, side, side)), jnp.float32)
        self.segments = np.asarray(grid_segments(self.images[0], (CELLS,) * 2))
        self.mesh = devices.mesh(cores)
        self._program: tuple[Any, tuple] = (None, ())

    def inputs(self) -> Inputs:
        floats = (self.images, self.starts, self.maps)
        images, starts, maps = (np.asarray(each, np.float32) for each in floats)
        state = weights(self.trained) if isinstance(self.trained, models.ResNet) else {}
        labels = np.asarray(self.labels)
        return Inputs(images, labels, starts, maps, self.segments, state, self.trained.settings)

    def finish(self, result: Any) -> None:
        jax.block_until_ready(result)

    def array(self, result: Any) -> np.ndarray:
        return np.asarray(jax.tree.leaves(result)[-1], np.float32)

    def operations(self) -> float:
        """Floating-point operations of the prepared task's program on one device."""
        function, arguments = self._program
        return function.lower(*arguments).compile().cost_analysis()["flops"]

    def _compiled(
        self, function: Callable, *arguments: Any, shared: bool = True
    ) -> Callable[[], Any]:
        """The call of a function of the network and the arguments, under the mesh if shared."""
        alone = self.mesh.size == 1 or not shared
        place = self.mesh.devices[0] if alone else jax.NamedSharding(self.mesh, jax.P())
        taken = jax.device_put((self.network, *arguments), place)
        jitted = jax.jit(function)
        self._program = jitted, taken

        def call():
            with contextlib.nullcontext() if alone else jax.set_mesh(self.mesh):
                return jitted(*taken)

        return call

    def _of_rows(self, function: Callable, *arrays: jax.Array) -> Callable[[], Any]:
        """The same of a function of the network and of each row, which the devices share."""

        def of_rows(network, *arrays):
            return devices.vmap(lambda *row: function(network, *row))(*arrays)

        return self._compiled(of_rows, *arrays, shared=len(arrays[0]) > 1)

    def _of_images(self, method: Callable, count: int) -> Callable[[], Any]:
        def explain(network, image, label):
            return method(scores.logit(network, label), image)

        # Images come again where there are not so many.
        images = jnp.resize(self.images, (count, *self.images.shape[1:]))
        return self._of_rows(explain, images, jnp.resize(self.labels, (count,)))

    def _of_one(self, method: Callable, score: Callable = scores.logit) -> Callable[[], Any]:
        def explain(network, image, label):
            return method(score(network, label), image)[None]

        return self._compiled(explain, self.images[0], self.labels[0])

    def saliency(self, count: int) -> Callable[[], Any]:
        return self._of_images(attribution.saliency, count)

    def several_labels(self, count: int) -> Callable[[], Any]:
        def explain(network, image, labels):
            return devices.vmap(
                lambda label: attribution.saliency(scores.logit(network, label), image)
            )(labels)

        return self._compiled(explain, self.images[0], jnp.arange(count))

    def smoothgrad(self, count: int) -> Callable[[], Any]:
        options: dict = {"num_samples": count, "batch_size": self.batch_size}
        options |= {"noise_scale": NOISE_SCALE, "key": jax.random.key(0)}
        return self._of_one(functools.partial(attribution.smoothgrad, **options))

    def integrated_gradients(self, count: int) -> Callable[[], Any]:
        options: dict = {"steps": count, "rule": attribution.midpoint}
        options |= {"batch_size": self.batch_size}
        return self._of_one(functools.partial(attribution.integrated_gradients, **options))

    def grad_cam(self, count: int) -> Callable[[], Any]:
        def explain(network, image, label):
            layer = network.layer(LAYERS[self.name])
            return attribution.grad_cam(scores.logit(network, label), image, layer=layer)

        return self._of_rows(explain, self.images[:count], self.labels[:count])

    def occlusion(self, count: int) -> Callable[[], Any]:
        window, stride = windows(self.side, count)
        options: dict = {"window": (window,) * 2, "stride": (stride,) * 2}
        options |= {"batch_size": self.batch_size}
        return self._of_one(functools.partial(attribution.occlusion, **options))

    def rise(self, count: int) -> Callable[[], Any]:
        options: dict = {"num_samples": count, "cells": (RISE_CELLS,) * 2}
        options |= {"batch_size": self.batch_size, "key": jax.random.key(0)}
        return self._of_one(functools.partial(attribution.rise, **options), scores.probability)

    def kernel_shap(self, count: int) -> Callable[[], Any]:
        options: dict = {"num_samples": count, "batch_size": self.batch_size}
        options |= {"segments": self.segments, "num_segments": CELLS**2}
        options |= {"key": jax.random.key(0)}
        return self._of_one(functools.partial(attribution.kernel_shap, **options))

    def guided_backprop(self, count: int) -> Callable[[], Any]:
        return self._of_images(rules.guided_backprop, count)

    def lrp(self, count: int) -> Callable[[], Any]:
        """Of what the normalization makes of the image: Zennit has no rule for it."""

        def explain(network, image, label):
            layer = network.layer("normalization")
            return rules.lrp(lambda seen: layer.head(seen)[label], layer.features(image))

        return self._of_rows(explain, self.images[:count], self.labels[:count])

    def visualization(self, count: int) -> Callable[[], Any]:
        optimizer = optax.chain(optax.adam(LEARNING_RATE), ascent.keep_in_range(0.0, 1.0))

        def make(network, start, label):
            state = ascent.initial_state(start, optimizer, jax.random.key(0))
            made = ascent.ascend(scores.logit(network, label), state, optimizer, count)
            return made.image, made.values

        return self._of_rows(make, self.starts, jnp.arange(len(self.starts)))

    def pgd(self, count: int) -> Callable[[], Any]:
        def perturb(network, image, label):
            adversarial = attacks.pgd(
                -1.0 * scores.log_prob(network, label),
                image,
                ball=attacks.L2,
                epsilon=EPSILON,
                step_size=STEP_SIZE,
                steps=ATTACK_STEPS,
            )
            return adversarial - image

        return self._of_rows(perturb, self.images[:count], self.labels[:count])

    def deletion(self, count: int) -> Callable[[], Any]:
        return self._curves(metrics.deletion, count)

    def insertion(self, count: int) -> Callable[[], Any]:
        return self._curves(metrics.insertion, count)

    def _curves(self, metric: Callable, count: int) -> Callable[[], Any]:
        def measure(network, images, maps, labels):
            def one(case):
                image, saliency_map, label = case
                return metric(
                    scores.probability(network, label),
                    image,
                    saliency_map,
                    steps=CURVE_STEPS,
                    baseline=baselines.zeros,
                    batch_size=self.batch_size,
                ).scores

            # As `runs.sweep` does: each device has images of its own, one after the other.
            shares = math.gcd(len(images), self.mesh.size)
            groups = jax.tree.map(
                lambda rows: rows.reshape(shares, -1, *rows.shape[1:]),
                (images, maps, labels),
            )
            curves = devices.vmap(lambda *group: jax.lax.map(one, group))(*groups)
            return curves.reshape(len(images), -1)

        return self._compiled(measure, self.images[:count], self.maps[:count], self.labels[:count])

    def product(self, count: int) -> Callable[[], Any]:
        """A product of two square matrices of this side: the machine's ceiling for products."""
        matrix = jnp.full((count, count), 0.5, self.images.dtype)
        return self._compiled(lambda network, left, right: left @ right, matrix, matrix)

    def convolution(self, count: int) -> Callable[[], Any]:
        """3x3 kernels from 256 channels to 256, on so many maps of 28x28 pixels."""
        maps = jnp.full((count, 28, 28, 256), 0.5, self.images.dtype)
        kernel = jnp.full((3, 3, 256, 256), 0.5, self.images.dtype)
        names = ("NHWC", "HWIO", "NHWC")

        def convolve(network, maps, kernel):
            return jax.lax.conv_general_dilated(
                maps, kernel, (1, 1), "SAME", dimension_numbers=names
            )

        return self._compiled(convolve, maps, kernel)


def _answers(network: Any, images: jax.Array) -> jax.Array:
    return jax.lax.map(network, images).argmax(-1)
