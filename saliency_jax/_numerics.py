"""Norms and sums that neither overflow nor vanish."""

import functools
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ._types import Number

Tree = TypeVar("Tree", bound=PyTree[Float[Array, "..."]])


# Optax counts on it, where a program may have asked for strict promotion: Adam raises a float to
# an integer power.
OPTAX_PROMOTION = "standard"


def common_dtype(*dtypes: np.dtype) -> np.dtype:
    """The type that all are of; of different ones the narrowest that holds all, from float32 on.

    JAX's own promotion refuses different types where `jax_numpy_dtype_promotion` is "strict".
    """
    if len(set(dtypes)) == 1:
        return dtypes[0]
    return functools.reduce(np.promote_types, dtypes, np.dtype(np.float32))


def single_or_wider(dtype: Any) -> np.dtype:
    """float32 in place of half precision, where sums overflow or round.

    Random numbers are drawn in it and then rounded: half precision has few different ones, and
    draws others of the same key.
    """
    return common_dtype(np.dtype(dtype), np.dtype(np.float32))


def at_least_single(values: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The same values, in float32 if they are in half precision."""
    return values.astype(single_or_wider(values.dtype))


def in_dtype(number: Number, dtype: Any) -> Any:
    """The number for arithmetic with arrays of a dtype, which stays theirs.

    Python's numbers are as they are: JAX rounds them once, to whatever they are calculated with.
    """
    return number if isinstance(number, int | float) else jnp.asarray(number, dtype)


def norm(tree: PyTree[Float[Array, "..."]]) -> Float[Array, ""]:
    """The Euclidean norm over all values of a tree, in at least single precision.

    |x| = m |x / m| with m = max |x|, so that no square of 1e-25 is 0 and none of 1e25 is infinite.
    """
    largest, length = _scaled_norm(tree)
    return largest * length


def norm_along(values: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """The Euclidean norms along one axis, in the values' precision."""
    wide = at_least_single(values)
    largest = jnp.max(jnp.abs(wide), axis, keepdims=True)
    unit = jnp.where(largest == 0, 1, largest)
    lengths = jnp.sqrt(jnp.sum((wide / unit) ** 2, axis))
    return (jnp.squeeze(largest, axis) * lengths).astype(values.dtype)


def direction(tree: Tree) -> Tree:
    """A tree divided by its Euclidean norm; 0 where it is 0 everywhere."""
    largest, length = _scaled_norm(tree)
    # Two divisions: their product may not be a number of this precision.
    largest, length = (jnp.where(factor == 0, 1, factor) for factor in (largest, length))
    return jax.tree.map(
        lambda leaf: (at_least_single(leaf) / largest / length).astype(leaf.dtype), tree
    )


def cosine(first: Float[Array, "*n"], second: Float[Array, "*n"]) -> Float[Array, ""]:
    """The cosine between two arrays of one type; nan where one of them is 0 everywhere."""
    first, second = (direction(at_least_single(values)) for values in (first, second))
    # The lengths are 1 but for rounding, or 0.
    return jnp.sum(first * second) / (norm(first) * norm(second))


def _scaled_norm(tree: PyTree[Float[Array, "..."]]) -> tuple[Array, Array]:
    """The largest absolute value m of a tree, and the norm of the tree over m."""
    leaves = [at_least_single(leaf) for leaf in jax.tree.leaves(tree)]
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]))
    unit = jnp.where(largest == 0, 1, largest)
    squares = jnp.stack([jnp.sum((leaf / unit) ** 2) for leaf in leaves])
    return largest, jnp.sqrt(jnp.sum(squares))
