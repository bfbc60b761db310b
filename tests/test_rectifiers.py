"""Other gradients of rectifiers, against loops: however the rectifier is written, and it alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_models
from jax import lax
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import ascent, attribution, rules, scores
from saliency_jax.layers import Layer

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
IMAGE = small_models.image((2, 3, 1), seed=4) - 0.5
SLOPES = jnp.array([0.1, 0.2, 0.3, 0.4, 0.5])


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


FIRST, SECOND, LAST = numbers(0, 6, 5), numbers(1, 5, 5), numbers(2, 5)


def hard_swish(x):
    return x * jnp.clip(x + 3, 0, 6) / 6


def times_its_sign(x):
    with jax.numpy_dtype_promotion("standard"):
        return x * (x > 0)


@jax.custom_vjp
def own_derivative(x):
    return jnp.maximum(x, 0)


own_derivative.defvjp(lambda x: (jnp.maximum(x, 0), x), lambda x, c: (jnp.where(x > 0, c, 0),))


@jax.custom_jvp
def own_tangent(x):
    return jnp.where(x > 0, x, 0.01 * x)


@own_tangent.defjvp
def _(primals, tangents):
    (x,), (tangent,) = primals, tangents
    return own_tangent(x), jnp.where(x > 0, 1, 0.01) * tangent


RECTIFIERS = {
    "jax.nn.relu": jax.nn.relu,
    "jnp.maximum": lambda x: jnp.maximum(x, 0),
    "jnp.maximum, turned": lambda x: jnp.maximum(0.0, x),
    "jnp.maximum of zeros": lambda x: jnp.maximum(x, jnp.zeros_like(x)),
    "lax.max": lambda x: lax.max(x, jnp.float32(0) * jnp.ones_like(x)),
    "jnp.where": lambda x: jnp.where(x > 0, x, 0),
    "jnp.where, turned": lambda x: jnp.where(x <= 0, 0.0, x),
    "jnp.where on the left": lambda x: jnp.where(jnp.less(0, x), x, 0.0),
    "lax.select": lambda x: lax.select(x > 0, x, jnp.zeros_like(x)),
    "jnp.clip": lambda x: jnp.clip(x, 0),
    "jnp.clip to both sides": lambda x: jnp.clip(x, 0, 1),
    "lax.clamp": lambda x: lax.clamp(0.0, x, 6.0),
    "jax.nn.relu6": jax.nn.relu6,
    "times its sign": times_its_sign,
    "times its cast sign": lambda x: x * (x > 0).astype(x.dtype),
    "leaky": jax.nn.leaky_relu,
    "leaky by maximum": lambda x: jnp.maximum(x, 0.1 * x),
    "slopes of channels": lambda x: jnp.where(x >= 0, x, SLOPES * x),
    "thresholded": lambda x: jnp.where(x > 0.3, x, 0),
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "celu": jax.nn.celu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu by tanh": jax.nn.gelu,
    "silu": jax.nn.silu,
    "silu by hand": lambda x: x * jax.nn.sigmoid(x),
    "silu by a quotient": lambda x: x / (1 + jnp.exp(-x)),
    "quick gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "mish": jax.nn.mish,
    "hard swish": hard_swish,
    "jax.nn.hard_swish": jax.nn.hard_swish,
    "jnp.select": lambda x: jnp.select([x > 0], [x], 0.0),
    "jnp.select of three": lambda x: jnp.select([x > 1, x > 0], [jnp.ones_like(x), x], 0.0),
    "jnp.select under vmap": jax.vmap(lambda each: jnp.select([each > 0], [each], 0.0)),
    "jnp.piecewise": lambda x: jnp.piecewise(x, [x > 0], [lambda each: each, 0.0]),
    "minimum, reflected": lambda x: -jnp.minimum(-x, 0),
    "with its absolute value": lambda x: (x + jnp.abs(x)) / 2,
    "under jit": jax.jit(lambda x: jnp.maximum(x, 0)),
    "under nested jit": jax.jit(jax.jit(lambda x: jnp.where(x > 0, x, 0))),
    "under checkpoint": jax.checkpoint(jax.nn.relu),
    "with a derivative of its own": own_derivative,
    "with a tangent of its own": own_tangent,
    "under vmap": jax.vmap(lambda each: jnp.maximum(each, 0)),
    "under a named scope": jax.named_scope("act")(jax.nn.relu),
}
# To DeconvNet, which has no derivative of a rectifier, a factor behind it is another operation.
SCALED = {"selu", "hard swish", "celu", "with its absolute value"}


def network(rectifier):
    def score(image):
        hidden = rectifier(image.ravel() @ FIRST)
        return jnp.sum(rectifier(hidden @ SECOND) * LAST)

    return score


def looped(rectifier, image, rule):
    """By hand, from the score down: c of the output, x and f'(x) of the input."""
    before = np.asarray(image).ravel() @ FIRST
    slope = jax.vmap(jax.grad(lambda x, i: rectifier(jnp.full(5, x))[i]), (0, 0))
    positions = jnp.arange(5)
    middle = np.asarray(rectifier(jnp.asarray(before))) @ SECOND
    cotangent = LAST
    for x, weights in ((middle, SECOND), (before, FIRST)):
        slopes = np.asarray(slope(jnp.asarray(x), positions))
        cotangent = weights @ rule(cotangent, x, slopes)
    return cotangent.reshape(image.shape)


