"""DeepLIFT against a slow version over explicit matrices, and complete through everything."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax import lax
from numpy.testing import assert_allclose, assert_array_equal
from precisions import strictly
from slow_rules import matrix, numbers

from saliency_jax import attribution, models, rules, scores
from saliency_jax.models import convolution, depthwise_convolution

CLOSE = {"rtol": 1e-8, "atol": 1e-10}


@pytest.fixture(autouse=True)
def in_double_precision():
    with strictly(True):
        yield


IMAGE, BASELINE = numbers(1, 6, 6, 2), 0.3 * numbers(2, 6, 6, 2)


def along(constants, x):
    return jnp.asarray(constants).reshape((1,) * (x.ndim - 1) + (-1,))


# Slow multipliers: those of what a function takes, for its two inputs and those of its answer.
# Shrikumar et al. 2017, section 3.5.1, one number after the other.


def affine(function, x, x0, multipliers):
    weights, _ = matrix(function, x.shape)
    found = np.zeros(x.size)
    for w, each in zip(weights, multipliers.ravel(), strict=True):
        found += w * each
    return found.reshape(x.shape)


def rescale(function, x, x0, multipliers):
    """In proportion to the change; where there is none, the slope."""
    y, y0 = (np.asarray(function(jnp.asarray(each))) for each in (x, x0))
    found = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        if x[index] == x0[index]:
            slope = jax.grad(lambda each: function(each.reshape(1))[0])(jnp.asarray(x[index]))
            found[index] = slope * multipliers[index]
        else:
            ratio = (y[index] - y0[index]) / (x[index] - x0[index])
            found[index] = ratio * multipliers[index]
    return found


def maximum(windows, x, x0, multipliers):
    """As DeepLIFT's code and SHAP have it: by way of the larger of both answers.

    What is between the larger and the old answer belongs to the winner now, what is between the
    larger and the new one to the winner before.
    """
    contributions = np.zeros(x.shape)
    for pixels, each in zip(windows, multipliers.ravel(), strict=True):
        now = max(pixels, key=lambda pixel: x[pixel])
        before = max(pixels, key=lambda pixel: x0[pixel])
        larger = max(x[now], x0[before])
        contributions[now] += each * (larger - x0[before])
        contributions[before] += each * (x[now] - larger)
    change = np.where(x == x0, 1, x - x0)
    return np.where(x == x0, 0, contributions / change)


def product(a, b, a0, b0, multipliers):
    return multipliers * (b + b0) / 2, multipliers * (a + a0) / 2


def matrix_product(a, b, a0, b0, multipliers):
    return multipliers @ ((b + b0) / 2).T, ((a + a0) / 2).T @ multipliers


def softmax(x, x0, multipliers):
    """Of rows: exp(x - max x) over its sum; a quotient is a product with the reciprocal."""
    rows = []
    for row, row0, each in zip(x, x0, multipliers, strict=True):
        shifted, shifted0 = row - row.max(), row0 - row0.max()
        powers, powers0 = np.exp(shifted), np.exp(shifted0)
        total, total0 = powers.sum(), powers0.sum()
        of_powers, of_reciprocals = product(
            powers, np.full_like(row, 1 / total), powers0, np.full_like(row, 1 / total0), each
        )
        of_powers = of_powers - of_reciprocals.sum() / (total * total0)
        of_shifted = rescale(jnp.exp, shifted, shifted0, of_powers)
        pixels = [(index,) for index in range(row.size)]
        of_maximum = maximum([pixels], row, row0, np.array([-of_shifted.sum()]))
        rows.append(of_shifted + of_maximum)
    return np.stack(rows)


def chain(stages, x, x0):
    """Of a score: all stages in turn, from the last to the first."""
    taken = []
    for function, _ in stages:
        taken.append((np.asarray(x), np.asarray(x0)))
        x, x0 = function(jnp.asarray(x)), function(jnp.asarray(x0))
    multipliers = np.ones(())
    for (function, back), (array, start) in zip(reversed(stages), reversed(taken), strict=True):
        multipliers = back(function, array, start, multipliers)
    return multipliers


def score_of(stages):
    def score(image):
        for function, _ in stages:
            image = function(image)
        return image

    return score


def lift(score):
    """DeepLIFT of a score as one program."""
    return jax.jit(lambda image, baseline: rules.deep_lift(score, image, baseline=baseline))


def conv_block(seed, inputs, outputs, stride=1):
    kernel, bias = numbers(seed, 3, 3, inputs, outputs) / 2, numbers(seed + 1, outputs)
    mean, scale = numbers(seed + 2, outputs), numbers(seed + 3, outputs)

    def function(x):
        convolved = convolution(x[None], jnp.asarray(kernel), stride=stride, padding=1)[0]
        return (convolved + along(bias, x) - along(mean, x)) * along(scale, x)

    return function


def dense(seed, inputs, outputs=None):
    weights = jnp.asarray(numbers(seed, inputs, *(() if outputs is None else (outputs,))))
    bias = jnp.asarray(0.3 * numbers(seed + 1, *weights.shape[1:]))
    return lambda x: x.ravel() @ weights + bias


def window_max(x, size=2, stride=2):
    return lax.reduce_window(x, -jnp.inf, lax.max, (size, size, 1), (stride, stride, 1), "VALID")


def max_pool(size, stride):
    def back(function, x, x0, multipliers):
        windows = [
            [
                (row * stride + i, column * stride + j, channel)
                for i in range(size)
                for j in range(size)
            ]
            for row, column, channel in np.ndindex(multipliers.shape)
        ]
        return maximum(windows, x, x0, multipliers)

    return functools.partial(window_max, size=size, stride=stride), back


ACTIVATIONS = {
    "relu": jax.nn.relu,
    "where": lambda x: jnp.where(x > 0, x, 0),
    "select": lambda x: jnp.select([x > 0], [x], 0.0),
    "relu6": jax.nn.relu6,
    "leaky": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "celu": jax.nn.celu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu by tanh": jax.nn.gelu,
    "silu": jax.nn.silu,
    "hard swish": jax.nn.hard_swish,
    "square": jnp.square,
    "by two rectifiers": lambda x: jax.nn.relu(x) - 0.3 * jax.nn.relu(-x),
    "two to the power": jnp.exp2,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_dense_networks_with_every_activation(name):
    """One activation is one function of one number, whatever it is made of."""
    activation = ACTIVATIONS[name]
    stages = [
        (dense(3, 72, 5), affine),
        (lambda x: x / 4, affine),
        (activation, rescale),
        (dense(4, 5, 4), affine),
        (activation, rescale),
        (dense(5, 4), affine),
    ]
    found = lift(score_of(stages))(IMAGE, BASELINE)
    expected = chain(stages, IMAGE, BASELINE) * (IMAGE - BASELINE)
    assert_allclose(found, expected, **CLOSE)
    once = jax.jit(score_of(stages))
    gap = attribution.completeness_gap(once, IMAGE, found, baseline=BASELINE)
    assert abs(gap) < 1e-12


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2)])
def test_convolutional_network_with_a_max_pool(size, stride):
    pooled = window_max(jnp.zeros((6, 6, 3)), size, stride).size
    stages = [
        (conv_block(6, 2, 3), affine),
        (jax.nn.relu, rescale),
        max_pool(size, stride),
        (dense(7, pooled, 4), affine),
        (jax.nn.relu, rescale),
        (dense(8, 4), affine),
    ]
    score = score_of(stages)
    found = jax.jit(lambda image: rules.deep_lift(score, image, baseline=BASELINE))(IMAGE)
    expected = chain(stages, IMAGE, BASELINE) * (IMAGE - BASELINE)
    assert found.dtype == jnp.float64
    assert_allclose(found, expected, **CLOSE)
    assert_allclose(
        found.sum(), score(jnp.asarray(IMAGE)) - score(jnp.asarray(BASELINE)), rtol=1e-10
    )


def test_a_maximum_by_hand():
    """A rise belongs to the winner now, a fall to the winner before."""

    def score(image):
        return 10.0 * image.max()

    def of(image, baseline):
        arrays = (np.reshape(each, (1, 2, 1)).astype(float) for each in (image, baseline))
        image, baseline = arrays
        return rules.deep_lift(score, image, baseline=baseline).ravel()

    assert_allclose(of([1, 3], [2, 0]), [0, 10])
    assert_allclose(of([1, 0], [2, 3]), [0, -20])
    assert_allclose(of([1, 3], [0, 5]), [0, -20])
    assert_allclose(of([4, 3], [0, 3]), [10, 0])


def test_a_maximum_of_two_convolutions_is_complete():
    first, second, last = conv_block(9, 2, 2), conv_block(13, 2, 2), dense(17, 72)

    def score(image):
        return last(jnp.maximum(first(image), second(image)))

    complete(score, IMAGE, BASELINE, 1e-10)


def test_products_and_gates():
    block = conv_block(18, 2, 3)
    gate_weights = jnp.asarray(numbers(22, 3, 3))
    last = dense(23, 3)

    def score(image):
        x = jax.nn.relu(block(image))
        gate = jax.nn.sigmoid(x.mean((0, 1)) @ gate_weights)
        return last((x * gate[None, None]).mean((0, 1)))

    features, features0 = (np.asarray(block(jnp.asarray(each))) for each in (IMAGE, BASELINE))
    x, x0 = (np.maximum(each, 0) for each in (features, features0))
    before, before0 = (each.mean((0, 1)) @ np.asarray(gate_weights) for each in (x, x0))
    gate, gate0 = (1 / (1 + np.exp(-each)) for each in (before, before0))
    of_gated = affine(lambda each: last(each.mean((0, 1))), x, x0, np.ones(()))
    of_x, of_gates = product(x, gate[None, None], x0, gate0[None, None], of_gated)
    of_before = rescale(jax.nn.sigmoid, before, before0, of_gates.sum((0, 1)))
    of_x = of_x + (np.asarray(gate_weights) @ of_before)[None, None] / 36
    of_features = rescale(jax.nn.relu, features, features0, of_x)
    expected = affine(block, IMAGE, BASELINE, of_features) * (IMAGE - BASELINE)
    assert_allclose(lift(score)(IMAGE, BASELINE), expected, **CLOSE)


TOKENS, TOKENS0 = numbers(24, 2, 2, 3), 0.2 * numbers(25, 2, 2, 3)
QUERY, KEY, VALUE = (numbers(26 + at, 3, 3) for at in range(3))


def attended(tokens, attend=None):
    query, key, value = (tokens @ jnp.asarray(each) for each in (QUERY, KEY, VALUE))
    if attend is not None:
        return attend(query, key, value)
    return jax.nn.softmax(query @ key.T) @ value


def test_attention():
    last = jnp.asarray(numbers(30, 4, 3))

    def score(image):
        return jnp.sum(attended(image.reshape(4, 3)) * last)

    x, x0 = TOKENS.reshape(4, 3), TOKENS0.reshape(4, 3)
    (q, k, v), (q0, k0, v0) = ([each @ w for w in (QUERY, KEY, VALUE)] for each in (x, x0))
    logits, logits0 = q @ k.T, q0 @ k0.T
    maps, maps0 = (np.asarray(jax.nn.softmax(jnp.asarray(each))) for each in (logits, logits0))
    of_maps, of_values = matrix_product(maps, v, maps0, v0, np.asarray(last))
    of_logits = softmax(logits, logits0, of_maps)
    of_queries, of_keys = matrix_product(q, k.T, q0, k0.T, of_logits)
    multipliers = of_queries @ QUERY.T + of_keys.T @ KEY.T + of_values @ VALUE.T
    expected = (multipliers * (x - x0)).reshape(TOKENS.shape)
    assert_allclose(expected.sum(), score(TOKENS) - score(TOKENS0), rtol=1e-10)
    assert_allclose(lift(score)(TOKENS, TOKENS0), expected, **CLOSE)


def test_layer_normalization():
    """x - mean is affine; the root's reciprocal is one function of the variance."""
    last = jnp.asarray(numbers(31, 4, 3))

    def score(image):
        tokens = image.reshape(4, 3)
        centered = tokens - tokens.mean(-1, keepdims=True)
        variance = (centered**2).mean(-1, keepdims=True)
        return jnp.sum(centered * lax.rsqrt(variance + 0.1) * last)

    x, x0 = TOKENS.reshape(4, 3), TOKENS0.reshape(4, 3)
    centered, centered0 = (each - each.mean(-1, keepdims=True) for each in (x, x0))
    variance, variance0 = ((each**2).mean(-1, keepdims=True) for each in (centered, centered0))
    roots, roots0 = ((each + 0.1) ** -0.5 for each in (variance, variance0))
    of_centered, of_roots = product(centered, roots, centered0, roots0, np.asarray(last))
    of_variance = of_roots.sum(-1, keepdims=True) * (roots - roots0) / (variance - variance0)
    of_centered = of_centered + of_variance / 3 * (centered + centered0)
    multipliers = of_centered - of_centered.mean(-1, keepdims=True)
    expected = (multipliers * (x - x0)).reshape(TOKENS.shape)
    assert_allclose(expected.sum(), score(TOKENS) - score(TOKENS0), rtol=1e-10)
    assert_allclose(lift(score)(TOKENS, TOKENS0), expected, **CLOSE)


