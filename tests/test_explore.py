"""The explorer: what its server answers, to whom, and what its page makes of it in a browser."""

import base64
import concurrent.futures
import contextlib
import dataclasses
import functools
import http.client
import importlib
import io
import json
import re
import socket
import struct
import sys
import threading
import time
import types
import urllib.parse
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from flax import nnx
from PIL import Image
from small_classifiers import CLASS_NAMES, SIDE, classifier, give_biases, saved

pytest.importorskip("uvicorn", reason="the extra app is not installed")
pytest.importorskip("starlette", reason="the extra app is not installed")
from browser import PHONE, check, opened, page_at, screenshot

from saliency_jax import attribution, models, scores
from saliency_jax.runs import plots

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
USERS = 20
# One for every way in which an argument is made and written.
METHODS = (
    "saliency",
    "integrated_gradients",
    "expected_gradients",
    "blur_integrated_gradients",
    "grad_cam",
    "lrp_epsilon_gamma_box",
    "xrai",
    "occlusion",
    "rise",
    "kernel_shap",
)


@pytest.fixture(scope="module")
def explore():
    sys.path.insert(0, str(EXPERIMENTS))
    yield importlib.import_module("explore")
    sys.path.remove(str(EXPERIMENTS))


@pytest.fixture(scope="module")
def lab(explore):
    return importlib.import_module("lab.explorer")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two small models, one of ImageNet's kind of size, and one that knows other classes."""
    names = ("zebra", *CLASS_NAMES)
    return saved(
        tmp_path_factory.mktemp("models"),
        resnet(0, name="first"),
        resnet(1, names, name="second"),
        resnet(2, name="large", side=128),
    )


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    """A folder as a run of `unit_examples.py` leaves it, with two examples of channels 1 and 3."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.json").write_text(json.dumps({"settings": {"layer": "stage 2"}}))
    np.savez(
        folder / "units-first.npz",
        channels=np.array([1, 3]),
        peaks=np.arange(8.0).reshape(4, 2),
        crops=np.stack([[noise(10 * one + two, (8, 9, 3)) for two in range(2)] for one in (1, 3)]),
        crop_sides=np.array([[[8, 9], [5, 9]], [[8, 6], [8, 9]]]),
        crop_classes=np.array([["goose", "lemon"], ["goose", "<b>"]]),
    )
    return folder


def resnet(seed, names=CLASS_NAMES, *, name, side=SIDE):
    """A network whose last map is that of a stage, and which has learnt nothing."""
    one = classifier(seed, names, name=name, side=side)
    colors = {"mean": one.input.mean, "std": one.input.std}
    network = models.ResNet(
        18, len(names), width=4, stem=models.HALVING_STEM, **colors, rngs=nnx.Rngs(seed)
    )
    give_biases(network, seed)
    return dataclasses.replace(one, network=network)


@contextlib.contextmanager
def serving(explore, explorer, host="127.0.0.1", exciting=()):
    """The page's server, at a free port."""
    page = explore.Page(explorer, dict(exciting), is_warmed=False)
    listener = explore.listening(host, 0)
    port = listener.getsockname()[1]
    server = explore.server(page.app(host))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield types.SimpleNamespace(
            address=f"http://{host}:{port}/", host=host, port=port, page=page, explorer=explorer
        )
    finally:
        server.should_exit = True
        thread.join(60)
        listener.close()
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def served(explore, lab, folders, units):
    with serving(explore, lab.Explorer(folders), exciting=lab.exciting([units])) as it:
        yield it


