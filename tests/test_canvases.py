"""Canvases and initial images against sums written out, and back again."""

import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import skimage.data
import small_models
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import ascent, models, scores
from saliency_jax.images import fit

KEY = jax.random.key(0)
SHAPES = [(6, 8, 3), (5, 7, 1), (1, 1, 1)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
COVARIANCE = np.array([[0.07, 0.05, 0.03], [0.05, 0.06, 0.05], [0.03, 0.05, 0.08]], np.float32)


def covariance(channels):
    return COVARIANCE[:channels, :channels]


def lucid(shape):
    return ascent.chain_canvases(
        ascent.fourier_canvas(shape),
        ascent.color_canvas(covariance(shape[-1])),
        ascent.sigmoid_canvas(),
    )


def maco(shape):
    others = ascent.chain_canvases(
        ascent.color_canvas(covariance(shape[-1])), ascent.sigmoid_canvas()
    )
    own = ascent.mean_magnitude(others.encode(image(shape))[None])
    return ascent.chain_canvases(ascent.phase_canvas(own, shape[1]), others)


def image(shape, seed=0):
    return 0.1 + 0.8 * small_models.image(shape, seed)


CANVASES = {
    "sigmoid": lambda shape: ascent.sigmoid_canvas(),
    "sigmoid of another range": lambda shape: ascent.sigmoid_canvas(-1.0, 3.0),
    "fourier": ascent.fourier_canvas,
    "color": lambda shape: ascent.color_canvas(covariance(shape[-1]), 0.3),
    "lucid": lucid,
    "maco": maco,
    "none": lambda shape: ascent.chain_canvases(),
}
each_canvas = pytest.mark.parametrize("make", CANVASES.values(), ids=CANVASES)


def synthesized(spectrum, shape):
    """The inverse real Fourier transform, one cosine after the other."""
    height, width, _ = shape
    rows, columns = np.mgrid[:height, :width]
    result = np.zeros(shape)
    for k in range(height):
        for m in range(width // 2 + 1):
            twice = 1 if m == 0 or 2 * m == width else 2
            wave = np.exp(2j * np.pi * (k * rows / height + m * columns / width))
            result += twice * (wave[:, :, None] * spectrum[k, m]).real / (height * width)
    return result


class TestEveryCanvas:
    @each_canvas
    @each_shape
    def test_an_image_is_decoded_as_it_was_encoded(self, make, shape):
        there_and_back = jax.jit(lambda canvas, image: canvas.decode(canvas.encode(image)))
        assert_allclose(there_and_back(make(shape), image(shape)), image(shape), atol=1e-5)

    @each_canvas
    def test_parameters_are_encoded_as_they_were_decoded(self, make):
        # Real pixels have no say in the redundant parts: a second round is the first.
        canvas, encode = make((6, 8, 3)), jax.jit(lambda canvas, image: canvas.encode(image))
        once = encode(canvas, image((6, 8, 3), seed=2))
        again = encode(canvas, jax.jit(canvas.decode)(once))
        # As angles, of which pi and -pi are one.
        assert_allclose(np.exp(1j * np.asarray(again)), np.exp(1j * np.asarray(once)), atol=2e-3)

    @each_canvas
    def test_its_numbers_cross_jit_as_arguments(self, make, compilations):
        canvas = make((6, 8, 3))
        decode = jax.jit(lambda decode, params: decode(params))
        params = jax.jit(canvas.encode)(image((6, 8, 3)))
        assert_allclose(decode(canvas.decode, params), canvas.decode(params), atol=1e-6)
        other = jax.tree.map(lambda leaf: leaf * 0.9, make((6, 8, 3)).decode)
        with compilations.counted():
            decode(other, params)
        assert compilations.count == 0

    @pytest.mark.parametrize("name", ["lucid", "maco"])
    def test_ascent_raises_the_score(self, name):
        shape, optimizer = (5, 4, 3), optax.adam(0.05)
        canvas = CANVASES[name](shape)
        score = scores.logit(small_models.plain_convnet(), 1)
        state = ascent.initial_state(canvas.encode(image(shape, seed=1)), optimizer, KEY)
        ascend = jax.jit(ascent.ascend, static_argnames=("optimizer", "steps"))
        result = ascend(score, state, optimizer, 5, decode=canvas.decode)
        assert score(result.image) > result.values[0]
        assert result.image.shape == shape
        assert 0 < result.image.min() < result.image.max() < 1

    @each_canvas
    def test_ascent_through_it_of_a_grey_image_that_is_not_square(self, make):
        shape, optimizer = (6, 3, 1), optax.adam(0.02)
        canvas = make(shape)
        score = scores.logit(small_models.plain_convnet(1), 1)
        state = ascent.initial_state(canvas.encode(image(shape, seed=1)), optimizer, KEY)
        ascend = jax.jit(ascent.ascend, static_argnames=("optimizer", "steps"))
        result = ascend(score, state, optimizer, 3, decode=canvas.decode)
        assert result.image.shape == shape
        assert result.state.failed_at == 0
        assert result.values[0] < result.values[2] < score(result.image)


class TestSigmoid:
    def test_closed_form(self):
        params = jnp.linspace(-9.0, 9.0, 12).reshape(2, 2, 3)
        expected = -1 + 4 / (1 + np.exp(-np.asarray(params, np.float64)))
        assert_allclose(ascent.sigmoid_canvas(-1.0, 3.0).decode(params), expected, atol=1e-5)

    def test_ends_of_the_range_start_where_they_can_move(self):
        canvas = ascent.sigmoid_canvas()
        ends = jnp.array([[[0.0, 1.0, -5.0, 5.0]]])
        params = canvas.encode(ends)
        assert_allclose(canvas.decode(params), [[[1e-3, 0.999, 1e-3, 0.999]]], rtol=1e-4)
        slope = jax.grad(lambda params: canvas.decode(params).sum())(params)
        assert_allclose(slope, jnp.full_like(ends, 1e-3), rtol=2e-3)


class TestFourier:
    @each_shape
    def test_decoded_is_the_sum_of_its_waves(self, shape):
        height, width, _ = shape
        params = np.asarray(ascent.fourier_noise(KEY, shape, 1.0), np.float64)
        vertical = np.minimum(np.arange(height), height - np.arange(height)) / height
        horizontal = np.arange(width // 2 + 1) / width
        frequency = np.sqrt(vertical[:, None] ** 2 + horizontal[None] ** 2)
        scale = np.sqrt(height * width) / np.maximum(frequency, 1 / max(height, width)) / 4
        expected = synthesized(scale[:, :, None] * (params[0] + 1j * params[1]), shape)
        decoded = ascent.fourier_canvas(shape).decode(jnp.float32(params))
        assert_allclose(decoded, expected, rtol=1e-4, atol=1e-5)

    def test_without_decay_steps_are_those_of_pixels(self):
        # Parseval: the transform turns the space of images and scales it by 1 / 4, but for the
        # mirrored half of the spectrum, which has no parameters of its own.
        shape = (5, 1, 2)
        optimizer, weights = optax.sgd(1.0), jax.random.normal(KEY, shape)
        canvas = ascent.fourier_canvas(shape, decay=0.0)
        score, start = small_models.linear_score(weights), image(shape)
        state = ascent.initial_state(canvas.encode(start), optimizer, KEY)
        result = ascent.ascend(score, state, optimizer, 1, decode=canvas.decode)
        assert_allclose(result.image, start + weights / 16, rtol=1e-5, atol=1e-5)

    def test_noise_has_its_standard_deviation(self):
        noise = ascent.fourier_noise(KEY, (64, 64, 3), 0.01)
        assert noise.std() == pytest.approx(0.01, rel=0.02)
        assert abs(noise.mean()) < 3 * 0.01 / np.sqrt(noise.size)


class TestPhases:
    def test_decoded_has_the_magnitude_it_was_given(self):
        shape = (6, 7, 2)
        magnitude = ascent.mean_magnitude(image(shape)[None])
        phase = 9 * jax.random.normal(jax.random.key(1), (6, 4, 2))
        decoded = ascent.phase_canvas(magnitude, 7).decode(phase)
        spectrum = np.fft.fft2(np.asarray(decoded, np.float64), axes=(0, 1))[:, :4]
        assert_allclose(np.abs(spectrum[:, 1:]), magnitude[:, 1:], rtol=1e-4)
        assert (np.abs(spectrum[:, 0]) <= np.asarray(magnitude[:, 0]) + 1e-5).all()
        expected = synthesized(np.asarray(magnitude) * np.exp(1j * np.asarray(phase)), shape)
        assert_allclose(decoded, expected, atol=1e-5)

    def test_phases_of_noise_leave_the_magnitude_of_another_image(self):
        other = np.asarray(image((6, 8, 1), seed=3), np.float64)
        canvas = ascent.phase_canvas(ascent.mean_magnitude(jnp.float32(other)[None]), 8)
        mixed = canvas.decode(canvas.encode(ascent.normal_noise(KEY, (6, 8, 1))))
        expected = np.abs(np.fft.fft2(other, axes=(0, 1)))
        assert_allclose(np.abs(np.fft.fft2(mixed, axes=(0, 1))), expected, rtol=1e-3, atol=1e-4)
        assert not np.allclose(mixed, other, atol=0.1)

    def test_mean_magnitude(self):
        images = np.stack([image((4, 5, 2), seed) for seed in range(3)])
        expected = np.abs(np.fft.fft2(images, axes=(1, 2)))[:, :, :3].mean(0)
        assert_allclose(ascent.mean_magnitude(images), expected, rtol=1e-4, atol=1e-5)


class TestColors:
    def test_decorrelated_noise_has_the_covariance(self):
        noise = jax.random.normal(KEY, (200, 200, 3))
        decoded = ascent.color_canvas(COVARIANCE, jnp.array([0.4, 0.5, 0.6])).decode(noise)
        colors = np.asarray(decoded, np.float64).reshape(-1, 3)
        # A sample covariance has a standard error of about sqrt(2 / n) = 0.7 % of the variance.
        assert_allclose(np.cov(colors.T), COVARIANCE, atol=0.03 * 0.08)
        assert_allclose(colors.mean(0), [0.4, 0.5, 0.6], atol=4 * 0.3 / 200)

    def test_white_noise_has_exactly_the_covariance(self):
        sample = np.random.default_rng(0).standard_normal((500, 3))
        sample -= sample.mean(0)
        white = sample @ np.linalg.inv(np.linalg.cholesky(np.cov(sample.T, ddof=0))).T
        decoded = ascent.color_canvas(COVARIANCE).decode(jnp.float32(white)[:, None])
        statistics = ascent.color_statistics(decoded[None])
        assert_allclose(statistics.covariance, COVARIANCE, rtol=1e-4)
        assert_allclose(statistics.mean, np.zeros(3), atol=1e-6)

    def test_the_identity_changes_nothing(self):
        assert_array_equal(
            ascent.color_canvas(np.eye(3)).decode(image((4, 5, 3))), image((4, 5, 3))
        )

    def test_a_traced_covariance(self):
        encoded, decoded = jax.jit(
            lambda covariance, image: tuple(
                function(image) for function in ascent.color_canvas(covariance)
            )
        )(COVARIANCE, image((3, 2, 3)))
        canvas = ascent.color_canvas(COVARIANCE)
        assert_allclose(encoded, canvas.decode(image((3, 2, 3))), rtol=1e-4)
        assert_allclose(decoded, canvas.encode(image((3, 2, 3))), rtol=1e-3, atol=1e-3)

    def test_statistics_of_images(self):
        images = np.stack([image((4, 5, 3), seed) for seed in range(3)])
        colors = images.astype(np.float64).reshape(-1, 3)
        statistics = ascent.color_statistics(images)
        assert_allclose(statistics.mean, colors.mean(0), rtol=1e-5)
        assert_allclose(statistics.covariance, np.cov(colors.T, ddof=0), atol=1e-6)

    def test_statistics_of_batches_of_any_sizes_are_those_of_all(self):
        batches = [
            np.stack([image(shape, seed) + 0.3 * seed for seed in seeds])
            for shape, seeds in (((4, 5, 3), (0, 1)), ((4, 5, 3), (2,)), ((2, 7, 3), (3, 4, 5)))
        ]
        colors = np.concatenate([batch.reshape(-1, 3) for batch in batches]).astype(np.float64)
        statistics = ascent.color_statistics(batch for batch in batches)
        assert_allclose(statistics.mean, colors.mean(0), rtol=1e-5)
        assert_allclose(statistics.covariance, np.cov(colors.T, ddof=0), rtol=1e-4)

    def test_magnitude_of_batches_is_that_of_all(self):
        images = np.stack([image((4, 5, 2), seed) for seed in range(5)])
        of_batches = ascent.mean_magnitude(iter([images[:3], images[3:]]))
        assert_allclose(of_batches, ascent.mean_magnitude(images), rtol=1e-5, atol=1e-6)

    def test_images_are_added_up_in_double_precision(self):
        grey = np.asarray(small_models.image((40, 30, 30, 1)), np.float64)
        images = np.float32(1000 + grey * [1.0, 0.1])
        colors = images.reshape(-1, 2).astype(np.float64)
        statistics = ascent.color_statistics(iter([images[:7], images[7:]]))
        assert_allclose(statistics.mean, colors.mean(0), rtol=1e-7)
        assert_allclose(statistics.covariance, np.cov(colors.T, ddof=0), rtol=1e-6)
        spectra = np.abs(np.fft.rfft2(images.astype(np.float64), axes=(1, 2)))
        assert_allclose(ascent.mean_magnitude(images), spectra.mean(0), rtol=1e-6)
        assert statistics.mean.dtype == statistics.covariance.dtype == np.float32

    def test_traced_images_are_named(self):
        for measure in (ascent.color_statistics, ascent.mean_magnitude):
            with pytest.raises(TypeError, match="images to be known, got a traced array"):
                jax.jit(measure)(jnp.ones((1, 2, 2, 1)))

    def test_batches_are_not_held(self):
        def batches():
            references = []
            for seed in range(6):
                batch = np.stack([image((4, 5, 3), seed)])
                references.append(weakref.ref(batch))
                yield batch
                del batch
                # The last one, and one more that a computation may not yet be done with.
                assert sum(reference() is not None for reference in references) <= 2

        ascent.color_statistics(batches())
        ascent.mean_magnitude(batches())

    def test_the_measured_colours_are_those_the_bundled_models_were_trained_on(self):
        # The models know the means and deviations of 90 % of the same images, measured elsewhere.
        taken, colors = models.load("tiny-imagenet-robust").input, ascent.TINY_IMAGENET_COLORS
        assert_allclose(colors.mean, taken.mean, atol=0.003)
        assert_allclose(np.sqrt(np.diag(colors.covariance)), taken.std, atol=0.003)
        assert_array_equal(colors.covariance, colors.covariance.T)
        correlations = colors.covariance / np.sqrt(
            np.outer(np.diag(colors.covariance), np.diag(colors.covariance))
        )
        assert (correlations > 0.6).all()
        ascent.color_canvas(colors.covariance, colors.mean)

    def test_the_measured_magnitude_is_near_that_of_photographs(self):
        canvas = ascent.chain_canvases(
            ascent.color_canvas(ascent.TINY_IMAGENET_COLORS.covariance), ascent.sigmoid_canvas()
        )
        photographs = [skimage.data.coffee(), skimage.data.chelsea(), skimage.data.astronaut()]
        encoded = [
            canvas.encode(jnp.asarray(fit(np.float32(photograph) / 255, 64)))
            for photograph in photographs
        ]
        magnitude = ascent.tiny_imagenet_magnitude()
        found = np.asarray(ascent.mean_magnitude(jnp.stack(encoded)))
        frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.rfftfreq(64)[None])
        for low, high in ((0.01, 0.05), (0.05, 0.15), (0.15, 0.3), (0.3, 0.5)):
            ring = (frequency > low) & (frequency <= high)
            # Three photographs are few; pixels that are not encoded are twenty times weaker.
            assert 1 / 5 < magnitude[ring].mean() / found[ring].mean() < 5

    def test_imagenet_has_nearly_tiny_imagenets_colours_and_magnitudes(self):
        # Measured on other photographs, of twenty of the thousand classes, at 64 pixels.
        colors, tiny = ascent.IMAGENET_COLORS, ascent.TINY_IMAGENET_COLORS
        assert_allclose(colors.mean, tiny.mean, atol=0.05)
        assert_allclose(colors.covariance, tiny.covariance, atol=0.01)
        assert_array_equal(colors.covariance, colors.covariance.T)
        ascent.color_canvas(colors.covariance, colors.mean)
        frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.rfftfreq(64)[None])
        ratio = ascent.imagenet_magnitude(64, 64) / ascent.tiny_imagenet_magnitude()
        for low, high in ((0.01, 0.05), (0.05, 0.15), (0.15, 0.3)):
            ring = (frequency > low) & (frequency <= high)
            assert 1 / 2 < ratio[ring].mean() < 2


class TestInitialImages:
    @pytest.mark.parametrize("name", ["none", "sigmoid", "lucid"])
    def test_every_kind_of_image_is_a_start_on_every_kind_of_canvas(self, name):
        shape = (6, 8, 3)
        canvas, optimizer = CANVASES[name](shape), optax.adam(0.05)
        ascend = jax.jit(ascent.ascend, static_argnames=("optimizer", "steps"))
        score = scores.logit(small_models.plain_convnet(), 1)

        def begun(start):
            return ascent.initial_state(canvas.encode(start), optimizer, KEY)

        photograph = fit(np.float32(skimage.data.coffee()) / 255, shape[:2])
        other = scores.logit(small_models.plain_convnet(), 2)
        starts = {
            "zeros": ascent.zeros(shape),
            "ones": ascent.constant(shape, 1.0),
            "grey": ascent.constant(shape),
            "mean colour": ascent.constant(shape, ascent.TINY_IMAGENET_COLORS.mean),
            "uniform": ascent.uniform_noise(KEY, shape),
            "normal": ascent.normal_noise(KEY, shape),
            "smooth": ascent.smooth_noise(KEY, shape),
            "photograph": jnp.asarray(photograph),
            "another class": ascend(
                other, begun(ascent.constant(shape)), optimizer, 3, decode=canvas.decode
            ).image,
        }
        for start_name, start in starts.items():
            result = ascend(score, begun(start), optimizer, 3, decode=canvas.decode, snapshots=[0])
            seen = start if name == "none" else start.clip(1e-3, 0.999)
            assert_allclose(result.snapshots[0], seen, atol=1e-5, err_msg=start_name)
            assert score(result.image) > result.values[0], start_name

    def test_uniform(self):
        noise = np.asarray(ascent.uniform_noise(KEY, (40, 40, 3), -1.0, 3.0))
        edges = np.linspace(-1, 3, 9)
        counts, _ = np.histogram(noise, edges)
        assert counts.sum() == noise.size
        assert_allclose(counts, noise.size / 8, atol=4 * np.sqrt(noise.size / 8))
        assert_array_equal(ascent.uniform_noise(KEY, (2, 2, 1), 0.5, 0.5), jnp.full((2, 2, 1), 0.5))

    @pytest.mark.parametrize("decay", [0.0, 1.0])
    def test_smooth_has_its_mean_deviation_and_spectrum(self, decay):
        shape, draws = (6, 5, 3), 2000
        draw = jax.jit(jax.vmap(lambda key: ascent.smooth_noise(key, shape, 0.4, 0.2, decay)))
        images = np.asarray(draw(jax.random.split(KEY, draws)), np.float64)
        assert_allclose(images.mean((1, 2)), 0.4, atol=1e-5)
        assert_allclose(images.std((0, 3)), 0.2, rtol=0.06)
        power = (np.abs(np.fft.fft2(images, axes=(1, 2))) ** 2).mean((0, 3))
        vertical, horizontal = np.fft.fftfreq(6)[:, None], np.fft.fftfreq(5)[None]
        squared = vertical**2 + horizontal**2
        scaled = (power * squared**decay).ravel()[1:]
        assert_allclose(scaled, scaled.mean(), rtol=0.1)

    def test_smooth_without_noise_is_constant(self):
        assert_array_equal(
            ascent.smooth_noise(KEY, (3, 4, 2), 0.3, 0.0), ascent.constant((3, 4, 2), 0.3)
        )

    def test_smooth_of_one_pixel_is_its_mean(self):
        assert_array_equal(ascent.smooth_noise(KEY, (1, 1, 2)), jnp.full((1, 1, 2), 0.5))


@pytest.mark.usefixtures("entry_checks")
class TestBadInput:
    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda: ascent.sigmoid_canvas(1.0, 0.0), ValueError, "high to be at least 1.0, got"),
            (lambda: ascent.fourier_canvas((4, 4)), ValueError, r"shape to be \(h, w, c\), got"),
            (lambda: ascent.fourier_noise(KEY, (4, 4, 1), -1), ValueError, "std to be at least 0"),
            (
                lambda: ascent.uniform_noise(KEY, (4, 4, 1), 1, 0),
                ValueError,
                "high to be at least 1",
            ),
            (
                lambda: ascent.smooth_noise(KEY, (4, 4, 1), std=-1),
                ValueError,
                "std to be at least 0",
            ),
            (
                lambda: ascent.phase_canvas(jnp.ones((4, 3, 1)), 6),
                ValueError,
                "magnitude to have 4 columns for a width of 6, got 3",
            ),
            (
                lambda: ascent.phase_canvas(-jnp.ones((4, 3, 1)), 4),
                ValueError,
                "magnitude to be at least 0",
            ),
            (
                lambda: ascent.color_canvas(np.ones((2, 3))),
                ValueError,
                r"covariance to have shape \(c, c\), got \(2, 3\)",
            ),
            (
                lambda: ascent.color_canvas(np.ones((2, 2))),
                ValueError,
                "covariance to be positive definite, got eigenvalues",
            ),
            (
                lambda: ascent.color_canvas(np.array([[1.0, 0.5], [0.0, 1.0]])),
                ValueError,
                "covariance to be symmetric",
            ),
            (
                lambda: ascent.color_canvas(np.eye(3)).decode(jnp.zeros((2, 2, 1))),
                ValueError,
                "expected an image of 3 channels, got one of 1",
            ),
            (
                lambda: ascent.color_statistics(jnp.zeros((2, 2, 1))),
                ValueError,
                r"images to have shape \(n, h, w, c\), got \(2, 2, 1\)",
            ),
            (
                lambda: ascent.color_statistics([]),
                ValueError,
                "at least one batch of images, got none",
            ),
            (
                lambda: ascent.mean_magnitude([jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 2, 4, 1))]),
                ValueError,
                r"images of one size, got another of \(2, 4, 1\)",
            ),
            (
                lambda: ascent.mean_magnitude(jnp.zeros((2, 2, 2, 1), int)),
                TypeError,
                "images to hold floats, got int32",
            ),
        ],
    )
    def test_is_named(self, call, error, message):
        with pytest.raises(error, match=message):
            call()
