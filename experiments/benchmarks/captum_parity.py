"""Do the attributions equal Captum's on the same weights, and do integrated gradients add up?

  python -m pip install -e ".[bench]"
  python experiments/benchmarks/captum_parity.py

The bundled models are carried into PyTorch. Of two photographs of scikit-image (chelsea, coffee),
under either model, for the likeliest label, the first table has the largest relative L2 difference
|ours - Captum's| / |Captum's| in single and in double precision (jax 0.10.2, torch 2.13.0, captum
0.9.0; 8 steps, 16 images at once); `peers.py` measures the times:

                                          float32  float64
  logits                                    4e-07    7e-16
  gradient                                  8e-04    6e-16
  saliency                                  7e-04    5e-16
  input x gradient                          1e-03    6e-16
  integrated gradients, midpoint            2e-04    4e-16
  integrated gradients, trapezoid           3e-04    4e-16
  integrated gradients, Gauss-Legendre      3e-07    3e-08
  completeness gap                          3e-04    2e-15
  SmoothGrad, no noise                      8e-04    7e-16
  squared SmoothGrad, no noise              1e-03    9e-16
  Grad-CAM, nearest                         2e-07    3e-16
  Grad-CAM, bilinear                        2e-07    2e-16
  occlusion                                 4e-06    3e-08
  feature ablation                          2e-06    5e-15
  Kernel SHAP, exact                        6e-07    1e-07

Single precision differs by 3e-7, except where a rectifier's input is zero up to rounding: open in
one library and shut in the other, it moves that gradient by 1e-3, here that of one photograph, and
a path's by as much as that gradient has weight. PyTorch differs from itself as much when its oneDNN
kernels are switched off. So tests/test_captum_parity.py compares in double precision.

The definitions differ in this, which is allowed for below:
- Captum's trapezoid rule gives n nodes the weights of n intervals, which add up to (n - 1) / n: its
  attributions are divided by that. Ours add up to 1.
- Captum's quadrature and windows have weights in single precision in any case: hence the 2e-08 and
  3e-08 in double precision.
- Its Saliency has a modulus for each channel; the saliency map has their maximum.
- Its Grad-CAM has the rectifier by option (relu_attributions) and the upsampling apart, by repeated
  values unless told otherwise; ours has both, and is bilinear.
- Its occlusion and ablations have a value for each channel, ours one for a pixel of all channels.
- Its ShapleyValues go through all orders, d d! scores of d segments; Kernel SHAP with all 2^d
  samples gives the same values.
Not compared are the methods that draw at random in both: SmoothGrad and VarGrad with noise,
expected gradients, LIME, and Shapley values of drawn orders. Captum has no RISE, XRAI, Score-CAM,
Grad-CAM++, LayerCAM, Sobol indices or HSIC, and no blurred or guided path.

The second table has the completeness gap of integrated gradients from black over the score's
change, the median and the largest of four photographs (2 minutes):

                                                gauss_legendre            midpoint
  tiny-imagenet-standard
    rectifiers                    64 steps     6.6e-03   2e-02     8.2e-03   2e-02
    rectifiers                   512 steps     6.7e-04   1e-03     8.7e-04   2e-03
    softplus(10 x) / 10           64 steps     4.4e-04   1e-03     6.2e-04   2e-03
    softplus(10 x) / 10          512 steps     2.6e-07   3e-07     5.0e-06   2e-05
    softplus(5 x) / 5             64 steps     8.0e-06   3e-05     1.4e-04   4e-04
    softplus(5 x) / 5            512 steps     2.4e-07   3e-07     3.3e-06   5e-06
  tiny-imagenet-robust
    rectifiers                    64 steps     7.4e-03   9e-03     1.5e-03   6e-03
    rectifiers                   512 steps     2.9e-04   8e-04     3.4e-04   5e-04
    softplus(10 x) / 10           64 steps     2.2e-05   1e-04     2.3e-05   4e-05
    softplus(10 x) / 10          512 steps     1.5e-07   3e-07     3.5e-07   8e-07
    softplus(5 x) / 5             64 steps     1.7e-07   5e-07     1.3e-05   4e-05
    softplus(5 x) / 5            512 steps     8.9e-08   2e-07     3.3e-07   6e-07

So 64 steps are not enough for 1e-3 on rectifier networks, by any rule: along a straight path their
score is piecewise linear, its gradient a step function, and a rule with n nodes misses about 1 / n
of each jump, whatever its order. With the rectifiers rounded off and the same weights, 64 Gauss-
Legendre steps leave 3e-05 and less of the photographs, and at most 2e-04 of 40 validation images,
with softplus(5 x) / 5; with softplus(10 x) / 10 up to 1e-03, and more in a tenth of those images
under the standard model. Accuracy on the 1,000 validation images is then 76.3 and 69.2 %, or 78.0
and 69.3 %, after 77.6 and 69.5 %.
"""