def request(served, path, values=None, *, method="GET", body=None, headers=None):
    """The status, the headers and the content of an answer."""
    connection = http.client.HTTPConnection(served.host, served.port, timeout=120)
    query = f"?{urllib.parse.urlencode(values)}" if values else ""
    connection.request(method, f"/{path}{query}", body, headers or {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.headers["content-type"] == "application/json":
        content = json.loads(content)
    return answer.status, answer.headers, content


def asked(served, path, **values):
    status, _, content = request(served, path, values)
    assert status == 200, content
    return content


def noise(seed, shape=(30, 20, 3)):
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def sent(served, content, name="a photograph.png"):
    answer = request(served, "photographs", {"name": name}, method="POST", body=content)
    assert answer[0] == 200, answer
    return answer[2]["photograph"]


def shown(address):
    """The pixels of a picture's address."""
    start, content = address.split(",")
    assert start == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def bytes_of(picture):
    return np.rint(picture.pixels * 255).astype(np.uint8)


def check_alike(first, second):
    """Compiled apart they may be rounded apart."""
    assert first.shape == second.shape
    assert np.abs(first.astype(int) - second).max() <= 1


@functools.cache
def loaded(folder):
    return models.for_inference(models.load(folder))


saliency = jax.jit(attribution.saliency)


class TestMaps:
    def test_a_map_is_the_librarys(self, served, folders):
        pixels, one = noise(0), loaded(folders[0])
        photograph = sent(served, png(pixels))
        answer = asked(
            served, "map", photograph=photograph, model="first", method="saliency", label="lemon"
        )
        image = one.preprocess(pixels)
        label = one.label("lemon")
        wanted = plots.saliency_map(saliency(scores.logit(one.network, label), image))
        check_alike(shown(answer["pictures"]["map"]), bytes_of(wanted))
        np.testing.assert_array_equal(
            shown(answer["pictures"]["original"]), bytes_of(plots.image(image))
        )
        probabilities = np.asarray(jax.nn.softmax(small_models.answer(one.network, image)))
        assert answer["explained"] == f"lemon {plots.percent(probabilities[label])}"
        order = np.argsort(-probabilities)[:5]
        assert [name for name, _, _ in answer["top"]] == [CLASS_NAMES[n] for n in order]
        np.testing.assert_allclose([part for _, part, _ in answer["top"]], probabilities[order])
        assert (answer["width"], answer["height"]) == (SIDE, SIDE)

    def test_without_a_class_the_likeliest_is_explained(self, served, folders):
        photograph = sent(served, png(noise(1)))
        ask = functools.partial(
            asked, served, "map", photograph=photograph, model="first", method="saliency"
        )
        answer = ask()
        assert answer["label"] == answer["top"][0][0]
        assert ask(label=answer["label"])["pictures"] == answer["pictures"]

    def test_classes_and_scales_compile_nothing(self, served, compilations):
        photograph = sent(served, png(noise(2)))
        ask = functools.partial(
            asked, served, "map", photograph=photograph, model="first", method="saliency"
        )
        maps = [ask(label="lemon")]
        with compilations.counted():
            maps += [ask(label="banana"), ask(label="7"), ask(label="lemon", scale=0.3)]
            other = sent(served, png(noise(3)))
            maps.append(asked(served, "map", photograph=other, model="first", method="saliency"))
        assert compilations.count == 0
        assert len({each["pictures"]["map"] for each in maps}) == len(maps)

    def test_a_layer_and_steps_are_the_ones_that_were_asked_for(self, served):
        ask = functools.partial(asked, served, "map", photograph="cat", model="first")
        layers = [ask(method="grad_cam", layer=f"stage {n}") for n in (2, 4)]
        assert layers[0]["pictures"]["map"] != layers[1]["pictures"]["map"]
        assert layers[1]["pictures"] == ask(method="grad_cam")["pictures"]
        assert "score.model.layer('stage 2')" in layers[0]["code"]
        assert "steps=8\n" in ask(method="integrated_gradients", steps=8)["code"]

    def test_a_class_is_found_by_each_models_numbers(self, served):
        values = {"photograph": "cat", "method": "saliency", "label": "lemon"}
        for name, label in (("first", 4), ("second", 5)):
            answer = asked(served, "map", model=name, **values)
            by_number = asked(served, "map", model=name, **{**values, "label": str(label)})
            assert answer["pictures"] == by_number["pictures"]

    def test_the_channels_that_a_photograph_excites(self, served, folders):
        found = asked(served, "channels", photograph="cat", model="first", layer="stage 3")
        one = loaded(folders[0])
        image = jnp.asarray(one.preprocess(importlib.import_module("skimage.data").chelsea()))
        means = np.asarray(one.network.layer("stage 3").map(image)).mean((0, 1))
        np.testing.assert_allclose(means[found["channels"]], np.sort(means)[::-1][:5], rtol=1e-5)

    def test_what_excites_a_channel_is_the_runs(self, served):
        ask = functools.partial(asked, served, model="first", layer="stage 2")
        assert ask("channels", photograph="cat")["exampled"] == [1, 3]
        first, second = ask("examples", channel=3)["examples"]
        assert (first["name"], first["note"]) == ("goose", "6.00")
        assert (second["name"], second["note"], second["width"]) == ("<b>", "7.00", 9)
        np.testing.assert_array_equal(shown(first["pictures"]["crop"]), noise(30, (8, 9, 3))[:, :6])
        # Of no other channel, layer or model.
        others = ({"channel": 2}, {"layer": "stage 3"}, {"model": "second"})
        assert all(ask("examples", **{"channel": 1, **one})["examples"] == [] for one in others)

    def test_a_folder_without_examples_is_refused(self, explore, folders, tmp_path, capsys):
        with pytest.raises(SystemExit) as end:
            explore.from_command_line(
                ["--units", str(tmp_path), "--port", "0", "--model", folders[0]]
            )
        assert end.value.code == 2
        assert "expected --units with a run of unit_examples.py, got" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"model": "third"}, "expected a model of first, second, large"),
            ({"model": "../../etc"}, "expected a model of first"),
            ({"method": "magic"}, "expected a method of saliency"),
            ({"label": "limon"}, "expected a class of first, got 'limon'"),
            ({"label": "20"}, "expected a label in 0 .. 19"),
            ({"scale": "0"}, "expected a scale above 0"),
            ({"scale": "nan"}, "expected a scale above 0"),
            ({"scale": "much"}, "expected scale to be a number, got 'much'"),
            ({"method": "grad_cam", "layer": "stage 9"}, "expected a layer of first with a map"),
            ({"method": "integrated_gradients", "steps": "7"}, "expected steps of 8, 16, 32"),
            ({"method": "attention_rollout"}, "expected a model that lays its attention open"),
            ({"method": ""}, "expected method, got none"),
        ],
    )
    def test_what_cannot_be_made_is_one_line(self, served, values, message):
        usual = {"photograph": "cat", "model": "first", "method": "saliency"}
        status, headers, answer = request(served, "map", usual | values)
        assert (status, headers["content-type"]) == (400, "application/json")
        assert message in answer["error"]
        assert "\n" not in answer["error"]


