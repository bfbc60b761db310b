"""Classifiers by name, and on disk: what is known (`config.json`), weights, and their checksums."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from .._files import whole
from .._interrupts import held_back
from .._validation import check_float_dtype, check_instance, check_path, check_text, nearest
from ._classifier import Classifier
from ._config import builder, card, input_of, modern, to_config
from ._published import PUBLISHED, Description, Weights, load_published

BUNDLED = Path(__file__).parent / "bundled"
_CONFIG = "config.json"
_CARD = "card.md"
_WEIGHTS = "weights"
_CHECKSUMS = "SHA256SUMS"


def bundled() -> tuple[str, ...]:
    """The names of the models that come with the package.

    Returns:
      Names for `load`.

    Example:
      >>> "tiny-imagenet-robust" in bundled()
      True
    """
    return tuple(sorted(path.parent.name for path in BUNDLED.glob(f"*/{_CONFIG}")))


def available() -> dict[str, Description]:
    """Every model that `load` knows by name: the bundled ones and those that others published.

    Returns:
      name -> `Description`: the number of parameters, the classes, and each set of weights with
      its published accuracy. `python -m saliency_jax.models` prints them as a table.

    Example:
      >>> models = available()
      >>> models["resnet50"].parameters, models["resnet50"].weights["torchvision-v2"].accuracies
      (25557032, {'top-1': 80.858})
      >>> "resnet50-l2-3.0" in models and "cifar10-resnet20" in models
      True
    """
    return {name: _described(BUNDLED / name) for name in bundled()} | {
        name: published.description for name, published in PUBLISHED.items()
    }


def load(
    name: str | Path, *, weights: str | None = None, path: str | os.PathLike | None = None
) -> Classifier:
    """A trained classifier: bundled, published by others, or one that `save` wrote.

    Published weights come from an installed package, as those of EfficientNet-Lite0 and Lite2 that
    come with this one; or from the Hugging Face Hub, with a progress bar, into its cache, and are
    checked against the hash that the Hub keeps; or from a file at `path`, in safetensors or in
    PyTorch's format, of which no byte is run. PyTorch is not needed.

    Args:
      name: one of `available()`, or the path of a folder.
      weights: the set of weights, one of `available()[name].weights`; the first if left out.
      path: a file with the weights of a published network; a last layer of another size than the
        published one is taken as it is, with numbers for the names of its classes.

    Returns:
      A `Classifier`: its `network` is the model, from one image (h, w, c) in [0, 1] to logits
      (k,), in inference mode with normalization inside; `preprocess` makes its input of any image
      file, `class_names` and `input` say what it knows and takes.

    Raises:
      ValueError: the name is unknown, a package of weights is not installed or of another version,
        the folder is not a whole checkpoint of finite weights, a file there is not the one of
        which it keeps the checksum, or the file does not fit the network; whatever does not fit is
        named.
      ConnectionError: the Hub cannot be reached and its cache has no copy.
      FileNotFoundError: there is no file at `path`.

    Example:
      >>> import jax.numpy as jnp
      >>> classifier = load("tiny-imagenet-robust")
      >>> classifier.network(jnp.zeros((64, 64, 3))).shape, classifier.class_names[4]
      ((20,), 'lemon')
    """
    check_path("name", name)
    if weights is not None:
        check_text("weights", weights)
    if path is not None:
        check_path("path", path)
    if name in PUBLISHED:
        classifier = load_published(str(name), weights, path)
        _check_finite(classifier.network, path or name)
        return classifier
    if weights is not None or path is not None:
        raise ValueError(
            f"expected weights and path with the name of a published model, got {str(name)!r}"
            f"{nearest(str(name), PUBLISHED)}"
        )
    folder = BUNDLED / name if str(name) in bundled() else Path(name)
    if not folder.is_dir():
        raise ValueError(
            f"expected the name of a model, {', '.join(bundled())} or a published one of "
            f"available(), or the folder of a saved one, got {str(name)!r}"
            f"{nearest(str(name), available())}"
        )
    _check_sums(folder)
    try:
        config = modern(json.loads((folder / _CONFIG).read_text("utf-8")))
        build, taken = builder(config), input_of(config)
        abstract = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
        class_names = tuple(config["class_names"])
        accuracies, training = dict(config["accuracies"]), dict(config["training"])
    # What a damaged config holds can break its readers in nearly any way.
    except Exception as error:
        raise ValueError(
            f"expected {folder} to hold the {_CONFIG} of a classifier, got {_one_line(error)}"
        ) from error
    graphdef, template = nnx.split(abstract)
    network = nnx.merge(graphdef, _read(folder / _WEIGHTS, nnx.to_pure_dict(template)))
    _check_finite(network, folder)
    short = folder.name or folder.resolve().name
    return Classifier(short, network, taken, class_names, accuracies, training)


def save(classifier: Classifier, folder: str | Path, *, dtype: Any = np.float32) -> None:
    """Writes what is known of a classifier, its card and its weights, whole or not at all.

    Beside them are their checksums, which `load` compares: see `checksums`.

    Args:
      classifier: with a network of this library.
      folder: where to; it must not exist.
      dtype: of the parameters on disk; float16 halves them (batch statistics stay float32).

    Raises:
      FileExistsError: the folder exists.
      TypeError: the network is none of this library.
      ValueError: a weight is not finite, or does not fit the dtype; or the network is one of
        `for_inference`.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save(load("tiny-imagenet-robust"), Path(folder) / "copy")
      ...     load(Path(folder) / "copy").num_classes
      20
    """
    check_instance("classifier", classifier, Classifier, "a Classifier")
    check_path("folder", folder)
    check_float_dtype(dtype)
    config = to_config(classifier)
    network = classifier.network
    params, batch_stats = nnx.state(network, nnx.Param), nnx.state(network, nnx.BatchStat)
    params = jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), params)
    stored = nnx.to_pure_dict(nnx.merge_state(params, batch_stats))
    _check_finite(stored, folder)
    with whole(folder, new=True) as partial:
        partial.mkdir()
        (partial / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        (partial / _CARD).write_text(card(config), "utf-8")
        with held_back(), ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(partial / _WEIGHTS, stored)
        # Orbax's own mark of completion names the partial folder; the move into place is ours.
        (partial / _WEIGHTS / "commit_success.txt").unlink(missing_ok=True)
        (partial / _CHECKSUMS).write_text(checksums(partial), "utf-8", newline="\n")


def checksums(folder: str | Path) -> str:
    """The checksums of what `load` reads in the folder of a saved classifier.

    They are its file `SHA256SUMS`, which `sha256sum --check` compares too. After a change of
    `config.json` it is written anew, or removed: what is not in it is not compared.

    Args:
      folder: that `save` wrote.

    Returns:
      A line for each file, as `sha256sum` prints it.

    Raises:
      ValueError: the folder holds no classifier.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder) / "copy"
      ...     save(load("tiny-imagenet-robust"), path)
      ...     checksums(path) == (path / "SHA256SUMS").read_text()
      True

    Reference:
      National Institute of Standards and Technology, Secure Hash Standard, FIPS 180-4, 2015 (not on
      arXiv).
    """
    check_path("folder", folder)
    if not (Path(folder) / _CONFIG).is_file():
        raise ValueError(f"expected the folder of a saved classifier, got {folder}")
    return "".join(f"{digest}  {name}\n" for name, digest in _sums(Path(folder)).items())


def _sums(folder: Path) -> dict[str, str]:
    """By name what is read of a classifier's folder, as hexadecimal digits."""
    found = {}
    for path in sorted((folder / _CONFIG, *(folder / _WEIGHTS).rglob("*"))):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = digest
    return found


