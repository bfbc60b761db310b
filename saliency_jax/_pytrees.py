"""Callables as PyTrees: what crosses `jax.jit` as an argument, and what becomes its structure."""

import dataclasses
import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from ._validation import check_callable


def as_pytree(function: Callable, name: str) -> Callable:
    """The same callable as a PyTree whose leaves are its numbers and nothing else.

    Leaves that are functions, and a plain function itself, become part of the structure; a bound
    method keeps its owner's numbers as leaves.

    Raises:
      TypeError: it is not callable.
    """
    check_callable(name, function)
    if inspect.ismethod(function) and not jax.tree_util.all_leaves([function.__self__]):
        # A bound method hides its module's weights, which would become constants.
        function = Partial(function.__func__, function.__self__)
    leaves, structure = jax.tree.flatten(function)
    functions = tuple(leaf if callable(leaf) else None for leaf in leaves)
    if all(leaf is None for leaf in functions):
        return function
    numbers = [None if callable(leaf) else leaf for leaf in leaves]
    return Partial(_FunctionsInStructure(structure, functions), numbers)


def have_equal_leaves(first: Any, second: Any) -> bool:
    """Whether two PyTrees are built alike of the very same leaves, which tracers can be too."""
    flattened: list[Any] = [jax.tree.flatten(tree) for tree in (first, second)]
    (leaves, structure), (others, other_structure) = flattened
    return structure == other_structure and all(map(_is_same, leaves, others))


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of random keys, or the shape of one."""
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) and jnp.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    )


def digest(tree: Any) -> str:
    """A number that other arrays, in value, type or shape, would hardly have."""
    number = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        number.update(f"{array.dtype} {array.shape}".encode())
        number.update(array.tobytes())
    return number.hexdigest()


def _is_same(leaf: Any, other: Any) -> bool:
    return leaf is other or (
        isinstance(leaf, int | float) and type(leaf) is type(other) and leaf == other
    )


@dataclasses.dataclass(frozen=True)
class _FunctionsInStructure:
    """A callable whose leaves that are functions have become part of its structure.

    A plain function is such a leaf, and so is an activation in an Equinox module; `jax.jit` takes
    no function among an argument's leaves.
    """

    structure: jax.tree_util.PyTreeDef
    functions: tuple[Callable | None, ...]

    def __call__(self, numbers: list, *arguments: Any) -> Any:
        leaves = [
            number if function is None else function
            for number, function in zip(numbers, self.functions, strict=True)
        ]
        return jax.tree.unflatten(self.structure, leaves)(*arguments)
