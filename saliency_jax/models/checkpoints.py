"""Models on disk: a folder with the architecture (`config.json`) and the weights (Orbax)."""

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from .._validation import nearest
from .resnet import ResNet, Stem

BUNDLED = Path(__file__).parent / "bundled"
_FORMAT = "saliency_jax.ResNet"
_CONFIG = "config.json"
_WEIGHTS = "weights"


def available() -> tuple[str, ...]:
    """The names of the models that come with the package.

    Returns:
      Names for `load`.

    Example:
      >>> "tiny-imagenet-robust" in available()
      True
    """
    return tuple(sorted(path.parent.name for path in BUNDLED.glob(f"*/{_CONFIG}")))


def load(name: str | Path) -> ResNet:
    """A trained model, in inference mode, from a bundled name or from a folder that `save` wrote.

    Args:
      name: one of `available()`, or a path.

    Returns:
      A `ResNet`: one image (h, w, c) in [0, 1] to logits (k,), or a batch of them. It knows its
      `class_names` and `input_size`; normalization is inside.

    Raises:
      ValueError: the name is unknown, or the folder is not a whole checkpoint of finite weights.

    Example:
      >>> import jax.numpy as jnp
      >>> model = load("tiny-imagenet-robust")
      >>> model(jnp.zeros((64, 64, 3))).shape
      (20,)
    """
    folder = BUNDLED / name if str(name) in available() else Path(name)
    if not folder.is_dir():
        raise ValueError(
            f"expected one of {', '.join(available())} or the folder of a saved model, got "
            f"{str(name)!r}{nearest(str(name), available())}"
        )
    try:
        config = json.loads((folder / _CONFIG).read_text())
        if config.pop("format") != _FORMAT:
            raise KeyError("format")
        config = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in config.items()
        }
        config["stem"] = Stem(**config["stem"])
        abstract = nnx.eval_shape(lambda: ResNet(**config, rngs=nnx.Rngs(0)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"expected {folder} to hold a {_CONFIG} of a {_FORMAT}, got {_one_line(error)}"
        ) from error
    graphdef, template = nnx.split(abstract)
    model = nnx.merge(graphdef, _read(folder / _WEIGHTS, nnx.to_pure_dict(template)))
    _check_finite(model, folder)
    return model


def save(model: ResNet, folder: str | Path, *, dtype: Any = np.float32) -> None:
    """Writes a model's architecture and weights, whole or not at all.

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
            "format": _FORMAT,
            **{name: getattr(model, name) for name in _ARCHITECTURE},
            "stem": dataclasses.asdict(model.stem),
        }
        (partial / _CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(partial / _WEIGHTS, stored)
        # Orbax's own mark of completion names the temporary folder; the rename below is ours.
        (partial / _WEIGHTS / "commit_success.txt").unlink(missing_ok=True)
        partial.chmod(0o755)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


_ARCHITECTURE = (
    "depth",
    "num_classes",
    "width",
    "stem",
    "even",
    "channels",
    "mean",
    "std",
    "input_size",
    "class_names",
)


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
