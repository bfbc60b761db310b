"""SmoothGrad and its kin: an attribution's mean, mean square and variance under noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Count, Image, Key, Method, Number, Score
from .._validation import check_at_least, check_count, check_image
from ._chunks import mean_chunked
from .gradient import input_gradient


def smoothgrad(
    score: Score,
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
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      key: a JAX random key; equal keys give equal noise.
      method: the attribution M to be averaged, any `method(score, image)`.
      num_samples: number of noisy copies, at least 1.
      noise_scale: sigma, at least 0, in units of the image's range; the paper has 0.1 to 0.2. A
        traced one is welcome.
      batch_size: how many copies are evaluated at once, at least 1: it bounds the memory, and
        changes the result by rounding alone.

    Returns:
      What the method returns, usually the attribution (h, w, c), in the method's units. With
      noise_scale 0 it is the method itself.

    Raises:
      TypeError: the image does not hold floats, or a count is no integer.
      ValueError: the image is not of shape (h, w, c), it is known and not finite, a count is below
        1, or noise_scale is known and negative.

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
    return _mean_under_noise(
        lambda attribution: attribution,
        score,
        image,
        key=key,
        method=method,
        num_samples=num_samples,
        noise_scale=noise_scale,
        batch_size=batch_size,
    )


def smoothgrad_squared(
    score: Score,
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

    Args:
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      key: a JAX random key; equal keys give equal noise.
      method: the attribution M to be squared, any `method(score, image)`.
      num_samples: number of noisy copies, at least 1.
      noise_scale: sigma, at least 0, in units of the image's range. A traced one is welcome.
      batch_size: how many copies are evaluated at once, at least 1: it bounds the memory, and
        changes the result by rounding alone.

    Returns:
      An array of the shape that the method returns, usually (h, w, c): at least 0, in the method's
      units squared. With noise_scale 0 it is the method's square.

    Raises:
      TypeError: the image does not hold floats, or a count is no integer.
      ValueError: the image is not of shape (h, w, c), it is known and not finite, a count is below
        1, or noise_scale is known and negative.

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
    return _mean_under_noise(
        jnp.square,
        score,
        image,
        key=key,
        method=method,
        num_samples=num_samples,
        noise_scale=noise_scale,
        batch_size=batch_size,
    )


def vargrad(
    score: Score,
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

    Args:
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      key: a JAX random key; equal keys give equal noise.
      method: the attribution M whose variance is taken, any `method(score, image)`.
      num_samples: number of noisy copies, at least 1.
      noise_scale: sigma, at least 0, in units of the image's range. A traced one is welcome.
      batch_size: how many copies are evaluated at once, at least 1: it bounds the memory, and
        changes the result by rounding alone.

    Returns:
      An array of the shape that the method returns, usually (h, w, c): at least 0, in the method's
      units squared. With noise_scale 0, or where the method does not depend on the image, it is 0.

    Raises:
      TypeError: the image does not hold floats, or a count is no integer.
      ValueError: the image is not of shape (h, w, c), it is known and not finite, a count is below
        1, or noise_scale is known and negative.

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
    center = method(score, image)

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
    return jnp.maximum(mean_square - jnp.square(mean), 0)


def _mean_under_noise(
    function: Callable,
    score: Score,
    image: Image,
    *,
    key: Key,
    method: Method,
    num_samples: Count,
    noise_scale: Number,
    batch_size: Count,
) -> Any:
    check_image(image)
    check_count("num_samples", num_samples, 1)
    check_at_least("noise_scale", noise_scale, 0)
    sigma = jnp.asarray(noise_scale, image.dtype) * (image.max() - image.min())

    def of_sample(key):
        noise = sigma * jax.random.normal(key, image.shape, image.dtype)
        return function(method(score, image + noise))

    return mean_chunked(of_sample, jax.random.split(key, int(num_samples)), batch_size)
