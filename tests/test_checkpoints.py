"""Models on disk: what goes in comes out, and what is broken is named."""

import dataclasses
import hashlib
import json
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import small_models
from flax import nnx
from numpy.testing import assert_array_equal
from small_models import answer

from saliency_jax import models, signals
from saliency_jax.models._checkpoints import BUNDLED
from saliency_jax.models._config import builder, input_of, modern

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


@pytest.fixture(scope="module")
def classifier():
    options = {"width": 2, "stem": models.HALVING_STEM, "even": True, "mean": MEAN, "std": STD}
    network = small_models.drawn(lambda: models.ResNet(18, 2, **options, rngs=nnx.Rngs(0)))
    taken = models.Input("image", (16, 24), (20, 24), mean=MEAN, std=STD, mean_color=(0.5,) * 3)
    return models.Classifier(
        "small", network, taken, ("lemon", "goose"), {"top-1": 62.5}, {"dataset": "fruit"}
    )


@pytest.fixture
def folder(classifier, tmp_path):
    models.save(classifier, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def interruptible():
    """Workers of tests leave interrupts to the process that has started them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("action", ["save", "restore"])
def test_an_interrupt_waits_until_orbax_is_done(classifier, folder, tmp_path, monkeypatch, action):
    """Its threads would call back into an event loop that is closed, and say so."""
    plain, done = getattr(ocp.StandardCheckpointer, action), []

    def act(self, *arguments):
        signal.raise_signal(signal.SIGINT)
        made = plain(self, *arguments)
        done.append(action)
        return made

    monkeypatch.setattr(ocp.StandardCheckpointer, action, act)
    with pytest.raises(KeyboardInterrupt):
        models.load(folder) if action == "restore" else models.save(classifier, tmp_path / "new")
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def assert_equal_networks(new, old):
    assert jax.tree.structure(new) == jax.tree.structure(old)
    for leaf, expected in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True):
        assert_array_equal(leaf, expected)


def test_a_classifier_comes_back_to_the_bit(classifier, folder):
    loaded = models.load(folder)
    assert_equal_networks(loaded.network, classifier.network)
    assert loaded.name == "model"
    for name in ("input", "class_names", "accuracies", "training"):
        assert getattr(loaded, name) == getattr(classifier, name)
    image = jnp.ones((16, 24, 3))
    assert_array_equal(answer(loaded.network, image), answer(classifier.network, image))


NETWORKS = {
    "resnet": models.ResNet(50, 2, width=2, widening=2, channels=1, rngs=nnx.Rngs(0)),
    "preact": models.PreActResNet(
        (1, 1), 2, width=2, stem_width=1, raw_shortcut=True, final_norm=False, rngs=nnx.Rngs(0)
    ),
    "signal": signals.SignalResNet(3, widths=(2, 4), blocks=2, stem_stride=2, rngs=nnx.Rngs(0)),
    "spectrogram": signals.SpectrogramResNet(
        3, window_size=64, hop=16, num_bands=8, width=2, blocks=(1, 2), rngs=nnx.Rngs(0)
    ),
}
INPUTS = {
    "resnet": models.Input("image", (8, 8), channels=1),
    "preact": models.Input("image", (8, 8)),
    "signal": models.Input("iq", (1, 32), channels=2),
    "spectrogram": models.Input("sound", (1, 320), channels=1, sample_rate=8000),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_kind_of_network_is_rebuilt_from_its_settings(kind, tmp_path):
    saved = models.Classifier(kind, NETWORKS[kind], INPUTS[kind])
    models.save(saved, tmp_path / kind)
    loaded = models.load(tmp_path / kind)
    assert loaded.network.settings == saved.network.settings
    assert loaded.input == saved.input
    assert_equal_networks(loaded.network, saved.network)


# Written by the releases before `format` was a number: settings of network and input in one.
FORMER = {
    "format": "saliency_jax.ResNet",
    "depth": 18,
    "num_classes": 2,
    "width": 2,
    "stem": {"kernel_size": 3, "stride": 2, "max_pool": False},
    "even": True,
    "channels": 3,
    "mean": list(MEAN),
    "std": list(STD),
    "input_size": [16, 24],
    "class_names": ["lemon", "goose"],
}


@pytest.mark.parametrize("resize", [None, [20, 24]])
def test_a_folder_of_the_former_format_is_read(resize, classifier, folder):
    """Its weights have the same names and are the same; its config comes as it was written."""
    former = FORMER if resize is None else FORMER | {"resize_size": resize, "widening": 1}
    (folder / "config.json").write_text(json.dumps(former, indent=2))
    for later in ("card.md", "SHA256SUMS"):
        (folder / later).unlink()
    loaded = models.load(folder)
    assert_equal_networks(loaded.network, classifier.network)
    size = (16, 24)
    taken = models.Input("image", size, tuple(resize or size), mean=MEAN, std=STD)
    assert loaded.input == taken
    assert loaded.input.mean_color == MEAN
    assert loaded.class_names == ("lemon", "goose")
    assert not loaded.accuracies


def test_former_configs_of_signals_say_what_kind_they_are():
    network = {"format": "saliency_jax.SignalResNet", "num_classes": 9, "channels": 2}
    assert input_of(modern(network)) == models.Input("iq", (1, 1024), channels=2)
    network = {"format": "saliency_jax.SpectrogramResNet", "num_classes": 10, "mean": [0.5]}
    expected = models.Input("sound", (1, 8000), channels=1, sample_rate=8000, mean=(0.5,))
    assert input_of(modern(network)) == expected


def test_a_relative_path_is_read(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert models.load("model").num_classes == 2


def test_half_precision_rounds_parameters_only(classifier, tmp_path):
    models.save(classifier, tmp_path / "half", dtype=np.float16)
    network, loaded = classifier.network, models.load(tmp_path / "half").network
    kernel = network.conv1.kernel[...]
    assert loaded.conv1.kernel.dtype == jnp.float32
    assert_array_equal(loaded.conv1.kernel[...], kernel.astype(jnp.float16).astype(jnp.float32))
    assert_array_equal(loaded.bn1.var[...], network.bn1.var[...])


def test_loaded_weights_are_bound_to_no_device(folder, compilations):
    """So that one program is compiled for them and for what is computed from them."""
    network = models.load(folder).network
    step = jax.jit(lambda network: jax.tree.map(lambda leaf: leaf + 1, network))
    stepped = step(network)
    with compilations.counted() as again:
        step(stepped)
    assert again.count == 0


def test_no_file_names_the_folder_it_was_written_in(folder):
    for path in folder.rglob("*"):
        assert path.is_dir() or str(folder.parent).encode() not in path.read_bytes()


def test_an_existing_folder_is_left_alone(classifier, folder):
    before = sorted(folder.parent.iterdir())
    with pytest.raises(FileExistsError, match="not to exist"):
        models.save(classifier, folder)
    assert sorted(folder.parent.iterdir()) == before


def test_nothing_is_written_of_a_model_that_is_not_finite(classifier, tmp_path):
    network = jax.tree.map(lambda leaf: leaf * jnp.nan, classifier.network)
    broken = dataclasses.replace(classifier, network=network)
    with pytest.raises(ValueError, match=r"nan or infinity in .*bias"):
        models.save(broken, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_network_from_elsewhere_cannot_be_saved(classifier, tmp_path):
    foreign = models.Classifier("foreign", lambda image: image, classifier.input, ("a", "b"))
    with pytest.raises(TypeError, match=r"expected a network of saliency_jax\.models\.ResNet"):
        models.save(foreign, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_config_of_very_many_stages_is_refused_before_it_is_built():
    settings = {"blocks": [2] * 100, "num_classes": 2}
    with pytest.raises(ValueError, match="expected blocks of at most 20 stages"):
        builder({"network": "saliency_jax.models.PreActResNet", "settings": settings})


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'tiny-imagenet-robust'"):
        models.load("tiny-imagenet-robst")


def remove_config(folder):
    (folder / "config.json").unlink()


def break_config(folder):
    (folder / "config.json").write_text('{"depth": 18')


def foreign_config(folder):
    (folder / "config.json").write_text('{"format": "other"}')


def with_settings(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    config["settings"] |= settings
    (folder / "config.json").write_text(json.dumps(config))


def unknown_setting(folder):
    with_settings(folder, colour="red")


def other_width(folder):
    with_settings(folder, width=3)


def foreign_network(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"network": "os.system"}))


def later_format(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"format": 3}))


def no_object(folder):
    (folder / "config.json").write_text("[1, 2]")


def remove_weights(folder):
    shutil.rmtree(folder / "weights")


def truncate_weights(folder):
    for path in folder.glob("weights/**/d/*"):
        path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("has_checksums", [True, False], ids=["", "of before checksums"])
@pytest.mark.parametrize(
    "damage",
    [
        remove_config,
        break_config,
        foreign_config,
        unknown_setting,
        other_width,
        foreign_network,
        later_format,
        no_object,
        remove_weights,
        truncate_weights,
    ],
)
def test_a_damaged_checkpoint_is_named_in_one_line(damage, has_checksums, folder):
    if not has_checksums:
        (folder / "SHA256SUMS").unlink()
    damage(folder)
    with pytest.raises(ValueError, match=r"expected .*model.* got ") as caught:
        models.load(folder)
    assert "\n" not in str(caught.value)


def test_checksums_are_those_of_every_file_that_is_read(folder):
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    files = [folder / "config.json", *folder.glob("weights/**/*")]
    assert lines == [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}"
        for path in sorted(files)
        if path.is_file()
    ]
    assert models.checksums(folder) == "\n".join(lines) + "\n"
    with pytest.raises(ValueError, match="expected the folder of a saved classifier, got"):
        models.checksums(folder / "weights")


def test_a_changed_config_is_taken_where_it_is_meant_to_be_another(folder):
    """Its numbers may be wrong where nothing else tells: a digit of a mean is one bit."""
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace("0.1", "0.3"))
    with pytest.raises(ValueError, match=r"got another 'config\.json' than its SHA256SUMS says"):
        models.load(folder)
    (folder / "SHA256SUMS").write_text(models.checksums(folder))
    assert models.load(folder).input.mean[0] == 0.3
    (folder / "SHA256SUMS").write_text("no line of its kind\n")
    with pytest.raises(ValueError, match=r"expected .*model to be as it was written, got another"):
        models.load(folder)


def test_a_flipped_bit_of_a_bundled_model_is_found(tmp_path):
    """Of the weights too, in which other bits may be other numbers."""
    folder = tmp_path / "copy"
    shutil.copytree(BUNDLED / "radio-modulations", folder)
    path = max(folder.glob("weights/**/d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"expected .*copy .* got another .*{path.name}"):
        models.load(folder)


@pytest.mark.parametrize("name", models.bundled())
def test_a_bundled_model_is_whole(name):
    assert (BUNDLED / name / "SHA256SUMS").read_text() == models.checksums(BUNDLED / name)
    classifier = models.load(name)
    assert classifier.name == name
    image = jnp.full((*classifier.input.size, classifier.input.channels), 0.5)
    logits = jax.jit(lambda network, image: network(image))(classifier.network, image)
    assert logits.shape == (len(set(classifier.class_names)),)
    assert jnp.isfinite(logits).all()


@pytest.mark.parametrize("name", models.bundled())
def test_what_is_said_of_a_bundled_model_is_its_config(name):
    folder = BUNDLED / name
    config = json.loads((folder / "config.json").read_text())
    classifier = models.load(name)
    assert (folder / "card.md").read_text() == models.card(config) == models.card(classifier)
    parameters = jax.tree.leaves(nnx.state(classifier.network, nnx.Param))
    assert config["parameters"] == sum(leaf.size for leaf in parameters)
    described = models.available()[name]
    (weights,) = described.weights.values()
    assert described.parameters == config["parameters"]
    assert described.class_names == classifier.class_names == tuple(config["class_names"])
    assert weights.accuracies == classifier.accuracies == config["accuracies"]
    assert weights.input == classifier.input


@pytest.mark.parametrize("name", models.bundled())
def test_a_bundled_model_is_saved_as_it_is_stored(name, tmp_path):
    models.save(models.load(name), tmp_path / name, dtype=np.float16)
    for file in ("config.json", "card.md"):
        assert (tmp_path / name / file).read_text() == (BUNDLED / name / file).read_text()
    assert_equal_networks(models.load(tmp_path / name).network, models.load(name).network)