def guided_by_hand(cotangent, x, slope):
    return np.array([s * c if c > 0 else 0 for c, s in zip(cotangent, slope, strict=True)])


def deconvolved_by_hand(cotangent, x, slope):
    return np.array([c if c > 0 else 0 for c in cotangent])


def redirected_by_hand(cotangent, x, slope):
    """Lucid's, which descends: its signs are the opposite of those of a score that is climbed."""
    passed = np.array([s * c for c, s in zip(cotangent, slope, strict=True)])
    if np.linalg.norm(passed) > 0:
        return passed
    kept = []
    for c, value, s in zip(cotangent, x, slope, strict=True):
        pushes_lower = value < 0 and c < 0
        pushes_higher = value > 0 and s == 0 and c > 0
        kept.append(0 if pushes_lower or pushes_higher else c)
    return np.array(kept)


each_rectifier = pytest.mark.parametrize("name", RECTIFIERS)


@each_rectifier
def test_guided_backpropagation_and_deconvnet_are_the_loops(name):
    rectifier = RECTIFIERS[name]
    score = network(rectifier)
    guided = rules.guided_backprop(score, IMAGE)
    assert_allclose(guided, looped(rectifier, IMAGE, guided_by_hand), **CLOSE)
    deconvolved = rules.deconvnet(score, IMAGE)
    if name not in SCALED:
        assert_allclose(deconvolved, looped(rectifier, IMAGE, deconvolved_by_hand), **CLOSE)
    # The loop tells the rules from the gradient.
    gradient = attribution.input_gradient(score, IMAGE)
    assert jnp.abs(guided - gradient).max() > 1e-3
    assert jnp.abs(deconvolved - guided).max() > 1e-3


@each_rectifier
@pytest.mark.parametrize("rule", [rules.guided, rules.deconvolved, rules.redirected])
def test_the_value_stays(name, rule):
    score = network(RECTIFIERS[name])
    assert_allclose(rules.with_rectifiers(score, rule)(IMAGE), score(IMAGE), rtol=1e-6)


def test_each_of_two_rectifiers_has_the_rule():
    """relu(x) - relu(-x) / 2: to the second comes -c / 2, of which what is positive is kept."""
    weights = jnp.array([1.0, 1, 1, -1, -1, -1]).reshape(2, 3, 1)

    def score(image):
        return jnp.sum(weights * (jax.nn.relu(image) - 0.5 * jax.nn.relu(-image)))

    image = jnp.array([1.0, -1, 2, 1, -1, -2]).reshape(2, 3, 1)
    # Where the weight and the pixel are negative 1/2 comes to relu(-x), whose slope in x is -1.
    expected = [1, 0, 1, 0, -0.5, -0.5]
    assert_allclose(rules.guided_backprop(score, image).ravel(), expected)


AT_ZERO = {
    "jax.nn.relu": jax.nn.relu,
    "jax.nn.relu6": jax.nn.relu6,
    "jnp.maximum": lambda x: jnp.maximum(x, 0),
    "jnp.where": lambda x: jnp.where(x > 0, x, 0),
    "with a derivative of its own": own_derivative,
    "with a tangent of its own": own_tangent,
}


