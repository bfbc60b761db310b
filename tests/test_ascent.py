"""Gradient ascent against closed forms and plain NumPy loops."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import ascent, scores

SHAPE = (3, 4, 2)
KEY = jax.random.key(0)
ascend = jax.jit(ascent.ascend, static_argnames=("optimizer", "steps", "decode"))


@functools.cache
def sgd(learning_rate):
    return optax.sgd(learning_rate)


@functools.cache
def adam(learning_rate):
    return optax.adam(learning_rate)


def weights(shape=SHAPE, seed=3):
    return jax.random.normal(jax.random.key(seed), shape)


def start(optimizer, shape=SHAPE, key=KEY):
    return ascent.initial_state(small_models.image(shape), optimizer, key)


def class_score(label=1, channels=2):
    return scores.logit(small_models.plain_convnet(channels), label)


class TestClosedForms:
    def test_linear_score_under_sgd(self):
        # x_t = x_0 + t eta w
        state = start(sgd(0.25))
        result = ascend(small_models.linear_score(weights()), state, sgd(0.25), 8)
        assert_allclose(result.image, state.params + 8 * 0.25 * weights(), rtol=1e-6, atol=1e-6)

    def test_linear_score_with_the_l2_prior_under_sgd(self):
        # x* = center + w / (2 lambda); x_t = x* + (1 - 2 eta lambda)^t (x_0 - x*)
        weight, rate, center = 0.7, 0.3, np.array([0.2, 0.6], np.float32)
        state = start(sgd(rate))
        result = ascend(
            small_models.linear_score(weights()),
            state,
            sgd(rate),
            9,
            prior=ascent.l2(weight, center),
            snapshots=np.arange(10),
        )
        w, x0 = np.asarray(weights(), np.float64), np.asarray(state.params, np.float64)
        optimum = center + w / (2 * weight)
        path = np.stack(
            [optimum + (1 - 2 * rate * weight) ** t * (x0 - optimum) for t in range(10)]
        )
        values = [np.sum(w * x) - weight * np.sum((x - center) ** 2) for x in path]
        assert_allclose(result.snapshots, path, rtol=1e-5, atol=1e-5)
        assert_allclose(result.image, path[-1], rtol=1e-5, atol=1e-5)
        assert_allclose(result.values, values[:-1], rtol=1e-5)
        assert result.state.step == 9

    def test_quadratic_score_under_adam_is_ten_lines_of_numpy(self):
        rate, b1, b2, eps = 0.1, 0.9, 0.999, 1e-8
        target = weights()
        score = Partial(lambda target, image: -jnp.sum((image - target) ** 2), target)
        result = ascend(score, start(adam(rate)), adam(rate), 12)

        x, goal = np.asarray(start(sgd(1.0)).params, np.float64), np.asarray(target, np.float64)
        m, v = np.zeros(SHAPE), np.zeros(SHAPE)
        for t in range(1, 13):
            g = -2 * (x - goal)
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g**2
            x = x + rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        assert_allclose(result.image, x, rtol=1e-5, atol=1e-5)

    def test_a_decoded_canvas_follows_the_chain_rule(self):
        # I_ijc = sigmoid(a_c + b_ij): dI/da = dI/db = I (1 - I), summed over what they share.
        def decode(params):
            return jax.nn.sigmoid(params["color"][None, None, :] + params["light"][:, :, None])

        params = {"color": jnp.array([0.1, -0.2]), "light": weights((3, 4))}
        state = ascent.initial_state(params, sgd(0.5), KEY)
        result = ascend(
            small_models.linear_score(weights()),
            state,
            sgd(0.5),
            4,
            decode=decode,
            snapshots=[0, 4],
        )
        w = np.asarray(weights(), np.float64)
        a, b = np.asarray(params["color"], np.float64), np.asarray(params["light"], np.float64)
        images = []
        for _ in range(5):
            image = 1 / (1 + np.exp(-(a + b[:, :, None])))
            images.append(image)
            slope = w * image * (1 - image)
            a, b = a + 0.5 * slope.sum((0, 1)), b + 0.5 * slope.sum(2)
        assert_allclose(result.snapshots, [images[0], images[4]], rtol=1e-5)
        assert_allclose(result.image, images[4], rtol=1e-5)

    def test_line_search_finds_the_maximum_of_a_quadratic(self):
        # Any optax transformation: L-BFGS asks for the objective itself.
        target = weights()
        score = Partial(lambda target, image: 5.0 - jnp.sum((image - target) ** 2), target)
        lbfgs = optax.lbfgs()
        result = ascend(score, start(lbfgs), lbfgs, 3)
        assert_allclose(result.image, target, atol=1e-4)
        assert score(result.image) == pytest.approx(5.0, abs=1e-6)

    def test_the_value_is_the_objective_before_the_step(self):
        score, prior, state = class_score(), ascent.l2(0.1), start(adam(0.1))
        result = ascend(score, state, adam(0.1), 3, prior=prior, snapshots=[0, 1, 2, 3])
        expected = [score(image) - prior(image) for image in result.snapshots]
        assert_allclose(result.values, expected[:-1], rtol=1e-5)
        assert expected[-1] > expected[0]


class TestOneProgram:
    OPTIONS = {  # noqa: RUF012
        "plain": {},
        "jitter and prior": {"augment": ascent.jitter(2), "prior": ascent.l2(0.01)},
    }
    EACH = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())

    @EACH
    def test_segments_are_one_call_bit_for_bit(self, options):
        score, state = class_score(), start(adam(0.1))
        whole = ascend(score, state, adam(0.1), 6, **options)
        first = ascend(score, state, adam(0.1), 2, **options)
        second = ascend(score, first.state, adam(0.1), 4, **options)
        assert_array_equal(second.image, whole.image)
        assert_array_equal(jnp.concatenate([first.values, second.values]), whole.values)
        jax.tree.map(assert_array_equal, without_key(second.state), without_key(whole.state))
        assert second.state.step == 6

    def test_a_segment_works_in_the_memory_of_the_state_it_is_given(self):
        score = small_models.linear_score(weights())
        advance = jax.jit(
            lambda state: ascent.ascend(score, state, adam(0.1), 2).state, donate_argnums=0
        )
        expected = ascend(score, start(adam(0.1)), adam(0.1), 2).state
        given = start(adam(0.1), key=jax.random.key(0))
        given = given._replace(params=jnp.array(given.params))
        made = advance(given)
        used = [given.params, *jax.tree.leaves(given.opt_state)]
        assert all(leaf.is_deleted() for leaf in used)
        assert_array_equal(made.params, expected.params)

    @EACH
    def test_scan_is_a_loop_of_steps(self, options):
        score, state = class_score(), start(adam(0.1))
        whole = ascend(score, state, adam(0.1), 3, **options)
        step = jax.jit(ascent.ascent_step, static_argnames="optimizer")
        values = []
        for _ in range(3):
            state, value = step(score, state, adam(0.1), **options)
            values.append(value)
        assert_allclose(whole.image, state.params, rtol=1e-5, atol=1e-6)
        assert_allclose(whole.values, jnp.stack(values), rtol=1e-5, atol=1e-6)

    @EACH
    def test_snapshots_are_separate_runs(self, options):
        score, state = class_score(), start(adam(0.1))
        result = ascend(score, state, adam(0.1), 6, snapshots=np.array([4, 0, 6, 4]), **options)
        after_four = ascend(score, state, adam(0.1), 4, **options).image
        assert_array_equal(
            result.snapshots, jnp.stack([after_four, state.params, result.image, after_four])
        )

    def test_no_snapshots_unless_asked(self):
        assert ascend(class_score(), start(sgd(0.1)), sgd(0.1), 2).snapshots.shape == (0, *SHAPE)

    def test_traced_snapshot_out_of_range_is_nan(self):
        result = ascend(class_score(), start(sgd(0.1)), sgd(0.1), 2, snapshots=np.array([3, 1]))
        assert jnp.isnan(result.snapshots[0]).all()
        assert jnp.isfinite(result.snapshots[1]).all()

    def test_other_numbers_do_not_compile_again(self, compilations):
        def run(label, key, weight, jitter, snapshots):
            return ascend(
                class_score(label),
                start(adam(0.1), key=key),
                adam(0.1),
                3,
                augment=ascent.jitter(jitter),
                prior=ascent.l2(weight),
                snapshots=snapshots,
            )

        first = run(0, jax.random.key(1), 0.1, 1, np.array([0, 2]))
        with compilations.counted():
            second = run(3, jax.random.key(2), 0.2, 2, np.array([1, 3]))
        assert compilations.count == 0
        assert not jnp.array_equal(first.image, second.image)

    def test_a_grid_of_settings_is_one_program(self, compilations):
        model = small_models.plain_convnet(2)
        optimizer = optax.inject_hyperparams(optax.adam)(0.0)

        def picture(label, seed, weight, learning_rate):
            key = jax.random.key(seed)
            initial = ascent.normal_noise(key, SHAPE)
            state = ascent.initial_state(initial, optimizer, key)
            state.opt_state.hyperparams["learning_rate"] = learning_rate
            return ascent.ascend(
                scores.logit(model, label),
                state,
                optimizer,
                3,
                augment=ascent.jitter(1),
                prior=ascent.l2(weight),
            ).image

        grid = picture
        for axis in reversed(range(4)):
            grid = jax.vmap(grid, in_axes=[0 if i == axis else None for i in range(4)])
        grid = jax.jit(grid)
        labels, seeds = np.array([0, 3]), np.array([7, 8, 9])
        prior_weights, rates = np.float32([0.0, 0.5]), np.float32([0.05, 0.2])

        with compilations.counted():
            pictures = grid(labels, seeds, prior_weights, rates).block_until_ready()
        assert compilations.count == 1
        with compilations.counted():
            grid(labels[::-1], seeds + 1, prior_weights + 1, rates * 2).block_until_ready()
        assert compilations.count == 0

        assert pictures.shape == (2, 3, 2, 2, *SHAPE)
        alone = jax.jit(picture)
        for i, j, k, m in [(0, 0, 0, 0), (1, 0, 1, 0), (0, 2, 0, 1), (1, 1, 1, 1)]:
            one = alone(labels[i], seeds[j], prior_weights[k], rates[m])
            assert_allclose(pictures[i, j, k, m], one, rtol=1e-4, atol=1e-5)


def squares(image):
    return jnp.sum(image**2)


class TestFailure:
    """x <- (1 + 2 rate) x climbs on the sum of squares until float32 is at its end."""

    X = jnp.array([[[1.0], [-0.5]]])

    def run(self, rate, steps=6, score=squares, **options):
        optimizer = optax.sgd(rate)
        state = ascent.initial_state(self.X, optimizer, KEY)
        return ascent.ascend(score, state, optimizer, steps, **options)

    def test_an_objective_that_overflows(self):
        # Factors of 2e10: x is 4e20 after two steps, whose square float32 does not hold.
        result = self.run(1e10, snapshots=[1, 2, 3, 6])
        assert result.state.failed_at == 3
        assert result.state.step == 2
        assert_allclose(result.image, self.X * 4e20, rtol=1e-6)
        assert_allclose(result.values[:2], [1.25, 1.25 * 4e20], rtol=1e-6)
        assert result.values[2] == jnp.inf
        assert jnp.isnan(result.values[3:]).all()
        for factor, image in zip((2e10, 4e20, 4e20, 4e20), result.snapshots, strict=True):
            assert_allclose(image, self.X * factor, rtol=1e-6)

    def test_parameters_that_overflow(self):
        result = self.run(2e38, score=lambda image: image[0, 0, 0])
        assert result.state.failed_at == 2
        assert_allclose(result.image, [[[2e38], [-0.5]]], rtol=1e-6)
        assert_allclose(result.values[:2], [1.0, 2e38], rtol=1e-6)

    def test_an_image_that_overflows(self):
        # The parameters, of about 3e8, and the objective before the step do not.
        def decode(params):
            return 1e38 * jnp.exp(params)

        result = self.run(1.0, score=lambda image: jnp.sum(1e-30 * image), decode=decode)
        assert result.state.failed_at == 1
        assert_array_equal(result.image, decode(self.X))
        assert jnp.isfinite(result.image).all()

    def test_a_score_that_is_nan_from_the_start(self):
        result = self.run(0.1, score=lambda image: jnp.sqrt(-squares(image)))
        assert result.state.failed_at == 1
        assert_array_equal(result.image, self.X)

    def test_no_key_is_used_twice_by_steps_that_are_not_made(self):
        optimizer = optax.chain(optax.sgd(1e10), optax.add_noise(0.1, 0.5, key=jax.random.key(3)))
        with jax.debug_key_reuse(True):
            state = ascent.initial_state(self.X, optimizer, jax.random.key(0))
            result = ascent.ascend(squares, state, optimizer, 6, augment=ascent.jitter(1))
            again = ascent.ascend(squares, result.state, optimizer, 1, augment=ascent.jitter(1))
        assert result.state.failed_at == 3
        assert_array_equal(again.image, result.image)

    def test_segments_stop_as_one_call_does(self):
        optimizer = optax.adam(3e38)
        state = ascent.initial_state(self.X, optimizer, KEY)
        whole = ascend(Partial(squares), state, optimizer, 4)
        first = ascend(Partial(squares), state, optimizer, 2)
        second = ascend(Partial(squares), first.state, optimizer, 2)
        assert whole.state.failed_at > 0
        jax.tree.map(assert_array_equal, without_key(second.state), without_key(whole.state))
        assert_array_equal(jnp.concatenate([first.values, second.values]), whole.values)

    def test_only_the_one_that_fails_stops(self):
        rates = jnp.array([0.5, 1e10, 0.25])
        result = jax.jit(jax.vmap(self.run))(rates)
        assert_array_equal(result.state.failed_at, [0, 3, 0])
        assert_array_equal(result.state.step, [6, 2, 6])
        assert_allclose(result.image[0], self.X * 2.0**6, rtol=1e-6)
        assert_allclose(result.image[2], self.X * 1.5**6, rtol=1e-6)

    def test_the_earliest_step_is_named_with_its_settings(self):
        failed_at = np.array([[0, 7, 0], [0, 3, 5]])
        message = (
            "expected finite steps, got infinity or nan at step 3 with label b, rate 0.5, l2 2$"
        )
        with pytest.raises(ValueError, match=message):
            ascent.check_finite_steps(
                failed_at, label=["a", "b", "c"], rate=jnp.array([[0.25], [0.5]]), l2=2
            )
        with pytest.raises(
            ValueError, match=r"expected finite steps, got infinity or nan at step 4$"
        ):
            ascent.check_finite_steps(jnp.array(4))
        ascent.check_finite_steps(0 * failed_at, rate=1e30)


class TestTransforms:
    @pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
    def test_normalized_step_has_the_length_of_the_learning_rate(self, scale):
        optimizer = optax.chain(ascent.normalize_by_l2(), optax.sgd(0.5))
        score = small_models.linear_score(weights() * scale)
        state = ascent.initial_state(jnp.zeros(SHAPE), optimizer, KEY)
        result = ascend(score, state, optimizer, 1)
        exact = np.asarray(weights(), np.float64)
        assert np.linalg.norm(np.asarray(result.image, np.float64)) == pytest.approx(0.5, rel=1e-6)
        assert_allclose(result.image, 0.5 * exact / np.linalg.norm(exact), rtol=1e-5)

    def test_the_norm_is_taken_over_all_parameters_at_once(self):
        gradient = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}
        updates, _ = ascent.normalize_by_l2().update(gradient, optax.EmptyState())
        assert_allclose(updates["a"], [0.6, 0.0], rtol=1e-6)
        assert_allclose(updates["b"], [[0.8]], rtol=1e-6)

    def test_no_gradient_no_step(self):
        updates, _ = ascent.normalize_by_l2().update(jnp.zeros(SHAPE), optax.EmptyState())
        assert_array_equal(updates, jnp.zeros(SHAPE))

    def test_a_gradient_that_is_not_a_number_stays_visible(self):
        updates, _ = ascent.normalize_by_l2().update(jnp.array([jnp.nan, 1.0]), optax.EmptyState())
        assert jnp.isnan(updates).all()

    @pytest.mark.parametrize("make_optimizer", [optax.sgd, optax.adam])
    @pytest.mark.parametrize("rate", [0.01, 10.0])
    def test_pixels_are_kept_in_range(self, make_optimizer, rate):
        optimizer = optax.chain(make_optimizer(rate), ascent.keep_in_range(0.0, 1.0))
        score, state = small_models.linear_score(weights((40, 30, 3))), start(sgd(1.0), (40, 30, 3))
        state = ascent.initial_state(state.params, optimizer, KEY)
        snapshots = ascend(score, state, optimizer, 20, snapshots=np.arange(21)).snapshots
        assert snapshots.min() >= 0.0
        assert snapshots.max() <= 1.0

    def test_the_range_is_a_projection_of_the_step(self):
        x = jnp.array([0.2, 0.5, 0.9])
        updates = jnp.array([-0.5, 0.1, 0.5])
        kept, _ = ascent.keep_in_range(-0.1, 1.2).update(updates, optax.EmptyState(), x)
        assert_allclose(x + kept, [-0.1, 0.6, 1.2], rtol=1e-6)

    def test_bad_input(self):
        with pytest.raises(ValueError, match=r"high to be at least 1\.0, got 0\.0"):
            ascent.keep_in_range(1.0, 0.0)
        with pytest.raises(ValueError, match="expected params with the updates, got None"):
            ascent.keep_in_range(0.0, 1.0).update(jnp.zeros(3), optax.EmptyState())


class TestJitter:
    def shifts(self, image, shifted, largest):
        return [
            (u, v)
            for u in range(-largest, largest + 1)
            for v in range(-largest, largest + 1)
            if all(
                shifted[i, j].tolist() == image[(i - u) % 7, (j - v) % 9].tolist()
                for i, j in np.ndindex(7, 9)
            )
        ]

    def test_every_shift_in_range_is_as_likely(self):
        image = jnp.arange(7 * 9 * 2.0).reshape(7, 9, 2)
        keys = jax.random.split(KEY, 900)
        shifted = np.asarray(jax.vmap(ascent.jitter(1), in_axes=(None, 0))(image, keys))
        origins = collections.Counter(
            tuple(int(i[0]) for i in np.nonzero(one[..., 0] == 0)) for one in shifted
        )
        nine = {(u % 7, v % 9) for u in (-1, 0, 1) for v in (-1, 0, 1)}
        assert set(origins) == nine
        # 900 draws over nine shifts: 100 each, with a standard deviation of 9.4.
        assert all(abs(count - 100) < 5 * 9.4 for count in origins.values())
        for one in shifted[:5]:
            assert len(self.shifts(np.asarray(image), one, 1)) == 1

    def test_no_pixels_no_change(self):
        image = small_models.image()
        assert_array_equal(ascent.jitter(0)(image, KEY), image)

    def test_equal_keys_shift_equally(self):
        image = small_models.image((9, 9, 1))
        first, second = (ascent.jitter(4)(image, jax.random.key(5)) for _ in range(2))
        assert_array_equal(first, second)

    def test_each_step_sees_another_shift(self):
        # The gradient of w.T(x) is w shifted back, so with zero start and a unit step the image is
        # a sum of shifted copies of w: one nonzero weight shows where each went.
        one_pixel = jnp.zeros((9, 9, 1)).at[4, 4].set(1.0)
        state = ascent.initial_state(jnp.zeros((9, 9, 1)), sgd(1.0), KEY)
        result = ascend(
            small_models.linear_score(one_pixel), state, sgd(1.0), 20, augment=ascent.jitter(2)
        )
        assert result.image.sum() == 20
        assert result.image[2:7, 2:7].sum() == 20
        assert (result.image > 0).sum() >= 8

    def test_bad_input(self):
        with pytest.raises(ValueError, match="pixels to be at least 0, got -1"):
            ascent.jitter(-1)


class TestPrior:
    @pytest.mark.parametrize(
        "center",
        [0.0, 0.5, np.array([0.1, 0.9], np.float32), np.linspace(0, 1, 24, dtype=np.float32)],
        ids=["zero", "grey", "color", "image"],
    )
    def test_l2_pixel_by_pixel(self, center):
        center = jnp.asarray(center)
        center = center.reshape(SHAPE) if center.size == 24 else center
        image = small_models.image(SHAPE)
        exact = np.broadcast_to(np.asarray(center, np.float64), SHAPE)
        expected = 0.3 * sum((float(image[i]) - exact[i]) ** 2 for i in np.ndindex(SHAPE))
        assert ascent.l2(0.3, center)(image) == pytest.approx(expected, rel=1e-6)

    def test_bad_input(self):
        with pytest.raises(ValueError, match=r"weight to be at least 0, got -0\.5"):
            ascent.l2(-0.5)

    @pytest.mark.usefixtures("entry_checks")
    def test_center_that_does_not_fit(self):
        with pytest.raises(ValueError, match=r"center .* or \(3, 4, 2\), got \(3,\)"):
            ascent.l2(1.0, jnp.zeros(3))(small_models.image(SHAPE))


class TestInitialImages:
    def test_zeros(self):
        assert_array_equal(ascent.zeros((2, 3, 1)), np.zeros((2, 3, 1), np.float32))

    def test_constant(self):
        image = ascent.constant((4, 5, 2), np.array([0.25, 0.5], np.float32))
        assert {tuple(color) for color in image.reshape(-1, 2).tolist()} == {(0.25, 0.5)}
        assert image.dtype == jnp.float32

    def test_normal_has_its_mean_and_standard_deviation(self):
        mean = np.array([0.2, 0.5, 0.8], np.float32)
        image = np.asarray(ascent.normal_noise(KEY, (64, 64, 3), mean, 0.05), np.float64)
        # 4096 draws a channel: standard errors 0.05 / 64 and 0.05 / sqrt(2 * 4096).
        assert_allclose(image.mean((0, 1)), mean, atol=4 * 0.05 / 64)
        assert_allclose(image.std((0, 1)), 0.05, atol=4 * 0.05 / 90)

    def test_normal_without_noise_is_constant(self):
        assert_array_equal(ascent.normal_noise(KEY, SHAPE, 0.3, 0.0), ascent.constant(SHAPE, 0.3))

    def test_of_a_steep_decay_the_longest_waves_alone_are_left(self):
        shape = (8, 6, 1)
        for decay in (1e3, 1e30):
            spectrum = np.fft.fft2(ascent.smooth_noise(KEY, shape, decay=decay)[..., 0])
            # Of a side of 8 pixels those of one cycle, up and down.
            spectrum[0, 0] = spectrum[1, 0] = spectrum[-1, 0] = 0
            assert_allclose(spectrum, 0, atol=1e-5)

    @pytest.mark.parametrize("x64", [False, True])
    def test_single_precision_unless_asked_for_another(self, x64):
        with jax.enable_x64(x64):
            for image in (
                ascent.zeros(SHAPE),
                ascent.constant(SHAPE, np.array([0.1, 0.2])),
                ascent.normal_noise(jax.random.key(0), SHAPE),
                ascent.uniform_noise(jax.random.key(0), SHAPE),
                ascent.smooth_noise(jax.random.key(0), SHAPE),
                ascent.fourier_noise(jax.random.key(0), SHAPE),
            ):
                assert image.dtype == jnp.float32

    def test_normal_is_its_keys(self):
        first, again, other = (ascent.normal_noise(jax.random.key(i), SHAPE) for i in (1, 1, 2))
        assert_array_equal(first, again)
        assert not jnp.array_equal(first, other)

    @pytest.mark.usefixtures("entry_checks")
    @pytest.mark.parametrize(
        "make", [ascent.zeros, ascent.constant, lambda shape: ascent.normal_noise(KEY, shape)]
    )
    @pytest.mark.parametrize(
        ("shape", "error", "message"),
        [
            ((4, 4), ValueError, r"shape to be \(h, w, c\), got \(4, 4\)"),
            (4, ValueError, r"shape to be \(h, w, c\), got 4"),
            ((4, 0, 3), ValueError, "width to be at least 1, got 0"),
            ((4.0, 4, 3), TypeError, r"height to be an integer, got 4\.0"),
        ],
    )
    def test_bad_shape(self, make, shape, error, message):
        with pytest.raises(error, match=message):
            make(shape)

    @pytest.mark.usefixtures("entry_checks")
    def test_color_that_does_not_fit(self):
        with pytest.raises(ValueError, match=r"color to have shape \(\) or \(2,\), got \(3,\)"):
            ascent.constant(SHAPE, np.zeros(3, np.float32))
        with pytest.raises(ValueError, match=r"mean to have shape \(\) or \(2,\), got \(4, 2\)"):
            ascent.normal_noise(KEY, SHAPE, np.zeros((4, 2), np.float32))

    @pytest.mark.usefixtures("entry_checks")
    def test_bad_std(self):
        with pytest.raises(ValueError, match="std to be at least 0, got -1"):
            ascent.normal_noise(KEY, SHAPE, std=-1)


@pytest.mark.usefixtures("entry_checks")
class TestBadInput:
    def run(self, steps=2, params=None, **options):
        params = jnp.zeros(SHAPE) if params is None else params
        state = ascent.initial_state(params, sgd(0.1), KEY)
        return ascent.ascend(class_score(), state, sgd(0.1), steps, **options)

    @pytest.mark.parametrize("steps", [0, -3])
    def test_too_few_steps(self, steps):
        with pytest.raises(ValueError, match=f"steps to be at least 1, got {steps}"):
            self.run(steps)

    @pytest.mark.parametrize("steps", [2.0, "2", True, None])
    def test_steps_of_another_type(self, steps):
        with pytest.raises(TypeError, match="steps to be an integer, got"):
            self.run(steps)

    def test_traced_steps(self):
        with pytest.raises(TypeError, match="steps to be a Python integer"):
            jax.jit(self.run)(2)

    @pytest.mark.parametrize(
        ("snapshots", "error", "message"),
        [
            ([0, 3], ValueError, r"snapshots to be in 0 \.\. 2, got \[0, 3\]"),
            (jnp.array([-1]), ValueError, r"snapshots to be in 0 \.\. 2, got \[-1\]"),
            ([0.5], TypeError, "snapshots to be integers, got float64"),
            (np.array([[1]]), ValueError, r"snapshots to have shape \(n,\), got \(1, 1\)"),
        ],
    )
    def test_snapshots(self, snapshots, error, message):
        with pytest.raises(error, match=message):
            self.run(snapshots=snapshots)

    @pytest.mark.parametrize(
        ("params", "error", "message"),
        [
            (jnp.zeros((4, 4)), ValueError, r"decoded image to have shape .* got \(4, 4\)"),
            (jnp.zeros((2, *SHAPE)), ValueError, "decoded image to be one image"),
            (jnp.zeros(SHAPE, jnp.int32), TypeError, "params to hold floats, got int32"),
            (jnp.full(SHAPE, jnp.nan), ValueError, "params to be finite, got 24"),
            (0.5, TypeError, "params to be an array, got float"),
        ],
    )
    def test_params(self, params, error, message):
        with pytest.raises(error, match=message):
            self.run(params=params)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"score": 3}, TypeError, "score to be callable, got int"),
            (
                {"score": lambda image: image.mean((0, 1))},
                ValueError,
                r"score to return one real number, got shape \(2,\)",
            ),
            ({"score": lambda image: None}, TypeError, "score to return one real .* got NoneType"),
            ({"score": lambda image: image.size}, TypeError, "score to return one real .* got int"),
            ({"state": jnp.zeros(SHAPE)}, TypeError, "state to be an AscentState, got Array"),
            ({"optimizer": 0.1}, TypeError, "an optax.GradientTransformation, got float"),
            ({"optimizer": optax.sgd}, TypeError, "an optax.GradientTransformation, got function"),
            ({"decode": 3}, TypeError, "decode to be callable, got int"),
            ({"augment": 3}, TypeError, "augment to be callable, got int"),
            ({"augment": lambda image, key: None}, TypeError, "the augmented image to be an array"),
            ({"prior": 0.1}, TypeError, "prior to be callable, got float"),
            ({"prior": lambda image: image}, ValueError, r"prior returns .* got shape \(3, 4, 2\)"),
            ({"num_samples": 1.5}, TypeError, "num_samples to be an integer, got 1.5"),
        ],
    )
    def test_what_takes_no_part_in_an_ascent(self, options, error, message):
        state = ascent.initial_state(jnp.zeros(SHAPE), sgd(0.1), KEY)
        settings = {"score": class_score(), "state": state, "optimizer": sgd(0.1)} | options
        with pytest.raises(error, match=message):
            ascent.ascent_step(**settings)
        with pytest.raises(error, match=message):
            ascent.ascend(steps=2, **settings)

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda image: ascent.initial_state(image, 3, KEY), TypeError, "optax.*, got int"),
            (lambda image: ascent.initial_state(image, sgd(0.1), 3), TypeError, "random key, got"),
            (lambda image: ascent.initial_state({}, sgd(0.1), KEY), ValueError, "least one array"),
            (lambda image: ascent.l2("a"), TypeError, "weight to be one number, got 'a'"),
            (lambda image: ascent.l2(np.ones(2)), ValueError, r"one number, got shape \(2,\)"),
            (lambda image: ascent.l2(1.0, "red"), TypeError, "center to hold numbers, got"),
            (lambda image: ascent.l2(1.0)(image[0]), ValueError, "image to have shape"),
            (lambda image: ascent.jitter(1.5), TypeError, "pixels to be an integer, got 1.5"),
            (lambda image: ascent.jitter(1)(image, 3), TypeError, "a JAX random key, got int"),
            (lambda image: ascent.noise(0.1)(image[0], KEY), ValueError, "image to have shape"),
            (lambda image: ascent.constant(SHAPE, "red"), TypeError, "color to hold numbers, got"),
            (lambda image: ascent.zeros(SHAPE, int), TypeError, "dtype to be one of floats, got"),
            (lambda image: ascent.normal_noise(3, SHAPE), TypeError, "random key, got int"),
            (lambda image: ascent.keep_in_ball(2, image, 1.0), TypeError, "Ball, got int"),
            (lambda image: ascent.chain_canvases(3), TypeError, "of type Canvas, got int"),
            (lambda image: ascent.sigmoid_canvas().decode(3), TypeError, "to be an array, got int"),
            (lambda image: ascent.color_statistics(3), TypeError, "or batches of them, got int"),
            (
                lambda image: ascent.fourier_canvas(SHAPE).decode(image),
                ValueError,
                r"params to have shape \(2, 3, 3\), got \(3, 4, 2\)",
            ),
            (
                lambda image: ascent.ascend_octaves(
                    class_score(), image, sgd(0.1), 2, key=KEY, make_canvas=lambda shape: shape
                ),
                TypeError,
                "make_canvas to return a Canvas, got tuple",
            ),
        ],
    )
    def test_what_is_of_another_kind(self, call, error, message):
        with pytest.raises(error, match=message):
            call(small_models.image(SHAPE))

    def test_class_out_of_range(self):
        state = ascent.initial_state(jnp.zeros(SHAPE), sgd(0.1), KEY)
        with pytest.raises(ValueError, match=r"label to be in 0 \.\. 3, got 4"):
            ascent.ascend(class_score(4), state, sgd(0.1), 2)


def without_key(state):
    return state._replace(key=jax.random.key_data(state.key))
