"""Class activation maps weighted by gradients: Grad-CAM, Grad-CAM++ and LayerCAM; their fusion."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Image, Number, SaliencyMap, Scalar
from .._validation import check_array, check_at_least, check_image

FeatureMap = Float[Array, "i j k"]
Cam = Float[Array, "i j"]
Features = Callable[[Image], FeatureMap]
FeatureScore = Callable[[FeatureMap], Scalar]
Upsample = Callable[[Cam, tuple[int, int]], Float[Array, "h w"]]


def bilinear(cam: Cam, shape: tuple[int, int]) -> Float[Array, "h w"]:
    """A map resized bilinearly, by the convention that pixels are squares (half-pixel centres).

    M(y) = sum_i max(0, 1 - |s (y + 1/2) - (i + 1/2)|) C_i along each axis, with s = i's count / h,
    and constant beyond the outermost centres

    Args:
      cam: (i, j), in any range.
      shape: (h, w), at least as large for upsampling; a smaller one is antialiased.

    Returns:
      The map (h, w), in the range of the cam.

    Raises:
      TypeError: the cam does not hold floats.
      ValueError: the cam is not of shape (i, j).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.attribution import bilinear
      >>> print(bilinear(jnp.array([[0.0, 4.0]]), (1, 4)))
      [[0. 1. 3. 4.]]

    Reference:
      Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, Grad-CAM, 2016, arXiv:1610.02391, which
      upsamples its maps bilinearly.
    """
    check_array("cam", cam, ("i", "j"))
    return jax.image.resize(cam, shape, "bilinear")


def nearest(cam: Cam, shape: tuple[int, int]) -> Float[Array, "h w"]:
    """A map resized by repeating its values, which shows the feature map's own resolution.

    M(y) = C_i with i = floor((y + 1/2) i's count / h) along each axis

    Args:
      cam: (i, j), in any range.
      shape: (h, w).

    Returns:
      The map (h, w), of the cam's values.

    Raises:
      TypeError: the cam does not hold floats.
      ValueError: the cam is not of shape (i, j).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.attribution import nearest
      >>> print(nearest(jnp.array([[0.0, 4.0]]), (1, 4)))
      [[0. 0. 4. 4.]]

    Reference:
      Zhou, Khosla, Lapedriza, Oliva, Torralba, Learning Deep Features for Discriminative
      Localization, 2015, arXiv:1512.04150, on maps of a feature map's resolution.
    """
    check_array("cam", cam, ("i", "j"))
    return jax.image.resize(cam, shape, "nearest")


def grad_cam(
    score: FeatureScore,
    image: Image,
    *,
    features: Features,
    upsample: Upsample = bilinear,
) -> SaliencyMap:
    """Grad-CAM: the feature maps, each weighted by the score's mean gradient in it.

    M = upsample(relu(sum_k w_k F_k)), w_k = mean_ij dS/dF_ijk, F = features(I)

    Args:
      score: callable PyTree from a feature map (i, j, k) to a scalar, such as
        `scores.logit(model.head, label)`. Where a score is itself an argument of a compiled
        function, `Partial(type(model).head, model)` carries the weights across.
      image: (h, w, c), in the range that the features take, usually [0, 1].
      features: callable from the image to the feature map (i, j, k), such as `model.features`; any
        pair does whose composition is the model.
      upsample: (map (i, j), (h, w)) -> map (h, w), applied after the rectifier: `bilinear` or
        `nearest`.

    Returns:
      The saliency map (h, w): at least 0, in units of the score over i j. Where the map before the
      rectifier is nowhere positive it is 0.

    Raises:
      TypeError: the image does not hold floats, or the features are not callable.
      ValueError: the image is not of shape (h, w, c), it is known and not finite, or the features
        do not have shape (i, j, k).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, scores
      >>> def features(image):
      ...     return image[::2, ::2]
      >>> def head(feature_map):
      ...     return feature_map.mean((0, 1))
      >>> image = jnp.arange(16.0).reshape(4, 4, 1)
      >>> score = scores.logit(head, 0)
      >>> print(attribution.grad_cam(
      ...     score, image, features=features, upsample=attribution.nearest
      ... ))
      [[0.  0.  0.5 0.5]
       [0.  0.  0.5 0.5]
       [2.  2.  2.5 2.5]
       [2.  2.  2.5 2.5]]

    Reference:
      Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, Grad-CAM, 2016, arXiv:1610.02391.
    """
    feature_map, gradient = _features_and_gradient(score, image, features)
    weights = gradient.mean((0, 1))
    return upsample(jax.nn.relu(feature_map @ weights), sides(image))


def grad_cam_plus_plus(
    score: FeatureScore,
    image: Image,
    *,
    features: Features,
    upsample: Upsample = bilinear,
) -> SaliencyMap:
    """Grad-CAM++: the feature maps, weighted so that every occurrence of an object counts alike.

    M = upsample(relu(sum_k w_k F_k)), w_k = sum_ij a_ijk relu(g_ijk), g = dS/dF, F = features(I)
    a_ijk = g_ijk^2 / (2 g_ijk^2 + g_ijk^3 sum_ab F_abk) = 1 / (2 + g_ijk sum_ab F_abk)

    The paper differentiates exp(S), and takes S as piecewise linear in F for its second and third
    derivatives. The factor exp(S) cancels in a; in the gradient it would only multiply the whole
    map, and overflow for S above 88, so it is left out.

    Args:
      score: callable PyTree from a feature map (i, j, k) to a scalar, such as
        `scores.logit(model.head, label)`. Where a score is itself an argument of a compiled
        function, `Partial(type(model).head, model)` carries the weights across.
      image: (h, w, c), in the range that the features take, usually [0, 1].
      features: callable from the image to the feature map (i, j, k), such as `model.features`. The
        weights suppose that it is not negative.
      upsample: (map (i, j), (h, w)) -> map (h, w), applied after the rectifier: `bilinear` or
        `nearest`.

    Returns:
      The saliency map (h, w): at least 0, in units of the score.

    Raises:
      TypeError: the image does not hold floats, or the features are not callable.
      ValueError: the image is not of shape (h, w, c), it is known and not finite, or the features
        do not have shape (i, j, k).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> def score(feature_map):
      ...     return 2 * feature_map.sum()
      >>> image = jnp.array([[[1.0], [3.0]]])
      >>> print(attribution.grad_cam_plus_plus(score, image, features=lambda image: image))
      [[0.4 1.2]]

    Reference:
      Chattopadhyay, Sarkar, Howlader, Balasubramanian, Grad-CAM++, 2017, arXiv:1710.11063.
    """
    feature_map, gradient = _features_and_gradient(score, image, features)
    total = feature_map.sum((0, 1), keepdims=True)
    positive = jax.nn.relu(gradient)
    # g^2 cancelled in a, which leaves no 0 / 0; where g is not positive a does not matter.
    weights = (positive / (2 + positive * total)).sum((0, 1))
    return upsample(jax.nn.relu(feature_map @ weights), sides(image))


def layer_cam(
    score: FeatureScore,
    image: Image,
    *,
    features: Features,
    upsample: Upsample = bilinear,
) -> SaliencyMap:
    """LayerCAM: the feature maps, weighted at every place by the positive part of the gradient.

    M = upsample(relu(sum_k relu(dS/dF_ijk) F_ijk)), F = features(I)

    Args:
      score: callable PyTree from a feature map (i, j, k) to a scalar, such as
        `scores.logit(model.head, label)`. Where a score is itself an argument of a compiled
        function, `Partial(type(model).head, model)` carries the weights across.
      image: (h, w, c), in the range that the features take, usually [0, 1].
      features: callable from the image to the feature map (i, j, k), such as `model.features`;
        early layers, of high resolution, do as well.
      upsample: (map (i, j), (h, w)) -> map (h, w), applied after the rectifier: `bilinear` or
        `nearest`.

    Returns:
      The saliency map (h, w): at least 0, in units of the score.

    Raises:
      TypeError: the image does not hold floats, or the features are not callable.
      ValueError: the image is not of shape (h, w, c), it is known and not finite, or the features
        do not have shape (i, j, k).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> def score(feature_map):
      ...     return 2 * feature_map[0, 0, 0] - feature_map[0, 1, 0]
      >>> image = jnp.array([[[1.0], [3.0]]])
      >>> print(attribution.layer_cam(score, image, features=lambda image: image))
      [[2. 0.]]

    Reference:
      Jiang, Zhang, Hou, Cheng, Wei, LayerCAM: Exploring Hierarchical Class Activation Maps for
      Localization, IEEE Transactions on Image Processing 30, 2021, doi:10.1109/TIP.2021.3089943
      (not on arXiv).
    """
    feature_map, gradient = _features_and_gradient(score, image, features)
    weighted = (jax.nn.relu(gradient) * feature_map).sum(-1)
    return upsample(jax.nn.relu(weighted), sides(image))


def fuse_layers(
    maps: Sequence[SaliencyMap],
    *,
    gamma: Number = 2.0,
    reduce: Callable[..., SaliencyMap] = jnp.max,
) -> SaliencyMap:
    """One map from the class activation maps of several layers: fine ones beside coarse ones.

    M = max_l tanh(gamma M_l / max M_l)

    The scaling makes the layers' maps, which differ in their units, comparable, and lifts the small
    values in those of shallow layers, where few pixels stand out. In the paper it is the shallow
    layers' alone, and here every layer's.

    Args:
      maps: at least one map (h, w), each at least 0, such as `layer_cam` gives for a layer: of any
        methods, of any pairs of a score and its features.
      gamma: above 0, the larger the more is lifted; the paper's is 2. A traced one is welcome.
      reduce: called with the scaled maps (l, h, w) and axis=0: `jnp.max`, as in the paper, or
        `jnp.mean`.

    Returns:
      The saliency map (h, w), in [0, tanh(gamma)]. A map that is 0 everywhere stays so.

    Raises:
      TypeError: a map does not hold floats.
      ValueError: there is no map, one is not of shape (h, w) or not of the first's shape, or gamma
        is known and not above 0.

    Example:
      Of a model that goes from the image to a coarse layer and on to the score:

      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import attribution
      >>> def coarse(image):
      ...     return image[:, ::2]
      >>> def of_coarse(feature_map):
      ...     return feature_map.sum()
      >>> def of_image(image):
      ...     return of_coarse(coarse(image))
      >>> image = jnp.array([[[1.0], [3.0], [0.5], [3.0]]])
      >>> pairs = [(of_coarse, coarse), (of_image, lambda image: image)]
      >>> fused = attribution.fuse_layers([
      ...     attribution.layer_cam(score, image, features=features) for score, features in pairs
      ... ])
      >>> print(np.asarray(fused).round(2))
      [[0.96 0.94 0.85 0.76]]

    Reference:
      Jiang, Zhang, Hou, Cheng, Wei, LayerCAM: Exploring Hierarchical Class Activation Maps for
      Localization, IEEE Transactions on Image Processing 30, 2021, doi:10.1109/TIP.2021.3089943
      (not on arXiv), equation 9.
    """
    if not maps:
        raise ValueError("expected maps to be at least one map, got none")
    for saliency_map in maps:
        check_array("each of maps", saliency_map, ("h", "w"))
        if saliency_map.shape != maps[0].shape:
            raise ValueError(
                f"expected maps to have one shape, got {maps[0].shape} and {saliency_map.shape}"
            )
    check_at_least("gamma", gamma, jnp.finfo(maps[0].dtype).tiny)
    stacked = jnp.stack(maps)
    peak = stacked.max((1, 2), keepdims=True)
    return reduce(jnp.tanh(gamma * stacked / jnp.where(peak > 0, peak, 1)), axis=0)


def sides(image: Image) -> tuple[int, int]:
    """The image's height and width."""
    height, width, _ = image.shape
    return height, width


def feature_map_of(features: Features, image: Image) -> FeatureMap:
    """The features of an image; raises unless both are as the methods take them."""
    check_image(image)
    if not callable(features):
        raise TypeError(
            "expected features to be callable from an image to a feature map, got "
            f"{type(features).__name__}"
        )
    feature_map = features(image)
    check_array("what features makes of one image", feature_map, ("i", "j", "k"))
    return feature_map


def _features_and_gradient(
    score: FeatureScore, image: Image, features: Features
) -> tuple[FeatureMap, FeatureMap]:
    feature_map = feature_map_of(features, image)
    return feature_map, jax.grad(score)(feature_map)
