"""Relevance propagation against a slow version over explicit matrices, written from the papers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow_rules
from jax import lax
from numpy.testing import assert_allclose
from precisions import strictly
from slow_rules import (
    Activation,
    Affine,
    Concatenation,
    Gate,
    MaxPool,
    Normalization,
    SelfAttention,
    Sum,
    numbers,
)

from saliency_jax import attribution, models, rules, scores
from saliency_jax.layers import Layer
from saliency_jax.models import convolution, depthwise_convolution

CLOSE = {"rtol": 1e-7, "atol": 1e-9}
# Where epsilon is the default and the slow version's is none.
NEAR = {"rtol": 1e-3, "atol": 1e-6}
RULES = {
    "epsilon": (rules.epsilon, slow_rules.epsilon, {"epsilon": 0.05}),
    "epsilon by default": (
        rules.epsilon,
        lambda *affine, epsilon=1e-6: slow_rules.epsilon(*affine, epsilon),
        {},
    ),
    "gamma": (rules.gamma, slow_rules.gamma, {"gamma": 0.7, "epsilon": 0.02}),
    "gamma by default": (rules.gamma, slow_rules.gamma, {}),
    "alpha-beta": (rules.alpha_beta, slow_rules.alpha_beta, {"epsilon": 0.03}),
    "alpha 1": (rules.alpha_beta, slow_rules.alpha_beta, {"alpha": 1.0, "beta": 0.0}),
    "z+": (rules.z_plus, slow_rules.z_plus, {}),
    "flat": (rules.flat, slow_rules.flat, {}),
    "w^2": (rules.w_squared, slow_rules.w_squared, {"epsilon": 0.01}),
    "z^B": (rules.z_box, slow_rules.z_box, {"low": -1.0, "high": 2.0}),
}
each_rule = pytest.mark.parametrize("name", RULES)


@pytest.fixture(autouse=True)
def in_double_precision():
    with strictly(True):
        yield


def exactly(operation):
    """The rules of AttnLRP, all with an epsilon that vanishes."""
    by_kind = {"affine": rules.epsilon, "sum": rules.epsilon, "product": rules.uniform}
    rule = by_kind.get(operation.kind)
    return rule and functools.partial(rule, epsilon=1e-12)


def everywhere(rule, parameters):
    """For all weights; a network's mean may be divided by its count in the next operation."""
    bound = functools.partial(rule, **parameters)
    return lambda operation: bound if operation.has_weights else exactly(operation)


def by_depth(*bound):
    def composite(operation):
        return bound[operation.depth] if operation.has_weights else exactly(operation)

    return composite


def vanishing(name):
    """A rule and its slow version whose epsilon vanishes; z^B for the first operation alone."""
    rule, slow, parameters = RULES[name]
    slow = functools.partial(slow, **parameters | {"epsilon": 1e-12})
    bound = functools.partial(rule, **parameters | {"epsilon": 1e-12})
    is_box = rule is rules.z_box

    def composite(operation):
        chosen = operation.has_weights and (operation.is_first or not is_box)
        return bound if chosen else exactly(operation)

    return composite, slow, slow_rules.epsilon if is_box else slow


def relevance(stages, image, composite, label=0):
    score = scores.logit(lambda image: slow_rules.forward(stages, image), label)
    found = jax.jit(lambda image: rules.lrp(score, image, composite=composite))(image)
    assert found.dtype == jnp.float64
    return found


# Of the same numbers the same function, whose matrix is then found once for all rules.
@functools.cache
def dense(seed, inputs, outputs, bias=True):
    weights = numbers(seed, inputs, outputs)
    constants = numbers(seed + 100, outputs) if bias else np.zeros(outputs)
    return lambda x: x.ravel() @ weights + constants


@functools.cache
def of_tokens(seed, inputs, outputs, bias=True):
    weights = jnp.asarray(numbers(seed, inputs, outputs))
    constants = jnp.asarray(numbers(seed + 100, outputs) * (0.3 if bias else 0))
    return lambda x: x @ weights + along(constants, x)


def along(constants, x):
    """A constant for each channel, repeated along the other axes: ranks are strict here."""
    return constants.reshape((1,) * (x.ndim - 1) + (-1,))


def normalized(x, seed):
    """Inference's batch normalization, in the form that Flax has it."""
    width = x.shape[-1]
    mean, scale, bias = (along(jnp.asarray(numbers(seed + at, width)), x) for at in range(3))
    variance = along(jnp.abs(jnp.asarray(numbers(seed + 3, width))), x)
    multiplier = jax.lax.rsqrt(variance + 1e-5) * scale
    return (x - mean) * multiplier + bias


@functools.cache
def conv_block(seed, inputs, outputs, size=3, stride=1, padding=1, convolve=None):
    """Convolution, bias, batch normalization: one affine stage."""
    kernel = jnp.asarray(numbers(seed, size, size, inputs, outputs) / size)
    bias = jnp.asarray(numbers(seed + 50, outputs))

    def by_lax(x):
        return jax.lax.conv_general_dilated(
            x[None],
            kernel,
            (stride, stride),
            ((padding, padding),) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )[0]

    def of_ours(x):
        return convolution(x[None], kernel, stride=stride, padding=padding)[0]

    chosen = of_ours if convolve == "ours" else by_lax
    return lambda x: normalized(chosen(x) + bias[None, None], seed)


