"""Files and folders that are there whole or not at all, and folders that one process works in."""

import contextlib
import datetime
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ._arguments import check_callable, check_instance, check_path, check_text

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there.
    fcntl = None  # type: ignore[assignment]

_ROOM = re.compile(r"\..*\.[0-9a-f]{8}\.partial")


@contextlib.contextmanager
def whole(
    path: str | os.PathLike, *, new: bool = False, final: Callable[[], Path] | None = None
) -> Iterator[Path]:
    """A file or folder that is there whole or not at all: a context manager.

    The block writes it under its own name inside a hidden folder beside its place, and it takes
    its place at the end of the block, at once. An error or an interrupt leaves nothing, not even
    the folders above that were made for it; a killed process leaves the hidden folder, which the
    next `claim` of the folder above removes.

    Args:
      path: the file or folder to be; the folders above it are made. A file that is there is
        replaced.
      new: refuses a path that exists.
      final: called at the end of the block for the path to take, if that is known no earlier; it
        has the same parent.

    Yields:
      The path to write.

    Raises:
      FileExistsError: `new`, and the path exists.
      OSError: the folder above cannot be made or written.

    Example:
      >>> from saliency_jax.runs import whole
      >>> with whole("numbers/one.txt") as partial:
      ...     _ = partial.write_text("1")
      >>> Path("numbers/one.txt").read_text()
      '1'
    """
    check_path("path", path)
    if final is not None:
        check_callable("final", final)
    place = Path(path).absolute()
    if new:
        _check_new(place, path)
    # The name is cut, so that a long one still leaves room.
    room = place.parent / f".{place.name[:48]}.{secrets.token_hex(4)}.partial"
    with _made(room, path):
        try:
            partial = room / place.name
            yield partial
            place = place if final is None else final()
            if new and not partial.is_dir():
                # A folder is never renamed onto a full one.
                _check_new(place, path)
            partial.replace(place)
        finally:
            shutil.rmtree(room, ignore_errors=True)


@contextlib.contextmanager
def claim(
    folder: str | os.PathLike,
    settings: Mapping[str, Any],
    *,
    kind: str = "run",
    file: str = "config.json",
) -> Iterator[Path]:
    """A folder in which work of these settings is begun or continued, by one process at a time.

    The settings are written into a new folder, and compared with those in an old one. Until the
    block ends no other process may claim the folder; the claim of a process that was killed ends
    with it, and what it left half-written is removed. A folder in which nothing was written is
    removed at the end.

    Args:
      folder: the folder; it is made, with those above it.
      settings: all that the work depends on; what JSON does not know is written as text.
      kind: what the work is called in messages.
      file: where in the folder the settings are.

    Yields:
      The folder.

    Raises:
      BlockingIOError: another process is at work in the folder.
      ValueError: the folder holds something else, or work of other settings.
      OSError: the folder cannot be made or written.

    Example:
      >>> from saliency_jax.runs import claim
      >>> with claim("training", {"epochs": 3}) as folder:
      ...     _ = (folder / "log.txt").write_text("one epoch")
      >>> with claim("training", {"epochs": 4}):
      ...     pass
      Traceback (most recent call last):
      ValueError: expected training to hold this run, got a run with another epochs; choose ...
    """
    check_text("kind", kind)
    check_text("file", file)
    if not file or Path(file).name != file or "\0" in file:
        raise ValueError(f"expected file to be the name of a file, got {file!r}")
    check_path("folder", folder)
    check_instance("settings", settings, Mapping, "values by name")
    place = Path(folder).absolute()
    text = json.dumps(dict(settings), indent=2, default=str) + "\n"
    with _made(place, folder), alone(place / f".{file}.lock", folder):
        for left in place.iterdir():
            if _ROOM.fullmatch(left.name):
                shutil.rmtree(left, ignore_errors=True)
        path = place / file
        if path.exists():
            check_same(json.loads(text), path.read_text(encoding="utf-8"), path, folder, kind)
        elif any(not name.startswith(".") for name in os.listdir(place)):
            raise ValueError(f"expected {folder} to be empty or a {kind}'s, got another folder")
        else:
            with whole(path) as partial:
                partial.write_text(text, encoding="utf-8")
        yield Path(folder)


@contextlib.contextmanager
def alone(path: Path, work: str | os.PathLike) -> Iterator[None]:
    """Holds a lock that ends with the process; the file is there as long as it is held.

    Args:
      path: the lock's file.
      work: what is locked, for the message.

    Raises:
      BlockingIOError: another process holds it, which is named.
    """
    file = _locked(path, work)
    try:
        file.truncate(0)
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        file.write(f"process {os.getpid()} on {platform.node()} since {now}")
        file.flush()
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _locked(path: Path, work: str | os.PathLike) -> IO[str]:
    """The file, open and locked."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, the one before may have ended and removed it.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read() or "another process"
            file.close()
            raise BlockingIOError(
                f"expected no other process at work in {work}, got {holder}; wait for its end, or "
                "choose another folder"
            ) from error
        except FileNotFoundError:
            pass
        except OSError:  # A file system without locks.
            return file
        file.close()


@contextlib.contextmanager
def _made(folder: Path, asked: str | os.PathLike) -> Iterator[None]:
    """Makes a folder and those above it, and removes of these at the end those that are empty."""
    missing = [above for above in (folder, *folder.parents) if not above.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(
                f"expected a folder that can be written at {asked}, got {error.strerror} at "
                f"{error.filename}"
            ) from error
        yield
    finally:
        for above in missing:
            # It holds what was written, or another's files.
            with contextlib.suppress(OSError):
                above.rmdir()


def _check_new(place: Path, asked: str | os.PathLike) -> None:
    if os.path.lexists(place):
        raise FileExistsError(
            f"expected {asked} not to exist, got a file or folder there; choose another output"
        )


def check_same(
    settings: Mapping[str, Any],
    text: str,
    path: str | os.PathLike,
    folder: str | os.PathLike,
    kind: str,
) -> None:
    """Raises unless a file's text holds the settings, as JSON has them."""
    try:
        stored = dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"expected {path} to hold the settings of a {kind}, got a damaged file; remove "
            f"{folder}, or choose another folder"
        ) from error
    # As texts, in which what is not a number equals itself.
    texts, stored_texts = (
        {name: json.dumps(value, sort_keys=True) for name, value in tree.items()}
        for tree in (settings, stored)
    )
    for name in {**texts, **stored_texts}:
        if texts.get(name) != stored_texts.get(name):
            raise ValueError(
                f"expected {folder} to hold this {kind}, got a {kind} with another {name}; choose "
                "another folder, or remove it"
            )
