"""What do classifiers see in a photograph of yours? A page to play with.

  python -m pip install -e ".[app]" && python experiments/explore.py
  python experiments/explore.py --model efficientnet-lite0 efficientnet-lite2 ./runs/mine/model
  python experiments/explore.py --units runs/unit_examples-001
  python experiments/explore.py --host 0.0.0.0 --port 8080

Prints an address for the browser. On its page one drops a photograph and sees what up to three
models say of it and where they look, by any method, of any class, at any layer and input scale;
watches the picture of a class, or of a channel, grow; and downloads each picture with the lines of
Python that make it. The models of `--model` are loaded at once and shown first; the page offers
every other one of `models.available()`, which is loaded, or downloaded, when it is chosen. Beside
the picture of a channel stands what excites it most of the photographs that a run of
`unit_examples.py` has seen. Nothing is written to the disk but compiled programs.

Measured on two idle processor cores, medians from a change of the class to the answer: under the
standard and the robust ResNet at 64 pixels 41 ms for both saliency maps, 41 for both gradients and
23 for both maps of Grad-CAM; under EfficientNet-Lite0 at 224 pixels 0.11 s for saliency, 0.05 s for
Grad-CAM, and 0.72 s for integrated gradients of the usual 16 steps, 1.2 s of 32; under all three
0.09 s for saliency. A picture of a class is first seen after 0.1 s and whole, after 96 steps, in
1.1 s under the robust ResNet and in 3.4 s under Lite0. While other work ran beside, the process
grew to 1.7 GB. Those are times of compiled programs. In the first minutes, while others are
compiled in the background, what takes long waits for them: with other work beside, integrated
gradients of 16 steps under Lite0 then took 4.6 s, and up to 11. At the very first start, when no
program is kept, the first maps took 12 s.

The server is Starlette's and uvicorn's, which are small and known well, behind the style of the
runs' pages: Gradio is large, and its page asks others for fonts, where this one needs no network.

The page is for this machine alone, unless `--host` says otherwise: then for everyone who reaches
it, without a password. Photographs stay in memory, up to 20 MB and 50 million pixels each, known by
a random name to the page that sent it; the oldest are let go. What is asked for is computed in
turn, the quick apart from what has to be compiled or takes long; when 64 wait the page is told to
come back. What nobody waits for any more is not computed, and a picture stops growing when its page
is closed.
"""

import contextlib
import dataclasses
import functools
import io
import ipaddress
import itertools
import json
import secrets
import socket
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
from lab import frame, imagenet, loading, methods
from lab.explorer import (
    STEPS,
    Aim,
    Asked,
    Exciting,
    Explorer,
    Growth,
    Photograph,
    examples,
    exciting,
    setting,
)
from lab.frame import SOME, Check
from PIL import Image as PILImage

from saliency_jax import runs
from saliency_jax.images import decode
from saliency_jax.runs import _media, plots
from saliency_jax.runs._templates import rendered

try:
    import anyio
    import anyio.to_thread
    import uvicorn
    from starlette.applications import Starlette
    from starlette.datastructures import Headers, MutableHeaders
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ModuleNotFoundError as error:
    if __name__ != "__main__":
        raise
    sys.exit(
        f'error: expected {error.name} to be installed, got none: python -m pip install -e ".[app]"'
    )

Port = Annotated[int, Check(lambda port: 0 <= port < 2**16, "{} to be in 0 .. 65535")]

MOST_BYTES, MOST_PIXELS = 20_000_000, 50_000_000
# Of a body that is too large so much is still read, for its sender to hear that it is.
MOST_READ = 8 * MOST_BYTES
UPLOAD_SECONDS = 60
UPLOADS_AT_ONCE = 8
# Of all photographs that are kept.
MOST_KEPT, KEPT_BYTES = 256, 2**28
MOST_WAITING, MOST_GROWING = 64, 24
# Models side by side.
MOST_SHOWN = 3
# What photographs come in. Of the other formats that Pillow reads some start other programs.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")
SCALES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# Compiled in the background, in this order, while nobody asks for anything else.
WARM = ("saliency", "grad_cam", "gradient", "integrated_gradients")