@functools.cache
def depthwise_block(seed, channels):
    """By shifts, as the mobile networks here have it."""
    kernel = jnp.asarray(numbers(seed, 3, 3, 1, channels) / 2)

    def function(x):
        return normalized(depthwise_convolution(x[None], kernel, padding=((1, 1), (1, 1)))[0], seed)

    return function


def mean_pool(x):
    h, w, c = x.shape
    return x.reshape(h // 2, 2, w // 2, 2, c).mean((1, 3))


relu = Activation(jax.nn.relu)
VECTOR = numbers(1, 1, 5, 1)
IMAGE = numbers(2, 6, 6, 2)


@each_rule
def test_dense_network(name):
    rule, slow, parameters = RULES[name]
    slow = functools.partial(slow, **parameters)
    stages = [
        Affine(dense(3, 5, 6), slow),
        relu,
        Affine(dense(4, 6, 4), slow),
        relu,
        Affine(dense(5, 4, 3), slow),
    ]
    for label in range(3):
        found = relevance(stages, VECTOR, everywhere(rule, parameters), label)
        assert_allclose(found, slow_rules.lrp(stages, VECTOR, label), **CLOSE)


@each_rule
@pytest.mark.parametrize("convolve", ["lax", "ours"])
def test_convolution_with_batch_normalization_is_one_operation(name, convolve):
    rule, slow, parameters = RULES[name]
    slow = functools.partial(slow, **parameters)
    stages = [
        Affine(conv_block(6, 2, 3, stride=2, convolve=convolve), slow),
        relu,
        Affine(dense(7, 27, 2), slow),
    ]
    found = relevance(stages, IMAGE, everywhere(rule, parameters))
    assert_allclose(found, slow_rules.lrp(stages, IMAGE), **CLOSE)


def along_first(constants, x):
    return constants.reshape((-1,) + (1,) * (x.ndim - 1))


def of_layout(x, kernel, layout, **settings):
    return lax.conv_general_dilated(x, jnp.asarray(kernel), dimension_numbers=layout, **settings)


HWIO = ("NHWC", "HWIO", "NHWC")
KERNEL, DEEP, SHIFTS = numbers(60, 3, 3, 2, 3), numbers(61, 3, 3, 1, 4), numbers(62, 3)


def grouped(x):
    """Two groups of a channel each, two outputs from either."""
    settings = {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 2}
    return of_layout(x[None], DEEP, HWIO, **settings)[0]


def dilated(x):
    settings = {"window_strides": (1, 1), "padding": "SAME", "rhs_dilation": (2, 2)}
    return of_layout(x[None], KERNEL, HWIO, **settings)[0] + along(SHIFTS, x)


def transposed(x):
    return lax.conv_transpose(x[None], jnp.asarray(KERNEL), (2, 2), "SAME", dimension_numbers=HWIO)[
        0
    ]


def channels_first(x):
    kernel = KERNEL.transpose(3, 2, 0, 1)
    settings = {"window_strides": (2, 2), "padding": "SAME"}
    made = of_layout(x.transpose(2, 0, 1)[None], kernel, ("NCHW", "OIHW", "NCHW"), **settings)[0]
    made = made + along_first(SHIFTS, made)
    multiplier = along_first(1 / np.sqrt(np.abs(SHIFTS) + 0.1), made)
    return (made - 0.3) * multiplier


def along_rows(x):
    """In one dimension."""
    kernel = KERNEL[:, 0]
    settings = {"window_strides": (2,), "padding": "VALID"}
    return of_layout(x, kernel, ("NWC", "WIO", "NWC"), **settings)


def wrapped(x):
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="wrap")
    return of_layout(padded[None], KERNEL, HWIO, window_strides=(1, 1), padding="VALID")[0]


def unstacked(x):
    turned = jnp.stack(jnp.unstack(x, axis=1)[::-1], axis=1)
    return of_layout(turned[None], KERNEL, HWIO, window_strides=(1, 1), padding="VALID")[0]


def tiled(x):
    twice = jnp.tile(x, (1, 2, 1))
    return of_layout(twice[None], KERNEL, HWIO, window_strides=(1, 1), padding="VALID")[0]


def normalized_before(x):
    """Batch normalization, then padding, then the convolution: zeros are the normalized ones."""
    x = x * along(SHIFTS[:2], x) + along(SHIFTS[1:], x)
    return of_layout(x[None], KERNEL, HWIO, window_strides=(1, 1), padding="SAME")[0]


def standardized_weights(x):
    kernel = (KERNEL - KERNEL.mean((0, 1, 2), keepdims=True)) / KERNEL.std((0, 1, 2), keepdims=True)
    return of_layout(x[None], kernel, HWIO, window_strides=(1, 1), padding="SAME")[0]


def by_einsum(x):
    weights = jnp.asarray(numbers(63, 6, 2, 4))
    return jnp.einsum("hwc,wco->ho", x, weights) - 0.2


def from_the_left(x):
    return jnp.asarray(numbers(64, 4, 6)) @ x[..., 0]


def by_dot_general(x):
    weights = jnp.asarray(numbers(65, 2, 6, 3))
    return lax.dot_general(x, weights, (((1,), (1,)), ((2,), (0,))))


def patches(x):
    """A vision transformer's: cut out, flattened, multiplied."""
    cut = x.reshape(2, 3, 2, 3, 2).swapaxes(1, 2).reshape(4, 18)
    return cut @ jnp.asarray(numbers(66, 18, 3)) + SHIFTS[None]


