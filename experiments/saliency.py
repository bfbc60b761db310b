"""Which pixels does a classifier's answer depend on, for photographs of yours?

  python experiments/saliency.py
  python experiments/saliency.py --images cat.jpg coffee.png --label tabby --method grad_cam
  python experiments/saliency.py --images ./photographs
  python experiments/saliency.py --model tiny-imagenet-standard tiny-imagenet-robust
  pair="--dataset tiny_imagenet/paper20 --model tiny-imagenet-standard tiny-imagenet-robust"
  python experiments/saliency.py $pair --split validation --count 16

The saliency map of Simonyan et al. 2013 (arXiv:1312.6034): at each pixel the largest absolute
value, over the channels, of the gradient of the class score. Without arguments: the two photographs
that scikit-image carries, a cat and a cup of coffee, under EfficientNet-Lite0, which knows
ImageNet's thousand classes. Of the bundled standard and robust ResNet, asked for by `--model`, the
standard one's maps look like noise; the robust one's follow the object. `--method` takes any other
attribution method of the library. With `--size` images are explained at another size than the model
was trained for. Memory is set by `--batch-size` alone: a photograph at 512x512 takes, as the peak
of the whole process at the default 8, 0.7 GiB for a single gradient and the Grad-CAM family, 1.3
for all that evaluates the score alone, from Score-CAM and occlusion to RISE with its 4,000 masks,
1.8 for the averages of gradients (integrated gradients, SmoothGrad, 64 pairs of expected
gradients), and 2.5 for XRAI.

The run's folder then holds `saliency.png` (the photograph, each model's five likeliest classes, its
map, and the map over the photograph), `saliency-MODEL.npz` (images, labels, probabilities, signed
attributions and maps), `config.json` and `index.html`, which shows it all.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from lab import frame, loading, methods, photographs
from lab.frame import Count, Run
from lab.photographs import Photograph

from saliency_jax.models import Classifier
from saliency_jax.runs import Section


@dataclasses.dataclass(frozen=True)
class Settings(photographs.Settings):
    dataset: str | None = None
    """A prepared TFDS set to take images from, such as tiny_imagenet/paper20."""
    split: str | None = None
    """Split of the dataset, sliced at will: "validation[100:]"; validation or test if none."""
    count: Count = 16
    """How many of its images."""
    method: methods.Name = "saliency"
    """How it is explained."""
    batch_size: Count = 8
    """Images explained at once, or copies of one where the method looks at many."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""


@frame.experiment("Saliency maps")
def main(settings: Settings, run: Run) -> list[Section]:
    classifiers = loading.load(settings.model)
    methods.check([settings.method], classifiers)
    labels = settings.labels(classifiers)
    shown = read_photographs(settings, classifiers)
    run.expect(len(classifiers) * len(shown), "image")
    explained = [
        photographs.explain(run, classifier, shown, settings.method, settings, label)
        for classifier, label in zip(classifiers, labels, strict=True)
    ]
    return [photographs.save(run, shown, explained, settings.score)]


def read_photographs(settings: Settings, classifiers: Sequence[Classifier]) -> list[Photograph]:
    """The photographs that the settings name."""
    if settings.images and settings.dataset is not None:
        raise ValueError("expected --images or --dataset, got both")
    if settings.dataset is None:
        return photographs.from_files(settings.images)
    return photographs.from_dataset(
        settings.dataset,
        settings.split,
        settings.count,
        classifiers,
        size=settings.size,
        data_dir=settings.data_dir,
    )


if __name__ == "__main__":
    main.from_command_line()