def one_users(served, number):
    photograph = sent(served, png(noise(number)))
    return asked(
        served,
        "map",
        photograph=photograph,
        model="first",
        method="saliency",
        label=str(number % len(CLASS_NAMES)),
    )


def test_twenty_users_get_each_their_own(served, folders):
    with concurrent.futures.ThreadPoolExecutor(USERS) as pool:
        answers = [*pool.map(functools.partial(one_users, served), range(USERS))]
    one = loaded(folders[0])
    for number, answer in enumerate(answers):
        score = scores.logit(one.network, number % len(CLASS_NAMES))
        wanted = plots.saliency_map(saliency(score, one.preprocess(noise(number))))
        check_alike(shown(answer["pictures"]["map"]), bytes_of(wanted))
        assert answer["label"] == CLASS_NAMES[number % len(CLASS_NAMES)]


class TestPhotographs:
    @staticmethod
    def sized(width, height):
        """A PNG that says it is so large, and holds nothing."""
        head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        parts = (head, b"IDAT" + zlib.compress(b""), b"IEND")
        chunks = [
            struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
            for part in parts
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)

    @pytest.mark.parametrize(
        ("content", "status", "message"),
        [
            pytest.param(b"some text", 415, "got a file that is none", id="text"),
            pytest.param(b"", 415, "got a file that is none", id="nothing"),
            pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "got a file that is none", id="eps"),
            pytest.param(png(noise(0))[:600], 415, "expected an image file", id="truncated"),
            pytest.param((60_000, 60_000), 413, "at most 50,000,000 pixels", id="bomb"),
            pytest.param((10_000, 10_000), 413, "at most 50,000,000 pixels", id="warned of"),
            pytest.param((8_000, 8_000), 413, "at most 50,000,000 pixels", id="large"),
            pytest.param(b"\0" * 50_000_000, 413, "at most 20 MB", id="50 MB"),
        ],
    )
    def test_what_is_no_photograph_is_refused(self, served, content, status, message):
        content = self.sized(*content) if isinstance(content, tuple) else content
        answer = request(served, "photographs", method="POST", body=content)
        assert answer[0] == status
        assert message in answer[2]["error"]
        assert "\n" not in answer[2]["error"]

    def test_one_that_claims_to_be_endless_is_not_read(self, served):
        headers = {"Content-Length": str(10**12)}
        status, _, answer = request(served, "photographs", method="POST", headers=headers)
        assert status == 413
        assert "at most 20 MB" in answer["error"]

    def test_the_oldest_are_let_go(self, explore, lab, monkeypatch):
        monkeypatch.setattr(explore, "KEPT_BYTES", 250)
        kept = explore.Photographs()
        names = [kept.add(lab.Photograph(bytes(100), "'a'")) for _ in range(2)]
        assert kept[names[0]].num_bytes == 100
        names.append(kept.add(lab.Photograph(bytes(100), "'a'")))
        # The one that was used longest ago.
        with pytest.raises(explore.HTTPException) as gone:
            kept[names[1]]
        assert gone.value.status_code == 404
        assert kept["cat"].written == "skimage.data.chelsea()"
        assert kept[names[0]].num_bytes == kept[names[2]].num_bytes == 100

    def test_one_that_is_unknown_is_not_found(self, served):
        values = {"photograph": "of another", "model": "first", "method": "saliency"}
        status, _, answer = request(served, "map", values)
        assert status == 404
        assert answer["error"] == "the photograph is no longer here: drop it again"


