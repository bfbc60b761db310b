"""Grids: a loop over single calls, in one program; and that an interrupt costs nothing."""

import itertools
import json
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from saliency_jax import ascent, devices, scores
from saliency_jax._chunks import map_chunked
from saliency_jax.runs import sweep

OFFSET = np.float32(0.5)
AXES = {"b": np.arange(3, dtype=np.float32), "a": np.array([10.0, 20.0, 30.0], np.float32)}


def function(shared, *, a, b):
    return {"sum": shared + a + b, "pair": jnp.stack([a, a * b])}


def expected(offset=OFFSET, axes=AXES):
    points = [(a, b) for b, a in itertools.product(axes["b"], axes["a"])]
    shape = len(axes["b"]), len(axes["a"])
    return {
        "sum": np.array([offset + a + b for a, b in points]).reshape(shape),
        "pair": np.array([[a, a * b] for a, b in points]).reshape(*shape, 2),
    }


def check_equal(values, wanted):
    assert jax.tree.structure(values) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, values, wanted)


# On the two devices of the tests, or on one where points are no more.
@pytest.mark.parametrize("batch_size", [1, 4, 9, 100])
def test_a_sweep_is_the_loop_over_its_points_in_the_order_of_the_axes(batch_size):
    check_equal(sweep(function, AXES, shared=OFFSET, batch_size=batch_size), expected())


def test_one_compilation_whatever_the_number_of_points_and_none_for_other_numbers(compilations):
    def own(shared, *, a, b):
        return function(shared, a=a, b=b)

    with compilations.counted() as counted:
        sweep(own, AXES, shared=OFFSET, batch_size=2)
    assert counted.count == 1
    # Other weights; then another grid in chunks of the same size.
    with compilations.counted() as counted:
        sweep(own, AXES, shared=np.float32(7), batch_size=2)
        sweep(own, {"b": AXES["a"][:1], "a": AXES["b"][:2]}, shared=OFFSET, batch_size=2)
    assert counted.count == 0


def test_progress_begins_with_nothing_and_counts_every_point_once():
    heard = []
    sweep(function, AXES, shared=OFFSET, batch_size=4, progress=heard.append)
    # Of nine points three chunks, each of two points on each of two devices, the last filled up.
    assert heard == [0, 4, 4, 1]
    heard = []
    sweep(function, AXES, shared=OFFSET, batch_size=2, progress=heard.append)
    assert heard == [0, 2, 2, 2, 2, 1]


def test_a_chunk_is_shared_out_among_the_devices():
    def placed(shared, *, a):
        return a + shared, jax.lax.axis_index("points")

    # Bound to one device, as a computed array is; and the batch no multiple of their number.
    shared = jax.device_put(jnp.float32(1), jax.devices()[0])
    axes = {"a": np.arange(7, dtype=np.float32)}
    values, places = sweep(placed, axes, shared=shared, batch_size=5)
    np.testing.assert_array_equal(values, np.arange(1, 8))
    np.testing.assert_array_equal(places, [0, 0, 1, 1, 0, 0, 1])


def test_of_a_point_alone_what_is_done_in_chunks_is_shared_out():
    def of_samples(shared, *, a):
        return map_chunked(lambda sample: (a * sample, jax.lax.axis_index("points")), shared, 4)

    shared, axes = np.arange(4, dtype=np.float32), {"a": np.array([1, 10], np.float32)}
    values, places = sweep(of_samples, axes, shared=shared, batch_size=1)
    np.testing.assert_array_equal(values, [[0, 1, 2, 3], [0, 10, 20, 30]])
    np.testing.assert_array_equal(places, [[0, 0, 1, 1]] * 2)


def test_keys_that_were_made_on_a_mesh_are_welcome():
    def drawn(shared, *, key):
        return jax.random.uniform(key)

    keys = jax.random.split(jax.random.key(0), 3)
    expected = [jax.random.uniform(key) for key in keys]
    with jax.set_mesh(devices.mesh()):
        for batch_size in (1, 2):
            axes = {"key": jax.random.split(jax.random.key(0), 3)}
            found = sweep(drawn, axes, batch_size=batch_size)
            np.testing.assert_array_equal(found, expected)


def test_nothing_to_share_out_leaves_a_point_to_one_device(capfd):
    def told(shared, *, a):
        jax.debug.print("{}", a)
        return a

    sweep(told, {"a": np.array([7.0], np.float32)}, batch_size=1)
    assert capfd.readouterr().out == "7.0\n"


def test_a_folder_made_on_other_devices_is_refused(tmp_path):
    sweep(function, AXES, shared=OFFSET, batch_size=2, folder=tmp_path)
    with (
        jax.set_mesh(devices.mesh(1)),
        pytest.raises(ValueError, match="with another number of devices"),
    ):
        sweep(function, AXES, shared=OFFSET, batch_size=2, folder=tmp_path)


