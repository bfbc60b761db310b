"""Every method crossed with every invariant; the rows are those of `attribution_methods`."""

import functools
import inspect
import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_models
from attribution_methods import CHUNKED, FUNCTIONS, OF_ANY_SCORE, TABLE, small
from attribution_methods import METHODS as ATTRIBUTIONS
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal
from precisions import PRECISIONS, strictly
from small_models import MODELS

from saliency_jax import ascent, attribution, devices, rules, scores

ADAM = optax.adam(0.1)


def ascended(score, image):
    state = ascent.initial_state(image, ADAM, jax.random.key(0))
    made = ascent.ascend(score, state, ADAM, 3, augment=ascent.jitter(1), prior=ascent.l2(0.01))
    # A step that cannot be made is told by its number, and the image stays.
    return jnp.where(made.state.failed_at == 0, made.image, jnp.nan)


METHODS = ATTRIBUTIONS | {"ascend": ascended}
SHAPES = [(6, 5, 3), (4, 7, 1)]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}

each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
each_function = pytest.mark.parametrize(
    "function", (ATTRIBUTIONS | FUNCTIONS).values(), ids=ATTRIBUTIONS | FUNCTIONS
)
# What kind a model is matters to what evaluates it: the gradient and the value, alone or in a loop.
OF_EVERY_MODEL = ("input_gradient", "feature_ablation")
OF_MODULES = (*OF_EVERY_MODEL, "ascend")
each_method_and_model = pytest.mark.parametrize(
    ("method", "make_model"),
    [
        pytest.param(method, make_model, id=f"{name}-{kind}")
        for name, method in METHODS.items()
        for kind, make_model in MODELS.items()
        if name in OF_EVERY_MODEL
        or (name in OF_MODULES and make_model is small_models.nnx_convnet)
        or make_model is small_models.plain_convnet
    ],
)
OF_ONE_SCORE = {name: method for name, method in METHODS.items() if name not in OF_ANY_SCORE}
each_method_of_one_score = pytest.mark.parametrize(
    "method", OF_ONE_SCORE.values(), ids=OF_ONE_SCORE
)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@functools.cache
def compiled(method):
    """One program for all tests of a method, as its label and its weights are arguments."""
    return jax.jit(lambda score, image: method(score, image))


def test_every_exported_function_is_a_row():
    exported = {name for name, value in vars(attribution).items() if callable(value)}
    # Of the rules those functions that make an array of a score and an image.
    exported |= {
        name
        for name, value in vars(rules).items()
        if inspect.isfunction(value)
        and [*inspect.signature(value).parameters][:2] == ["score", "image"]
        and name not in ("conservation", "coverage")
    }
    rows = set(ATTRIBUTIONS) | set(FUNCTIONS)
    assert exported - rows == set(), "without a row in attribution_methods"
    assert rows - exported == set(), "a row without an exported function"


@each_method_and_model
def test_jit_changes_nothing(method, make_model):
    score, image = scores.logit(make_model(), 1), small_models.image()
    assert_allclose(compiled(method)(score, image), method(score, image), **TOLERANCE)


@each_function
def test_numpy_arrays_are_images_quietly_and_without_a_nan_or_a_key_used_twice(function):
    score, image = scores.logit(small_models.plain_convnet(), 1), small_models.image()
    expected = compiled(function)(score, image)
    # In double precision, of the other byte order, one column after the other.
    awkward = np.asarray(image).astype(">f8", order="F")
    with jax.debug_nans(True), jax.debug_key_reuse(True):
        result = function(score, awkward)
    assert isinstance(result, jax.Array)
    assert result.dtype == jnp.float32
    assert_allclose(result, expected, **TOLERANCE)