class TestForeigners:
    @pytest.mark.parametrize(
        ("headers", "path", "status"),
        [
            ({"Host": "evil.example"}, "", 403),
            ({"Host": "evil.example"}, "map", 403),
            ({"Host": "127.0.0.1.evil.example:80"}, "", 403),
            ({"Host": "192.168.0.1"}, "", 403),
            ({"Host": "localhost:1"}, "", 200),
            ({"Host": "[::1]:1"}, "", 200),
            ({"Host": "[::1"}, "", 403),
            ({"Origin": "http://evil.example"}, "channels", 403),
            ({"Origin": "null"}, "channels", 403),
            ({"Sec-Fetch-Site": "cross-site"}, "channels", 403),
            # Another port of this machine is another page.
            ({"Sec-Fetch-Site": "same-site"}, "channels", 403),
            ({"Sec-Fetch-Site": "same-origin"}, "channels", 400),
            # A link to the page itself.
            ({"Sec-Fetch-Site": "cross-site"}, "", 200),
        ],
    )
    def test_only_its_own_page_is_answered(self, served, headers, path, status):
        found, answered, _ = request(served, path, headers=headers)
        assert found == status
        assert "script-src 'self'" in answered["content-security-policy"]

    def test_a_photograph_is_not_taken_from_another_page(self, served):
        headers = {"Origin": "http://localhost:3000", "Content-Type": "text/plain"}
        answer = request(served, "photographs", method="POST", body=png(noise(0)), headers=headers)
        assert answer[0] == 403

    def test_of_a_network_addresses_and_the_machines_name_lead_here(self, explore):
        guard = explore.OnlyFromItself(None, "0.0.0.0")
        own = socket.gethostname()
        known = {"192.168.0.7:8000": True, "[fe80::1]:8000": True, own: True, "a.example": False}
        for host, is_known in known.items():
            assert (guard._refusal("/", explore.Headers({"host": host})) == "") == is_known

    @pytest.mark.parametrize("path", ["..%2f..%2fetc/passwd", "style.css/../../explore.py", "x"])
    def test_there_are_no_files(self, served, path):
        assert request(served, path)[0] == 404

    def test_names_are_texts(self, served):
        evil = "<script>'\"\n"
        usual = {"photograph": "cat", "model": "first", "method": "saliency"}
        status, headers, answer = request(served, "map", usual | {"label": evil})
        assert (status, headers["x-content-type-options"]) == (400, "nosniff")
        assert headers["content-type"] == "application/json"
        photograph = sent(served, png(noise(0)), f"../{evil}.png")
        code = asked(served, "map", **usual | {"photograph": photograph})["code"]
        (written,) = re.findall(r"preprocess\((.*)\)", code)
        assert eval(written) == f"{evil}.png"
        assert answer["error"].count("\n") == 0

    def test_it_listens_to_this_machine_alone(self, explore, served):
        assert explore.Settings().host == "127.0.0.1"
        if sys.platform == "linux":
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", served.port), timeout=5)

    def test_a_port_in_use_is_one_line(self, explore, served, folders, capsys):
        with pytest.raises(SystemExit) as end:
            explore.from_command_line(["--port", str(served.port), "--model", folders[0]])
        assert end.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"expected a free --port at --host 127.0.0.1, got {served.port}" in error


