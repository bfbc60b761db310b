"""Prints every model that `load` knows: its size, its sets of weights, and what is said of them."""

import dataclasses

from .._pipes import quietly
from ._checkpoints import available


@dataclasses.dataclass(frozen=True)
class Settings:
    """All are listed: there is nothing to set."""


def main(settings: Settings = Settings()) -> None:
    for name, description in available().items():
        print(f"{name}: {description.parameters:,} parameters")
        for weights, published in description.weights.items():
            accuracy = ", ".join(
                f"{measure} {percent:g} %" for measure, percent in published.accuracies.items()
            )
            print(f"  {weights}: {accuracy or 'accuracy not stated'} ({published.source})")


if __name__ == "__main__":
    with quietly():
        main()
