"""Measurements: of attributions, of pictures, and of how sure a measured mean is.

Each is of one image; many are the caller's `jax.vmap`. What is undefined, such as a correlation
with a constant or a share of nothing, is nan, so that a mean over images cannot hide it. Numbers
are in the image's precision, and in single where that is half.

What means the same everywhere here:

  score: a `saliency_jax.scores.Score`, such as `scores.logit(model, label)`, or any callable PyTree
    from one image to a scalar.
  model: callable PyTree from one image (h, w, c) to logits (k,).
  image: (h, w, c), in the range that the score's model takes, usually [0, 1].
  saliency_map: (h, w), such as `attribution.max_abs(...)`. Where the pixels' order is all that
    counts it has any range, and equally salient pixels go in reading order.
  signed map: a saliency map in units of the score, an attribution summed over its channels by
    `attribution.sum_channels`.
  mask: (h, w) of booleans, true on the object; of a box it is `box_mask(box, (h, w))`.
  method: from a score and an image to an attribution of any shape, such as `attribution.saliency`;
    settings are bound with `functools.partial`.
  baseline: what is shown where a pixel is hidden: an array (h, w, c) in the image's range, or a
    function of the image, such as `baselines.zeros`.
  key: a JAX random key; equal keys give equal results.
  num_samples: how many are drawn, at least 1.
  batch_size: how many images are evaluated at once, at least 1: memory does not grow with the
    number of samples or steps, and the result changes by rounding alone.

Every function raises TypeError where an array does not hold floats, a count is no integer or what
is called is not callable, and ValueError where a shape does not fit, a known value is not finite or
a number is out of its range. What cannot be known under `jax.jit` makes the result nan.
"""

from ..attribution._integrated_gradients import completeness_gap as completeness_gap
from ._alignment import etmann_alignment as etmann_alignment
from ._alignment import gradient_alignment as gradient_alignment
from ._bootstrap import Interval as Interval
from ._bootstrap import bootstrap_interval as bootstrap_interval
from ._complexity import entropy as entropy
from ._complexity import gini_sparsity as gini_sparsity
from ._correlation import pearson_correlation as pearson_correlation
from ._correlation import spearman_correlation as spearman_correlation
from ._diversity import mean_pairwise_distance as mean_pairwise_distance
from ._faithfulness import faithfulness_correlation as faithfulness_correlation
from ._faithfulness import mu_fidelity as mu_fidelity
from ._faithfulness import sensitivity_n as sensitivity_n
from ._infidelity import gaussian_perturbation as gaussian_perturbation
from ._infidelity import infidelity as infidelity
from ._infidelity import scaled_infidelity as scaled_infidelity
from ._infidelity import square_removal as square_removal
from ._performance_information import performance_information_curve as performance_information_curve
from ._performance_information import residual_entropy as residual_entropy
from ._perturbation_curves import Curve as Curve
from ._perturbation_curves import deletion as deletion
from ._perturbation_curves import insertion as insertion
from ._randomization import cascading_randomization as cascading_randomization
from ._randomization import independent_randomization as independent_randomization
from ._randomization import layer_names as layer_names
from ._randomization import permuted as permuted
from ._randomization import random_logit as random_logit
from ._regions import best_box_iou as best_box_iou
from ._regions import box_iou as box_iou
from ._regions import box_mask as box_mask
from ._regions import pointing_game as pointing_game
from ._regions import relevance_mass_accuracy as relevance_mass_accuracy
from ._regions import relevance_rank_accuracy as relevance_rank_accuracy
from ._road import noisy_linear_imputation as noisy_linear_imputation
from ._road import road as road
from ._sensitivity import average_sensitivity as average_sensitivity
from ._sensitivity import max_sensitivity as max_sensitivity
from ._similarity import structural_similarity as structural_similarity
from ._spectrum import spectrum_slope as spectrum_slope
