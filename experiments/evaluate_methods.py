"""Which attribution method is best, by which measure, and are they better than an edge detector?

  python experiments/evaluate_methods.py
  python experiments/evaluate_methods.py --images ./photographs --measure insertion deletion
  pair="--dataset tiny_imagenet/paper20 --model tiny-imagenet-standard tiny-imagenet-robust"
  python experiments/evaluate_methods.py $pair --batch-size 20
  python experiments/evaluate_methods.py $pair --method saliency grad_cam rise --count 1000

Maps of the logit of the image's own class, by eight methods and two controls: random numbers, and
the edges of the image (Sobel), which no model is needed for. Measured of every map:

- insertion and deletion: the mean probability of the class while pixels are shown on the blurred
  image, or replaced by its mean colour, the most salient first, in 16 steps;
- ROAD: the mean accuracy when the most salient 10, 30 and 50 % are imputed from their neighbours;
- mu-fidelity: the rank correlation of the map's sums over 32 random sets of cells with the falls
  of the logit when those get the mean colour;
- share in the box (of signed maps their positive part's), rank accuracy and pointing game;
- Gini sparsity, and the rank correlation of the map's absolute values with the edges;
- average sensitivity: the map's relative change under noise of up to 0.02, on the first 100 images.

Under EfficientNet-Lite0, at 224 pixels, and without boxes nothing of the object: of 203 photographs
of ImageNet, each of another class, by insertion and deletion in 10 steps (`--images FOLDER --count
203 --steps 10 --measure insertion deletion`), every method that needs no regions and no attention,
in several runs (`--method`) at once: 3 hours of a processor core in all, with other work beside; a
map by a gradient or a rule takes 0.01 to 0.08 seconds, by 256 copies of the image about 2,
Score-CAM's, of 1,280 feature maps, 8.5. LIME, Kernel SHAP, RISE and HSIC have 256 copies of the
image, Shapley values and Sobol indices 4 for each of 64 cells. "LRP" is epsilon-plus, "LRP, gamma"
epsilon-gamma-box. Without `--images`: ten windows of two photographs that scikit-image carries.

                                   insertion            less edges                deletion
  LRP, gamma                   0.523 [0.483, 0.562]  0.069 [0.055, 0.084]     0.136 [0.118, 0.155]
  LIME                         0.516 [0.478, 0.553]  0.062 [0.040, 0.084]     0.100 [0.087, 0.114]
  Score-CAM                    0.509 [0.471, 0.546]  0.055 [0.033, 0.076]     0.163 [0.143, 0.183]
  RISE                         0.503 [0.468, 0.538]  0.049 [0.026, 0.072]     0.163 [0.142, 0.185]
  DeepSHAP                     0.497 [0.461, 0.533]  0.044 [0.019, 0.068]     0.057 [0.050, 0.065]
  Grad-CAM                     0.493 [0.455, 0.530]  0.039 [0.018, 0.060]     0.162 [0.143, 0.182]
  guided Grad-CAM              0.487 [0.451, 0.524]  0.033 [0.015, 0.051]     0.117 [0.101, 0.134]
  LayerCAM                     0.485 [0.447, 0.523]  0.031 [0.010, 0.053]     0.165 [0.145, 0.185]
  LRP                          0.485 [0.448, 0.522]  0.031 [0.014, 0.049]     0.102 [0.087, 0.119]
  Grad-CAM++                   0.485 [0.447, 0.523]  0.031 [0.010, 0.053]     0.165 [0.145, 0.185]
  Shapley values               0.483 [0.446, 0.519]  0.029 [0.007, 0.051]     0.119 [0.102, 0.136]
  squared SmoothGrad           0.476 [0.440, 0.513]  0.022 [0.003, 0.041]     0.116 [0.101, 0.133]
  VarGrad                      0.474 [0.438, 0.510]  0.020 [0.001, 0.039]     0.117 [0.102, 0.133]
  HSIC                         0.469 [0.431, 0.507]  0.015 [-0.006, 0.036]    0.117 [0.101, 0.134]
  occlusion                    0.467 [0.429, 0.504]  0.013 [-0.013, 0.039]    0.170 [0.147, 0.193]
  guided integrated gradients  0.466 [0.432, 0.501]  0.012 [-0.016, 0.040]    0.065 [0.056, 0.075]
  DeepLIFT                     0.460 [0.423, 0.498]  0.006 [-0.019, 0.031]    0.077 [0.067, 0.088]
  Sobol indices                0.457 [0.421, 0.494]  0.003 [-0.017, 0.024]    0.137 [0.120, 0.156]
  edges                        0.454 [0.418, 0.490]                           0.259 [0.236, 0.283]
  guided backpropagation       0.454 [0.419, 0.489]  0.000 [-0.019, 0.018]    0.119 [0.104, 0.135]
  expected gradients           0.452 [0.418, 0.485]  -0.002 [-0.028, 0.023]   0.076 [0.065, 0.088]
  integrated gradients         0.448 [0.414, 0.482]  -0.006 [-0.035, 0.022]   0.076 [0.065, 0.087]
  Kernel SHAP                  0.445 [0.409, 0.481]  -0.009 [-0.032, 0.014]   0.146 [0.128, 0.165]
  feature ablation             0.444 [0.407, 0.480]  -0.010 [-0.035, 0.015]   0.167 [0.145, 0.190]
  SmoothGrad                   0.438 [0.403, 0.474]  -0.016 [-0.036, 0.004]   0.104 [0.090, 0.119]
  blur integrated gradients    0.384 [0.351, 0.417]  -0.070 [-0.097, -0.044]  0.124 [0.108, 0.142]
  ten crop                     0.376 [0.344, 0.409]  -0.078 [-0.104, -0.051]  0.217 [0.191, 0.244]
  saliency                     0.353 [0.322, 0.384]  -0.101 [-0.128, -0.075]  0.176 [0.155, 0.198]
  DeconvNet                    0.340 [0.310, 0.371]  -0.114 [-0.135, -0.093]  0.128 [0.112, 0.145]
  input x gradient             0.304 [0.276, 0.334]  -0.150 [-0.173, -0.126]  0.169 [0.150, 0.189]
  random                       0.296 [0.269, 0.324]                           0.185 [0.164, 0.207]
  gradient                     0.276 [0.247, 0.305]  -0.178 [-0.202, -0.154]  0.156 [0.137, 0.176]

By insertion relevance by epsilon-gamma-box and LIME are best, above the edges by 0.07 and 0.06, and
not told apart (0.007 [-0.011, 0.025]); RISE, Score-CAM, DeepSHAP, the class activation maps, guided
Grad-CAM, epsilon-plus and Shapley values are above the edges, too, and by little squared SmoothGrad
and VarGrad. Of those that make fine maps most are only as good as the edges: integrated and
expected gradients, DeepLIFT, SmoothGrad, guided backpropagation; saliency, ten crops, DeconvNet and
blur integrated gradients are worse than the edges and better than random pixels, by 0.044 [0.029,
0.059] at least; input x gradient is no better than random (0.008 [-0.001, 0.017]), and the gradient
with its sign worse (-0.021 [-0.029, -0.012]).

By deletion DeepSHAP is best, 0.008 [0.001, 0.016] below guided integrated gradients and 0.018
[0.011, 0.027] below the plain ones; by insertion it is above the edges, too. All methods are better
than the edges; occlusion, feature ablation, RISE, LayerCAM, Grad-CAM++ and saliency are not better
than random pixels, Grad-CAM and Score-CAM hardly (by 0.023 [0.001, 0.044] and 0.022), and ten
crops, which blur, worse. So the methods that see places show best what is enough for the class, and
the fine ones what it cannot do without; a single measure would name another winner. On
Tiny-ImageNet, below, integrated gradients win both. Of so many rows a few are where they are by
luck: intervals that only just leave out 0 say little.

ROAD of the backward rules on the first 60 (`--measure ROAD`; 5 minutes on a core), and the pointing
game, for which photographs have no boxes: of the first 100 of Tiny-ImageNet, enlarged to 224
(`--dataset tiny_imagenet/paper20 --count 100 --measure "pointing game"`; 4 minutes):

                             ROAD        pointing game
  guided      0.628 [0.528, 0.722]  0.840 [0.770, 0.910]
  DeconvNet   0.800 [0.711, 0.878]  0.420 [0.320, 0.520]
  guided CAM  0.528 [0.439, 0.617]  0.870 [0.800, 0.930]
  z+          0.578 [0.478, 0.678]  0.910 [0.850, 0.960]
  gamma       0.544 [0.439, 0.650]  0.900 [0.840, 0.950]
  DeepLIFT    0.633 [0.522, 0.744]  0.790 [0.710, 0.870]
  random      0.789 [0.689, 0.878]  0.600 [0.500, 0.700]
  edges       0.739 [0.644, 0.828]  0.780 [0.700, 0.860]

By ROAD all but DeconvNet are better than random pixels and than the edges, guided Grad-CAM most, by
-0.261 [-0.339, -0.183] and -0.211 [-0.289, -0.139], DeepLIFT least, by -0.106 [-0.194, -0.017] from
the edges. In the game the z+ rule (epsilon-plus) is above the edges by 0.130 [0.050, 0.220],
epsilon-gamma-box by 0.120 [0.040, 0.200], guided Grad-CAM by 0.090 [0.010, 0.170]; guided
backpropagation and DeepLIFT are not (0.060 [-0.020, 0.150], 0.010 [-0.080, 0.100]), and DeconvNet
is below random pixels, by -0.180 [-0.270, -0.090].

500 validation images under the bundled standard and robust ResNet. An image under a model takes 51
gradients (SmoothGrad 16, integrated gradients 32) and 227 passes forward (occlusion 225) for the
maps, and each of its ten maps 70 passes and three imputations; the sensitivity takes the maps three
times again. That took 30 minutes on two processor cores. RISE, which is left out, would add 256
passes. Interrupted, the same command continues.

Measured on these: integrated gradients say best which pixels matter to the model. They have the
highest insertion, 0.70 [0.68, 0.72] under the standard model and 0.62 under the robust one, and the
lowest deletion (0.12, 0.12; random 0.30, 0.27) and ROAD (0.37, 0.33; random 0.75, 0.68). Of
mu-fidelity (of the first 200 images) occlusion has more, 0.56 and 0.76 against 0.35 and 0.62, which
hides squares as that measure does; of random numbers it is 0. Where the object is LayerCAM and
Grad-CAM say best by rank accuracy (0.74 and 0.73 under the standard model, random 0.53), integrated
gradients by the pointing game and the share in the box (0.84 and 0.70 under the robust one). An
edge detector, which knows no model, is better than saliency, gradient and input x gradient under
the standard model by insertion, 0.52 against 0.48, 0.38 and 0.46, and share in the box, 0.61
against 0.59, 0.58 and 0.58; by deletion it is worse, 0.37 against 0.29, 0.26 and 0.24, and worse
than random pixels (0.30): pixels of edges replaced by one colour leave the shape. The gradient with
its sign is worse than random pixels by insertion (0.46) and ROAD, and better by deletion: the
measures do not agree about the weak methods, only about the best. Under the robust model the
gradients are more like edges (0.23 against -0.01), half as sensitive to noise or less, and better
at the pointing game (0.79 against 0.70); the class activation maps are worse there (rank accuracy
0.68).

The first 100 of them by the backward rules (`--count 100 --method guided_backprop deconvnet
guided_grad_cam lrp lrp_epsilon_gamma_box deep_lift`; 21 minutes beside other work): guided
backpropagation, DeconvNet, guided Grad-CAM, relevance by epsilon-plus, whose convolutions have the
z+ rule, and by epsilon-gamma-box, DeepLIFT.

  standard               insertion             deletion                 ROAD        pointing game
  guided      0.602 [0.543, 0.656]  0.251 [0.217, 0.285]  0.507 [0.427, 0.583]  0.860 [0.790, 0.930]
  DeconvNet   0.538 [0.483, 0.588]  0.294 [0.260, 0.329]  0.780 [0.700, 0.850]  0.580 [0.480, 0.680]
  guided CAM  0.612 [0.554, 0.665]  0.232 [0.198, 0.265]  0.480 [0.407, 0.553]  0.850 [0.780, 0.920]
  z+          0.626 [0.569, 0.680]  0.273 [0.235, 0.312]  0.550 [0.470, 0.627]  0.890 [0.830, 0.950]
  gamma       0.667 [0.615, 0.716]  0.207 [0.175, 0.240]  0.390 [0.317, 0.463]  0.880 [0.810, 0.940]
  DeepLIFT    0.715 [0.663, 0.764]  0.129 [0.102, 0.159]  0.480 [0.390, 0.567]  0.810 [0.730, 0.880]
  random      0.503 [0.448, 0.554]  0.332 [0.290, 0.375]  0.833 [0.760, 0.900]  0.540 [0.440, 0.640]
  edges       0.551 [0.492, 0.604]  0.410 [0.365, 0.454]  0.737 [0.660, 0.807]  0.740 [0.650, 0.820]

  robust                 insertion             deletion                 ROAD        pointing game
  guided      0.531 [0.470, 0.589]  0.229 [0.196, 0.263]  0.513 [0.430, 0.597]  0.850 [0.780, 0.920]
  DeconvNet   0.464 [0.405, 0.519]  0.244 [0.214, 0.275]  0.647 [0.563, 0.723]  0.770 [0.680, 0.850]
  guided CAM  0.534 [0.473, 0.592]  0.218 [0.186, 0.250]  0.477 [0.397, 0.557]  0.910 [0.850, 0.960]
  z+          0.507 [0.446, 0.566]  0.256 [0.220, 0.292]  0.567 [0.480, 0.650]  0.840 [0.760, 0.910]
  gamma       0.558 [0.498, 0.615]  0.207 [0.175, 0.239]  0.473 [0.393, 0.550]  0.900 [0.840, 0.950]
  DeepLIFT    0.643 [0.584, 0.698]  0.132 [0.107, 0.159]  0.400 [0.317, 0.483]  0.870 [0.800, 0.930]
  random      0.434 [0.380, 0.486]  0.296 [0.258, 0.333]  0.757 [0.670, 0.837]  0.540 [0.440, 0.640]
  edges       0.488 [0.429, 0.545]  0.330 [0.289, 0.369]  0.680 [0.593, 0.760]  0.740 [0.650, 0.820]

DeepLIFT says best which pixels matter, as integrated gradients do: by insertion it is above the
edges by 0.164 [0.125, 0.205] and 0.155 [0.131, 0.180], by deletion below random pixels by 0.203
[0.172, 0.233] and 0.163 [0.139, 0.188], and better by both than epsilon-gamma-box, the next. By
ROAD that is better under the standard model, by 0.090 [0.023, 0.153], and DeepLIFT under the robust
one, by 0.073 [0.020, 0.127]. In the pointing game all but DeconvNet are above the edges, DeepLIFT
under the robust model alone (0.07 [-0.03, 0.17] under the standard one): guided Grad-CAM most, by
0.170 [0.080, 0.260] under the robust one, epsilon-plus by 0.150 [0.070, 0.240] under the standard
one. DeconvNet is worse than the edges by insertion under the robust model (-0.025 [-0.038,
-0.012]) and in the game under the standard one (-0.160 [-0.250, -0.070]); noise does not change its
map at all (sensitivity 0.000).

The run's folder then holds `scores.png` (everything measured), `examples.png` (the first images'
maps), `measurements-MODEL.npz` (a value for every method and image), `config.json` and
`index.html`, which shows it all.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from lab import examples, frame, methods, photographs, tables
from lab.examples import Measurements, Subject
from lab.frame import Count, Run
from lab.methods import CONTROLS
from matplotlib.figure import Figure

from saliency_jax import baselines, filters, metrics, scores
from saliency_jax.runs import Section, Table, plots

# Each measure with what is good of it.
BETTER = {
    "insertion": "higher",
    "deletion": "lower",
    "ROAD": "lower",
    "mu-fidelity": "higher",
    "share in the box": "higher",
    "rank accuracy": "higher",
    "pointing game": "higher",
    "Gini": "",
    "like edges": "",
    "sensitivity": "lower",
}
Measure = tyro.extras.literal_type_from_choices(BETTER)
OF_BOXES = ("share in the box", "rank accuracy", "pointing game")
REMOVED = (0.1, 0.3, 0.5)
SETS = 32
NOISY_COPIES = 2
HOW_TO_READ = (
    f"{examples.HOW_TO_READ} Higher is better of insertion, mu-fidelity, share in the box, "
    "rank accuracy and pointing game, lower of deletion, ROAD and sensitivity; Gini (0 for a map "
    "that is the same everywhere) and the likeness to the edges say what a map looks like. Random "
    "and edges are the controls, which do not look at the model: a method that is no better than "
    "they are says nothing by that measure. Mu-fidelity asks for maps with a sign."
)


@dataclasses.dataclass(frozen=True)
class Settings(examples.Settings):
    method: tuple[methods.Name, ...] = (*methods.COMMON, "occlusion")
    """Attribution methods."""
    measure: tuple[Measure, ...] = tuple(BETTER)
    """What is measured; without boxes nothing of the object."""
    count: examples.AtLeastTwo = 500
    """How many of its images, from the first on."""
    few: Count = 100
    """How many of those the sensitivity is measured on."""
    steps: Count = 16
    """Parts of the pixels that are shown or replaced one after the other."""
    shown: Count = 3
    """How many of the images are shown."""


class Evaluated(NamedTuple):
    """By method and control under one model: maps, measurements, and how long they took.

    The maps (s, h, w) are of the first images. The values (n,) are by measure; the sensitivity, if
    it is asked for, is nan but for the first. The seconds are of a map, of judging it and of its
    sensitivity; nan if an interruption lost them.
    """

    maps: dict[str, np.ndarray]
    values: dict[str, Measurements]
    seconds: dict[str, tuple[float, ...]]


@frame.experiment("Attribution methods evaluated")
def main(settings: Settings, run: Run) -> list[Section]:
    methods.check(settings.method, [], many=True)
    names = [*settings.method, *CONTROLS]
    pair = examples.subjects(settings)
    methods.check(settings.method, [subject.classifier for subject in pair])
    measures: list[str] = [
        measure
        for measure in dict.fromkeys(settings.measure)
        if measure not in OF_BOXES or "boxes" in pair[0].examples
    ]
    if not measures:
        raise ValueError("expected at least one --measure that needs no boxes, got none")
    noisy = min(settings.few, pair[0].count) if "sensitivity" in measures else 0
    run.expect(len(pair) * len(names) * (2 * pair[0].count + noisy), "map")
    judging = functools.partial(judge, steps=settings.steps, measures=tuple(measures))
    functions = {
        name: (functools.partial(explain, name=name), functools.partial(sensitivity, name=name))
        for name in names
    }
    evaluated = [evaluate(settings, run, subject, functions, judging, noisy) for subject in pair]
    for subject, each in zip(pair, evaluated, strict=True):
        run.save_arrays(
            f"measurements-{subject.classifier.file_name}",
            **{
                measure.replace(" ", "_"): np.stack([each.values[name][measure] for name in names])
                for measure in measures
            },
            methods=np.array(names),
            seconds=np.array([seconds for seconds, *_ in each.seconds.values()]),
        )
    model_names = [subject.name for subject in pair]
    values = [
        {
            f"{measure}, {methods.title(name)}": each.values[name][measure]
            for measure in measures
            for name in names
        }
        for each in evaluated
    ]
    durations = [took(*each, noisy) for each in zip(pair, evaluated, strict=True)]
    glance = run.save_figure("scores", draw_scores(model_names, names, measures, evaluated))
    pictures = run.save_view("examples", draw_examples(pair, evaluated))
    return [
        Section(
            "At a glance",
            "Means over the images and their 95 % bootstrap intervals; in brackets what is better.",
            [glance],
        ),
        Section(
            "Measured",
            " ".join([HOW_TO_READ, *filter(None, durations)]),
            table=tables.paired(model_names, values),
        ),
        Section(
            "Above the controls",
            "Differences paired by image: the method's less the control's.",
            table=above_controls(settings.method, measures, model_names, evaluated),
        ),
        Section("The first images", views=[pictures]),
    ]


def evaluate(
    settings: Settings,
    run: Run,
    subject: Subject,
    functions: Mapping[str, tuple[Callable, Callable]],
    judging: Callable,
    num_noisy: int,
) -> Evaluated:
    """All methods' maps of all images under one model, and what is measured of them.

    Of the first images the sensitivity too.
    """
    points, few = subject.alone(), subject.first(num_noisy).alone()
    network, batch_size = subject.classifier.network, settings.batch_size
    sweep = functools.partial(run.sweep, subject.classifier, shared=network, batch_size=batch_size)
    evaluated = Evaluated({}, {}, {})
    for name, (explaining, noisy) in functions.items():
        maps, explaining_took = sweep(f"{name} maps", explaining, {"example": points})
        mapped = {"example": {**points, "map": maps}}
        measured, judging_took = sweep(f"{name} judged", judging, mapped)
        evaluated.values[name], evaluated.maps[name] = measured, maps[: settings.shown]
        evaluated.seconds[name] = explaining_took, judging_took
        if num_noisy:
            changes, noisy_took = sweep(f"{name} sensitivity", noisy, {"example": few})
            missing = (0, subject.count - num_noisy)
            measured["sensitivity"] = np.pad(changes, missing, constant_values=np.nan)
            evaluated.seconds[name] += (noisy_took,)
    return evaluated


def explain(network, *, example, name):
    """A method's map (h, w) of an example."""
    score = methods.row(name).score(network, example["label"])
    return methods.explain(name, score, example["image"])


