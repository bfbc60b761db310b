"""SmoothGrad and its kin: an attribution's mean, mean square and variance under noise.

The three take what `smoothgrad` explains: noise_scale is sigma in units of the range of the image's
values, at least 0.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._chunks import mean_chunked
from .._numerics import at_least_single
from .._types import Count, Image, Key, Method, Number, ScoreFunction
from .._validation import (
    as_image,
    as_number,
    check_callable,
    check_count,
    check_floats,
    check_key,
)
from ..scores import as_score
from ._gradient import input_gradient


def smoothgrad(
    score: ScoreFunction,
    image: Image,
    *,
    key: Key,
    method: Method = input_gradient,
    num_samples: Count = 50,
    noise_scale: Number = 0.15,
    batch_size: Count = 16,
) -> Float[Array, "..."]:
    """The mean attribution of noisy copies of the image.

    A = mean_k M(S, I + e_k) with e_k ~ N(0, sigma^2), sigma = noise_scale (max I - min I)

    Every sample has noise. Libraries differ in sigma's unit: here, as in the paper, it is the range
    of this image's values, so that 0.15 means the same for images in [0, 1] and normalized ones.

    Args:
      score, image, key, method, num_samples, batch_size: see the room.
      noise_scale: sigma, at least 0, in units of the image's range; the paper has 0.1 to 0.2.

    Returns:
      What the method returns, usually the attribution (h, w, c), in the method's units. With
      noise_scale 0 it is the method itself.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> def score(image):
      ...     return (image**2).sum()
      >>> image = jnp.array([[[0.0], [1.0]]])
      >>> smooth = attribution.smoothgrad(score, image, key=jax.random.key(0), noise_scale=0.0)
      >>> print(smooth.squeeze())
      [0. 2.]

    Reference:
      Smilkov, Thorat, Kim, Viegas, Wattenberg, SmoothGrad, 2017, arXiv:1706.03825.
    """
    image = as_image(image)
    mean = _mean_under_noise(
        lambda attribution: attribution,
        score,
        image,
        key=key,
        method=method,
        num_samples=num_samples,
        noise_scale=noise_scale,
        batch_size=batch_size,
    )
    return mean.astype(image.dtype)


def smoothgrad_squared(
    score: ScoreFunction,
    image: Image,
    *,
    key: Key,
    method: Method = input_gradient,
    num_samples: Count = 50,
    noise_scale: Number = 0.15,
    batch_size: Count = 16,
) -> Float[Array, "..."]:
    """The mean squared attribution of noisy copies of the image.

    A = mean_k M(S, I + e_k)^2 with e_k ~ N(0, sigma^2), sigma = noise_scale (max I - min I)

    It is the square of the mean plus the variance: `smoothgrad(...)**2 + vargrad(...)`.

    Args: as of `smoothgrad`.

    Returns:
      An array of the shape that the method returns, usually (h, w, c): at least 0, in the method's
      units squared. With noise_scale 0 it is the method's square.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image, key = jnp.array([[[0.0], [1.0]]]), jax.random.key(0)
      >>> print(attribution.smoothgrad_squared(lambda x: -3 * x.sum(), image, key=key).squeeze())
      [9. 9.]

    Reference:
      Hooker, Erhan, Kindermans, Kim, A Benchmark for Interpretability Methods in Deep Neural
      Networks, 2018, arXiv:1806.10758.
    """
    image = as_image(image)
    mean = _mean_under_noise(
        jnp.square,
        score,
        image,
        key=key,
        method=method,
        num_samples=num_samples,
        noise_scale=noise_scale,
        batch_size=batch_size,
    )
    return mean.astype(image.dtype)


def vargrad(
    score: ScoreFunction,
    image: Image,
    *,
    key: Key,
    method: Method = input_gradient,
    num_samples: Count = 50,
    noise_scale: Number = 0.15,
    batch_size: Count = 16,
) -> Float[Array, "..."]:
    """The variance of the attributions of noisy copies of the image.

    A = mean_k (A_k - mean_l A_l)^2 with A_k = M(S, I + e_k), e_k ~ N(0, sigma^2) and
    sigma = noise_scale (max I - min I)

    The sum of squares is divided by the number of samples, not by one less.

    Args: as of `smoothgrad`.

    Returns:
      An array of the shape that the method returns, usually (h, w, c): at least 0, in the method's
      units squared. With noise_scale 0, or where the method does not depend on the image, it is 0.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image, key = jnp.array([[[0.0], [1.0]]]), jax.random.key(0)
      >>> print(attribution.vargrad(lambda x: -3 * x.sum(), image, key=key).squeeze())
      [0. 0.]

    Reference:
      Adebayo, Gilmer, Goodfellow, Kim, Local Explanation Methods for Deep Neural Networks Lack
      Sensitivity to Parameter Values, 2018, arXiv:1810.03307.
    """
    check_callable("method", method)
    image, score = as_image(image), as_score(score)
    center = at_least_single(method(score, image))

    def moments(attribution):
        # About the attribution without noise: about 0, a small variance would drown in rounding.
        return attribution - center, jnp.square(attribution - center)

    mean, mean_square = _mean_under_noise(
        moments,
        score,
        image,
        key=key,
        method=method,
        num_samples=num_samples,
        noise_scale=noise_scale,
        batch_size=batch_size,
    )
    return jnp.maximum(mean_square - jnp.square(mean), 0).astype(image.dtype)


def _mean_under_noise(
    function: Callable,
    score: ScoreFunction,
    image: Image,
    *,
    key: Key,
    method: Method,
    num_samples: Count,
    noise_scale: Number,
    batch_size: Count,
) -> Any:
    """The mean, in at least single precision, of a function of the noisy copies' attributions."""
    score = as_score(score)
    check_key(key)
    check_callable("method", method)
    num_samples = check_count("num_samples", num_samples, 1)
    scale = jnp.asarray(as_number("noise_scale", noise_scale, 0), image.dtype)
    sigma = scale * (image.max() - image.min())

    def sample(key):
        # Drawn in single precision whatever the image's: the same noise for every dtype.
        noise = jax.random.normal(key, image.shape, jnp.float32).astype(image.dtype)
        attribution = method(score, image + sigma * noise)
        check_floats("the method's result", attribution)
        return function(at_least_single(attribution))

    return mean_chunked(sample, jax.random.split(key, num_samples), batch_size)
