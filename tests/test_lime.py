"""LIME against the normal equations of the images that it looked at, and where its fit is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from numpy.testing import assert_allclose
from small_models import as_image

from saliency_jax import attribution

KEY = jax.random.key(5)
SEGMENTS = np.array([[0, 1, 2, 3]])


def regression(seen, values, kernel_width, ridge):
    """Slopes by the normal equations in float64, the intercept gone with the weighted means."""
    seen = seen.astype(np.float64)
    whole = np.ones(seen.shape[1])
    norms = np.linalg.norm(seen, axis=1) * np.linalg.norm(whole)
    cosine = np.divide(seen @ whole, norms, out=np.zeros(len(seen)), where=norms > 0)
    # As the authors' code has it, whose kernel is a root.
    weights = np.sqrt(np.exp(-((1 - cosine) ** 2) / kernel_width**2))
    centred = seen - np.average(seen, axis=0, weights=weights)
    gram = centred.T @ (weights[:, None] * centred) + ridge * np.eye(len(whole))
    return np.linalg.solve(gram, centred.T @ (weights * values))


@pytest.mark.parametrize(("kernel_width", "ridge"), [(0.25, 1.0), (0.1, 0.0), (2.0, 50.0)])
def test_regression_on_what_was_seen(kernel_width, ridge):
    looked_at = []

    def nonlinear(images):
        a, b, c, d = images[:, 0, :, 0].T
        return np.float32(10 + a * b - 2 * b * c * d + np.sin(3 * d))

    def look(images):
        looked_at.append(np.asarray(images))
        return nonlinear(looked_at[-1])

    def score(image):
        number = jax.ShapeDtypeStruct((), jnp.float32)
        return jax.pure_callback(look, number, image, vmap_method="expand_dims")

    image, samples = as_image([1, 2, 3, 0.5]), 400
    saliency_map = attribution.lime(
        score, image, segments=SEGMENTS, key=KEY, num_samples=samples, batch_size=samples,
        kernel_width=kernel_width, ridge=ridge, baseline=-image,
    )  # fmt: skip
    (images,) = looked_at
    assert_allclose(np.abs(images), np.broadcast_to(image, (samples, *image.shape)))
    seen = images[:, 0, :, 0] > 0
    expected = regression(seen, nonlinear(images), kernel_width, ridge)
    assert_allclose(saliency_map[0], expected, rtol=1e-3, atol=1e-4)
    # The image itself, and fair coins: a mean of products of two signs has deviation 1 / sqrt(n).
    assert seen[0].all()
    signs = np.where(seen[1:], 1, -1)
    error = 5 / np.sqrt(samples - 1)
    assert_allclose(signs.mean(0), np.zeros(4), atol=error)
    assert_allclose(signs.T @ signs / (samples - 1), np.eye(4), atol=error)


def test_without_a_ridge_it_is_exact_for_a_linear_score():
    image, baseline, weights = (small_models.image((2, 3, 2), seed=seed) for seed in range(3))
    segments = np.array([[0, 0, 2], [1, 2, 2]])
    saliency_map = attribution.lime(
        small_models.linear_score(weights), image, segments=segments, key=KEY, num_samples=30,
        ridge=0.0, baseline=baseline, batch_size=8,
    )  # fmt: skip
    of_pixel = np.asarray(weights * (image - baseline), np.float64).sum(-1)
    expected = [[of_pixel[segments == segment].sum() for segment in row] for row in segments]
    assert_allclose(saliency_map, expected, rtol=1e-4, atol=1e-5)


def test_of_one_segment_it_is_the_fall_of_the_score():
    image, segments = as_image([1, 2, 3]), np.zeros((1, 3), int)
    saliency_map = attribution.lime(
        jnp.prod, image, segments=segments, key=KEY, num_samples=20, ridge=0.0
    )
    ablated = attribution.feature_ablation(jnp.prod, image, segments=segments)
    assert_allclose(saliency_map, ablated, rtol=1e-5)


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples to be at least 1, got 0"),
        ({"kernel_width": 0.0}, "kernel_width to be at least"),
        ({"ridge": -1.0}, "ridge to be at least 0, got -1"),
        ({"num_segments": 3}, r"segments to be in 0 \.\. 2, got 0 \.\. 3"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        attribution.lime(jnp.sum, as_image([1, 2, 3, 4]), segments=SEGMENTS, key=KEY, **options)
