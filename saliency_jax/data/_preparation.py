"""Finding a prepared TFDS dataset, and preparing one."""

import contextlib
import importlib
import logging
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core.registered import DatasetNotFoundError

from .._validation import check_path, check_text, nearest
from ._image_folder import ImageFolder

FILE_FORMAT = "array_record"  # The one format of TFDS that is read at random without TensorFlow.
# Builders of other rooms: their modules register them, and are imported when they are asked for.
_BUILDERS = {
    "radio_modulations": "saliency_jax.signals._radio_modulations",
    "spoken_digits": "saliency_jax.signals._spoken_digits",
}


def prepare(
    name: str,
    *,
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
) -> tfds.core.DatasetBuilder:
    """Downloads and prepares a TFDS dataset, unless it is prepared already.

    The same as a command: `python -m saliency_jax.data NAME`.

    Args:
      name, data_dir: see the room.
      manual_dir: folder with files that were downloaded by hand; for `tiny_imagenet` with
        tiny-imagenet-200.zip or .tar.gz. TFDS's own default when None.

    Returns:
      The builder of the prepared dataset.

    Raises:
      ValueError: there is no such dataset, or it cannot be prepared.
      FileNotFoundError: `manual_dir` is no folder.

    Example:
      >>> prepare("tiny_imagenet/paper20", manual_dir="~/Downloads")  # doctest: +SKIP
    """
    if manual_dir is not None:
        check_path("manual_dir", manual_dir)
    if manual_dir is not None:
        manual_dir = Path(manual_dir).expanduser()
        if not manual_dir.is_dir():
            raise FileNotFoundError(f"expected manual_dir to be a folder, got {manual_dir}")
    builder = _construct(name, data_dir)
    if not (isinstance(builder, ImageFolder) or _is_prepared(builder)):
        try:
            builder.download_and_prepare(
                file_format=FILE_FORMAT,
                download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
            )
        # Preparing runs the code of any dataset on files from anywhere.
        except Exception as error:
            hint = f"; when that is mended, repeat: {_command(builder, name, data_dir)}"
            if package := _missing_package(error):
                hint = f"; install it by: python -m pip install {package}{hint}"
            raise ValueError(
                f"expected to prepare {name} in {builder.data_path}, got {one_line(error)}{hint}"
            ) from error
    return prepared(name, data_dir=data_dir)


def prepared(name: str, *, data_dir: str | Path | None = None) -> tfds.core.DatasetBuilder:
    """The builder of a prepared dataset.

    Args:
      name, data_dir: see the room.

    Returns:
      The builder.

    Raises:
      ValueError: there is no such dataset, or it is prepared in another file format.
      FileNotFoundError: it is not prepared; the message holds the command that prepares it. Or
        there is no such folder.
    """
    builder = _construct(name, data_dir)
    if isinstance(builder, ImageFolder):
        return builder
    if not _is_prepared(builder):
        raise FileNotFoundError(
            f"expected {name} prepared in {builder.data_path}, got nothing there; "
            f"prepare it by: {_command(builder, name, data_dir)}"
        )
    file_format = builder.info.file_format.value
    if file_format != FILE_FORMAT:
        raise ValueError(
            f"expected {name} in the file format {FILE_FORMAT}, got {file_format} in "
            f"{builder.data_path}; prepare it in another folder by: "
            f"python -m saliency_jax.data {name} --data-dir FOLDER"
        )
    return builder


def _missing_package(error: BaseException | None) -> str | None:
    """The package without which preparing failed; TFDS raises some errors anew without its name."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return error.name.partition(".")[0]
        error = error.__cause__
    return None


def _command(builder: tfds.core.DatasetBuilder, name: str, data_dir: str | Path | None) -> str:
    """The command that prepares a dataset, and what to do by hand before it."""
    command = f"python -m saliency_jax.data {name}"
    if data_dir is not None:
        command += f" --data-dir {data_dir}"
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        by_hand = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        command += f" (with --manual-dir FOLDER; {by_hand})"
    return command


def _construct(name: str, data_dir: str | Path | None) -> tfds.core.DatasetBuilder:
    check_text("name", name)
    if data_dir is not None:
        check_path("data_dir", data_dir)
    # No name of TFDS begins like this, and no folder is taken for a dataset by accident.
    if name.startswith((".", "~")) or Path(name).is_absolute():
        return ImageFolder(name)
    base = _base(name)
    if base in _BUILDERS:
        importlib.import_module(_BUILDERS[base])
    with _quiet():
        try:
            return tfds.builder(name, data_dir=data_dir)
        except DatasetNotFoundError:
            known = [*tfds.list_builders(with_community_datasets=False), *_BUILDERS]
            suggestion = nearest(base, known)
            if Path(name).is_dir():
                suggestion = f"; a folder of images is named by a path: ./{name}"
            raise ValueError(f"expected the name of a dataset, got {name!r}{suggestion}") from None
        # An unknown config or version, a malformed name, a package that the dataset is built on.
        except (ValueError, AssertionError, ImportError) as error:
            raise ValueError(
                f"expected the name of a dataset{_config_hint(name)}, got {name!r} "
                f"({one_line(error)})"
            ) from error


def _base(name: str) -> str:
    """The name of a dataset without its config and version."""
    return name.partition("/")[0].partition(":")[0]


def _config_hint(name: str) -> str:
    base = _base(name)
    if base not in tfds.list_builders(with_community_datasets=False):
        return ""
    names = [f"{base}/{config}" for config in tfds.builder_cls(base).builder_configs]
    return f" such as {' or '.join(names[:3])}" if names else ""


def _is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    with _quiet():
        return builder.is_prepared()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TFDS warns of every folder without a dataset, which is what our messages are about."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def one_line(error: BaseException) -> str:
    """Kind and text of an error without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
