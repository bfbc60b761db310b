"""Octaves: gradient ascent at one size of the image after the other, from small to large."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from .._numerics import at_least_single
from .._types import Augment, Count, Image, Key, Number, Prior, ScoreFunction
from .._validation import as_image, as_number, check_callable, check_count, is_concrete
from ._ascend import Ascent, ascend, initial_state
from ._canvases import Canvas, chain_canvases

Shape = tuple[int, int, int]


def _plain(shape: Shape) -> Canvas:
    return chain_canvases()


def ascend_octaves(
    score: ScoreFunction,
    image: Image,
    optimizer: optax.GradientTransformation,
    steps: int | Sequence[int],
    *,
    key: Key,
    octaves: Count = 4,
    scale: Number = 1.4,
    make_canvas: Callable[[Shape], Canvas] = _plain,
    augment: Augment | None = None,
    prior: Prior | None = None,
    num_samples: int = 1,
) -> Ascent:
    """Gradient ascent on growing images, so that patterns of all sizes come up.

    I_1 = A_1[R_1(B)] and I_k = A_k[R_k(B) + R_k(I_{k-1} - R_{k-1}(B))] for k = 2, ..., octaves

    A_k is `ascend` for some steps at the k-th size, R_k brings an image to that size by linear
    interpolation, and B is the image at the start. What an octave has changed is magnified, and the
    image's own details come back with the size. The last size is that of B, and each is larger than
    the one before by the scale.

    Args:
      score: see the room; of images of any size, which networks that average their last layer take.
      image: B, noise, one colour, or, for deep dreams, a photograph.
      optimizer: see the room; without an image of one size in it. Its state begins anew at each
        size.
      steps: how many steps to make at each size, at least 1; one number, or one for each size, from
        the smallest.
      key, augment, prior, num_samples: see the room.
      octaves: the number of sizes, at least 1; of one, this is `ascend`.
      scale: the ratio of neighbouring sizes, at least 1, a Python number.
      make_canvas: from a shape (h, w, c) to the `Canvas` of such images, plain pixels by default;
        `fourier_canvas` is such a function.

    Returns:
      The `Ascent` at the last size, with the objective (n,) at each of the n steps of all sizes,
      and no snapshots. After a step that was not finite it makes no other, at any size.

    Raises:
      TypeError: see the room; octaves or steps are no integers, scale is traced, or what
        make_canvas makes is no `Canvas`.
      ValueError: see the room; octaves, steps or scale are below 1, or there are not as many
        numbers of steps as octaves.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from saliency_jax import ascent
      >>> def score(image):
      ...     return image.sum()
      >>> result = ascent.ascend_octaves(
      ...     score, jnp.zeros((4, 6, 1)), optax.sgd(0.5), 3, key=jax.random.key(0), octaves=2,
      ...     scale=2.0,
      ... )
      >>> print(result.image.shape, result.image.mean(), result.values)
      (4, 6, 1) 3.0 [ 0.  3.  6. 36. 48. 60.]

    Reference:
      Mordvintsev, Olah, Tyka, Inceptionism: Going Deeper into Neural Networks, Google Research
      blog, 2015 (the published code; not on arXiv), whose scale and number of octaves these are.
    """
    start = as_image(image)
    octaves = check_count("octaves", octaves, 1)
    counts = tuple(steps) if isinstance(steps, Sequence) else (steps,) * int(octaves)
    if len(counts) != octaves:
        raise ValueError(f"expected steps for {octaves} octaves, got {len(counts)} numbers")
    if not is_concrete(scale):
        raise TypeError("expected scale to be a Python number (static), got a traced array")
    scale = as_number("scale", scale, 1)
    check_callable("make_canvas", make_canvas)
    height, width, channels = start.shape
    ratios = [float(scale) ** k for k in reversed(range(int(octaves)))]
    shapes = [
        (max(1, round(height / ratio)), max(1, round(width / ratio)), channels) for ratio in ratios
    ]
    change: Image = jnp.zeros(shapes[0], start.dtype)
    values = []
    carried: dict[str, Array] = {}
    for shape, count in zip(shapes, counts, strict=True):
        base = _resized(start, shape)
        canvas = make_canvas(shape)
        if not isinstance(canvas, Canvas):
            raise TypeError(f"expected make_canvas to return a Canvas, got {type(canvas).__name__}")
        params = canvas.encode(base + _resized(change, shape))
        state = initial_state(params, optimizer, key)._replace(**carried)
        result = ascend(
            score,
            state,
            optimizer,
            count,
            decode=canvas.decode,
            augment=augment,
            prior=prior,
            num_samples=num_samples,
        )
        change = result.image - base
        carried = {name: getattr(result.state, name) for name in ("key", "step", "failed_at")}
        values.append(result.values)
    return result._replace(values=jnp.concatenate(values))


def _resized(image: Image, shape: Shape) -> Array:
    precise = at_least_single(jnp.asarray(image))
    return jax.image.resize(precise, shape, "linear").astype(image.dtype)
