"""Chunked evaluation against a loop, and its memory against the number of samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax._chunks import map_chunked, mean_chunked, sum_chunked
from saliency_jax.attribution import integrated_gradients

POINTS = (jnp.arange(7.0), jnp.arange(14.0).reshape(7, 2) - 3)


def pair(point):
    scalar, vector = point
    return {"product": scalar * vector, "square": scalar**2}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 6, 7, 100])
def test_every_sample_counts_once(batch_size):
    scalars, vectors = (np.asarray(leaf) for leaf in POINTS)
    products = np.array([s * v for s, v in zip(scalars, vectors, strict=True)])
    squares = np.array([s * s for s in scalars])
    mapped = map_chunked(pair, POINTS, batch_size)
    assert_array_equal(mapped["product"], products)
    assert_array_equal(mapped["square"], squares)
    summed = sum_chunked(pair, POINTS, batch_size)
    assert_array_equal(summed["product"], sum(products))
    assert_array_equal(summed["square"], sum(squares))
    mean = mean_chunked(pair, POINTS, batch_size)
    assert_allclose(mean["product"], sum(products) / 7, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 100, 1000])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_added_up_in_single(dtype, batch_size):
    # A half stops at 2,048 or 256 ones; the sum of 100s is above float16's largest number.
    values = jnp.full(1000, 100, dtype)
    mean = mean_chunked(lambda value: value, values, batch_size)
    assert mean.dtype == dtype
    assert mean == 100
    assert sum_chunked(lambda value: value / 100, values, batch_size) == 1000


@pytest.mark.usefixtures("entry_checks")
def test_batch_size():
    with pytest.raises(ValueError, match="batch_size to be at least 1, got 0"):
        sum_chunked(pair, POINTS, 0)
    with pytest.raises(TypeError, match=r"batch_size to be an integer, got 2\.0"):
        map_chunked(pair, POINTS, 2.0)


def test_memory_does_not_grow_with_the_steps():
    def score(image):
        return jnp.sin(image).sum()

    def temporary_bytes(steps, batch_size):
        def program(image):
            return integrated_gradients(score, image, steps=steps, batch_size=batch_size)

        compiled = jax.jit(program).lower(jnp.ones((64, 64, 3))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = temporary_bytes(12, 6), temporary_bytes(1200, 6)
    assert many < 1.1 * few
    # The measure does see what is held: ten times the batch takes several times the memory.
    assert temporary_bytes(1200, 60) > 2 * many