import dataclasses
import functools
import itertools
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import captum.attr
import jax
import jax.numpy as jnp
import numpy as np
import skimage.data
import torch
from _ours import weights
from _torch_networks import resnet
from flax import nnx
from jax.tree_util import Partial

sys.path.insert(0, str(Path(__file__).parents[1]))  # What the experiments share.
from lab import methods
from lab.methods import METHODS

from saliency_jax import attribution, baselines, models, runs, scores
from saliency_jax.images import fit
from saliency_jax.segments import grid_segments

PHOTOGRAPHS = ("chelsea", "coffee", "rocket", "astronaut")
RULES = (attribution.gauss_legendre, attribution.midpoint)
# How sharp are the roundings of the rectifiers that the completeness gap is measured with, too.
SHARPNESS = (10, 5)
# Of the images that the bundled models were trained for.
SIDE = 64
WINDOW, STRIDE = 12, 8


@dataclasses.dataclass(frozen=True)
class Settings:
    models: tuple[str, ...] = ("tiny-imagenet-standard", "tiny-imagenet-robust")
    """Bundled models, whose weights are carried into PyTorch."""
    images: tuple[str, ...] = PHOTOGRAPHS[:2]
    """Photographs that come with scikit-image, on which both libraries are compared."""
    steps: int = 8
    """Gradients on a path, and samples without noise."""
    batch_size: int = 16
    """Images at once, in both libraries."""
    gap_images: tuple[str, ...] = PHOTOGRAPHS
    """Photographs on which the completeness gap is measured."""
    gap_steps: tuple[int, ...] = (64, 512)
    """Gradients on the path of which the completeness gap is measured."""


def carried(model: models.ResNet, dtype: np.dtype) -> torch.nn.Module:
    """A bundled model with its weights, as a PyTorch network of that precision."""
    return resnet(model.settings, weights(model)).to(torch.tensor(np.zeros((), dtype)).dtype)


class Pair(NamedTuple):
    """One method by both libraries; a map of one channel stands for all.

    Attributes:
      ours: of (model, label, image), to (h, w) or (h, w, c).
      theirs: of (network, label, images), to (1, c, h, w).
    """

    ours: Callable
    theirs: Callable