def test_an_axis_may_hold_values_that_go_together_images_and_random_keys():
    images = np.random.default_rng(0).random((2, 3, 3, 1)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 3)
    both = {"image": images, "scale": np.array([1.0, -1.0], np.float32)}

    def noisy(shared, *, start, key):
        return start["image"] * start["scale"] + jax.random.normal(key)

    values = sweep(noisy, {"start": both, "key": keys}, batch_size=4)
    wanted = [
        [image * scale + np.asarray(jax.random.normal(key)) for key in keys]
        for image, scale in zip(images, both["scale"], strict=True)
    ]
    np.testing.assert_allclose(values, wanted, atol=1e-6)


def test_a_grid_of_classes_rates_and_weights_is_the_loop_over_ascents():
    weights = jnp.linspace(-1, 1, 12).reshape(3, 4)
    model = jax.tree_util.Partial(lambda w, image: jnp.tanh(image.mean((0, 1))) @ w, weights)

    def visualize(model, *, label, rate, weight):
        optimizer = optax.sgd(rate, momentum=0.5)
        state = ascent.initial_state(jnp.zeros((2, 3, 3)), optimizer, jax.random.key(0))
        score, prior = scores.logit(model, label), ascent.l2(weight)
        made = ascent.ascend(score, state, optimizer, 3, prior=prior, snapshots=[1, 3])
        return jax.nn.softmax(jax.vmap(model)(made.snapshots))

    axes = {
        "label": np.arange(4),
        "rate": np.array([0.1, 1.0], np.float32),
        "weight": np.array([0.0, 0.01, 0.1], np.float32),
    }
    values = sweep(visualize, axes, shared=model, batch_size=5)
    assert values.shape == (4, 2, 3, 2, 4)
    single = jax.jit(visualize)
    for i, j, k in ((0, 0, 0), (2, 1, 1), (3, 1, 2)):
        point = {name: axis[n] for (name, axis), n in zip(axes.items(), (i, j, k), strict=True)}
        np.testing.assert_allclose(values[i, j, k], single(model, **point), rtol=1e-5)


class Interrupt:
    """Progress that is cut off when so many points are finished."""

    def __init__(self, after):
        self.left = after

    def __call__(self, points):
        self.left -= points
        if self.left <= 0:
            raise KeyboardInterrupt


def interrupted(folder, **changes):
    arguments = {"shared": OFFSET, "batch_size": 2, "folder": folder, **changes}
    with pytest.raises(KeyboardInterrupt):
        sweep(function, AXES, **arguments, progress=Interrupt(4))


def test_an_interrupted_sweep_continues_and_ends_like_one_that_was_not(tmp_path, compilations):
    folder = tmp_path / "a" / "sweep"
    interrupted(folder)
    done = {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    assert len(done) == 2
    # What a kill in the middle of writing leaves.
    (folder / "000002.npz.partial").write_bytes(b"half a chu")
    heard = []
    values = sweep(
        function, AXES, shared=OFFSET, batch_size=2, folder=folder, progress=heard.append
    )
    check_equal(values, sweep(function, AXES, shared=OFFSET, batch_size=2))
    assert heard == [2, 2, 0, 2, 2, 1]
    assert {path: path.stat().st_mtime_ns for path in done} == done
    # A finished one is read.
    with compilations.counted() as counted:
        again = sweep(function, AXES, shared=OFFSET, batch_size=2, folder=folder)
    assert counted.count == 0
    check_equal(again, values)


def test_types_that_numpy_does_not_know_survive_the_folder(tmp_path):
    def halved(shared, *, a):
        return a.astype(jnp.bfloat16) / 2, a > 15

    axes = {"a": AXES["a"]}
    sweep(halved, axes, batch_size=2, folder=tmp_path)
    half, above = sweep(halved, axes, batch_size=2, folder=tmp_path)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half.astype(np.float32), [5, 10, 15])
    np.testing.assert_array_equal(above, [False, True, True])


