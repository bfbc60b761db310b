"""Pictures from coarse to fine, and the judge who has to recognize them."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial
from small_classifiers import classifier

from saliency_jax import models

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture(scope="module")
def imagenet():
    sys.path.insert(0, str(EXPERIMENTS))
    from lab import imagenet

    sys.path.remove(str(EXPERIMENTS))
    return imagenet


def test_the_classes_are_known_to_maker_and_judge(imagenet):
    names = models.imagenet_classes()
    assert len(set(imagenet.CLASSES)) == 10
    assert {"corn", "dining table", "red wine", "pineapple"} < set(imagenet.CLASSES)
    assert set(imagenet.CLASSES) < set(names)


def test_classes_are_found_by_name_or_by_wordnet_id(imagenet):
    judge = models.Classifier(
        "judge", lambda image: image, models.Input("image", (8, 8)), models.imagenet_classes()
    )
    # n03126707 is a machine; Tiny-ImageNet, which lacks the bird, calls it a crane.
    names = ["lemon", "crane (machine)", "zebra crossing"]
    labels = imagenet.labels(names, judge)
    assert [label and judge.class_names[label] for label in labels] == [*names[:2], None]
    tiny = models.Classifier(
        "tiny", lambda image: image, models.Input("image", (8, 8)), ("lemon", "crane")
    )
    assert imagenet.labels(["crane (machine)", "lemon", "corn"], tiny) == [1, 0, None]


def test_ranks_count_what_is_likelier(imagenet):
    answers = np.array([[0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.25, 0.25, 0.5]])
    np.testing.assert_array_equal(imagenet.ranks(answers, np.array([0, 2, 1])), [3, 1, 2])


def test_a_judge_sees_pictures_as_it_sees_photographs(imagenet):
    judge = classifier(0)
    images = np.random.default_rng(0).random((2, 40, 50, 3), np.float32)
    expected = [
        jax.nn.softmax(judge.network(jnp.asarray(judge.preprocess(image)))) for image in images
    ]
    np.testing.assert_allclose(imagenet.answers(judge, images), expected, rtol=1e-4)


def test_a_network_of_one_image_judges_several(imagenet):
    # Four pixels of one colour each: a network that looked at the whole batch would give more.
    network = Partial(lambda weights, image: image.mean((0, 1)) @ weights, 2 * jnp.eye(3))
    judge = models.Classifier("judge", network, models.Input("image", (4, 4)), ("a", "b", "c"))
    images = np.random.default_rng(0).random((2, 4, 4, 3), np.float32)
    expected = np.exp(2 * images.mean((1, 2)))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(imagenet.answers(judge, images), expected, rtol=1e-5)


def make(imagenet, network, label, shape):
    made = jax.jit(imagenet.visualize, static_argnames=("seed", "shape", "score"))
    return made(network, label=label, seed=0, shape=shape, score="logit")


def test_a_picture_shows_its_class(imagenet, monkeypatch):
    monkeypatch.setattr(imagenet, "STEPS", (8, 4))
    classifier = models.load("tiny-imagenet-robust")
    label = classifier.label("lemon")
    picture = make(imagenet, classifier.network, label, (64, 64, 3))
    assert picture.values.shape == (12,)
    assert picture.failed_at == 0
    assert 0 <= picture.image.min() < picture.image.max() <= 1
    assert int(classifier.network(picture.image).argmax()) == label


def test_grey_levels_have_pictures_too(imagenet, monkeypatch):
    monkeypatch.setattr(imagenet, "STEPS", (1, 1))
    network = models.ResNet(18, 5, width=4, stem=models.HALVING_STEM, channels=1, rngs=nnx.Rngs(0))
    picture = make(imagenet, network, 2, (32, 32, 1))
    assert picture.image.shape == (32, 32, 1)
    assert np.isfinite(picture.image).all()
