"""Models on disk: what goes in comes out, and what is broken is named."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_array_equal

from saliency_jax import models


@pytest.fixture(scope="module")
def model():
    return models.ResNet(
        18,
        2,
        width=2,
        stem=models.HALVING_STEM,
        even=True,
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        input_size=(16, 24),
        class_names=("lemon", "goose"),
        rngs=nnx.Rngs(0),
    )


@pytest.fixture
def folder(model, tmp_path):
    models.save(model, tmp_path / "model")
    return tmp_path / "model"


def test_a_model_comes_back_to_the_bit(model, folder):
    loaded = models.load(folder)
    assert jax.tree.structure(loaded) == jax.tree.structure(model)
    for new, old in zip(jax.tree.leaves(loaded), jax.tree.leaves(model), strict=True):
        assert_array_equal(new, old)
    assert loaded.class_names == ("lemon", "goose")
    assert loaded.input_size == (16, 24)
    assert_array_equal(loaded(jnp.ones((16, 24, 3))), model(jnp.ones((16, 24, 3))))


def test_a_relative_path_is_read(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert models.load("model").num_classes == 2


def test_half_precision_rounds_parameters_only(model, tmp_path):
    models.save(model, tmp_path / "half", dtype=np.float16)
    loaded = models.load(tmp_path / "half")
    kernel = model.conv1.kernel[...]
    assert loaded.conv1.kernel.dtype == jnp.float32
    assert_array_equal(loaded.conv1.kernel[...], kernel.astype(jnp.float16).astype(jnp.float32))
    assert_array_equal(loaded.bn1.var[...], model.bn1.var[...])


def test_no_file_names_the_folder_it_was_written_in(folder):
    for path in folder.rglob("*"):
        assert path.is_dir() or str(folder.parent).encode() not in path.read_bytes()


def test_an_existing_folder_is_left_alone(model, folder):
    before = sorted(folder.parent.iterdir())
    with pytest.raises(FileExistsError, match="not to exist"):
        models.save(model, folder)
    assert sorted(folder.parent.iterdir()) == before


def test_nothing_is_written_of_a_model_that_is_not_finite(model, tmp_path):
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, model)
    with pytest.raises(ValueError, match=r"nan or infinity in .*bias"):
        models.save(broken, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'tiny-imagenet-robust'"):
        models.load("tiny-imagenet-robst")


def remove_config(folder):
    (folder / "config.json").unlink()


def break_config(folder):
    (folder / "config.json").write_text('{"depth": 18')


def foreign_config(folder):
    (folder / "config.json").write_text('{"format": "other"}')


def unknown_setting(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"colour": "red"}))


def other_width(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"width": 3}))


def remove_weights(folder):
    shutil.rmtree(folder / "weights")


def truncate_weights(folder):
    for path in folder.glob("weights/**/d/*"):
        path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    "damage",
    [
        remove_config,
        break_config,
        foreign_config,
        unknown_setting,
        other_width,
        remove_weights,
        truncate_weights,
    ],
)
def test_a_damaged_checkpoint_is_named_in_one_line(damage, folder):
    damage(folder)
    with pytest.raises(ValueError, match=r"expected .*model.* got ") as caught:
        models.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", models.bundled())
def test_a_bundled_model_is_whole(name):
    model = models.load(name)
    image = jnp.full((*model.input_size, model.channels), 0.5)
    logits = jax.jit(lambda model, image: model(image))(model, image)
    assert logits.shape == (len(model.class_names),)
    assert len(set(model.class_names)) == model.num_classes
    assert jnp.isfinite(logits).all()
    assert (models.checkpoints.BUNDLED / name / "card.md").read_text().startswith("# ")
