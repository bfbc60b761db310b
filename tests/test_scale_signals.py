"""Sounds and radio's signals over whole data sets: images of one row, by each method that suits."""

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import small_radio
import small_sounds
from flax import nnx

from saliency_jax import attribution, data, models, scale, scores
from saliency_jax.signals import SignalResNet, SpectrogramResNet, radio
from saliency_jax.signals import _spoken_digits as digits

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
DATASETS = {"iq": "radio_modulations", "sound": "spoken_digits"}
SPLIT = "test[:6]"


@pytest.fixture(scope="module", params=DATASETS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def data_dir(kind, tmp_path_factory):
    root = tmp_path_factory.mktemp(kind)
    if kind == "sound":
        yield small_sounds.prepared_folder(root)
    else:
        with small_radio.prepared_radio(root) as folder:
            yield folder


def classifier(kind: str, sample_rate: int = 8000) -> models.Classifier:
    if kind == "iq":
        taken = models.Input("iq", (1, small_radio.LENGTH), channels=2)
        network = SignalResNet(9, widths=(2, 4), rngs=nnx.Rngs(0))
        return models.Classifier("small-iq", network, taken, tuple(radio.MODULATIONS))
    taken = models.Input("sound", (1, 8000), channels=1, sample_rate=sample_rate)
    network = SpectrogramResNet(
        10,
        sample_rate=sample_rate,
        window_size=64,
        hop=160,
        num_bands=8,
        width=2,
        blocks=(1, 1),
        rngs=nnx.Rngs(0),
    )
    return models.Classifier("small-sound", network, taken, digits.DIGITS)


@pytest.fixture(scope="module")
def methods():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        from lab import methods

        yield methods
    finally:
        sys.path.remove(str(EXPERIMENTS))


def test_maps_are_those_of_single_signals(kind, data_dir, tmp_path):
    stored = scale.attribute(
        attribution.input_gradient,
        classifier(kind),
        DATASETS[kind],
        tmp_path / "maps",
        split=SPLIT,
        batch_size=4,
        dtype="float32",
        data_dir=data_dir,
    )
    examples = data.joined(data.load(DATASETS[kind], SPLIT, 6, data_dir=data_dir))
    np.testing.assert_array_equal(stored["labels"][:], examples["label"])
    assert stored["ids"][:].tolist() == [str(number) for number in range(6)]
    assert not stored["status"][:].any()
    network = classifier(kind).network
    logits = jax.jit(jax.vmap(network))(examples["image"])
    np.testing.assert_array_equal(stored["predictions"][:], logits.argmax(-1))

    @jax.jit
    def gradient(image, label):
        return jax.grad(lambda image: network(image)[label])(image)

    for number in (0, 5):
        expected = gradient(examples["image"][number], examples["label"][number])
        largest = np.abs(expected).max()
        assert largest > 0
        np.testing.assert_allclose(stored["maps"][number], expected, rtol=1e-3, atol=1e-4 * largest)
    assert "<img" in (tmp_path / "maps" / "index.html").read_text("utf-8")


def test_the_script_takes_them(kind, data_dir, methods, tmp_path, capsys):
    import attribute_dataset

    models.save(classifier(kind), tmp_path / "model")
    settings = attribute_dataset.Settings(
        output=str(tmp_path / "maps"),
        model=str(tmp_path / "model"),
        dataset=DATASETS[kind],
        split=SPLIT,
        batch_size=4,
        keep_programs=False,
        data_dir=data_dir,
    )
    attribute_dataset.main(settings)
    assert "6 good" in capsys.readouterr().out
    maps = scale.open(tmp_path / "maps")["maps"]
    assert maps.shape == (6, *classifier(kind).input.size)
    assert (maps[:].max((1, 2)) > 0).all()
    refused = "lrp_epsilon_gamma_box" if kind == "iq" else "grad_cam"
    with pytest.raises(ValueError, match=f"expected a method that .*{refused}"):
        attribute_dataset.main(dataclasses.replace(settings, method=refused))


def test_every_method_makes_a_map_over_the_samples_or_is_refused(kind, methods):
    small = classifier(kind)
    shape = (1, 320, small.input.channels)
    refused = []
    for name, row in methods.METHODS.items():
        try:
            methods.check([name], [small], many=True)
        except ValueError:
            refused.append(name)
            continue

        def explained(network, image, *, name=name, row=row):
            return methods.explain(name, row.score(network, 1, scores.logit), image)

        image = jax.ShapeDtypeStruct(shape, np.float32)
        assert jax.eval_shape(explained, small.network, image).shape == shape[:2], name
    never = {"xrai", "attention_rollout", "attention_relevance", "lrp_epsilon_gamma_box"}
    of_layers = {name for name, row in methods.METHODS.items() if "layer" in row.needs}
    assert set(refused) == never | (of_layers if kind == "sound" else set())


def test_a_data_set_of_another_kind_or_rate_is_refused(kind, data_dir, tmp_path):
    other_kind = next(other for other in DATASETS if other != kind)
    strangers = [(classifier(other_kind), f"of kind {other_kind}, got .* of kind {kind}")]
    if kind == "sound":
        strangers.append((classifier(kind, 16000), "of 16000 samples a second, got .*, of 8000"))
    for stranger, named in strangers:
        with pytest.raises(ValueError, match=f"expected a dataset {named}"):
            scale.attribute(
                attribution.input_gradient,
                stranger,
                DATASETS[kind],
                tmp_path / "maps",
                batch_size=4,
                data_dir=data_dir,
            )
    assert not (tmp_path / "maps").exists()
