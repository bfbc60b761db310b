"""Programs: what is kept of them, and that none computes twice what is the same."""

import dataclasses
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_classifiers

from saliency_jax import attacks, attribution, runs, scores

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))
from lab import frame


def test_programs_are_kept_where_the_environment_says_or_in_the_users_caches(tmp_path):
    program = """
import json, os, sys
import jax
from saliency_jax.runs import _programs, keep_programs
folder, (_programs._LEAST_SECONDS) = sys.argv[1], 0.0
asked = []
for caches in (f"{folder}/file", folder):
    os.environ["XDG_CACHE_HOME"] = caches
    keep_programs()
    asked.append(jax.config.values["jax_compilation_cache_dir"])
jax.jit(lambda x: x + 1)(1.0)
# One that is set stays.
os.environ["XDG_CACHE_HOME"] = "/elsewhere"
keep_programs()
asked.append(jax.config.values["jax_compilation_cache_dir"])
print(json.dumps(asked))
"""
    (tmp_path / "file").touch()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    folder = tmp_path / "saliency-jax" / "programs"
    # None below a file, which is no error.
    assert json.loads(done.stdout) == [None, str(folder), str(folder)]
    assert done.stderr == ""
    assert list(folder.iterdir())


@dataclasses.dataclass(frozen=True)
class Settings(frame.Output):
    pass


@frame.experiment("Nothing")
def nothing(settings: Settings, run: frame.Run) -> list[runs.Section]:
    with run.on_devices():
        np.save(run._partial / "devices.npy", jax.sharding.get_mesh().size)
    return []


def test_a_program_that_is_half_written_is_compiled_again_without_a_word(tmp_path):
    command = [sys.executable, "-c", "import jax; print(jax.jit(lambda x: 2 * x + 1)(3.0))"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    for _ in range(2):
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert (ended.stdout, ended.stderr) == ("7.0\n", "")
        kept = [*tmp_path.iterdir()]
        assert kept
        for path in kept:
            path.write_bytes(path.read_bytes()[:20])
    # In the tests' own processes, where other warnings are errors.
    warnings.warn("Error reading persistent compilation cache entry for 'f': e", stacklevel=1)


@pytest.mark.parametrize(("flags", "count", "kept"), [
    ([], 2, 1), (["--devices", "1", "--no-keep-programs"], 1, 0)
])  # fmt: skip
def test_flags_say_on_how_many_devices_and_whether_programs_are_kept(
    flags, count, kept, tmp_path, monkeypatch
):
    calls = []
    monkeypatch.setattr(runs, "keep_programs", lambda: calls.append(0))
    nothing.from_command_line(["--output", str(tmp_path / "run"), *flags])
    assert len(calls) == kept
    assert np.load(tmp_path / "run" / "devices.npy") == count


# The pictures' real size: of maps of one or two pixels most operations would be with the zeros
# around them, which a convolution's count leaves out and a product's has.
CLASSIFIER = small_classifiers.classifier(side=64)
IMAGE = jnp.full((*CLASSIFIER.input.size, CLASSIFIER.input.channels), 0.3)


def operations(function, *arguments):
    program = jax.jit(function).lower(CLASSIFIER.network, IMAGE, *arguments)
    return program.compile().cost_analysis()["flops"]


def saliency(network, image, label):
    return attribution.saliency(scores.logit(network, label), image)


FORWARD = operations(lambda network, image: network(image))
GRADIENT = operations(saliency, 0)


def test_a_gradient_is_one_of_the_image_and_not_of_the_weights():
    # As many operations back as there were forward; the weights' would be as many again.
    assert GRADIENT < 2.2 * FORWARD


def test_labels_of_one_image_share_a_forward_pass_also_with_its_probabilities():
    def with_probabilities(network, image, labels):
        maps = jax.vmap(saliency, (None, None, 0))(network, image, labels)
        return maps, jax.nn.softmax(network(image))

    found = operations(with_probabilities, jnp.arange(5))
    assert found < 1.05 * (FORWARD + 5 * (GRADIENT - FORWARD))


def test_a_step_of_a_method_costs_a_gradient():
    def attacked(network, image):
        loss = scores.logit(network, 0)
        return attacks.pgd(loss, image, ball=attacks.L2, epsilon=1.0, step_size=0.5, steps=7)

    def on_a_path(network, image):
        score = scores.logit(network, 0)
        return attribution.integrated_gradients(score, image, steps=6, batch_size=2)

    # A loop's body is counted once.
    assert operations(attacked) < 1.1 * GRADIENT
    assert operations(on_a_path) < 1.1 * 2 * GRADIENT
