"""Classifiers: a network, and the record of what it takes and knows."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Array, Float
from PIL import Image as PILImage

from .._validation import check_count, check_finite, check_pair, nearest
from ..images import PictureFile, fit, height_and_width, in_unit_range, read_image

Kind = Literal["image", "sound", "iq"]
KINDS = ("image", "sound", "iq")
_SHOWN_CLASSES = 20
_MOST_CHANNELS = 2**20


@dataclasses.dataclass(frozen=True)
class Input:
    """What a network takes.

    Attributes:
      kind: "image", (h, w, c) in [0, 1]; "sound", (1, t, 1), usually in [-1, 1]; or "iq", a
        radio's in-phase and quadrature samples (1, t, 2).
      size: the height and width trained for; any other size runs as well. A signal has one row.
      resize: the height and width that an image is fitted to before its centre of `size` is taken;
        `size` if left out.
      channels: channels of the image.
      sample_rate: of a sound, in hertz.
      mean: per channel, subtracted from the image by the network's first part.
      std: per channel, by which that divides the difference.
      mean_color: per channel, of the images trained on, in units of [0, 1]; `mean` if left out.

    Raises:
      ValueError: the kind is another, the lengths do not fit, or resize is below size.

    Example:
      >>> Input("image", (224, 224), resize=(256, 256)).mean_color
      (0.0, 0.0, 0.0)
    """

    kind: Kind
    size: tuple[int, int]
    resize: tuple[int, ...] = ()
    channels: int = 3
    sample_rate: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    mean_color: tuple[float, ...] = ()

    def __post_init__(self):
        check_count("channels", self.channels, 1, _MOST_CHANNELS)
        check_pair("size", self.size, "(height, width)")
        for side in self.size:
            check_count("size", side, 1)
        defaults = {
            "size": self.size,
            "resize": self.size,
            "mean": (0.0,) * self.channels,
            "std": (1.0,) * self.channels,
            "mean_color": self.mean or (0.0,) * self.channels,
        }
        for name, default in defaults.items():
            object.__setattr__(self, name, tuple(getattr(self, name) or default))
        if self.kind not in KINDS:
            raise ValueError(f"expected a kind of {', '.join(KINDS)}, got {self.kind!r}")
        for name in ("mean", "std", "mean_color"):
            if len(getattr(self, name)) != self.channels:
                raise ValueError(
                    f"expected {name} for {self.channels} channels, got {len(getattr(self, name))}"
                )
        if self.kind != "image" and self.size[0] != 1:
            raise ValueError(f"expected the size (1, t) of a signal, got {self.size}")
        if (self.kind == "sound") != (self.sample_rate is not None):
            raise ValueError(
                f"expected the sample_rate of sounds in hertz and of nothing else, got "
                f"{self.sample_rate} for kind {self.kind!r}"
            )
        if any(whole < part for whole, part in zip(self.resize, self.size, strict=True)):
            raise ValueError(
                f"expected resize to be at least the size {self.size}, got {self.resize}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A network with a name, and the record of what it takes and knows.

    The methods of this library take its `network`: this record is no model and no PyTree.

    Attributes:
      name: what figures and files call it.
      network: callable PyTree from one image (h, w, c) to logits (k,), with its normalization
        inside; in inference mode.
      input: what it takes.
      class_names: a name for each logit; numbers where there are no names.
      accuracies: percent by the name of the measure, such as "top-1"; empty if nothing is stated.
      training: what is known of its training, by name: texts and numbers that `card` writes.

    Raises:
      TypeError: the network is not callable.
      ValueError: the number of class names, or the normalization, is not the network's.

    Example:
      >>> from saliency_jax import models
      >>> classifier = models.load("tiny-imagenet-robust")
      >>> classifier.label("Bell_Pepper"), classifier.num_classes, classifier.input.size
      (3, 20, (64, 64))
    """

    name: str
    network: Any
    input: Input
    class_names: tuple[str, ...] = ()
    accuracies: Mapping[str, float] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not callable(self.network):
            raise TypeError(f"expected a callable network, got {type(self.network).__name__}")
        count = getattr(self.network, "num_classes", None)
        names = tuple(self.class_names)
        if not names:
            if count is None:
                raise ValueError("expected the names of the classes, got none")
            names = tuple(map(str, range(count)))
        if count is not None and len(names) != count:
            raise ValueError(f"expected {count} class names, got {len(names)}")
        object.__setattr__(self, "class_names", names)
        settings = getattr(self.network, "settings", {})
        for name in ("channels", "mean", "std", "sample_rate"):
            said = getattr(self.input, name)
            if name in settings and settings[name] != said:
                raise ValueError(
                    f"expected the input's {name} to be the network's {settings[name]}, got {said}"
                )

    @property
    def num_classes(self) -> int:
        """The number of logits k."""
        return len(self.class_names)

    @property
    def file_name(self) -> str:
        """The name as a part of file names."""
        return re.sub(r"[^\w.-]+", "-", self.name).strip("-")

    def label(self, text: str) -> int:
        """The class of a name, or of a number.

        Args:
          text: a class name, without regard to case and with `_` and `-` for spaces, or a number.

        Returns:
          The label, in 0 .. num_classes - 1.

        Raises:
          ValueError: there is no such class, or several have the name.
        """
        labels = [i for i, name in enumerate(self.class_names) if _folded(name) == _folded(text)]
        if len(labels) > 1:
            raise ValueError(
                f"expected the name of one class, got {text!r}, the name of "
                f"{' and '.join(map(str, labels))}; give the number"
            )
        if labels:
            return labels[0]
        if re.fullmatch(r"-?\d+", text):
            label = int(text)
            if not 0 <= label < self.num_classes:
                raise ValueError(
                    f"expected a label in 0 .. {self.num_classes - 1} or a class name of "
                    f"{self.name}, got {label}"
                )
            return label
        raise ValueError(
            f"expected a class of {self.name}, got {text!r}"
            f"{nearest(text, self.class_names) or _some(self.class_names)}"
        )

    def preprocess(
        self,
        source: PictureFile | np.ndarray | Array,
        *,
        size: int | tuple[int, int] | None = None,
    ) -> Float[np.ndarray, "h w c"]:
        """A file or an array as the network takes it.

        An image is fitted to `input.resize` and its centre of `input.size` taken; its grey levels
        are repeated for a network of colours, and the mean of its colours taken for one of grey
        levels. A sound is brought to the sample rate and into the middle of a clip of the size.

        Args:
          source: an image: a path, an open binary file, a file's bytes or a PIL image, as
            `images.read_image` takes them, or an array (h, w) or (h, w, c) of floats in [0, 1] or
            of uint8; a second or fourth channel is opacity, over white.
            A sound: the path of a WAV file, an open one, or an array (t,) or (1, t, 1) of floats
            at the network's sample rate.
            In-phase and quadrature samples: an array (t, 2) or (1, t, 2) of floats.
          size: another height and width than `input.size`, or one side of a square; what an image
            is fitted to grows with it. For signals (1, t).

        Returns:
          (h, w, c) of the size, float32; normalization is inside the network.

        Raises:
          FileNotFoundError: there is no such file.
          TypeError: the source is nothing of these.
          ValueError: the file cannot be read, or the array has another shape or range.

        Example:
          >>> import numpy as np
          >>> from saliency_jax import models
          >>> classifier = models.load("tiny-imagenet-robust")
          >>> classifier.preprocess(np.zeros((300, 400), np.uint8)).shape
          (64, 64, 3)
        """
        wanted = self.input.size if size is None else height_and_width(size)
        if self.input.kind == "image":
            image = _with_channels(_pixels(source), self.input.channels)
            return _centred(image, self.input, wanted)
        if wanted[0] != 1:
            raise ValueError(f"expected the size (1, t) of a signal, got {wanted}")
        return _signal(source, self.input, wanted[1])


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _some(names: Sequence[str]) -> str:
    more = " ..." if len(names) > _SHOWN_CLASSES else ""
    return f"; its classes are {', '.join(names[:_SHOWN_CLASSES])}{more}"


