"""One attribution method over a whole data set."""

import functools
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer

from .. import scores
from .._pytrees import digest
from .._types import Count, Key, Logits
from .._validation import (
    as_unbounded,
    check_callable,
    check_count,
    check_instance,
    check_key,
    check_label,
    check_path,
)
from ..images import Size, height_and_width
from ..models import Classifier
from ._compute import Columns, Devices, Progress, run
from ._images import images_of
from ._store import DTYPES, TEXT, Root, Stored, pack
from ._store import open as open_stored

STATUS = ("good", "unreadable image", "no label", "not finite")
_GOOD, _UNREADABLE, _UNLABELLED, _NOT_FINITE = range(4)
# On the page.
_SHOWN = 8

Labels = Callable[[Logits, Integer[Array, ""]], Integer[Array, "..."]]


def true_label(logits: Logits, label: Integer[Array, ""]) -> Integer[Array, ""]:
    """The image's own class, as the data set states it.

    Args:
      logits: of the image.
      label: the data set's; -1 where it has none.

    Returns:
      The label.

    Example:
      >>> import jax.numpy as jnp
      >>> int(true_label(jnp.array([0.0, 2.0, 1.0]), jnp.array(0)))
      0
    """
    return label


def predicted_label(logits: Logits, label: Integer[Array, ""]) -> Integer[Array, ""]:
    """The class with the largest logit.

    Args:
      logits, label: see `true_label`.

    Returns:
      The label.

    Example:
      >>> import jax.numpy as jnp
      >>> int(predicted_label(jnp.array([0.0, 2.0, 1.0]), jnp.array(0)))
      1
    """
    return jnp.argmax(as_unbounded("logits", logits, ("k",)))


def top_labels(k: Count) -> Labels:
    """The k classes with the largest logits, from the largest on: an image then has k maps.

    Args:
      k: how many.

    Returns:
      The function of logits and label.

    Raises:
      TypeError: k is no integer.
      ValueError: k < 1.

    Example:
      >>> import jax.numpy as jnp
      >>> top_labels(2)(jnp.array([0.0, 2.0, 1.0]), jnp.array(0)).tolist()
      [1, 2]
    """
    count = check_count("k", k, 1)

    def top(logits: Logits, label: Integer[Array, ""]) -> Integer[Array, "m"]:
        return jax.lax.top_k(logits, count)[1]

    return top


