"""A network's weights under the names that PyTorch's networks give them.

Networks are written out in torchvision's names, and read in those, Hugging Face's, and those of
the usual networks for CIFAR-10, in or out of the wrappers that training leaves around them.
"""

import re
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from .resnet import ResNet

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
# DataParallel, torch.compile, and modules that hold the network as their `model`.
_WRAPPERS = ("module.", "_orig_mod.", "model.")
# The normalizers of the robustness library, of RobustBench, and of most others.
_MEANS = ("new_mean", "mu", "mean")
_STDS = ("new_std", "sigma", "std")
# The attacker of the robustness library repeats the network; the first stage of Wide ResNets from
# the TRADES code has a twin that is never called; and a count of batches is no weight.
_IGNORED = re.compile(r"^attacker\.|^sub_block1\.|\.num_batches_tracked$")

_Rules = tuple[tuple[str, str | Callable[[re.Match], str]], ...]
_HUGGING_FACE: _Rules = (
    (r"^(resnet\.)?embedder\.embedder\.convolution\.", "conv1."),
    (r"^(resnet\.)?embedder\.embedder\.normalization\.", "bn1."),
    (r"^(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.", lambda m: f"layer{int(m[1]) + 1}."),
    (r"\.layer\.(\d+)\.convolution\.", lambda m: f".conv{int(m[1]) + 1}."),
    (r"\.layer\.(\d+)\.normalization\.", lambda m: f".bn{int(m[1]) + 1}."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
    (r"^classifier\.1\.", "fc."),
)
_WIDE: _Rules = (
    (r"^block(\d+)\.layer\.", r"layer\1."),
    (r"\.convShortcut\.", ".downsample.0."),
    (r"^bn1\.", "bn."),
)
_CIFAR: _Rules = ((r"\.shortcut\.", ".downsample."), (r"^linear\.", "fc."))
# What only this layout's names start with, and how they become torchvision's.
_LAYOUTS = (
    (r"^(resnet\.)?(embedder\.embedder|encoder\.stages)\.", _HUGGING_FACE),
    (r"^block\d+\.layer\.", _WIDE),
    ("", _CIFAR),
)


def to_state_dict(model: ResNet) -> dict[str, np.ndarray]:
    """A network's weights by the names, and in the axes, of torchvision's ResNet.

    `conv1.weight` is (o, i, k, k), `fc.weight` (k, d), and batch statistics are `running_mean` and
    `running_var`; `safetensors.numpy.save_file` writes the result for PyTorch to read.

    Args:
      model: a `ResNet` or `PreActResNet`.

    Returns:
      name -> array; bit for bit the model's own weights.

    Example:
      >>> from flax import nnx
      >>> model = ResNet(18, 10, width=4, rngs=nnx.Rngs(0))
      >>> to_state_dict(model)["layer2.0.downsample.0.weight"].shape
      (8, 4, 1, 1)
    """
    weights = nnx.to_pure_dict(nnx.split(model)[1])
    return {
        _torch_name(path): np.ascontiguousarray(np.asarray(leaf).transpose(_axes(leaf.ndim)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(weights)
    }


def from_state_dict(model: ResNet, state: Mapping[str, np.ndarray | Float[Array, "..."]]) -> ResNet:
    """A network with weights that PyTorch named.

    The names may be those of torchvision and timm, of Hugging Face's ResNet, or of the usual
    networks for CIFAR-10 (`shortcut`, `linear`; `block1.layer`, `convShortcut`), behind prefixes
    such as `module.`. If the network was kept with its normalizer, as by MadryLab's robustness
    library and RobustBench, the mean and standard deviation are taken over too.

    Args:
      model: the architecture, whose own weights do not matter and are left alone; it may be
        abstract, `flax.nnx.eval_shape(lambda: ResNet(50, 1000, rngs=flax.nnx.Rngs(0)))`.
      state: name -> array of any floating-point dtype, as `read_state_dict` returns it.

    Returns:
      A network in float32.

    Raises:
      ValueError: weights are missing, unexpected or of another shape; all of them are named.

    Example:
      >>> from flax import nnx
      >>> model = ResNet(18, 10, width=4, rngs=nnx.Rngs(0))
      >>> copy = from_state_dict(model, to_state_dict(model))
      >>> bool((copy.fc.kernel[...] == model.fc.kernel[...]).all())
      True
    """
    graphdef, variables = nnx.split(model)
    template = nnx.to_pure_dict(variables)
    shapes = {
        _torch_name(path): tuple(leaf.shape[axis] for axis in _axes(leaf.ndim))
        for path, leaf in jax.tree_util.tree_leaves_with_path(template)
    }
    names = _unwrapped(state)
    normalization = _normalization(names, state, model.channels)
    names = _torchvision_names(names)
    _check_match(shapes, {name: (file, state[file].shape) for name, file in names.items()})

    def weight(path, leaf):
        array = np.asarray(state[names[_torch_name(path)]], np.float32)
        return jnp.asarray(array.transpose(np.argsort(_axes(array.ndim))), leaf.dtype)

    loaded = nnx.merge(graphdef, jax.tree_util.tree_map_with_path(weight, template))
    if normalization:
        loaded.mean, loaded.std = normalization
    return loaded


def num_classes(state: Mapping[str, np.ndarray]) -> int | None:
    """The number of logits of the network with these weights, if its last layer can be found."""
    last = _torchvision_names(_unwrapped(state)).get("fc.weight")
    return state[last].shape[0] if last and state[last].ndim == 2 else None


def _torch_name(path) -> str:
    *modules, leaf = (entry.key for entry in path)
    if modules[0] == "stages":
        _, stage, block, *inside = modules
        if inside[0] == "shortcut":
            inside = ["downsample", {"conv": 0, "bn": 1}[inside[1]] if len(inside) > 1 else 0]
        modules = [f"layer{stage + 1}", block, *inside]
    return ".".join(map(str, [*modules, _LEAVES[leaf]]))


def _axes(rank: int) -> tuple[int, ...]:
    """The order of axes that makes (k, k, i, o) into (o, i, k, k) and (d, k) into (k, d)."""
    return (3, 2, 0, 1) if rank == 4 else tuple(reversed(range(rank)))


def _unwrapped(names: Iterable[str]) -> dict[str, str]:
    """The names without the prefixes of wrappers -> the names as they were."""
    inner = {name: name for name in names}
    while True:
        inner = {name: file for name, file in inner.items() if not _IGNORED.search(name)}
        body = [name for name in inner if _last(name) not in _MEANS + _STDS]
        wrappers = (prefix for prefix in _WRAPPERS if all(name.startswith(prefix) for name in body))
        prefix = next(wrappers, None) if body else None
        if prefix is None:
            return inner
        inner = {name.removeprefix(prefix): file for name, file in inner.items()}


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _normalization(
    names: dict[str, str], state: Mapping[str, np.ndarray | Array], channels: int
) -> tuple[tuple[float, ...], ...] | None:
    """The mean and standard deviation that the file holds, taken out of `names`."""
    found = [
        [name for name in names if _last(name) in kind and state[names[name]].size == channels]
        for kind in (_MEANS, _STDS)
    ]
    if [len(matches) for matches in found] != [1, 1]:
        return None
    arrays = [state[names.pop(name)] for (name,) in found]
    mean, std = (tuple(float(value) for value in np.ravel(array)) for array in arrays)
    return mean, std


def _torchvision_names(names: dict[str, str]) -> dict[str, str]:
    """Torchvision's name -> the file's, for the layout that the names are in."""
    rules = next(
        rules for marker, rules in _LAYOUTS if any(re.search(marker, name) for name in names)
    )
    renamed = {}
    for name, file in names.items():
        torchvision = name
        for pattern, replacement in rules:
            torchvision = re.sub(pattern, replacement, torchvision)
        # Of two names for one weight the second is one that nothing expects.
        renamed[f"another {torchvision}" if torchvision in renamed else torchvision] = file
    return renamed


def _check_match(
    expected: dict[str, tuple[int, ...]], found: dict[str, tuple[str, tuple[int, ...]]]
) -> None:
    missing = [name for name in expected if name not in found]
    unexpected = [file for name, (file, _) in found.items() if name not in expected]
    reshaped = [
        f"{file} (expected {expected[name]}, got {shape})"
        for name, (file, shape) in found.items()
        if name in expected and shape != expected[name]
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    if any(problems.values()):
        lines = [
            f"{len(names)} {problem}: {', '.join(names)}"
            for problem, names in problems.items()
            if names
        ]
        raise ValueError(
            f"expected the {len(expected)} weights of this network, got\n" + "\n".join(lines)
        )
