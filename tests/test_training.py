"""Training against a plain loop, and a killed run against one that was not."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_models
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import attacks, models, training
from saliency_jax.training import _evaluation as evaluation

KEY = jax.random.key(0)
IMAGES = np.array(jax.random.uniform(jax.random.key(1), (24, 16, 16, 3)))
LABELS = np.arange(24) % 3
# The class shows as a brighter channel, so that a few steps can learn it.
IMAGES[np.arange(24), :, :, LABELS] += 1.0
IMAGES /= 2
RATE = 0.03
OPTIMIZER = optax.sgd(RATE, momentum=0.9)


def network():
    return small_models.short_resnet(18, 3, (1, 1), width=2, stem=models.HALVING_STEM)


GRAPHDEF, PARAMS, BATCH_STATS = training.split(network())
ATTACK = training.pgd_attack(attacks.L2, 0.5, step_size=0.5, steps=2)
STANDARD = training.Trainer(GRAPHDEF, OPTIMIZER, training.unchanged)
ADVERSARIAL = training.Trainer(
    GRAPHDEF, OPTIMIZER, training.flip_crop_and_zoom, ATTACK, 0.1, average_decay=0.15
)
STEP = {
    "standard": jax.jit(functools.partial(training.train_step, STANDARD)),
    "adversarial": jax.jit(functools.partial(training.train_step, ADVERSARIAL)),
}


def start():
    return training.initial_state(PARAMS, BATCH_STATS, OPTIMIZER, KEY)


def batch(number):
    chosen = slice(8 * (number % 3), 8 * (number % 3) + 8)
    return jnp.asarray(IMAGES[chosen]), jnp.asarray(LABELS[chosen]), jnp.ones(8, bool)


def assert_equal_trees(actual, expected):
    for new, old in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(new.dtype, jax.dtypes.prng_key):
            new, old = jax.random.key_data(new), jax.random.key_data(old)
        assert_array_equal(new, old)


def test_a_standard_step_is_momentum_sgd_on_the_cross_entropy():
    """Two steps by central differences of a loss written out, for one parameter each."""
    images, labels, mask = batch(0)
    state, metrics = STEP["standard"](start(), images, labels, mask)

    @jax.jit
    def loss(bias):
        model = nnx.merge(
            GRAPHDEF, {**PARAMS, "fc": {**PARAMS["fc"], "bias": bias}}, BATCH_STATS, copy=True
        )
        logits = nnx.view(model, use_running_average=False).on_batch(images)
        chosen = jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]
        return (jnp.log(jnp.exp(logits).sum(1)) - chosen).mean()

    bias = np.asarray(PARAMS["fc"]["bias"])
    slope = [(loss(bias + d) - loss(bias - d)) / 0.02 for d in 0.01 * np.eye(3, dtype=np.float32)]
    assert_allclose(state.params["fc"]["bias"], bias - RATE * np.asarray(slope), atol=1e-4)
    assert_allclose(metrics["loss"], loss(bias), rtol=1e-5)
    assert int(state.step) == 1


def test_running_statistics_move_towards_the_batch():
    images, labels, mask = batch(0)
    state, _ = STEP["standard"](start(), images, labels, mask)
    model = network()
    maps = model.conv1(images)
    assert_allclose(state.batch_stats["bn1"]["mean"], 0.1 * maps.mean((0, 1, 2)), atol=1e-5)
    assert_allclose(state.batch_stats["bn1"]["var"], 0.9 + 0.1 * maps.var((0, 1, 2)), rtol=1e-4)


def test_padding_enters_nothing():
    images, labels, _ = batch(0)
    mask = np.arange(8) < 4
    junk = np.where(mask[:, None, None, None], images, np.float32(1e3))
    padded, _ = STEP["standard"](start(), junk, np.where(mask, labels, 0), mask)
    repeated = np.concatenate([images[:4]] * 2), np.concatenate([labels[:4]] * 2)
    expected, _ = STEP["standard"](start(), *repeated, np.ones(8, bool))
    assert_equal_trees(padded, expected)


@pytest.mark.parametrize("kind", STEP)
def test_a_batch_is_learnt(kind):
    state, losses = start(), []
    for _ in range(40):
        state, metrics = STEP[kind](state, *batch(0))
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_a_restored_run_ends_like_one_never_interrupted(tmp_path):
    whole = start()
    for number in range(5):
        whole, _ = STEP["adversarial"](whole, *batch(number))
        if number == 1:
            whole = training.keep_best(whole, 0.4)

    first = start()
    for number in range(3):
        first, _ = STEP["adversarial"](first, *batch(number))
        if number == 1:
            first = training.keep_best(first, 0.4)
    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save(first)
    del first
    again = training.Checkpoints(tmp_path).restore(start())
    assert int(again.step) == 3
    for number in range(int(again.step), 5):
        again, _ = STEP["adversarial"](again, *batch(number))
    assert_equal_trees(again, whole)
    assert int(again.best.step) == 2


def test_another_optimizers_checkpoint_is_named(tmp_path):
    training.Checkpoints(tmp_path).save(start())
    other = training.initial_state(PARAMS, BATCH_STATS, optax.adam(0.1), KEY)
    with pytest.raises(
        ValueError, match="expected a training checkpoint of this model and optimizer"
    ):
        training.Checkpoints(tmp_path).restore(other)


def test_only_a_better_accuracy_is_kept():
    state = training.keep_best(start(), 0.5)
    worse = training.keep_best(state._replace(step=jnp.int32(7)), 0.4)
    assert int(worse.best.step) == 0
    better = training.keep_best(state._replace(step=jnp.int32(7)), 0.6)
    assert int(better.best.step) == 7
    assert float(better.best.accuracy) == pytest.approx(0.6)


def test_flip_crop_and_zoom_keeps_a_plane_a_plane():
    """A ramp across, one down and a constant: what happened is read off their slopes."""
    slope = 0.02
    ramp = 0.5 + slope * (jnp.arange(16.0) - 7.5)
    image = jnp.stack(
        [jnp.tile(ramp, (16, 1)), jnp.tile(ramp[:, None], (1, 16)), jnp.full((16, 16), 0.5)], -1
    )
    augment = jax.jit(jax.vmap(training.flip_crop_and_zoom, in_axes=(None, 0)))
    images = np.asarray(augment(image, jax.random.split(KEY, 200)))
    assert images.shape == (200, 16, 16, 3)
    # The middle never shows the reflected margin.
    middle = images[:, 6:10, 6:10]
    across, down = np.diff(middle, axis=2)[:, 1:], np.diff(middle, axis=1)[:, :, 1:]
    signs = np.sign(across[:, 0, 0, 0])
    factor = down[:, 0, 0, 1] / slope
    for values, channel, expected in ((across, 0, signs * factor), (down, 1, factor)):
        assert_allclose(
            values[..., channel], slope * np.broadcast_to(expected, (3, 3, 200)).T, atol=1e-5
        )
        assert_allclose(np.delete(values, channel, axis=-1), 0, atol=1e-5)
    assert 0.3 < (signs > 0).mean() < 0.7
    # Contrast over zoom.
    assert 0.8 / 1.4 <= factor.min() < 0.75
    assert 1.2 < factor.max() <= 1.2 / 0.8
    # The places seen, in pixels from the middle, undoing the light by the constant channel.
    place = (middle[:, 1, 1, 1] - middle[:, 1, 1, 2]) / slope / factor
    assert place.std() > 1
    assert np.abs(place).max() < 6


def test_flip_crop_and_zoom_of_a_constant_changes_its_brightness_alone():
    augment = jax.jit(jax.vmap(training.flip_crop_and_zoom, in_axes=(None, 0)))
    images = np.asarray(augment(jnp.full((16, 16, 3), 0.9), jax.random.split(KEY, 50)))
    assert np.ptp(images, axis=(1, 2, 3)).max() < 1e-5
    levels = images[:, 0, 0, 0]
    assert 0.72 - 1e-5 <= levels.min() < 0.78
    assert levels.max() == 1


def test_the_average_of_the_weights_by_hand():
    """The decay is 1/10 at the first step, then 2/11, which 0.15 bounds."""
    zero = start()
    one, _ = STEP["adversarial"](zero, *batch(0))
    two, _ = STEP["adversarial"](one, *batch(1))
    for index, name in enumerate(("params", "batch_stats")):
        leaves = [jax.tree.leaves(getattr(state, name)) for state in (zero, one, two)]
        average = [0.1 * a + 0.9 * b for a, b in zip(*leaves[:2], strict=True)]
        average = [0.15 * a + 0.85 * b for a, b in zip(average, leaves[2], strict=True)]
        for new, old in zip(jax.tree.leaves(two.average[index]), average, strict=True):
            assert_allclose(new, old, rtol=1e-4, atol=1e-6)
    assert_equal_trees(training.keep_best(two, 0.5).best[2:], two.average)


def test_without_decay_the_average_is_the_newest_weights():
    state, _ = STEP["standard"](start(), *batch(0))
    assert_equal_trees(state.average, (state.params, state.batch_stats))


def test_accuracy_counts_unmasked_images_once():
    def model(image):
        return image.mean((0, 1))

    batches = [
        {"image": IMAGES[:8], "label": LABELS[:8], "mask": np.arange(8) < 6},
        {"image": IMAGES[8:16], "label": (LABELS[8:16] + 1) % 3, "mask": np.arange(8) < 2},
    ]
    assert (
        training.accuracy(jax.jit(training.correct), jax.tree_util.Partial(model), batches, KEY)
        == 6 / 8
    )
    with pytest.raises(ValueError, match="at least one image"):
        training.accuracy(training.correct, model, [], KEY)


def test_who_survives_in_a_linear_model_is_exact():
    """An image at distance m from the plane between two classes falls at epsilon > m."""
    margins = np.array([0.05, 0.15, 0.25, 0.35, 0.45], np.float32)
    images = np.full((5, 2, 2, 1), 0.5, np.float32) + (margins / 2)[:, None, None, None]
    labels = np.ones(5, int)

    def model(image):
        # |grad| = 1 for four pixels of weight 1/2, and the plane is where the mean is 1/2.
        return jnp.stack([jnp.zeros(()), (image - 0.5).sum() / 2])

    @jax.jit
    def attacked(model, images, labels, key, epsilon):
        attack = training.pgd_attack(attacks.L2, epsilon, step_size=0.05, steps=20)
        return training.correct(model, images, labels, key, attack)

    clean = jax.jit(training.correct)
    counts = []
    result = training.robustly_correct(
        lambda model, images, labels, key, epsilon: (
            attacked(model, images, labels, key, epsilon)
            if epsilon
            else clean(model, images, labels, key)
        ),
        jax.tree_util.Partial(model),
        images,
        labels,
        [0.3, 0.1],
        KEY,
        restarts=2,
        batch_size=3,
        progress=counts.append,
    )
    assert {epsilon: right.tolist() for epsilon, right in result.items()} == {
        0.0: [True] * 5,
        0.1: [False] + [True] * 4,
        0.3: [False] * 3 + [True] * 2,
    }
    # Five clean, five and four at 0.1, four and two at 0.3, in batches of three.
    assert counts == [3, 2, 3, 2, 3, 1, 3, 1, 2]


class Steep(NamedTuple):
    """Two classes apart at a mean of 1/2, whose logits grow with a factor and nothing else does."""

    factor: float

    def __call__(self, image):
        distance = (image - 0.5).sum() / 2
        return self.factor * jnp.stack([-distance, distance])


def test_a_saturated_softmax_seems_robust_by_one_loss_and_falls_by_the_other():
    """An image at distance m from the plane falls at epsilon > m, however large the logits are.

    Beyond a gap of 17 between logits the softmax is 1 in single precision, its gradient exactly 0,
    and an attack on the cross-entropy stands still.
    """
    distances = np.array([0.05, 0.15, 0.25, 0.35], np.float32)
    images = np.full((4, 2, 2, 1), 0.5, np.float32) + (distances / 2)[:, None, None, None]
    evaluate = functools.partial(
        training.robust_accuracies,
        images=images,
        labels=np.ones(4, int),
        epsilons=[0.1, 0.2],
        key=KEY,
        ball=attacks.L2,
        steps=10,
        restarts=1,
        batch_size=4,
    )
    true = {0.0: 1.0, 0.1: 0.75, 0.2: 0.5}
    # The attack of evaluation starts at random; from there 200 times 0.1 is beyond 17.
    assert evaluate(Steep(1.0)) == {"log-probability": true, "margin": true, "both": true}
    saturated = evaluate(Steep(2000.0))
    assert saturated["margin"] == saturated["both"] == true
    assert saturated["log-probability"][0.2] > true[0.2]


def test_both_losses_together_find_what_either_finds(monkeypatch):
    """The first image falls to one, the second to the other: nothing survives both."""
    found = {"log-probability": 0, "margin": 1}

    def robustly_correct(attacked, model, images, *_, **__):
        loss = next(losses)
        right = np.arange(2) != found[loss]
        return {0.0: np.ones(2, bool), 1.0: right}

    losses = iter(found)
    monkeypatch.setattr(evaluation, "robustly_correct", robustly_correct)
    accuracies = training.robust_accuracies(
        len,
        np.zeros((2, 1, 1, 1), np.float32),
        np.zeros(2, int),
        [1.0],
        KEY,
        ball=attacks.L2,
        steps=1,
        restarts=1,
        batch_size=2,
    )
    assert accuracies["log-probability"][1.0] == accuracies["margin"][1.0] == 0.5
    assert accuracies["both"] == {0.0: 1.0, 1.0: 0.0}


@pytest.mark.parametrize("shape", [(28, 28), (30, 30), (100, 20), (64, 64), (5, 7), (1, 32)])
def test_zooming_of_an_all_white_image_leaves_no_black_line(shape):
    """The edges are reflected ones, whatever the sides: light changes all pixels alike."""
    augment = jax.jit(jax.vmap(training.crop_and_zoom, in_axes=(None, 0)))
    images = np.asarray(augment(jnp.ones((*shape, 1)), jax.random.split(KEY, 500)))
    assert np.ptp(images, axis=(1, 2, 3)).max() < 1e-5
    assert images.min() >= 0.8 - 1e-5


@pytest.mark.parametrize("augment", [training.flip_crop_and_zoom, training.crop_and_zoom])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_augmentation_keeps_the_images_type(augment, dtype):
    image = jax.random.uniform(KEY, (8, 9, 3), jnp.float32)
    expected = augment(image, jax.random.key(1))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        changed = augment(image.astype(dtype), jax.random.key(1))
    assert changed.dtype == dtype
    assert_allclose(changed.astype(jnp.float32), expected, atol=2 * float(jnp.finfo(dtype).eps))


def test_no_key_is_used_twice():
    with jax.debug_key_reuse(True):
        image = jnp.ones((8, 8, 3))
        training.flip_crop_and_zoom(image, jax.random.key(0))
        training.crop_and_zoom(image, jax.random.key(0))
        attack = training.pgd_attack(attacks.L2, 0.5, step_size=0.5, steps=1)
        model = jax.tree_util.Partial(_channel_means)
        attack(model, image[None], jnp.zeros(1, int), jax.random.key(0))


def _channel_means(image):
    return image.mean((0, 1))


@pytest.mark.parametrize("accuracy", [0.1, 0.7, 1 / 3])
def test_of_equal_accuracies_the_first_is_kept(accuracy):
    """0.1 is above its copy in single precision, 0.7 below."""
    state = training.keep_best(start()._replace(step=jnp.int32(3)), accuracy)
    again = training.keep_best(state._replace(step=jnp.int32(7)), accuracy)
    assert int(again.best.step) == 3


def test_a_step_in_single_precision_stays_in_it_where_double_is_at_hand():
    step = functools.partial(training.train_step, ADVERSARIAL)
    with jax.enable_x64(True):
        state, _ = jax.eval_shape(step, start(), *batch(0))
    for new, old in zip(jax.tree.leaves(state), jax.tree.leaves(start()), strict=True):
        assert new.dtype == old.dtype


@pytest.mark.parametrize(
    ("accuracies", "collapsed"),
    [
        ([], False),
        ([0.1], False),
        ([0.1, math.nan, 0.9, math.nan], False),
        ([0.9, math.nan, 0.1, math.nan], True),
        ([0.9, 0.75], False),
    ],
)
def test_a_collapse_is_a_deep_fall_below_the_best(accuracies, collapsed):
    log = [training.LogRow(1, 1, 1, 1, accuracy, 1) for accuracy in accuracies]
    assert training.has_collapsed(log) == collapsed


FINE_TUNER = training.Trainer(
    GRAPHDEF, OPTIMIZER, training.unchanged, statistics=training.frozen_statistics
)


def fitted(folder, trainer=ADVERSARIAL, holdout=lambda model: 0.5, **options):
    """Three epochs of two batches."""

    def batches(start):
        for number in range(start, 6):
            images, labels, mask = batch(number)
            yield {"image": np.asarray(images), "label": labels, "mask": np.asarray(mask)}

    options = {"epochs": 3, "steps_per_epoch": 2, "holdout": holdout, **options}
    return training.fit(trainer, network(), batches, folder, key=KEY, **options)


def test_a_fit_is_its_steps_one_after_the_other(tmp_path):
    accuracies = iter([0.3, 0.4, 0.35])
    state, log = fitted(tmp_path, holdout=lambda model: next(accuracies))
    expected, losses = start(), []
    for number in range(6):
        expected, metrics = STEP["adversarial"](expected, *batch(number))
        losses.append(float(metrics["loss"]))
        if number == 3:
            expected = training.keep_best(expected, 0.4)
    assert_equal_trees(state, expected)
    assert [row[:2] for row in log] == [(2, 1), (4, 2), (6, 3)]
    assert_allclose([row.loss for row in log], np.reshape(losses, (3, 2)).mean(1), rtol=1e-5)
    assert [row.holdout_accuracy for row in log] == [0.3, 0.4, 0.35]
    written = np.loadtxt(tmp_path / "log.csv", delimiter=",", skiprows=1)
    assert_array_equal(written, log)


@pytest.fixture(scope="module")
def whole_fit(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("whole"), checkpoint_every=3)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_a_fit_that_was_interrupted_ends_like_one_that_was_not(steps, whole_fit, tmp_path):
    whole, log = whole_fit
    done = []

    def interrupted(more, log):
        done.append(more)
        if sum(done) == steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "again", checkpoint_every=3, progress=interrupted)
    counts = []
    again, log_again = fitted(
        tmp_path / "again", checkpoint_every=3, progress=lambda more, log: counts.append(more)
    )
    assert_equal_trees(again, whole)
    # Checkpoints stand after each evaluation and each third step.
    first = max(step for step in (0, 2, 3, 4) if step <= steps)
    assert counts == [first, *[1] * (6 - first)]
    assert_array_equal([row[:5] for row in log_again], [row[:5] for row in log])


def test_a_fit_ends_where_it_has_collapsed_and_stays_ended(tmp_path):
    accuracies = iter([0.9, 0.1])
    state, log = fitted(tmp_path, holdout=lambda model: next(accuracies))
    assert (int(state.step), int(state.best.step)) == (4, 2)
    assert training.has_collapsed(log)
    # Another evaluation would raise StopIteration.
    again, log_again = fitted(tmp_path, holdout=lambda model: next(accuracies))
    assert_equal_trees(again, state)
    assert log_again == log


def test_without_held_out_images_a_fit_goes_on_to_its_end(tmp_path):
    state, log = fitted(tmp_path, holdout=None, checkpoint_every=4)
    assert (int(state.step), float(state.best.accuracy)) == (6, -1)
    assert [row.step for row in log] == [4, 6]
    assert np.isnan([row.holdout_accuracy for row in log]).all()


def test_fine_tuning_leaves_frozen_statistics_as_they_are(tmp_path):
    """The update is the gradient of the model in inference mode."""
    state, _ = fitted(tmp_path, FINE_TUNER, epochs=1)
    assert_equal_trees(state.batch_stats, BATCH_STATS)
    assert_equal_trees(state.average[1], BATCH_STATS)
    images, labels, mask = batch(0)
    step = jax.jit(functools.partial(training.train_step, FINE_TUNER))
    one, metrics = step(start(), images, labels, mask)

    def loss(params):
        logits = jax.vmap(nnx.merge(GRAPHDEF, params, BATCH_STATS))(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(PARAMS)
    assert_allclose(metrics["loss"], value, rtol=1e-5)
    expected = jax.tree.map(lambda old, slope: old - RATE * slope, PARAMS, gradient)
    for new, old in zip(jax.tree.leaves(one.params), jax.tree.leaves(expected), strict=True):
        assert_allclose(new, old, atol=1e-6)


@pytest.mark.parametrize("count", ["epochs", "steps_per_epoch", "evaluate_every"])
def test_a_fit_of_nothing_is_refused(count, tmp_path):
    with pytest.raises(ValueError, match=f"expected {count} to be at least 1, got 0"):
        fitted(tmp_path, **{count: 0})
    assert not list(tmp_path.iterdir())


def test_the_learning_rate_rises_for_a_quarter_and_falls_to_nothing():
    optimizer = training.one_cycle_sgd(100, 0.4, momentum=0.0, weight_decay=0.5)
    params = {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}
    state, rates = optimizer.init(params), []
    for _ in range(101):
        updates, state = optimizer.update(params, state, params)
        rates.append(-float(updates["bias"][0]))
        # The decay adds half of a weight to its gradient, unless it is a bias.
        assert_allclose(updates["kernel"], 1.5 * updates["bias"][:, None], rtol=1e-6)
    assert np.argmax(rates) == 25
    assert_allclose([rates[25], rates[100]], [0.4, 0], atol=1e-5)
    middle = (rates[0] + rates[25]) / 2
    assert rates[12] < middle < rates[13]
