"""Guided integrated gradients against a path walked value by value, and against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose
from small_models import as_image

from saliency_jax import attribution

guided = jax.jit(attribution.guided_integrated_gradients, static_argnames=("steps", "fraction"))


def walked(gradient_of, image, start, steps, fraction, max_dist):
    """One value after the other in plain Python; blocks share out what is left of a step."""
    image, start = np.asarray(image, np.float64).ravel(), np.asarray(start, np.float64).ravel()
    length = np.abs(image - start)
    block_size = max(1, int(fraction * image.size))
    progress = np.zeros(image.size)
    gradient, shares = gradient_of(start), np.zeros(image.size)
    for k in range(1, steps + 1):
        before = progress.copy()
        lowest, highest = max(k / steps - max_dist, 0), min(k / steps + max_dist, 1)
        progress = np.array([max(p, lowest) for p in progress])
        needed = k / steps * sum(length) - sum(length * progress)
        movable = [i for i in range(image.size) if length[i] * (highest - progress[i]) > 1e-9]
        movable.sort(key=lambda i: abs(gradient[i]))
        while needed > 1e-9 and movable:
            block, movable = movable[:block_size], movable[block_size:]
            room = sum(length[i] * (highest - progress[i]) for i in block)
            part = min(1, needed / room)
            for i in block:
                progress[i] += part * (highest - progress[i])
            needed -= part * room
        new_gradient = gradient_of(start + progress * (image - start))
        shares += (progress - before) * (image - start) * (gradient + new_gradient) / 2
        gradient = new_gradient
    assert_allclose(progress, 1)
    return shares


# S = (w.x)^3 + v.x: the values' gradients differ, and their order depends on where the path is.
WEIGHTS = jnp.array([[0.3, -1.0, 0.8, 0.05], [0.6, -0.2, 1.2, -0.7]])


def cubic(weights, image):
    return jnp.sum(weights[0] * image.ravel()) ** 3 + jnp.sum(weights[1] * image.ravel())


def cubic_gradient(x):
    w, v = np.asarray(WEIGHTS, np.float64)
    return 3 * (w @ x) ** 2 * w + v


@pytest.mark.parametrize(
    ("fraction", "max_dist"), [(0.25, 0.02), (0.25, 0.3), (0.5, 1.0), (0.75, 0.5), (1.0, 0.1)]
)
def test_the_path_value_by_value(fraction, max_dist):
    image, baseline = as_image([1, 2, 0.5, -1]), as_image([0.1, 0, -0.2, 0])
    expected = walked(cubic_gradient, image, baseline, 10, fraction, max_dist)
    shares = guided(
        Partial(cubic, WEIGHTS), image, baseline=baseline, steps=10, fraction=fraction,
        max_dist=max_dist,
    )  # fmt: skip
    assert_allclose(shares.ravel(), expected, rtol=1e-4, atol=1e-4)


def test_on_the_straight_path_it_is_integrated_gradients():
    image, score = as_image([1, 2, 0.5, -1]), Partial(cubic, WEIGHTS)
    straight = attribution.integrated_gradients(score, image, steps=11, rule=attribution.trapezoid)
    assert_allclose(guided(score, image, steps=10, max_dist=0.0), straight, rtol=1e-4, atol=1e-5)


class TestClosedForms:
    def test_published_line(self):
        score = small_models.linear_score(as_image([2, 1]))
        shares = guided(score, as_image([10, 5]), baseline=as_image([-1, -3]))
        assert_allclose(shares.ravel(), [22, 8], atol=1e-3)

    def test_the_less_sensitive_value_moves_first(self):
        # S = (1 + 2 a + b)^2: b alone takes it from 1 to 16, then a from 16 to 100.
        def score(image):
            return (1 + 2 * image[0, 0, 0] + image[0, 1, 0]) ** 2

        shares = guided(Partial(score), as_image([3, 3]), steps=10, max_dist=1.0)
        assert_allclose(shares.ravel(), [84, 15], rtol=1e-5)

    @pytest.mark.parametrize("max_dist", [0.0, 0.02, 0.3])
    def test_completeness_of_a_square_near_any_path(self, max_dist):
        # The mean of the gradients at a step's ends is exact for a quadratic score.
        def score(image):
            return (2 * image[0, 0, 0] + image[0, 1, 0]) ** 2

        shares = guided(Partial(score), as_image([3, 3]), steps=10, max_dist=max_dist)
        assert shares.sum() == pytest.approx(81, rel=1e-5)

    def test_a_path_longer_than_the_largest_half_precision_number(self):
        image = jnp.ones((1, 70_000, 1), jnp.float16)
        shares = guided(Partial(lambda x: 3 * x.mean()), image, steps=2)
        assert shares.dtype == jnp.float16
        assert_allclose(np.asarray(shares, float).sum(), 3, rtol=0.01)

    def test_an_image_equal_to_its_baseline_gets_nothing(self):
        image = as_image([1, 2, 0.5, -1])
        shares = guided(Partial(cubic, WEIGHTS), image, baseline=image, steps=10, fraction=0.25)
        assert_allclose(shares, 0 * image, atol=0)


@pytest.mark.usefixtures("entry_checks")
def test_bad_settings():
    image = small_models.image()
    for fraction in (0, 1.5):
        with pytest.raises(ValueError, match=r"fraction to be in \(0, 1\], got"):
            attribution.guided_integrated_gradients(jnp.sum, image, fraction=fraction)
    with pytest.raises(TypeError, match="fraction to be a Python number"):
        attribution.guided_integrated_gradients(jnp.sum, image, fraction=jnp.ones(()))
    with pytest.raises(ValueError, match=r"max_dist to be at least 0, got -0\.1"):
        attribution.guided_integrated_gradients(jnp.sum, image, max_dist=-0.1)
    with pytest.raises(ValueError, match="steps to be at least 1, got 0"):
        attribution.guided_integrated_gradients(jnp.sum, image, steps=0)