def opened_growth(served, **values):
    """A connection on which a picture grows."""
    connection = http.client.HTTPConnection(served.host, served.port, timeout=60)
    connection.request("GET", f"/growth?{urllib.parse.urlencode(values)}")
    answer = connection.getresponse()
    assert answer.status == 200
    return connection, answer


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


class TestGrowth:
    def test_a_picture_is_seen_while_it_grows(self, served):
        connection, answer = opened_growth(served, model="first", label="lemon", steps=48)
        lines = [json.loads(line) for line in answer.read().splitlines()]
        connection.close()
        assert [line["step"] for line in lines] == list(range(4, 49, 4))
        assert len({line["pictures"]["picture"] for line in lines}) == len(lines)
        assert [bool(line["code"]) for line in lines] == [False] * 11 + [True]
        assert served.page.growing == 0

    def test_when_the_page_is_closed_its_work_ends(self, served, lab, monkeypatch):
        steps, made = 120_000, []
        monkeypatch.setattr(lab, "STEPS", (steps,))
        advance = lab.Growth.advance
        monkeypatch.setattr(lab.Growth, "advance", lambda self: made.append(0) or advance(self))
        connection, answer = opened_growth(served, model="first", label="lemon", steps=steps)
        answer.readline()
        assert served.page.growing == 1
        answer.close()
        connection.close()
        wait_for(lambda: served.page.growing == 0)
        count = len(made)
        time.sleep(0.3)
        assert len(made) == count < steps // 4

    def test_a_map_that_nobody_waits_for_is_not_made(self, served, monkeypatch):
        asked(served, "map", photograph="cat", model="first", method="saliency")
        explain, begun, going_on = served.explorer.explain, threading.Event(), threading.Event()
        labels = []

        def slow(name, photograph, wanted, label="", scale=1.0):
            labels.append(label)
            begun.set()
            going_on.wait(30)
            return explain(name, photograph, wanted, label, scale)

        monkeypatch.setattr(served.explorer, "explain", slow)
        values = {"photograph": "cat", "model": "first", "method": "saliency"}
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            first = pool.submit(asked, served, "map", **values, label="1")
            begun.wait(30)
            left = socket.create_connection((served.host, served.port))
            query = urllib.parse.urlencode({**values, "label": "2"})
            left.sendall(f"GET /map?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            wait_for(lambda: served.page._quick._waiting == 2)
            last = pool.submit(asked, served, "map", **values, label="3")
            wait_for(lambda: served.page._quick._waiting == 3)
            left.close()
            time.sleep(0.1)
            going_on.set()
            assert first.result()["label"] == CLASS_NAMES[1]
            assert last.result()["label"] == CLASS_NAMES[3]
        assert labels == ["1", "3"]

    def test_not_everyone_can_wait(self, explore, served, monkeypatch):
        asked(served, "map", photograph="cat", model="first", method="saliency")
        monkeypatch.setattr(explore, "MOST_WAITING", 0)
        values = {"photograph": "cat", "model": "first", "method": "saliency"}
        status, headers, answer = request(served, "map", values)
        assert (status, headers["retry-after"]) == (503, "2")
        assert answer["error"] == "too many wait: try again in a moment"
        monkeypatch.setattr(explore, "MOST_GROWING", 0)
        values = {"model": "first", "label": "lemon"}
        status, _, answer = request(served, "growth", values)
        assert status == 503
        assert "too many pictures grow" in answer["error"]

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"label": "limon"}, "expected a class of first, got 'limon'"),
            ({"label": "lemon", "steps": 5}, "expected steps of 48, 96"),
            ({"layer": "stage 3", "channel": 10**6}, "expected a channel of stage 3 in 0 .. "),
            ({"layer": "logits"}, "expected a layer of first with a map"),
            ({"label": "lemon", "seed": -1}, "expected a seed in 0"),
        ],
    )
    def test_what_cannot_grow_is_one_line(self, served, values, message):
        status, _, answer = request(served, "growth", {"model": "first"} | values)
        assert status == 400
        assert message in answer["error"]


