"""Integrated gradients against closed forms, published cases and a loop over the path."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose
from small_models import as_image

from saliency_jax import attribution, scores

RULES = [attribution.midpoint, attribution.trapezoid, attribution.gauss_legendre]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)

integrated = functools.partial(
    jax.jit(
        attribution.integrated_gradients,
        static_argnames=("steps", "rule", "batch_size"),
    ),
    steps=64,
)


@each_rule
@pytest.mark.parametrize("steps", [2, 3, 10])
def test_weights_add_up_to_one_and_straight_lines_are_exact(rule, steps):
    nodes, weights = rule(steps)
    assert nodes.shape == weights.shape == (steps,)
    assert ((nodes >= 0) & (nodes <= 1)).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert weights @ nodes == pytest.approx(0.5, abs=1e-12)


def test_order_of_the_rules():
    # The integral of a^2 is 1/3: the midpoint rule lacks 1 / (12 n^2), the trapezoid rule with n
    # intervals has 1 / (6 n^2) too much; Gauss-Legendre is exact up to degree 2 n - 1.
    nodes, weights = attribution.midpoint(5)
    assert 1 / 3 - weights @ nodes**2 == pytest.approx(1 / (12 * 25))
    nodes, weights = attribution.trapezoid(6)
    assert weights @ nodes**2 - 1 / 3 == pytest.approx(1 / (6 * 25))
    nodes, weights = attribution.gauss_legendre(5)
    for degree in range(10):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), abs=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 16, 65])
def test_gauss_legendre_has_numpys_roots(steps):
    nodes, weights = attribution.gauss_legendre(steps)
    expected_nodes, expected_weights = np.polynomial.legendre.leggauss(steps)
    assert_allclose(nodes, (expected_nodes + 1) / 2, rtol=1e-12)
    assert_allclose(weights, expected_weights / 2, rtol=1e-11)


@each_rule
def test_of_a_linear_score_it_is_gradient_times_difference(rule):
    image, baseline, weights = (small_models.image((3, 2, 2), seed=seed) for seed in range(3))
    score = small_models.linear_score(weights)
    shares = integrated(score, image, baseline=baseline, steps=7, rule=rule, batch_size=3)
    assert_allclose(shares, weights * (image - baseline), rtol=1e-5, atol=1e-7)


def test_of_a_quadratic_score():
    # S = x.A.x: the gradient is linear, so its mean on the path is that at the middle.
    matrix = np.asarray(jax.random.normal(jax.random.key(1), (6, 6)), np.float64)
    score = Partial(lambda matrix, image: image.ravel() @ matrix @ image.ravel(), jnp.array(matrix))
    image, baseline = small_models.image((3, 2, 1)), small_models.image((3, 2, 1), seed=1)
    x, b = (np.asarray(value, np.float64).ravel() for value in (image, baseline))
    expected = (x - b) * ((matrix + matrix.T) @ (x + b) / 2)
    shares = integrated(score, image, baseline=baseline)
    assert_allclose(shares.ravel(), expected, rtol=1e-4, atol=1e-5)


def test_the_path_in_a_loop():
    score = scores.logit(small_models.plain_convnet(1), 2)
    image, baseline = small_models.image((3, 2, 1)), small_models.image((3, 2, 1), seed=1)
    gradient = jax.jit(jax.grad(score))
    total = np.zeros(image.shape)
    for j in range(5):
        total += np.asarray(gradient(baseline + (j + 0.5) / 5 * (image - baseline))) / 5
    shares = integrated(
        score, image, baseline=baseline, steps=5, rule=attribution.midpoint, batch_size=2
    )
    assert_allclose(shares, total * (image - baseline), rtol=1e-4, atol=1e-6)


class TestPublishedCases:
    @pytest.mark.parametrize(
        "score",
        [
            lambda a, b: jax.nn.relu(jax.nn.relu(a) - 1 - jax.nn.relu(b)),
            lambda a, b: jax.nn.relu(jax.nn.relu(a - 1) - jax.nn.relu(b)),
        ],
    )
    def test_implementation_invariance(self, score):
        def of_image(image):
            return score(*image.ravel())

        shares = integrated(
            Partial(of_image), as_image([3, 1]), steps=200, rule=attribution.midpoint
        )
        assert_allclose(shares.ravel(), [1.5, -0.5], atol=0.05)
        # Not multiplied by the image it is published too.
        assert_allclose((shares / as_image([3, 1])).ravel(), [0.5, -0.5], atol=0.05)

    def test_square_of_a_line(self):
        def score(image):
            return (2 * image[0, 0, 0] + image[0, 1, 0]) ** 2

        assert_allclose(integrated(Partial(score), as_image([3, 3])).ravel(), [54, 27], rtol=1e-5)

    @each_rule
    def test_line(self, rule):
        score = small_models.linear_score(as_image([2, 1]))
        shares = integrated(
            score, as_image([10, 5]), baseline=as_image([-1, -3]), rule=rule, steps=50
        )
        assert_allclose(shares.ravel(), [22, 8], atol=1e-4)

    def test_three_functions(self):
        def score(image):
            a, b, c = image.ravel()
            return 5 * a + b**2 + jnp.sin(c)

        shares = integrated(Partial(score), as_image([1, 2, 3]), baseline=as_image([0.5, 1, 1]))
        assert_allclose(shares.ravel(), [2.5, 3, np.sin(3) - np.sin(1)], atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_many_steps_in_half_precision(dtype):
    # Each adds a thousandth, which is lost beside what a half has added up already.
    image = jnp.array([[[0.5], [1.0]]], dtype)
    score = Partial(lambda image: (3 * image).sum())
    shares = integrated(score, image, steps=1000, rule=attribution.midpoint, batch_size=1)
    assert shares.dtype == dtype
    assert_allclose(np.asarray(shares, float).ravel(), [1.5, 3.0], rtol=0.005)


class TestCompleteness:
    def test_gap_is_what_is_missing(self):
        image, baseline = as_image([1, 2]), as_image([0.5, 0])
        # S = a + b changes by 2.5; these add up to 2.
        gap = attribution.completeness_gap(
            Partial(jnp.sum), image, as_image([1, 1]), baseline=baseline
        )
        assert gap == pytest.approx(-0.5)

    def test_of_a_network(self):
        score, image = scores.logit(small_models.plain_convnet(), 1), small_models.image()
        shares = integrated(score, image, steps=16)
        change = score(image) - score(0 * image)
        assert abs(change) > 0.1
        gap = attribution.completeness_gap(score, image, shares)
        assert abs(gap) < 1e-5 * abs(change)

    def test_rules_fall_short_as_their_theory_says(self):
        # S = x^4 from 0 to 1, whose gradient 4 a^3 is integrated: midpoint -1 / (2 n^2), trapezoid
        # twice that with the other sign, Gauss-Legendre 0.
        score, image = Partial(lambda image: jnp.sum(image**4)), as_image([1])
        for rule, nodes, expected in zip(RULES, (10, 11, 2), (-0.005, 0.01, 0.0), strict=True):
            shares = integrated(score, image, rule=rule, steps=nodes)
            gap = attribution.completeness_gap(score, image, shares)
            assert gap == pytest.approx(expected, abs=1e-5)


@pytest.mark.usefixtures("entry_checks")
def test_bad_settings():
    image = small_models.image()
    with pytest.raises(TypeError, match="expected rule to be callable, got int"):
        attribution.integrated_gradients(jnp.sum, image, rule=3)
    with pytest.raises(ValueError, match=r"rule to return nodes and weights of shape \(5,\), got"):
        attribution.integrated_gradients(jnp.sum, image, steps=5, rule=lambda n: np.ones(n))
    with pytest.raises(ValueError, match="attribution to be finite, got 1 infinite or nan"):
        attribution.completeness_gap(jnp.sum, image, image.at[0, 0, 0].set(jnp.nan))
    with pytest.raises(ValueError, match=r"attribution to have the image's shape \(6, 5, 3\), got"):
        attribution.completeness_gap(jnp.sum, image, image[:2])
    with pytest.raises(ValueError, match="steps to be at least 1, got 0"):
        attribution.integrated_gradients(jnp.sum, image, steps=0)
    with pytest.raises(ValueError, match="steps to be at least 2, got 1"):
        attribution.integrated_gradients(jnp.sum, image, steps=1, rule=attribution.trapezoid)
    with pytest.raises(TypeError, match="steps to be a Python integer"):
        jax.jit(lambda n: attribution.integrated_gradients(jnp.sum, image, steps=n))(3)