def cases(settings: Settings) -> dict[str, Pair]:
    """What is compared, by the method's title and what is special to the case after a comma."""
    steps, batch_size = settings.steps, settings.batch_size
    black = {"baseline": baselines.zeros}
    silent = {"num_samples": steps, "noise_scale": 0.0}
    captum_path = {"n_steps": steps, "internal_batch_size": batch_size}
    captum_silent = {"abs": False, "nt_samples": steps, "stdevs": 0.0}
    captum_silent |= {"nt_samples_batch_size": batch_size}
    at_once = {"perturbations_per_eval": batch_size}

    def ours(name, cells=None, **options):
        """By the table of methods; segments are a grid of cells."""

        def attribute(model, label, image):
            segments = {} if cells is None else {"segments": grid_segments(image, cells)}
            case = methods.Case(image, model, batch_size)
            return METHODS[name](scores.logit(model, label), case, options | segments)

        return attribute

    def theirs(method, /, cells=None, then=lambda maps, images: maps, **options):
        """By a class of Captum's, and what makes its result that which ours is."""

        def attribute(network, label, images):
            masks = {}
            if cells is not None:
                segments = grid_segments(jnp.zeros((*images.shape[2:], 1)), cells)
                masks = {"feature_mask": torch.tensor(segments)[None, None]}
            maps = method(network).attribute(images, target=label, **options, **masks)
            return then(maps, images)

        return attribute

    def tunnel(network):
        return captum.attr.NoiseTunnel(captum.attr.Saliency(network))

    def grad_cam(captum_mode):
        def upsampled(cam, images):
            return captum.attr.LayerAttribution.interpolate(cam, images.shape[2:], captum_mode)

        def method(network):
            return captum.attr.LayerGradCam(network, network.stages)

        return theirs(method, then=upsampled, relu_attributions=True)

    def gap(model, label, image):
        score = scores.logit(model, label)
        shares = attribution.input_x_gradient(score, image)
        return jnp.full_like(image, attribution.completeness_gap(score, image, shares))

    def captum_gap(network, label, images):
        shares = theirs(captum.attr.InputXGradient)(network, label, images)
        delta = captum.attr.IntegratedGradients(network).compute_convergence_delta(
            shares, torch.zeros_like(images), images, target=label
        )
        return delta.to(images.dtype).expand_as(images)

    rules = {
        "midpoint": (attribution.midpoint, "riemann_middle", 1.0),
        "trapezoid": (attribution.trapezoid, "riemann_trapezoid", (steps - 1) / steps),
        "Gauss-Legendre": (attribution.gauss_legendre, "gausslegendre", 1.0),
    }
    integrated_gradients = {
        f"integrated gradients, {name}": Pair(
            ours("integrated_gradients", rule=rule, steps=steps, **black),
            theirs(
                captum.attr.IntegratedGradients,
                then=lambda maps, images, weights=weights: maps / weights,
                method=captum_rule,
                **captum_path,
            ),
        )
        for name, (rule, captum_rule, weights) in rules.items()
    }
    return {
        "logits": Pair(
            lambda model, label, image: model(image).reshape(1, 1, -1),
            lambda network, label, images: network(images)[..., None, None],
        ),
        "gradient": Pair(ours("gradient"), theirs(captum.attr.Saliency, abs=False)),
        "saliency": Pair(
            lambda model, label, image: attribution.saliency(scores.logit(model, label), image),
            theirs(captum.attr.Saliency, then=lambda maps, images: maps.amax(1, keepdim=True)),
        ),
        "input x gradient": Pair(ours("input_x_gradient"), theirs(captum.attr.InputXGradient)),
        **integrated_gradients,
        "completeness gap": Pair(gap, captum_gap),
        "SmoothGrad, no noise": Pair(
            ours("smoothgrad", **silent), theirs(tunnel, nt_type="smoothgrad", **captum_silent)
        ),
        "squared SmoothGrad, no noise": Pair(
            ours("smoothgrad_squared", **silent),
            theirs(tunnel, nt_type="smoothgrad_sq", **captum_silent),
        ),
        "Grad-CAM, nearest": Pair(
            ours("grad_cam", upsample=attribution.nearest), grad_cam("nearest")
        ),
        "Grad-CAM, bilinear": Pair(
            ours("grad_cam", upsample=attribution.bilinear), grad_cam("bilinear")
        ),
        "occlusion": Pair(
            ours("occlusion", window=(WINDOW,) * 2, stride=(STRIDE,) * 2, **black),
            theirs(
                captum.attr.Occlusion,
                sliding_window_shapes=(3, WINDOW, WINDOW),
                strides=(3, STRIDE, STRIDE),
                **at_once,
            ),
        ),
        "feature ablation": Pair(
            ours("feature_ablation", (4, 4), **black),
            theirs(captum.attr.FeatureAblation, (4, 4), **at_once),
        ),
        "Kernel SHAP, exact": Pair(
            ours("kernel_shap", (2, 2), num_samples=2**4, **black),
            theirs(captum.attr.ShapleyValues, (2, 2), **at_once),
        ),
    }