def subtracted(x):
    return 1.0 - x.ravel() @ jnp.asarray(numbers(67, 72, 4))


def scaled_and_scaled(x):
    return -2.0 * (x.ravel() @ jnp.asarray(numbers(70, 72, 4))) / 3.0 + 1.0


def turned(x):
    """In the plane of both channels, as positions are in a transformer."""
    angles = jnp.asarray(numbers(73, 6, 6))
    weights = lax.complex(jnp.cos(angles), jnp.sin(angles))
    found = lax.complex(x[..., 0], x[..., 1]).conj() * weights
    return jnp.stack([found.real, found.imag], -1)


def turned_back(x):
    divisor = lax.complex(jnp.asarray(numbers(76, 6, 6)), jnp.asarray(numbers(77, 6, 6)))
    found = lax.complex(x[..., 0], -x[..., 1]) / divisor
    return jnp.concatenate([found.imag, found.real])


def repeated_by_what_is_added(x):
    """A row, to which a matrix is added."""
    return jnp.asarray(numbers(74, 5, 4)) - (x.ravel() @ jnp.asarray(numbers(75, 72, 4)))[None]


def of_one_sign(x):
    """In half of its outputs."""
    weights = jnp.asarray(numbers(71, 72, 4)).at[:, :2].set(0.25)
    return x.ravel() @ weights


LAYERS = {
    "grouped": grouped,
    "dilated": dilated,
    "transposed": transposed,
    "channels first": channels_first,
    "along rows": along_rows,
    "wrapped": wrapped,
    "unstacked": unstacked,
    "tiled": tiled,
    "normalized before": normalized_before,
    "standardized weights": standardized_weights,
    "einsum": by_einsum,
    "from the left": from_the_left,
    "dot_general": by_dot_general,
    "patches": patches,
    "subtracted": subtracted,
    "scaled": scaled_and_scaled,
    "of one sign": of_one_sign,
    "turned": turned,
    "turned back": turned_back,
    "repeated": repeated_by_what_is_added,
}


@pytest.mark.parametrize("layer", LAYERS)
@each_rule
def test_every_kind_of_layer_is_its_matrix(name, layer):
    composite, first, _ = vanishing(name)
    function = LAYERS[layer]
    weights = jnp.asarray(numbers(72, function(jnp.asarray(IMAGE)).size, 2))
    stages = [Affine(function, first), relu, Affine(lambda x: x.ravel() @ weights)]

    def chosen(operation):
        return composite(operation) if operation.is_first else exactly(operation)

    found = relevance(stages, IMAGE, chosen)
    expected = slow_rules.lrp(stages, IMAGE)
    assert np.abs(expected).max() > 1e-3
    assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def image_normalized(x):
    return (x - jnp.array([[[0.4, 0.5]]])) / jnp.array([[[0.2, 0.3]]])


@pytest.mark.parametrize("name", ["z^B", "w^2", "flat", "gamma"])
def test_the_images_normalization_is_part_of_the_first_operation(name):
    rule, slow, parameters = RULES[name]
    slow = functools.partial(slow, **parameters)
    block = conv_block(8, 2, 2)
    stages = [
        Affine(lambda x: block(image_normalized(x)), slow),
        relu,
        Affine(dense(9, 72, 2), slow),
    ]
    found = relevance(stages, IMAGE, everywhere(rule, parameters))
    assert_allclose(found, slow_rules.lrp(stages, IMAGE), **CLOSE)


@each_rule
def test_depthwise_convolution_by_shifts(name):
    rule, slow, parameters = RULES[name]
    slow = functools.partial(slow, **parameters)
    stages = [
        Affine(depthwise_block(10, 2), slow),
        Activation(jax.nn.relu6),
        Affine(dense(11, 72, 2), slow),
    ]
    found = relevance(stages, IMAGE, everywhere(rule, parameters))
    assert_allclose(found, slow_rules.lrp(stages, IMAGE), **CLOSE)


@each_rule
def test_branches_pools_and_concatenation(name):
    composite, first, slow = vanishing(name)
    pooled = Affine(mean_pool)
    stages = [
        Affine(conv_block(12, 2, 2), first),
        relu,
        Concatenation(
            [
                [Affine(conv_block(13, 2, 2, size=1, padding=0), slow), relu, pooled],
                [pooled],
                [Affine(conv_block(14, 2, 1, stride=2), slow), relu],
            ]
        ),
        Affine(lambda x: x.mean((0, 1))),
        Affine(dense(15, 5, 2), slow),
    ]
    found = relevance(stages, IMAGE, composite)
    assert_allclose(found, slow_rules.lrp(stages, IMAGE), **CLOSE)


@each_rule
def test_residual_additions_share_by_contribution(name):
    composite, first, slow = vanishing(name)
    block = [
        Affine(conv_block(16, 2, 2), slow),
        relu,
        Affine(conv_block(17, 2, 2), slow),
    ]
    projection = [Affine(conv_block(19, 2, 3, size=1, stride=2, padding=0), slow)]
    stages = [
        Affine(conv_block(18, 2, 2), first),
        relu,
        Sum([[], block]),
        relu,
        Sum([projection, [Affine(conv_block(20, 2, 3, stride=2), slow)]]),
        relu,
        Affine(lambda x: x.mean((0, 1))),
        Affine(dense(21, 3, 2), slow),
    ]
    found = relevance(stages, IMAGE, composite)
    assert_allclose(found, slow_rules.lrp(stages, IMAGE), **CLOSE)