def sensitivity(network, *, example, name):
    """The relative change of a method's map of an example under noise."""
    return metrics.average_sensitivity(
        functools.partial(methods.explain, name),
        methods.row(name).score(network, example["label"]),
        example["image"],
        key=example_key(example),
        num_samples=NOISY_COPIES,
        batch_size=1,
    )


def judge(network, *, example, steps, measures=tuple(BETTER)):
    """What is measured of an example's map, but for its sensitivity."""
    image, label, saliency_map = (example[name] for name in ("image", "label", "map"))
    probability = scores.probability(network, label)
    shown: dict[str, Any] = {"steps": steps, "batch_size": 1}
    drawn: dict[str, Any] = {"key": example_key(example), "batch_size": 1}
    accuracy, logit = scores.accuracy(network, label), scores.logit(network, label)
    sums: dict[str, Any] = {"num_samples": SETS, "baseline": baselines.mean_color}

    def inside():
        return metrics.box_mask(example["box"], saliency_map.shape)

    measuring: dict[str, Callable] = {
        "insertion": lambda: metrics.insertion(probability, image, saliency_map, **shown).area,
        "deletion": lambda: metrics.deletion(probability, image, saliency_map, **shown).area,
        "ROAD": lambda: metrics.road(
            accuracy, image, saliency_map, fractions=REMOVED, **drawn
        ).scores.mean(),
        "mu-fidelity": lambda: metrics.mu_fidelity(logit, image, saliency_map, **sums, **drawn),
        "share in the box": lambda: metrics.relevance_mass_accuracy(
            jnp.maximum(saliency_map, 0), inside()
        ),
        "rank accuracy": lambda: metrics.relevance_rank_accuracy(saliency_map, inside()),
        "pointing game": lambda: metrics.pointing_game(saliency_map, inside()),
        "Gini": lambda: metrics.gini_sparsity(saliency_map),
        "like edges": lambda: metrics.spearman_correlation(
            jnp.abs(saliency_map), filters.sobel(image)
        ),
    }
    return {name: measure() for name, measure in measuring.items() if name in measures}


