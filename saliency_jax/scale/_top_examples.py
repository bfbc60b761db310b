"""The images of a data set that excite each channel of a layer most, and where in them."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from .. import rules, scores
from .._pytrees import digest
from .._types import Count, FeatureMap, Image
from .._validation import check_callable, check_count, check_image_shape, check_path, check_text
from ..images import Size, height_and_width
from ..models import Classifier
from ._attribute import judge, said, status_of
from ._compute import Devices, Progress, run
from ._images import images_of
from ._store import Stored
from ._store import open as open_stored

# Rows that are compared at once.
_READ = 1024
# Of the noise that a line is replaced by, in units of the image's: what reaches a place by many
# small weights is seen by the strong one, and what is cut off at a largest value by the faint one.
_STRENGTHS = (1.0, 1e4)

Excite = Callable[[Any, Image, Integer[Array, ""]], FeatureMap]


class TopExamples(NamedTuple):
    """What excites the d channels of a layer, of n images.

    Attributes:
      numbers: (d, k), the rows of the k images, from the most exciting on; of equals the first.
      peaks: (d, k), how much the place excites the channel that excites it most.
      places: (d, k, 2), the row and column of that place in the layer's map.
      dead: (d,), the share of images in which no place has a value above 0.
      by_class: (c, d), the mean of the peaks over the images of each of the classifier's classes;
        nan where there are none.
      stored: the columns by image: `peaks` (n, d), `places` (n, d), flat, `labels`, `predictions`,
        `ids` and `status`, as of `attribute`.
    """

    numbers: Integer[np.ndarray, "d k"]
    peaks: Float[np.ndarray, "d k"]
    places: Integer[np.ndarray, "d k 2"]
    dead: Float[np.ndarray, "d"]
    by_class: Float[np.ndarray, "c d"]
    stored: Stored


def activations(layer: str) -> Excite:
    """What excites a channel: its activations.

    Args:
      layer: the name of one of the network's layers.

    Returns:
      The function of network, image and label, for `top_examples`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from saliency_jax import models, scale
      >>> network = models.load("tiny-imagenet-robust").network
      >>> excite = scale.activations("stage 4")
      >>> jax.eval_shape(excite, network, jnp.zeros((64, 64, 3)), jnp.array(0)).shape
      (4, 4, 256)
    """
    check_text("layer", layer)

    def excite(network: Any, image: Image, label: Integer[Array, ""]) -> FeatureMap:
        return network.layer(layer).map(image)

    return excite


def relevances(layer: str, **options: Any) -> Excite:
    """What excites a channel: the relevance of the image's class that passes through it.

    Args:
      layer: the name of one of the network's layers, which carries a map.
      **options: of `rules.lrp`.

    Returns:
      The function of network, image and label, for `top_examples`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from saliency_jax import models, scale
      >>> network = models.load("tiny-imagenet-robust").network
      >>> excite = scale.relevances("stage 4")
      >>> jax.eval_shape(excite, network, jnp.full((32, 32, 3), 0.5), jnp.array(0)).shape
      (2, 2, 256)

    Reference: Achtibat et al. 2023, arXiv:2206.03208.
    """
    check_text("layer", layer)

    def excite(network: Any, image: Image, label: Integer[Array, ""]) -> FeatureMap:
        cut = network.layer(layer)
        return rules.lrp(scores.logit(network, label).on(cut.head), cut.map(image), **options)

    return excite


def top_examples(
    excite: Excite,
    classifier: Classifier,
    dataset: str,
    output: str | os.PathLike,
    *,
    batch_size: Count,
    k: Count = 9,
    split: str | None = None,
    size: Size | None = None,
    class_labels: Sequence[int] | None = None,
    strict: bool = False,
    devices: Devices | None = None,
    progress: Progress | None = None,
    data_dir: str | Path | None = None,
) -> TopExamples:
    """For every channel of a layer the k images that excite it most, and where.

    peak[n, c] = max_ij excite(network, x_n, y_n)[i, j, c]

    Each image's peaks are stored as they come, and then compared block by block: memory does not
    grow with the number of images, and a run that is interrupted continues.

    Args:
      excite: from network, image and label to a map (i, j, d): `activations("stage 3")`,
        `relevances("stage 3")` or one of your own.
      classifier, dataset, split, size, class_labels, strict, data_dir: see `attribute`.
      output, batch_size, devices, progress: see the room.
      k: how many images, at most as many as there are.

    Returns:
      The images, their places and what is known of the channels.

    Raises:
      TypeError, ValueError, FileNotFoundError, BlockingIOError, OSError: as `attribute`.

    Example:
      Which picture is reddest, and which greenest:

      >>> import pathlib
      >>> from PIL import Image
      >>> from saliency_jax import models, scale
      >>> folder = pathlib.Path("colours", "test", "any")
      >>> folder.mkdir(parents=True)
      >>> for color in ("blue", "green", "red"):
      ...     Image.new("RGB", (64, 64), color).save(folder / f"{color}.png")
      >>> def colors(network, image, label):
      ...     return image
      >>> robust = models.load("tiny-imagenet-robust")
      >>> found = scale.top_examples(
      ...     colors, robust, "./colours", "exciting", batch_size=3, k=1, size=8
      ... )
      >>> [str(found.stored["ids"][number]) for number in found.numbers[:2, 0]]
      ['test/any/red.png', 'test/any/green.png']

    Reference: Zeiler, Fergus 2014, arXiv:1311.2901; Bau et al. 2017, arXiv:1704.05796.
    """
    check_callable("excite", excite)
    check_path("output", output)
    if progress is not None:
        check_callable("progress", progress)
    wanted = check_count("k", k, 1)
    source = images_of(
        classifier,
        dataset,
        split,
        batch_size=check_count("batch_size", batch_size, 1),
        size=None if size is None else height_and_width(size),
        class_labels=class_labels,
        data_dir=data_dir,
    )
    first, _ = source.read(0)
    run(
        functools.partial(_row, excite=excite),
        source,
        output,
        shared=classifier.network,
        settings={
            "excite": said(excite),
            "classifier": classifier.name,
            "dataset": dataset,
            "split": split,
            "first image": digest(first["image"][0]),
        },
        devices=devices,
        progress=progress,
        judge=functools.partial(judge, strict=strict),
    )
    image = jax.ShapeDtypeStruct(first["image"].shape[1:], first["image"].dtype)
    label = jax.ShapeDtypeStruct((), np.dtype(np.int32))
    columns = jax.eval_shape(excite, classifier.network, image, label).shape[1]
    return _ranked(open_stored(output), wanted, columns, classifier.num_classes)


def _row(network: Any, point: Mapping[str, Array], *, excite: Excite) -> dict[str, Array]:
    """The columns of one image."""
    values = excite(network, point["image"], point["label"])
    flat = values.reshape(-1, values.shape[-1])
    return {
        "peaks": flat.max(0).astype(np.float32),
        "places": flat.argmax(0).astype(np.int32),
        "labels": point["label"],
        "predictions": jnp.argmax(network(point["image"])).astype(np.int32),
        "status": status_of(point, is_finite=jnp.isfinite(values).all()),
    }


def _ranked(stored: Stored, k: int, columns: int, num_classes: int) -> TopExamples:
    """Of stored peaks the largest, block by block."""
    num_rows, num_channels = stored["peaks"].shape
    best = np.full((0, num_channels), -np.inf, np.float32)
    numbers = np.zeros((0, num_channels), np.int64)
    silent, counted = np.zeros(num_channels), 0
    sums, counts = np.zeros((num_classes, num_channels)), np.zeros(num_classes)
    for start in range(0, num_rows, _READ):
        rows = np.arange(start, min(start + _READ, num_rows))
        rows = rows[stored["status"][rows] == 0]
        peaks, labels = stored["peaks"][rows], stored["labels"][rows]
        silent += (peaks <= 0).sum(0)
        counted += len(rows)
        known = labels >= 0
        np.add.at(sums, labels[known], peaks[known])
        np.add.at(counts, labels[known], 1)
        best = np.concatenate([best, peaks])
        numbers = np.concatenate([numbers, np.broadcast_to(rows[:, None], peaks.shape)])
        # Those that came first are first among equals.
        order = np.argsort(-best, axis=0, kind="stable")[:k]
        best, numbers = (np.take_along_axis(each, order, 0) for each in (best, numbers))
    if not counted:
        raise ValueError("expected images that can be read, got none")
    flat = np.stack(
        [stored["places"][numbers[:, channel]][:, channel] for channel in range(num_channels)]
    )
    with np.errstate(invalid="ignore"):
        by_class = sums / counts[:, None]
    places = np.stack(np.divmod(flat, columns), axis=-1)
    return TopExamples(numbers.T, best.T, places, silent / counted, by_class, stored)


def receptive_field(
    function: Callable[[Image], FeatureMap], shape: tuple[int, ...]
) -> tuple[Integer[np.ndarray, "i 2"], Integer[np.ndarray, "j 2"]]:
    """Which of an image's rows and columns reach each row and each column of a layer's map.

    Of an image of noise one line after the other is replaced by other noise, faint and very strong:
    what looks at it changes. So the field is found for any function, by two passes for each row and
    each column; what is lost in rounding does not belong to it.

    Args:
      function: from an image to a map (i, j, d), such as `layer.map`.
      shape: of the image, (h, w, c).

    Returns:
      Of each row of the map the first row of the image that reaches it and the one after the last,
      (i, 2); of its columns likewise, (j, 2). Both 0 where none does.

    Raises:
      TypeError: the function is not callable.
      ValueError: the shape is not (h, w, c).

    Example:
      The field of a place in an average over 2x2 pixels:

      >>> from saliency_jax import scale
      >>> def halve(image):
      ...     return image.reshape(2, 2, 3, 2, 1).mean((1, 3))
      >>> rows, columns = scale.receptive_field(halve, (4, 6, 1))
      >>> rows.tolist(), columns[2].tolist()
      ([[0, 2], [2, 4]], [4, 6])
    """
    check_callable("function", function)
    check_image_shape(shape)
    image_key, line_key = jax.random.split(jax.random.key(0))
    image = jax.random.uniform(image_key, shape)
    noise = jax.random.normal(line_key, shape)

    def reached(axis: int) -> Bool[np.ndarray, "h i"]:
        lines = np.arange(shape[axis]).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        axes = (1 - axis, 2)

        @jax.jit
        def of_line(line: Array, strength: Array) -> FeatureMap:
            return function(jnp.where(lines == line, strength * noise, image))

        # By one program, which rounds alike; before the first line there is none.
        as_it_is = np.asarray(of_line(jnp.array(-1), jnp.array(1.0)))
        changes = [
            [
                np.any(np.asarray(of_line(jnp.array(line), jnp.array(strength))) != as_it_is, axes)
                for strength in _STRENGTHS
            ]
            for line in range(shape[axis])
        ]
        return np.any(changes, axis=1)

    return _ends(reached(0)), _ends(reached(1))


def _ends(reaches: Bool[np.ndarray, "h i"]) -> Integer[np.ndarray, "i 2"]:
    """The first line that reaches each place, and the one after the last."""
    first = reaches.argmax(0)
    last = len(reaches) - reaches[::-1].argmax(0)
    is_reached = np.any(reaches, axis=0, keepdims=True).T
    return np.where(is_reached, np.stack([first, last], axis=-1), 0)
