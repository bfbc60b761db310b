"""The benchmark beside other libraries: turns of processes, what is compared, what is kept."""

import importlib
import json
import math
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_allclose

from saliency_jax import models
from saliency_jax.runs import plots

BENCHMARKS = Path(__file__).parent.parent / "experiments" / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import _ours  # noqa: E402
import _peers_report  # noqa: E402
import _tasks  # noqa: E402
import _turns  # noqa: E402
import peers  # noqa: E402
from _peers_report import CAPTUM, OURS, TASKS, Measured  # noqa: E402

sys.path.remove(str(BENCHMARKS))

# A library of the test's own: it counts up, and fails.
COUNTER = """
class Counter:
    def __init__(self, start):
        self.value = start

    def finish(self, result):
        pass

    def array(self, result):
        return [result]

    def add(self, count):
        def call():
            self.value += count
            print("what a library prints is no answer")
            return self.value
        return call

    def fail(self, count):
        raise ValueError("no such thing\\nand more")

    def end(self, count):
        raise SystemExit(3)

    def total(self):
        return self.value
"""


@pytest.fixture
def counter(tmp_path):
    (tmp_path / "counter.py").write_text(COUNTER)
    environment = {"PYTHONPATH": str(tmp_path)}
    library = _turns.Library(
        "counter:Counter", {"start": 1}, environment, tmp_path / "log", threads=1
    )
    yield library
    library.close()


class TestTurns:
    def test_a_prepared_task_is_called_in_turns(self, counter):
        prepared = counter.prepare("add", 2)
        assert prepared.result == [3]
        assert prepared.first > 0
        turn = counter.turn(0.0)
        assert len(turn.seconds) == 1
        assert turn.others >= 0
        assert len(counter.turn(0.01).seconds) > 1
        assert counter.ask("total") > 5

    def test_what_it_lacks_and_what_fails(self, counter, tmp_path):
        assert counter.prepare("multiply", 2) is None
        with pytest.raises(_turns.ProcessError, match=r"^ValueError: no such thing$"):
            counter.prepare("fail", 2)
        assert counter.prepare("add", 1).result == [2]
        with pytest.raises(_turns.ProcessError, match="ended with status 3"):
            counter.prepare("end", 1)

    def test_a_library_that_is_not_installed(self, tmp_path):
        with pytest.raises(_turns.ProcessError, match="No module named 'nowhere'"):
            _turns.Library("nowhere:Nothing", {}, {}, tmp_path / "log", threads=1)


class Fake:
    """A library in this process, whose task returns an array and takes no time."""

    def __init__(self, result, others=0.0):
        self.result, self.others = result, others

    def prepare(self, task, count):
        return None if self.result is None else _turns.Prepared(np.asarray(self.result), 1.0)

    def turn(self, least):
        return _turns.Turn([0.1, 0.3, 0.2], self.others)


class FakeLibraries(dict):
    def get(self, name):
        if name not in self:
            raise _turns.ProcessError("ModuleNotFoundError: No module named 'zennit'")
        return self[name]