def complete(score, image, baseline, tolerance):
    found = lift(score)(image, baseline)
    assert np.isfinite(found).all()
    once = jax.jit(lambda image: score(image))
    change = once(image) - once(jnp.asarray(baseline, image.dtype))
    gap = attribution.completeness_gap(once, image, found, baseline=baseline)
    assert abs(change) > 1e-3
    assert abs(gap) < tolerance * abs(change)
    return found


def normalized_by_var(x):
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)


def normalized_by_flax(x):
    mean = x.mean(-1, keepdims=True)
    variance = jnp.maximum((x * x).mean(-1, keepdims=True) - mean * mean, 0)
    return (x - mean) * lax.rsqrt(variance + 1e-6)


def root_mean_square(x):
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)


def by_power(x):
    return x * (jnp.mean(x**2, -1, keepdims=True) + 1e-5) ** -0.5


def standardized(x):
    return jax.nn.standardize(x, axis=-1)


def causal(query, key, value):
    logits = jnp.where(jnp.tril(jnp.ones((4, 4), bool)), query @ key.T, -jnp.inf)
    return jax.nn.softmax(logits) @ value


def by_hand(query, key, value):
    powers = jnp.exp(query @ key.T)
    return (powers / powers.sum(-1, keepdims=True)) @ value


