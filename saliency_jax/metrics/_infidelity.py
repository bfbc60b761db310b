"""Infidelity: whether an attribution predicts the fall of the score under perturbations."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._chunks import map_chunked
from .._numerics import at_least_single, direction, in_dtype, single_or_wider
from .._types import AnyAttribution, Baseline, Count, Image, Key, Number, Scalar, ScoreFunction
from .._validation import (
    as_array,
    as_image,
    as_number,
    check_callable,
    check_count,
    check_floats,
    check_key,
    checked_together,
)
from ..baselines import as_baseline, zeros
from ..scores import as_score

Perturbation = Callable[[Image, Key], Image]


def gaussian_perturbation(image: Image, key: Key, noise_scale: Number) -> Image:
    """Independent Gaussian noise, as what is subtracted from an image.

    P_ijc ~ N(0, s^2)

    Args:
      image, key: see the room. Only shape and type of the image count.
      noise_scale: the standard deviation s, at least 0, in the image's units. A traced one is
        welcome.

    Returns:
      The perturbation (h, w, c).

    Example:
      As a function of image and key, with its scale bound:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jax.tree_util import Partial
      >>> from saliency_jax import metrics
      >>> perturbation = Partial(metrics.gaussian_perturbation, noise_scale=0.0)
      >>> print(perturbation(jnp.ones((1, 2, 1)), jax.random.key(0)).squeeze())
      [0. 0.]

    Reference:
      Yeh, Hsieh, Suggala, Inouye, Ravikumar, On the (In)fidelity and Sensitivity of Explanations,
      2019, arXiv:1901.09392, section 2.
    """
    image = as_image(image)
    check_key(key)
    noise = jax.random.normal(key, image.shape, single_or_wider(image.dtype))
    scale = in_dtype(as_number("noise_scale", noise_scale, 0), noise.dtype)
    return (scale * noise).astype(image.dtype)


def square_removal(image: Image, key: Key, side: Count, baseline: Baseline = zeros) -> Image:
    """What is subtracted from an image to remove a square at a random place.

    P = I - B in the square, else 0

    Args:
      image, key, baseline: see the room. All squares inside the image are equally likely.
      side: of the square, from 1 to the image's shorter side, in pixels.

    Returns:
      The perturbation (h, w, c), in the image's units.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> removed = metrics.square_removal(jnp.ones((4, 4, 1)), jax.random.key(0), side=2)
      >>> print(removed.sum())
      4.0

    Reference:
      Yeh, Hsieh, Suggala, Inouye, Ravikumar, On the (In)fidelity and Sensitivity of Explanations,
      2019, arXiv:1901.09392, section 2.
    """
    with checked_together():
        image = as_image(image)
        hidden = as_baseline(baseline, image)
    check_key(key)
    sides, side = image.shape[:2], check_count("side", side, 1)
    if side > min(sides):
        raise ValueError(f"expected side to be at most the image's {min(sides)}, got {side}")
    top, left = jax.random.randint(key, (2,), 0, jnp.array(sides) - side + 1)
    row, column = jnp.mgrid[: sides[0], : sides[1]]
    inside = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    return jnp.where(inside[..., None], image - hidden, 0)


def infidelity(
    score: ScoreFunction,
    image: Image,
    attribution: AnyAttribution,
    *,
    perturbation: Perturbation,
    key: Key,
    num_samples: Count = 1000,
    batch_size: Count = 16,
) -> Scalar:
    """Infidelity: the mean squared error of an attribution as a linear prediction of the score.

    E = E_P [(<A, P> - (S(I) - S(I - P)))^2]

    Lower is better. The expectation is the mean over num_samples perturbations.

    Traps: it takes an attribution per unit of the image, such as a gradient; one in units of the
    score, as integrated gradients are, is to be divided by (image - baseline) first. Absolute
    values or another scale spoil it: `scaled_infidelity` forgives the scale. It measures what the
    perturbation asks: under small noise nothing beats the gradient. (Quantus hides one block after
    another without showing the earlier ones again.)

    Args:
      score, image, key, num_samples, batch_size: see the room.
      attribution: A (h, w, c), signed, in units of the score per unit of the image.
      perturbation: from an image (h, w, c) and a key to what is subtracted from the image (h, w,
        c), such as `Partial(metrics.square_removal, side=8)`.

    Returns:
      The infidelity, at least 0, in squared units of the score. Of a linear score's gradient it is
      0.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> image = jnp.array([[[1.0], [3.0]]])
      >>> def everything(image, key):
      ...     return image
      >>> print(metrics.infidelity(
      ...     jnp.sum, image, jnp.full((1, 2, 1), 0.5), perturbation=everything,
      ...     key=jax.random.key(0), num_samples=2,
      ... ))
      4.0

    Reference:
      Yeh, Hsieh, Suggala, Inouye, Ravikumar, On the (In)fidelity and Sensitivity of Explanations,
      2019, arXiv:1901.09392, section 2.
    """
    predicted, fall = _predictions_and_falls(
        score, image, attribution, perturbation, key, num_samples, batch_size
    )
    return jnp.mean((predicted - fall) ** 2)


def scaled_infidelity(
    score: ScoreFunction,
    image: Image,
    attribution: AnyAttribution,
    *,
    perturbation: Perturbation,
    key: Key,
    num_samples: Count = 1000,
    batch_size: Count = 16,
) -> Scalar:
    """Infidelity of an attribution times the factor that makes it smallest.

    E = min_b E_P [(b <A, P> - (S(I) - S(I - P)))^2], b = E_P [<A, P> (S(I) - S(I - P))] /
    E_P [<A, P>^2]

    Lower is better. Attributions without a unit of their own can be compared by it; so can those
    that tell a wrong sign, as b may be negative.

    Args:
      score, image, key, num_samples, batch_size: see the room.
      attribution: A (h, w, c), of any unit.
      perturbation: as for `infidelity`.

    Returns:
      The infidelity, at least 0 and at most the score's mean squared fall, in squared units of the
      score. An attribution that predicts no change at all has the mean squared fall.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> image = jnp.array([[[1.0], [3.0]]])
      >>> def everything(image, key):
      ...     return image
      >>> print(metrics.scaled_infidelity(
      ...     jnp.sum, image, jnp.full((1, 2, 1), 0.5), perturbation=everything,
      ...     key=jax.random.key(0), num_samples=2,
      ... ).round(6))
      0.0

    Reference:
      Yeh, Hsieh, Suggala, Inouye, Ravikumar, On the (In)fidelity and Sensitivity of Explanations,
      2019, arXiv:1901.09392, whose experiments scale attributions in this way.
    """
    predicted, fall = _predictions_and_falls(
        score, image, attribution, perturbation, key, num_samples, batch_size
    )
    # Along the unit vector of the predictions, so that their scale cannot over- or underflow.
    along = direction(predicted)
    return jnp.mean((jnp.sum(along * fall) * along - fall) ** 2)


def _predictions_and_falls(
    score: ScoreFunction,
    image: Image,
    attribution: AnyAttribution,
    perturbation: Perturbation,
    key: Key,
    num_samples: Count,
    batch_size: Count,
) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    with checked_together():
        score, image = as_score(score), as_image(image)
        attribution = as_array("attribution", attribution, ("h", "w", "c"))
    check_callable("perturbation", perturbation)
    check_key(key)
    count = check_count("num_samples", num_samples, 1)
    if attribution.shape != image.shape:
        raise ValueError(
            f"expected attribution to have the image's shape {image.shape}, got {attribution.shape}"
        )
    whole = at_least_single(score(image))
    attribution = attribution.astype(whole.dtype)

    def of_key(key):
        subtracted = perturbation(image, key)
        check_floats("the perturbation", subtracted)
        if subtracted.shape != image.shape:
            raise ValueError(
                f"expected the perturbation to have the image's shape {image.shape}, got "
                f"{subtracted.shape}"
            )
        predicted = jnp.sum(attribution * subtracted.astype(whole.dtype))
        shown = image - subtracted.astype(image.dtype)
        return predicted, whole - at_least_single(score(shown))

    return map_chunked(of_key, jax.random.split(key, count), batch_size)
