"""Every metric of a score crossed with every invariant: a new one is one more line of METRICS."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose

from saliency_jax import attribution, metrics, scores


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
        baseline=attribution.baselines.zeros, fractions=(0.2, 0.5), num_points=4, batch_size=3,
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
