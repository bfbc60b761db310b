"""The shapes that every room of the library agrees on.

An image is one image: a batch is the caller's `jax.vmap`. Inside one signature the names of the
axes are bound, so an `Attribution` returned for an `Image` has the image's own shape.
"""

from collections.abc import Callable

from jaxtyping import Array, ArrayLike, Float, Integer, PRNGKeyArray, PyTree, Real

Image = Float[Array, "h w c"]
Attribution = Float[Array, "h w c"]
SaliencyMap = Float[Array, "h w"]
Logits = Float[Array, "k"]
Scalar = Float[Array, ""]

Label = Integer[ArrayLike, ""]
Number = Real[ArrayLike, ""]
Key = PRNGKeyArray
Params = PyTree[Float[Array, "..."]]

Model = Callable[[Image], Logits]
Score = Callable[[Image], Scalar]
Decode = Callable[[Params], Image]
Augment = Callable[[Image, Key], Image]
Prior = Callable[[Image], Scalar]