class TestComparing:
    def test_only_what_returns_the_same_has_times(self):
        libraries = FakeLibraries({OURS: Fake([1.0, 2.0], 0.5), CAPTUM: Fake([1.0, 2.001])})
        libraries |= {"PAIR saliency": Fake([2.0, 4.0]), "Quantus": Fake(None)}
        names = (OURS, CAPTUM, "PAIR saliency", "Quantus", "Zennit")
        settings = peers.Settings(libraries=names, rounds=3)
        row = peers.compare(FakeLibraries(libraries), TASKS["saliency"], 1, settings)
        assert row[OURS]["seconds"] == row[CAPTUM]["seconds"] == [0.2] * 3
        assert row[OURS]["others"] == 0.5
        assert_allclose(row[CAPTUM]["difference"], 0.001 / math.sqrt(5), rtol=1e-6)
        assert row["PAIR saliency"]["problem"] == "does not return the same"
        assert row["PAIR saliency"]["difference"] == 1
        assert row["Quantus"]["problem"] == peers.NO_METHOD
        assert "zennit" in row["Zennit"]["problem"]
        assert not any(row[name]["seconds"] for name in names[2:])

    def test_without_ours_there_is_nothing_to_compare_with(self):
        settings = peers.Settings(libraries=(CAPTUM,))
        row = peers.compare(FakeLibraries({CAPTUM: Fake([1.0])}), TASKS["saliency"], 1, settings)
        assert row[CAPTUM]["problem"] == "there is nothing to compare it with"

    def test_the_difference_is_relative_or_of_the_correlation(self):
        ours = np.array([[3.0, 4.0]])
        assert peers.difference(TASKS["saliency"], ours, np.array([[3.0, 4.5]])) == 0.1
        assert_allclose(peers.difference(TASKS["grad-cam"], ours, 7 * ours - 2), 0, atol=1e-9)
        assert peers.difference(TASKS["grad-cam"], ours, -ours) == 2
        assert peers.difference(TASKS["saliency"], ours, ours.T) == math.inf
        # Of three values of a curve another library has the last two.
        assert peers.difference(TASKS["deletion"], np.array([[9.0, 3.0, 4.0]]), ours) == 0


class TestLimit:
    def test_each_network_s_gradient_counts_its_own_operations(self, tmp_path, monkeypatch):
        networks = {"tiny-imagenet-standard": 6e9, "resnet50": 90e9}

        class Counted(Fake):
            def __init__(self, network, *_):
                super().__init__([1.0])
                self.ask = lambda name: {"operations": networks[network]}[name]
                self.get = lambda name: self

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

        monkeypatch.setattr(peers, "Libraries", Counted)
        store = _peers_report.Store(tmp_path, {})
        settings = peers.Settings(networks=tuple(networks), rounds=1, quick=True)
        peers.measure_limit(settings, store)
        found = {key[0]: value for key, value in store.items("limit") if key[2] == "saliency"}
        # A call takes 0.2 s.
        assert found == pytest.approx({"tiny-imagenet-standard": 30, "resnet50": 450})


class TestReport:
    def row(self, seconds, **options):
        return Measured(seconds, 1.0, 0.0, 0.0)._replace(**options)

    def test_ratios_and_geometric_means(self):
        def case(captum, layout, other):
            rows = {
                OURS: self.row([0.1, 0.1, 0.1]),
                CAPTUM: self.row([captum] * 3),
                "Captum, channels_last": self.row([layout] * 3),
                "Zennit": self.row([other] * 3) if other else self.row([], problem="not there"),
            }
            return _peers_report.Comparison("pair, float32", "saliency", "saliency", "now", rows)

        found = [case(0.2, 0.3, 0.05), case(0.8, 0.4, None)]
        table = _peers_report.summary("pair, float32", found)
        assert table.header[-1] == "fastest peer / ours"
        assert [line[-1] for line in table.rows] == ["0.50", "4.00", "1.41"]
        assert table.rows[0][-2] == "50 Zennit"
        # Of Captum's default layout the mean of 2 and 8.
        assert table.rows[2][table.header.index(CAPTUM)] == "4.00"
        assert "not there" in str(_peers_report.details(found))

    def test_a_star_says_that_the_machine_was_not_idle(self):
        rows = {OURS: self.row([0.1] * 3, others=0.2), CAPTUM: self.row([0.1] * 3)}
        case = _peers_report.Comparison("pair, float32", "saliency", "saliency", "now", rows)
        cells = [line[2] for line in _peers_report.details([case]).rows]
        assert cells == ["100 *", "100"]

    def test_the_exponent_of_a_power_law(self):
        x = np.array([1.0, 2.0, 4.0, 8.0])
        curve = plots.Curve(OURS, x, 3 * x**1.5, x, x)
        assert _peers_report.exponents({"seconds over steps": [curve]}).rows[0][-1] == "1.50"

    def test_another_machine_is_refused(self, tmp_path):
        store = _peers_report.Store(tmp_path, {"processor": "one"})
        store.keep("tasks", ("a", 1), 2.0)
        assert _peers_report.Store(tmp_path, {"processor": "one"}).has("tasks", ("a", 1))
        with pytest.raises(ValueError, match="expected this machine"):
            _peers_report.Store(tmp_path, {"processor": "another"})