def linear_attention(query, key, value):
    query, key = jax.nn.elu(query) + 1, jax.nn.elu(key) + 1
    return (query @ (key.T @ value)) / (query @ key.sum(0)[:, None])


def in_single_precision(query, key, value):
    logits = (query @ key.T).astype(jnp.float32)
    return jax.nn.softmax(logits).astype(value.dtype) @ value


def unit_rows(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


TRANSFORMERS = {
    "softmax": (normalized_by_var, None),
    "flax's normalization": (normalized_by_flax, None),
    "root mean square": (root_mean_square, by_hand),
    "by a power": (by_power, None),
    "standardized": (standardized, None),
    "causal": (normalized_by_var, causal),
    "linear attention": (normalized_by_var, linear_attention),
    "unit rows": (unit_rows, None),
    "unnormalized": (lambda x: x, by_hand),
}


def transformer(normalize, attend, seed=40):
    first, second, last = numbers(seed, 3, 5), numbers(seed + 1, 5, 3), numbers(seed + 2, 3, 2)

    def model(image):
        tokens = image.reshape(4, 3)
        tokens = tokens + attended(normalize(tokens), attend)
        hidden = jax.nn.gelu(normalize(tokens) @ first.astype(image.dtype))
        tokens = tokens + hidden @ second.astype(image.dtype)
        return tokens.mean(0) @ last.astype(image.dtype)

    return model


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_are_complete(name):
    model = transformer(*TRANSFORMERS[name])
    complete(scores.logit(model, 1), TOKENS, TOKENS0, 1e-9)


STANDARDIZED = {
    "deviation": lambda x: (x - x.mean()) / x.std(),
    "at least": lambda x: (x - x.mean()) / jnp.maximum(x.std(), 0.1),
    "reciprocal": lambda x: (x - x.mean()) * (1 / x.std()),
    "largest": lambda x: x / (x.max() + 1),
    "total": lambda x: x / jnp.abs(x).sum(),
}


@pytest.mark.parametrize("name", STANDARDIZED)
def test_an_image_standardized_by_itself_is_complete(name):
    """By one number for the whole image."""
    last = dense(70, 72)

    def score(image):
        return last(jax.nn.relu(STANDARDIZED[name](image)))

    complete(score, IMAGE, BASELINE, 1e-10)


def test_a_softmax_in_another_precision_is_complete():
    model = transformer(normalized_by_var, in_single_precision)
    complete(scores.logit(model, 1), TOKENS, TOKENS0, 1e-5)


@pytest.mark.parametrize("attend", [None, jax.nn.dot_product_attention])
def test_single_precision_is_complete(attend):
    """Under 1e-5 of the score's change, or of what single precision leaves of the score."""

    def by_library(query, key, value):
        return attend(query[:, None], key[:, None], value[:, None])[:, 0]

    with strictly(False):
        singles = [jnp.asarray(each, jnp.float32) for each in (QUERY, KEY, VALUE)]

        def attended_in_single(tokens):
            query, key, value = (tokens @ each for each in singles)
            if attend is None:
                return jax.nn.softmax(query @ key.T) @ value
            return by_library(query, key, value)

        def score(image):
            tokens = normalized_by_var(image.reshape(4, 3))
            tokens = tokens + attended_in_single(tokens)
            return jnp.sum(jax.nn.gelu(tokens)[:, 0])

        image, baseline = (jnp.asarray(each, jnp.float32) for each in (TOKENS, TOKENS0))
        complete(score, image, baseline, 1e-5)


def test_a_whole_residual_network_is_complete_in_single_precision():
    with strictly(False):
        score = scores.logit(models.load("tiny-imagenet-standard").network, 5)
        complete(score, small_models.image((16, 16, 3)), np.zeros((16, 16, 3), np.float32), 1e-5)


def residual_model(seed=50):
    first, second, third = (conv_block(seed + 4 * at, 2, 2) for at in range(3))
    depthwise = jnp.asarray(numbers(seed + 12, 3, 3, 1, 2))
    last = dense(seed + 13, 4, 3)

    def model(image):
        x = jax.nn.relu(first(image))
        x = jax.nn.relu(x + second(x))
        shifted = depthwise_convolution(x[None], depthwise, padding=((1, 1), (1, 1)))[0]
        both = jnp.concatenate([jax.nn.relu6(shifted), jax.nn.silu(third(x))], -1)
        return last(window_max(both).mean((0, 1)))

    return model


READOUTS = {
    "logit": scores.logit,
    "log_prob": scores.log_prob,
    "probability": scores.probability,
    "margin": scores.margin,
}


@pytest.mark.parametrize("name", READOUTS)
def test_every_readout_is_complete(name):
    complete(READOUTS[name](residual_model(), 1), IMAGE, BASELINE, 1e-9)


@pytest.mark.parametrize("function", [jax.nn.log_softmax, jax.nn.softmax, jax.nn.logsumexp])
def test_a_models_own_normalization_of_its_answer_is_complete(function):
    model = residual_model()
    weights = jnp.array([1.0, -2.0, 0.5])

    def score(image):
        return jnp.sum(function(model(image)) * weights)

    complete(score, IMAGE, BASELINE, 1e-9)


def test_inside_a_scan_and_a_checkpoint():
    kernels = jnp.asarray(numbers(60, 3, 3, 3, 2, 2))

    @jax.checkpoint
    def step(x, kernel):
        return jax.nn.relu(x + convolution(x[None], kernel, padding=1)[0]), None

    def scanned(image):
        return lax.scan(step, image, kernels)[0].sum()

    def looped(image):
        for kernel in kernels:
            image, _ = step(image, kernel)
        return image.sum()

    found = complete(scanned, IMAGE, BASELINE, 1e-10)
    assert_allclose(found, lift(looped)(IMAGE, BASELINE), **CLOSE)


def test_of_a_linear_score_it_is_the_change_times_the_weights():
    weights = numbers(61, 6, 6, 2)
    found = rules.deep_lift(lambda image: jnp.sum(weights * image), IMAGE, baseline=BASELINE)
    assert_allclose(found, weights * (IMAGE - BASELINE), **CLOSE)


def test_a_pixel_that_does_not_change_gets_nothing():
    image = IMAGE.copy()
    image[:3] = BASELINE[:3]
    found = complete(scores.logit(residual_model(), 0), image, BASELINE, 1e-9)
    assert_array_equal(found[:3], 0)


def test_by_default_the_baseline_is_black_and_may_be_a_function():
    score = scores.logit(residual_model(), 0)
    given = lift(score)
    black = jax.jit(lambda image: rules.deep_lift(score, image))(IMAGE)
    assert_allclose(black, given(IMAGE, np.zeros_like(IMAGE)), **CLOSE)
    half = jax.jit(lambda image: rules.deep_lift(score, image, baseline=lambda image: image / 2))
    assert_allclose(half(IMAGE), given(IMAGE, IMAGE / 2), **CLOSE)


SCORES = {
    "logit": lambda image: residual_model()(image)[0],
    "log_prob": lambda image: scores.log_prob(residual_model(), 1)(image),
    "norm": lambda image: jnp.sum(jnp.linalg.norm(image, axis=-1)),
    "softmax": lambda image: jnp.sum(jax.nn.softmax(image, -1)[..., 0] * image[..., 1]),
}


@pytest.mark.parametrize("name", SCORES)
def test_an_image_that_is_its_baseline_gets_zeros(name):
    assert_array_equal(lift(SCORES[name])(IMAGE, IMAGE), 0)


def test_where_image_and_baseline_are_black_there_are_zeros():
    zeros = jnp.zeros((4, 4, 2))

    def score(image):
        return jnp.sum(jax.nn.relu(image) * jax.nn.sigmoid(image))

    assert_array_equal(rules.deep_lift(score, zeros), 0)


def test_a_tiny_change_is_the_gradients():
    score = scores.logit(residual_model(), 0)
    image = BASELINE + 1e-9 * IMAGE
    found = lift(score)(image, BASELINE)
    slope = jax.jit(lambda image: attribution.input_gradient(score, image))(BASELINE)
    assert_allclose(found, slope * (image - BASELINE), rtol=1e-4, atol=1e-14)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_deep_shap_is_the_mean_over_baselines(batch_size):
    score = scores.logit(residual_model(), 2)
    baselines = numbers(62, 3, 6, 6, 2)
    shap = functools.partial(rules.deep_shap, score, batch_size=batch_size)
    found = jax.jit(lambda image, baselines: shap(image, baselines=baselines))(IMAGE, baselines)
    one, once = lift(score), jax.jit(lambda image: score(image))
    each = [one(IMAGE, baseline) for baseline in baselines]
    assert_allclose(found, np.mean(each, axis=0), **CLOSE)
    change = once(IMAGE) - np.mean([once(baseline) for baseline in baselines])
    assert_allclose(found.sum(), change, rtol=1e-9)


def test_of_independent_pixels_deep_shap_is_shapleys_value():
    """Of a sum of functions of a pixel each: f(x) - mean f(baseline), pixel by pixel."""

    def score(image):
        return jnp.sum(jax.nn.relu(image - 0.5) + jnp.tanh(image))

    baselines = numbers(63, 4, 2, 3, 1)
    image = numbers(64, 2, 3, 1)
    found = rules.deep_shap(score, image, baselines=baselines)
    each = [np.maximum(x - 0.5, 0) + np.tanh(x) for x in (image, *baselines)]
    assert_allclose(found, each[0] - np.mean(each[1:], axis=0), **CLOSE)


def test_jit_and_vmap_over_images_and_baselines():
    score = scores.logit(residual_model(), 0)
    images, baselines = numbers(65, 2, 6, 6, 2), 0.5 * numbers(66, 2, 6, 6, 2)
    one_by_one = lift(score)
    looped = [one_by_one(*pair) for pair in zip(images, baselines, strict=True)]

    def one(image, baseline):
        return rules.deep_lift(score, image, baseline=baseline)

    assert_allclose(jax.jit(jax.vmap(one))(images, baselines), np.stack(looped), **CLOSE)


@pytest.mark.usefixtures("entry_checks")
def test_baselines_of_another_shape_are_refused():
    score = scores.logit(residual_model(), 0)
    with pytest.raises(ValueError, match=r"baselines to have shape \(n, 6, 6, 2\), got \(2, 5, 6"):
        rules.deep_shap(score, IMAGE, baselines=np.zeros((2, 5, 6, 2)))
    with pytest.raises(ValueError, match="baseline"):
        rules.deep_lift(score, IMAGE, baseline=np.zeros((5, 6, 2)))


def by_sorting(image):
    return jnp.sort(image.ravel())[0]


def by_choosing(image):
    doubled, turned = 2 * image, image[::-1]
    return jnp.where(doubled > turned, doubled, turned).sum()


@pytest.mark.parametrize(("score", "primitive"), [(by_sorting, "sort"), (by_choosing, "select_n")])
def test_an_operation_without_a_rule_is_refused_by_name_and_line(score, primitive):
    message = rf"got {primitive} at test_deep_lift.py:\d+ \({score.__name__}\)"
    with pytest.raises(ValueError, match=message):
        rules.deep_lift(score, small_models.image((2, 2, 1)))
