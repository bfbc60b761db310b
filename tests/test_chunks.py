"""Chunked evaluation against a loop, and its memory against the number of samples."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import devices
from saliency_jax._chunks import MODEL, map_chunked, mean_chunked, sum_chunked
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


def totals(batch_size, points=POINTS):
    mapped = map_chunked(pair, points, batch_size)
    return mapped, sum_chunked(pair, points, batch_size), mean_chunked(pair, points, batch_size)


def assert_close(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7, 100])
def test_devices_of_a_mesh_share_the_samples_out(batch_size):
    expected = totals(batch_size)
    program = jax.jit(functools.partial(totals, batch_size))
    with jax.set_mesh(devices.mesh(2)):
        found = program(POINTS)
        # Three functions, each on either device.
        assert program.lower(POINTS).as_text().count("manual_computation") == 3
        assert_close(totals(batch_size), expected)
    assert_close(found, expected)


def weighed(weights, batch_size=2):
    """A number that depends on something beside the samples."""
    points = POINTS[1]
    total = sum_chunked(lambda point: jnp.sin(weights * point).sum(), points, batch_size)
    return total + (map_chunked(lambda point: weights @ point, points, batch_size) ** 2).sum()


@pytest.mark.parametrize("transform", [jax.grad, jax.hessian, jax.vmap])
def test_sharing_out_goes_with_every_transformation(transform):
    weights = jnp.array([[0.3, -0.2], [0.1, 0.5], [0.2, 0.2]])
    weights = weights if transform is jax.vmap else weights[0]
    expected = transform(weighed)(weights)
    with jax.set_mesh(devices.mesh()):
        found = jax.jit(transform(weighed))(weights), transform(weighed)(weights)
    assert_allclose(found[0], expected, rtol=1e-5)
    assert_allclose(found[1], expected, rtol=1e-5)


def shared_out(function, *arguments):
    """How often something is shared out in a program."""
    return str(jax.make_jaxpr(function)(*arguments)).count("shard_map[")


def test_nothing_is_shared_out_twice():
    nested = functools.partial(map_chunked, lambda point: totals(2, (point[1], POINTS[1][:2])))
    with jax.set_mesh(devices.mesh()):
        assert shared_out(lambda: nested(POINTS, 3)) == 1
        # One sample leaves its own samples to be shared out.
        assert shared_out(lambda: nested(jax.tree.map(lambda leaf: leaf[:1], POINTS), 3)) == 3
    with jax.set_mesh(devices.mesh(1)):
        assert shared_out(lambda: nested(POINTS, 3)) == 0


def test_an_axis_whose_sharding_is_explicit_is_the_callers():
    mesh = jax.make_mesh((2,), ("images",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        images = jax.device_put(np.ones((4, 2), np.float32), jax.P("images"))
        assert shared_out(jax.vmap(weighed), images) == 0
        assert_allclose(jax.jit(jax.vmap(weighed))(images), [weighed(jnp.ones(2))] * 4, rtol=1e-6)


def test_eight_devices_share_out_fewer_samples_and_more():
    program = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_num_cpu_devices", 8)
from saliency_jax import devices
from saliency_jax import devices
from saliency_jax._chunks import map_chunked, mean_chunked
@jax.jit
def both(points):
    return map_chunked(jnp.square, points, 5), mean_chunked(jnp.square, points, 5)
for count in (3, 8, 19):
    points = np.arange(count, dtype=np.float32)
    with jax.set_mesh(devices.mesh()):
        mapped, mean = both(points)
    assert len(mapped.sharding.device_set) == 8
    np.testing.assert_array_equal(mapped, points**2)
    np.testing.assert_allclose(mean, (points**2).mean(), rtol=1e-6)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.usefixtures("entry_checks")
def test_a_mesh_of_devices_that_are_not_there():
    with pytest.raises(ValueError, match="number of devices to be at most 2, got 3"):
        devices.mesh(3)
    with pytest.raises(ValueError, match="number of devices to be at least 1, got 0"):
        devices.mesh(0)


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


@pytest.mark.parametrize("count", [3, 4])
def test_a_batch_is_shared_out_with_its_keys(count):
    def one(number, pair):
        return pair["key"], number * jax.random.uniform(pair["key"])

    numbers = np.arange(count, dtype=np.float32)
    batch = numbers, {"key": jax.random.split(jax.random.key(0), count)}
    expected = jax.vmap(one)(*batch)
    with jax.set_mesh(devices.mesh()):
        keys, values = jax.jit(devices.vmap(one))(*batch)
        assert shared_out(devices.vmap(one), *batch) == 1
    assert len(values.sharding.device_set) == 2
    assert values.sharding.is_fully_replicated == (count == 3)
    assert_array_equal(jax.random.key_data(keys), jax.random.key_data(expected[0]))
    assert_allclose(values, expected[1])


def test_along_the_axis_of_the_models_nothing_is_shared_out():
    grid = np.array(jax.devices()[:2]).reshape(1, 2)
    with jax.set_mesh(jax.sharding.Mesh(grid, (devices.AXIS, MODEL))):
        assert shared_out(lambda points: map_chunked(pair, points, 2), POINTS) == 0
