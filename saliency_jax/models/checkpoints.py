"""Models by name, and on disk: a folder with a network's settings (`config.json`) and weights."""

import dataclasses
import inspect
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from .._validation import nearest
from .preact import PreActResNet
from .published import PUBLISHED, Description, Weights, load_published
from .resnet import ResNet, Stem
from .signals import SignalResNet
from .spectrogram_resnet import SpectrogramResNet

BUNDLED = Path(__file__).parent / "bundled"
_KINDS = (ResNet, PreActResNet, SignalResNet, SpectrogramResNet)
_NETWORKS = {f"saliency_jax.{network.__name__}": network for network in _KINDS}
_CONFIG = "config.json"
_WEIGHTS = "weights"


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
      >>> models["resnet50"].parameters, models["resnet50"].weights["torchvision-v2"].accuracy
      (25557032, {'top-1': 80.858})
      >>> "resnet50-l2-3.0" in models and "cifar10-resnet20" in models
      True
    """
    return {name: _described(BUNDLED / name) for name in bundled()} | {
        name: published.description for name, published in PUBLISHED.items()
    }


def load(
    name: str | Path, *, weights: str | None = None, path: str | os.PathLike | None = None
) -> ResNet:
    """A trained model, in inference mode: bundled, published by others, or one that `save` wrote.

    Published weights come from the Hugging Face Hub, with a progress bar, into its cache, and are
    checked against the hash that the Hub keeps; or from a file at `path`, in safetensors or in
    PyTorch's format, of which no byte is run. PyTorch is not needed.

    Args:
      name: one of `available()`, or the path of a folder.
      weights: the set of weights, one of `available()[name].weights`; the first if left out.
      path: a file with the weights of a published network; a last layer of another size than the
        published one is taken as it is, with unnamed classes.

    Returns:
      A `ResNet`: one image (h, w, c) in [0, 1] to logits (k,), or a batch of them. It knows its
      `class_names` and `input_size`, and its `preprocess` makes its input of any image file;
      normalization is inside.

    Raises:
      ValueError: the name is unknown, the folder is not a whole checkpoint of finite weights, or
        the file does not fit the network; whatever does not fit is named.
      ConnectionError: the Hub cannot be reached and its cache has no copy.
      FileNotFoundError: there is no file at `path`.

    Example:
      >>> import jax.numpy as jnp
      >>> model = load("tiny-imagenet-robust")
      >>> model(jnp.zeros((64, 64, 3))).shape
      (20,)
    """
    if name in PUBLISHED:
        model = load_published(str(name), weights, path)
        _check_finite(model, path or name)
        return model
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
    try:
        config = json.loads((folder / _CONFIG).read_text())
        network = _NETWORKS[config.pop("format")]
        config = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in config.items()
        }
        if "stem" in config:
            config["stem"] = Stem(**config["stem"])
        abstract = nnx.eval_shape(lambda: network(**config, rngs=nnx.Rngs(0)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"expected {folder} to hold a {_CONFIG} of a {' or '.join(_NETWORKS)}, got "
            f"{_one_line(error)}"
        ) from error
    graphdef, template = nnx.split(abstract)
    model = nnx.merge(graphdef, _read(folder / _WEIGHTS, nnx.to_pure_dict(template)))
    _check_finite(model, folder)
    return model


def save(model: ResNet, folder: str | Path, *, dtype: Any = np.float32) -> None:
    """Writes a network's settings and weights, whole or not at all.

    Args:
      model: the model.
      folder: where to; it must not exist.
      dtype: of the parameters on disk; float16 halves them (batch statistics stay float32).

    Raises:
      FileExistsError: the folder exists.
      ValueError: a weight is not finite, or does not fit the dtype.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save(load("tiny-imagenet-robust"), Path(folder) / "copy")
      ...     load(Path(folder) / "copy").num_classes
      20
    """
    folder = Path(folder).resolve()
    if folder.exists():
        raise FileExistsError(f"expected {folder} not to exist, got a file or folder there")
    params, batch_stats = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)
    params = jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), params)
    stored = nnx.to_pure_dict(nnx.merge_state(params, batch_stats))
    _check_finite(stored, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        config = {
            "format": f"saliency_jax.{type(model).__name__}",
            **{name: getattr(model, name) for name in _settings(type(model))},
        }
        text = json.dumps(config, indent=2, default=dataclasses.asdict)
        (partial / _CONFIG).write_text(text + "\n")
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(partial / _WEIGHTS, stored)
        # Orbax's own mark of completion names the temporary folder; the rename below is ours.
        (partial / _WEIGHTS / "commit_success.txt").unlink(missing_ok=True)
        partial.chmod(0o755)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _settings(network: type[ResNet]) -> list[str]:
    """The arguments that built a network, each of which it keeps under the same name."""
    _, *names = inspect.signature(network.__init__).parameters
    return [name for name in names if name != "rngs"]


def _described(folder: Path) -> Description:
    """What the config and the card of a bundled model say of it."""
    config, card = json.loads((folder / _CONFIG).read_text()), (folder / "card.md").read_text()
    parameters = re.search(r"([\d,]+) parameters", card)
    accuracy = re.findall(r"^\| (clean|PGD.*?) \| ([\d.]+)% \|$", card, re.MULTILINE)
    weights = Weights(
        source=str(folder / "card.md"),
        input_size=tuple(config["input_size"]),
        resize_size=tuple(config["input_size"]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        accuracy={"top-1" if name == "clean" else name: float(top_1) for name, top_1 in accuracy},
    )
    count = int(parameters[1].replace(",", "")) if parameters else 0
    return Description(count, tuple(config["class_names"]), {"bundled": weights})


def _read(folder: Path, template):
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    template = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), template
    )
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            # Orbax reads absolute paths only.
            return checkpointer.restore(folder.resolve(), template)
    except Exception as error:
        raise ValueError(
            f"expected {folder} to hold the weights that its {_CONFIG} describes, got "
            f"{_one_line(error)}"
        ) from error


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