@dataclasses.dataclass(frozen=True)
class Settings:
    model: Annotated[tuple[str, ...], SOME] = (imagenet.MAKER, *loading.BUNDLED_PAIR)
    """Names of models, or folders of saved ones, which are loaded at once; the first three are
    shown first."""
    units: tuple[Path, ...] | None = None
    """Folders of finished runs of unit_examples.py, whose examples are shown beside channels; if
    none those in runs/."""
    host: str = LOOPBACK[1]
    """The address to listen at; 0.0.0.0 lets everyone in the network in."""
    port: Port = 8000
    """The port to listen at; 0 for any that is free."""
    keep_programs: bool = True
    """Whether compiled programs are kept for later runs, in the user's folder of caches."""


def main(settings: Settings) -> None:
    frame.check(settings)
    with listening(settings.host, settings.port) as listener:
        if settings.keep_programs:
            runs.keep_programs()
        units = settings.units
        if units is None:
            units = tuple(sorted(Path("runs").glob("unit_examples-*")))
        shown = exciting(units)
        explorer = Explorer(settings.model)
        host, port = listener.getsockname()[:2]
        print(f"open http://{f'[{host}]' if ':' in host else host}:{port} in a browser", flush=True)
        if not is_loopback(host):
            print("everyone who reaches this machine can use it", flush=True)
        server(Page(explorer, shown).app(host)).run(sockets=[listener])


def from_command_line(arguments: Sequence[str] | None = None) -> None:
    """The explorer, with the settings that the command line names."""
    if arguments is None and sys.platform == "linux":
        frame.keep_memory()
    runs.from_command_line(main, Settings, __doc__ or "", arguments)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
      ValueError: the port is in use, or the host is no address of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(f"expected a free --port at --host {host}, got {port}: {error}") from error


def server(app: ASGIApp) -> uvicorn.Server:
    options: dict[str, Any] = {"log_level": "warning", "ws": "none", "server_header": False}
    # Pictures that grow do not keep it from ending.
    options["timeout_graceful_shutdown"] = 2
    return uvicorn.Server(uvicorn.Config(app, http="h11", loop="asyncio", **options))


def is_loopback(host: str) -> bool:
    return host in LOOPBACK or ipaddress.ip_address(host).is_loopback


class GoneError(Exception):
    """Nobody waits for the answer any more."""


class Lane:
    """Work that is done one piece after the other, in the order in which it was asked for."""

    def __init__(self) -> None:
        self._turn = anyio.Lock()
        self._waiting = 0

    async def do(self, request: Request | None, work: Callable[[], Any]) -> Any:
        """What the work makes, in a thread of its own.

        Raises:
          HTTPException: too many wait.
          GoneError: the request's sender has not waited for it.
        """
        if self._waiting >= MOST_WAITING:
            raise HTTPException(503, "too many wait: try again in a moment", {"Retry-After": "2"})
        self._waiting += 1
        try:
            async with self._turn:
                if request is not None and await request.is_disconnected():
                    raise GoneError
                return await anyio.to_thread.run_sync(work)
        finally:
            self._waiting -= 1


class Photographs:
    """Photographs by random names; the ones that were used longest ago are let go."""

    def __init__(self) -> None:
        self._examples = examples()
        self._kept: OrderedDict[str, Photograph] = OrderedDict()

    def add(self, photograph: Photograph) -> str:
        name = secrets.token_urlsafe(16)
        self._kept[name] = photograph
        while len(self._kept) > MOST_KEPT or (len(self._kept) > 1 and self._num_bytes > KEPT_BYTES):
            self._kept.popitem(last=False)
        return name

    def __getitem__(self, name: str) -> Photograph:
        if name in self._examples:
            return self._examples[name]
        if name not in self._kept:
            raise HTTPException(404, "the photograph is no longer here: drop it again")
        self._kept.move_to_end(name)
        return self._kept[name]

    @property
    def _num_bytes(self) -> int:
        return sum(photograph.num_bytes for photograph in self._kept.values())