def example_key(example: Mapping[str, Any]) -> jax.Array:
    """The same for all methods and models, so that their differences are not the draws'."""
    return jax.random.fold_in(jax.random.key(0), example["number"])


def above_controls(
    chosen: Sequence[str],
    measures: Sequence[str],
    model_names: Sequence[str],
    evaluated: Sequence[Evaluated],
) -> Table:
    """How far each method is above each control, by what tells good maps from bad ones."""
    rows = []
    for measure in filter(BETTER.get, measures):
        for model_name, each in zip(model_names, evaluated, strict=True):
            for name in chosen:
                row = [f"{measure} ({BETTER[measure]})", model_name, methods.title(name)]
                ones = each.values[name][measure]
                others = (each.values[control][measure] for control in CONTROLS)
                rows.append([*row, *(tables.cell(ones - other) for other in others)])
    return Table(["", "model", "method", *(f"less {name}" for name in CONTROLS)], rows)


def took(subject: Subject, evaluated: Evaluated, num_noisy: int) -> str:
    """How long it took, unless an interruption lost it."""
    seconds = np.array(list(evaluated.seconds.values()))
    counts = (subject.count, subject.count, num_noisy)[: seconds.shape[1]]
    if np.isnan(seconds).any():
        return ""
    by_method = (
        f"{methods.title(name)} {taken:.3f}" for name, (taken, *_) in evaluated.seconds.items()
    )
    return (
        f"All maps under {subject.name} took {(seconds @ counts).sum() / 60:.1f} minutes, "
        f"compilation excepted; seconds a map: {', '.join(by_method)}, judging one "
        f"{seconds[:, 1].mean():.3f}."
    )


