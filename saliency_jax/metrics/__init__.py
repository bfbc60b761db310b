"""Measurements: of attributions, of pictures, and of how sure a measured mean is.

Each is of one image; many are the caller's `jax.vmap`. What is undefined, such as a correlation
with a constant or a share of nothing, is nan, so that a mean over images cannot hide it.
"""

from ..attribution.integrated_gradients import completeness_gap as completeness_gap
from .alignment import etmann_alignment as etmann_alignment
from .alignment import gradient_alignment as gradient_alignment
from .bootstrap import Interval as Interval
from .bootstrap import bootstrap_interval as bootstrap_interval
from .complexity import entropy as entropy
from .complexity import gini_sparsity as gini_sparsity
from .correlation import pearson_correlation as pearson_correlation
from .correlation import spearman_correlation as spearman_correlation
from .diversity import mean_pairwise_distance as mean_pairwise_distance
from .faithfulness import faithfulness_correlation as faithfulness_correlation
from .faithfulness import mu_fidelity as mu_fidelity
from .faithfulness import sensitivity_n as sensitivity_n
from .infidelity import gaussian_perturbation as gaussian_perturbation
from .infidelity import infidelity as infidelity
from .infidelity import scaled_infidelity as scaled_infidelity
from .infidelity import square_removal as square_removal
from .outcomes import accuracy as accuracy
from .outcomes import probability as probability
from .performance_information import (
    performance_information_curve as performance_information_curve,
)
from .performance_information import residual_entropy as residual_entropy
from .perturbation_curves import Curve as Curve
from .perturbation_curves import deletion as deletion
from .perturbation_curves import insertion as insertion
from .randomization import cascading_randomization as cascading_randomization
from .randomization import independent_randomization as independent_randomization
from .randomization import layer_names as layer_names
from .randomization import permuted as permuted
from .randomization import random_logit as random_logit
from .regions import box_iou as box_iou
from .regions import box_mask as box_mask
from .regions import pointing_game as pointing_game
from .regions import relevance_mass_accuracy as relevance_mass_accuracy
from .regions import relevance_rank_accuracy as relevance_rank_accuracy
from .road import noisy_linear_imputation as noisy_linear_imputation
from .road import road as road
from .sensitivity import average_sensitivity as average_sensitivity
from .sensitivity import max_sensitivity as max_sensitivity
from .similarity import structural_similarity as structural_similarity
from .spectrum import spectrum_slope as spectrum_slope