class Page:
    """The page, and what it asks for. What belongs to one user is in the page, or in the request.

    Args:
      explorer: of the models.
      exciting: what excites their channels.
      is_warmed: whether what is asked for first is compiled in the background.

    Attributes:
      growing: the number of pictures that grow.
    """

    def __init__(self, explorer: Explorer, exciting: Exciting, *, is_warmed: bool = True):
        self._explorer, self._exciting, self._is_warmed = explorer, exciting, is_warmed
        self._photographs = Photographs()
        # What is soon there does not wait for what has to be compiled, or loaded, or takes long.
        self._quick, self._slow = Lane(), Lane()
        self._uploads = anyio.CapacityLimiter(UPLOADS_AT_ONCE)
        self.growing = 0

    def app(self, host: str) -> Starlette:
        """What a server serves that listens at a host."""
        page = rendered("explore.html.jinja", config=self._config())
        files = {
            "/": (page, "text/html"),
            "/style.css": (rendered("explore.css.jinja"), "text/css"),
            "/script.js": (rendered("explore.js.jinja"), "text/javascript"),
        }
        return Starlette(
            routes=[
                *(Route(path, serving(*file)) for path, file in files.items()),
                Route("/photographs", self._add_photograph, methods=["POST"]),
                Route("/model", self._model),
                Route("/map", self._map),
                Route("/channels", self._channels),
                Route("/examples", self._examples),
                Route("/growth", self._growth),
            ],
            middleware=[Middleware(OnlyFromItself, host=host)],
            exception_handlers={
                HTTPException: _refused,
                ValueError: _mistaken,
                TypeError: _mistaken,
                OSError: _mistaken,
                ClientDisconnect: _gone,
                GoneError: _gone,
            },
            lifespan=self._lifespan,
        )

    def _config(self) -> dict[str, Any]:
        """What the page knows from the start."""
        return {
            "models": self._explorer.offered,
            "shown": list(self._explorer.first[:MOST_SHOWN]),
            "most_shown": MOST_SHOWN,
            "methods": {
                name: {
                    "title": row.title,
                    "meaning": row.meaning,
                    "colors": row.colors,
                    "has_layer": "layer" in row.needs,
                    "setting": setting(name)[0].replace("num_", ""),
                    "choices": setting(name)[1],
                }
                for name, row in methods.METHODS.items()
            },
            "scales": SCALES,
            "steps": STEPS,
            "examples": list(examples()),
            "most_bytes": MOST_BYTES,
        }

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            if self._is_warmed:
                tasks.start_soon(self._warm)
            yield
            tasks.cancel_scope.cancel()

    async def _warm(self) -> None:
        """Compiles what is asked for first."""
        names, photograph = self._explorer.first[:MOST_SHOWN], self._photographs["cat"]
        # What a model cannot be asked, and that others wait, is none of this work's business.
        for method, name in itertools.product(WARM, names):
            explain = functools.partial(self._explorer.explain, name, photograph, Asked(method))
            with contextlib.suppress(ValueError, HTTPException):
                await self._slow.do(None, explain)
        for name in names:
            with contextlib.suppress(ValueError, HTTPException):
                growth = self._explorer.grow(name, Aim(0), STEPS[0], 0)
                while not growth.is_done:
                    await self._slow.do(None, growth.advance)

    async def _add_photograph(self, request: Request) -> Response:
        async with self._uploads:
            content = await body(request)
        check_picture(content)
        try:
            # A damaged one is found out when it is read to its end.
            await self._quick.do(request, lambda: decode(content))
        except ValueError as error:
            raise HTTPException(415, str(error)) from error
        name = request.query_params.get("name", "")[:200] or "photograph"
        # The written name is that of a file beside the lines of Python, whatever it came as.
        written = repr(name.replace("\\", "/").rpartition("/")[2])
        return JSONResponse({"photograph": self._photographs.add(Photograph(content, written))})

    async def _model(self, request: Request) -> Response:
        name = asked_for(request, "model")
        lane = self._quick if self._explorer.is_loaded(name) else self._slow
        known = await lane.do(request, lambda: self._explorer.known(name))
        return JSONResponse(
            {"classes": known.classifier.class_names, "channels": dict(known.channels)}
        )

    async def _map(self, request: Request) -> Response:
        name, method = asked_for(request, "model"), asked_for(request, "method")
        label = request.query_params.get("label", "").strip()
        layer = request.query_params.get("layer", "")
        asked = Asked(method, layer, number(request, "steps", int, 0))
        scale = number(request, "scale", float, 1.0)
        photograph = self._photographs[asked_for(request, "photograph")]
        lane = self._quick if self._explorer.is_quick(name, asked) else self._slow

        def work() -> dict[str, Any]:
            explained = self._explorer.explain(name, photograph, asked, label, scale)
            known = self._explorer.known(name)
            class_name = known.classifier.class_names[explained.label]
            share = plots.percent(explained.probabilities[explained.label])
            return {
                "explained": f"{class_name} {share}",
                "label": class_name,
                "top": _top(known.likeliest(explained.probabilities)),
                "note": explained.cell.note,
                "code": explained.code,
                **_pictures(explained.cell.pictures),
            }

        return JSONResponse(await lane.do(request, work))

    async def _channels(self, request: Request) -> Response:
        name, layer = asked_for(request, "model"), asked_for(request, "layer")
        photograph = self._photographs[asked_for(request, "photograph")]
        found = await self._slow.do(
            request, lambda: self._explorer.excited(name, photograph, layer)
        )
        return JSONResponse({"channels": found, "exampled": [*self._examples_of(name, layer)]})

    def _examples_of(self, name: str, layer: str) -> Mapping[int, Sequence[plots.Picture]]:
        """Of a layer that was asked about already."""
        return self._exciting.get((self._explorer.known(name).classifier.file_name, layer), {})

    async def _examples(self, request: Request) -> Response:
        name, layer = asked_for(request, "model"), asked_for(request, "layer")
        of_layer = await self._quick.do(request, lambda: self._examples_of(name, layer))
        shown = of_layer.get(number(request, "channel", int, 0), ())
        described = [
            {"name": each.title, "note": each.note, **_pictures({"crop": each})} for each in shown
        ]
        return JSONResponse({"examples": described})

    async def _growth(self, request: Request) -> Response:
        name = asked_for(request, "model")
        layer, label = request.query_params.get("layer", ""), request.query_params.get("label", "")
        steps, seed = number(request, "steps", int, STEPS[0]), number(request, "seed", int, 0)
        channel = number(request, "channel", int, 0)

        def begin() -> Growth:
            known = self._explorer.known(name)
            what = Aim(channel, layer) if layer else Aim(known.label(label))
            return self._explorer.grow(name, what, steps, seed)

        if self.growing >= MOST_GROWING:
            raise HTTPException(503, "too many pictures grow: try again in a moment")
        growth = await self._slow.do(request, begin)
        return StreamingResponse(self._grown(request, name, growth), media_type="text/plain")

    async def _grown(self, request: Request, name: str, growth: Growth) -> AsyncIterator[str]:
        """A line of JSON after every few steps, as long as somebody looks."""
        known = self._explorer.known(name)
        self.growing += 1
        try:
            while not growth.is_done:
                lane = self._quick if growth.is_quick else self._slow
                grown = await lane.do(request, growth.advance)
                line = {
                    "step": growth.step,
                    "steps": growth.steps,
                    "score": grown.score,
                    "top": _top(known.likeliest(grown.probabilities)),
                    **_pictures({"picture": plots.image(grown.image)}),
                    "code": growth.code if growth.is_done else "",
                }
                yield json.dumps(line) + "\n"
        except GoneError:
            return
        except (ValueError, HTTPException) as error:
            yield json.dumps({"error": getattr(error, "detail", str(error))}) + "\n"
        finally:
            self.growing -= 1