def window_max(x, size, stride, padding):
    return jax.lax.reduce_window(
        x,
        -jnp.inf,
        jax.lax.max,
        (size, size, 1),
        (stride, stride, 1),
        ((padding, padding), (padding, padding), (0, 0)),
    )


def max_by_axes(x):
    h, w, c = x.shape
    return x.reshape(h // 2, 2, w // 2, 2, c).max((1, 3))


def max_by_maximum(x):
    """Of four strided views, two by two."""
    upper = jnp.maximum(x[::2, ::2], x[::2, 1::2])
    return jnp.maximum(upper, jnp.maximum(x[1::2, ::2], x[1::2, 1::2]))


POOLS = {
    "overlapping windows": (functools.partial(window_max, size=3, stride=2, padding=1), 3, 2, 1),
    "windows": (functools.partial(window_max, size=2, stride=2, padding=0), 2, 2, 0),
    "axes of a reshape": (max_by_axes, 2, 2, 0),
    "jnp.maximum": (max_by_maximum, 2, 2, 0),
}


@pytest.mark.parametrize("proportional", [False, True])
@pytest.mark.parametrize("kind", POOLS)
def test_max_pooling_by_winner_or_in_proportion(kind, proportional):
    block = conv_block(22, 2, 2)
    stages = [
        # Different from 0 everywhere, so that no two values are equal.
        Affine(lambda x: block(x) + 10.0, slow_rules.z_plus),
        relu,
        MaxPool(*POOLS[kind], proportional=proportional),
        Affine(dense(23, 18, 2)),
    ]
    pool = rules.proportional if proportional else None

    def composite(operation):
        if operation.kind == "maximum":
            return pool
        return rules.epsilon_plus()(operation)

    found = relevance(stages, IMAGE, composite)
    assert_allclose(found, slow_rules.lrp(stages, IMAGE), **CLOSE)


def test_equal_winners_share_alike():
    def score(image):
        return 6.0 * image.max()

    image = jnp.array([1.0, 2.0, 2.0, 2.0]).reshape(1, 4, 1)
    assert_allclose(rules.lrp(score, image).ravel(), [0, 4, 4, 4], rtol=1e-6)


def test_a_gate_and_what_it_gates_get_half_each():
    gate = [
        Affine(lambda x: x.mean((0, 1))),
        Affine(dense(24, 3, 3)),
        Activation(jax.nn.sigmoid),
    ]
    stages = [
        Affine(conv_block(25, 2, 3)),
        relu,
        Gate(gate),
        Affine(lambda x: x.mean((0, 1))),
        Affine(dense(26, 3, 2)),
    ]
    found = relevance(stages, IMAGE, exactly)
    assert_allclose(found, slow_rules.lrp(stages, IMAGE), **CLOSE)


def attend(query, key, value):
    logits = query @ key.T / np.sqrt(query.shape[-1]).item()
    return jax.nn.softmax(logits) @ value


def attend_by_einsum(query, key, value):
    """By head, with the maximum subtracted by hand."""
    logits = jnp.einsum("nd,md->nm", query, key) * query.shape[-1] ** -0.5
    powers = jnp.exp(logits - logits.max(-1, keepdims=True))
    return jnp.einsum("nm,md->nd", powers / powers.sum(-1, keepdims=True), value)


def attend_by_library(query, key, value):
    # It has a mask of its own in single precision.
    with jax.numpy_dtype_promotion("standard"):
        return jax.nn.dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]


def attend_by_reciprocal(query, key, value):
    powers = jnp.exp(query @ key.T / np.sqrt(query.shape[-1]).item())
    return (powers * (1 / powers.sum(-1, keepdims=True))) @ value


def attend_by_logarithm(query, key, value):
    logits = query @ key.T / np.sqrt(query.shape[-1]).item()
    return jnp.exp(jax.nn.log_softmax(logits)) @ value


ATTENTIONS = [
    attend,
    attend_by_einsum,
    attend_by_library,
    attend_by_reciprocal,
    attend_by_logarithm,
]


def attention_stage(function, seed=27, width=3):
    return SelfAttention(
        function,
        *(Affine(of_tokens(seed + at, width, width)) for at in range(3)),
    )


def centered_by_mean(scale, bias):
    def function(x):
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale + bias

    return function


def centered_by_var(scale, bias):
    def function(x):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + bias

    return function


def centered_by_flax(scale, bias):
    """Its variance is the mean square less the squared mean, its scale part of the divisor."""

    def function(x):
        mean = x.mean(-1, keepdims=True)
        variance = jnp.maximum((x * x).mean(-1, keepdims=True) - mean * mean, 0)
        multiplier = jax.lax.rsqrt(variance + 1e-5) * scale
        return (x - mean) * multiplier + bias

    return function


def by_root_mean_square(scale, bias):
    def function(x):
        return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale + bias

    return function


NORMALIZATIONS = [
    (centered_by_mean, True),
    (centered_by_var, True),
    (centered_by_flax, True),
    (by_root_mean_square, False),
]


def normalization(make, centered, seed=30, width=3):
    scale, bias = numbers(seed, width), numbers(seed + 1, width)
    return Normalization(make(*map(jnp.asarray, (scale[None], bias[None]))), scale, bias, centered)


TOKENS = numbers(3, 2, 2, 3)
to_tokens = Affine(lambda x: x.reshape(4, 3))
last = Affine(lambda x: dense(35, 3, 2)(x.mean(0)))


