"""Every method crossed with every invariant: a new method is one more line of METHODS."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal
from small_models import MODELS

from saliency_jax import ascent, attribution, scores

ADAM = optax.adam(0.1)


def ascended(score, image):
    state = ascent.initial_state(image, ADAM, jax.random.key(0))
    made = ascent.ascend(score, state, ADAM, 3, augment=ascent.jitter(1), prior=ascent.l2(0.01))
    # A step that cannot be made is told by its number, and the image stays.
    return jnp.where(made.state.failed_at == 0, made.image, jnp.nan)


def expected_gradients(score, image, **options):
    baselines = jnp.stack([0.1 * image, 0.7 - image])
    return attribution.expected_gradients(score, image, baselines=baselines, **options)


def ten_crop(score, image, **options):
    size = (image.shape[0] - 1, image.shape[1] - 2)
    return attribution.ten_crop(score, image, size=size, **options)


def xrai(score, image, **options):
    row, column = jnp.mgrid[: image.shape[0], : image.shape[1]]
    regions = jnp.stack([row < 2, row > 0, column < 3, column > 1])
    return attribution.xrai(score, image, regions=regions, **options)


def centred(image):
    return image - 0.5


def fused_layer_cam(score, image):
    layers = (centred, jnp.square)
    return attribution.fuse_layers(
        [attribution.layer_cam(score, image, features=features) for features in layers]
    )


def checkerboard(method):
    def of_four_segments(score, image, **options):
        row, column = jnp.mgrid[: image.shape[0], : image.shape[1]]
        segments = (row + column) % 4
        return method(score, image, segments=segments, num_segments=4, baseline=centred, **options)

    return of_four_segments


# Seven samples are three chunks, the last of which is not full.
KEYED = {"key": jax.random.key(0), "num_samples": 7, "batch_size": 3}
PATH = {"steps": 4, "batch_size": 3}
METHODS = {
    "input_gradient": attribution.input_gradient,
    "saliency": attribution.saliency,
    "input_x_gradient": attribution.input_x_gradient,
    "smoothgrad": functools.partial(attribution.smoothgrad, **KEYED),
    "smoothgrad_squared": functools.partial(attribution.smoothgrad_squared, **KEYED),
    "vargrad": functools.partial(attribution.vargrad, **KEYED),
    "integrated_gradients": functools.partial(attribution.integrated_gradients, **PATH),
    "expected_gradients": functools.partial(expected_gradients, **KEYED),
    "blur_integrated_gradients": functools.partial(
        attribution.blur_integrated_gradients, max_sigma=3.0, **PATH
    ),
    "guided_integrated_gradients": functools.partial(
        attribution.guided_integrated_gradients, steps=5, max_dist=0.1
    ),
    # The image less its mean is the feature map and the model the head, so that any model will do.
    "grad_cam": functools.partial(attribution.grad_cam, features=centred),
    "grad_cam_plus_plus": functools.partial(attribution.grad_cam_plus_plus, features=centred),
    "layer_cam": functools.partial(attribution.layer_cam, features=centred),
    "fuse_layers": fused_layer_cam,
    "score_cam": functools.partial(attribution.score_cam, features=centred, batch_size=2),
    "occlusion": functools.partial(
        attribution.occlusion, window=(3, 2), stride=(2, 2), batch_size=4
    ),
    "feature_ablation": functools.partial(checkerboard(attribution.feature_ablation), batch_size=3),
    "rise": functools.partial(attribution.rise, cells=(2, 2), **KEYED),
    "sampled_shapley_values": functools.partial(
        checkerboard(attribution.sampled_shapley_values), **KEYED
    ),
    "lime": functools.partial(checkerboard(attribution.lime), **KEYED),
    "kernel_shap": functools.partial(checkerboard(attribution.kernel_shap), **KEYED),
    "ten_crop": functools.partial(ten_crop, batch_size=4),
    "total_sobol_indices": functools.partial(
        checkerboard(attribution.total_sobol_indices), **KEYED
    ),
    "hsic": functools.partial(checkerboard(attribution.hsic), **KEYED),
    "xrai": functools.partial(xrai, **PATH),
    "ascend": ascended,
}
CHUNKED = {
    name: method
    for name, method in METHODS.items()
    if "batch_size" in getattr(method, "keywords", {})
}
SHAPES = [(6, 5, 3), (4, 7, 1)]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}

each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
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
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@functools.cache
def compiled(method):
    """One program for all tests of a method, as its label and its weights are arguments."""
    return jax.jit(lambda score, image: method(score, image))


@each_method_and_model
def test_jit_changes_nothing(method, make_model):
    score, image = scores.logit(make_model(), 1), small_models.image()
    assert_allclose(compiled(method)(score, image), method(score, image), **TOLERANCE)


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
    for first, second in itertools.pairwise(results):
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


@each_method
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


@each_method
@pytest.mark.usefixtures("entry_checks")
def test_a_batch_is_refused(method):
    if method is ascended:
        pytest.skip("gradient ascent takes any parameters that its canvas decodes")
    with pytest.raises(ValueError, match=r"to be one image .* batch of shape \(2, 4, 4, 3\)"):
        method(jnp.sum, jnp.zeros((2, 4, 4, 3)))