def curved(slopes, bends, image):
    """S = sum(w I) + sum(v I)^2 / 2, in the precision of its weights."""
    pixels, (height, width, _) = image.astype(slopes.dtype), image.shape
    # Of a crop's sides where it is one.
    slopes, bends = slopes[:height, :width], bends[:height, :width]
    return jnp.sum(slopes * pixels) + jnp.sum(bends * pixels) ** 2 / 2


def rounded(values):
    """To five bits, which are numbers of every precision."""
    return np.round(np.asarray(values, np.float64) * 32) / 32


IMAGE, SLOPES, BENDS = (rounded(small_models.image(seed=seed)) for seed in range(3))


def curved_score(dtype):
    return Partial(curved, jnp.asarray(SLOPES - 0.5, dtype), jnp.asarray(BENDS - 0.5, dtype))


@each_function
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_gives_the_images_own_and_the_same_value(function, precision):
    dtype, weights_dtype, double, tolerance = PRECISIONS[precision]
    expected = compiled(function)(curved_score(jnp.float32), jnp.asarray(IMAGE, jnp.float32))
    with strictly(double):
        score, image = curved_score(weights_dtype), jnp.asarray(IMAGE, dtype)
        result = jax.jit(lambda score, image: function(score, image))(score, image)
        assert result.dtype == dtype
        values = np.asarray(result, np.float64)
    largest = np.abs(expected).max()
    assert largest > 0
    assert_allclose(values, expected, rtol=0, atol=tolerance * largest)


def test_eight_devices_give_what_one_gives():
    program = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_num_cpu_devices", 8)
from saliency_jax import attribution
images = jnp.asarray(np.random.default_rng(0).random((8, 5, 4, 1)), jnp.float32)
smooth = jax.jit(jax.vmap(lambda image: attribution.smoothgrad(
    lambda x: jnp.sum(x**3), image, key=jax.random.key(0), num_samples=5, batch_size=2)))
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("images",))
sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("images"))
shared = smooth(jax.device_put(images, sharding))
assert len(shared.sharding.device_set) == 8
print(np.abs(np.asarray(shared) - np.asarray(smooth(images))).max() < 1e-5)
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout == "True\n"


@each_method_and_model
def test_vmap_over_labels_and_images_is_a_loop(method, make_model):
    model, labels = make_model(), np.array([3, 0])
    images = jnp.stack([small_models.image(seed=seed) for seed in range(2)])

    def of_label(label, image):
        return method(scores.logit(model, label), image)

    one = compiled(method)
    looped = [[one(scores.logit(model, label), image) for image in images] for label in labels]
    over_images = jax.vmap(of_label, in_axes=(None, 0))
    mapped = jax.jit(jax.vmap(over_images, in_axes=(0, None)))(labels, images)
    assert_allclose(mapped, jnp.array(looped), **TOLERANCE)


@each_method_and_model
def test_another_label_image_or_weights_do_not_compile_again(method, make_model, compilations):
    # A function of its own: JAX keeps one cache for every `jit` of the same function.
    model, program = make_model(), jax.jit(lambda score, image: method(score, image))
    other_weights = jax.tree.map(lambda leaf: leaf if callable(leaf) else 2 * leaf, model)
    image, other_image = small_models.image(seed=0), small_models.image(seed=1)
    arguments = [
        (scores.logit(model, 0), image),
        (scores.logit(model, 3), image),
        (scores.logit(model, np.int64(2)), other_image),
        (scores.logit(other_weights, jnp.int32(1)), image),
    ]
    results = []
    for score, image in arguments:
        with compilations.counted():
            results.append(program(score, image))
        assert compilations.count == (len(results) == 1)
    # The second has another label and nothing else that is other.
    told_apart = results if method in OF_ONE_SCORE.values() else results[1:]
    for first, second in itertools.pairwise(told_apart):
        assert not jnp.array_equal(first, second)


@each_method
def test_equal_calls_give_equal_bits(method):
    score, image = scores.logit(small_models.plain_convnet(), 2), small_models.image()
    assert_array_equal(compiled(method)(score, image), compiled(method)(score, image))