def attribute(
    method: Callable[..., Array],
    classifier: Classifier,
    dataset: str,
    output: str | os.PathLike,
    *,
    batch_size: Count,
    split: str | None = None,
    labels: Labels | int | Sequence[Any] | np.ndarray = true_label,
    score: Callable[..., scores.Score] = scores.logit,
    key: Key | None = None,
    dtype: Literal["float16", "float32", "uint8"] = "float16",
    size: Size | None = None,
    class_labels: Sequence[int] | None = None,
    strict: bool = False,
    devices: Devices | None = None,
    progress: Progress | None = None,
    data_dir: str | Path | None = None,
) -> Stored:
    """A method's maps of all images of a data set, stored as they come.

    maps[i] = method(score(network, labels(network(x_i), y_i)), x_i)

    The columns that are stored, a row for each image in the data set's stored order:

      maps: the attributions, (n, h, w, c) or (n, h, w), as the method makes them; (n, k, ...) of k
        labels.
      labels: the data set's; -1 where it has none that the classifier knows.
      explained: the labels that the maps are of, (n,) or (n, k).
      predictions: the classifier's.
      scores: of the explained labels.
      ids: the file, or what else the data set calls the example; its number if it has no name.
      status: of the row: its number in `STATUS`. An image that cannot be read is recorded as such,
        has the maps of a black one, and the run goes on.

    Args:
      method: (score, image) -> attribution, such as `attribution.input_gradient`, or a
        `functools.partial` of one; what depends on the network is `score.model`'s.
      classifier: whose network is explained.
      dataset, data_dir: name and data_dir of `data`: a prepared TFDS set, of what the classifier
        takes, images, sounds or a radio's samples; or a folder of images.
      output, batch_size, devices, progress: see the room.
      split: of the data set, slices are welcome; what is made for evaluation if None.
      labels: of an image's logits and label the class or classes to explain: `true_label`,
        `predicted_label`, `top_labels(k)` or one of your own. Or a label for all images, or an
        array of labels (n,) or (n, k).
      score: from network and label to the score.
      key: for methods that draw: `method(score, image, key=fold_in(key, i))`.
      dtype: of the stored maps. In float16 each is divided by a power of 2 first, so that none
        is too large or too small; in uint8 it has 256 levels from its smallest value to its
        largest. They are read as float32.
      size: see `Classifier.preprocess`.
      class_labels: the classifier's label of each of the data set's classes; found by name if None.
      strict: whether the first row that is not good is an error.

    Returns:
      The columns, as `scale.open` reads them. Beside them the output has `config.json` with the
      settings and versions, and `index.html` with the first maps.

    Raises:
      TypeError: the method or the score is not callable, or an argument has another type.
      ValueError: there is no such data set or split, it is of another kind or sample rate, the
        classifier does not know its classes, or the output holds another run. A row is not good,
        if `strict`.
      FileNotFoundError: the data set is not prepared.
      BlockingIOError: another run is at work in the output.
      OSError: the output cannot be written, or its disk is full.

    Example:
      >>> import pathlib
      >>> from PIL import Image
      >>> from saliency_jax import attribution, models, scale
      >>> folder = pathlib.Path("photographs", "test", "lemon")
      >>> folder.mkdir(parents=True)
      >>> Image.new("RGB", (64, 64), "yellow").save(folder / "one.png")
      >>> robust = models.load("tiny-imagenet-robust")
      >>> stored = scale.attribute(
      ...     attribution.input_gradient, robust, "./photographs", "maps", batch_size=1
      ... )
      >>> stored["maps"].shape, str(stored["ids"][0]), scale.STATUS[stored["status"][0]]
      ((1, 64, 64, 3), 'test/lemon/one.png', 'good')
    """
    check_callable("method", method)
    check_callable("score", score)
    check_path("output", output)
    if progress is not None:
        check_callable("progress", progress)
    check_instance("classifier", classifier, Classifier, "a Classifier")
    if dtype not in DTYPES:
        raise ValueError(f"expected dtype to be {' or '.join(DTYPES)}, got {dtype!r}")
    if key is not None:
        check_key(key)
    given = None if callable(labels) else _given(labels, classifier.num_classes)
    source = images_of(
        classifier,
        dataset,
        split,
        batch_size=check_count("batch_size", batch_size, 1),
        size=None if size is None else height_and_width(size),
        class_labels=class_labels,
        need_labels=labels is true_label,
        given=given,
        data_dir=data_dir,
    )
    first, _ = source.read(0)
    run(
        functools.partial(
            _row,
            method=method,
            score=score,
            labels=labels if callable(labels) else None,
            dtype=dtype,
            num_classes=classifier.num_classes,
        ),
        source,
        output,
        shared=(classifier.network, key),
        settings={
            "method": said(method),
            "classifier": classifier.name,
            "dataset": dataset,
            "split": split,
            "labels": said(labels) if callable(labels) else f"given, {digest(given)}",
            "score": said(score),
            "first image": digest(first["image"][0]),
        },
        devices=devices,
        progress=progress,
        judge=functools.partial(judge, strict=strict),
        finish=functools.partial(
            _show, images=first["image"][:_SHOWN], names=classifier.class_names
        ),
    )
    return open_stored(output)


def _given(labels: Any, num_classes: int) -> np.ndarray:
    array = np.asarray(labels)
    if not array.size:
        raise ValueError("expected at least one label, got none")
    if array.dtype.kind not in "iu" or array.ndim > 2:
        raise TypeError(
            "expected labels to be a function, a label, or integers (n,) or (n, k), got "
            f"{array.dtype} of shape {array.shape}"
        )
    for label in (array.min(), array.max()):
        check_label(label, num_classes)
    return array.astype(np.int32)


def said(function: Callable) -> str:
    """A function's name, and what is bound to it."""
    if isinstance(function, functools.partial):
        bound = [*map(repr, function.args)]
        bound += [f"{name}={_value(value)}" for name, value in function.keywords.items()]
        return f"{said(function.func)}({', '.join(bound)})"
    return getattr(function, "__qualname__", type(function).__qualname__)


def _value(value: Any) -> str:
    return said(value) if callable(value) else repr(value)