def run(code, folder, monkeypatch):
    """The picture that the lines of Python save."""
    monkeypatch.chdir(folder)
    exec(compile(code, "lines.py", "exec"), {"__name__": "lines"})
    return np.asarray(Image.open(folder / "picture.png"))


class TestLines:
    @pytest.mark.parametrize("method", METHODS)
    def test_they_make_the_same_map(self, served, lab, folders, method, tmp_path, monkeypatch):
        pixels, name = noise(5), "it's a.png"
        Image.fromarray(pixels).save(tmp_path / name)
        photograph = sent(served, png(pixels), name)
        _, choices = lab.setting(method)
        answer = asked(
            served,
            "map",
            photograph=photograph,
            model="first",
            method=method,
            label="lemon",
            scale=0.7,
            layer="stage 2",
            steps=min(choices, default=0),
        )
        # But for the folder, which may be anywhere.
        written = answer["code"].replace(str(folders[0]), "first")
        assert max(map(len, written.splitlines())) <= 100
        made = run(answer["code"], tmp_path, monkeypatch)
        check_alike(made, shown(answer["pictures"]["map"]))
        assert made.std() > 1

    def test_a_channel_may_have_a_number_beyond_the_classes(self, served, lab):
        known, number = served.explorer.known("first"), len(CLASS_NAMES)
        aim = lab.Aim(number, "stage 2")
        code = lab.lines_of_growth(known, aim, lab.sizes(known, 48), 0)
        assert f"scores.channel(classifier.network.layer('stage 2'), {number})" in code

    @pytest.mark.parametrize(
        "values",
        [
            {"model": "first", "label": "lemon", "seed": 3},
            {"model": "first", "layer": "stage 2", "channel": 1},
            {"model": "large", "label": "lemon"},
        ],
    )
    def test_they_grow_the_same_picture(self, served, values, tmp_path, monkeypatch):
        connection, answer = opened_growth(served, **values, steps=48)
        line = json.loads(answer.read().splitlines()[-1])
        connection.close()
        made = run(line["code"], tmp_path, monkeypatch)
        check_alike(made, shown(line["pictures"]["picture"]))
        assert made.std() > 1


@pytest.fixture(scope="module")
def browser():
    with opened() as found:
        yield found


def settled(page):
    """Waits for the answers to what was asked for last."""
    page.wait_for_function(
        "() => /^after/.test(document.getElementById('status').textContent) && "
        "!document.querySelector('[aria-busy=true]')",
        timeout=60_000,
    )