@pytest.mark.parametrize(("make", "centered"), NORMALIZATIONS)
def test_normalizations_hold_what_they_divide_by(make, centered):
    stages = [
        to_tokens,
        Affine(of_tokens(34, 3, 3)),
        normalization(make, centered),
        last,
    ]
    found = relevance(stages, TOKENS, exactly)
    assert_allclose(found, slow_rules.lrp(stages, TOKENS), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("function", ATTENTIONS)
def test_attention(function):
    stages = [to_tokens, attention_stage(function), last]
    found = relevance(stages, TOKENS, exactly)
    assert_allclose(found, slow_rules.lrp(stages, TOKENS), rtol=1e-6, atol=1e-8)


def test_a_transformer_block():
    attention = [
        normalization(centered_by_mean, True),
        attention_stage(attend),
        Affine(of_tokens(36, 3, 3)),
    ]
    perceptron = [
        normalization(by_root_mean_square, False, seed=40),
        Affine(of_tokens(37, 3, 5)),
        Activation(jax.nn.gelu),
        Affine(of_tokens(38, 5, 3)),
    ]
    stages = [to_tokens, Sum([[], attention]), Sum([[], perceptron]), last]
    found = relevance(stages, TOKENS, exactly)
    assert_allclose(found, slow_rules.lrp(stages, TOKENS), rtol=1e-4, atol=1e-5)


CAUSAL = np.tril(np.ones((4, 4), bool))


def selected_powers(logits):
    powers = jnp.where(CAUSAL, jnp.exp(logits), 0.0)
    return powers / powers.sum(-1, keepdims=True)


MASKED = {
    "minus infinity": lambda logits: jax.nn.softmax(jnp.where(CAUSAL, logits, -jnp.inf)),
    "of the softmax": lambda logits: jax.nn.softmax(logits, where=CAUSAL),
    "of the powers": selected_powers,
}


@pytest.mark.parametrize("name", MASKED)
def test_what_a_mask_leaves_out_gets_nothing(name):
    """Causal attention: tokens behind do not matter, and nothing is nan."""

    def model(image):
        tokens = image.reshape(4, 3)
        return (MASKED[name](tokens @ tokens.T) @ tokens)[1]

    def of_what_is_left(image):
        tokens = image.reshape(4, 3)[:2]
        return jax.nn.softmax(tokens[1] @ tokens.T) @ tokens

    composite = rules.epsilon_everywhere()
    found = rules.lrp(scores.logit(model, 0), TOKENS, composite=composite)
    expected = rules.lrp(scores.logit(of_what_is_left, 0), TOKENS, composite=composite)
    assert_allclose(found, expected, **CLOSE)
    assert_allclose(found.reshape(4, 3)[2:], 0, atol=0)
    assert jnp.abs(found.reshape(4, 3)[:2]).min() > 0


EXPONENTIALS = {
    "log_prob": lambda model: scores.log_prob(model, 1),
    "probability": lambda model: scores.probability(model, 1),
    "logsumexp": lambda model: lambda image: jax.nn.logsumexp(model(image)),
    "log_softmax": lambda model: lambda image: jax.nn.log_softmax(model(image))[1],
}


@pytest.mark.parametrize("name", EXPONENTIALS)
def test_an_exponential_outside_of_a_softmax_is_refused(name):
    """No rule of the papers fits: what is exp(0) = 1 would be shared out by 0."""
    stages = conv_stages()
    score = EXPONENTIALS[name](lambda image: slow_rules.forward(stages, image))
    with pytest.raises(ValueError, match="got exp at"):
        rules.lrp(score, IMAGE)


def biasless(seed, outputs=3):
    """Rectifiers, convolutions, pools and a skip without a constant anywhere."""
    kernels = [jnp.asarray(numbers(seed + at, 3, 3, 2, 2)) for at in range(2)]
    weights = jnp.asarray(numbers(seed + 2, 2, outputs))

    def model(image):
        x = jax.nn.relu(convolution(image[None], kernels[0], padding=1)[0])
        x = jax.nn.relu(x + convolution(x[None], kernels[1], padding=1)[0])
        return window_max(x, 2, 2, 0).mean((0, 1)) @ weights

    return model


@pytest.mark.parametrize("composite", [rules.epsilon_everywhere(0.0), exactly])
def test_without_constants_the_epsilon_rule_is_input_x_gradient(composite):
    score = scores.logit(biasless(40), 1)
    found = rules.lrp(score, IMAGE, composite=composite)
    expected = attribution.input_x_gradient(score, IMAGE)
    assert jnp.abs(expected).max() > 0.1
    assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    assert_allclose(found.sum(), score(IMAGE), rtol=1e-6)


def test_on_a_whole_residual_network_the_epsilon_rule_is_input_x_gradient():
    """With biases and batch normalization too, as rectifiers are linear where they are open."""
    network = models.load("tiny-imagenet-standard").network
    double = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, network
    )
    image = np.random.default_rng(0).uniform(size=(16, 16, 3))

    @jax.jit
    def both(score, image):
        composite = rules.epsilon_everywhere(1e-13)
        expected = attribution.input_x_gradient(score, image)
        return rules.lrp(score, image, composite=composite), expected

    found, expected = both(scores.logit(double, 5), image)
    assert_allclose(found, expected, rtol=0, atol=1e-8 * jnp.abs(expected).max())


