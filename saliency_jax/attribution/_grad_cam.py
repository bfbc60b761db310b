"""Class activation maps weighted by gradients: Grad-CAM, Grad-CAM++ and LayerCAM; their fusion."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics import at_least_single
from .._types import AnyMap, FeatureMap, Image, Number, SaliencyMap
from .._validation import (
    as_array,
    as_image,
    as_number,
    as_unbounded,
    check_array,
    check_callable,
    check_count,
    check_pair,
    checked_together,
    to_jax,
)
from ..layers import Layer
from ..scores import Score

Cam = Float[Array | np.ndarray, "i j"]
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

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.attribution import bilinear
      >>> print(bilinear(jnp.array([[0.0, 4.0]]), (1, 4)))
      [[0. 1. 3. 4.]]

    Reference:
      Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, Grad-CAM, 2016, arXiv:1610.02391, which
      upsamples its maps bilinearly.
    """
    return _resized(cam, shape, "bilinear")


def nearest(cam: Cam, shape: tuple[int, int]) -> Float[Array, "h w"]:
    """A map resized by repeating its values, which shows the feature map's own resolution.

    M(y) = C_i with i = floor((y + 1/2) i's count / h) along each axis

    Args:
      cam: (i, j), in any range.
      shape: (h, w).

    Returns:
      The map (h, w), of the cam's values.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.attribution import nearest
      >>> print(nearest(jnp.array([[0.0, 4.0]]), (1, 4)))
      [[0. 0. 4. 4.]]

    Reference:
      Zhou, Khosla, Lapedriza, Oliva, Torralba, Learning Deep Features for Discriminative
      Localization, 2015, arXiv:1512.04150, on maps of a feature map's resolution.
    """
    return _resized(cam, shape, "nearest")


def _resized(cam: Cam, shape: tuple[int, int], method: str) -> Float[Array, "h w"]:
    values = as_unbounded("cam", cam, ("i", "j"))
    check_pair("shape", shape, "(height, width)")
    height, width = (check_count("a side of shape", side, 1) for side in shape)
    # Of halves no sum is infinite, which would be a nan where its weight is 0.
    return 2 * jax.image.resize(values / 2, (height, width), method)


def grad_cam(
    score: Score,
    image: Image,
    *,
    layer: Layer,
    upsample: Upsample = bilinear,
) -> SaliencyMap:
    """Grad-CAM: the feature maps, each weighted by the score's mean gradient in it.

    M = upsample(relu(sum_k w_k F_k)), w_k = mean_ij dS/dF_ijk, F = layer.map(I)

    Args:
      score, image, layer, upsample: see the room; the rectifier comes before the upsampling.

    Returns:
      The saliency map (h, w): at least 0, in units of the score over i j. Where the map before the
      rectifier is nowhere positive it is 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, scores
      >>> from saliency_jax.layers import Layer
      >>> def halved(image):
      ...     return image[::2, ::2]
      >>> def top(feature_map):
      ...     return feature_map.mean((0, 1))
      >>> def model(image):
      ...     return top(halved(image))
      >>> image = jnp.arange(16.0).reshape(4, 4, 1)
      >>> print(attribution.grad_cam(
      ...     scores.logit(model, 0), image, layer=Layer(halved, top), upsample=attribution.nearest
      ... ))
      [[0.  0.  0.5 0.5]
       [0.  0.  0.5 0.5]
       [2.  2.  2.5 2.5]
       [2.  2.  2.5 2.5]]

    Reference:
      Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, Grad-CAM, 2016, arXiv:1610.02391.
    """
    feature_map, gradient = _map_and_gradient(score, image, layer)
    weights = gradient.mean((0, 1))
    return upsampled(feature_map @ weights, image, upsample)


def grad_cam_plus_plus(
    score: Score,
    image: Image,
    *,
    layer: Layer,
    upsample: Upsample = bilinear,
) -> SaliencyMap:
    """Grad-CAM++: the feature maps, weighted so that every occurrence of an object counts alike.

    M = upsample(relu(sum_k w_k F_k)), w_k = sum_ij a_ijk relu(g_ijk), g = dS/dF, F = layer.map(I)
    a_ijk = g_ijk^2 / (2 g_ijk^2 + g_ijk^3 sum_ab F_abk) = 1 / (2 + g_ijk sum_ab F_abk)

    The paper differentiates exp(S), and takes S as piecewise linear in F for its second and third
    derivatives. The factor exp(S) cancels in a; in the gradient it would only multiply the whole
    map, and overflow for S above 88, so it is left out.

    Args:
      score, image, layer, upsample: see the room. The weights suppose that the layer's map is not
        negative.

    Returns:
      The saliency map (h, w): at least 0, in units of the score.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, scores
      >>> from saliency_jax.layers import Layer, identity
      >>> def model(image):
      ...     return 2 * image.sum((0, 1))
      >>> image = jnp.array([[[1.0], [3.0]]])
      >>> score = scores.logit(model, 0)
      >>> print(attribution.grad_cam_plus_plus(score, image, layer=Layer(identity, model)))
      [[0.4 1.2]]

    Reference:
      Chattopadhyay, Sarkar, Howlader, Balasubramanian, Grad-CAM++, 2017, arXiv:1710.11063.
    """
    feature_map, gradient = _map_and_gradient(score, image, layer)
    total = feature_map.sum((0, 1), keepdims=True)
    positive = jax.nn.relu(gradient)
    # g^2 cancelled in a, which leaves no 0 / 0; where g is not positive a does not matter.
    weights = (positive / (2 + positive * total)).sum((0, 1))
    return upsampled(feature_map @ weights, image, upsample)


