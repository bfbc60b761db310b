"""The optimizer that the classifiers here are trained by."""

import jax
import optax

from .._numerics import OPTAX_PROMOTION
from .._types import Count, Number
from .._validation import as_number, check_count

# The share of the steps in which the learning rate rises to its peak.
_WARMING = 0.25


def one_cycle_sgd(
    num_steps: Count,
    learning_rate: Number,
    *,
    momentum: Number = 0.9,
    weight_decay: Number = 5e-4,
) -> optax.GradientTransformation:
    """SGD with Nesterov's momentum, whose learning rate rises for a quarter and then falls to 0.

    Args:
      num_steps: of the whole training.
      learning_rate: the peak, from and to which the way is a half cosine.
      momentum: what the velocity keeps of itself each step, 0 to 1.
      weight_decay: of the kernels; vectors, as of biases and of batch normalization, have none.

    Returns:
      The optimizer.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> optimizer = one_cycle_sgd(8, 0.1, momentum=0.0)
      >>> params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
      >>> state, gradient = optimizer.init(params), jax.tree.map(jnp.zeros_like, params)
      >>> for _ in range(3):
      ...     updates, state = optimizer.update(gradient, state, params)
      >>> print(f'{updates["kernel"][0, 0]:.0e} {abs(updates["bias"][0]):.0f}')
      -5e-05 0

    Reference: Smith, Topin 2017, arXiv:1708.07120.
    """
    num_steps = check_count("num_steps", num_steps, 1)
    learning_rate = as_number("learning_rate", learning_rate, 0)
    momentum = as_number("momentum", momentum, 0)
    weight_decay = as_number("weight_decay", weight_decay, 0)
    schedule = optax.cosine_onecycle_schedule(num_steps, learning_rate, pct_start=_WARMING)

    def rate(step):
        with jax.numpy_dtype_promotion(OPTAX_PROMOTION):
            return schedule(step)

    return optax.chain(
        optax.add_decayed_weights(
            weight_decay, mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)
        ),
        optax.sgd(rate, momentum=momentum, nesterov=True),
    )
