"""What a classifier knows, and the one way of a file or an array into its network."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from skimage import data as photographs

from saliency_jax import models, scores
from saliency_jax.images import fit, read_image
from saliency_jax.models import Classifier, Input, card
from saliency_jax.signals import sound


def mean_color(image):
    return image.mean((0, 1))


def classifier(size=(8, 8), resize=(), channels=3, names=("a", "b", "c"), **described):
    return Classifier("small", mean_color, Input("image", size, resize, channels), names)


@pytest.mark.usefixtures("entry_checks")
def test_a_classifier_is_no_model_and_says_what_is():
    with pytest.raises(TypeError, match=r"callable, got Classifier; its `network` is callable"):
        scores.logit(classifier(), 1)


NAMES = ("Bell pepper", "school_bus", "great white-shark", "crane", "crane", "12")


@pytest.mark.parametrize(
    ("text", "label"),
    [("bell pepper", 0), ("SCHOOL-BUS", 1), (" great  white_shark ", 2), ("3", 3), ("12", 5)],
)
def test_labels_are_names_or_numbers(text, label):
    assert classifier(names=NAMES).label(text) == label


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bel peper", "expected a class of small, got 'bel peper'; did you mean 'Bell pepper'"),
        ("zebra", "its classes are Bell pepper, school_bus"),
        ("crane", "the name of 3 and 4; give the number"),
        ("6", "in 0 .. 5 or a class name of small, got 6"),
        ("-1", "in 0 .. 5 or a class name of small, got -1"),
    ],
)
def test_labels_that_are_none_are_explained(text, message):
    with pytest.raises(ValueError, match=message):
        classifier(names=NAMES).label(text)


def test_a_classifier_without_names_numbers_its_classes():
    network = models.load("tiny-imagenet-robust").network
    taken = models.load("tiny-imagenet-robust").input
    numbered = Classifier("numbered", network, taken)
    assert numbered.class_names == tuple(map(str, range(20)))
    assert numbered.num_classes == 20


@pytest.mark.usefixtures("entry_checks")
def test_records_that_do_not_fit_are_refused():
    known = models.load("tiny-imagenet-robust")
    with pytest.raises(ValueError, match="expected 20 class names, got 2"):
        Classifier("x", known.network, known.input, ("a", "b"))
    with pytest.raises(ValueError, match="expected the input's mean to be the network's"):
        Classifier("x", known.network, Input("image", (64, 64)))
    with pytest.raises(TypeError, match="expected a callable network, got str"):
        Classifier("x", "network", known.input)
    with pytest.raises(ValueError, match="expected the names of the classes"):
        Classifier("x", mean_color, known.input)


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "video"}, "kind of image, sound, iq, got 'video'"),
        ({"resize": (8, 7)}, r"resize to be at least the size \(8, 8\)"),
        ({"mean": (0.5,)}, "mean for 3 channels, got 1"),
        ({"mean_color": (0.5,)}, "mean_color for 3 channels, got 1"),
        ({"kind": "iq"}, r"size \(1, t\) of a signal"),
        ({"kind": "sound", "size": (1, 8)}, "sample_rate of sounds"),
        ({"sample_rate": 8000}, "sample_rate of sounds"),
    ],
)
def test_inputs_that_are_none_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Input(**{"kind": "image", "size": (8, 8)} | arguments)


def test_preprocessing_is_that_of_torchvision(tmp_path):
    """Its transforms, in Pillow: the short side to 64, bilinear, then the centre of 56."""
    photograph = Image.fromarray(photographs.chelsea())
    photograph.save(tmp_path / "cat.png")
    image = classifier((56, 56), (64, 64)).preprocess(tmp_path / "cat.png")
    width = round(64 * photograph.width / photograph.height)
    resized = photograph.resize((width, 64), Image.Resampling.BILINEAR)
    left = round((width - 56) / 2)
    expected = np.asarray(resized.crop((left, 4, left + 56, 60)), np.float32) / 255
    assert image.shape == (56, 56, 3)
    # A pixel of the reduced photograph is 4.7 of its own, of which the proportions round off some.
    assert np.abs(image - expected).mean() < 0.01


def sources(folder):
    """The same picture in every way that it can come."""
    pixels = np.random.default_rng(0).integers(0, 256, (11, 14, 3), np.uint8)
    path = folder / "noise.png"
    Image.fromarray(pixels).save(path)
    return {
        "path": path,
        "text": str(path),
        "open file": path.open("rb"),
        "buffer": io.BytesIO(path.read_bytes()),
        "bytes of a file": path.read_bytes(),
        "PIL": Image.fromarray(pixels),
        "uint8": pixels,
        "uint8 of JAX": jnp.asarray(pixels),
        "float32": pixels.astype(np.float32) / 255,
        "float64": pixels / 255,
        "big-endian": (pixels / 255).astype(">f4"),
        "JAX": jnp.asarray(pixels.astype(np.float32) / 255),
    }


def test_every_way_of_a_picture_is_one_way(tmp_path):
    expected = fit(read_image(sources(tmp_path)["path"]), 8)
    for name, source in sources(tmp_path).items():
        prepared = classifier().preprocess(source)
        assert prepared.dtype == np.float32, name
        assert_allclose(prepared, expected, atol=1e-6, err_msg=name)


def test_preprocessing_leaves_what_fits():
    image = np.random.default_rng(0).random((16, 12, 3), np.float32)
    assert_array_equal(classifier((16, 12)).preprocess(image), image)


def test_another_size_keeps_the_proportion_of_the_margin():
    image = np.random.default_rng(0).random((40, 40, 3), np.float32)
    usual = classifier((28, 28), (32, 32))
    assert_array_equal(usual.preprocess(image, size=14), fit(image, 16)[1:15, 1:15])
    assert_array_equal(classifier().preprocess(image, size=(20, 40)), fit(image, (20, 40)))


def test_channels_are_those_of_the_network(tmp_path):
    red = np.full((8, 8, 3), np.array([255, 0, 51], np.uint8))
    Image.fromarray(red).save(tmp_path / "red.png")
    grey = classifier(channels=1)
    for source in (tmp_path / "red.png", red, red / 255):
        assert_allclose(grey.preprocess(source), np.full((8, 8, 1), 0.4), atol=1e-6)
    for shape in ((8, 8), (8, 8, 1)):
        image = np.linspace(0, 1, 64, dtype=np.float32).reshape(shape)
        assert_array_equal(grey.preprocess(image), image.reshape(8, 8, 1))
        assert_array_equal(classifier().preprocess(image), np.repeat(image.reshape(8, 8, 1), 3, 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_opacity_is_over_white(channels):
    image = np.zeros((8, 8, 4), np.float32)
    image[:4, :, 3] = 0.25
    prepared = classifier(channels=channels).preprocess(image)
    assert_allclose(prepared[:4], 0.75)
    assert_allclose(prepared[4:], 1)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (np.full((8, 8, 3), 255.0), ValueError, r"floats in \[0, 1\], got 255 .. 255; divide"),
        (np.full((8, 8, 3), -0.1), ValueError, r"floats in \[0, 1\]"),
        (np.full((8, 8, 3), np.nan), ValueError, "finite"),
        (np.zeros((8, 8, 3), np.int64), TypeError, "hold floats, got int64"),
        (np.zeros((8, 8, 5), np.float32), ValueError, "image of 3 channels, got 5"),
        (np.zeros((2, 8, 8, 3), np.float32), ValueError, r"\(h, w, c\) or \(h, w\), got shape"),
        (np.zeros((0, 8, 3), np.float32), ValueError, r"\(h, w, c\) or \(h, w\), got shape"),
        (np.zeros(8, np.float32), ValueError, r"\(h, w, c\) or \(h, w\), got shape"),
        (7, TypeError, "expected .* got int"),
        ("nowhere.png", FileNotFoundError, r"nowhere\.png"),
    ],
)
@pytest.mark.usefixtures("entry_checks")
def test_what_is_no_picture_is_explained(source, error, message):
    with pytest.raises(error, match=message):
        classifier().preprocess(source)


def of_sounds(length=40):
    taken = Input("sound", (1, length), channels=1, sample_rate=8000)
    return Classifier("sounds", mean_color, taken, ("a",))


def test_a_sound_becomes_a_clip(tmp_path):
    samples = np.arange(1, 5, dtype=np.float32) / 8
    encoded = sound.encode_wav(samples, 8000)
    (tmp_path / "sound.wav").write_bytes(encoded)
    expected = np.zeros((1, 40, 1), np.float32)
    expected[0, 18:22, 0] = samples
    ways = (
        *(tmp_path / "sound.wav", str(tmp_path / "sound.wav"), io.BytesIO(encoded)),
        *(samples, samples[:, None], samples[None, :, None], jnp.asarray(samples)),
    )
    for source in ways:
        assert_array_equal(of_sounds().preprocess(source), expected)
    assert_array_equal(of_sounds().preprocess(samples, size=(1, 2)), samples[None, 1:3, None])


def test_a_sound_is_brought_to_the_sample_rate(tmp_path):
    seconds = np.arange(1600) / 16000
    tone = np.sin(2 * np.pi * 500 * seconds).astype(np.float32) / 2
    (tmp_path / "tone.wav").write_bytes(sound.encode_wav(tone, 16000))
    prepared = of_sounds(800).preprocess(tmp_path / "tone.wav")
    assert prepared.shape == (1, 800, 1)
    assert_allclose(prepared[0, 100:-100, 0], tone[::2][100:-100], atol=0.01)


def test_radio_samples_are_put_in_the_middle():
    taken = Input("iq", (1, 6), channels=2)
    radio = Classifier("radio", mean_color, taken, ("a",))
    samples = np.arange(8, dtype=np.float32).reshape(4, 2)
    expected = np.zeros((1, 6, 2), np.float32)
    expected[0, 1:5] = samples
    for source in (samples, samples[None], jnp.asarray(samples)):
        assert_array_equal(radio.preprocess(source), expected)


@pytest.mark.parametrize(
    ("kind", "source", "error", "message"),
    [
        ("sound", np.zeros((2, 40, 1), np.float32), ValueError, r"signal \(t, 1\) or \(1, t, 1\)"),
        ("sound", np.zeros((40, 2), np.float32), ValueError, r"signal \(t, 1\) or \(1, t, 1\)"),
        ("sound", np.zeros(4, np.int16), TypeError, "hold floats, got int16"),
        ("sound", np.full(4, np.inf), ValueError, "finite"),
        ("iq", np.zeros(40, np.float32), ValueError, r"signal \(t, 2\)"),
        ("iq", "signal.wav", TypeError, r"array of samples \(t, 2\), got str"),
        ("iq", np.zeros(40, np.complex64), TypeError, "hold floats, got complex64"),
    ],
)
@pytest.mark.usefixtures("entry_checks")
def test_what_is_no_signal_is_explained(kind, source, error, message):
    rate = 8000 if kind == "sound" else None
    taken = Input(kind, (1, 40), channels=1 if kind == "sound" else 2, sample_rate=rate)
    with pytest.raises(error, match=message):
        Classifier("signals", mean_color, taken, ("a",)).preprocess(source)


def test_a_card_says_what_the_config_knows():
    config = {
        "network": "saliency_jax.models.ResNet",
        "input": {"kind": "image", "size": [64, 48], "channels": 3},
        "class_names": ["lemon", "goose"],
        "parameters": 1234567,
        "accuracies": {"top-1": 62.5, "PGD-50, L2 epsilon 1": 41},
        "training": {
            "dataset": "fruit",
            "method": "standard training",
            "command": "python train.py",
            "train_split": "train[:90%]",
            "holdout_split": "train[90%:]",
            "test_split": "test",
            "epochs": 3,
            "best_epoch": 2,
            "chosen_by": "clean",
            "holdout_accuracy": 60.1,
            "test_examples": 100,
            "dtype": "float16",
            "minutes": 2.4,
            "cores": 2,
            "device": "cpu",
            "date": "2026-01-02",
            "notes": ["A note."],
        },
    }
    text = card(json.loads(json.dumps(config)))
    for said in (
        *("# fruit, standard training\n", "1,234,567 parameters", "input 64x48x3 in [0, 1]"),
        *("    python train.py\n", "epoch 2 of 3 chosen by clean accuracy", "(60.1%)", "A note."),
        *("| top-1 | 62.5% |\n| PGD-50, L2 epsilon 1 | 41% |", "Classes: lemon, goose."),
        *("Training took 2 minutes on 2 cores", "2026-01-02", "100 examples of `test`"),
    ):
        assert said in text
    bare = card(config | {"training": {}, "accuracies": {}})
    assert bare.startswith("# A classifier of saliency_jax\n")
    assert "Data:" not in bare
    assert "|" not in bare


def test_the_prepared_picture_is_what_the_network_takes():
    standard = models.load("tiny-imagenet-standard")
    run = jax.jit(lambda network, image: network(image))
    for picture, name in ((photographs.chelsea(), "tabby"), (photographs.coffee(), "espresso")):
        logits = run(standard.network, standard.preprocess(picture))
        assert standard.class_names[int(logits.argmax())] == name
