"""The score of an image with some of its segments hidden, which every method of parts asks for."""

from collections.abc import Callable

from jaxtyping import Array, Integer

from .._numerics import at_least_single
from .._types import Baseline, Count, Image, Pixels, Scalar, ScoreFunction
from .._validation import as_image, checked_together
from ..baselines import as_baseline
from ..scores import as_score
from ..segments import Segments, Shares, as_segments, show_segments


def score_of_shown(
    score: ScoreFunction,
    image: Image,
    segments: Segments,
    num_segments: Count | None,
    baseline: Baseline,
) -> tuple[Pixels, Callable[[Shares], Scalar], Integer[Array, "h w"], int]:
    """The image, the score as a function of how far each segment is shown; the segments, how many.

    Its values are in at least single precision: a score's rounding does not enter sums and solves.
    """
    with checked_together():
        pixels, score = as_image(image), as_score(score)
        numbered, count = as_segments(segments, num_segments, pixels)
        hidden = as_baseline(baseline, pixels)

    def value(shares: Shares) -> Scalar:
        return at_least_single(score(show_segments(pixels, shares, numbered, hidden)))

    return pixels, value, numbered, count
