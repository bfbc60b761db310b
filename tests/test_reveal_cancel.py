"""RevealCancel against a slow version, one number after the other, and what it was made for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from numpy.testing import assert_allclose, assert_array_equal
from precisions import strictly
from slow_rules import matrix, numbers

from saliency_jax import attribution, rules

CLOSE = {"rtol": 1e-8, "atol": 1e-11}


@pytest.fixture(autouse=True)
def in_double_precision():
    with strictly(True):
        yield


# Shrikumar et al. 2017: a network is a list of steps (kind, function, numbers of the values that it
# takes), the image being value 0; every value's change has a part that rises and one that falls.


def parts_of(kind, function, taken):
    """Sections 3.5.1 and 3.5.3, of what a step makes."""
    if kind == "affine":
        rise = fall = 0
        for x, x0, _ in taken:
            weights, _ = matrix(function, x.shape)
            for column, change in zip(weights.T, (x - x0).ravel(), strict=True):
                rise = rise + np.maximum(column * change, 0)
                fall = fall + np.minimum(column * change, 0)
        shape = np.shape(function(jnp.asarray(taken[0][0])))
        return rise.reshape(shape), fall.reshape(shape)
    ((_, x0, (up, down)),) = taken

    def f(values):
        return np.asarray(function(jnp.asarray(values)))

    rise = ((f(x0 + up) - f(x0)) + (f(x0 + down + up) - f(x0 + down))) / 2
    fall = ((f(x0 + down) - f(x0)) + (f(x0 + up + down) - f(x0 + up))) / 2
    return rise, fall


def ratio(function, made, x0, part, other):
    """Of a part that is not there the limit, the mean of two slopes."""

    def slope(x):
        return np.asarray(jax.grad(lambda x: function(x).sum())(jnp.asarray(x)))

    there = part != 0
    limit = (slope(x0) + slope(x0 + other)) / 2
    return np.where(there, made / np.where(there, part, 1), limit)


def slowly(steps, image, baseline):
    values = [(image, baseline, (np.maximum(image - baseline, 0), np.minimum(image - baseline, 0)))]
    for kind, function, indices in steps:
        taken = [values[number] for number in indices]
        parts = parts_of(kind, function, taken)
        ends = [
            sum(np.asarray(function(jnp.asarray(each[at]))) for each in taken) for at in range(2)
        ]
        values.append((*ends, parts))
    rises = [np.zeros(np.shape(value[0])) for value in values]
    falls = [np.zeros(np.shape(value[0])) for value in values]
    rises[-1], falls[-1] = np.ones(np.shape(rises[-1])), np.ones(np.shape(falls[-1]))
    for at in range(len(steps), 0, -1):
        kind, function, numbers = steps[at - 1]
        _, _, (rise, fall) = values[at]
        for number in numbers:
            x, x0, (up, down) = values[number]
            if kind == "elementwise":
                rises[number] += rises[at] * ratio(function, rise, x0, up, down)
                falls[number] += falls[at] * ratio(function, fall, x0, down, up)
                continue
            weights, _ = matrix(function, x.shape)
            found = np.zeros(x.size)
            for i, change in enumerate((x - x0).ravel()):
                for j, (m_up, m_down) in enumerate(
                    zip(rises[at].ravel(), falls[at].ravel(), strict=True)
                ):
                    w = weights[j, i]
                    mean = (m_up + m_down) / 2
                    found[i] += w * (m_up if w * change > 0 else m_down if w * change < 0 else mean)
            rises[number] += found.reshape(x.shape)
            falls[number] += found.reshape(x.shape)
    return np.where(image > baseline, rises[0], falls[0]) * (image - baseline)


def score_of(steps):
    def score(image):
        values = [image]
        for _, function, taken in steps:
            made = [function(values[number]) for number in taken]
            values.append(made[0] if len(made) == 1 else made[0] + made[1])
        return values[-1]

    return score


def dense(seed, inputs, *outputs):
    weights, bias = numbers(seed, inputs, *outputs), numbers(seed + 1, *outputs) / 2

    def function(x):
        return x.ravel() @ jnp.asarray(weights, x.dtype)

    return function, lambda x: function(x) + jnp.asarray(bias, x.dtype)


def convolved(seed, inputs, outputs):
    kernel = numbers(seed, 3, 3, inputs, outputs) / 3
    scale = numbers(seed + 1, 1, 1, outputs)

    def like(array, x):
        return jnp.asarray(array, x.dtype)

    def function(x):
        layout = ("NHWC", "HWIO", "NHWC")
        made = lax.conv_general_dilated(
            x[None], like(kernel, x), (1, 1), "SAME", dimension_numbers=layout
        )
        return made[0] * like(scale, x)

    return function


def identity(x):
    return x


IMAGE, BASELINE = numbers(1, 4, 4, 2), 0.3 * numbers(2, 4, 4, 2)
NETWORKS = {
    "dense": [
        ("affine", dense(3, 32, 9)[1], [0]),
        ("elementwise", jax.nn.relu, [1]),
        ("affine", dense(5, 9, 8)[1], [2]),
        ("elementwise", jax.nn.gelu, [3]),
        ("affine", dense(7, 8)[1], [4]),
    ],
    "activations in a row": [
        ("affine", dense(9, 32, 9)[1], [0]),
        ("elementwise", jax.nn.leaky_relu, [1]),
        ("elementwise", jnp.tanh, [2]),
        ("affine", dense(11, 9)[1], [3]),
    ],
    "convolutions": [
        ("affine", convolved(13, 2, 3), [0]),
        ("elementwise", jax.nn.relu, [1]),
        ("affine", convolved(15, 3, 2), [2]),
        ("elementwise", jax.nn.relu, [3]),
        ("affine", dense(17, 32)[1], [4]),
    ],
    "residual": [
        ("affine", convolved(19, 2, 2), [0]),
        ("elementwise", jax.nn.leaky_relu, [1]),
        ("affine", convolved(21, 2, 2), [2]),
        ("elementwise", jax.nn.silu, [3]),
        ("affine", convolved(23, 2, 2), [4]),
        ("affine", identity, [5, 2]),
        ("elementwise", jnp.tanh, [6]),
        ("affine", dense(25, 32)[1], [7]),
    ],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_slow_version(name):
    steps = NETWORKS[name]
    score = score_of(steps)
    expected = slowly(steps, IMAGE, BASELINE)
    change = score(IMAGE) - score(BASELINE)
    assert_allclose(expected.sum(), change, rtol=1e-9)
    found = rules.deep_lift(score, IMAGE, baseline=BASELINE, rule=rules.reveal_cancel)
    assert_allclose(found, expected, **CLOSE)
    rescaled = rules.deep_lift(score, IMAGE, baseline=BASELINE)
    assert np.linalg.norm(found - rescaled) > 0.01 * np.linalg.norm(rescaled)


@pytest.mark.parametrize(("a", "b"), [(10.0, 5.0), (5.0, 10.0), (3.0, 1.0), (0.1, 7.0)])
def test_of_the_smaller_of_two_numbers_either_has_half(a, b):
    """Section 3.5.3: by the rescale rule the smaller has all of it."""

    def smaller(image):
        first, second = image.ravel()
        return first - jax.nn.relu(first - second)

    image = np.array([[[a], [b]]])
    found = rules.deep_lift(smaller, image, rule=rules.reveal_cancel)
    assert_allclose(found.ravel(), [min(a, b) / 2] * 2, rtol=1e-12)
    rescaled = rules.deep_lift(smaller, image)
    assert_allclose(rescaled.ravel(), [a, 0] if a < b else [0, b], atol=1e-12)


def test_of_an_and_each_has_half():
    """relu(a + b - 1) at (1, 1): there is one change to share, and it rises by both alike."""

    def both(image):
        return jax.nn.relu(image.sum() - 1)

    found = rules.deep_lift(both, np.ones((1, 2, 1)), rule=rules.reveal_cancel)
    assert_allclose(found.ravel(), [0.5, 0.5], rtol=1e-12)


def test_where_all_rises_it_is_the_rescale_rule():
    first, last = (np.abs(numbers(seed, 8, 8)) for seed in (27, 28))
    image = np.abs(numbers(29, 2, 4, 1))

    def score(image):
        hidden = jnp.tanh(image.ravel() @ jnp.asarray(first) / 8)
        return jax.nn.gelu(hidden @ jnp.asarray(last)).sum()

    found = rules.deep_lift(score, image, rule=rules.reveal_cancel)
    assert_allclose(found, rules.deep_lift(score, image, rule=rules.rescale), **CLOSE)


def test_without_activations_it_is_the_change_times_the_weights():
    weights = numbers(30, 4, 4, 2)
    found = rules.deep_lift(
        lambda image: jnp.sum(weights * image), IMAGE, baseline=BASELINE, rule=rules.reveal_cancel
    )
    assert_allclose(found, weights * (IMAGE - BASELINE), **CLOSE)


@pytest.mark.parametrize(
    "rearrange",
    [lambda x: x[::-1].T, lambda x: jnp.concatenate([x, jnp.zeros((4, 1), x.dtype)], 1)],
)
def test_a_rearrangement_hands_on_the_parts(rearrange):
    """It may stand between an affine operation and its activation, or not."""
    kernel, last = jnp.asarray(numbers(31, 8, 5)), jnp.asarray(numbers(32, 4, 5))
    weights = rearrange(last)

    def before(image):
        return jnp.sum(jnp.tanh(rearrange(image.reshape(4, 8) @ kernel)) * weights)

    def after(image):
        return jnp.sum(rearrange(jnp.tanh(image.reshape(4, 8) @ kernel)) * weights)

    found, expected = (
        rules.deep_lift(score, IMAGE, baseline=BASELINE, rule=rules.reveal_cancel)
        for score in (before, after)
    )
    assert_allclose(found, expected, **CLOSE)


def by_pooling(image):
    return jax.nn.relu(jnp.max(2 * image, axis=(0, 1)) - 1).sum()


def by_pooling_first(image):
    return jax.nn.relu(jnp.max(2 * image, axis=(0, 1))).sum()


def by_multiplying(image):
    return jnp.tanh(image * image[::-1]).sum()


def test_behind_a_maximum_and_a_bias_parts_are_known():
    found = rules.deep_lift(by_pooling, IMAGE, baseline=BASELINE, rule=rules.reveal_cancel)
    assert_allclose(found.sum(), by_pooling(IMAGE) - by_pooling(BASELINE), rtol=1e-12)


@pytest.mark.parametrize(
    ("score", "primitive"), [(by_pooling_first, "reduce_max"), (by_multiplying, "mul")]
)
def test_what_has_no_parts_is_refused_by_name_and_line(score, primitive):
    message = rf"parts are known, got {primitive} at test_reveal_cancel.py:\d+ \({score.__name__}\)"
    with pytest.raises(ValueError, match=message):
        rules.deep_lift(score, IMAGE, baseline=BASELINE, rule=rules.reveal_cancel)
    assert jnp.isfinite(rules.deep_lift(score, IMAGE, baseline=BASELINE)).all()


def test_a_rule_that_tells_rise_from_fall_is_refused_there_too():
    def rule(change):
        found, _ = rules.rescale(change)
        return found, 2 * found

    with pytest.raises(ValueError, match="parts are known, got reduce_max"):
        rules.deep_lift(by_pooling_first, IMAGE, baseline=BASELINE, rule=rule)


def test_jit_and_vmap_and_deep_shap():
    score = score_of(NETWORKS["residual"])
    baselines = np.stack([BASELINE, 0.5 * IMAGE, numbers(33, 4, 4, 2)])

    @jax.jit
    @jax.vmap
    def explain(baseline):
        return rules.deep_lift(score, IMAGE, baseline=baseline, rule=rules.reveal_cancel)

    looped = [
        rules.deep_lift(score, IMAGE, baseline=baseline, rule=rules.reveal_cancel)
        for baseline in baselines
    ]
    assert_allclose(explain(baselines), looped, **CLOSE)
    found = rules.deep_shap(score, IMAGE, baselines=baselines, rule=rules.reveal_cancel)
    assert_allclose(found, np.mean(looped, axis=0), **CLOSE)


def test_an_image_that_is_its_baseline_gets_zeros():
    score = score_of(NETWORKS["convolutions"])
    found = rules.deep_lift(score, IMAGE, baseline=IMAGE, rule=rules.reveal_cancel)
    assert_array_equal(found, 0)


def test_a_sum_may_repeat_what_rises_and_falls():
    """As squared distances to several centers do."""
    image, centers = numbers(40, 2, 2, 3), jnp.asarray(numbers(41, 3, 4))

    def score(image):
        return ((centers - image.mean((0, 1))[:, None]) ** 2).sum()

    found = rules.deep_lift(score, image, rule=rules.reveal_cancel)
    gap = attribution.completeness_gap(score, image, found)
    assert abs(gap) < 1e-9 * abs(score(image) - score(jnp.zeros_like(image)))


def test_in_single_precision_it_is_complete():
    score = score_of(NETWORKS["residual"])
    image, baseline = IMAGE.astype(np.float32), BASELINE.astype(np.float32)
    found = rules.deep_lift(score, image, baseline=baseline, rule=rules.reveal_cancel)
    assert found.dtype == jnp.float32
    change = score(IMAGE) - score(BASELINE)
    assert abs(float(found.sum()) - change) < 1e-5 * abs(change)


def test_a_rule_of_ones_own_is_a_function():
    """The slope at the baseline: from black what is left is the gradient there times the image."""

    def slope(change):
        _, back = jax.vjp(change.function, change.start)
        (found,) = back(jnp.ones_like(change.start))
        return found, found

    score = score_of(NETWORKS["residual"])
    found = rules.deep_lift(score, IMAGE, baseline=BASELINE, rule=slope)
    gradient = attribution.input_gradient(score, BASELINE)
    assert_allclose(found, gradient * (IMAGE - BASELINE), **CLOSE)
