"""The experiment on radio signals, and training on them, on miniature signals by a tiny model."""

import dataclasses
import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browser import check_pages, pictures_in
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal
from small_classifiers import classifier, saved
from small_radio import CELLS, LENGTH, prepared_radio

from saliency_jax import models
from saliency_jax.runs import plots
from saliency_jax.signals import SignalResNet, radio

pytestmark = pytest.mark.usefixtures("pages_are_sound")
EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import radio_signals
        import train

        yield radio_signals, train
    finally:
        sys.path.remove(str(EXPERIMENTS))


@pytest.fixture(scope="module")
def script(scripts):
    return scripts[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with prepared_radio(tmp_path_factory.mktemp("radio")) as path:
        yield path


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    names = tuple(radio.MODULATIONS)
    network = SignalResNet(9, widths=(2, 4), rngs=nnx.Rngs(0))
    record = models.Input("iq", (1, LENGTH), channels=2)
    model = models.Classifier("tiny", network, record, names)
    path = tmp_path_factory.mktemp("model") / "tiny"
    models.save(model, path)
    return path


@pytest.fixture(scope="module")
def finished(script, folder, model_folder, tmp_path_factory):
    settings = script.Settings(
        model=str(model_folder),
        count=1,
        window_size=8,
        hop=4,
        steps=2,
        batch_size=72,
        data_dir=folder,
        output=tmp_path_factory.mktemp("runs") / "run",
    )
    script.main(settings)
    return settings


def test_the_first_signals_of_each_cell_are_chosen(script):
    signals = {
        "label": np.array([0, 1, 0, 0, 1, 1]),
        "snr": np.array([5.0, 5.0, 5.0, 0.0, 5.0, 0.0]),
        "other": np.arange(6),
    }
    chosen = script.choose(signals, 1)
    assert_array_equal(chosen["other"], [0, 1, 3, 5])
    assert_array_equal(chosen["number"], [0, 1, 3, 5])
    with pytest.raises(ValueError, match="expected --count to be at most 1"):
        script.choose(signals, 2)


# What is measured, of a model whose logits are known.


@dataclasses.dataclass(frozen=True)
class Reader:
    """Logits that read a single sample, so that all of a map is at it."""

    place: int

    def __call__(self, image):
        return jnp.stack([image[0, self.place, 0], 0.0 * image.sum()])


@pytest.mark.parametrize(("place", "near"), [(8, True), (12, False)])
def test_a_map_is_where_the_model_reads(script, place, near):
    model = jax.tree_util.Partial(Reader(place))
    example = {
        "image": jnp.ones((1, LENGTH, 2)),
        "label": jnp.array(0),
        "band": jnp.array([-0.1, 0.1]),
        "timing": jnp.array(0.0),
        "number": jnp.array(0),
    }
    settings = script.Settings(window_size=8, hop=4, steps=4)
    maps = jax.jit(functools.partial(script.maps, settings=settings))(model, example)
    assert_allclose(maps[1][:, 0], np.eye(LENGTH)[[place, place]], atol=1e-5)
    # Integrated gradients of a linear score are complete in both domains: the logit is 1.
    assert_allclose(maps[0][1].sum(), 1, rtol=1e-4)
    frames = np.abs(maps[0][0]).sum(0)
    middles = 4 * np.arange(len(frames)) - 4
    assert_array_equal(frames > 1e-6, np.abs(middles - place) < 4)
    measure = jax.jit(functools.partial(script.measure, settings=settings))
    measured = measure(model, example=example)
    assert_allclose(measured["near_decisions"], [float(near)] * 2, atol=1e-5)
    # Of eight samples those at the distances -2 .. 2.
    assert_allclose(measured["decisions"], 5 / 8, rtol=1e-5)
    # The first eight of 32 samples that are deleted hold the only one that counts.
    high, low = 1 / (1 + np.exp(-1)), 0.5
    assert_allclose(measured["deletion"][1, :2], low + (high - low) / 8, rtol=1e-4)
    assert_allclose(measured["insertion"][1, :2], high - (high - low) / 8, rtol=1e-4)


# The scripts as a whole.


def test_a_run_holds_what_it_says(finished, a_browser):
    names = {path.name for path in finished.output.iterdir()}
    pictures = {"accuracy.png", "measured.png", "time_frequency.png", "symbols.png"}
    assert names == pictures | {"measurements.npz", "maps.npz", "config.json", "index.html"}
    check_pages(a_browser, finished.output)
    with np.load(finished.output / "measurements.npz") as arrays:
        assert arrays["probability"].shape == (CELLS,)
        assert arrays["deletion"].shape == (CELLS, 2, 4)
        has_symbols = arrays["labels"] < 7
        assert_array_equal(np.isfinite(arrays["power_near_decisions"]), has_symbols)
        assert np.isfinite(arrays["power_in_band"]).all()
        # A share of a map that is 0 everywhere, as random weights have it, is undefined.
        shares = arrays["in_band"][np.isfinite(arrays["in_band"])]
        assert len(shares) > CELLS
        assert ((shares >= 0) & (shares <= 1)).all()
        assert set(arrays["all_snrs"].astype(int)) == set(radio.SNRS)
        accuracy = (arrays["predicted"] == arrays["true"]).mean()
    page = (finished.output / "index.html").read_text()
    assert "integrated gradients: within the band" in page
    assert "64QAM" in page
    assert 0 <= accuracy <= 1


def test_the_page_shows_the_maps_of_the_arrays(finished):
    shown = pictures_in(finished.output / "index.html")
    with np.load(finished.output / "maps.npz") as arrays:
        maps, samples, labels = (arrays[key] for key in ("time_frequency", "samples", "label"))
        assert_array_equal(arrays["snr"][:, 0], [-10, 0, 10])
        assert arrays["predicted"].shape == (3, 9)
    assert_array_equal(labels, [np.arange(9)] * 3)
    assert samples.shape == (3, 9, 2, 1, LENGTH)
    for column, name in enumerate(("gradient", "integrated gradients")):
        draw = plots.signed_map if column else plots.saliency_map
        seen = [pixels for alt, pixels in shown if f", {name}: map" in alt]
        # Row by row, at all places of the slider.
        for pixels, (label, place) in zip(seen, np.ndindex(9, 3), strict=True):
            wanted = draw(maps[place, label, column])
            assert_array_equal(pixels, np.rint(255 * wanted.pixels))


def test_a_model_of_images_is_refused(script, finished, tmp_path):
    (folder,) = saved(tmp_path, classifier())
    settings = dataclasses.replace(finished, model=folder, output=tmp_path / "run")
    with pytest.raises(ValueError, match=r"expected a model of kind iq, got small, of kind image"):
        script.main(settings)
    assert not settings.output.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "--count to be at least 1"),
        ({"shown_snr": (10, 3)}, "--shown-snr to be one of"),
        ({"shown_snr": ()}, "at least one of --shown-snr"),
    ],
)
def test_mistakes_are_named_at_once(script, change, message):
    with pytest.raises(ValueError, match=f"expected {message}"):
        script.main(dataclasses.replace(script.Settings(), **change))


def test_the_training_script_trains_on_signals(scripts, folder, tmp_path):
    _, train = scripts
    settings = train.Settings(
        output=tmp_path / "run",
        dataset="radio_modulations",
        train_split="train",
        holdout_split="validation",
        test_split="test",
        width=2,
        epochs=1,
        batch_size=96,
        evaluate_every=1,
        test_epsilons=(),
        data_dir=folder,
    )
    train.main(settings)
    model = models.load(settings.output / "model")
    assert isinstance(model.network, SignalResNet)
    assert (model.network.widths, model.input.size) == ((2, 3, 4), (1, LENGTH))
    assert model.class_names == tuple(radio.MODULATIONS)
    card = (settings.output / "card.md").read_text()
    assert f"Reported on all {CELLS} examples of `test`" in card
    assert "AutoAttack" not in card
