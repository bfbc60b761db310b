"""The script that measures accuracy under attack, on a miniature data set."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import small_classifiers
from numpy.testing import assert_allclose
from small_models import answer

from saliency_jax import models

pytestmark = pytest.mark.usefixtures("pages_are_sound")
EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture(scope="module")
def evaluate():
    sys.path.insert(0, str(EXPERIMENTS))
    import evaluate

    yield evaluate
    sys.path.remove(str(EXPERIMENTS))


@pytest.fixture
def settings(evaluate, tmp_path, tiny_imagenet_folder):
    (folder,) = small_classifiers.saved(tmp_path, small_classifiers.classifier())
    return evaluate.Settings(
        output=tmp_path / "run",
        model=(folder,),
        data_dir=tiny_imagenet_folder,
        epsilons=(2.0,),
        attack_steps=2,
        restarts=1,
        write=True,
    )


def test_what_is_measured_is_told_and_written_into_the_model(evaluate, settings, capsys):
    (folder,) = settings.model
    before = models.load(folder)
    config = json.loads((Path(folder) / "config.json").read_text())
    config["accuracies"] = {
        "top-5": 50.0,
        "PGD-2, 1 restart, L2 epsilon 2": 99.0,
        "PGD-50, 3 restarts, L2 epsilon 2, by margin": 7.0,
    }
    (Path(folder) / "config.json").write_text(json.dumps(config))
    (Path(folder) / "SHA256SUMS").write_text(models.checksums(folder))
    evaluate.main(settings)
    (path,) = settings.output.glob("accuracy-*.npz")
    with np.load(path) as stored:
        assert stored["images"] == 40
        assert stored["epsilons"].tolist() == [0, 2]
        measured = {loss: stored[loss] for loss in ("log-probability", "margin", "both")}
    images, labels = evaluate.read(settings, before)
    logits = np.stack([answer(before.network, image) for image in images])
    accuracy = {loss: float(values[1]) for loss, values in measured.items()}
    clean = float(measured["margin"][0])
    assert clean == (logits.argmax(1) == labels).mean()
    assert accuracy["both"] <= min(accuracy["margin"], accuracy["log-probability"]) <= clean

    after = models.load(folder)
    name = "PGD-2, 1 restart, L2 epsilon 2"
    assert after.accuracies == {
        "top-5": 50.0,
        "PGD-50, 3 restarts, L2 epsilon 2, by margin": 7.0,
        "top-1": round(100 * clean, 1),
        f"{name}, by log-probability": round(100 * accuracy["log-probability"], 1),
        f"{name}, by margin": round(100 * accuracy["margin"], 1),
        f"{name}, by either": round(100 * accuracy["both"], 1),
    }
    assert (Path(folder) / "card.md").read_text() == models.card(after)
    assert_allclose(answer(after.network, images[0]), answer(before.network, images[0]))
    printed = capsys.readouterr().out
    assert f"{100 * clean:.1f} [" in printed
    assert name in printed


def test_the_interval_is_wilsons(evaluate):
    """Wilson 1927: (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)."""
    share, count, z = 0.3, 40, 1.959964
    middle = share + z**2 / (2 * count)
    reach = z * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    low, high = ((middle + sign * reach) / (1 + z**2 / count) for sign in (-1, 1))
    assert evaluate.tables.share(12, count) == f"30.0 [{100 * low:.1f}, {100 * high:.1f}]"


def test_what_is_undefined_for_an_image_is_left_out(evaluate):
    nan = np.nan
    assert evaluate.tables.cell(np.array([2.0, nan, 2.0])) == "2.000 [2.000, 2.000]"
    by_share = np.array([[1.0, 3.0], [nan, 9.0], [1.0, 3.0]])
    assert evaluate.tables.cell(by_share) == "2.000 [2.000, 2.000]"
    assert evaluate.tables.cell(by_share[1:2]) == "undefined"
    assert evaluate.tables.cell(np.full(2, -1e-5)) == "0.000 [0.000, 0.000]"


def test_another_datas_classes_are_refused(evaluate, settings):
    stranger = small_classifiers.classifier(class_names=("a", "b"))
    with pytest.raises(ValueError, match="expected a class of small, got 'dining table'"):
        evaluate.read(settings, stranger)


def test_a_model_of_more_classes_finds_the_datas_by_name(evaluate, settings):
    names = small_classifiers.CLASS_NAMES
    _, labels = evaluate.read(settings, small_classifiers.classifier())
    larger = small_classifiers.classifier(class_names=("acorn", *reversed(names)))
    _, found = evaluate.read(settings, larger)
    assert [larger.class_names[label] for label in found] == [names[label] for label in labels]


def test_radii_are_positive(evaluate, settings):
    with pytest.raises(ValueError, match="expected epsilons above 0 and finite, got 0"):
        evaluate.robustness.Attacks("l2", (0.0, 1.0))
