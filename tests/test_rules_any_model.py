"""One network in four libraries, every precision, jit, vmap, and what cannot be followed."""

import functools
import re

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from flax import nnx
from jax import lax
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal
from precisions import PRECISIONS, strictly

from saliency_jax import attribution, rules, scores

IMAGE = small_models.image((6, 6, 2))
LABEL = 1


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) / 2


WEIGHTS = {
    "first": numbers(0, 3, 3, 2, 4),
    "first bias": numbers(1, 4),
    "second": numbers(2, 3, 3, 4, 5),
    "second bias": numbers(3, 5),
    "dense": numbers(4, 45, 3),
    "dense bias": numbers(5, 3),
}


class NnxNetwork(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(2, 4, (3, 3), rngs=rngs)
        self.second = nnx.Conv(4, 5, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(45, 3, rngs=rngs)

    def __call__(self, image):
        x = nnx.relu(self.first(image))
        x = self.second(x)
        x = jnp.where(x > 0, x, 0)
        return self.dense(nnx.max_pool(x, (2, 2), (2, 2)).reshape(-1))


class LinenNetwork(nn.Module):
    @nn.compact
    def __call__(self, image):
        x = nn.relu(nn.Conv(4, (3, 3), name="first")(image))
        x = jnp.clip(nn.Conv(5, (3, 3), name="second")(x), 0)
        return nn.Dense(3, name="dense")(nn.max_pool(x, (2, 2), (2, 2)).reshape(-1))


class EquinoxNetwork(eqx.Module):
    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    pool: eqx.nn.MaxPool2d
    dense: eqx.nn.Linear

    def __init__(self, key):
        self.first = eqx.nn.Conv2d(2, 4, 3, padding=1, key=key)
        self.second = eqx.nn.Conv2d(4, 5, 3, padding=1, key=key)
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.dense = eqx.nn.Linear(45, 3, key=key)

    def __call__(self, image):
        x = jax.nn.relu(self.first(jnp.moveaxis(image, -1, 0)))
        x = self.second(x)
        x = x * (x > 0).astype(x.dtype)
        return self.dense(jnp.moveaxis(self.pool(x), 0, -1).ravel())


def convolved(x, kernel):
    return lax.conv_general_dilated(
        x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


def shifted_products(x, kernel):
    """The same without a primitive of that name."""
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
    height, width = x.shape[:2]
    shifted = [
        jnp.einsum("hwi,io->hwo", padded[a : a + height, b : b + width], kernel[a, b])
        for a in range(3)
        for b in range(3)
    ]
    return sum(shifted[1:], shifted[0])


def bare_network(weights, image, convolve=convolved):
    x = convolve(image, weights["first"]) + weights["first bias"][None, None]
    x = jnp.maximum(x, 0)
    x = convolve(x, weights["second"]) + weights["second bias"][None, None]
    x = jnp.maximum(0, x)
    # As the modules pool: several equal values have one winner here, and share alike in a mean.
    pooled = lax.reduce_window(x, -jnp.inf, lax.max, (2, 2, 1), (2, 2, 1), "VALID")
    return pooled.ravel() @ weights["dense"] + weights["dense bias"]


def nnx_network():
    network = NnxNetwork(nnx.Rngs(0))
    for name in ("first", "second", "dense"):
        layer = getattr(network, name)
        layer.kernel[...] = jnp.asarray(WEIGHTS[name])
        layer.bias[...] = jnp.asarray(WEIGHTS[f"{name} bias"])
    return network


def linen_network():
    variables = {
        "params": {
            name: {"kernel": WEIGHTS[name], "bias": WEIGHTS[f"{name} bias"]}
            for name in ("first", "second", "dense")
        }
    }
    return Partial(LinenNetwork().apply, jax.tree.map(jnp.asarray, variables))


def equinox_network():
    network = EquinoxNetwork(jax.random.key(0))
    first, second = (WEIGHTS[name].transpose(3, 2, 0, 1) for name in ("first", "second"))
    replaced = [
        first,
        WEIGHTS["first bias"].reshape(4, 1, 1),
        second,
        WEIGHTS["second bias"].reshape(5, 1, 1),
        WEIGHTS["dense"].T,
        WEIGHTS["dense bias"],
    ]
    return eqx.tree_at(
        lambda each: [
            each.first.weight,
            each.first.bias,
            each.second.weight,
            each.second.bias,
            each.dense.weight,
            each.dense.bias,
        ],
        network,
        [jnp.asarray(array) for array in replaced],
    )


def bare(dtype=jnp.float32):
    """Nothing but jax.numpy and lax, which the others are held to."""
    return Partial(
        bare_network, {name: jnp.asarray(array, dtype) for name, array in WEIGHTS.items()}
    )


LIBRARIES = {
    "nnx": nnx_network,
    "linen": linen_network,
    "equinox": equinox_network,
    "shifted products": lambda: Partial(bare_network, bare().args[0], convolve=shifted_products),
}


def with_composite(composite):
    return functools.partial(rules.lrp, composite=composite)


METHODS = {
    "guided_backprop": rules.guided_backprop,
    "deconvnet": rules.deconvnet,
    "lrp epsilon": with_composite(rules.epsilon_everywhere()),
    "lrp epsilon plus": rules.lrp,
    "lrp epsilon plus flat": with_composite(rules.epsilon_plus_flat()),
    "lrp epsilon gamma box": with_composite(rules.epsilon_gamma_box()),
    "lrp epsilon alpha beta": with_composite(rules.epsilon_alpha_beta()),
    "lrp deep Taylor": with_composite(rules.deep_taylor()),
    "lrp excitation": with_composite(rules.excitation_backpropagation),
    "deep_lift": rules.deep_lift,
}
each_method = pytest.mark.parametrize("name", METHODS)


@functools.cache
def compiled(name):
    return jax.jit(METHODS[name])


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_network_is_the_same_in_every_library(library):
    assert_allclose(LIBRARIES[library]()(IMAGE), bare()(IMAGE), rtol=1e-5, atol=1e-5)


@each_method
@pytest.mark.parametrize("library", LIBRARIES)
def test_maps_are_the_same_in_every_library(name, library):
    """However the convolution, the second rectifier and the pool are written."""
    score = scores.logit(LIBRARIES[library](), LABEL)
    # Equinox's pool holds a number, which as an argument of `jax.jit` would not be one.
    found = jax.jit(lambda image: METHODS[name](score, image))(IMAGE)
    expected = compiled(name)(scores.logit(bare(), LABEL), IMAGE)
    largest = jnp.abs(expected).max()
    assert largest > 1e-3
    assert_allclose(found, expected, rtol=0, atol=1e-5 * largest)


ROUNDED = {name: np.round(array * 32) / 32 for name, array in WEIGHTS.items()}
PIXELS = np.round(np.asarray(IMAGE, np.float64) * 32) / 32


@each_method
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_gives_the_images_own_and_the_same_value(name, precision):
    dtype, weights_dtype, double, tolerance = PRECISIONS[precision]

    def model(weights, image):
        return bare_network(weights, image.astype(weights_dtype))

    def score_of(dtype):
        weights = {each: jnp.asarray(array, dtype) for each, array in ROUNDED.items()}
        return scores.logit(Partial(model, weights), LABEL)

    with strictly(True):
        single = jnp.asarray(PIXELS, jnp.float64)
        exact = {each: jnp.asarray(array, jnp.float64) for each, array in ROUNDED.items()}
        score = scores.logit(Partial(bare_network, exact), LABEL)
        expected = np.asarray(METHODS[name](score, single))
    with strictly(double):
        image = jnp.asarray(PIXELS, dtype)
        result = jax.jit(METHODS[name])(score_of(weights_dtype), image)
        assert result.dtype == dtype
        values = np.asarray(result, np.float64)
    assert np.isfinite(values).all()
    # Rules divide: what rounding does to a rectifier's output is divided by it.
    largest = np.abs(expected).max()
    assert_allclose(values, expected, rtol=0, atol=10 * tolerance * largest)


@each_method
def test_jit_changes_nothing(name):
    score = scores.logit(bare(), LABEL)
    expected = METHODS[name](score, IMAGE)
    assert_allclose(compiled(name)(score, IMAGE), expected, rtol=1e-4, atol=1e-5)


@each_method
def test_vmap_over_labels_and_images_is_a_loop(name):
    model, labels = bare(), np.array([2, 0])
    images = jnp.stack([small_models.image((6, 6, 2), seed=seed) for seed in range(2)])

    def of_label(label, image):
        return METHODS[name](scores.logit(model, label), image)

    looped = [
        [compiled(name)(scores.logit(model, label), image) for image in images] for label in labels
    ]
    over_images = jax.vmap(of_label, in_axes=(None, 0))
    mapped = jax.jit(jax.vmap(over_images, in_axes=(0, None)))(labels, images)
    assert_allclose(mapped, jnp.array(looped), rtol=1e-4, atol=1e-5)


@each_method
def test_another_label_image_or_weights_do_not_compile_again(name, compilations):
    model, program = bare(), jax.jit(lambda score, image: METHODS[name](score, image))
    other = jax.tree.map(lambda leaf: 2 * leaf, model)
    another = small_models.image((6, 6, 2), seed=5)
    arguments = [
        (scores.logit(model, 0), IMAGE),
        (scores.logit(model, 2), IMAGE),
        (scores.logit(model, np.int64(1)), another),
        (scores.logit(other, jnp.int32(1)), IMAGE),
    ]
    counts = []
    for score, image in arguments:
        with compilations.counted():
            program(score, image)
        counts.append(compilations.count)
    assert counts == [1, 0, 0, 0]


@each_method
def test_weights_are_arguments_of_the_program_and_no_constants(name):
    def program(width):
        weights = {
            "first": jnp.zeros((3, 3, 2, width)),
            "first bias": jnp.zeros(width),
            "second": jnp.zeros((3, 3, width, 5)),
            "second bias": jnp.zeros(5),
            "dense": jnp.zeros((45, 3)),
            "dense bias": jnp.zeros(3),
        }
        score = scores.logit(Partial(bare_network, weights), LABEL)
        return jax.jit(METHODS[name]).lower(score, IMAGE).as_text()

    assert len(program(1000)) < 1.1 * len(program(100))


@each_method
def test_numpy_images_are_welcome_quietly(name):
    score = scores.logit(bare(), LABEL)
    awkward = np.asarray(IMAGE).astype(">f8", order="F")
    with jax.debug_nans(True), jax.debug_key_reuse(True):
        found = METHODS[name](score, awkward)
    assert isinstance(found, jax.Array)
    assert found.dtype == jnp.float32
    assert_allclose(found, METHODS[name](score, IMAGE), rtol=1e-4, atol=1e-5)


@each_method
def test_a_dead_score_gives_a_finite_answer(name):
    def score(image):
        return jax.nn.relu(image.sum() - 1e4) * 2.0

    assert jnp.isfinite(METHODS[name](score, IMAGE)).all()


@each_method
def test_a_black_image_gives_a_finite_answer(name):
    """All of a convolution's contributions are 0, and without bias so are its answers."""

    def score(image):
        return jax.nn.relu(convolved(image, jnp.asarray(WEIGHTS["first"]))).sum() + 1.0

    with jax.debug_nans(True):
        assert jnp.isfinite(METHODS[name](score, jnp.zeros((6, 6, 2)))).all()


@each_method
def test_a_score_that_does_not_depend_on_the_image_gives_zeros(name):
    def score(image):
        return jnp.float32(3.0)

    assert_array_equal(METHODS[name](score, IMAGE), 0)


@each_method
@pytest.mark.usefixtures("entry_checks")
def test_bad_input_is_refused(name):
    method = METHODS[name]
    with pytest.raises(TypeError, match="expected score to be callable, got int"):
        method(3, IMAGE)
    with pytest.raises(ValueError, match=r"score to return one real number, got shape \(2,\)"):
        method(lambda image: image.sum((0, 1)), IMAGE)
    with pytest.raises(ValueError, match=r"to be one image .* batch of shape \(2, 4, 4, 3\)"):
        method(jnp.sum, jnp.zeros((2, 4, 4, 3)))
    with pytest.raises(TypeError, match=r"floats|floating"):
        method(jnp.sum, jnp.zeros((4, 4, 3), jnp.int32))


def by_sine(image):
    return jnp.sum(jnp.sin(image))


def by_sorting(image):
    return jnp.sum(jnp.sort(image, axis=0)[0])


def by_product(image):
    return jnp.prod(image)


UNKNOWN = {"sin": by_sine, "sort": by_sorting, "reduce_prod": by_product}


@pytest.mark.parametrize("primitive", UNKNOWN)
def test_an_unknown_operation_stops_with_its_name_and_the_models_line(primitive):
    score = UNKNOWN[primitive]
    line = score.__code__.co_firstlineno + 1
    message = rf"got {primitive} at test_rules_any_model.py:{line} \({score.__name__}\)"
    with pytest.raises(ValueError, match=message):
        rules.lrp(score, IMAGE)
    with pytest.raises(ValueError, match="composite"):
        rules.lrp(score, IMAGE)


@jax.custom_vjp
def straight_through(x):
    return jnp.round(x)


straight_through.defvjp(lambda x: (jnp.round(x), None), lambda _, cotangent: (cotangent,))


@pytest.mark.parametrize("step", [jnp.sign, jnp.round, jnp.floor, jnp.ceil, straight_through])
def test_steps_hand_on_what_they_get(step):
    """Their gradient is 0 or what one says, but networks of signs and of whole numbers do work."""

    def score(image):
        return step(4.0 * convolved(image, jnp.asarray(WEIGHTS["first"]))).sum()

    found = rules.lrp(score, IMAGE, composite=rules.epsilon_everywhere())
    assert abs(score(IMAGE)) > 1
    assert_allclose(found.sum(), score(IMAGE), rtol=1e-3)


def test_a_filter_in_the_frequencies_is_one_in_the_pixels():
    """There and back again: the epsilon rule of one linear map is input x gradient."""

    def score(image):
        weights = jnp.arange(1.0, 1.0 + image.shape[0])[:, None, None]
        spectrum = jnp.fft.fft2(image, axes=(0, 1)) / weights.astype(complex)
        return jax.nn.relu(jnp.fft.ifft2(spectrum, axes=(0, 1)).real).sum()

    found = rules.lrp(score, IMAGE, composite=rules.epsilon_everywhere())
    assert_allclose(found, IMAGE * jax.grad(score)(IMAGE), rtol=1e-3, atol=1e-5)


def by_winners(image):
    return jax.nn.one_hot(image.argmax(-1), 2, dtype=image.dtype).sum(axis=(0, 1))[0]


def by_whole_numbers(image):
    return image.astype(jnp.int32).astype(image.dtype).sum() + 1.0


@pytest.mark.parametrize(
    ("score", "primitive"), [(by_winners, "argmax"), (by_whole_numbers, "convert_element_type")]
)
@pytest.mark.parametrize("method", [rules.lrp, rules.deep_lift])
def test_where_nothing_can_be_handed_back_the_operation_is_named(score, primitive, method):
    """And not zeros given for an answer."""
    place = rf"{primitive} at test_rules_any_model.py:\d+ \({score.__name__}\)"
    with pytest.raises(ValueError, match=f"got .*{place}"):
        method(score, IMAGE)
    (missing,) = rules.coverage(score, IMAGE).missing
    assert re.match(place, missing)


def test_a_composite_may_bring_a_rule_for_it():
    def through_sine(operation, relevance):
        return (relevance,)

    def composite(operation):
        if "sin" in operation.primitives:
            return through_sine
        return rules.epsilon_everywhere()(operation)

    found = rules.lrp(by_sine, IMAGE, composite=composite)
    assert_allclose(found, jnp.sin(IMAGE), rtol=1e-5, atol=1e-6)
    covered = rules.coverage(by_sine, IMAGE, composite=composite)
    assert covered.missing == ()
    assert "through_sine" in covered.rules


def test_coverage_names_what_is_missing_and_counts_the_rest():
    covered = rules.coverage(by_sine, IMAGE)
    line = by_sine.__code__.co_firstlineno + 1
    assert covered.missing == (f"sin at test_rules_any_model.py:{line} (by_sine)",)
    whole = rules.coverage(scores.logit(bare(), LABEL), IMAGE)
    assert whole.missing == ()
    assert set(whole.rules) >= {"z_plus", "epsilon", "pass_through"}
    assert all(count > 0 for count in whole.rules.values())


def test_a_rule_sees_what_its_operation_is():
    seen = []

    def composite(operation):
        seen.append(operation)
        return rules.epsilon_plus()(operation)

    rules.lrp(scores.logit(nnx_network(), LABEL), IMAGE, composite=composite)
    weighted = [operation for operation in seen[::-1] if operation.has_weights]
    assert [operation.depth for operation in weighted] == [0, 1, 2]
    assert [operation.is_first for operation in weighted] == [True, False, False]
    assert [operation.is_dense for operation in weighted] == [False, False, True]
    assert all(operation.kind == "affine" for operation in weighted)
    first = weighted[0]
    assert "conv_general_dilated" in first.primitives
    assert first.source.line.startswith("test_rules_any_model.py:")
    assert_allclose(first.function(*first.inputs), first.output, rtol=1e-5, atol=1e-6)
    zero = jax.tree.map(jnp.zeros_like, first.inputs)
    bias = jnp.broadcast_to(first.constant(), first.output.shape)
    assert_allclose(bias, first.function(*zero), rtol=1e-5, atol=1e-6)
    absolute = first.reweighted(jnp.abs, *map(jnp.abs, first.inputs))
    assert jnp.all(absolute >= jnp.abs(first.output - bias) - 1e-5)


def in_a_while(image):
    return lax.while_loop(
        lambda state: state[0] < 3, lambda state: (state[0] + 1, state[1] * 0.5), (0, image)
    )[1].sum()


def in_a_branch(image):
    return lax.cond(image.sum() > 0, lambda x: 3 * x, lambda x: 2 * x, image).sum()


@pytest.mark.parametrize(("score", "primitive"), [(in_a_while, "while"), (in_a_branch, "cond")])
@pytest.mark.parametrize("method", [rules.lrp, rules.deep_lift])
def test_loops_and_branches_are_right_or_refused_by_name(score, primitive, method):
    message = rf"got {primitive} at test_rules_any_model.py:\d+ \({score.__name__}\)"
    with pytest.raises(ValueError, match=message):
        method(score, IMAGE)


def test_a_scan_is_its_steps():
    kernels = jnp.asarray(numbers(7, 3, 3, 3, 2, 2))

    def step(x, kernel):
        return jax.nn.relu(convolved(x, kernel)) + x, None

    def scanned(image):
        return lax.scan(step, image, kernels)[0].sum()

    def looped(image):
        for kernel in kernels:
            image, _ = step(image, kernel)
        return image.sum()

    for method in METHODS.values():
        found, expected = method(scanned, IMAGE), method(looped, IMAGE)
        assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_sum_of_scores_and_a_scaled_score():
    model = bare()
    first, second = scores.logit(model, 0), scores.logit(model, 1)
    composite = rules.epsilon_everywhere()
    both = rules.lrp(first + 2.0 * second, IMAGE, composite=composite)
    apart = [rules.lrp(each, IMAGE, composite=composite) for each in (first, second)]
    # The epsilon rule is linear in the score but for epsilon.
    assert_allclose(both, apart[0] + 2 * apart[1], rtol=1e-3, atol=1e-4)
    assert_allclose(
        rules.lrp(3.0 * first, IMAGE), 3 * rules.lrp(first, IMAGE), rtol=1e-4, atol=1e-5
    )


def test_reductions_take_what_rules_give():
    found = rules.lrp(scores.logit(bare(), LABEL), IMAGE)
    assert attribution.max_abs(found).shape == (6, 6)