def layer_cam(
    score: Score,
    image: Image,
    *,
    layer: Layer,
    upsample: Upsample = bilinear,
) -> SaliencyMap:
    """LayerCAM: the feature maps, weighted at every place by the positive part of the gradient.

    M = upsample(relu(sum_k relu(dS/dF_ijk) F_ijk)), F = layer.map(I)

    Args:
      score, image, layer, upsample: see the room; early layers, of high resolution, do as well.

    Returns:
      The saliency map (h, w): at least 0, in units of the score.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, scores
      >>> from saliency_jax.layers import Layer, identity
      >>> def model(image):
      ...     return 2 * image[0, 0] - image[0, 1]
      >>> image = jnp.array([[[1.0], [3.0]]])
      >>> score = scores.logit(model, 0)
      >>> print(attribution.layer_cam(score, image, layer=Layer(identity, model)))
      [[2. 0.]]

    Reference:
      Jiang, Zhang, Hou, Cheng, Wei, LayerCAM: Exploring Hierarchical Class Activation Maps for
      Localization, IEEE Transactions on Image Processing 30, 2021, doi:10.1109/TIP.2021.3089943
      (not on arXiv).
    """
    feature_map, gradient = _map_and_gradient(score, image, layer)
    return upsampled((jax.nn.relu(gradient) * feature_map).sum(-1), image, upsample)


def fuse_layers(
    maps: Sequence[AnyMap],
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
        methods, of any layers.
      gamma: above 0, the larger the more is lifted; the paper's is 2. A traced one is welcome.
      reduce: called with the scaled maps (l, h, w) and axis=0: `jnp.max`, as in the paper, or
        `jnp.mean`.

    Returns:
      The saliency map (h, w), in [0, tanh(gamma)]. A map that is 0 everywhere stays so.

    Example:
      Of a model that goes from the image to a coarse layer and on to the score:

      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import attribution, scores
      >>> from saliency_jax.layers import Layer, identity
      >>> def coarse(image):
      ...     return image[:, ::2]
      >>> def top(feature_map):
      ...     return feature_map.sum((0, 1))
      >>> def model(image):
      ...     return top(coarse(image))
      >>> image = jnp.array([[[1.0], [3.0], [0.5], [3.0]]])
      >>> fused = attribution.fuse_layers([
      ...     attribution.layer_cam(scores.logit(model, 0), image, layer=layer)
      ...     for layer in (Layer(coarse, top), Layer(identity, model))
      ... ])
      >>> print(np.asarray(fused).round(2))
      [[0.96 0.94 0.85 0.76]]

    Reference:
      Jiang, Zhang, Hou, Cheng, Wei, LayerCAM: Exploring Hierarchical Class Activation Maps for
      Localization, IEEE Transactions on Image Processing 30, 2021, doi:10.1109/TIP.2021.3089943
      (not on arXiv), equation 9.
    """
    if not isinstance(maps, Sequence):
        raise TypeError(f"expected maps to be a sequence of maps, got {type(maps).__name__}")
    if not maps:
        raise ValueError("expected maps to be at least one map, got none")
    with checked_together():
        arrays = [as_array("each of maps", saliency_map, ("h", "w")) for saliency_map in maps]
    first, *others = arrays
    for array in others:
        if array.shape != first.shape:
            raise ValueError(
                f"expected maps to have one shape, got {first.shape} and {array.shape}"
            )
    gamma = as_number("gamma", gamma, jnp.finfo(first.dtype).tiny)
    check_callable("reduce", reduce)
    stacked = jnp.stack([at_least_single(array) for array in arrays])
    peak = stacked.max((1, 2), keepdims=True)
    scaled = stacked / jnp.where(peak > 0, peak, 1)
    return reduce(jnp.tanh(jnp.asarray(gamma, scaled.dtype) * scaled), axis=0).astype(first.dtype)


def upsampled(cam: Cam, image: Image, upsample: Upsample) -> SaliencyMap:
    """The positive part of a map of the layer's sides as a map of the image's, of its dtype."""
    height, width, _ = image.shape
    return resized(jax.nn.relu(cam), (height, width), upsample).astype(to_jax(image).dtype)


def resized(cam: Cam, shape: tuple[int, int], upsample: Upsample) -> SaliencyMap:
    """What `upsample` makes of a map; raises unless it is a map of that shape."""
    check_callable("upsample", upsample)
    saliency_map = upsample(cam, shape)
    check_array("upsample's result", saliency_map, ("h", "w"))
    if saliency_map.shape != shape:
        raise ValueError(
            f"expected upsample's result to have shape {shape}, got {saliency_map.shape}"
        )
    return saliency_map


def check_layer(layer: Layer) -> None:
    """Raises unless `layer` is a cut of a model."""
    if not isinstance(layer, Layer):
        raise TypeError(f"expected layer to be a Layer(features, head), got {type(layer).__name__}")


def check_reads_a_model(score: Score) -> None:
    """Raises unless `score` tells its model from what is read of the answer."""
    if not isinstance(score, Score):
        raise TypeError(
            "expected score to be a Score, such as scores.logit(model, label) or "
            f"Score(readout, model), got {type(score).__name__}: a function of the image does not "
            "tell its model from what is read of the answer"
        )


def _map_and_gradient(score: Score, image: Image, layer: Layer) -> tuple[FeatureMap, FeatureMap]:
    """The layer's map of the image and the score's gradient in it, at least in single precision."""
    image = as_image(image)
    check_layer(layer)
    check_reads_a_model(score)
    carried = layer.features(image)
    gradient = jax.grad(score.on(layer.head))(carried)
    return at_least_single(layer.as_map(carried)), at_least_single(layer.as_map(gradient))
