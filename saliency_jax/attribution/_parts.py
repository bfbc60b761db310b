"""The score of an image with some of its segments hidden, which every method of parts asks for."""

from collections.abc import Callable

from jaxtyping import Array, Integer

from .._numerics import at_least_single
from .._types import Baseline, Count, Image, Scalar, ScoreFunction
from .._validation import as_image
from ..baselines import as_baseline
from ..scores import as_score
from ..segments import Segments, Shares, as_segments, show_segments


def score_of_shown(
    score: ScoreFunction,
    image: Image,
    segments: Segments,
    num_segments: Count | None,
    baseline: Baseline,
) -> tuple[Callable[[Shares], Scalar], Integer[Array, "h w"], int]:
    """The score as a function of how far each segment is shown; the segments, and their number.

    Its values are in at least single precision: a score's rounding does not enter sums and solves.
    """
    image, score = as_image(image), as_score(score)
    numbered, count = as_segments(segments, num_segments, image)
    hidden = as_baseline(baseline, image)

    def value(shares: Shares) -> Scalar:
        return at_least_single(score(show_segments(image, shares, numbered, hidden)))

    return value, numbered, count
