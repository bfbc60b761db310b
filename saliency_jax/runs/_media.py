"""What a page has inside: pictures and sounds as addresses that need no other file."""

import base64
import dataclasses
import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image as PILImage

from ._cells import Picture

# From the finest to the coarsest that is tried, for a page to be no larger than it may.
QUALITIES = (100, 90, 75, 50, 25)
# Of a figure: its file as it is.
_FINEST = QUALITIES[0]
# Enlarged ones are pixels that people look at one by one: nothing of them is lost.
SMALL = 128
# Beyond the finest level small ones are coarser too, but not before all others are.
_SMALL_TOO = 50
_LARGEST_WEBP = 16383


@dataclasses.dataclass(frozen=True)
class Source:
    """A picture in a page.

    Attributes:
      name: of its element, by which another of the same pixels refers to it.
      address: its content; "" where the page has it already.
    """

    name: str
    address: str


class Media:
    """The pictures of one page, each written once.

    Args:
      quality: one of `QUALITIES`.
    """

    def __init__(self, quality: int = _FINEST):
        self._quality = quality
        self._names: dict[bytes, str] = {}
        self._num_names = 0

    def name(self, kind: str) -> str:
        """A name that no other element has."""
        self._num_names += 1
        return f"{kind}-{self._num_names}"

    def source(self, picture: Picture) -> Source:
        """A picture of a view: small ones without loss as long as that is possible."""
        pixels = np.rint(np.clip(picture.pixels, 0, 1) * 255).astype(np.uint8)
        key = repr(pixels.shape).encode() + pixels.tobytes()
        if key in self._names:
            return Source(self._names[key], "")
        self._names[key] = self.name("picture")
        small = max(picture.shape) <= SMALL and self._quality > _SMALL_TOO
        quality = 100 if small else min(self._quality, 90)
        return Source(self._names[key], address(*_encoded(pixels, quality)))

    def figure(self, content: bytes, kind: str) -> str:
        """The content of a figure's file, or of a sound's, as fine as the quality allows."""
        if kind != "image/png" or self._quality == _FINEST:
            return address(kind, content)
        with PILImage.open(io.BytesIO(content)) as image:
            kind, encoded = _encoded(np.asarray(image.convert("RGB")), self._quality)
        return address(kind, encoded)


def _encoded(pixels: UInt8[np.ndarray, "h w 3"], quality: int) -> tuple[str, bytes]:
    """A picture's kind and content; of quality 100 nothing is lost."""
    file = io.BytesIO()
    image = PILImage.fromarray(pixels)
    if max(image.size) > _LARGEST_WEBP:
        image.save(file, "JPEG", quality=quality)
        return "image/jpeg", file.getvalue()
    image.save(file, "WEBP", lossless=quality == 100, quality=quality, method=4)
    return "image/webp", file.getvalue()


def address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