class OnlyFromItself:
    """Answers only what the page itself asks, and only by the names that this server goes by.

    Another page in the same browser could send requests here, or let a name of its own lead here
    and read the answers.
    """

    def __init__(self, app: ASGIApp, host: str):
        self._app, self._is_local = app, is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        reason = self._refusal(scope["path"], Headers(scope=scope))
        app = JSONResponse({"error": reason}, 403) if reason else self._app
        await app(scope, receive, send_with_headers)

    def _refusal(self, path: str, headers: Headers) -> str:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_known(host):
            return "expected a request by the address that the server printed, got another name"
        is_foreign = origin is not None and urlsplit(origin).netloc != host
        is_foreign |= headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
        # Others may have links to the page itself.
        if is_foreign and path != "/":
            return "expected a request of the explorer's own page, got another page's"
        return ""

    def _is_known(self, host: str) -> bool:
        with contextlib.suppress(ValueError):
            name = urlsplit(f"//{host}").hostname or ""
            if name in LOOPBACK:
                return True
            if self._is_local:
                return False
            # A name can lead anywhere; an address, and this machine's own name, lead here.
            return name == socket.gethostname().lower() or bool(ipaddress.ip_address(name))
        return False


async def body(request: Request) -> bytes:
    """The body of a request.

    Raises:
      HTTPException: it is too large, or takes too long.
    """
    too_large = HTTPException(413, f"expected a file of at most {MOST_BYTES // 10**6} MB, got more")
    if number_in(request.headers.get("content-length", "0")) > MOST_READ:
        raise too_large
    parts: list[bytes] = []
    length = 0
    with anyio.move_on_after(UPLOAD_SECONDS) as waiting:
        async for part in request.stream():
            length += len(part)
            if length > MOST_READ:
                raise too_large
            if length > MOST_BYTES:
                parts.clear()
            else:
                parts.append(part)
    if waiting.cancelled_caught:
        raise HTTPException(408, f"expected the file within {UPLOAD_SECONDS} s, got a part of it")
    if length > MOST_BYTES:
        raise too_large
    return b"".join(parts)


