"""What is known of datasets beside what they hold: published statistics, names of WordNet ids."""

from importlib import resources
from typing import NamedTuple


class Statistics(NamedTuple):
    """The colours of a dataset's training images.

    Attributes:
      mean: per channel, over all pixels of all training images, in units of [0, 1].
      std: per channel, likewise.
      source: where they are published.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str


_IMAGENET = Statistics(
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
    "of ImageNet, https://docs.pytorch.org/vision/stable/models.html",
)

# By TFDS name, with the config where it matters. A common variant of the standard deviations, for
# CIFAR-10's red 0.2023, is a mean over images of each one's own; these are over all pixels, but for
# ImageNet's, which every published network was trained with.
STATISTICS = {
    "cifar10": Statistics(
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
        "https://github.com/kuangliu/pytorch-cifar/issues/8",
    ),
    "cifar100": Statistics(
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
        "https://github.com/weiaicunzai/pytorch-cifar100",
    ),
    "mnist": Statistics((0.1307,), (0.3081,), "https://github.com/pytorch/examples"),
    "fashion_mnist": Statistics(
        (0.2860,), (0.3530,), "https://github.com/ContinualAI/avalanche/pull/555"
    ),
    "svhn_cropped": Statistics(
        (0.4377, 0.4438, 0.4728),
        (0.1980, 0.2010, 0.1970),
        "https://github.com/VICO-UoE/DatasetCondensation",
    ),
    "resisc45": Statistics(
        (0.3682, 0.3808, 0.3434),
        (0.2033, 0.1852, 0.1846),
        "https://github.com/microsoft/torchgeo, RESISC45DataModule",
    ),
    "tiny_imagenet/full": Statistics(
        (0.4802, 0.4481, 0.3975),
        (0.2764, 0.2689, 0.2816),
        "measured over the 100,000 training images of the archive",
    ),
    "imagenet2012": _IMAGENET,
    "imagenet_v2": _IMAGENET,
    "imagenette": _IMAGENET,
}

# Datasets of characters, whose mirror images are no characters, or others.
NOT_MIRRORED = frozenset({"mnist", "svhn_cropped"})


def imagenet_classes() -> dict[str, str]:
    """The 1,000 classes of ImageNet as wnid -> first synonym, in the order of the wnids.

    Returns:
      A dictionary of 1,000 entries; five names that two classes share are told apart.
    """
    return _names("imagenet_classes.txt")


def tiny_imagenet_classes() -> dict[str, str]:
    """The 200 classes of Tiny-ImageNet as wnid -> first synonym, in the order of the wnids.

    Sorted wnids are the label order of an image-folder reader, so that weights trained elsewhere
    on Tiny-ImageNet meet the labels they were trained with.

    Returns:
      A dictionary of 200 entries; the names are unique.
    """
    return _names("tiny_imagenet_classes.txt")


def _names(file: str) -> dict[str, str]:
    text = resources.files(__package__).joinpath(file).read_text("utf-8")
    return dict(line.split("\t") for line in text.splitlines())
