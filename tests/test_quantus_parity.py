"""The metrics that Quantus defines alike give the same numbers on the same weights.

Not compared are those that draw at random, and those of the same name and another definition, of
which the docstrings tell: sensitivity-n and infidelity. ROAD is compared on one channel only, as
Quantus's imputation indexes beyond the pixels of an image with three.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from numpy.testing import assert_allclose

from saliency_jax import attribution, baselines, metrics, models, scores
from saliency_jax.images import fit

quantus = pytest.importorskip("quantus")
torch = pytest.importorskip("torch")
pytest.importorskip("captum", reason="the network in PyTorch is its comparison's")

BENCHMARKS = Path(__file__).parent.parent / "experiments" / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import captum_parity  # noqa: E402

sys.path.remove(str(BENCHMARKS))

SIDE, CLASSES = 6, 3
RNG = np.random.default_rng(0)
# Quantus has images channel first; of one channel both layouts hold the same numbers.
IMAGES, MAPS = (
    draw(size=(4, 1, SIDE, SIDE)).astype(np.float32) for draw in (RNG.uniform, RNG.normal)
)
MASKS = RNG.uniform(size=IMAGES.shape) > 0.6
LABELS = np.array([0, 2, 1, 2])
FIRST = RNG.normal(size=(5, SIDE * SIDE)).astype(np.float32) / 3
LAST = RNG.normal(size=(CLASSES, 5)).astype(np.float32)
MODEL = Partial(
    lambda first, last, image: last @ jnp.tanh(first @ image.ravel()),
    jnp.asarray(FIRST),
    jnp.asarray(LAST),
)


def torch_model():
    first = torch.nn.Linear(SIDE * SIDE, 5, bias=False)
    last = torch.nn.Linear(5, CLASSES, bias=False)
    first.weight.data, last.weight.data = torch.tensor(FIRST), torch.tensor(LAST)
    return torch.nn.Sequential(torch.nn.Flatten(), first, torch.nn.Tanh(), last).eval()


def of_quantus(metric, maps=MAPS, *, explain=None, **settings):
    common = {"abs": False, "normalise": False, "disable_warnings": True}
    return metric(**common | settings)(
        model=torch_model(), x_batch=IMAGES.copy(), y_batch=LABELS, a_batch=maps.copy(),
        s_batch=MASKS, channel_first=True, explain_func=explain,
    )  # fmt: skip


def ours(function, maps=MAPS):
    """The function of image, label, map and mask, for each image."""
    image = jnp.asarray(IMAGES.transpose(0, 2, 3, 1))
    return jax.jit(jax.vmap(function))(image, LABELS, jnp.asarray(maps[:, 0]), MASKS[:, 0])


def test_deletion_is_pixel_flipping_from_the_second_value_on():
    curves = ours(
        lambda image, label, saliency_map, _: metrics.deletion(
            scores.probability(MODEL, label), image, saliency_map, steps=SIDE**2,
            baseline=baselines.zeros,
        )
    )  # fmt: skip
    theirs = of_quantus(quantus.PixelFlipping, features_in_step=1, perturb_baseline=0.0)
    assert_allclose(curves.scores[:, 1:], theirs, atol=1e-3)


def test_road_is_the_mean_accuracy():
    curves = ours(
        lambda image, label, saliency_map, _: metrics.road(
            scores.accuracy(MODEL, label), image, saliency_map, key=jax.random.key(0),
            fractions=(0.25, 0.5, 0.75), noise_scale=0.0,
        )
    )  # fmt: skip
    theirs = of_quantus(quantus.ROAD, percentages=[25, 50, 75], noise=0.0)
    assert_allclose(curves.scores.mean(0), list(theirs.values()), atol=1e-3)


def test_imputation():
    theirs = [
        quantus.functions.perturb_func.noisy_linear_imputation(image, np.flatnonzero(mask), noise=0)
        for image, mask in zip(IMAGES, MASKS, strict=True)
    ]
    imputed = ours(
        lambda image, _, __, mask: metrics.noisy_linear_imputation(
            image, mask, jax.random.key(0), 0.0
        )
    )
    assert_allclose(imputed[..., 0], np.stack(theirs)[:, 0], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("RelevanceMassAccuracy", metrics.relevance_mass_accuracy),
        ("AttributionLocalisation", metrics.relevance_mass_accuracy),
        ("RelevanceRankAccuracy", metrics.relevance_rank_accuracy),
        ("PointingGame", metrics.pointing_game),
        ("Sparseness", lambda saliency_map, _: metrics.gini_sparsity(saliency_map)),
        ("Complexity", lambda saliency_map, _: metrics.entropy(saliency_map)),
    ],
)
def test_of_a_map_and_a_mask(name, metric):
    maps = np.abs(MAPS)
    result = ours(lambda _, __, saliency_map, mask: metric(saliency_map, mask), maps)
    assert_allclose(result, of_quantus(getattr(quantus, name), maps, abs=True), atol=1e-3)


def test_random_logit_of_the_same_classes():
    asked = []

    def explain(model, inputs, targets, **_):
        asked.append(targets)
        images = torch.tensor(inputs, requires_grad=True)
        model(images)[torch.arange(len(inputs)), torch.tensor(targets)].sum().backward()
        return images.grad.numpy()

    gradients = ours(
        lambda image, label, *_: attribution.input_gradient(scores.logit(MODEL, label), image)
    )
    theirs = of_quantus(
        quantus.RandomLogit, np.asarray(gradients).transpose(0, 3, 1, 2), explain=explain,
        num_classes=CLASSES, similarity_func=quantus.functions.similarity_func.correlation_spearman,
    )  # fmt: skip
    keys = jax.random.split(jax.random.key(0), 20)
    similarities = ours(
        lambda image, label, *_: jax.vmap(
            lambda key: metrics.random_logit(
                attribution.input_gradient, MODEL, label, image, key=key
            )
        )(keys)
    )
    # Of two other classes Quantus has drawn one, which is among ours.
    assert (asked[-1] != LABELS).all()
    assert_allclose(np.abs(similarities - np.array(theirs)[:, None]).min(1), 0, atol=1e-3)


@pytest.fixture(scope="module", params=captum_parity.Settings().models)
def bundled(request):
    """A bundled network, the same in PyTorch, images, labels, saliency maps and boxes as masks."""
    model = models.load(request.param).network
    names = ("coffee", "chelsea")
    images = jnp.stack([fit(captum_parity.photograph(name), 32) for name in names])
    labels = jax.vmap(model)(images).argmax(-1)
    maps = jax.vmap(
        lambda image, label: attribution.max_abs(
            attribution.input_gradient(scores.logit(model, label), image)
        )
    )(images, labels)
    masks = np.zeros(maps.shape, bool)
    masks[:, 8:24, 8:24] = True
    return model, captum_parity.carried(model, np.dtype(np.float32)), images, labels, maps, masks


def of_quantus_bundled(bundled, metric, **settings):
    _, network, images, labels, maps, masks = bundled
    common = {"abs": False, "normalise": False, "disable_warnings": True}
    return metric(**common | settings)(
        model=network.eval(), x_batch=np.array(images.transpose(0, 3, 1, 2)),
        y_batch=np.array(labels), a_batch=np.array(maps)[:, None], s_batch=masks[:, None],
        channel_first=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("RelevanceMassAccuracy", metrics.relevance_mass_accuracy),
        ("RelevanceRankAccuracy", metrics.relevance_rank_accuracy),
        ("PointingGame", metrics.pointing_game),
        ("Sparseness", lambda saliency_map, _: metrics.gini_sparsity(saliency_map)),
        ("Complexity", lambda saliency_map, _: metrics.entropy(saliency_map)),
    ],
)
def test_of_bundled_maps(bundled, name, metric):
    result = [metric(saliency_map, mask) for saliency_map, mask in zip(*bundled[-2:], strict=True)]
    theirs = of_quantus_bundled(bundled, getattr(quantus, name), abs=True)
    assert_allclose(np.array(result, float), np.array(theirs, float), atol=1e-3)


def test_deletion_of_the_bundled_models(bundled):
    model, _, images, labels, maps, _ = bundled
    curves = jax.vmap(
        lambda image, label, saliency_map: metrics.deletion(
            scores.probability(model, label), image, saliency_map, steps=16,
            baseline=baselines.zeros,
        )
    )(images, labels, maps)  # fmt: skip
    # Quantus repeats the map for each channel: three of its steps take our step's pixels.
    theirs = of_quantus_bundled(
        bundled, quantus.PixelFlipping, features_in_step=64, perturb_baseline=0.0
    )
    assert_allclose(curves.scores[:, 1:], np.array(theirs)[:, 2::3], atol=1e-3)