def compare(pair: Pair, model: models.ResNet, image: np.ndarray, dtype: np.dtype) -> float:
    """|ours - theirs| / |theirs| for the likeliest label, both computing in this dtype."""
    with jax.enable_x64(dtype == np.float64):
        model = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), model)
        network = carried(model, dtype)
        image = image.astype(dtype)
        images = torch.tensor(image.transpose(2, 0, 1)[None]).requires_grad_()
        label = int(network(images).argmax())
        expected = pair.theirs(network, label, images).detach()[0].permute(1, 2, 0).numpy()
        result = np.asarray(pair.ours(model, np.int32(label), jnp.asarray(image)))
        result = np.broadcast_to(result.reshape(*result.shape[:2], -1), expected.shape)
        return float(np.linalg.norm(result - expected) / np.linalg.norm(expected))


def photograph(name: str) -> np.ndarray:
    """A photograph of scikit-image (h, w, c), in [0, 1]."""
    return getattr(skimage.data, name)().astype(np.float32) / 255


@functools.partial(jax.jit, static_argnames=("rule", "steps"))
def relative_gap(model: models.Network, image: jax.Array, rule: Callable, steps: int) -> jax.Array:
    """The completeness gap of integrated gradients, over the score's change from black."""
    score = scores.logit(model, jnp.argmax(model(image)))
    shares = attribution.integrated_gradients(score, image, rule=rule, steps=steps)
    gap = attribution.completeness_gap(score, image, shares)
    return jnp.abs(gap / (score(image) - score(jnp.zeros_like(image))))


def compare_with_captum(settings: Settings, loaded: list[Any]) -> None:
    images = [fit(photograph(name), SIDE) for name in settings.images]
    print(f"{'':38s}{'float32':>9s}{'float64':>9s}")
    for name, pair in cases(settings).items():
        compiled = pair._replace(ours=jax.jit(pair.ours))
        worst = [
            max(
                compare(compiled, model, image, np.dtype(dtype))
                for model in loaded
                for image in images
            )
            for dtype in (np.float32, np.float64)
        ]
        print(f"{name:38s}{worst[0]:9.0e}{worst[1]:9.0e}", flush=True)


def measure_gaps(settings: Settings, loaded: list[Any]) -> None:
    images = [jnp.asarray(fit(photograph(name), SIDE)) for name in settings.gap_images]
    print(f"\n{'':40s}" + "".join(f"{rule.__name__:>20s}" for rule in RULES))
    for name, model in zip(settings.models, loaded, strict=True):
        print(name)
        networks = {"rectifiers": model} | {
            f"softplus({sharpness} x) / {sharpness}": nnx.with_attributes(
                model, relu=Partial(rounded_rectifier, sharpness)
            )
            for sharpness in SHARPNESS
        }
        for (rectifier, network), steps in itertools.product(networks.items(), settings.gap_steps):
            cells = []
            for rule in RULES:
                gaps = [float(relative_gap(network, image, rule, steps)) for image in images]
                cells.append(f"{statistics.median(gaps):12.1e}{max(gaps):8.0e}")
            print(f"  {rectifier:26s}{steps:6d} steps" + "".join(cells), flush=True)


def rounded_rectifier(sharpness: float, x: jax.Array) -> jax.Array:
    return jax.nn.softplus(sharpness * x) / sharpness


def main(settings: Settings) -> None:
    loaded = [models.load(name).network for name in settings.models]
    compare_with_captum(settings, loaded)
    measure_gaps(settings, loaded)


if __name__ == "__main__":
    runs.from_command_line(main, Settings, __doc__ or "")
