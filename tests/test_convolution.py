"""The convolution against JAX's own, in value and derivatives, and what it compiles to."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from numpy.testing import assert_allclose

from saliency_jax.models import (
    _convolution,
    convolution,
    depthwise_convolution,
    same_padding,
)

CANONICAL = "b01f_01io->b01f"
CASES = [
    # size, stride, padding, height, width
    (3, 1, 1, 6, 5),
    (3, 1, 0, 5, 6),
    (3, 2, 1, 6, 5),
    (3, 2, 1, 7, 8),
    (4, 2, 1, 8, 7),
    (4, 2, 1, 5, 6),
    (1, 1, 0, 4, 5),
    (1, 2, 0, 5, 6),
    (7, 2, 3, 9, 10),
]
each_case = pytest.mark.parametrize(("size", "stride", "padding", "height", "width"), CASES)


def reference(images, kernel, stride, padding):
    return lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        ((padding, padding),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )


def operands(size, height, width):
    keys = jax.random.split(jax.random.key(0))
    images = jax.random.normal(keys[0], (2, height, width, 3))
    return images, jax.random.normal(keys[1], (size, size, 3, 4))


@each_case
@pytest.mark.parametrize("larger", [0, 1000], ids=["by products", "by a convolution"])
def test_value_and_both_gradients_are_those_of_jax(
    size, stride, padding, height, width, larger, monkeypatch
):
    # Either way at every size: by how much a kernel has to exceed its map.
    monkeypatch.setattr(_convolution, "_LARGER", larger)
    images, kernel = operands(size, height, width)
    expected, pull_expected = jax.vjp(lambda i, k: reference(i, k, stride, padding), images, kernel)
    actual, pull = jax.vjp(
        lambda i, k: convolution(i, k, stride=stride, padding=padding), images, kernel
    )
    assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    cotangent = jax.random.normal(jax.random.key(1), expected.shape)
    for got, wanted in zip(pull(cotangent), pull_expected(cotangent), strict=True):
        assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("larger", [0, 1000], ids=["by products", "by a convolution"])
def test_second_derivative_is_that_of_jax(stride, larger, monkeypatch):
    monkeypatch.setattr(_convolution, "_LARGER", larger)
    images, kernel = operands(3, 5, 6)

    def curvature(convolve):
        def energy(images):
            return jnp.sum(jnp.tanh(convolve(images)))

        return jax.grad(lambda images: jnp.sum(jax.grad(energy)(images) ** 2))(images)

    assert_allclose(
        curvature(lambda images: convolution(images, kernel, stride=stride, padding=1)),
        curvature(lambda images: reference(images, kernel, stride, 1)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_vmap_is_a_loop():
    images, kernel = operands(3, 6, 5)
    kernels = jnp.stack([kernel, -2 * kernel])

    def gradient(images, kernel):
        return jax.grad(lambda i: jnp.sum(convolution(i, kernel, stride=2, padding=1) ** 2))(images)

    stacked = jnp.stack([images, images + 1])
    assert_allclose(
        jax.vmap(gradient)(stacked, kernels),
        jnp.stack([gradient(stacked[i], kernels[i]) for i in range(2)]),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_a_loop_compiles_to_the_same_convolutions_as_no_loop(stride):
    images, kernel = operands(3, 16, 16)
    kernels = [kernel, jnp.concatenate([kernel, kernel[:, :, :1]], 2)]

    def step(images, kernels):
        def energy(images):
            for kernel in kernels:
                images = jnp.tanh(convolution(images, kernel, stride=stride, padding=1))
            return images.sum()

        return images + jax.grad(energy)(images)

    def loop(images, kernels):
        return lax.scan(lambda images, _: (step(images, kernels), None), images, length=3)[0]

    def layouts(function):
        text = jax.jit(function).lower(images, kernels).compile().as_text()
        return re.findall(r"dim_labels=([\w>-]+)", text)

    alone, looped = layouts(step), layouts(loop)
    assert len(alone) >= 3
    assert set(alone) == set(looped) == {CANONICAL}


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((3, 2, 1, 1), {}, "square"),
        ((3, 3, 1, 1), {"stride": 0}, "stride"),
        ((3, 3, 1, 1), {"padding": 3}, "padding"),
    ],
)
def test_bad_settings_are_named(shape, settings, message, entry_checks):
    with pytest.raises(ValueError, match=message):
        convolution(jnp.ones((1, 4, 4, 1)), jnp.ones(shape), **settings)


class TestDepthwise:
    # size, stride, height, width, padding; none is TensorFlow's SAME.
    CASES = (
        (3, 1, 6, 5, None),
        (3, 2, 7, 8, None),
        (5, 2, 8, 7, None),
        (7, 1, 6, 9, ((3, 3), (3, 3))),
        (5, 3, 9, 8, ((0, 0), (0, 0))),
        (2, 3, 8, 9, ((0, 3), (2, 1))),
        (1, 2, 4, 5, ((0, 0), (0, 0))),
    )

    @staticmethod
    def reference(images, kernel, stride, padding):
        return lax.conv_general_dilated(
            images,
            kernel,
            (stride, stride),
            "SAME" if padding is None else padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=images.shape[-1],
            precision="highest",
        )

    @staticmethod
    def ours(images, kernel, stride, padding):
        if padding is None:
            padding = same_padding(images.shape[1:3], kernel.shape[0], stride)
        return depthwise_convolution(images, kernel, stride=stride, padding=padding)

    @staticmethod
    def operands(size, height, width):
        keys = jax.random.split(jax.random.key(0))
        images = jax.random.normal(keys[0], (2, height, width, 3))
        return images, jax.random.normal(keys[1], (size, size, 1, 3))

    @pytest.mark.parametrize(("size", "stride", "height", "width", "padding"), CASES)
    def test_value_and_both_gradients_are_those_of_jax(self, size, stride, height, width, padding):
        operands = self.operands(size, height, width)

        def with_gradients(convolve):
            value, pull = jax.vjp(lambda i, k: convolve(i, k, stride, padding), *operands)
            return value, *pull(jnp.sin(jnp.arange(1.0, value.size + 1)).reshape(value.shape))

        actual, expected = jax.jit(
            lambda: (with_gradients(self.ours), with_gradients(self.reference))
        )()
        for got, wanted in zip(actual, expected, strict=True):
            assert got.shape == wanted.shape
            assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
    def test_many_rows_sum_up_in_half_precision(self, dtype):
        # Each pixel gives 1, and 256 + 1 is 256 in bfloat16.
        images, kernel = jnp.ones((1, 600, 4, 1), dtype), jnp.ones((1, 1, 1, 1), dtype)
        gradient = jax.grad(lambda kernel: depthwise_convolution(images, kernel).sum())(kernel)
        assert gradient.dtype == dtype
        assert gradient.item() == 2400

    def test_second_derivative_is_that_of_jax(self):
        images, kernel = self.operands(3, 5, 6)

        def curvature(convolve):
            def energy(images, kernel):
                return jnp.sum(jnp.tanh(convolve(images, kernel, 2, None)))

            def squared(images, kernel):
                first = jax.grad(energy, (0, 1))(images, kernel)
                return sum(jnp.sum(leaf**2) for leaf in first)

            return jax.grad(squared, (0, 1))(images, kernel)

        actual, expected = jax.jit(lambda: (curvature(self.ours), curvature(self.reference)))()
        for got, wanted in zip(actual, expected, strict=True):
            assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"kernel": jnp.ones((3, 2, 1, 3))}, "expected a square kernel"),
            ({"kernel": jnp.ones((3, 3, 1, 2))}, "expected a kernel for 3 channels, got 2"),
            ({"stride": 0}, "expected a stride of at least 1, got 0"),
            ({"padding": ((0, -1), (0, 0))}, "expected paddings of at least 0"),
            ({"kernel": jnp.ones((7, 7, 1, 3))}, r"at most the padded image, \(5, 6\), got \(7, 7"),
        ],
    )
    def test_what_cannot_be_is_refused(self, changes, message, entry_checks):
        images, kernel = self.operands(3, 5, 6)
        arguments = {"kernel": kernel, **changes}
        with pytest.raises(ValueError, match=message):
            depthwise_convolution(images, **arguments)
