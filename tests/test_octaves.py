"""Ascent over octaves against closed forms and Pillow's interpolation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as PILImage

from saliency_jax import ascent, scores

KEY = jax.random.key(3)
SHAPE = (6, 9, 2)
IMAGE = small_models.image(SHAPE)


@Partial
def towards_one(image):
    return -jnp.sum((image - 1) ** 2) / 2


def resized(image, size):
    height, width = size
    return np.stack(
        [
            np.asarray(
                PILImage.fromarray(channel).resize((width, height), PILImage.Resampling.BILINEAR)
            )
            for channel in np.moveaxis(np.float32(image), -1, 0)
        ],
        axis=-1,
    )


@functools.partial(jax.jit, static_argnames=("rate", "steps", "octaves", "scale"))
def octaves_of(score=towards_one, image=IMAGE, rate=0.2, steps=3, **options):
    return ascent.ascend_octaves(score, image, optax.sgd(rate), steps, key=KEY, **options)


@pytest.mark.parametrize("canvas", [None, ascent.fourier_canvas], ids=["pixels", "fourier"])
def test_one_octave_is_ascent(canvas):
    options = {"augment": ascent.jitter(1), "prior": ascent.l2(0.1), "num_samples": 2}
    optimizer = optax.adam(0.05)
    score = scores.logit(small_models.dataclass_model(2), 1)
    of_shape = ascent.chain_canvases() if canvas is None else canvas(SHAPE)
    state = ascent.initial_state(of_shape.encode(IMAGE), optimizer, KEY)
    expected = ascent.ascend(score, state, optimizer, 4, decode=of_shape.decode, **options)
    choice = {} if canvas is None else {"make_canvas": canvas}
    result = ascent.ascend_octaves(
        score, IMAGE, optimizer, 4, key=KEY, octaves=1, **choice, **options
    )
    assert_array_equal(result.image, expected.image)
    assert_array_equal(result.values, expected.values)
    keys = (jax.random.key_data(of.state.key) for of in (result, expected))
    assert_array_equal(*keys)
    assert result.state.step == 4


def test_each_octave_begins_at_the_magnified_change_and_the_images_own_details():
    # Each step goes 0.2 of the way to 1, so three leave 0.8^3 of the distance.
    left, base, change = 0.8**3, None, None
    for size in ((3, 4), (4, 6), (6, 9)):
        base = resized(IMAGE, size)
        start = base if change is None else base + resized(change, size)
        image = 1 + left * (start - 1)
        change = image - base
    result = octaves_of(octaves=3, scale=1.5)
    assert_allclose(result.image, image, atol=1e-5)
    assert result.values.shape == (9,)
    assert_allclose(result.values[6], -np.sum((start - 1) ** 2) / 2, rtol=1e-5)
    assert result.state.step == 9


def test_an_ascent_that_does_not_move_leaves_every_detail():
    assert_allclose(octaves_of(rate=0.0, octaves=4, scale=1.6).image, IMAGE, atol=1e-6)


def test_a_constant_start_stays_constant_in_sizes_down_to_a_pixel():
    start = ascent.constant((2, 5, 1), 0.5)
    result = octaves_of(Partial(jnp.sum), start, rate=0.25, steps=2, octaves=5, scale=2.0)
    assert_allclose(result.image, jnp.full((2, 5, 1), 0.5 + 5 * 2 * 0.25), rtol=1e-6)
    assert_allclose(result.values[:4], [0.5, 0.75, 1.0, 1.25], rtol=1e-6)


def test_vmap_over_classes_is_a_loop():
    def picture(label):
        score = scores.logit(small_models.dataclass_model(2), label)
        return octaves_of(score, rate=5.0, octaves=2, augment=ascent.brightness(0.5)).image

    labels = np.array([0, 3])
    together = jax.vmap(picture)(labels)
    alone = jnp.stack([picture(label) for label in labels])
    assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
    assert not np.allclose(together[0], together[1], atol=1e-3)


def test_after_a_failure_no_step_is_made_at_any_size():
    # Factors of 2e10 for the sum of squares: the third step meets infinity.
    result = octaves_of(
        Partial(lambda image: jnp.sum(image**2)),
        ascent.constant((4, 4, 1), 1.0),
        rate=1e10,
        octaves=3,
    )
    assert result.state.failed_at == 3
    assert result.state.step == 2
    assert_allclose(result.image, jnp.full((4, 4, 1), 4e20), rtol=1e-5)
    assert jnp.isnan(result.values[3:]).all()


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"octaves": 0}, ValueError, "octaves to be at least 1, got 0"),
        ({"octaves": 1.5}, TypeError, r"octaves to be an integer, got 1\.5"),
        ({"scale": 0.9}, ValueError, r"scale to be at least 1, got 0\.9"),
        ({"steps": 0}, ValueError, "steps to be at least 1, got 0"),
        ({"image": IMAGE[0]}, ValueError, r"image to have shape \(h, w, c\)"),
    ],
)
def test_bad_input_is_named(options, error, message):
    settings = {"image": IMAGE, "steps": 3} | options
    with pytest.raises(error, match=message):
        ascent.ascend_octaves(towards_one, optimizer=optax.sgd(0.2), key=KEY, **settings)


def test_a_traced_scale():
    def picture(scale):
        return ascent.ascend_octaves(
            towards_one, IMAGE, optax.sgd(0.2), 3, key=KEY, scale=scale
        ).image

    with pytest.raises(TypeError, match="scale to be a Python number"):
        jax.jit(picture)(1.5)


def test_each_octave_has_its_own_number_of_steps():
    both = octaves_of(steps=(2, 5), octaves=2, scale=2.0)
    coarse = octaves_of(image=resized(IMAGE, (3, 4)), steps=2, octaves=1)
    assert both.values.shape == (7,)
    assert_allclose(both.values[:2], coarse.values, rtol=1e-5)
    # Each step of sgd at 0.2 leaves 0.8 of the distance to 1.
    start = resized(IMAGE, (6, 9)) + resized(coarse.image - resized(IMAGE, (3, 4)), (6, 9))
    assert_allclose(both.image, 1 - (1 - start) * 0.8**5, rtol=1e-4, atol=1e-5)


def test_as_many_numbers_of_steps_as_octaves_are_expected():
    with pytest.raises(ValueError, match="expected steps for 3 octaves, got 2 numbers"):
        octaves_of(steps=(2, 5), octaves=3)
