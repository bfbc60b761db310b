"""The gradient of a score with respect to the image, and the saliency map made of it."""

import jax

from .._types import Attribution, Image, SaliencyMap, ScoreFunction
from .._validation import as_image
from ..scores import as_score
from ._reduce import max_abs


def input_gradient(score: ScoreFunction, image: Image) -> Attribution:
    """The gradient of the score with respect to the image.

    A = dS/dI

    Returns:
      The attribution (h, w, c): signed, in units of the score per unit of the image.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> def score(image):
      ...     return (image**2).sum()
      >>> print(attribution.input_gradient(score, jnp.full((1, 2, 1), 3.0)).squeeze())
      [6. 6.]

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034.
    """
    return jax.grad(as_score(score))(as_image(image))


def input_x_gradient(score: ScoreFunction, image: Image) -> Attribution:
    """The image times the gradient: each pixel's share of the score, were the score linear.

    A = I dS/dI

    It depends on where the image's range has its zero.

    Returns:
      The attribution (h, w, c): signed, in units of the score.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> def score(image):
      ...     return (image**2).sum()
      >>> print(attribution.input_x_gradient(score, jnp.array([[[1.0], [3.0]]])).squeeze())
      [ 2. 18.]

    Reference:
      Shrikumar, Greenside, Shcherbina, Kundaje, Not Just a Black Box: Learning Important Features
      Through Propagating Activation Differences, 2016, arXiv:1605.01713.
    """
    image = as_image(image)
    return image * input_gradient(score, image)


def saliency(score: ScoreFunction, image: Image) -> SaliencyMap:
    """The image-specific class saliency map: which pixels the score is most sensitive to.

    M_ij = max_c |dS/dI_ijc|

    Returns:
      The saliency map (h, w): at least 0, in units of the score per unit of the image.

    Example:
      One image, then the maps of three labels that share one forward pass:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, scores
      >>> weights = jnp.arange(12.0).reshape(3, 2, 2, 1)
      >>> def model(image):
      ...     return jnp.einsum("khwc,hwc->k", weights, image)
      >>> image = jnp.ones((2, 2, 1))
      >>> print(attribution.saliency(scores.logit(model, 1), image))
      [[4. 5.]
       [6. 7.]]
      >>> def explained(label):
      ...     return attribution.saliency(scores.logit(model, label), image)
      >>> jax.vmap(explained)(jnp.arange(3)).shape
      (3, 2, 2)

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034.
    """
    return max_abs(input_gradient(score, image))
