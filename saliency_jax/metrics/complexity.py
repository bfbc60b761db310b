"""How few pixels a saliency map is made of: Gini index and entropy."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Scalar
from .._validation import check_finite, check_floats
from ._maps import at_least_single


def gini_sparsity(attribution: Float[Array, "*n"]) -> Scalar:
    """The Gini index of an attribution: how unequally it is shared out among the pixels.

    G = sum_k (2 k - n - 1) a_(k) / (n sum_k a_(k)), a_(1) <= ... <= a_(n) the sorted |A|

    Higher is sparser, which is easier to read.

    Traps: sparse is not faithful: one random pixel gets the best value. Coarse maps (Grad-CAM, any
    smoothing) are less sparse by construction, and so are maps of more pixels. Adding a constant
    lowers it, so it is a matter of where the map has its zero.

    Args:
      attribution: a saliency map (h, w) or an attribution (h, w, c), of any range; absolute values
        are taken.

    Returns:
      The index, without unit, from 0 (all equal) to 1 - 1 / n (a single value is not 0). For an
      attribution that is 0 everywhere it is undefined: nan.

    Raises:
      TypeError: the attribution does not hold floats.
      ValueError: it is known and not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> print(metrics.gini_sparsity(jnp.array([[0.0, 0.0, 0.0, 2.0]])))
      0.75

    Reference:
      Chalasani, Chen, Chowdhury, Jha, Wu, Concise Explanations of Neural Networks using Adversarial
      Training, 2018, arXiv:1810.06583. Hurley, Rickard, Comparing Measures of Sparsity, 2008,
      arXiv:0811.4706.
    """
    _check(attribution)
    values = jnp.sort(jnp.abs(at_least_single(attribution)).ravel())
    weights = 2 * jnp.arange(1, values.size + 1) - values.size - 1
    return jnp.sum(weights / values.size * values) / jnp.sum(values)


def entropy(attribution: Float[Array, "*n"]) -> Scalar:
    """The entropy of an attribution: over how many pixels it is spread.

    H = -sum_i p_i log p_i, p_i = |A_i| / sum_j |A_j|

    Also called complexity. Lower is simpler, which is easier to read; exp(H) is an effective number
    of pixels.

    Traps: as for the Gini index, simple is not faithful, and coarse maps are worse by construction.
    Images of different sizes have different ranges.

    Args:
      attribution: a saliency map (h, w) or an attribution (h, w, c), of any range; absolute values
        are taken.

    Returns:
      The entropy in nats, from 0 (a single value is not 0) to log n (all equal). For an attribution
      that is 0 everywhere it is undefined: nan.

    Raises:
      TypeError: the attribution does not hold floats.
      ValueError: it is known and not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> print(jnp.exp(metrics.entropy(jnp.array([[0.0, -2.0, 0.0, 2.0]]))).round(4))
      2.0

    Reference:
      Bhatt, Weller, Moura, Evaluating and Aggregating Feature-based Model Explanations, 2020,
      arXiv:2005.00631.
    """
    _check(attribution)
    values = jnp.abs(at_least_single(attribution))
    return jax.scipy.special.entr(values / values.sum()).sum()


def _check(attribution: Float[Array, "*n"]) -> None:
    check_floats("attribution", attribution)
    check_finite("attribution", attribution)