def test_ours_alone_is_measured_and_kept(tmp_path, capsys, monkeypatch):
    """Without PyTorch, and a second time without any process."""
    settings = peers.Settings(
        output=tmp_path / "run",
        networks=(peers.PAIR,),
        tasks=("saliency",),
        libraries=(OURS,),
        parts=("tasks",),
        threads=1,
        dtype=("float32", "bfloat16"),
        quick=True,
    )
    peers.main(settings)
    said = capsys.readouterr().out
    assert "saliency of 1 image" in said
    kept = json.loads((tmp_path / "run" / "measured.json").read_text())
    rows = kept["results"]["tasks"].values()
    assert [len(row[OURS]["seconds"]) for row in rows] == [2, 2]
    assert kept["machine"]["threads"] == 1
    for name in ("peers.md", "peers.png"):
        assert (tmp_path / "run" / name).stat().st_size
    monkeypatch.setattr(peers.Libraries, "get", lambda *_: pytest.fail("measured again"))
    peers.main(settings)
    assert json.loads((tmp_path / "run" / "measured.json").read_text()) == kept


def test_every_task_is_one_of_ours():
    assert {task.method for task in TASKS.values()} <= set(dir(_ours.Ours))


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("even", [True, False])
def test_the_networks_on_torch_are_the_same(depth, even, monkeypatch):
    torch = pytest.importorskip("torch", reason="the comparison needs the extra bench")
    monkeypatch.syspath_prepend(BENCHMARKS)
    networks = importlib.import_module("_torch_networks")
    stem = models.IMAGENET_STEM if depth == 50 else models.HALVING_STEM
    network = models.ResNet(
        depth, 5, width=4, stem=stem, even=even, mean=(0.4,) * 3, rngs=nnx.Rngs(0)
    )
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    theirs = networks.resnet(network.settings, _ours.weights(network)).float()
    expected = theirs(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    logits = jax.jit(jax.vmap(lambda image: network(image)))(images)
    assert_allclose(logits, expected, atol=1e-4 * abs(expected).max())


@pytest.fixture(scope="module")
def ours():
    return _ours.Ours(network=peers.PAIR, side=32, batch_size=4, dtype="float32", cores=1)


@pytest.mark.parametrize(
    ("library", "names"),
    [
        ("Captum", ("saliency-batch", "labels", "path", "grad-cam", "occlusion", "guided")),
        ("Captum", ("visualization", "pgd", "insertion")),
        ("PairSaliency", ("saliency", "path", "grad-cam")),
        ("Quantus", ("deletion",)),
        ("Zennit", ("guided",)),
        ("GradCam", ("grad-cam",)),
    ],
)
def test_tasks_on_torch_return_what_ours_do(ours, library, names, tmp_path):
    pytest.importorskip("captum", reason="the comparison needs the extra bench")
    settings = {"inputs": ours.inputs(), "batch_size": 4, "dtype": "float32"}
    settings |= {"device": "cpu", "threads": 1}
    source, environment = f"_torch_peers:{library}", {"PYTHONWARNINGS": "ignore"}
    try:
        peer = _turns.Library(source, settings, environment, tmp_path / "log", threads=1)
    except _turns.ProcessError as error:
        # Of these libraries each needs others, which may not suit the PyTorch that is installed.
        if library == "Captum":
            raise
        pytest.skip(str(error))
    for name in names:
        task = TASKS[name]
        *_, count = task.counts
        expected = peer.prepare(task.method, count).result
        result = ours.array(getattr(ours, task.method)(count)())
        # So few steps tell PAIR's rule, which has both ends, from midpoints; so small a map tells
        # how it continues beyond the outermost centres.
        looser = {"path": 0.5, "grad-cam": 0.2} if library == "PairSaliency" else {}
        assert peers.difference(task, result, expected) <= looser.get(name, task.tolerance), name
    peer.close()


def test_windows_reach_the_far_side():
    for side in (64, 224):
        window, stride = _tasks.windows(side, 8)
        assert -(-(side - window) // stride) + 1 == 8