@each_method
def test_weights_are_arguments_of_the_program_and_no_constants(method):
    def program(width):
        model = jax.eval_shape(lambda: small_models.plain_convnet(width=width))
        return jax.jit(method).lower(scores.logit(model, 1), small_models.image()).as_text()

    # Only the digits of the width differ: 1,000 x 27 + 1,000 x 4 weights would be 31,000 numbers.
    assert len(program(1000)) < 1.1 * len(program(100))


@each_method_of_one_score
def test_traced_label_out_of_range_is_nan_everywhere(method):
    model, image = small_models.plain_convnet(), small_models.image()
    for label in (-1, small_models.NUM_CLASSES):
        assert jnp.isnan(compiled(method)(scores.logit(model, label), image)).all()


@each_method
@each_shape
def test_the_image_keeps_its_sides_and_its_dtype(method, shape):
    score = scores.logit(small_models.plain_convnet(shape[-1]), 1)
    result = jax.eval_shape(method, score, small_models.image(shape))
    assert result.shape[:2] == shape[:2]
    assert result.dtype == jnp.float32


@each_method
def test_a_dead_score_gives_a_finite_answer(method):
    score = Partial(lambda image: jnp.maximum(image.sum() - 1e6, 0.0))
    assert jnp.isfinite(compiled(method)(score, small_models.image())).all()


@pytest.mark.parametrize("method", CHUNKED.values(), ids=CHUNKED)
def test_chunks_change_nothing_but_rounding(method):
    score, image = scores.logit(small_models.plain_convnet(), 1), small_models.image()
    whole = functools.partial(method, batch_size=1000)
    assert_allclose(compiled(method)(score, image), jax.jit(whole)(score, image), **TOLERANCE)


@pytest.mark.parametrize("method", CHUNKED.values(), ids=CHUNKED)
def test_devices_of_a_mesh_change_nothing_but_rounding(method):
    score, image = scores.logit(small_models.plain_convnet(), 1), small_models.image()
    shared_out = jax.jit(lambda score, image: method(score, image))
    with jax.set_mesh(devices.mesh()):
        result = shared_out(score, image)
        assert "manual_computation" in shared_out.lower(score, image).as_text()
    assert_allclose(result, compiled(method)(score, image), **TOLERANCE)


@pytest.mark.parametrize("method", TABLE.values(), ids=TABLE)
def test_an_eager_call_asks_the_device_once(method, transfers):
    score, image = scores.logit(small_models.plain_convnet(), jnp.int32(1)), small_models.image()
    # Segments are the host's.
    others = {"segments": np.indices(image.shape[:2]).sum(0) % 4}
    named = {name: others[name] for name in others if name in method.needs}
    with transfers.counted():
        small(method)(score, image, **named)
    assert transfers.count == 1
    # What was found finite is not asked again.
    with transfers.counted():
        small(method)(score, image, **named)
    assert transfers.count <= 1


each_attribution = pytest.mark.parametrize("method", ATTRIBUTIONS.values(), ids=ATTRIBUTIONS)


@each_attribution
@pytest.mark.usefixtures("entry_checks")
def test_what_is_no_score_is_refused(method):
    image = small_models.image((3, 4, 1))
    with pytest.raises(TypeError, match="expected score to be callable, got int"):
        method(3, image)
    with pytest.raises(ValueError, match=r"score to return one real number, got shape \(1,\)"):
        method(Partial(lambda image: image.sum((0, 1))), image)
    with pytest.raises(TypeError, match=r"score to return one real .* got NoneType"):
        method(Partial(lambda image: None), image)


@each_attribution
@pytest.mark.usefixtures("entry_checks")
def test_a_batch_is_refused(method):
    with pytest.raises(ValueError, match=r"to be one image .* batch of shape \(2, 4, 4, 3\)"):
        method(jnp.sum, jnp.zeros((2, 4, 4, 3)))
