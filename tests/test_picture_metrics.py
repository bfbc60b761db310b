"""Measurements of pictures, and the intervals of their means: closed forms, and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from saliency_jax import ascent, metrics

KEY = jax.random.key(0)


def image_of_power(shape, exponent):
    """Random phases under a power of exactly ring^-exponent, ring in waves along the short side."""
    height, width, _ = shape
    noise = np.random.default_rng(0).normal(size=shape)
    phases = np.fft.fft2(noise, axes=(0, 1))
    vertical, horizontal = np.fft.fftfreq(height), np.fft.fftfreq(width)
    ring = np.rint(min(height, width) * np.hypot(vertical[:, None], horizontal[None, :]))
    amplitudes = np.maximum(ring, 1) ** (-exponent / 2)
    spectrum = phases / np.abs(phases) * amplitudes[..., None]
    image = np.fft.ifft2(spectrum, axes=(0, 1))
    assert np.abs(image.imag).max() < 1e-12
    return jnp.asarray(image.real, jnp.float32)


class TestSpectrumSlope:
    slope = staticmethod(jax.jit(metrics.spectrum_slope))

    @pytest.mark.parametrize("exponent", [0, 1, 2, 3.5])
    @pytest.mark.parametrize("shape", [(16, 16, 3), (9, 16, 1)])
    def test_of_an_exact_power_law(self, shape, exponent):
        image = image_of_power(shape, exponent)
        np.testing.assert_allclose(self.slope(image), -exponent, atol=1e-3)

    def test_is_that_of_a_line_fitted_by_numpy_through_ring_means(self):
        image = np.random.default_rng(1).random((12, 10, 2))
        power = np.abs(np.fft.fft2(image, axes=(0, 1))) ** 2
        rings = {k: [] for k in range(1, 6)}
        for i in range(12):
            for j in range(10):
                waves = [10 * min(i, 12 - i) / 12, min(j, 10 - j)]
                ring = round(np.hypot(*waves))
                if ring in rings:
                    rings[ring] += power[i, j].tolist()
        means = [np.mean(values) for values in rings.values()]
        slope, _ = np.polyfit(np.log(list(rings)), np.log(means), 1)
        np.testing.assert_allclose(self.slope(jnp.asarray(image, float)), slope, rtol=1e-4)

    def test_does_not_depend_on_contrast_and_brightness(self):
        image = image_of_power((16, 16, 3), 2)
        np.testing.assert_allclose(self.slope(0.1 * image + 0.5), self.slope(image), atol=1e-3)

    def test_of_the_librarys_smooth_noise_is_minus_two_and_of_normal_noise_zero(self):
        keys = jax.random.split(KEY, 20)
        for make, expected in ((ascent.smooth_noise, -2), (ascent.normal_noise, 0)):
            images = jax.vmap(lambda key, make=make: make(key, (16, 16, 3)))(keys)
            # Of 20 images the standard error is about 0.02; a ring holds several frequencies, whose
            # mean is not at its middle.
            np.testing.assert_allclose(jax.vmap(self.slope)(images).mean(), expected, atol=0.15)

    @pytest.mark.parametrize(("level", "contrast"), [(0.0, 1e-25), (0.0, 1e25), (1e3, 0.5)])
    def test_of_any_size(self, level, contrast):
        image = image_of_power((16, 16, 1), 2)
        expected = self.slope(image)
        np.testing.assert_allclose(self.slope(level + contrast * image), expected, atol=5e-3)

    @pytest.mark.usefixtures("entry_checks")
    @pytest.mark.parametrize("shape", [(3, 8, 1), (8, 8), (2, 8, 8, 1)])
    def test_what_has_no_two_rings_is_refused(self, shape):
        with pytest.raises(ValueError, match="expected image to"):
            metrics.spectrum_slope(jnp.zeros(shape))


class TestMeanPairwiseDistance:
    def test_of_plain_colours_is_their_mean_difference(self):
        images = jnp.broadcast_to(jnp.array([0.0, 0.25, 1.0])[:, None, None, None], (3, 4, 5, 2))
        # Differences of 0.25, 1 and 0.75.
        np.testing.assert_allclose(metrics.mean_pairwise_distance(images), 2 / 3, rtol=1e-6)

    def test_of_independent_uniform_noise(self):
        images = jax.random.uniform(KEY, (4, 32, 32, 3))
        # E (u - v)^2 = 1 / 6.
        np.testing.assert_allclose(
            metrics.mean_pairwise_distance(images), np.sqrt(1 / 6), atol=0.005
        )

    @pytest.mark.parametrize("scale", [1e-25, 1e25])
    def test_of_any_size(self, scale):
        images = jnp.broadcast_to(jnp.array([0.0, 0.25, 1.0])[:, None, None, None], (3, 4, 5, 2))
        distance = metrics.mean_pairwise_distance(scale * images)
        np.testing.assert_allclose(distance / scale, 2 / 3, rtol=1e-5)

    def test_copies_have_none(self):
        copies = jnp.broadcast_to(jax.random.uniform(KEY, (4, 4, 3)), (3, 4, 4, 3))
        assert metrics.mean_pairwise_distance(copies) == 0

    @pytest.mark.usefixtures("entry_checks")
    def test_one_image_has_no_pair(self):
        with pytest.raises(ValueError, match="at least 2 images, got 1"):
            metrics.mean_pairwise_distance(jnp.zeros((1, 4, 4, 3)))


class TestBootstrapInterval:
    interval = staticmethod(jax.jit(metrics.bootstrap_interval))

    def test_of_two_units_in_closed_form(self):
        # A sample's mean is 0, 0.5 or 1 with probabilities of a quarter, a half and a quarter.
        for confidence, ends in ((0.95, (0, 1)), (0.4, (0.5, 0.5))):
            interval = self.interval(jnp.array([0.0, 1.0]), key=KEY, confidence=confidence)
            np.testing.assert_array_equal(interval, (0.5, *ends))

    def test_is_scipys(self):
        values = np.random.default_rng(0).exponential(size=30).astype(np.float32)
        ours = self.interval(jnp.asarray(values), key=KEY)
        theirs = scipy.stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=20_000,
            method="percentile",
            rng=np.random.default_rng(1),
        ).confidence_interval
        # The standard error of a quantile of 10,000 means is about 0.03 of their deviation, 0.18.
        np.testing.assert_allclose((ours.low, ours.high), theirs, atol=0.025)
        np.testing.assert_allclose(ours.mean, values.mean(), rtol=1e-6)

    def test_a_unit_is_drawn_with_all_its_values(self):
        of_units = jnp.asarray(np.random.default_rng(0).normal(size=20), float)
        alike = jnp.repeat(of_units[:, None], 5, axis=1)
        np.testing.assert_allclose(
            self.interval(alike, key=KEY), self.interval(of_units, key=KEY), rtol=1e-5
        )

    def test_equal_values_and_a_single_unit_have_no_width(self):
        np.testing.assert_array_equal(self.interval(jnp.full((4, 3), 0.25), key=KEY), [0.25] * 3)
        single = self.interval(jnp.array([[0.0, 1.0]]), key=KEY)
        np.testing.assert_array_equal(single, [0.5] * 3)

    def test_covers_the_truth_about_as_often_as_it_says(self):
        draws = jax.random.normal(KEY, (200, 40))
        low_and_high = jax.vmap(
            lambda values, key: metrics.bootstrap_interval(values, key=key, num_samples=500)
        )
        _, low, high = low_and_high(draws, jax.random.split(KEY, 200))
        covered = float(((low < 0) & (high > 0)).mean())
        # 95 % less the percentile method's known shortfall for 40 units, about 1 %, and three
        # standard errors of 1.7 %.
        assert 0.88 < covered < 0.99

    @pytest.mark.usefixtures("entry_checks")
    @pytest.mark.parametrize(
        ("values", "settings", "error", "message"),
        [
            (jnp.zeros(()), {}, ValueError, r"shape \(n, ...\), got \(\)"),
            (jnp.zeros((0, 3)), {}, ValueError, r"got \(0, 3\)"),
            (jnp.zeros(3, int), {}, TypeError, "values to hold floats, got int32"),
            (
                jnp.array([0.0, jnp.nan]),
                {},
                ValueError,
                "values to be finite, got 1",
            ),
            (jnp.zeros(3), {"confidence": 95}, ValueError, r"in \[0, 1\], got 95"),
            (jnp.zeros(3), {"num_samples": 0}, ValueError, "at least 1, got 0"),
        ],
    )
    def test_mistakes(self, values, settings, error, message):
        with pytest.raises(error, match=message):
            metrics.bootstrap_interval(values, key=KEY, **settings)