@pytest.mark.parametrize("name", AT_ZERO)
def test_at_exactly_zero_the_derivative_is_the_functions_own(name):
    """As where the image is black: jax.nn.relu's is 0 there, jnp.maximum's 1/2."""
    rectifier = AT_ZERO[name]

    def score(image):
        return jnp.sum(3.0 * rectifier(image))

    image = jnp.array([0.0, 1.0, -1.0, 0.0]).reshape(2, 2, 1)
    found = rules.guided_backprop(score, image)
    assert_array_equal(found, attribution.input_gradient(score, image))
    redirected = rules.with_rectifiers(score, rules.redirected)
    assert_array_equal(attribution.input_gradient(redirected, image), found)


DEAD = {"relu": (jax.nn.relu, -9.0), "relu6": (jax.nn.relu6, -9.0), "above 6": (jax.nn.relu6, 9.0)}


@pytest.mark.parametrize("name", DEAD)
def test_the_redirected_rule_leads_back_where_nothing_gets_through(name):
    rectifier, offset = DEAD[name]

    def moved(x):
        return rectifier(x + offset)

    score = rules.with_rectifiers(network(moved), rules.redirected)

    def by_hand(cotangent, x, slope):
        return redirected_by_hand(cotangent, x + offset, slope)

    assert_array_equal(attribution.input_gradient(network(moved), IMAGE), 0)
    found = attribution.input_gradient(score, IMAGE)
    assert jnp.abs(found).max() > 0.1
    assert_allclose(found, looped(moved, IMAGE, by_hand), **CLOSE)


def test_the_redirected_rule_is_the_gradient_where_anything_gets_through():
    score = network(jax.nn.relu)
    found = attribution.input_gradient(rules.with_rectifiers(score, rules.redirected), IMAGE)
    assert_allclose(found, attribution.input_gradient(score, IMAGE), **CLOSE)
    assert_allclose(found, looped(jax.nn.relu, IMAGE, redirected_by_hand), **CLOSE)


def test_mapped_over_images_the_redirected_rule_is_each_images_own():
    """A dead one beside a living one."""

    def score(image):
        return jnp.sum(jax.nn.relu(image) * jnp.array([[[1.0], [-1.0]]]))

    climb = rules.with_rectifiers(score, rules.redirected)
    images = jnp.array([[-1.0, -1.0], [1.0, -1.0]]).reshape(2, 1, 2, 1)
    found = jax.vmap(jax.grad(climb))(images)
    # Of the dead one the second is pushed lower, which stays 0.
    assert_array_equal(found.reshape(2, 2), [[1, 0], [1, 0]])


def test_ascent_takes_off_from_a_dead_start():
    def score(image):
        return jax.nn.relu(image.mean() - 1.0)

    start, optimizer = jnp.zeros((2, 2, 1)), optax.sgd(1.0)

    def ascended(score):
        state = ascent.initial_state(start, optimizer, jax.random.key(0))
        return ascent.ascend(score, state, optimizer, 8)

    assert_array_equal(ascended(score).image, 0)
    climbed = ascended(rules.with_rectifiers(score, rules.redirected))
    # Eight steps of 1/4 in each pixel.
    assert_allclose(climbed.image, 2.0, rtol=1e-6)
    assert_allclose(score(climbed.image), 1.0, rtol=1e-6)


@jax.custom_vjp
def rounded(x):
    return jnp.round(x)


rounded.defvjp(lambda x: (jnp.round(x), None), lambda _, c: (c,))


@jax.custom_vjp
def reversed_gradient(x):
    return x * 1.0


reversed_gradient.defvjp(lambda x: (x, None), lambda _, c: (-c,))


def window_max(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "VALID")