def number_in(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def check_picture(content: bytes) -> None:
    """Says that a file is no picture, or too large a one, by its head alone.

    Raises:
      HTTPException: it is.
    """
    bomb = (PILImage.DecompressionBombError, PILImage.DecompressionBombWarning)
    try:
        with PILImage.open(io.BytesIO(content), formats=formats()) as picture:
            width, height = picture.size
    except bomb:
        width = height = MOST_PIXELS
    except Exception as error:
        expected = f"expected a picture ({', '.join(formats())}), got a file that is none"
        raise HTTPException(415, expected) from error
    if width * height > MOST_PIXELS:
        raise HTTPException(413, f"expected at most {MOST_PIXELS:,} pixels, got more")


@functools.cache
def formats() -> list[str]:
    """Those that this Pillow was built to read."""
    PILImage.init()
    return [name for name in FORMATS if name in PILImage.OPEN]


def asked_for(request: Request, name: str) -> str:
    value = request.query_params.get(name, "")
    if not value:
        raise HTTPException(400, f"expected {name}, got none")
    return value


def number(request: Request, name: str, kind: Callable[[str], Any], default: Any) -> Any:
    text = request.query_params.get(name, "")
    try:
        return kind(text) if text else default
    except ValueError as error:
        raise HTTPException(400, f"expected {name} to be a number, got {text[:40]!r}") from error


def serving(content: str, kind: str) -> Callable[[Request], Any]:
    async def serve(_: Request) -> Response:
        return Response(content, media_type=kind)

    return serve


def _top(likeliest: Sequence[tuple[str, float]]) -> list[tuple[str, float, str]]:
    return [(name, fraction, plots.percent(fraction)) for name, fraction in likeliest]


def _pictures(pictures: Mapping[str, plots.Picture]) -> dict[str, Any]:
    """Pictures of one size as a page shows them."""
    height, width = next(iter(pictures.values())).shape
    addresses = {name: _png(picture.pixels) for name, picture in pictures.items()}
    return {"pictures": addresses, "width": width, "height": height}


def _png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    # Of the formats without loss the quickest to write.
    PILImage.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(file, "PNG", compress_level=1)
    return _media.address("image/png", file.getvalue())


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _mistaken(_: Request, error: Exception) -> Response:
    """One line for what was asked wrongly; anything else is a bug, and its traceback is shown."""
    if not (isinstance(error, OSError) or str(error).startswith("expected ")):
        raise error
    status = 502 if isinstance(error, ConnectionError) else 400
    return JSONResponse({"error": " ".join(str(error).split())}, status)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=204)


if __name__ == "__main__":
    from_command_line()
