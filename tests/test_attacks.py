"""FGSM and PGD against closed forms on linear losses, and the balls against their definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import attacks, scores

BALLS = {"l2": attacks.L2, "linf": attacks.LINF}
NORMS = {"l2": lambda x: np.sqrt((x**2).sum()), "linf": lambda x: np.abs(x).max()}
each_norm = pytest.mark.parametrize("norm", BALLS)
WEIGHTS = jax.random.normal(jax.random.key(0), (4, 5, 3))
IMAGE = jax.random.uniform(jax.random.key(1), (4, 5, 3), minval=0.3, maxval=0.7)


def linear(image):
    return jnp.sum(WEIGHTS * image)


@pytest.mark.parametrize("key", [None, jax.random.key(3)])
def test_pgd_on_a_linear_loss_finds_the_dual_norm(key):
    """max <w, d> over |d|_2 <= e is e |w|_2, at e w / |w|_2; over |d|_inf <= e it is e |w|_1."""
    attack = functools.partial(attacks.pgd, linear, IMAGE, epsilon=0.2, key=key)
    l2 = attack(ball=attacks.L2, step_size=0.2, steps=20)
    assert_allclose(l2 - IMAGE, 0.2 * WEIGHTS / np.linalg.norm(WEIGHTS), atol=1e-4)
    linf = attack(ball=attacks.LINF, step_size=0.1, steps=20)
    assert_allclose(linf - IMAGE, 0.2 * np.sign(WEIGHTS), atol=1e-6)


def test_pgd_is_the_loop_of_the_paper():
    def loss(image):
        return jnp.sum(jnp.sin(5 * image) * WEIGHTS)

    expected = np.array(IMAGE)
    for _ in range(4):
        gradient = 5 * np.cos(5 * expected) * np.asarray(WEIGHTS)
        moved = expected + 0.3 * gradient / np.linalg.norm(gradient) - IMAGE
        moved = moved * min(1, 0.5 / np.linalg.norm(moved))
        expected = np.clip(IMAGE + moved, 0, 1)
    actual = attacks.pgd(loss, IMAGE, ball=attacks.L2, epsilon=0.5, step_size=0.3, steps=4)
    assert_allclose(actual, expected, atol=1e-5)


@each_norm
def test_the_result_is_in_the_ball_and_in_range(norm):
    image = jax.random.uniform(jax.random.key(2), (6, 6, 3))
    adversarial = attacks.pgd(
        lambda image: jnp.sum(image**3),
        image,
        ball=BALLS[norm],
        epsilon=0.4,
        step_size=0.3,
        steps=5,
        key=jax.random.key(4),
    )
    assert NORMS[norm](np.asarray(adversarial - image)) <= 0.4 + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


@each_norm
def test_projection_is_idempotent_and_leaves_the_inside(norm):
    ball, outside = BALLS[norm], 3 * WEIGHTS
    projected = ball.project(outside, 0.5)
    assert NORMS[norm](np.asarray(projected)) == pytest.approx(0.5, rel=1e-5)
    assert_allclose(ball.project(projected, 0.5), projected, rtol=1e-6)
    assert_array_equal(ball.project(projected, 9.0), projected)


@each_norm
def test_random_starts_fill_the_unit_ball_uniformly(norm):
    """For a uniform point, P(norm <= r) is r^d in either ball."""
    shape, count = (1, 3, 1), 4000
    keys = jax.random.split(jax.random.key(0), count)
    points = np.asarray(jax.vmap(lambda key: BALLS[norm].sample(key, shape))(keys))
    radii = np.array([NORMS[norm](point) for point in points])
    for radius in (0.5, 0.8, 1.0):
        assert (radii <= radius + 1e-6).mean() == pytest.approx(radius**3, abs=0.03)
    assert_allclose(points.mean(0), 0, atol=0.05)


@each_norm
def test_a_flat_loss_moves_nothing(norm):
    adversarial = attacks.pgd(
        lambda image: 0.0 * image.sum(), IMAGE, ball=BALLS[norm], epsilon=1, step_size=1, steps=2
    )
    assert_allclose(adversarial, IMAGE, atol=1e-6)


def test_fgsm_is_the_sign_of_the_gradient():
    assert_allclose(
        attacks.fgsm(linear, IMAGE, epsilon=0.1), IMAGE + 0.1 * np.sign(WEIGHTS), atol=1e-6
    )


def test_fgsm_with_a_key_is_one_projected_step_from_inside_the_ball():
    key = jax.random.key(5)
    start = attacks.LINF.sample(key, IMAGE.shape) * 0.1
    expected = np.clip(start + 0.125 * np.sign(WEIGHTS), -0.1, 0.1)
    actual = attacks.fgsm(linear, IMAGE, epsilon=0.1, step_size=0.125, key=key)
    assert_allclose(actual - IMAGE, expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1.0, 1e25])
def test_a_step_has_its_length_however_small_or_large_the_gradient(scale):
    image = jnp.full((4, 4, 1), 0.5)
    adversarial = attacks.pgd(
        lambda image: scale * image.sum(),
        image,
        ball=attacks.L2,
        epsilon=1.0,
        step_size=1.0,
        steps=1,
    )
    assert NORMS["l2"](np.asarray(adversarial - image)) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("gap", [2.0, 20.0, 44.0, 60.0, 80.0])
def test_the_direction_of_a_confident_models_loss(gap):
    # d log p_0 = sum_j p_j (w_0 - w_j): in single precision 1 - p_0 is 0 from a gap of 17 on.
    weights = np.random.default_rng(0).normal(size=(5, 12))
    bias = np.array([gap, 0.0, 0.3, -0.2, 0.1])

    def model(image):
        return jnp.float32(weights) @ image.ravel() + jnp.float32(bias)

    image = jnp.zeros((2, 2, 3))
    gradient = jax.grad(lambda image: -scores.log_prob(model, 0)(image))(image)
    others = np.exp(bias[1:]) / np.exp(bias[1:]).sum()
    expected = others @ (weights[1:] - weights[0])
    expected /= np.linalg.norm(expected)
    assert_allclose(attacks.L2.direction(gradient).ravel(), expected, rtol=1e-4, atol=1e-5)


def test_the_margin_still_has_a_direction_where_no_probability_has():
    def model(image):
        return jnp.stack([100.0, -100.0]) * image.mean()

    image = jnp.ones((4, 4, 1))
    settings = {"ball": attacks.L2, "epsilon": 1.0, "step_size": 1.0, "steps": 1}
    margin, log_prob = scores.margin(model, 0), scores.log_prob(model, 0)
    moved = attacks.pgd(lambda image: -margin(image), image, **settings)
    assert NORMS["l2"](np.asarray(moved - image)) == pytest.approx(1, rel=1e-5)
    assert_array_equal(attacks.pgd(lambda image: -log_prob(image), image, **settings), image)


def test_images_of_another_range_are_attacked_within_their_bounds():
    image = jnp.array([[[200.0], [252.0]]])
    settings = {"epsilon": 8.0, "step_size": 2.0, "steps": 5}
    attack = functools.partial(attacks.pgd, jnp.sum, image, ball=attacks.LINF, **settings)
    assert_allclose(attack(bounds=(0.0, 255.0)).ravel(), [208, 255])
    assert_allclose(attack(bounds=(-np.inf, np.inf)).ravel(), [208, 260])
    fast = attacks.fgsm(jnp.sum, image, epsilon=8.0, bounds=(0, 255))
    assert_allclose(fast.ravel(), [208, 255])


@pytest.mark.parametrize("epsilon", [0.0, 1e-30])
def test_balls_down_to_a_point(epsilon):
    for ball in BALLS.values():
        assert_array_equal(ball.project(jnp.zeros((2, 1, 1)), epsilon), jnp.zeros((2, 1, 1)))
    small = attacks.L2.project(jnp.array([[[3e-25]], [[4e-25]]]), epsilon)
    assert_allclose(small.ravel(), [0.6 * epsilon, 0.8 * epsilon], rtol=1e-5)


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"image": jnp.full((1, 2, 1), 200.0)},
            ValueError,
            "image to be within the bounds 0.0 and 1.0, got values from 200.0 to 200.0",
        ),
        ({"bounds": (1.0, 0.0)}, ValueError, "upper bound to be at least 1.0, got 0.0"),
        ({"bounds": 1.0}, ValueError, r"bounds to be \(low, high\), got 1.0"),
        ({"epsilon": -0.1}, ValueError, "epsilon to be at least 0, got -0.1"),
        ({"step_size": -0.1}, ValueError, "step_size to be at least 0, got -0.1"),
        ({"epsilon": "a"}, TypeError, "epsilon to be one number, got 'a'"),
        ({"epsilon": np.ones(3)}, ValueError, r"epsilon to be one number, got shape \(3,\)"),
        ({"ball": "l2"}, TypeError, "ball to be L2, LINF or another Ball, got str"),
        ({"loss": 3}, TypeError, "loss to be callable, got int"),
        ({"loss": lambda image: image}, ValueError, r"one real number, got shape \(4, 5, 3\)"),
        ({"key": 3}, TypeError, "key to be a JAX random key, got int"),
        ({"key": jax.random.split(jax.random.key(0))}, ValueError, r"one key, got shape \(2,\)"),
    ],
)
def test_what_is_no_attack_is_named(options, error, message):
    settings = {
        "loss": linear,
        "image": IMAGE,
        "ball": attacks.L2,
        "epsilon": 0.1,
        "step_size": 0.1,
        "steps": 1,
    }
    with pytest.raises(error, match=message):
        attacks.pgd(**(settings | options))


def test_bad_input_is_named(entry_checks):
    settings = {"ball": attacks.L2, "epsilon": 0.1, "step_size": 0.1}
    with pytest.raises(ValueError, match="steps"):
        attacks.pgd(linear, IMAGE, steps=0, **settings)
    with pytest.raises(ValueError, match="image"):
        attacks.pgd(linear, IMAGE[0], steps=1, **settings)
    with pytest.raises(TypeError, match="image"):
        attacks.pgd(linear, jnp.ones((2, 2, 3), int), steps=1, **settings)