NO_RECTIFIERS = {
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
    "log sigmoid": jax.nn.log_sigmoid,
    "squared": jnp.square,
    "absolute": jnp.abs,
    "softmax": jax.nn.softmax,
    "log softmax": jax.nn.log_softmax,
    "logsumexp": jax.nn.logsumexp,
    "maximum": jnp.max,
    "window maximum": window_max,
    "maximum of halves": lambda x: jnp.maximum(x[:2], x[2:4]),
    "sorted": jnp.sort,
    "norm": jnp.linalg.norm,
    "layer normalization": lambda x: (x - x.mean()) * lax.rsqrt(x.var() + 1e-5),
    "straight through": rounded,
    "reversed gradient": reversed_gradient,
    "masked": lambda x: jnp.where(jnp.arange(5) > 2, x, 0),
    "nan to num": jnp.nan_to_num,
    "gated by another": lambda x: x * jax.nn.sigmoid(x[::-1]),
}


@pytest.mark.parametrize("name", NO_RECTIFIERS)
def test_what_is_no_rectifier_keeps_its_gradient(name):
    """Alone, and behind a rectifier, whose rule does not change what is above it."""
    function = NO_RECTIFIERS[name]

    def score(image):
        return -jnp.sum(jnp.sin(function(image.ravel() @ FIRST)))

    expected = attribution.input_gradient(score, IMAGE)
    assert jnp.abs(expected).max() > 0
    for rule in (rules.guided, rules.deconvolved):
        found = attribution.input_gradient(rules.with_rectifiers(score, rule), IMAGE)
        assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


READOUTS = {
    "log_prob": scores.log_prob,
    "probability": scores.probability,
    "margin": scores.margin,
}


@pytest.mark.parametrize("name", READOUTS)
def test_readouts_keep_their_gradient(name):
    """The cotangent at the logits is the readout's own, and the loop goes on from there."""

    def model(image):
        return jax.nn.relu(image.ravel() @ FIRST) @ SECOND

    score = READOUTS[name](model, 1)
    before = np.asarray(IMAGE).ravel() @ FIRST
    logits = jnp.asarray(np.maximum(before, 0) @ SECOND)
    cotangent = SECOND @ np.asarray(jax.grad(score.readout)(logits))
    expected = FIRST @ guided_by_hand(cotangent, before, (before > 0).astype(float))
    assert_allclose(rules.guided_backprop(score, IMAGE).ravel(), expected, **CLOSE)


def test_a_score_of_several_readouts():
    def model(image):
        return jax.nn.relu(image.ravel() @ FIRST)

    score = scores.logit(model, 0) - 2.0 * scores.logit(model, 1)
    before = np.asarray(IMAGE).ravel() @ FIRST
    cotangent = np.array([1.0, -2.0, 0, 0, 0])
    expected = FIRST @ guided_by_hand(cotangent, before, (before > 0).astype(float))
    assert_allclose(rules.guided_backprop(score, IMAGE).ravel(), expected, **CLOSE)


def test_a_reused_answer_gathers_its_cotangents_first():
    """max(c1 + c2, 0), not max(c1, 0) + max(c2, 0)."""

    def score(image):
        kept = jax.nn.relu(image)
        return jnp.sum(3.0 * kept) - jnp.sum(2.0 * kept)

    image = jnp.ones((1, 2, 1))
    assert_array_equal(rules.guided_backprop(score, image), 1)


def test_a_reused_rectifier_is_one_at_each_use():
    """What module hooks get wrong: one function, called twice."""
    act = jax.jit(jax.nn.relu)
    found = rules.guided_backprop(network(act), IMAGE)
    assert_allclose(found, looped(jax.nn.relu, IMAGE, guided_by_hand), **CLOSE)


STACK = numbers(11, 3, 6, 6)


def by_loop(image):
    x = image.ravel()
    for weights in STACK:
        x = jax.nn.relu(x @ weights)
    return x


def by_scan(image):
    def step(x, weights):
        return jax.nn.relu(x @ weights), None

    return lax.scan(step, image.ravel(), jnp.asarray(STACK))[0]


def by_scan_backwards(image):
    def step(x, weights):
        return jax.nn.relu(x @ weights), x

    return lax.scan(step, image.ravel(), jnp.asarray(STACK[::-1]), reverse=True)[0]


def by_counting(image):
    weights = jnp.asarray(STACK)
    return lax.fori_loop(0, 3, lambda i, x: jax.nn.relu(x @ weights[i]), image.ravel())