def conv_stages(slow=slow_rules.epsilon):
    return [
        Affine(conv_block(42, 2, 2), slow),
        relu,
        Affine(conv_block(43, 2, 3, stride=2), slow),
        relu,
        Affine(lambda x: x.mean((0, 1))),
        Affine(dense(44, 3, 2), slow),
    ]


def faint(sign):
    """An output in which what has the other sign is 1e-6 of the whole, and two that lack it."""
    weights = np.array([[1, 1, 1], [0.5, 0.5, 0.5], [-1.5e-6, 1, 0.5], [-1e-6, 1, 0.5]])
    return sign * weights.T


@pytest.mark.parametrize("batch_norm", [1.0, -2.0])
@pytest.mark.parametrize("behind", [jax.nn.relu, lambda x: x])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_signs_are_apart_to_the_last_digit(sign, behind, batch_norm):
    """In single precision, however small one of them is beside the other."""
    first = np.array([0.7, 0.4, 0.9, 0.6])
    expected = np.zeros(4)
    relevance = np.array([1.0, 2.0, -1.0])
    weights = faint(sign) * batch_norm
    for w, each in zip(weights, relevance, strict=True):
        expected += slow_rules.alpha_beta(first, w, 0, 2, 1, 1e-30) * np.tanh(w @ first) * each
    with strictly(False):
        kernel = jnp.asarray(faint(sign).T, jnp.float32)

        def score(image):
            outputs = (behind(image.ravel()) @ kernel) * jnp.float32(batch_norm)
            return jnp.tanh(outputs) @ jnp.asarray(relevance, jnp.float32)

        def composite(operation):
            exactly = functools.partial(rules.epsilon, epsilon=0.0)
            apart = functools.partial(rules.alpha_beta, epsilon=1e-30)
            return apart if operation.depth == 0 and operation.has_weights else exactly

        image = jnp.asarray(first, jnp.float32).reshape(2, 2, 1)
        found = rules.lrp(
            score,
            image,
            composite=lambda operation: (
                rules.pass_through if operation.kind == "activation" else composite(operation)
            ),
        )
        assert_allclose(found.ravel(), expected, rtol=2e-6)


RECTIFIED = {
    "relu": (jax.nn.relu, True),
    "relu6": (jax.nn.relu6, True),
    "maximum": (lambda x: jnp.maximum(x, 0.0), True),
    "pooled": (lambda x: jax.nn.relu(x).reshape(3, 2, 6).max(1), True),
    "padded and added": (
        lambda x: jnp.pad(jax.nn.relu(x), 1) + jax.nn.sigmoid(jnp.pad(x, 1)),
        True,
    ),
    "clamped": (lambda x: lax.clamp(0.0, x, 1.0), True),
    "square": (lambda x: x**2, False),
    "gelu": (jax.nn.gelu, False),
    "difference": (lambda x: jax.nn.relu(x) - jax.nn.relu(x[::-1]), False),
    # The sign is part of what comes behind.
    "negative": (lambda x: -jax.nn.relu(x), True),
    "minimum": (lambda x: jnp.minimum(x, 0.0), False),
    "none": (lambda x: x, False),
}


@pytest.mark.parametrize("name", RECTIFIED)
def test_what_is_known_to_be_positive_makes_no_difference(name):
    function, known = RECTIFIED[name]
    kernel = jnp.asarray(numbers(91, 6, 6))
    seen = []

    def score(image):
        hidden = function(image.reshape(6, 6) @ kernel)
        weights = jnp.asarray(numbers(92, hidden.size, 3))
        return (hidden.ravel() @ weights).sum()

    def apart(operation, relevance):
        seen.append(operation.is_positive)
        shares = rules.alpha_beta(operation, relevance)
        unknown = dataclasses.replace(operation, is_positive=False)
        for share, other in zip(shares, rules.alpha_beta(unknown, relevance), strict=True):
            assert_allclose(share, other, rtol=1e-9, atol=1e-12)
        return shares

    def composite(operation):
        if operation.kind == "activation":
            return rules.pass_through
        return apart if operation.has_weights and operation.depth == 1 else None

    rules.lrp(score, numbers(93, 6, 6, 1), composite=composite)
    assert seen == [known]


def test_a_minimum_reflected_is_a_rectifier():
    """Its signs are no weights of the layers before and behind."""
    kernels = [jnp.asarray(numbers(94 + at, *shape)) for at, shape in enumerate([(6, 5), (5, 2)])]

    def score_with(rectifier):
        return lambda image: (rectifier(image.reshape(6, 6) @ kernels[0]) @ kernels[1]).sum()

    image = numbers(93, 6, 6, 1)
    found = rules.lrp(score_with(lambda x: -jnp.minimum(-x, 0.0)), image)
    assert_allclose(found, rules.lrp(score_with(jax.nn.relu), image), **CLOSE)


def test_gamma_0_is_the_epsilon_rule():
    stages = conv_stages()
    zero = everywhere(rules.gamma, {"gamma": 0.0})
    found = relevance(stages, IMAGE, zero)
    assert_allclose(found, relevance(stages, IMAGE, everywhere(rules.epsilon, {})), **CLOSE)


