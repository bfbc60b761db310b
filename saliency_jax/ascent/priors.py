"""Priors: penalties on an image, which gradient ascent subtracts from the score.

Priors are added and scaled with plain arithmetic, as scores are: `l2(1e-3) + total_variation(0.1)`.
"""

import jax.numpy as jnp
from jaxtyping import Array

from .._types import Color, Image, Number, Scalar
from .._validation import check_at_least, check_color
from ..scores import Objective


def l2(weight: Number, center: Color | Image = 0.0) -> Objective:
    """The squared distance from a centre, the regularizer of Simonyan et al.

    R(I) = weight * |I - center|_2^2

    Args:
      weight: lambda of the paper, at least 0, in units of the score per squared unit of the image.
        A traced one is welcome, so weights can be mapped over with `jax.vmap`.
      center: where the penalty is 0: one value, one for each channel (c,), or an image (h, w, c).
        The paper's images are zero-centred, so its centre is 0; for images in [0, 1] it is the mean
        colour of the training images.

    Returns:
      A callable PyTree from one image (h, w, c) to a scalar, at least 0.

    Raises:
      ValueError: the weight is known and negative; when the prior is called, the centre does not
        fit the image.

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
    check_at_least("weight", weight, 0)
    return Objective(_l2, weight, center)


def alpha_norm(weight: Number, alpha: Number = 6.0, center: Color | Image = 0.0) -> Objective:
    """The sum of a power of the distances from a centre, which for a high power bounds the image.

    R(I) = weight * |I - center|_alpha^alpha = weight * sum_ijc |I_ijc - center|^alpha

    With alpha 2 it is `l2`, with alpha 1 the L1 norm.

    Args:
      weight: at least 0, in units of the score per power of the image's unit. A traced one is
        welcome.
      alpha: the power, at least 1; 6 is that of Mahendran and Vedaldi.
      center: where the penalty is 0: one value, one for each channel (c,), or an image (h, w, c).

    Returns:
      A callable PyTree from one image (h, w, c) to a scalar, at least 0.

    Raises:
      ValueError: the weight is known and negative, or alpha is known and below 1; when the prior is
        called, the centre does not fit the image.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import alpha_norm
      >>> print(alpha_norm(0.5, 3.0)(jnp.full((1, 2, 1), -2.0)))
      8.0

    Reference:
      Mahendran, Vedaldi, Understanding Deep Image Representations by Inverting Them, 2014,
      arXiv:1412.0035, section 3.1.
    """
    check_at_least("weight", weight, 0)
    check_at_least("alpha", alpha, 1)
    return Objective(_alpha_norm, weight, alpha, center)


def total_variation(weight: Number) -> Objective:
    """The sum of the differences between neighbouring pixels, which smooth images have small.

    R(I) = weight * (sum |I_{i+1,j,c} - I_ijc| + sum |I_{i,j+1,c} - I_ijc|)

    Args:
      weight: at least 0, in units of the score per unit of the image. A traced one is welcome.

    Returns:
      A callable PyTree from one image (h, w, c) to a scalar, at least 0.

    Raises:
      ValueError: the weight is known and negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import total_variation
      >>> print(total_variation(0.5)(jnp.array([[[0.0], [1.0]], [[0.0], [3.0]]])))
      3.0

    Reference:
      Rudin, Osher, Fatemi, Nonlinear total variation based noise removal algorithms, Physica D,
      1992; this, the anisotropic form, is that of lucid.
    """
    check_at_least("weight", weight, 0)
    return Objective(_total_variation, weight)


def _l2(weight: Number, center: Color | Image, image: Image) -> Scalar:
    check_color("center", center, image.shape, or_image=True)
    return jnp.sum((image - jnp.broadcast_to(center, image.shape)) ** 2) * weight


def _alpha_norm(weight: Number, alpha: Number, center: Color | Image, image: Image) -> Scalar:
    check_color("center", center, image.shape, or_image=True)
    return jnp.sum(_absolute(image - jnp.broadcast_to(center, image.shape)) ** alpha) * weight


def _total_variation(weight: Number, image: Image) -> Scalar:
    down, right = (jnp.sum(_absolute(jnp.diff(image, axis=axis))) for axis in (0, 1))
    return (down + right) * weight


def _absolute(values: Array) -> Array:
    # JAX takes 1 as the slope of `abs` at 0, which would set a flat image's edges moving.
    return values * jnp.sign(values)
