"""What a transformer attends to: attention rollout, and attention weighted by gradients."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics import at_least_single
from .._types import Image, SaliencyMap, ScoreFunction
from .._validation import as_image, check_array, check_callable
from ..layers import Attention, identity
from ..scores import Score, as_score
from ._grad_cam import Upsample, bilinear, check_reads_a_model, upsampled

Relevance = Float[Array, "n n"]


def attention_rollout(
    score: ScoreFunction,
    image: Image,
    *,
    attention: Attention,
    reduce: Callable[..., Relevance] = jnp.mean,
    upsample: Upsample = bilinear,
) -> SaliencyMap:
    """Attention rollout: how much of each patch the attention of all blocks carries to the answer.

    M = upsample(to_map(R_B)), R_b = (A_b + 1) R_(b-1) / 2, R_0 = 1, A_b = reduce_m A_bm

    Half of each block's answer is its input, which goes past the attention. The score is not asked:
    the map is the same for every label, and says where a model looks rather than why it decides.

    Args:
      score, image, attention, upsample: see the room. Any score will do.
      reduce: called with a block's maps (m, n, n) and axis=0: `jnp.mean`, as in the paper, or
        `jnp.max`, `jnp.min`, after which the rows are divided by their sums.

    Returns:
      The saliency map (h, w), at least 0; the shares of all tokens add up to 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from saliency_jax import attribution, scores
      >>> from saliency_jax.layers import Attention
      >>> def attend(image, offsets):
      ...     tokens = image.reshape(-1, 1)
      ...     maps = jax.nn.softmax(tokens.T + 0 * tokens)[None, None]
      ...     maps = maps if offsets is None else maps + offsets
      ...     return (maps[0, 0] @ tokens).mean(0), maps
      >>> def mean_row(relevance, image):
      ...     return relevance.mean(0).reshape(image.shape[:2])
      >>> def model(image):
      ...     return attend(image, None)[0]
      >>> image = jnp.log(jnp.array([[[1.0], [3.0]]]))
      >>> score = scores.logit(model, 0)
      >>> print(attribution.attention_rollout(score, image, attention=Attention(attend, mean_row)))
      [[0.375 0.625]]

    Reference:
      Abnar, Zuidema, Quantifying Attention Flow in Transformers, 2020, arXiv:2005.00928.
    """
    image, score = as_image(image), as_score(score)
    jax.eval_shape(score, image)
    check_attention(attention)
    check_callable("reduce", reduce)
    carried = []
    for heads in at_least_single(attention.maps(image)):
        joined = reduce(heads, axis=0)
        check_array("reduce's result", joined, ("n", "n"))
        shares = joined / joined.sum(-1, keepdims=True)
        carried.append((shares + jnp.eye(len(shares), dtype=shares.dtype)) / 2)
    rollout = functools.reduce(lambda product, block: _product(block, product), carried)
    return upsampled(attention.map(rollout, image), image, upsample)


def attention_relevance(
    score: Score,
    image: Image,
    *,
    attention: Attention,
    upsample: Upsample = bilinear,
) -> SaliencyMap:
    """Gradient-weighted attention: what the attention of all blocks carries that raises the score.

    M = upsample(to_map(R_B)), R_b = R_(b-1) + C_b R_(b-1), R_0 = 1
    C_b = mean_m relu(dS/dA_bm A_bm)

    The gradient in a block's attention goes through all that comes after it, the attention of later
    blocks included. Unlike `attention_rollout` it tells the classes apart. The paper calls it
    generic attention explainability; here it is that of self-attention.

    Args:
      score, image, attention, upsample: see the room.

    Returns:
      The saliency map (h, w), at least 0.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from saliency_jax import attribution, scores
      >>> from saliency_jax.layers import Attention
      >>> def attend(image, offsets):
      ...     tokens = image.reshape(-1, 1)
      ...     maps = jnp.full((1, 1, 2, 2), 0.5)
      ...     maps = maps if offsets is None else maps + offsets
      ...     return (maps[0, 0] @ tokens)[0], maps
      >>> def first_row(relevance, image):
      ...     return relevance[:1]
      >>> def model(image):
      ...     return attend(image, None)[0]
      >>> image = jnp.array([[[1.0], [5.0]]])
      >>> score = scores.logit(model, 0)
      >>> opened = Attention(attend, first_row)
      >>> print(attribution.attention_relevance(score, image, attention=opened))
      [[1.5 2.5]]

    Reference:
      Chefer, Gur, Wolf, Generic Attention-model Explainability for Interpreting Bi-Modal and
      Encoder-Decoder Transformers, 2021, arXiv:2103.15679, equations 5 and 6.
    """
    image = as_image(image)
    check_attention(attention)
    check_reads_a_model(score)
    readout = score.on(identity)

    def value_and_maps(offsets):
        answer, maps = attention.attend(image, offsets)
        return readout(answer), maps

    shape = jax.eval_shape(attention.maps, image)
    offsets = jnp.zeros(shape.shape, shape.dtype)
    gradient, maps = jax.grad(value_and_maps, has_aux=True)(offsets)
    weighted = jax.nn.relu(at_least_single(gradient) * at_least_single(maps)).mean(1)
    relevance = jnp.eye(weighted.shape[-1], dtype=weighted.dtype)
    for block in weighted:
        relevance = relevance + _product(block, relevance)
    return upsampled(attention.map(relevance, image), image, upsample)


def check_attention(attention: Attention) -> None:
    """Raises unless `attention` is that of a model, laid open."""
    if not isinstance(attention, Attention):
        raise TypeError(
            f"expected attention to be an Attention(attend, to_map), got {type(attention).__name__}"
        )


def _product(left: Relevance, right: Relevance) -> Relevance:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)
