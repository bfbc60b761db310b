"""The checks at the entry that are not met through a method's own tests, and what is imported."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from saliency_jax import _validation

NAMES = ["lemon", "orange", "school bus", "king penguin", "tiny-imagenet-robust"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("lemmon", "; did you mean 'lemon'?"),
        ("School_Bus", "; did you mean 'school bus'?"),
        ("tiny_imagenet_robust", "; did you mean 'tiny-imagenet-robust'?"),
        ("zebra", ""),
    ],
)
def test_nearest_names(asked, message):
    assert _validation.nearest(asked, NAMES) == message


def test_nearest_names_come_closest_first():
    assert _validation.nearest("lemo", ["lemur", "lemon"]) == "; did you mean 'lemon' or 'lemur'?"


def test_a_count_is_any_integer():
    for count in (1, np.int64(1), np.uint8(1)):
        _validation.check_count("steps", count, 1)


def test_values_of_tracers_are_not_read():
    def checked(label, weight, image):
        _validation.check_label(label, 2)
        _validation.check_at_least("weight", weight, 0)
        _validation.check_image(image)
        return label

    assert jax.jit(checked)(5, -1.0, np.full((1, 1, 1), np.nan, np.float32)) == 5


def test_the_methods_do_without_the_libraries_of_datasets_models_and_figures():
    heavy = "{'flax', 'orbax', 'tensorflow_datasets', 'grain', 'matplotlib', 'PIL'}"
    program = f"import sys, saliency_jax; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"