def _check_sums(folder: Path) -> None:
    """Says which file is another than was written; folders of before have no checksums."""
    try:
        lines = (folder / _CHECKSUMS).read_bytes().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return
    found = _sums(folder)
    for line in lines:
        digest, _, name = line.partition("  ")
        if found.get(name) != digest:
            raise ValueError(
                f"expected {folder} to be as it was written, got another {name[:200]!r} than its "
                f"{_CHECKSUMS} says; if it is meant to be another, see models.checksums"
            )


def _described(folder: Path) -> Description:
    """What the config of a bundled model says of it."""
    config = modern(json.loads((folder / _CONFIG).read_text("utf-8")))
    weights = Weights(
        str(folder / _CARD), input=input_of(config), accuracies=dict(config["accuracies"])
    )
    return Description(config["parameters"], tuple(config["class_names"]), {"bundled": weights})


def _read(folder: Path, template):
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    template = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), template
    )
    try:
        with held_back(), ocp.StandardCheckpointer() as checkpointer:
            # Orbax reads absolute paths only.
            restored = checkpointer.restore(folder.resolve(), template)
    except Exception as error:
        raise ValueError(
            f"expected {folder} to hold the weights that its {_CONFIG} describes, got "
            f"{_one_line(error)}"
        ) from error
    # Restored weights are bound to their device, and a program compiles once for bound and once
    # for free arguments: with free weights, a first call and those on its results are the same.
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)), restored)


def _check_finite(tree, folder):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(
                f"expected finite weights in {folder}, got nan or infinity in "
                f"{jax.tree_util.keystr(path)}"
            )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