def test_a_large_gamma_is_alpha_1():
    stages = conv_stages()
    large = relevance(stages, IMAGE, everywhere(rules.gamma, {"gamma": 1e9, "epsilon": 0.0}))
    alone = {"alpha": 1.0, "beta": 0.0, "epsilon": 0.0}

    def composite(operation):
        return functools.partial(rules.alpha_beta, **alone) if operation.has_weights else None

    limit = relevance(stages, IMAGE, composite)
    # The score is positive, and so are all rectifiers' outputs that have any relevance.
    assert slow_rules.forward(stages, IMAGE)[0] > 0
    assert_allclose(large, limit, rtol=1e-6, atol=1e-8)


def test_between_rectifiers_the_gamma_rule_is_as_printed():
    image = np.abs(IMAGE)
    positive = numbers(45, 2, 3, 3, 2)
    block = conv_block(46, 2, 2)
    weights = jnp.asarray(np.abs(positive).reshape(18, 2).T.repeat(36, 0)[:72])
    slow = functools.partial(slow_rules.montavon_gamma, gamma=0.5)
    stages = [
        Affine(block, slow),
        relu,
        Affine(lambda x: x.ravel() @ weights[:, :2], slow),
    ]
    found = relevance(stages, image, everywhere(rules.gamma, {"gamma": 0.5, "epsilon": 0.0}))
    # Shut rectifiers have no relevance, whatever their share would be.
    assert_allclose(found, slow_rules.lrp(stages, image), **CLOSE)


def test_a_composite_may_choose_by_depth():
    chosen = [
        (functools.partial(rules.z_box, low=-1.0, high=1.0), slow_rules.z_box, {"low": -1.0}),
        (functools.partial(rules.gamma, gamma=0.5), slow_rules.gamma, {"gamma": 0.5}),
        (rules.epsilon, slow_rules.epsilon, {}),
    ]
    first, second, third = (functools.partial(slow, **more) for _, slow, more in chosen)
    stages = [
        Affine(conv_block(42, 2, 2), first),
        relu,
        Affine(conv_block(43, 2, 3, stride=2), second),
        relu,
        Affine(lambda x: x.mean((0, 1))),
        Affine(dense(44, 3, 2), third),
    ]
    expected = slow_rules.lrp(stages, IMAGE)
    by_hand = by_depth(*(rule for rule, _, _ in chosen))
    assert_allclose(relevance(stages, IMAGE, by_hand), expected, **NEAR)
    named = rules.epsilon_gamma_box(low=-1.0, high=1.0, gamma=0.5)
    assert_allclose(relevance(stages, IMAGE, named), expected, **NEAR)


COMPOSITES = {
    "epsilon plus": (rules.epsilon_plus(), None, slow_rules.z_plus, slow_rules.epsilon),
    "epsilon plus flat": (
        rules.epsilon_plus_flat(),
        slow_rules.flat,
        slow_rules.z_plus,
        slow_rules.epsilon,
    ),
    "epsilon alpha beta": (
        rules.epsilon_alpha_beta(),
        None,
        slow_rules.alpha_beta,
        slow_rules.epsilon,
    ),
    "deep Taylor": (rules.deep_taylor(), slow_rules.z_box, slow_rules.z_plus, slow_rules.z_plus),
    "excitation": (
        rules.excitation_backpropagation,
        None,
        slow_rules.z_plus,
        slow_rules.z_plus,
    ),
}


@pytest.mark.parametrize("name", COMPOSITES)
def test_named_composites(name):
    composite, first, second, third = COMPOSITES[name]
    stages = [
        Affine(conv_block(42, 2, 2), first or second),
        relu,
        Affine(conv_block(43, 2, 3, stride=2), second),
        relu,
        Affine(lambda x: x.mean((0, 1))),
        Affine(dense(44, 3, 2), third),
    ]
    image = np.abs(IMAGE)
    found = relevance(stages, image, composite)
    assert_allclose(found, slow_rules.lrp(stages, image), **NEAR)


