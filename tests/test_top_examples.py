"""What excites channels: found as by sorting all at once, and with the pixels that reach them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_photographs
from numpy.testing import assert_array_equal
from PIL import Image
from small_classifiers import classifier
from small_photographs import CLASSES, SIDE

from saliency_jax import data, rules, scale, scores
from saliency_jax.scale import _top_examples

COUNT = 13
CHANNELS = 4
MIXED = np.random.default_rng(5).normal(size=(3, CHANNELS)).astype(np.float32)


def excite(network, image, label):
    """Four mixtures of the colours, in cells of 2x2 pixels."""
    cells = image.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean((1, 3))
    return cells @ MIXED


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return small_photographs.folder(tmp_path_factory.mktemp("photographs"), COUNT)


@pytest.fixture(scope="module")
def images(photographs):
    return data.joined(data.load(photographs, "test", COUNT, image_size=SIDE))


def find(photographs, output, **options):
    arguments = {"batch_size": 2, "k": 3} | options
    model = small_photographs.classifier()
    return scale.top_examples(excite, model, photographs, output, **arguments)


@pytest.mark.parametrize("block", [1, 5, 1024])
def test_they_are_those_of_sorting_all(photographs, images, tmp_path, monkeypatch, block):
    monkeypatch.setattr(_top_examples, "_READ", block)
    found = find(photographs, tmp_path / "found")
    maps = np.stack([excite(None, image, 0) for image in images["image"]])
    peaks = maps.max((1, 2))
    for channel in range(CHANNELS):
        order = np.argsort(-peaks[:, channel])[:3]
        assert_array_equal(found.numbers[channel], order)
        np.testing.assert_allclose(found.peaks[channel], peaks[order, channel], rtol=1e-5)
        for number, (row, column) in zip(order, found.places[channel], strict=True):
            np.testing.assert_allclose(
                maps[number, row, column, channel], peaks[number, channel], rtol=1e-5
            )
    np.testing.assert_allclose(found.dead, (peaks <= 0).mean(0))
    labels = images["label"]
    expected = [peaks[labels == label].mean(0) for label in range(len(CLASSES))]
    np.testing.assert_allclose(found.by_class, expected, rtol=1e-5)


def test_of_equals_the_first_comes_first_and_the_unreadable_are_left_out(tmp_path):
    folder = tmp_path / "set" / "test" / "goose"
    folder.mkdir(parents=True)
    for index in range(5):
        Image.new("RGB", (SIDE, SIDE), "white").save(folder / f"{index}.png")
    (folder / "2.png").write_bytes(b"no image")
    found = find(str(tmp_path / "set"), tmp_path / "found", k=9)
    assert found.numbers.shape == (CHANNELS, 4)
    unreadable = [str(name) for name in found.stored["ids"][:]].index("test/goose/2.png")
    for channel in range(CHANNELS):
        assert_array_equal(found.numbers[channel], np.delete(np.arange(5), unreadable))


def test_an_interrupted_search_continues(photographs, tmp_path):
    def stop(done, total):
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find(photographs, tmp_path / "found", progress=stop)
    calls = []
    again = find(photographs, tmp_path / "found", progress=lambda done, total: calls.append(done))
    assert calls[0] >= 4
    whole = find(photographs, tmp_path / "whole", devices=jax.devices()[:1])
    for one, other in zip(again[:-1], whole[:-1], strict=True):
        assert_array_equal(one, other)


def test_relevances_add_up_to_those_of_the_channels():
    network = classifier().network
    image = jax.random.uniform(jax.random.key(0), (16, 16, 3))
    excited = jax.jit(scale.relevances("stage 3"))(network, image, jnp.array(2))
    expected = jax.jit(rules.channel_relevances)(
        scores.logit(network, 2), image, layer=network.layer("stage 3")
    )
    np.testing.assert_allclose(excited.sum((0, 1)), expected, rtol=1e-3, atol=1e-5)


def test_fields_of_two_convolutions():
    """3x3 in steps of 2, then 3x3: 3 + 2 * 2 pixels, in steps of 2."""
    kernel = jnp.ones((3, 3, 1, 1))
    axes = ("NHWC", "HWIO", "NHWC")

    def function(image):
        for stride in (2, 1):
            image = jax.lax.conv_general_dilated(
                image[None],
                kernel,
                (stride, stride),
                "VALID",
                dimension_numbers=axes,
            )[0]
        return jax.nn.relu(image)

    rows, columns = scale.receptive_field(function, (19, 11, 1))
    assert_array_equal(rows, [[2 * i, 2 * i + 7] for i in range(7)])
    assert_array_equal(columns, [[2 * j, 2 * j + 7] for j in range(3)])


def test_the_gradient_is_within_the_field():
    network = classifier().network
    image = jax.random.uniform(jax.random.key(1), (32, 32, 3))
    layer = network.layer("stage 1")
    rows, columns = scale.receptive_field(layer.map, image.shape)
    row, column = 3, 5

    slope = jax.jit(jax.grad(lambda image: (layer.map(image)[row, column] ** 2).sum()))
    gradient = slope(image)
    is_inside = np.zeros((32, 32), bool)
    is_inside[slice(*rows[row]), slice(*columns[column])] = True
    seen = np.abs(np.asarray(gradient)).sum(-1) > 0
    assert seen.any()
    assert not seen[~is_inside].any()
    # And the field is no wider than what is seen.
    assert seen.any(1).sum() == np.diff(rows[row])
    assert seen.any(0).sum() == np.diff(columns[column])


def test_what_sees_everything_and_what_sees_nothing():
    rows, columns = scale.receptive_field(lambda image: image - image.mean(), (4, 6, 1))
    assert_array_equal(rows, [[0, 4]] * 4)
    assert_array_equal(columns, [[0, 6]] * 6)
    rows, _ = scale.receptive_field(lambda image: jnp.zeros((2, 2, 1)), (4, 6, 1))
    assert_array_equal(rows, np.zeros((2, 2)))
