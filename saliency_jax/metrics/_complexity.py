"""How few pixels a saliency map is made of: Gini index and entropy."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics import at_least_single
from .._types import Scalar
from .._validation import check_finite, check_floats, to_jax

Values = Float[Array | np.ndarray, "*n"]


def gini_sparsity(attribution: Values) -> Scalar:
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
    values = jnp.sort(_relative(attribution))
    # (2 k - n - 1) / n for k = 1 .. n.
    weights = jnp.arange(1 - values.size, values.size, 2, dtype=values.dtype) / values.size
    return jnp.sum(weights * values) / jnp.sum(values)


def entropy(attribution: Values) -> Scalar:
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

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> print(jnp.exp(metrics.entropy(jnp.array([[0.0, -2.0, 0.0, 2.0]]))).round(4))
      2.0

    Reference:
      Bhatt, Weller, Moura, Evaluating and Aggregating Feature-based Model Explanations, 2020,
      arXiv:2005.00631.
    """
    values = _relative(attribution)
    return jax.scipy.special.entr(values / values.sum()).sum()


def _relative(attribution: Values) -> Float[Array, "n"]:
    """The absolute values over their largest, whose sum neither overflows nor vanishes."""
    check_floats("attribution", attribution)
    if attribution.size == 0:
        raise ValueError(f"expected attribution to hold values, got shape {attribution.shape}")
    check_finite("attribution", attribution)
    values = jnp.abs(at_least_single(to_jax(attribution))).ravel()
    return values / values.max()
