"""Every metric crossed with every invariant: a new one is one more line of METRICS or EXPORTS."""

import contextlib
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose

from saliency_jax import attribution, baselines, filters, localization, metrics, scores
from saliency_jax._numerics import common_dtype
from saliency_jax._validation import to_jax


def of_map(metric):
    def of_a_map(score, image, **options):
        return metric(score, image, image[..., 0] - 0.5, **options)

    return of_a_map


def of_attribution(metric):
    def of_an_attribution(score, image, **options):
        perturbation = Partial(metrics.square_removal, side=2)
        return metric(score, image, image - 0.5, perturbation=perturbation, **options)

    return of_an_attribution


# Seven samples are three chunks, the last of which is not full.
KEYED = {"key": jax.random.key(0), "num_samples": 7, "batch_size": 3}
GRADIENT = attribution.input_gradient
METRICS = {
    "deletion": functools.partial(of_map(metrics.deletion), steps=6, batch_size=3),
    "insertion": functools.partial(of_map(metrics.insertion), steps=6, batch_size=3),
    "performance_information_curve": functools.partial(
        # The scores of these models may fall as information comes: the curve of any is defined.
        of_map(
            lambda score, image, *arguments, **options: metrics.performance_information_curve(
                Partial(lambda score, shown: (score(shown) - score(0 * shown)) ** 2, score),
                image, *arguments, **options,
            )
        ),
        baseline=baselines.zeros, fractions=(0.2, 0.5), num_points=4, batch_size=3,
    ),
    "road": functools.partial(
        of_map(metrics.road), key=jax.random.key(0), fractions=(0.2, 0.5), batch_size=1
    ),
    "sensitivity_n": functools.partial(
        of_map(metrics.sensitivity_n), sizes=np.array([2, 9]), **KEYED
    ),
    "faithfulness_correlation": functools.partial(
        of_map(metrics.faithfulness_correlation), size=4, **KEYED
    ),
    "mu_fidelity": functools.partial(of_map(metrics.mu_fidelity), cells=(3, 2), size=2, **KEYED),
    "infidelity": functools.partial(of_attribution(metrics.infidelity), **KEYED),
    "scaled_infidelity": functools.partial(of_attribution(metrics.scaled_infidelity), **KEYED),
    "max_sensitivity": functools.partial(metrics.max_sensitivity, GRADIENT, **KEYED),
    "average_sensitivity": functools.partial(metrics.average_sensitivity, GRADIENT, **KEYED),
    "cascading_randomization": functools.partial(
        metrics.cascading_randomization, GRADIENT, key=jax.random.key(0)
    ),
    "independent_randomization": functools.partial(
        metrics.independent_randomization, GRADIENT, key=jax.random.key(0)
    ),
}  # fmt: skip
CHUNKED = {name: metric for name, metric in METRICS.items() if "batch_size" in metric.keywords}
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}
each_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


@functools.cache
def compiled(metric):
    return jax.jit(lambda score, image: jnp.stack(jax.tree.leaves(metric(score, image))))


@each_metric
def test_jit_and_vmap_over_labels_and_images_are_a_loop(metric):
    model, labels = small_models.plain_convnet(), np.array([3, 0])
    images = jnp.stack([small_models.image(seed=seed) for seed in range(2)])

    def of_label(label, image):
        return jnp.stack(jax.tree.leaves(metric(scores.logit(model, label), image)))

    one = compiled(metric)
    looped = [[one(scores.logit(model, label), image) for image in images] for label in labels]
    over_images = jax.vmap(of_label, in_axes=(None, 0))
    mapped = jax.jit(jax.vmap(over_images, in_axes=(0, None)))(labels, images)
    assert_allclose(mapped, jnp.array(looped), **TOLERANCE)
    assert jnp.isfinite(mapped).all()


@pytest.mark.parametrize("metric", CHUNKED.values(), ids=CHUNKED)
def test_chunks_change_nothing_but_rounding(metric):
    score, image = scores.logit(small_models.plain_convnet(), 1), small_models.image()
    whole = jax.jit(functools.partial(metric, batch_size=1000))(score, image)
    result = compiled(metric)(score, image)
    assert_allclose(result, jnp.stack(jax.tree.leaves(whole)), **TOLERANCE)


@each_metric
def test_an_eager_call_asks_the_device_once(metric, transfers):
    score, image = scores.logit(small_models.plain_convnet(), 1), small_models.image()
    with transfers.counted():
        metric(score, image)
    assert transfers.count == 1


@each_metric
def test_weights_are_arguments_of_the_program_and_no_constants(metric):
    def program(width):
        model = jax.eval_shape(lambda: small_models.plain_convnet(width=width))
        return jax.jit(metric).lower(scores.logit(model, 1), small_models.image()).as_text()

    assert len(program(1000)) < 1.1 * len(program(100))