def other_function(shared, *, a, b):
    return {"sum": shared - a + b, "pair": jnp.stack([a, a * b])}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"axes": AXES | {"a": AXES["a"] + 1}}, "axes"),
        ({"axes": {"a": AXES["a"], "b": AXES["b"]}}, "axes"),
        ({"batch_size": 3}, "batch_size"),
        ({"shared": np.float32(0.75)}, "shared values"),
        ({"function": other_function}, "function"),
    ],
)
def test_a_folder_of_another_sweep_is_refused_and_left(tmp_path, changes, what):
    folder = tmp_path / "sweep"
    interrupted(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    arguments = {"function": function, "axes": AXES, "shared": OFFSET, "batch_size": 2} | changes
    function_, axes = arguments.pop("function"), arguments.pop("axes")
    with pytest.raises(ValueError, match=f"expected .* with another {what}; choose") as raised:
        sweep(function_, axes, **arguments, folder=folder)
    assert "\n" not in str(raised.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_that_is_no_sweep_and_a_damaged_chunk_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="to be empty or a sweep's, got another folder"):
        sweep(function, AXES, shared=OFFSET, batch_size=2, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    folder = tmp_path / "sweep"
    interrupted(folder)
    chunk = folder / "000001.npz"
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"000001\.npz to be a chunk of this sweep, got a damaged"):
        sweep(function, AXES, shared=OFFSET, batch_size=2, folder=folder)


def test_the_folder_says_whose_it_is(tmp_path):
    interrupted(tmp_path)
    description = json.loads((tmp_path / "sweep.json").read_text())
    assert description["axes"].startswith("{'b': 3, 'a': 3}")
    assert description["batch_size"] == 2


class Unhashable:
    __hash__ = None

    def __call__(self, shared, *, a):
        return a


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"function": 3}, TypeError, "function to be callable, got int"),
        ({"function": Unhashable()}, TypeError, "function to be hashable, with its arrays in"),
        ({"axes": {}}, ValueError, "at least one axis, got none"),
        ({"axes": {"a": [1.0, 2.0]}}, TypeError, "axis 'a' to be an array .* got one with float"),
        ({"axes": {"a": np.ones(())}}, ValueError, r"axis 'a' .* got shapes \[\(\)\]"),
        ({"axes": {"a": np.ones(0)}}, ValueError, r"at least 1, got shapes \[\(0,\)\]"),
        ({"axes": {"a": np.array(["b"])}}, TypeError, "axis 'a' to hold numbers, got <U1"),
        ({"axes": {"a": {}}}, ValueError, r"got shapes \[\]"),
        ({"axes": {"a": (np.ones(2), np.ones(3))}}, ValueError, r"got shapes \[\(2,\), \(3,\)\]"),
        ({"batch_size": 0}, ValueError, "batch_size to be at least 1, got 0"),
        ({"batch_size": 2.0}, TypeError, "batch_size to be an integer, got 2.0"),
        (
            {"function": lambda shared, a: jax.random.key(1)},
            TypeError,
            "to return arrays of numbers, got random keys",
        ),
    ],
)
def test_mistakes_are_named_at_once(arguments, error, message):
    defaults = {"function": lambda shared, a: a, "axes": {"a": np.ones(2)}, "batch_size": 2}
    given = defaults | arguments
    with pytest.raises(error, match=message):
        sweep(given.pop("function"), given.pop("axes"), **given)


def test_axes_and_shared_arrays_of_any_byte_order_and_precision_are_welcome():
    axes = {"b": AXES["b"].astype(">f4"), "a": AXES["a"].astype(np.longdouble)}
    values = sweep(function, axes, shared=OFFSET.astype(">f8")[None], batch_size=4)
    np.testing.assert_array_equal(values["sum"][..., 0], expected()["sum"])


SCRIPT = """
import os, signal, sys
import jax.numpy as jnp
import numpy as np
from saliency_jax.runs import sweep

left = int(sys.argv[2])

def progress(points):
    global left
    left -= points > 0
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def square(shared, *, a):
    return {"half": (a * shared).astype(jnp.bfloat16), "square": a**2}

axes = {"a": np.arange(6, dtype=np.float32)}
shared = np.float32(0.5)
values = sweep(square, axes, shared=shared, batch_size=1, folder=sys.argv[1], progress=progress)
np.save(sys.argv[1] + ".npy", np.stack([values["half"].astype(np.float32), values["square"]]))
"""


def test_a_sweep_killed_at_any_chunk_is_continued_by_another_process(tmp_path):
    folder = tmp_path / "sweep"

    def run(chunks: int) -> int:
        command = [sys.executable, "-c", SCRIPT, str(folder), str(chunks)]
        return subprocess.run(command, check=False).returncode

    assert run(2) == -signal.SIGKILL
    # Of what a kill in the middle of writing leaves.
    room = folder / ".000002.npz.0123abcd.partial"
    room.mkdir()
    (room / "000002.npz").write_bytes(b"half a chu")
    done = {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    assert len(done) == 2
    assert run(-1) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert not room.exists()
    numbers = np.arange(6)
    np.testing.assert_array_equal(np.load(f"{folder}.npy"), [numbers / 2, numbers**2])


def test_a_second_sweep_into_the_folder_is_refused_while_the_first_is_at_work(tmp_path):
    def meanwhile(points):
        with pytest.raises(BlockingIOError, match=r"no other process at work in .*sweep"):
            sweep(function, AXES, shared=OFFSET, batch_size=4, folder=tmp_path / "sweep")

    arguments = {"shared": OFFSET, "batch_size": 4, "folder": tmp_path / "sweep"}
    values = sweep(function, AXES, **arguments, progress=meanwhile)
    check_equal(values, sweep(function, AXES, **arguments))