def _pixels(source: Any) -> np.ndarray:
    """The image (h, w, c), float32 in [0, 1]."""
    if not hasattr(source, "__array__") or isinstance(source, PILImage.Image):
        return read_image(source)
    array = np.asarray(source)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"expected an image (h, w, c) or (h, w), got shape {array.shape}")
    if array.dtype == np.uint8:
        return in_unit_range(array)
    array = _floats("the image", array)
    if array.min() < 0 or array.max() > 1:
        raise ValueError(
            f"expected floats in [0, 1], got {array.min():g} .. {array.max():g}; divide bytes by "
            "255, or give them as uint8"
        )
    return array


def _floats(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "f" and array.dtype.name != "bfloat16":
        raise TypeError(f"expected {name} to hold floats, got {array.dtype}")
    array = array.astype(np.float32)
    check_finite(name, array)
    return array


def _with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    if image.shape[-1] == channels:
        return image
    if image.shape[-1] in (2, 4):
        colors, opacity = image[..., :-1], image[..., -1:]
        image = colors * opacity + (1 - opacity)
    if channels == 1:
        return image.mean(-1, keepdims=True)
    if image.shape[-1] == 1:
        return np.repeat(image, channels, axis=-1)
    if image.shape[-1] == channels:
        return image
    raise ValueError(f"expected an image of {channels} channels, got {image.shape[-1]}")


def _centred(image: np.ndarray, taken: Input, size: tuple[int, int]) -> np.ndarray:
    """Fitted to the resize that belongs to the size, and the centre of the size."""
    height, width = (
        round(side * resize / usual)
        for side, resize, usual in zip(size, taken.resize, taken.size, strict=True)
    )
    fitted = fit(image, (height, width))
    top, left = round((height - size[0]) / 2), round((width - size[1]) / 2)
    return fitted[top : top + size[0], left : left + size[1]]


def _signal(source: Any, taken: Input, length: int) -> np.ndarray:
    # Upwards to the signals' room, for those alone who hold one of its networks.
    from ..signals import sound

    if not hasattr(source, "__array__"):
        if taken.kind != "sound":
            raise TypeError(
                f"expected an array of samples (t, {taken.channels}), got {type(source).__name__}"
            )
        assert taken.sample_rate is not None
        samples = sound.read(source, taken.sample_rate)[:, None]
    else:
        samples = _floats("the signal", np.asarray(source))
        if samples.ndim == 1 and taken.channels == 1:
            samples = samples[:, None]
        elif samples.ndim == 3 and samples.shape[0] == 1:
            samples = samples[0]
    if samples.ndim != 2 or samples.shape[1] != taken.channels or not len(samples):
        raise ValueError(
            f"expected a signal (t, {taken.channels}) or (1, t, {taken.channels}), got shape "
            f"{np.shape(source)}"
        )
    channels = [sound.centre(channel, length) for channel in samples.T]
    return np.stack(channels, axis=-1)[None]