def test_what_is_lost_is_the_biases_share():
    stages = conv_stages(functools.partial(slow_rules.epsilon, epsilon=0.0))
    lost = 0.0

    def watch(stage, taken, relevance):
        nonlocal lost
        if isinstance(stage, Affine):
            # Shut rectifiers hand nothing back.
            lost += stage.bias_share(taken, relevance)

    answers = np.asarray(slow_rules.forward(stages, IMAGE))
    start = np.where(np.arange(answers.size) == 0, answers, 0)
    slow_rules.relevances(stages, IMAGE, start, watch)
    score = scores.logit(lambda image: slow_rules.forward(stages, image), 0)
    found = rules.conservation(score, IMAGE, composite=rules.epsilon_everywhere(1e-12))
    assert_allclose(found.lost["epsilon"], lost, rtol=1e-6)
    assert abs(lost) > 0.01
    assert_allclose(sum(found.lost.values()), lost, rtol=1e-6)
    assert_allclose(found.image + sum(found.lost.values()), found.score, rtol=1e-9)
    assert_allclose(found.score, score(IMAGE), rtol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_relevance_that_goes_in_comes_out_by_the_rules_that_conserve(name):
    rule, _, parameters = RULES[name]
    stages = conv_stages()
    # The second, for which something speaks.
    score = scores.logit(lambda image: slow_rules.forward(stages, image), 1)
    found = rules.conservation(score, IMAGE, composite=everywhere(rule, parameters))
    assert_allclose(found.image + sum(found.lost.values()), found.score, rtol=1e-9)
    if name in ("flat", "z+", "z^B"):
        assert_allclose(found.image, found.score, rtol=1e-4)


def cut():
    stages = conv_stages()
    layer = Layer(
        lambda image: slow_rules.forward(stages[:2], image),
        lambda features: slow_rules.forward(stages[2:], features),
    )
    # The second, for which something speaks.
    return stages, layer, scores.logit(lambda image: slow_rules.forward(stages, image), 1)


NAMED = {
    "epsilon": rules.epsilon_everywhere(),
    "epsilon plus": rules.epsilon_plus(),
    "epsilon plus flat": rules.epsilon_plus_flat(),
    "epsilon gamma box": rules.epsilon_gamma_box(low=-1.0, high=1.0),
    "deep Taylor": rules.deep_taylor(low=-1.0, high=1.0),
    "by depth": by_depth(rules.z_plus, rules.gamma, rules.epsilon),
}


@pytest.mark.parametrize("name", NAMED)
def test_relevance_through_all_channels_is_the_whole(name):
    _, layer, score = cut()
    composite = NAMED[name]
    whole = rules.lrp(score, IMAGE, composite=composite)
    parts = [
        rules.relevance_through(score, IMAGE, layer, channel, composite=composite)
        for channel in range(2)
    ]
    assert jnp.abs(whole).max() > 0
    assert_allclose(parts[0] + parts[1], whole, **CLOSE)
    both = rules.relevance_through(score, IMAGE, layer, [0, 1], composite=composite)
    assert_allclose(both, whole, **CLOSE)


def test_relevance_through_one_channel_is_the_slow_ones():
    stages, layer, score = cut()
    answers = np.asarray(slow_rules.forward(stages, IMAGE))
    start = np.where(np.arange(answers.size) == 1, answers, 0)
    features = np.asarray(slow_rules.forward(stages[:2], IMAGE))
    at_layer = slow_rules.relevances(stages[2:], features, start)
    kept = np.where(np.arange(2) == 1, at_layer, 0)
    composite = rules.epsilon_everywhere(1e-12)
    found = rules.relevance_through(score, IMAGE, layer, 1, composite=composite)
    assert_allclose(found, slow_rules.relevances(stages[:2], IMAGE, kept), **CLOSE)
    by_channel = rules.channel_relevances(score, IMAGE, layer, composite=composite)
    assert_allclose(by_channel, at_layer.sum((0, 1)), **CLOSE)


def test_channels_may_be_traced_and_mapped_over():
    _, layer, score = cut()
    channels = jnp.arange(2)
    mapped = jax.vmap(lambda c: rules.relevance_through(score, IMAGE, layer, c))(channels)
    for channel in range(2):
        one = rules.relevance_through(score, IMAGE, layer, channel)
        assert_allclose(mapped[channel], one, **CLOSE)


@pytest.mark.parametrize("channel", [-1, 2, [0, 5]])
def test_a_channel_out_of_range_is_refused(channel):
    _, layer, score = cut()
    with pytest.raises(ValueError, match="channel"):
        rules.relevance_through(score, IMAGE, layer, channel)


def half(operation, relevance):
    return (relevance / 2,)


def bare(operation, relevance):
    return relevance


MISTAKES = {
    "the name of a rule": (lambda operation: "epsilon", TypeError, "a rule or None, got 'epsilon'"),
    "a name": ("epsilon_plus", TypeError, "composite to be callable"),
    "a builder": (rules.epsilon_plus, TypeError, "epsilon to be one number, got Operation"),
    "a share of another shape": (
        lambda operation: half,
        ValueError,
        r"rule 'half' to return .*squeeze",
    ),
    "no tuple": (lambda operation: bare, ValueError, "rule 'bare' to return .*Array|Tracer"),
}


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_composite_that_is_none_is_refused(name):
    composite, error, message = MISTAKES[name]
    last = dense(95, 36, 1)

    def score(image):
        return last(image)[0]

    with pytest.raises(error, match=message):
        rules.lrp(score, numbers(96, 6, 6, 1), composite=composite)


@pytest.mark.parametrize(
    "make", [rules.epsilon_plus, rules.epsilon_gamma_box, rules.epsilon_plus_flat]
)
def test_a_negative_epsilon_is_refused(make):
    with pytest.raises(ValueError, match="epsilon to be at least 0"):
        make(epsilon=-1e-6)


THRIFTY = {
    "epsilon": functools.partial(rules.lrp, composite=rules.epsilon_everywhere()),
    "epsilon-plus": rules.lrp,
    "alpha-beta": functools.partial(rules.lrp, composite=rules.epsilon_alpha_beta()),
    "epsilon-gamma-box": functools.partial(rules.lrp, composite=rules.epsilon_gamma_box()),
    "DeepLIFT": rules.deep_lift,
    "RevealCancel": functools.partial(rules.deep_lift, rule=rules.reveal_cancel),
}


@pytest.mark.parametrize("name", THRIFTY)
def test_the_memory_is_that_of_a_gradient(name):
    """What is worked out beside the forward pass is not kept: 9 maps are, and a few more."""
    kernels = [numbers(97 + at, 3, 3, 4, 4) for at in range(8)]
    first = numbers(105, 3, 3, 3, 4)

    def score(image):
        for kernel in (first, *kernels):
            image = jax.nn.relu(convolution(image[None], jnp.asarray(kernel), padding=1)[0])
        return image.mean()

    def planned(method):
        shape = jax.ShapeDtypeStruct((32, 32, 3), jnp.float64)
        program = jax.jit(lambda image: method(score, image)).lower(shape).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert planned(THRIFTY[name]) < 1.75 * planned(attribution.input_gradient)
