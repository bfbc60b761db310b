"""The shapes that every room of the library agrees on.

An image is one image: a batch is the caller's `jax.vmap`. Inside one signature the names of the
axes are bound, so an `Attribution` returned for an `Image` has the image's own shape.

A signal (t, c) is an image of one row, `signal[None]`, and its model is `lambda image:
model(image[0])`. Windows, cells and crops of it have one row; a blur that is zero outside the image
fades it, `filters.blur` does not.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float, Integer, PRNGKeyArray, PyTree, Real

Image = Float[Array | np.ndarray, "h w c"]
Pixels = Float[Array, "h w c"]
Attribution = Float[Array, "h w c"]
SaliencyMap = Float[Array, "h w"]
AnyAttribution = Float[Array | np.ndarray, "h w c"]
AnyMap = Float[Array | np.ndarray, "h w"]
FeatureMap = Float[Array, "i j d"]
Logits = Float[Array, "k"]
Scalar = Float[Array, ""]

Count = int | np.integer | Integer[Array, ""] | Integer[np.ndarray, ""]
Label = Count
Number = int | float | np.number | Real[Array, ""] | Real[np.ndarray, ""]
Color = Number | Float[Array, "c"] | Float[np.ndarray, "c"]
Key = PRNGKeyArray
Params = PyTree[Float[Array | np.ndarray, "..."]]

Model = Callable[[Image], Logits]
ScoreFunction = Callable[[Image], Scalar]
Method = Callable[[ScoreFunction, Image], Float[Array, "..."]]
Baseline = Image | Callable[[Image], Image]
Decode = Callable[[Params], Image]
Augment = Callable[[Image, Key], Image]
Prior = Callable[[Image], Scalar]
