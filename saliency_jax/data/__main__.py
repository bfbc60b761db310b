"""Prepares a dataset: python -m saliency_jax.data NAME."""

import dataclasses
import sys
from pathlib import Path

import tyro

from .._pipes import quietly
from ._loading import describe
from ._preparation import prepare


@dataclasses.dataclass(frozen=True)
class Settings:
    """Downloads and prepares a TFDS dataset of images, unless it is prepared already."""

    name: tyro.conf.Positional[str]
    """TFDS name, with the config after a slash: mnist, tiny_imagenet/paper20."""
    manual_dir: Path | None = None
    """Folder with files downloaded by hand, such as tiny-imagenet-200.zip or .tar.gz."""
    data_dir: Path | None = None
    """TFDS data folder; by default TFDS's own."""


def main(settings: Settings) -> None:
    builder = prepare(settings.name, manual_dir=settings.manual_dir, data_dir=settings.data_dir)
    description = describe(settings.name, data_dir=settings.data_dir)
    sizes = ", ".join(f"{count:,} {split}" for split, count in description.num_examples.items())
    print(f"{settings.name}: {description.num_classes} classes, {sizes}, in {builder.data_path}")


if __name__ == "__main__":
    try:
        with quietly():
            main(tyro.cli(Settings, prog="python -m saliency_jax.data"))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
