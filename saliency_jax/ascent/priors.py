"""Priors: penalties on an image, which gradient ascent subtracts from the score.

Priors are added and scaled with plain arithmetic, as scores are: `l2(1e-3) + total_variation(0.1)`.
"""

import jax.numpy as jnp

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


def _l2(weight: Number, center: Color | Image, image: Image) -> Scalar:
    check_color("center", center, image.shape, or_image=True)
    return jnp.sum((image - jnp.broadcast_to(center, image.shape)) ** 2) * weight