def by_scan_of_a_checkpoint(image):
    @jax.checkpoint
    def step(x, weights):
        return jax.nn.relu(x @ weights), None

    return lax.scan(step, image.ravel(), jnp.asarray(STACK))[0]


def by_jitted_blocks(image):
    block = jax.jit(lambda x, weights: jax.nn.relu(x @ weights))
    x = image.ravel()
    for weights in STACK:
        x = jax.checkpoint(block)(x, weights)
    return x


# Of whose rectifiers on every level some are open.
LIVING = 2
LOOPS = [by_scan, by_scan_backwards, by_counting, by_scan_of_a_checkpoint, by_jitted_blocks]


@pytest.mark.parametrize("model", LOOPS)
@pytest.mark.parametrize("method", [rules.guided_backprop, rules.deconvnet])
def test_inside_scans_checkpoints_and_jits(model, method):
    score, plain = scores.logit(model, LIVING), scores.logit(by_loop, LIVING)
    assert_allclose(score(IMAGE), plain(IMAGE), rtol=1e-6)
    expected = method(plain, IMAGE)
    assert jnp.abs(expected).max() > 0
    assert_allclose(method(score, IMAGE), expected, **CLOSE)
    mapped = jax.jit(jax.vmap(lambda image: method(score, image)))(IMAGE[None])
    assert_allclose(mapped[0], expected, **CLOSE)


def scanned_rows(image):
    """What a scan makes at each step is the answer."""

    def step(total, value):
        return total + value, jax.nn.relu(total - value)

    return lax.scan(step, 0.0, image.ravel())[1]


def test_answers_that_a_scan_stacks():
    weights = jnp.array([1.0, -2, 3, -4, 5, -6])

    def score(image):
        return jnp.sum(weights * scanned_rows(image))

    values = np.asarray(IMAGE).ravel()
    totals = np.concatenate([[0], np.cumsum(values)[:-1]])
    expected = np.zeros(6)
    for step, (total, value) in enumerate(zip(totals, values, strict=True)):
        share = max(float(weights[step]), 0) * (total - value > 0)
        expected[:step] += share
        expected[step] -= share
    assert_allclose(rules.guided_backprop(score, IMAGE).ravel(), expected, **CLOSE)


def in_a_while(image):
    return lax.while_loop(
        lambda state: state[0] < 3,
        lambda state: (state[0] + 1, jax.nn.relu(state[1] * 0.5)),
        (0, image),
    )[1].sum()


def in_a_branch(image):
    return lax.cond(image.sum() > 0, jax.nn.relu, lambda x: 2 * x, image).sum()


def in_a_switch(image):
    branches = [jnp.tanh, jax.nn.relu, jnp.square]
    return lax.switch(jnp.argmax(image), branches, image).sum()


REFUSED = {"while": in_a_while, "cond": in_a_branch, "switch": in_a_switch}


@pytest.mark.parametrize("name", REFUSED)
def test_a_rectifier_that_cannot_be_followed_is_refused_by_name_and_line(name):
    score = REFUSED[name]
    primitive = "cond" if name == "switch" else name
    message = rf"'{primitive}' at test_rectifiers.py:\d+ \({score.__name__}\)"
    with pytest.raises(ValueError, match=message):
        rules.guided_backprop(score, IMAGE)
    with pytest.raises(ValueError, match=message):
        rules.with_rectifiers(score, rules.redirected)(IMAGE)


def test_a_branch_without_a_rectifier_is_as_it_was():
    def score(image):
        chosen = lax.cond(image.sum() > 0, jnp.tanh, lambda x: 2 * x, image)
        return jnp.sum(jax.nn.relu(chosen) - jnp.sin(chosen))

    for image in (IMAGE + 2, IMAGE - 2):
        slope = 1 - jnp.tanh(image) ** 2 if image.sum() > 0 else jnp.full(image.shape, 2.0)
        chosen = jnp.tanh(image) if image.sum() > 0 else 2 * image
        expected = slope * (np.asarray(chosen > 0, np.float32) - jnp.cos(chosen))
        assert_allclose(rules.guided_backprop(score, image), expected, **CLOSE)


