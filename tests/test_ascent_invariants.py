"""What holds for every function of ascent and of the attacks, in one table.

Each row makes an image (or its parameters, or its gradient) of an image and a key. A function that
is exported and has no row fails by its name.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_models
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import ascent, attacks, scores

SHAPE = (4, 6, 3)
KEY = jax.random.key(0)
IMAGE = np.asarray(0.1 + 0.8 * small_models.image(SHAPE))
# As foreign as NumPy has them.
MEAN = np.array([0.4, 0.5, 0.6], ">f8")
COVARIANCE = np.array([[0.07, 0.05, 0.03], [0.05, 0.06, 0.05], [0.03, 0.05, 0.08]], ">f8")
CENTER = np.asfortranarray(0.9 * IMAGE).astype(">f8")
# A convolution takes weights and images of one type alone.
MODEL = jax.tree.map(np.asarray, small_models.plain_convnet())


def score(image):
    return scores.logit(jax.tree.map(lambda leaf: leaf.astype(image.dtype), MODEL), 1)(image)


def climbed(optimizer, canvas=None, **options):
    canvas = canvas or ascent.chain_canvases()

    def call(image, key):
        state = ascent.initial_state(canvas.encode(image), optimizer, key)
        return ascent.ascend(score, state, optimizer, 2, decode=canvas.decode, **options).image

    return call


def stepped(image, key):
    optimizer = optax.sgd(0.5)
    state = ascent.initial_state(image, optimizer, key)
    return ascent.ascent_step(score, state, optimizer, prior=ascent.l2(0.1, MEAN))[0].params


def octaves(image, key):
    return ascent.ascend_octaves(
        score, image, optax.sgd(0.5), 2, key=key, octaves=2, augment=ascent.jitter(1)
    ).image


def made(start):
    return lambda image, key: start(key, image.shape, dtype=image.dtype)


def slope(prior):
    return lambda image, key: jax.grad(prior)(jnp.asarray(image))


def linked(link):
    def call(image, key):
        params, update = jnp.asarray(image), 0.3 * jnp.asarray(image)[::-1]
        chain = optax.with_extra_args_support(link)
        updates, _ = chain.update(update, chain.init(params), params, grad=-update)
        return optax.apply_updates(params, updates)

    return call


def through(make_canvas):
    def call(image, key):
        canvas = make_canvas(image)
        return canvas.decode(canvas.encode(image))

    return call


def attacked(attack, **options):
    return lambda image, key: attack(score, image, key=key, epsilon=np.float64(0.25), **options)


PGD = {"step_size": 0.125, "steps": 2}
LUCID = ascent.chain_canvases(
    ascent.fourier_canvas(SHAPE), ascent.color_canvas(COVARIANCE), ascent.sigmoid_canvas()
)
ROWS = {
    "ascend sgd": climbed(optax.sgd(0.5), augment=ascent.jitter(1), num_samples=2),
    "ascend adam": climbed(optax.adam(0.02), prior=ascent.l2(0.1, MEAN), snapshots=[0, 2]),
    "ascend lbfgs": climbed(optax.lbfgs(), prior=ascent.l2(1.0)),
    "ascend lucid": climbed(optax.sgd(0.5), LUCID, augment=ascent.rotate(20.0)),
    "ascent_step": stepped,
    "initial_state": lambda image, key: ascent.initial_state(image, optax.adam(0.1), key).params,
    "ascend_octaves": octaves,
    "zeros": made(lambda key, shape, dtype: ascent.zeros(shape, dtype)),
    "constant": made(lambda key, shape, dtype: ascent.constant(shape, MEAN, dtype)),
    "normal_noise": made(lambda *a, dtype: ascent.normal_noise(*a, MEAN, dtype=dtype)),
    "uniform_noise": made(lambda *a, dtype: ascent.uniform_noise(*a, -0.25, dtype=dtype)),
    "smooth_noise": made(lambda *a, dtype: ascent.smooth_noise(*a, MEAN, dtype=dtype)),
    "l2": slope(ascent.l2(0.3, MEAN)),
    "alpha_norm": slope(ascent.alpha_norm(0.3, 3.0, MEAN)),
    "total_variation": slope(ascent.total_variation(np.float64(0.3))),
    "jitter": ascent.jitter(1),
    "rotate": ascent.rotate(np.float64(30.0)),
    "scale": ascent.scale(0.7, np.float64(1.5)),
    "flip": ascent.flip(0.5),
    "pad": ascent.pad(1, MEAN),
    "crop": ascent.crop(3, 2),
    "resized_crop": ascent.resized_crop(0.4, 0.9),
    "random_blur": ascent.random_blur(0.5, 2.0),
    "noise": ascent.noise(0.2),
    "brightness": ascent.brightness(0.4),
    "compose": ascent.compose(ascent.pad(1), ascent.rotate(10.0), ascent.crop(4, 4)),
    "normalize_by_l2": linked(ascent.normalize_by_l2()),
    "keep_in_range": linked(ascent.keep_in_range(np.float64(0.2), 0.7)),
    "keep_in_ball l2": linked(ascent.keep_in_ball(attacks.L2, CENTER, 0.2)),
    "keep_in_ball linf": linked(ascent.keep_in_ball(attacks.LINF, CENTER, 0.2)),
    "decay_to": linked(ascent.decay_to(0.2, MEAN)),
    "blur_every": linked(ascent.blur_every(1, 0.8)),
    "clip_small_norms": linked(ascent.clip_small_norms(0.4, MEAN)),
    "clip_small_contributions": linked(ascent.clip_small_contributions(0.4, MEAN)),
    "pixels": lambda image, key: ascent.pixels(jnp.asarray(image)),
    "sigmoid_canvas": through(lambda image: ascent.sigmoid_canvas(np.float64(-0.5), 2)),
    "fourier_canvas": through(lambda image: ascent.fourier_canvas(image.shape)),
    "fourier_noise": made(lambda *a, dtype: ascent.fourier_noise(*a, dtype=dtype)),
    "color_canvas": through(lambda image: ascent.color_canvas(COVARIANCE, MEAN)),
    "phase_canvas": through(lambda image: ascent.phase_canvas(MAGNITUDE, SHAPE[1])),
    "chain_canvases": through(lambda image: LUCID),
    "pgd l2": attacked(attacks.pgd, ball=attacks.L2, **PGD),
    "pgd linf": attacked(attacks.pgd, ball=attacks.LINF, **PGD),
    "fgsm": attacked(attacks.fgsm),
    "L2": lambda image, key: attacks.L2.project(jnp.asarray(image), 0.5),
    "LINF": lambda image, key: attacks.LINF.project(jnp.asarray(image), 0.5),
}
# What stands in for no image: records, constants, and what reads images on the host.
OTHERS = {
    *("Ascent", "AscentState", "Ball", "Canvas", "ColorStatistics", "StepCount"),
    *("TINY_IMAGENET_COLORS", "tiny_imagenet_magnitude", "check_finite_steps"),
    *("IMAGENET_COLORS", "imagenet_magnitude"),
    *("color_statistics", "mean_magnitude"),
}
MAGNITUDE = ascent.mean_magnitude(IMAGE[None])
# Ascent adds up in its parameters' precision; all else is computed in single and rounded once.
STEPS_IN_HALF = [name for name in ROWS if name.startswith(("ascend", "ascent", "pgd", "fgsm"))]
DRAWS = [
    *("ascend sgd", "ascend lucid", "ascend_octaves", "pgd l2", "pgd linf", "fgsm"),
    *("normal_noise", "uniform_noise", "smooth_noise", "fourier_noise", "rotate", "scale", "flip"),
    *("resized_crop", "random_blur", "noise", "brightness", "compose"),
]
# What takes a shape alone, or is handed arrays by optax and by JAX.
OF_JAX = {
    *("zeros", "constant", "normal_noise", "uniform_noise", "smooth_noise", "fourier_noise"),
    *("l2", "alpha_norm", "total_variation", "pixels", "L2", "LINF"),
    *(name for name in ROWS if name.startswith(("normalize", "keep", "decay", "blur", "clip"))),
}
each_row = pytest.mark.parametrize("name", ROWS)


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        yield


def test_every_exported_function_has_a_row():
    exported = {
        name
        for module in (ascent, attacks)
        for name, value in vars(module).items()
        if not (name.startswith("_") or inspect.ismodule(value))
        if module is ascent
        or isinstance(value, attacks.Ball)
        or getattr(value, "__module__", "") == attacks.__name__
    }
    missing = exported - {name.split()[0] for name in ROWS} - OTHERS
    assert not missing, f"no row in the table of invariants: {', '.join(sorted(missing))}"


@each_row
def test_alone_and_compiled_alike_without_nan_and_without_a_key_used_twice(name):
    compiled = jax.jit(ROWS[name])(IMAGE, KEY)
    with jax.debug_nans(True), jax.debug_key_reuse(True):
        alone = ROWS[name](jnp.asarray(IMAGE), jax.random.key(0))
    assert alone.dtype == compiled.dtype == jnp.float32
    assert_allclose(alone, compiled, rtol=1e-4, atol=1e-5)


@each_row
def test_vmap_is_a_loop(name):
    images, keys = np.stack([IMAGE, IMAGE[::-1]]), jax.random.split(KEY, 2)
    compiled = jax.jit(ROWS[name])
    expected = np.stack([compiled(image, key) for image, key in zip(images, keys, strict=True)])
    assert_allclose(jax.jit(jax.vmap(ROWS[name]))(images, keys), expected, rtol=1e-4, atol=1e-5)


@each_row
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=lambda dtype: dtype.__name__)
def test_half_precision_is_rounded_single(name, dtype):
    image = jnp.asarray(IMAGE, dtype)
    result = jax.jit(ROWS[name])(image, KEY)
    assert result.dtype == dtype
    expected = jax.jit(ROWS[name])(image.astype(jnp.float32), KEY)
    tolerance = (16 if name in STEPS_IN_HALF else 4) * float(jnp.finfo(dtype).eps)
    assert_allclose(result.astype(jnp.float32), expected, rtol=tolerance, atol=tolerance)


@each_row
def test_where_jax_has_double_precision_an_image_keeps_its_own(name):
    expected = jax.jit(ROWS[name])(IMAGE, KEY)
    with jax.enable_x64(True):
        single = jax.jit(ROWS[name])(IMAGE, KEY)
        double = jax.jit(ROWS[name])(np.float64(IMAGE), KEY)
    assert (single.dtype, double.dtype) == (jnp.float32, jnp.float64)
    assert_allclose(single, expected, rtol=1e-4, atol=1e-5)
    if name not in DRAWS:
        assert_allclose(double, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize("name", [name for name in ROWS if name not in OF_JAX])
def test_numpys_images_of_any_kind_are_jaxs(name):
    result = ROWS[name](np.asfortranarray(IMAGE).astype(">f8"), KEY)
    assert_array_equal(result, ROWS[name](jnp.asarray(IMAGE), KEY))


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    "prior", [ascent.l2(1.0, MEAN), ascent.alpha_norm(1.0, 3.0), ascent.total_variation(1.0)]
)
@pytest.mark.parametrize("dtype", [">f8", np.longdouble], ids=str)
def test_priors_of_numpys_images_are_those_of_jaxs(prior, dtype):
    assert_array_equal(prior(IMAGE.astype(dtype)), prior(jnp.asarray(IMAGE)))


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize("name", ["ascent_step", "brightness", "sigmoid_canvas", "pgd l2"])
def test_long_double_is_jaxs_longest(name):
    result = ROWS[name](IMAGE.astype(np.longdouble), KEY)
    assert_array_equal(result, ROWS[name](jnp.asarray(IMAGE), KEY))
