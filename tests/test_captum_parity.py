"""Every deterministic method that Captum has too, on the bundled weights in PyTorch."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from saliency_jax import models
from saliency_jax.images import fit

pytest.importorskip("captum", reason="the comparison needs the extra bench")

BENCHMARKS = Path(__file__).parent.parent / "experiments" / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import captum_parity  # noqa: E402

sys.path.remove(str(BENCHMARKS))

CASES = captum_parity.cases(captum_parity.Settings(steps=3, batch_size=2))


@pytest.fixture(scope="module")
def pair():
    return [models.load(name).network for name in captum_parity.Settings().models]


@pytest.mark.parametrize("name", CASES)
def test_equals_captum(name, pair):
    # In double precision: in single precision one of 100,000 rectifiers may be open in one library
    # and shut in the other, which moves a gradient by 2e-3.
    compiled = CASES[name]._replace(ours=jax.jit(CASES[name].ours))
    image = fit(captum_parity.photograph("coffee"), 32)
    for model in pair:
        difference = captum_parity.compare(compiled, model, image, np.dtype(np.float64))
        # Captum has the weights of its quadrature and its windows in single precision.
        assert difference < 1e-6
