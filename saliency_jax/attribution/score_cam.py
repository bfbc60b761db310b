"""Score-CAM: a class activation map without gradients."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Baseline, Count, Image, SaliencyMap
from ._chunks import map_chunked
from .baselines import as_baseline, zeros
from .grad_cam import Features, FeatureScore, Upsample, bilinear, feature_map_of, sides


def score_cam(
    score: FeatureScore,
    image: Image,
    *,
    features: Features,
    upsample: Upsample = bilinear,
    baseline: Baseline = zeros,
    batch_size: Count = 16,
) -> SaliencyMap:
    """Score-CAM: the feature maps, each weighted by the score of what it shows of the image.

    M = upsample(relu(sum_k w_k F(I)_k)), w_k = exp S(F(x_k)) / sum_l exp S(F(x_l)), F = features
    x_k = B + H_k (I - B), H_k = (U_k - min U_k) / (max U_k - min U_k), U_k = upsample(F(I)_k)

    The paper subtracts S(F(B)) from every score, which changes no weight, as they are relative. By
    scores that differ by less than 1, as probabilities do, all maps are weighted nearly alike: take
    a logit. A map without contrast has H_k = 0: it is weighted by the score of the baseline.

    Args:
      score: callable PyTree from a feature map (i, j, k) to a scalar, such as
        `scores.logit(model.head, label)`. Where a score is itself an argument of a compiled
        function, `Partial(type(model).head, model)` carries the weights across.
      image: (h, w, c), in the range that the features take, usually [0, 1].
      features: callable from the image to the feature map (i, j, k), such as `model.features`; any
        pair does whose composition is the model.
      upsample: (map (i, j), (h, w)) -> map (h, w), of the masks and of the result: `bilinear` or
        `nearest`.
      baseline: what is shown where a mask is 0: an array (h, w, c) in the image's range, or a
        function of the image. The paper's is zero.
      batch_size: how many masks are evaluated at once, at least 1: memory does not grow with the
        number k of feature maps, and the result changes by rounding alone.

    Returns:
      The saliency map (h, w): at least 0, in units of the feature map.

    Raises:
      TypeError: the image or the baseline does not hold floats, the features are not callable, or
        batch_size is no integer.
      ValueError: the image is not of shape (h, w, c), the features do not have shape (i, j, k), the
        baseline is not of the image's shape, image or baseline is known and not finite, or
        batch_size is below 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> def score(feature_map):
      ...     return 10 * feature_map[0, 0, 0]
      >>> image = jnp.array([[[1.0, 0.0], [0.0, 2.0]]])
      >>> print(attribution.score_cam(score, image, features=lambda image: image).round(2))
      [[1. 0.]]

    Reference:
      Wang, Wang, Du, Yang, Zhang, Ding, Mardziel, Hu, Score-CAM: Score-Weighted Visual Explanations
      for Convolutional Neural Networks, 2019, arXiv:1910.01279.
    """
    feature_map = feature_map_of(features, image)
    instead = as_baseline(baseline, image)

    def of_channel(cam):
        mask = _stretched(upsample(cam, sides(image)))
        return score(features(instead + mask[..., None] * (image - instead)))

    values = map_chunked(of_channel, jnp.moveaxis(feature_map, -1, 0), batch_size)
    return upsample(jax.nn.relu(feature_map @ jax.nn.softmax(values)), sides(image))


def _stretched(mask: Float[Array, "h w"]) -> Float[Array, "h w"]:
    contrast = mask.max() - mask.min()
    return (mask - mask.min()) / jnp.where(contrast > 0, contrast, 1)
