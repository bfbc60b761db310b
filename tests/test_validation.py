"""The checks at the entry that are not met through a method's own tests, and what is imported."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import _validation, devices
from saliency_jax._chunks import map_chunked

NAMES = ["lemon", "orange", "school bus", "king penguin", "tiny-imagenet-robust"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("lemmon", "; did you mean 'lemon'?"),
        ("School_Bus", "; did you mean 'school bus'?"),
        ("tiny_imagenet_robust", "; did you mean 'tiny-imagenet-robust'?"),
        ("zebra", ""),
    ],
)
def test_nearest_names(asked, message):
    assert _validation.nearest(asked, NAMES) == message


def test_nearest_names_come_closest_first():
    assert _validation.nearest("lemo", ["lemur", "lemon"]) == "; did you mean 'lemon' or 'lemur'?"


def test_a_count_is_any_integer():
    for count in (1, np.int64(1), np.uint8(1)):
        _validation.check_count("steps", count, 1)


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", ">f8", np.longdouble])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_array_of_numpy_becomes_jaxs_quietly(dtype, order):
    values = np.linspace(0, 1, 24).reshape(2, 3, 4)
    image = _validation.as_image(values.astype(dtype, order=order))
    assert isinstance(image, jax.Array)
    assert image.dtype == (jnp.float16 if dtype == "<f2" else jnp.float32)
    assert_allclose(image, values, rtol=1e-3 if dtype == "<f2" else 1e-6)
    # Neither does a view that goes backwards need a copy of one's own.
    assert_allclose(_validation.as_image(values.astype(dtype)[:, ::-1]), image[:, ::-1])


def test_what_jax_has_not_is_the_nearest_that_it_has():
    too_large = np.array([1e300, -1e300])
    assert_array_equal(_validation.to_jax(too_large), [np.inf, -np.inf])
    assert _validation.to_jax(np.arange(3)).dtype == jnp.int32


def test_keys_of_both_kinds():
    _validation.check_key(jax.random.key(0))
    _validation.check_key(jax.random.PRNGKey(0))
    jax.jit(_validation.check_key)(jax.random.key(0))
    with pytest.raises(TypeError, match=r"to be a JAX random key, got an array of float32"):
        _validation.check_key(jnp.ones(2))
    with pytest.raises(ValueError, match=r"to be one key, got shape \(3, 2\)"):
        _validation.check_key(jax.random.split(jax.random.PRNGKey(0), 3))


def test_values_of_tracers_are_not_read():
    def checked(label, weight, image):
        _validation.check_label(label, 2)
        _validation.check_at_least("weight", weight, 0)
        _validation.check_image(image)
        return label

    assert jax.jit(checked)(5, -1.0, np.full((1, 1, 1), np.nan, np.float32)) == 5


def test_the_methods_do_without_the_libraries_of_datasets_models_and_figures():
    heavy = "{'flax', 'orbax', 'tensorflow_datasets', 'grain', 'matplotlib', 'cv2', 'scipy.signal'}"
    program = f"import sys, saliency_jax; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"


GOOD, BAD = jnp.ones((2, 2, 1)), jnp.full((2, 2, 1), jnp.nan)


def check_two(first, second, shape=(2, 2, 1)):
    with _validation.checked_together():
        _validation.as_image(first, "first")
        _validation.as_image(second, "second")
        if shape != first.shape:
            raise ValueError("another shape")


@pytest.mark.usefixtures("entry_checks")
def test_values_checked_together_are_asked_for_once_and_the_first_fault_is_told(transfers):
    for first, second, fault in ((BAD, BAD, "first"), (GOOD + 1, BAD, "second")):
        with pytest.raises(ValueError, match=f"{fault} to be finite, got 4 .* among its 4"):
            check_two(first, second)
    # Of NumPy's too, which no device is asked for, and before a mistake that comes later.
    with pytest.raises(ValueError, match="first to be finite"):
        check_two(BAD, np.asarray(BAD))
    with pytest.raises(ValueError, match="first to be finite"):
        check_two(BAD, GOOD, (1, 1, 1))
    with pytest.raises(ValueError, match="another shape"):
        check_two(GOOD, GOOD, (1, 1, 1))
    first, second = GOOD + 1, GOOD + 2
    with transfers.counted():
        check_two(first, second)
    assert transfers.count == 1
    # An array of JAX's does not change: it stays finite.
    with transfers.counted():
        check_two(second, first)
    assert transfers.count == 0


@pytest.mark.usefixtures("entry_checks")
def test_a_fault_is_told_while_a_program_is_made():
    def program(image):
        check_two(image, BAD)
        return image

    for transform in (jax.jit, jax.vmap, jax.grad):
        with pytest.raises(ValueError, match="second to be finite"):
            transform(program)(GOOD[None] if transform is jax.vmap else GOOD)
    with jax.set_mesh(devices.mesh()), pytest.raises(ValueError, match="second to be finite"):
        map_chunked(program, GOOD[None].repeat(2, 0), 2)


def test_an_array_beyond_jaxs_precision_is_not_finite():
    with pytest.raises(ValueError, match="image to be finite, got 1 infinite"):
        _validation.as_image(np.full((1, 1, 1), 1e300))
