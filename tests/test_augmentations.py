"""Augmentations against NumPy and SciPy, each with its identity."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.ndimage
import small_models
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import ascent, filters
from saliency_jax.ascent import _augmentations as augmentations

KEY = jax.random.key(0)
SHAPE = (6, 9, 2)
IMAGE = small_models.image(SHAPE)

AUGMENTATIONS = {
    "jitter": lambda number=2: ascent.jitter(number),
    "rotate": lambda number=30.0: ascent.rotate(number),
    "scale": lambda number=0.7: ascent.scale(number, 1.5),
    "pad": lambda number=0.3: ascent.pad(2, number),
    "crop": lambda number=0: ascent.crop(4, 3),
    "resized_crop": lambda number=0.4: ascent.resized_crop(number, 0.9),
    "flip": lambda number=0.5: ascent.flip(number),
    "blur": lambda number=0.5: ascent.random_blur(number, 2.0),
    "noise": lambda number=0.2: ascent.noise(number),
    "brightness": lambda number=0.4: ascent.brightness(number),
    "compose": lambda number=0.3: ascent.compose(
        ascent.pad(1, number), ascent.rotate(10.0), ascent.crop(5, 5)
    ),
}
IDENTITIES = {
    "jitter": ascent.jitter(0),
    "rotate": ascent.rotate(0.0),
    "scale": ascent.scale(1.0, 1.0),
    "pad": ascent.pad(0),
    "crop": ascent.crop(*SHAPE[:2]),
    "resized_crop": ascent.resized_crop(1.0, 1.0),
    "flip": ascent.flip(0.0),
    "blur": ascent.random_blur(0.0, 0.0),
    "noise": ascent.noise(0.0),
    "brightness": ascent.brightness(0.0),
    "compose of none": ascent.compose(),
    "compose": ascent.compose(ascent.jitter(0), ascent.flip(0.0), ascent.crop(*SHAPE[:2])),
}
LINEAR = [name for name in AUGMENTATIONS if name not in ("noise", "pad", "compose")]
each = pytest.mark.parametrize("name", AUGMENTATIONS)
apply = jax.jit(lambda augment, image, key: augment(image, key))


class TestEveryAugmentation:
    @pytest.mark.parametrize("augment", IDENTITIES.values(), ids=IDENTITIES)
    def test_the_least_setting_changes_nothing(self, augment):
        assert_array_equal(apply(augment, IMAGE, KEY), IMAGE)

    @each
    def test_equal_keys_give_equal_images_and_others_others(self, name):
        augment = AUGMENTATIONS[name]()
        keys = jax.random.split(KEY, 8)
        images = [np.asarray(apply(augment, IMAGE, key)) for key in keys]
        assert_array_equal(apply(augment, IMAGE, keys[3]), images[3])
        assert name == "pad" or not all(np.array_equal(images[0], other) for other in images)

    @each
    def test_another_number_does_not_compile_again(self, name, compilations):
        apply(AUGMENTATIONS[name](), IMAGE, KEY)
        number = {"jitter": 1, "crop": 0}.get(name, 0.25)
        other, key = AUGMENTATIONS[name](number), jax.random.key(1)
        with compilations.counted():
            apply(other, IMAGE, key)
        assert compilations.count == 0

    @pytest.mark.parametrize("name", LINEAR)
    def test_its_gradient_is_its_transpose(self, name):
        # <w, T(x)> = <T'(w), x> for the linear ones, so that no pixel's gradient is lost.
        augment = AUGMENTATIONS[name]()
        result = apply(augment, IMAGE, KEY)
        weights = jax.random.normal(jax.random.key(5), result.shape)
        inner = jax.jit(jax.grad(lambda image: jnp.sum(augment(image, KEY) * weights)))
        assert_allclose(jnp.sum(inner(IMAGE) * IMAGE), jnp.sum(result * weights), rtol=1e-4)

    @pytest.mark.parametrize("name", ["rotate", "scale", "resized_crop", "blur", "jitter", "flip"])
    def test_a_constant_image_stays(self, name):
        constant = ascent.constant(SHAPE, 0.3)
        assert_allclose(apply(AUGMENTATIONS[name](), constant, KEY), constant, rtol=1e-5)


class TestByHand:
    @pytest.mark.parametrize("degrees", [-70.0, 12.5, 90.0, 180.0])
    def test_a_turn_is_scipys(self, degrees, monkeypatch):
        monkeypatch.setattr(augmentations, "_uniform", lambda key, low, high, dtype: high)
        turn = np.deg2rad(degrees)
        matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        center = (np.array(SHAPE[:2]) - 1) / 2
        expected = [
            scipy.ndimage.affine_transform(
                channel, matrix, center - matrix @ center, order=1, mode="nearest"
            )
            for channel in np.moveaxis(np.asarray(IMAGE, np.float64), -1, 0)
        ]
        turned = augmentations._rotate(degrees, IMAGE, KEY)
        assert_allclose(turned, np.stack(expected, -1), atol=1e-5)

    def test_positive_turns_are_counterclockwise(self, monkeypatch):
        monkeypatch.setattr(augmentations, "_uniform", lambda key, low, high, dtype: high)
        square = IMAGE[:5, :5]
        turned = augmentations._rotate(90.0, square, KEY)
        assert_allclose(turned, np.rot90(np.asarray(square)), atol=1e-5)

    def test_angles_are_uniform(self):
        # The turned ramp of columns has the slope cos a along the columns at the centre.
        ramp = jnp.broadcast_to(jnp.arange(5.0)[None, :, None], (5, 5, 1))
        turn = jax.jit(jax.vmap(lambda key: ascent.rotate(40.0)(ramp, key)))
        turned = np.asarray(turn(jax.random.split(KEY, 400)))[..., 0]
        angles = np.rad2deg(np.arcsin((turned[:, 1, 2] - turned[:, 3, 2]) / 2))
        assert_allclose(np.abs(angles).max(), 40, atol=1)
        assert_allclose(angles.std(), 40 / np.sqrt(3), rtol=0.1)
        assert abs(angles.mean()) < 4 * 40 / np.sqrt(3 * 400)

    @pytest.mark.parametrize("factor", [0.6, 1.3, 2.0])
    def test_a_magnification_is_numpys_interpolation(self, factor):
        def magnified(line):
            length = line.shape[0]
            places = (np.arange(length) - (length - 1) / 2) / factor + (length - 1) / 2
            return np.interp(places, np.arange(length), line)

        expected = np.apply_along_axis(magnified, 0, np.asarray(IMAGE, np.float64))
        expected = np.apply_along_axis(magnified, 1, expected)
        scaled = apply(ascent.scale(factor, factor), IMAGE, KEY)
        assert_allclose(scaled, expected, atol=1e-5)

    def test_a_frame_is_numpys(self):
        color = np.array([0.2, 0.7], np.float32)
        padded = np.asarray(apply(ascent.pad(3, color), IMAGE, KEY))
        for channel in range(2):
            expected = np.pad(np.asarray(IMAGE[..., channel]), 3, constant_values=color[channel])
            assert_array_equal(padded[..., channel], expected)

    def test_every_window_is_as_likely(self):
        crops = jax.jit(jax.vmap(lambda key: ascent.crop(5, 7)(IMAGE, key)))
        drawn = np.asarray(crops(jax.random.split(KEY, 1200)))
        windows = [np.asarray(IMAGE)[i : i + 5, j : j + 7] for i in range(2) for j in range(3)]
        counts = [np.all(drawn == window[None], axis=(1, 2, 3)).sum() for window in windows]
        assert sum(counts) == 1200
        assert_allclose(counts, 200, atol=4 * np.sqrt(200))

    def test_a_resized_window_lies_within_the_image(self):
        # Of a ramp, the window shows its first place and its side.
        rows, columns = (jnp.arange(length, dtype=float) for length in SHAPE[:2])
        ramps = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)
        draw = jax.jit(jax.vmap(lambda key: ascent.resized_crop(0.2, 0.5)(ramps, key)))
        drawn = np.asarray(draw(jax.random.split(KEY, 500)))
        top, bottom = drawn[:, 0, 0, 0] / 5, drawn[:, -1, 0, 0] / 5
        left, right = drawn[:, 0, 0, 1] / 8, drawn[:, 0, -1, 1] / 8
        assert_allclose(bottom - top, right - left, atol=1e-5)
        side = right - left
        assert 0.2 - 1e-5 <= side.min() < 0.21
        assert 0.49 < side.max() <= 0.5 + 1e-5
        for start in (top, left):
            share = start / (1 - side)
            assert -1e-5 <= share.min() < 0.05
            assert 0.95 < share.max() <= 1 + 1e-5
            assert_allclose(share.mean(), 0.5, atol=4 / np.sqrt(12 * 500))

    def test_half_of_the_images_are_mirrored(self):
        flips = jax.jit(jax.vmap(lambda key: ascent.flip()(IMAGE, key)))
        drawn = np.asarray(flips(jax.random.split(KEY, 400)))
        mirrored = np.all(drawn == np.asarray(IMAGE)[None, :, ::-1], axis=(1, 2, 3))
        same = np.all(drawn == np.asarray(IMAGE)[None], axis=(1, 2, 3))
        assert (mirrored ^ same).all()
        assert abs(mirrored.sum() - 200) < 4 * 10
        assert_array_equal(apply(ascent.flip(1.0), IMAGE, KEY), IMAGE[:, ::-1])

    def test_a_blur_of_one_width_is_the_filter(self):
        expected = filters.blur(IMAGE, 1.2)
        assert_allclose(apply(ascent.random_blur(1.2, 1.2), IMAGE, KEY), expected, rtol=1e-6)

    def test_noise_has_its_standard_deviation(self):
        image = small_models.image((60, 60, 3))
        added = np.asarray(apply(ascent.noise(0.2), image, KEY) - image)
        assert added.std() == pytest.approx(0.2, rel=0.03)
        assert abs(added.mean()) < 4 * 0.2 / np.sqrt(added.size)

    def test_brightness_is_one_factor(self):
        draw = jax.jit(jax.vmap(lambda key: ascent.brightness(0.4)(IMAGE, key) / IMAGE))
        factors = np.asarray(draw(jax.random.split(KEY, 400)))
        assert_allclose(factors.std((1, 2, 3)), 0, atol=1e-5)
        assert 0.6 - 1e-5 <= factors.min() < 0.62
        assert 1.38 < factors.max() <= 1.4 + 1e-5

    def test_composed_augmentations_come_in_turn_with_keys_of_their_own(self):
        parts = (ascent.noise(1.0), ascent.noise(1.0), ascent.flip(1.0))
        first, second, _ = jax.random.split(KEY, 3)
        expected = IMAGE
        for key in (first, second):
            expected = expected + jax.random.normal(key, SHAPE)
        assert_allclose(apply(ascent.compose(*parts), IMAGE, KEY), expected[:, ::-1], atol=1e-6)


class TestInAscent:
    OPTIMIZER = optax.sgd(0.5)
    step = staticmethod(jax.jit(ascent.ascent_step, static_argnames=("optimizer", "num_samples")))

    def start(self):
        return ascent.initial_state(IMAGE, self.OPTIMIZER, jax.random.key(7))

    def test_without_augmentation_it_is_plain_gradient_ascent(self):
        # S(I) = tanh(<w, I>): dS/dI = (1 - S^2) w
        w = 0.1 * np.asarray(jax.random.normal(KEY, SHAPE))
        ascend = jax.jit(ascent.ascend, static_argnames=("optimizer", "steps"))
        score = jax.tree_util.Partial(lambda w, image: jnp.tanh(jnp.sum(w * image)), w)
        result = ascend(score, self.start(), self.OPTIMIZER, 5)
        x, values = np.asarray(IMAGE, np.float64), []
        for _ in range(5):
            values.append(np.tanh((w * x).sum()))
            x = x + 0.5 * (1 - values[-1] ** 2) * w
        assert_allclose(result.image, x, atol=1e-5)
        assert_allclose(result.values, values, rtol=1e-4)

    def test_several_draws_are_averaged(self):
        score = small_models.linear_score(jax.random.normal(KEY, SHAPE))
        augment, state = ascent.compose(ascent.jitter(2), ascent.brightness(0.5)), self.start()
        after, value = self.step(score, state, self.OPTIMIZER, augment=augment, num_samples=3)
        gradients, values = [], []
        for key in jax.random.split(jax.random.split(state.key)[1], 3):
            drawn, gradient = jax.value_and_grad(lambda image, key=key: score(augment(image, key)))(
                IMAGE
            )
            gradients.append(gradient)
            values.append(drawn)
        assert_allclose(value, np.mean(values), rtol=1e-5)
        assert_allclose(after.params, IMAGE + 0.5 * np.mean(gradients, axis=0), atol=1e-5)

    def test_draws_that_are_all_the_same_are_one(self):
        score, state = small_models.linear_score(IMAGE), self.start()
        one, _ = self.step(score, state, self.OPTIMIZER, augment=ascent.jitter(0))
        three, _ = self.step(score, state, self.OPTIMIZER, augment=ascent.jitter(0), num_samples=3)
        assert_allclose(three.params, one.params, rtol=1e-5)

    def test_too_few_draws(self):
        with pytest.raises(ValueError, match="num_samples to be at least 1, got 0"):
            ascent.ascent_step(
                jnp.sum, self.start(), self.OPTIMIZER, augment=ascent.jitter(1), num_samples=0
            )


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ascent.rotate(-1.0), ValueError, "degrees to be at least 0, got -1"),
        (lambda: ascent.scale(1.2, 1.1), ValueError, "high to be at least 1.2, got 1.1"),
        (lambda: ascent.scale(0.0, 1.0), ValueError, "low to be above 0, got 0"),
        (lambda: ascent.pad(-1), ValueError, "pixels to be at least 0, got -1"),
        (lambda: ascent.pad(1.5), TypeError, "pixels to be an integer, got 1.5"),
        (lambda: ascent.pad(1, np.ones(3))(IMAGE, KEY), ValueError, "color to have shape"),
        (lambda: ascent.crop(0, 1), ValueError, "height to be at least 1, got 0"),
        (lambda: ascent.crop(7, 1)(IMAGE, KEY), ValueError, "at least 7 x 1, got 6 x 9"),
        (lambda: ascent.resized_crop(0.5, 1.5), ValueError, "0 < low <= high <= 1, got 0.5 and"),
        (lambda: ascent.flip(1.5), ValueError, "probability to be at most 1, got 1.5"),
        (lambda: ascent.random_blur(-1.0, 1.0), ValueError, "low to be at least 0, got -1"),
        (lambda: ascent.noise(-1.0), ValueError, "std to be at least 0, got -1"),
        (lambda: ascent.brightness(-1.0), ValueError, "amount to be at least 0, got -1"),
        (lambda: ascent.compose(3), TypeError, "augmentations to be callable, got int"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
