"""Score-CAM: a class activation map without gradients."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._chunks import map_chunked
from .._numerics import at_least_single
from .._types import Baseline, Count, Image, SaliencyMap, ScoreFunction
from .._validation import as_image, checked_together
from ..baselines import as_baseline, zeros
from ..layers import Layer
from ..scores import as_score
from ..segments import show
from ._grad_cam import Upsample, bilinear, check_layer, resized, upsampled


def score_cam(
    score: ScoreFunction,
    image: Image,
    *,
    layer: Layer,
    upsample: Upsample = bilinear,
    baseline: Baseline = zeros,
    batch_size: Count = 16,
) -> SaliencyMap:
    """Score-CAM: the feature maps, each weighted by the score of what it shows of the image.

    M = upsample(relu(sum_k w_k F_k)), w_k = exp S(x_k) / sum_l exp S(x_l), F = layer.map(I)
    x_k = H_k I + (1 - H_k) B, H_k = (U_k - min U_k) / (max U_k - min U_k), U_k = upsample(F_k)

    The paper subtracts S(B) from every score, which changes no weight, as they are relative. By
    scores that differ by less than 1, as probabilities do, all maps are weighted nearly alike: take
    a logit. A map without contrast has H_k = 0: it is weighted by the score of the baseline.

    Args:
      score, image, layer, upsample, baseline, batch_size: see the room. Any score will do; the
        masks and the result are upsampled alike.

    Returns:
      The saliency map (h, w): at least 0, in units of the feature map.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, scores
      >>> from saliency_jax.layers import Layer, identity
      >>> def model(image):
      ...     return 10 * image[0, 0]
      >>> image = jnp.array([[[1.0, 0.0], [0.0, 2.0]]])
      >>> score = scores.logit(model, 0)
      >>> print(attribution.score_cam(score, image, layer=Layer(identity, model)).round(2))
      [[1. 0.]]

    Reference:
      Wang, Wang, Du, Yang, Zhang, Ding, Mardziel, Hu, Score-CAM: Score-Weighted Visual Explanations
      for Convolutional Neural Networks, 2019, arXiv:1910.01279.
    """
    with checked_together():
        image, score = as_image(image), as_score(score)
        hidden = as_baseline(baseline, image)
    check_layer(layer)
    feature_map = at_least_single(layer.map(image))
    height, width, _ = image.shape

    def score_of_channel(cam):
        mask = _stretched(resized(cam, (height, width), upsample))
        return at_least_single(score(show(image, mask, hidden)))

    values = map_chunked(score_of_channel, jnp.moveaxis(feature_map, -1, 0), batch_size)
    weights = jax.nn.softmax(values).astype(feature_map.dtype)
    return upsampled(feature_map @ weights, image, upsample)


def _stretched(mask: Float[Array, "h w"]) -> Float[Array, "h w"]:
    contrast = mask.max() - mask.min()
    return (mask - mask.min()) / jnp.where(contrast > 0, contrast, 1)
