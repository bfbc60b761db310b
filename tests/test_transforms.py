"""Links of optimizers against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_models
from numpy.testing import assert_allclose

from saliency_jax import ascent, attacks, filters

SHAPE = (4, 5, 3)
X = small_models.image(SHAPE)
U = 0.3 * jax.random.normal(jax.random.key(1), SHAPE)
GRADIENT = jax.random.normal(jax.random.key(2), SHAPE)
CENTER = np.array([0.4, 0.5, 0.6], np.float32)

LINKS = {
    "keep_in_range": lambda number=0.2: ascent.keep_in_range(number, 0.7),
    "keep_in_ball l2": lambda number=0.2: ascent.keep_in_ball(attacks.L2, 0.9 * X, number),
    "keep_in_ball linf": lambda number=0.2: ascent.keep_in_ball(attacks.LINF, 0.9 * X, number),
    "decay_to": lambda number=0.2: ascent.decay_to(number, CENTER),
    "blur_every": lambda number=0.2: ascent.blur_every(1, number),
    "clip_small_norms": lambda number=0.2: ascent.clip_small_norms(number, CENTER),
    "clip_small_contributions": lambda number=0.2: ascent.clip_small_contributions(number, CENTER),
}
PROJECTIONS = [name for name in LINKS if not name.startswith(("decay", "blur"))]
each_link = pytest.mark.parametrize("name", LINKS)


def after(link, x=X, u=U, gradient=GRADIENT):
    link = optax.with_extra_args_support(link)
    updates, _ = link.update(u, link.init(x), x, grad=gradient)
    return optax.apply_updates(x, updates)


class TestEveryLink:
    @each_link
    def test_jit_with_a_traced_number(self, name):
        compiled = jax.jit(lambda number: after(LINKS[name](number)))
        for number in (0.2, 0.6):
            assert_allclose(compiled(number), after(LINKS[name](number)), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("name", PROJECTIONS)
    def test_a_projection_is_idempotent(self, name):
        once = after(LINKS[name]())
        assert not np.allclose(once, X + U, atol=1e-3)
        assert_allclose(after(LINKS[name](), once, jnp.zeros_like(U)), once, atol=1e-6)

    @each_link
    def test_serves_ascent_as_the_last_link(self, name):
        # S = <w, x> has the gradient w everywhere, which the learning rate makes U.
        optimizer = optax.chain(optax.sgd(1.0), LINKS[name]())
        state = ascent.initial_state(X, optimizer, jax.random.key(0))
        state, _ = ascent.ascent_step(small_models.linear_score(U), state, optimizer)
        assert_allclose(state.params, after(LINKS[name](), gradient=-U), rtol=1e-5, atol=1e-6)

    @each_link
    def test_needs_the_parameters(self, name):
        link = optax.with_extra_args_support(LINKS[name]())
        with pytest.raises(ValueError, match="expected params with the updates, got None"):
            link.update(U, link.init(X), None, grad=GRADIENT)

    @pytest.mark.parametrize(
        "link",
        [
            ascent.keep_in_ball(attacks.L2, X, 1e3),
            ascent.keep_in_ball(attacks.LINF, X, 1e3),
            ascent.decay_to(0.0, CENTER),
            ascent.blur_every(1, 0.0),
            ascent.blur_every(2, 3.0),
            ascent.clip_small_norms(0.0, CENTER),
            ascent.clip_small_contributions(0.0, CENTER),
        ],
    )
    def test_without_effect_the_step_is_plain(self, link):
        assert_allclose(after(link), X + U, atol=1e-6)


class TestByHand:
    def test_ball_of_l2(self):
        offset = np.asarray(X + U - 0.9 * X, np.float64)
        expected = 0.9 * np.asarray(X) + offset * 0.2 / np.sqrt((offset**2).sum())
        assert_allclose(after(LINKS["keep_in_ball l2"]()), expected, atol=1e-6)

    def test_ball_of_linf(self):
        expected = np.clip(X + U, 0.9 * X - 0.2, 0.9 * X + 0.2)
        assert_allclose(after(LINKS["keep_in_ball linf"]()), expected, atol=1e-6)

    def test_decay(self):
        expected = CENTER + 0.8 * (np.asarray(X + U) - CENTER)
        assert_allclose(after(LINKS["decay_to"]()), expected, atol=1e-6)

    def test_decay_is_weight_decay_at_a_learning_rate_of_one(self):
        # x - (g + r x) = (1 - r) x - g, against (1 - r)(x - g): equal where g is 0.
        outside = optax.chain(optax.add_decayed_weights(0.2), optax.sgd(1.0))
        expected = after(outside, u=jnp.zeros_like(U))
        assert_allclose(after(ascent.decay_to(0.2), u=jnp.zeros_like(U)), expected, rtol=1e-6)

    @pytest.mark.parametrize("fraction", [0.25, 0.5, 0.93])
    def test_clipping_by_norm(self, fraction):
        moved = np.asarray(X + U, np.float64)
        norms = np.sqrt(((moved - CENTER) ** 2).sum(-1))
        small = norms < np.percentile(norms, 100 * fraction)
        expected = np.where(small[:, :, None], CENTER, moved)
        assert small.sum() == np.ceil(fraction * (small.size - 1))
        assert_allclose(after(ascent.clip_small_norms(fraction, CENTER)), expected, atol=1e-6)

    @pytest.mark.parametrize("fraction", [0.25, 0.5])
    def test_clipping_by_contribution(self, fraction):
        moved = np.asarray(X + U, np.float64)
        contributions = np.abs(((moved - CENTER) * np.asarray(GRADIENT, np.float64)).sum(-1))
        small = contributions < np.percentile(contributions, 100 * fraction)
        expected = np.where(small[:, :, None], CENTER, moved)
        result = after(ascent.clip_small_contributions(fraction, CENTER))
        assert_allclose(result, expected, atol=1e-6)

    def test_a_clipped_contribution_is_what_the_score_loses(self):
        # For a linear score the first order is all there is.
        weights, zero = GRADIENT, jnp.zeros_like(U)
        kept = after(ascent.clip_small_contributions(0.06), u=zero, gradient=-weights)
        (row, column), *others = np.argwhere(np.any(np.asarray(kept != X), axis=-1))
        assert len(others) == 1
        each = np.abs(np.sum(np.asarray(weights * X, np.float64), axis=-1))
        lost = abs(float(jnp.sum(weights * (X - kept))))
        assert each[row, column] in np.sort(each.ravel())[:2]
        assert lost <= np.sort(each.ravel())[:2].sum() + 1e-5

    def test_blur_at_every_third_step(self):
        optimizer = optax.chain(optax.sgd(0.5), ascent.blur_every(3, 0.8))
        state = ascent.initial_state(X, optimizer, jax.random.key(0))
        score = small_models.linear_score(U)
        ascend = jax.jit(ascent.ascend, static_argnames=("optimizer", "steps"))
        result = ascend(score, state, optimizer, 7)
        x = X
        for step in range(1, 8):
            x = x + 0.5 * U
            if step % 3 == 0:
                x = filters.blur(x, 0.8)
        assert_allclose(result.image, x, atol=1e-5)


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ascent.keep_in_ball(attacks.L2, X, -1.0), "radius to be at least 0, got -1"),
        (
            lambda: after(ascent.keep_in_ball(attacks.L2, X[:2], 1.0)),
            r"params of the centre's shape \(2, 5, 3\), got \(4, 5, 3\)",
        ),
        (lambda: ascent.decay_to(1.5), "rate to be at most 1, got 1.5"),
        (lambda: ascent.decay_to(-0.5), "rate to be at least 0, got -0.5"),
        (lambda: after(ascent.decay_to(0.5, np.ones(2))), "center to have shape"),
        (lambda: ascent.blur_every(0, 1.0), "steps to be at least 1, got 0"),
        (lambda: ascent.blur_every(1, -1.0), "std to be at least 0, got -1"),
        (lambda: ascent.clip_small_norms(2), "fraction to be at most 1, got 2"),
        (lambda: ascent.clip_small_contributions(-1), "fraction to be at least 0, got -1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