def draw_scores(
    model_names: Sequence[str],
    names: Sequence[str],
    measures: Sequence[str],
    evaluated: Sequence[Evaluated],
) -> Figure:
    """A panel for each measure, with a line for each method and a point for each model."""
    panels = {}
    for measure in measures:
        better = BETTER[measure]
        title = f"{measure} ({better})" if better else measure
        panels[title] = [
            tables.curve(
                model_name, np.arange(len(names)), [each.values[name][measure] for name in names]
            )
            for model_name, each in zip(model_names, evaluated, strict=True)
        ]
    return plots.intervals(panels, [*map(methods.title, names)], ruled_off=len(CONTROLS))


def draw_examples(pair: Sequence[Subject], evaluated: Sequence[Evaluated]) -> plots.View:
    """For each of the first images a row of all maps under each model."""
    names = list(evaluated[0].maps)
    count = len(evaluated[0].maps[names[0]])
    rows: list[list[plots.Cell | None]] = [
        [
            pair[0].boxed(index),
            *(
                plots.layers(
                    subject.examples["images"][index, 0], maps[index], draw=methods.row(name).draw
                )
                for name, maps in each.maps.items()
            ),
        ]
        for index in range(count)
        for subject, each in zip(pair, evaluated, strict=True)
    ]
    return plots.explore(
        rows,
        row_titles=[subject.name for subject in pair] * count,
        column_titles=[
            "image and box" if "boxes" in pair[0].examples else "image",
            *map(methods.title, names),
        ],
        caption=f"Maps of the class above the image. {methods.COLORS} {methods.LAST_COLOR}",
        cell_width=photographs.CELL_WIDTH,
    )


if __name__ == "__main__":
    main.from_command_line()