@each_metric
@pytest.mark.usefixtures("entry_checks")
def test_a_batch_is_refused(metric):
    with pytest.raises(ValueError, match=r"to be one image .* batch of shape \(2, 4, 4, 3\)"):
        metric(jnp.sum, jnp.zeros((2, 4, 4, 3)))


# Numbers that every floating-point type holds exactly.
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(1, 64, (12, 12, 2)) / 64
WEIGHTS = RNG.integers(-4, 5, (2, *PIXELS.shape)) / 32
MASK = PIXELS[..., 0] > 0.5


def weights_for(image, rows=0):
    return jnp.asarray(WEIGHTS[rows], to_jax(image).dtype)


def linear(image):
    return small_models.linear_score(weights_for(image))


def two_classes(image):
    def model(weights, image):
        return jnp.stack([jnp.sum(row * image) for row in weights])

    return Partial(model, weights_for(image, slice(2)))


def half_of(image, key):
    return image / 2


def moved(score, image):
    """2 wherever the image has been moved to, 1 at the image."""
    return jnp.where((image != jnp.asarray(PIXELS, image.dtype)).any(), 2, 1)[None].astype(
        image.dtype
    )


def negated(parameter, key):
    return -parameter


def shares(image):
    return (image * WEIGHTS[0].astype(to_jax(image).dtype)).sum(-1)


def box_of(image, start=0):
    """Four pixels in rising order."""
    return 8 * image.ravel()[start + np.argsort(PIXELS.ravel()[start : start + 4])]


def first_channel(metric, **settings):
    return lambda image, key: metric(image[..., 0], **settings)


# A call for every exported function. No value depends on random numbers, which differ by type.
EXPORTS = {
    "completeness_gap": lambda image, key: metrics.completeness_gap(
        linear(image), image, image / 4
    ),
    "gradient_alignment": lambda image, key: metrics.gradient_alignment(image[::-1], image),
    "etmann_alignment": lambda image, key: metrics.etmann_alignment(two_classes(image), image),
    "bootstrap_interval": lambda image, key: metrics.bootstrap_interval(
        image[None], key=key, num_samples=100
    ),
    "entropy": lambda image, key: metrics.entropy(image),
    "gini_sparsity": lambda image, key: metrics.gini_sparsity(image),
    "pearson_correlation": lambda image, key: metrics.pearson_correlation(image, image[::-1]),
    "spearman_correlation": lambda image, key: metrics.spearman_correlation(image, image[::-1]),
    "mean_pairwise_distance": lambda image, key: metrics.mean_pairwise_distance(
        image.reshape(3, 4, 12, 2)
    ),
    "faithfulness_correlation": lambda image, key: metrics.faithfulness_correlation(
        linear(image), image, shares(image), size=60, key=key, num_samples=5, batch_size=2
    ),
    "mu_fidelity": lambda image, key: metrics.mu_fidelity(
        linear(image), image, shares(image), cells=(3, 2), size=2, key=key, num_samples=5
    ),
    "sensitivity_n": lambda image, key: metrics.sensitivity_n(
        linear(image), image, shares(image), sizes=np.array([60, 90]), key=key, num_samples=5
    ),
    "gaussian_perturbation": lambda image, key: metrics.gaussian_perturbation(image, key, 0.0),
    "square_removal": lambda image, key: metrics.square_removal(image, key, side=12),
    "infidelity": lambda image, key: metrics.infidelity(
        linear(image), image, image / 4, perturbation=half_of, key=key, num_samples=3, batch_size=2
    ),
    "scaled_infidelity": lambda image, key: metrics.scaled_infidelity(
        linear(image), image, 0 * image, perturbation=half_of, key=key, num_samples=2
    ),
    "performance_information_curve": lambda image, key: metrics.performance_information_curve(
        Partial(jnp.mean), image, image[..., 0], baseline=baselines.zeros, fractions=(0.25, 0.5),
        num_points=4,
    ),
    "residual_entropy": lambda image, key: metrics.residual_entropy(image),
    "deletion": lambda image, key: metrics.deletion(linear(image), image, image[..., 0], steps=5),
    "insertion": lambda image, key: metrics.insertion(linear(image), image, image[..., 0], steps=5),
    "cascading_randomization": lambda image, key: metrics.cascading_randomization(
        attribution.input_gradient, linear(image), image, key=key, redraw=negated
    ),
    "independent_randomization": lambda image, key: metrics.independent_randomization(
        attribution.input_gradient, linear(image), image, key=key, redraw=negated
    ),
    "layer_names": lambda image, key: len(metrics.layer_names(linear(image), image)),
    "permuted": lambda image, key: metrics.permuted(image, key),
    "random_logit": lambda image, key: metrics.random_logit(
        attribution.input_gradient, two_classes(image), 0, image, key=key
    ),
    "best_box_iou": lambda image, key: metrics.best_box_iou(
        box_of(image), box_of(image, 8)[None]
    ),
    "box_iou": lambda image, key: metrics.box_iou(box_of(image), box_of(image, 8)),
    "box_mask": lambda image, key: metrics.box_mask(box_of(image), (12, 12)),
    "pointing_game": first_channel(metrics.pointing_game, mask=MASK, tolerance=1.5),
    "relevance_mass_accuracy": first_channel(metrics.relevance_mass_accuracy, mask=MASK),
    "relevance_rank_accuracy": first_channel(metrics.relevance_rank_accuracy, mask=MASK),
    "noisy_linear_imputation": lambda image, key: metrics.noisy_linear_imputation(
        image, MASK, key, 0.0
    ),
    "road": lambda image, key: metrics.road(
        linear(image), image, image[..., 0], key=key, noise_scale=0.0, fractions=(0.0, 0.5, 0.9)
    ),
    "max_sensitivity": lambda image, key: metrics.max_sensitivity(
        moved, linear(image), image, key=key, num_samples=3, batch_size=2
    ),
    "average_sensitivity": lambda image, key: metrics.average_sensitivity(
        moved, linear(image), image, key=key, num_samples=3, batch_size=2
    ),
    "structural_similarity": lambda image, key: metrics.structural_similarity(
        image[..., 0], image[..., 1]
    ),
    "spectrum_slope": lambda image, key: metrics.spectrum_slope(image),
    "gaussian_blur": lambda image, key: filters.gaussian_blur(image, 1.5),
    "blur": lambda image, key: filters.blur(image, 1.5),
    "sobel": lambda image, key: filters.sobel(image),
    "localize": lambda image, key: localization.localize(image[..., 0], image[..., :1]),
    "localize_by_threshold": lambda image, key: localization.localize_by_threshold(
        image[..., 0], 0.5
    ),
    "largest_component": lambda image, key: localization.largest_component(image[..., 0] > 0.5),
    "bounding_box": lambda image, key: localization.bounding_box(image[..., 0] > 0.9),
}  # fmt: skip
ON_HOST = ("localize", "localize_by_threshold", "largest_component", "bounding_box", "layer_names")
IN_THE_TYPE_OF_THE_IMAGE = (
    "completeness_gap", "gaussian_perturbation", "square_removal", "permuted",
    "noisy_linear_imputation", "gaussian_blur", "blur", "sobel",
)  # fmt: skip
ROUNDING = {"float16": 5e-3, "bfloat16": 0.05, "float32": 1e-4}
each_export = pytest.mark.parametrize("name", EXPORTS)