def test_where_no_cotangent_is_negative_guided_is_the_gradient():
    first, second, last = map(np.abs, (FIRST, SECOND, LAST))

    def score(image):
        hidden = jax.nn.relu(image.ravel() @ first - 1.0)
        return jnp.sum(jax.nn.gelu(hidden @ second) * last)

    image = IMAGE + 1.0
    gradient = attribution.input_gradient(score, image)
    assert jnp.abs(gradient).max() > 0.1
    assert_allclose(rules.guided_backprop(score, image), gradient, **CLOSE)


def convnet():
    kernel, dense = numbers(7, 3, 3, 1, 4), numbers(8, 4, 3)

    def features(image):
        convolved = lax.conv_general_dilated(
            image[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )[0]
        return jnp.maximum(convolved, 0)

    def head(feature_map):
        return jax.nn.relu(feature_map).mean((0, 1)) @ dense

    return features, head


def test_guided_grad_cam_is_the_product_of_both():
    features, head = convnet()
    image = small_models.image((5, 4, 1))
    layer, score = Layer(features, head), scores.logit(lambda image: head(features(image)), 1)
    found = rules.guided_grad_cam(score, image, layer=layer)
    # The layer's gradient is the same in all places: one weight for each channel.
    feature_map = np.asarray(features(image))
    gradient = np.asarray(jax.grad(score.on(head))(jnp.asarray(feature_map)))
    cam = np.maximum((feature_map * gradient.mean((0, 1))).sum(-1), 0)
    guided = rules.guided_backprop(score, image)
    assert found.shape == image.shape
    assert_allclose(found[..., 0], cam * np.asarray(guided)[..., 0], rtol=1e-4, atol=1e-6)
    assert np.abs(found).max() > 0


def test_other_methods_take_the_rewritten_score():
    """Guided Grad-CAM++ and integrated gradients of guided backpropagation, for instance."""
    features, head = convnet()
    image = small_models.image((5, 4, 1))
    score = scores.logit(lambda image: head(features(image)), 1)
    guided = rules.with_rectifiers(score, rules.guided)
    assert isinstance(guided, scores.Score)
    averaged = attribution.integrated_gradients(guided, image, steps=3)
    nodes, weights = attribution.gauss_legendre(3)
    by_hand = sum(
        weight * rules.guided_backprop(score, image * node)
        for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True)
    )
    assert_allclose(averaged, image * by_hand, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", [rules.guided_backprop, rules.deconvnet])
def test_jit_and_vmap_change_nothing(method):
    features, head = convnet()
    images = jnp.stack([small_models.image((5, 4, 1), seed=seed) for seed in range(3)])

    def of_label(label, image):
        return method(scores.logit(lambda image: head(features(image)), label), image)

    looped = jnp.stack([of_label(label, image) for label, image in enumerate(images)])
    mapped = jax.jit(jax.vmap(of_label))(jnp.arange(3), images)
    assert_allclose(mapped, looped, **CLOSE)


def test_a_rule_of_ones_own():
    """Ten lines: the gradient's absolute value at every rectifier."""

    def absolute(cotangent, array, function):
        _, back = jax.vjp(function, array)
        return jnp.abs(back(cotangent)[0])

    score = rules.with_rectifiers(network(jax.nn.relu), absolute)
    found = attribution.input_gradient(score, IMAGE)

    def by_hand(cotangent, x, slope):
        return np.abs(cotangent * slope)

    assert_allclose(found, looped(jax.nn.relu, IMAGE, by_hand), **CLOSE)


def test_rules_are_compared_by_what_they_are(compilations):
    """Two rewritten scores of one rule are one program; another rule is another."""
    program = jax.jit(attribution.input_gradient)
    features, head = convnet()
    image = small_models.image((5, 4, 1))
    with compilations.counted():
        for label in (0, 1):
            score = scores.logit(lambda image: head(features(image)), label)
            program(rules.with_rectifiers(score, rules.guided), image)
    # The two lambdas are not one model.
    model = scores.logit(lambda image: head(features(image)), 0).model
    counts = []
    for label, rule in ((0, rules.guided), (1, rules.guided), (1, rules.deconvolved)):
        score = scores.logit(model, label)
        with compilations.counted():
            program(rules.with_rectifiers(score, rule), image)
        counts.append(compilations.count)
    assert counts == [1, 0, 1]
