"""Reductions of an attribution (h, w, c), of any range, to a saliency map (h, w) of its units."""

import jax.numpy as jnp

from .._numerics import norm_along
from .._types import AnyAttribution, Attribution, SaliencyMap
from .._validation import as_unbounded


def max_abs(attribution: AnyAttribution) -> SaliencyMap:
    """The largest absolute value over the channels, the reduction of Simonyan et al.

    M_ij = max_c |A_ijc|

    Returns:
      The saliency map (h, w), at least 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.attribution import max_abs
      >>> print(max_abs(jnp.array([[[1.0, -3.0, 2.0]]])))
      [[3.]]

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034.
    """
    return jnp.abs(_checked(attribution)).max(axis=-1)


def sum_abs(attribution: AnyAttribution) -> SaliencyMap:
    """The sum of absolute values over the channels.

    M_ij = sum_c |A_ijc|

    Returns:
      The saliency map (h, w), at least 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.attribution import sum_abs
      >>> print(sum_abs(jnp.array([[[1.0, -3.0, 2.0]]])))
      [[6.]]

    Reference:
      Smilkov, Thorat, Kim, Viegas, Wattenberg, SmoothGrad, 2017, arXiv:1706.03825, section 2.2, on
      taking absolute values of signed gradients.
    """
    return jnp.abs(_checked(attribution)).sum(axis=-1)


def sum_channels(attribution: AnyAttribution) -> SaliencyMap:
    """The signed sum over the channels, which keeps an attribution's total.

    M_ij = sum_c A_ijc

    Returns:
      The signed map (h, w).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.attribution import sum_channels
      >>> print(sum_channels(jnp.array([[[1.0, -3.0, 2.5]]])))
      [[0.5]]

    Reference:
      Sundararajan, Taly, Yan, Axiomatic Attribution for Deep Networks, 2017, arXiv:1703.01365, on
      completeness: the attributions add up to a difference of scores.
    """
    return _checked(attribution).sum(axis=-1)


def l2_norm(attribution: AnyAttribution) -> SaliencyMap:
    """The Euclidean norm over the channels.

    M_ij = (sum_c A_ijc^2)^(1/2)

    Returns:
      The saliency map (h, w), at least 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.attribution import l2_norm
      >>> print(l2_norm(jnp.array([[[3.0, -4.0, 0.0]]])))
      [[5.]]

    Reference:
      Atanasova, Simonsen, Lioma, Augenstein, A Diagnostic Study of Explainability Techniques for
      Text Classification, 2020, arXiv:2009.13295, which compares reductions over an input's parts.
    """
    return norm_along(_checked(attribution), -1)


def _checked(attribution: AnyAttribution) -> Attribution:
    # A label out of range has made it nan, which is handed on.
    return as_unbounded("attribution", attribution, ("h", "w", "c"))
