"""Priors: penalties on an image, which gradient ascent subtracts from the score.

Priors are added and scaled with plain arithmetic, as scores are: `l2(1e-3) + total_variation(0.1)`.
"""

import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array

from .._numerics import at_least_single, in_dtype
from .._types import Color, Image, Number, Scalar
from .._validation import as_color, as_image, as_number, filled
from ..layers import identity
from ..scores import Score


def l2(weight: Number, center: Color | Image = 0.0) -> Score:
    """The squared distance from a centre, the regularizer of Simonyan et al.

    R(I) = weight * |I - center|_2^2

    Args:
      weight, center: see the room. The weight is lambda of the paper, whose images are
        zero-centred.

    Returns:
      The prior, a score at least 0, in at least single precision.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import l2
      >>> prior = l2(0.5, center=1.0)
      >>> print(prior(jnp.full((1, 2, 1), 3.0)))
      4.0

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034,
      equation 1.
    """
    return Score(Partial(_l2, as_number("weight", weight, 0), as_color("center", center)), identity)


def alpha_norm(weight: Number, alpha: Number = 6.0, center: Color | Image = 0.0) -> Score:
    """The sum of a power of the distances from a centre, which for a high power bounds the image.

    R(I) = weight * |I - center|_alpha^alpha = weight * sum_ijc |I_ijc - center|^alpha

    With alpha 2 it is `l2`, with alpha 1 the L1 norm.

    Args:
      weight, center: see the room.
      alpha: the power, at least 1; 6 is that of Mahendran and Vedaldi.

    Returns:
      The prior, a score at least 0, in at least single precision.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import alpha_norm
      >>> print(alpha_norm(0.5, 3.0)(jnp.full((1, 2, 1), -2.0)))
      8.0

    Reference:
      Mahendran, Vedaldi, Understanding Deep Image Representations by Inverting Them, 2014,
      arXiv:1412.0035, section 3.1.
    """
    numbers = as_number("weight", weight, 0), as_number("alpha", alpha, 1)
    return Score(Partial(_alpha_norm, *numbers, as_color("center", center)), identity)


def total_variation(weight: Number) -> Score:
    """The sum of the differences between neighbouring pixels, which smooth images have small.

    R(I) = weight * (sum |I_{i+1,j,c} - I_ijc| + sum |I_{i,j+1,c} - I_ijc|)

    Args:
      weight: see the room.

    Returns:
      The prior, a score at least 0, in at least single precision.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import total_variation
      >>> print(total_variation(0.5)(jnp.array([[[0.0], [1.0]], [[0.0], [3.0]]])))
      3.0

    Reference:
      Rudin, Osher, Fatemi, Nonlinear total variation based noise removal algorithms, Physica D,
      1992; this, the anisotropic form, is that of lucid.
    """
    return Score(Partial(_total_variation, as_number("weight", weight, 0)), identity)


def _l2(weight: Number, center: Color | Image, image: Image) -> Scalar:
    offset = _offset(image, center)
    return jnp.sum(offset**2) * in_dtype(weight, offset.dtype)


def _alpha_norm(weight: Number, alpha: Number, center: Color | Image, image: Image) -> Scalar:
    offset = _offset(image, center)
    weight, alpha = in_dtype(weight, offset.dtype), in_dtype(alpha, offset.dtype)
    return jnp.sum(_absolute(offset) ** alpha) * weight


def _total_variation(weight: Number, image: Image) -> Scalar:
    image = at_least_single(as_image(image))
    down, right = (jnp.sum(_absolute(jnp.diff(image, axis=axis))) for axis in (0, 1))
    return (down + right) * in_dtype(weight, image.dtype)


def _offset(image: Image, center: Color | Image) -> Array:
    image = at_least_single(as_image(image))
    return image - filled("center", center, image.shape, image.dtype, or_image=True)


def _absolute(values: Array) -> Array:
    # JAX takes 1 as the slope of `abs` at 0, which would set a flat image's edges moving.
    return values * jnp.sign(values)
