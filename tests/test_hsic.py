"""HSIC against the trace of its matrices, and where its value is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from numpy.testing import assert_allclose

from saliency_jax import attribution
from saliency_jax.attribution._sobol import latin_hypercube

KEY = jax.random.key(8)
SEGMENTS = np.array([[0, 1, 2]])
SEEN = jnp.ones((1, 3, 1))


def by_matrices(shown, values):
    """tr(K H L H) / (N - 1)^2 of every column, in double precision."""
    count = len(values)
    center = np.eye(count) - 1 / count
    width = np.std(values)
    output = np.array([[np.exp(-((a - b) ** 2) / (2 * width**2)) for b in values] for a in values])
    result = []
    for column in shown.T:
        same = np.array([[float(a == b) for b in column] for a in column])
        result.append(np.trace(same @ center @ output @ center) / (count - 1) ** 2)
    return result


@pytest.mark.parametrize("samples", [20, 21])
def test_matrix_by_matrix(samples):
    def score(values):
        a, b, c = values
        return 2 * a * b - c + 0.3 * b

    # Of ones on zeros the image is the mask itself.
    shown = np.asarray(latin_hypercube(KEY, samples, 3) < 0.5)
    values = np.array([score(row) for row in shown.astype(float)])
    saliency_map = attribution.hsic(
        Partial(lambda image: score(image.ravel())), SEEN, segments=SEGMENTS, key=KEY,
        num_samples=samples, batch_size=6,
    )  # fmt: skip
    assert_allclose(saliency_map, [by_matrices(shown, values)], rtol=1e-4)


class TestAScoreThatIsOneSegment:
    """It is 0 and 1 equally often, with standard deviation 1/2: L is 1 or e^-2."""

    SAMPLES = 1000

    @pytest.mark.parametrize(("factor", "offset"), [(1, 0), (-3, 5)])
    def test_value_and_independence(self, factor, offset):
        saliency_map = attribution.hsic(
            Partial(lambda image: factor * image[0, 0, 0] + offset), SEEN, segments=SEGMENTS,
            key=KEY, num_samples=self.SAMPLES, batch_size=self.SAMPLES,
        )  # fmt: skip
        spread = 1 - np.exp(-2)
        # Half of the samples show it, exactly: without sampling error.
        exact = spread / 4 * (self.SAMPLES / (self.SAMPLES - 1)) ** 2
        assert_allclose(saliency_map[0, 0], exact, rtol=1e-4)
        # The others': 4 (1 - e^-2) t^2 / (N - 1)^2, t their centred sum where it is shown, whose
        # standard deviation is N^(1/2) / 4.
        bound = 25 * spread / (4 * self.SAMPLES)
        assert (saliency_map[0, 1:] < bound).all()
        assert bound < exact / 30


def test_a_score_without_variance():
    saliency_map = attribution.hsic(
        Partial(lambda image: 0 * image.sum() + 1), SEEN, segments=SEGMENTS, key=KEY, num_samples=8
    )
    assert_allclose(saliency_map, np.zeros((1, 3)), atol=1e-6)


def test_traced_segment_out_of_range_is_nan():
    def traced(segments):
        return attribution.hsic(
            Partial(jnp.sum), SEEN, segments=segments, key=KEY, num_segments=2, num_samples=8
        )

    assert_allclose(jnp.isnan(jax.jit(traced)(jnp.array([[-1, 1, 2]]))), [[True, False, True]])


@pytest.mark.usefixtures("entry_checks")
def test_bad_settings():
    with pytest.raises(ValueError, match="num_samples to be at least 2, got 1"):
        attribution.hsic(jnp.sum, SEEN, segments=SEGMENTS, key=KEY, num_samples=1)
    with pytest.raises(ValueError, match=r"segments to be in 0 \.\. 1, got 0 \.\. 2"):
        attribution.hsic(jnp.sum, SEEN, segments=SEGMENTS, key=KEY, num_segments=2)