def test_every_exported_function_is_in_the_table():
    exported = {
        name
        for room in (metrics, filters, localization)
        for name, value in vars(room).items()
        if inspect.isfunction(value) and not name.startswith("_")
        if room is metrics or value.__module__ == room.__name__
    }
    assert sorted(exported - EXPORTS.keys()) == []
    assert sorted(EXPORTS.keys() - exported) == []


@contextlib.contextmanager
def strictly(*, x64):
    with (
        jax.enable_x64(x64),
        jax.numpy_dtype_promotion("strict"),
        jax.debug_nans(True),
        jax.debug_key_reuse(True),
    ):
        yield


@functools.cache
def values_in(name, dtype, x64):
    """The leaves of a call on the pixels in one type, and their types, under all that complains."""
    with strictly(x64=x64):
        image = jnp.asarray(PIXELS, dtype)
        call = EXPORTS[name] if name in ON_HOST else jax.jit(EXPORTS[name])
        leaves = jax.tree.leaves(call(image, jax.random.key(0)))
        return [
            (np.asarray(leaf).astype(np.float64), getattr(leaf, "dtype", None)) for leaf in leaves
        ]


@each_export
@pytest.mark.parametrize(
    ("dtype", "x64"),
    [("float16", False), ("bfloat16", False), ("float32", True)],
)
def test_every_precision_gives_the_value_in_double_precision(name, dtype, x64):
    expected = values_in(name, "float64", True)
    for (value, kind), (true_value, _) in zip(values_in(name, dtype, x64), expected, strict=True):
        rounding = ROUNDING[dtype]
        assert_allclose(value, true_value, rtol=rounding, atol=rounding)
        if name not in ON_HOST and name != "box_mask":
            own = jnp.dtype(dtype)
            assert kind == (
                own if name in IN_THE_TYPE_OF_THE_IMAGE else common_dtype(own, np.dtype(np.float32))
            )


@each_export
@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize("dtype", [">f8", ">f4", np.longdouble])
def test_arrays_of_numpy_are_welcome_in_any_byte_order_layout_and_precision(name, dtype):
    awkward = np.asfortranarray(PIXELS.astype(dtype))
    call = functools.partial(EXPORTS[name], awkward)
    # What they become is `to_jax`'s: that they are taken, and quietly, needs no compilation.
    if name in ON_HOST:
        call(jax.random.key(0))
    else:
        jax.eval_shape(call, jax.random.key(0))


