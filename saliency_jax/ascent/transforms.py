"""Optax transformations that gradient ascent on images needs beside optax's own.

Each is a link for `optax.chain`, which sees descent directions: ascent hands the optimizer the
gradient of minus its objective.
"""

import jax
import jax.numpy as jnp
import optax

from .._types import Number, Params
from .._validation import check_at_least


def normalize_by_l2() -> optax.GradientTransformation:
    """Divides the gradient by its Euclidean norm, taken over the whole image at once.

    u = g / |g|_2, and u = 0 where g = 0

    Followed by `optax.sgd(learning_rate)`, every step has the length of the learning rate, however
    small or large the gradient is.

    Returns:
      An `optax.GradientTransformation` without state, over any PyTree of parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from saliency_jax.ascent import normalize_by_l2
      >>> optimizer = optax.chain(normalize_by_l2(), optax.sgd(0.5))
      >>> x = jnp.zeros((1, 2, 1))
      >>> updates, _ = optimizer.update(jnp.array([[[3e-30], [4e-30]]]), optimizer.init(x), x)
      >>> print(f"{jnp.linalg.norm(updates):.4f}")
      0.5000

    Reference:
      Engstrom, Ilyas, Santurkar, Tsipras, Tran, Madry, Adversarial Robustness as a Prior for
      Learned Representations, 2019, arXiv:1906.00945.
    """

    def normalized(gradient: Params, params: Params | None = None) -> Params:
        # Scaled by its largest value first: the squares of 1e-25 are 0 in float32.
        largest = optax.tree.max(jax.tree.map(lambda g: jnp.abs(g).max(), gradient))
        scaled = jax.tree.map(lambda g: g / jnp.where(largest == 0, 1, largest), gradient)
        norm = optax.tree.norm(scaled)
        return jax.tree.map(lambda g: g / jnp.where(norm == 0, 1, norm), scaled)

    return optax.stateless(normalized)


def keep_in_range(low: Number, high: Number) -> optax.GradientTransformation:
    """Shortens each update so that the parameters stay in a range: the last link of a chain.

    u' = clip(x + u, low, high) - x

    Args:
      low: the least value that a parameter may take, 0 for the pixels of images in [0, 1].
      high: the largest value, at least low.

    Returns:
      An `optax.GradientTransformation` without state. Parameters after the update are in
      [low, high]: exactly for [0, 1], to a rounding error for other ranges.

    Raises:
      ValueError: high is below low, both being known; when the transformation is used, it was not
        given the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from saliency_jax.ascent import keep_in_range
      >>> optimizer = optax.chain(optax.sgd(1.0), keep_in_range(0.0, 1.0))
      >>> x = jnp.full((1, 2, 1), 0.75)
      >>> updates, _ = optimizer.update(jnp.array([[[-2.0], [0.5]]]), optimizer.init(x), x)
      >>> print(optax.apply_updates(x, updates).squeeze())
      [1.   0.25]

    Reference:
      Madry, Makelov, Schmidt, Tsipras, Vladu, Towards Deep Learning Models Resistant to Adversarial
      Attacks, 2017, arXiv:1706.06083, on projected gradient steps.
    """
    check_at_least("high", high, low)

    def projected(updates: Params, params: Params | None = None) -> Params:
        if params is None:
            raise ValueError("expected params with the updates, got None")
        return jax.tree.map(lambda x, u: jnp.clip(x + u, low, high) - x, params, updates)

    return optax.stateless(projected)