def picture_of(page, number):
    return page.locator("#maps figure").nth(number).locator("img")


def pixels_of(locator):
    """A picture as it is on the screen, each of its pixels once."""
    zoom = round(locator.bounding_box()["width"]) // SIDE
    return screenshot(locator)[zoom // 2 :: zoom, zoom // 2 :: zoom]


DEVICES = [
    pytest.param({**device, "color_scheme": scheme}, id=f"{name}, {scheme}")
    for name, device in (("desktop", {}), ("phone", PHONE))
    for scheme in ("light", "dark")
]


class TestPage:
    @pytest.mark.parametrize("device", DEVICES)
    def test_it_can_be_read_by_all(self, browser, served, device):
        with page_at(browser, served.address, **device) as page:
            settled(page)
            page.get_by_label("Model 3").select_option("")
            settled(page)
            for summary in page.locator("summary:visible").all():
                summary.click()
            page.get_by_role("radio", name="a channel").check()
            check(page)
            dark = device["color_scheme"] == "dark"
            page.get_by_role("button", name="Light" if dark else "Dark").click()
            check(page)

    def test_the_maps_follow_the_controls(self, browser, served, folders, tmp_path):
        pixels, one = noise(8), loaded(folders[0])
        Image.fromarray(pixels).save(tmp_path / "mine.png")
        image = one.preprocess(pixels)
        with page_at(browser, served.address, "status of 400 (Bad Request)") as page:
            page.get_by_label("Model 3").select_option("")
            page.get_by_label("Drop a photograph").set_input_files(tmp_path / "mine.png")
            page.get_by_text("Photograph: mine.png").wait_for()
            settled(page)

            def is_saliency(label, scale=1.0):
                settled(page)
                score = scores.logit(one.network, one.label(label))
                wanted = plots.saliency_map(saliency(score, np.float32(scale) * image))
                check_alike(pixels_of(picture_of(page, 0)), bytes_of(wanted))

            # By a part of its name.
            box = page.get_by_label("Class", exact=True)
            box.fill("penguin")
            box.press("Enter")
            assert box.input_value() == "king penguin"
            is_saliency("king penguin")
            page.locator("#maps figure").first.locator(".bars button").nth(1).click()
            is_saliency(box.input_value())
            slider = page.get_by_label("Input times")
            slider.press("ArrowLeft")
            assert slider.get_attribute("aria-valuetext") == "0.7"
            page.wait_for_timeout(100)
            is_saliency(box.input_value(), 0.7)
            page.get_by_label("original").check()
            check_alike(
                pixels_of(picture_of(page, 0)), bytes_of(plots.image(np.float32(0.7) * image))
            )
            alt = picture_of(page, 0).get_attribute("alt")
            assert alt == "first, mine.png"
            page.get_by_label("map", exact=True).check()
            before = picture_of(page, 0).get_attribute("src")
            page.get_by_label("Method").select_option("grad_cam")
            settled(page)
            assert picture_of(page, 0).get_attribute("src") != before
            assert page.locator("#maps figure:visible").count() == 2
            # Another model knows a class that the first one does not.
            box.fill("zebra")
            box.press("Enter")
            settled(page)
            first, second = page.locator("#maps figure").all()[:2]
            assert "expected a class of first, got 'zebra'" in first.inner_text()
            assert "zebra" in second.locator("figcaption").inner_text()

    def test_the_picture_and_its_lines_are_saved(self, browser, served, tmp_path, monkeypatch):
        with page_at(browser, served.address) as page:
            settled(page)
            with page.expect_download() as saved_picture:
                page.locator("#maps .save").first.click()
            page.locator("summary:visible").first.click()
            with page.expect_download() as saved_lines:
                page.locator("#codes .save").first.click()
            picture, lines = saved_picture.value, saved_lines.value
            assert re.fullmatch(r"first-saliency-[\w.-]+\.png", picture.suggested_filename)
            assert lines.suggested_filename == "first-saliency.py"
            wanted = np.asarray(Image.open(picture.path()))
            code = Path(lines.path()).read_text()
        check_alike(run(code, tmp_path, monkeypatch), wanted)

    def test_what_is_no_photograph_is_said_in_the_page(self, browser, served, tmp_path):
        large = tmp_path / "large.png"
        large.write_bytes(bytes(21_000_000))
        with page_at(browser, served.address) as page:
            settled(page)
            # Not even sent.
            page.get_by_label("Drop a photograph").set_input_files(large)
            complaint = page.locator("#complaint")
            complaint.wait_for(state="visible")
            assert complaint.inner_text() == "expected a file of at most 20 MB, got more"
            assert page.locator("#photograph").inner_text() == "Photograph: cat"
            page.get_by_role("button", name="coffee").click()
            settled(page)
            assert not complaint.is_visible()
            check(page)

    def test_a_picture_grows_and_stops(self, browser, served, lab, monkeypatch):
        monkeypatch.setattr(lab, "STEPS", (96, 120_000))
        with page_at(browser, served.address) as page:
            settled(page)
            page.evaluate("document.getElementById('growth-steps').append(new Option('120000'))")
            page.get_by_label("Class to see").fill("lem")
            page.get_by_label("Class to see").press("Tab")
            assert page.get_by_label("Class to see").input_value() == "lemon"
            page.get_by_label("Steps", exact=True).select_option("120000")
            page.get_by_role("button", name="Grow").click()
            picture = page.locator("#grown img")
            picture.wait_for(state="visible")
            first = picture.get_attribute("src")
            page.wait_for_function(
                "before => document.querySelector('#grown img').src !== before", arg=first
            )
            assert picture.get_attribute("alt") == "first, lemon"
            page.get_by_role("button", name="Stop", exact=True).click()
            wait_for(lambda: served.page.growing == 0)
            stopped = page.locator("#growth-status").inner_text()
            assert re.fullmatch(
                r"lemon by first: step \d+ of 120000, score [\d.-]+, stopped", stopped
            )
            last = picture.get_attribute("src")
            page.wait_for_timeout(200)
            assert picture.get_attribute("src") == last
            # A channel, to its end.
            page.get_by_role("radio", name="a channel").check()
            page.get_by_label("Layer of the channel").select_option("stage 2")
            excited = page.locator("#excited")
            excited.get_by_text("with examples: ").wait_for()
            excited.get_by_role("button", name="3", exact=True).last.click()
            page.get_by_text("What excites channel 3 of stage 2 most").wait_for()
            crops = page.locator("#examples li")
            assert crops.all_inner_texts() == ["goose\n6.00", "<b>\n7.00"]
            box = crops.first.locator("img").bounding_box()
            # As many times in whole pixels as the widest one has room for.
            assert (box["width"], box["height"]) == (9 * 6, 9 * 8)
            page.get_by_label("Channel", exact=True).fill("2")
            page.locator("#examples").wait_for(state="hidden")
            excited.get_by_role("button", name="1", exact=True).last.click()
            crops.first.wait_for()
            page.get_by_label("Steps", exact=True).select_option("96")
            page.get_by_role("button", name="Grow").click()
            page.locator("#growth-details").wait_for(state="visible", timeout=60_000)
            assert "step 96 of 96" in page.locator("#growth-status").inner_text()
            assert page.get_by_role("button", name="Stop", exact=True).is_disabled()
            check(page)

    def test_leaving_the_page_ends_its_work(self, browser, served, lab, monkeypatch):
        monkeypatch.setattr(lab, "STEPS", (96, 120_000))
        with page_at(browser, served.address) as page:
            settled(page)
            page.evaluate("document.getElementById('growth-steps').append(new Option('120000'))")
            page.get_by_label("Steps", exact=True).select_option("120000")
            page.get_by_role("button", name="Grow").click()
            page.locator("#grown img").wait_for(state="visible")
            assert served.page.growing == 1
        wait_for(lambda: served.page.growing == 0)