def _row(
    shared: tuple[Any, Any],
    point: Mapping[str, Array],
    *,
    method: Callable[..., Array],
    score: Callable[..., scores.Score],
    labels: Labels | None,
    dtype: str,
    num_classes: int,
) -> dict[str, Array]:
    """The columns of one image."""
    network, key = shared
    image, label = point["image"], point["label"]
    logits = network(image)
    explained = point["given"] if labels is None else labels(logits, label)
    explained = jnp.asarray(explained, np.int32)
    options = {} if key is None else {"key": jax.random.fold_in(key, point["number"])}

    def of_label(label):
        readout = score(network, label)
        attribution = method(readout, image, **options)
        value = readout(image)
        is_finite = jnp.isfinite(attribution).all() & jnp.isfinite(value)
        return pack("maps", attribution, dtype) | {"scores": value}, is_finite

    columns, is_finite = (jax.vmap(of_label) if explained.ndim else of_label)(explained)
    is_label = (explained >= 0) & (explained < num_classes)
    return columns | {
        "labels": label,
        "explained": explained,
        "predictions": jnp.argmax(logits).astype(np.int32),
        "status": status_of(point, is_finite=is_finite.all(), is_label=is_label.all()),
    }


def status_of(
    point: Mapping[str, Array], *, is_finite: Array, is_label: Array | bool = True
) -> Array:
    """A row's number in `STATUS`."""
    status = jnp.where(is_finite, _GOOD, _NOT_FINITE)
    status = jnp.where(is_label, status, _UNLABELLED)
    return jnp.where(point["readable"], status, _UNREADABLE).astype(np.uint8)


def judge(rows: Columns, *, strict: bool) -> None:
    """Says which rows are not good."""
    for index in np.flatnonzero(rows["status"]):
        name = bytes(rows[f"ids{TEXT}"][index]).rstrip(b"\0").decode(errors="replace")
        found = STATUS[rows["status"][index]]
        if strict:
            raise ValueError(f"expected every row to be good, got {name}: {found}")
        logging.getLogger(__name__).warning("%s: %s", name, found)


def _show(root: Root, *, images: np.ndarray, names: Sequence[str]) -> None:
    """Writes the page: the first images with their maps, and what is not good."""
    # Not at the top: it brings in matplotlib.
    from ..runs import RunFolder, Section, Table, plots

    stored = open_stored(root.asked)
    count = min(len(stored["maps"]), len(images))
    maps = stored["maps"][:count]
    if stored["explained"].shape[1:]:
        maps = maps[:, 0]
    if maps.ndim == 4:
        maps = np.abs(maps).max(-1)
    show = plots.signed_map if np.nanmin(maps, initial=0) < 0 else plots.saliency_map
    explained = stored["explained"][:count].reshape(count, -1)[:, 0]
    values = stored["scores"][:count].reshape(count, -1)[:, 0]
    cells: list[plots.Cell | None] = []
    for index in range(count):
        status = stored["status"][index]
        title = str(stored["ids"][index]) + (f": {STATUS[status]}" if status else "")
        cells.append(_picture(images[index], title))
        map_title = f"{names[explained[index]]}, score {values[index]:.3g}"
        cells.append(show(maps[index], map_title) if np.isfinite(maps[index]).all() else None)
    columns = 4
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    statuses = stored["status"][:]
    counts = [[name, str((statuses == number).sum())] for number, name in enumerate(STATUS)]
    known = stored["labels"][:] >= 0
    right = (stored["predictions"][:] == stored["labels"][:])[known].mean() if known.any() else None
    predicted = "" if right is None else f" The classifier is right on {right:.1%} of the labelled."
    with tempfile.TemporaryDirectory() as folder:
        with RunFolder(Path(folder, "page"), "page") as page:
            page.save_config(stored.config)
            figure = page.save_figure("sample", plots.grid(rows))
            page.save_page(
                f"{stored.config['method']} of {stored.config['dataset']}",
                [
                    Section("The first images", "Each image and its map.", [figure]),
                    Section(
                        "Rows by what became of them",
                        f"{len(statuses)} images under {stored.config['classifier']}.{predicted}",
                        table=Table(["", "images"], counts),
                    ),
                ],
                "A sample of the maps that are stored here: saliency_jax.scale.open reads them.",
            )
        root.write("index.html", Path(folder, "page", "index.html").read_text("utf-8"))


def _picture(image: np.ndarray, title: str) -> Any:
    from ..runs import plots

    if image.shape[-1] in (1, 3) and 0 <= image.min() <= image.max() <= 1 and len(image) > 1:
        return plots.image(image, title)
    # Of a signal the samples, as a map with a row for each channel.
    return plots.signed_map(image[0].T if len(image) == 1 else image.mean(-1), title)