IMAGE = jnp.asarray(PIXELS, jnp.float32)
NOT_CALLABLE = {
    "max_sensitivity": ("method", lambda: metrics.max_sensitivity(7, jnp.sum, IMAGE, key=None)),
    "average_sensitivity": (
        "method", lambda: metrics.average_sensitivity(7, jnp.sum, IMAGE, key=None)
    ),
    "cascading_randomization": (
        "redraw",
        lambda: metrics.cascading_randomization(
            GRADIENT, linear(IMAGE), IMAGE, key=None, redraw=7
        ),
    ),
    "independent_randomization": (
        "similarity",
        lambda: metrics.independent_randomization(
            GRADIENT, linear(IMAGE), IMAGE, key=None, similarity=7
        ),
    ),
    "random_logit": (
        "method", lambda: metrics.random_logit(7, two_classes(IMAGE), 0, IMAGE, key=None)
    ),
    "etmann_alignment": ("model", lambda: metrics.etmann_alignment(7, IMAGE)),
    "infidelity": (
        "perturbation",
        lambda: metrics.infidelity(jnp.sum, IMAGE, IMAGE, perturbation=7, key=None),
    ),
    "performance_information_curve": (
        "information",
        lambda: metrics.performance_information_curve(
            jnp.sum, IMAGE, IMAGE[..., 0], information=7
        ),
    ),
}  # fmt: skip


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize("name", NOT_CALLABLE)
def test_what_is_no_function_is_named(name):
    argument, call = NOT_CALLABLE[name]
    with pytest.raises(TypeError, match=f"expected {argument} to be callable, got int"):
        call()


KEYS = {
    "infidelity": lambda key: metrics.infidelity(
        jnp.sum, IMAGE, IMAGE, perturbation=half_of, key=key
    ),
    "scaled_infidelity": lambda key: metrics.scaled_infidelity(
        jnp.sum, IMAGE, IMAGE, perturbation=half_of, key=key
    ),
    "gaussian_perturbation": lambda key: metrics.gaussian_perturbation(IMAGE, key, 0.1),
    "square_removal": lambda key: metrics.square_removal(IMAGE, key, side=2),
    "bootstrap_interval": lambda key: metrics.bootstrap_interval(IMAGE, key=key),
    "noisy_linear_imputation": lambda key: metrics.noisy_linear_imputation(IMAGE, MASK, key, 0.1),
    "road": lambda key: metrics.road(jnp.sum, IMAGE, IMAGE[..., 0], key=key),
    "max_sensitivity": lambda key: metrics.max_sensitivity(GRADIENT, jnp.sum, IMAGE, key=key),
    "average_sensitivity": lambda key: metrics.average_sensitivity(
        GRADIENT, jnp.sum, IMAGE, key=key
    ),
    "sensitivity_n": lambda key: metrics.sensitivity_n(
        jnp.sum, IMAGE, IMAGE[..., 0], sizes=np.array([1]), key=key
    ),
    "faithfulness_correlation": lambda key: metrics.faithfulness_correlation(
        jnp.sum, IMAGE, IMAGE[..., 0], size=1, key=key
    ),
    "mu_fidelity": lambda key: metrics.mu_fidelity(jnp.sum, IMAGE, IMAGE[..., 0], key=key),
    "permuted": lambda key: metrics.permuted(IMAGE, key),
    "cascading_randomization": lambda key: metrics.cascading_randomization(
        GRADIENT, linear(IMAGE), IMAGE, key=key
    ),
    "independent_randomization": lambda key: metrics.independent_randomization(
        GRADIENT, linear(IMAGE), IMAGE, key=key
    ),
    "random_logit": lambda key: metrics.random_logit(
        GRADIENT, two_classes(IMAGE), 0, IMAGE, key=key
    ),
}


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize("name", KEYS)
def test_what_is_no_key_is_named(name):
    with pytest.raises(TypeError, match="expected key to be a JAX random key, got int"):
        KEYS[name](7)


# The information curve's line wraps its score.
@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize("name", sorted(METRICS.keys() - {"performance_information_curve"}))
def test_what_is_no_score_is_named(name):
    with pytest.raises(TypeError, match="expected score to be callable, got int"):
        METRICS[name](7, small_models.image())


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize("name", sorted(METRICS.keys() - {"performance_information_curve"}))
def test_a_score_of_two_numbers_is_named(name):
    # It has weights, which the randomizations ask for first.
    score = Partial(lambda weights, image: weights * image.sum(), jnp.ones(2))
    with pytest.raises(ValueError, match=r"score to return one real number, got shape \(2,\)"):
        METRICS[name](score, small_models.image())
