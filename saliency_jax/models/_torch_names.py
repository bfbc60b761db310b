"""A network's weights under the names that PyTorch's networks give them.

Networks are written out in the names of their publishers, torchvision's of ResNets and timm's of
vision transformers and ConvNeXts, and read in those, Hugging Face's, those of the usual networks
for CIFAR-10 and of EfficientNet-Lite, in or out of the wrappers that training leaves around them.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from .._validation import check_instance, check_text
from ._parts import Network, Normalization

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
# A network that modules hold is behind their names: `module.` of DataParallel, `_orig_mod.` of
# torch.compile, `1.` in a sequence after its normalizer, `model.net.` ... No more than so many.
_MAX_WRAPPERS = 5
# The normalizers of the robustness library, of RobustBench, and of most others.
_MEANS = ("new_mean", "mu", "mean")
_STDS = ("new_std", "sigma", "std")
# The attacker of the robustness library repeats the network; the first stage of Wide ResNets from
# the TRADES code has a twin that is never called; and a count of batches is no weight.
_IGNORED = re.compile(r"(^|\.)(attacker|sub_block1)\.|(^|\.)num_batches_tracked$")
# The last layer, whose rows are the classes.
_LAST = ("fc.weight", "head.weight", "head.fc.weight")
# Hugging Face's attention keeps apart what timm's has in one product, in this order.
_QUERY = re.compile(r"\.(query|q_proj)\.(?=(weight|bias)$)")
_KEYS_AND_VALUES = {"query": ("key", "value"), "q_proj": ("k_proj", "v_proj")}

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
# The names of its files, and those of its newest version.
_HUGGING_FACE_VIT: _Rules = (
    (r"^(vit|deit)\.", ""),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(encoder\.layer|layers)\.", "blocks."),
    (r"\.attention\.(attention\.)?qkv\.", ".attn.qkv."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
    (r"^(cls_)?classifier\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
)
_HUGGING_FACE_CONVNEXT: _Rules = (
    (r"^convnext\.", ""),
    (r"^embeddings\.patch_embeddings\.", "stem.0."),
    (r"^embeddings\.layernorm\.", "stem.1."),
    (r"^encoder\.", ""),
    (r"\.downsampling_layer\.", ".downsample."),
    (r"\.layers\.", ".blocks."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.layernorm\.", ".norm."),
    (r"\.pwconv(\d)\.", r".mlp.fc\1."),
    (r"\.layer_scale_parameter$", ".gamma"),
    (r"^layernorm\.", "head.norm."),
    (r"^classifier\.", "head.fc."),
)
_WIDE: _Rules = (
    (r"^block(\d+)\.layer\.", r"layer\1."),
    (r"\.convShortcut\.", ".downsample.0."),
    (r"^bn1\.", "bn."),
)
_EFFICIENTNET: _Rules = ((r"(^|\.)_", r"\1"),)
_CIFAR: _Rules = ((r"\.shortcut\.", ".downsample."), (r"^linear\.", "fc."))
# What only this layout's names have, the first that is found, and how they become their
# publishers'.
_LAYOUTS = (
    (r"^((vit|deit)\.)?embeddings\.cls_token$", _HUGGING_FACE_VIT),
    (r"^(convnext\.)?encoder\.stages\.\d+\.layers\.\d+\.dwconv\.", _HUGGING_FACE_CONVNEXT),
    (r"^(resnet\.)?(embedder\.embedder|encoder\.stages)\.", _HUGGING_FACE),
    (r"^block\d+\.layer\.", _WIDE),
    (r"^_conv_stem\.", _EFFICIENTNET),
    ("", _CIFAR),
)


def to_state_dict(model: Network) -> dict[str, np.ndarray]:
    """A network's weights by the names, and in the axes, that PyTorch's networks have.

    The names are torchvision's of ResNets and timm's of the others: `conv1.weight` is (o, i, k, k),
    `fc.weight` (k, d), and batch statistics are `running_mean` and `running_var`;
    `safetensors.numpy.save_file` writes the result for PyTorch to read.

    Args:
      model: a `ResNet`, `PreActResNet`, `VisionTransformer` or `ConvNext`.

    Returns:
      name -> array; bit for bit the model's own weights.

    Example:
      >>> from flax import nnx
      >>> from saliency_jax.models import ResNet
      >>> model = ResNet(18, 10, width=4, rngs=nnx.Rngs(0))
      >>> to_state_dict(model)["layer2.0.downsample.0.weight"].shape
      (8, 4, 1, 1)
    """
    check_instance("model", model, Network, "a network of this library")
    weights = nnx.to_pure_dict(nnx.split(model)[1])
    return {
        _torch_name(path): np.ascontiguousarray(np.asarray(leaf).transpose(_axes(leaf.ndim)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(weights)
    }


def from_state_dict(
    model: Network, state: Mapping[str, np.ndarray | Float[Array, "..."]]
) -> Network:
    """A network with weights that PyTorch named.

    The names may be those of torchvision's ResNets, of timm, of Hugging Face, of the usual networks
    for CIFAR-10 (`shortcut`, `linear`; `block1.layer`, `convShortcut`) or of EfficientNet-Lite
    (`_conv_stem`, `_blocks.0._depthwise_conv`), behind any prefix
    that all of the network's names share, such as `module.` or `1.`; what has another prefix, such
    as a metric's counts or the number of averaged models, is left out. If the network was kept with
    its normalizer, as by MadryLab's robustness library and RobustBench, the mean and standard
    deviation are taken over too.

    Args:
      model: the architecture, whose own weights do not matter and are left alone; it may be
        abstract, `flax.nnx.eval_shape(lambda: ResNet(50, 1000, rngs=flax.nnx.Rngs(0)))`.
      state: name -> array of any dtype, or NumPy's scalar, as `read_state_dict` returns it.

    Returns:
      A network in float32.

    Raises:
      ValueError: weights are missing, unexpected or of another shape, all of which are named; or
        the state holds two such networks.

    Example:
      >>> from flax import nnx
      >>> from saliency_jax.models import ResNet
      >>> model = ResNet(18, 10, width=4, rngs=nnx.Rngs(0))
      >>> copy = from_state_dict(model, to_state_dict(model))
      >>> bool((copy.fc.kernel[...] == model.fc.kernel[...]).all())
      True
    """
    check_instance("model", model, Network, "a network of this library")
    check_instance("state", state, Mapping, "arrays by name")
    for name, array in state.items():
        check_text("a name in state", name)
        check_instance(f"state's {name}", array, (np.ndarray, np.generic, jax.Array), "an array")
    graphdef, variables = nnx.split(model)
    template = nnx.to_pure_dict(variables)
    shapes, arrays = _expected(template), _with_joint_attention(state)
    weights, normalization = _without_normalization(arrays, model.channels)
    prefix, names = _located(weights, shapes)
    _check_match(prefix, shapes, {name: (file, arrays[file].shape) for name, file in names.items()})

    def weight(path, leaf):
        array = np.asarray(arrays[names[_torch_name(path)]], np.float32)
        return jnp.asarray(array.transpose(np.argsort(_axes(array.ndim))), leaf.dtype)

    loaded = nnx.merge(graphdef, jax.tree_util.tree_map_with_path(weight, template))
    if normalization:
        loaded.normalization = normalization
    return loaded


def num_classes(model: Network, state: Mapping[str, np.ndarray]) -> int | None:
    """The number of logits that weights of this network give, if its last layer is among them."""
    arrays = _with_joint_attention(state)
    weights, _ = _without_normalization(arrays, model.channels)
    expected = _expected(nnx.to_pure_dict(nnx.split(model)[1]))
    _, names = _located(weights, expected)
    last = next((names[name] for name in _LAST if name in expected and name in names), None)
    return arrays[last].shape[0] if last and arrays[last].ndim == 2 else None


def _expected(template: Any) -> dict[str, tuple[int, ...]]:
    """The publishers' name -> shape, of all weights."""
    return {
        _torch_name(path): tuple(leaf.shape[axis] for axis in _axes(leaf.ndim))
        for path, leaf in jax.tree_util.tree_leaves_with_path(template)
    }


def _torch_name(path) -> str:
    *modules, leaf = (entry.key for entry in path)
    if modules[:1] == ["stages"] and isinstance(modules[2], int):
        _, stage, block, *inside = modules
        if inside[0] == "shortcut":
            inside = ["downsample", {"conv": 0, "bn": 1}[inside[1]] if len(inside) > 1 else 0]
        modules = [f"layer{stage + 1}", block, *inside]
    return ".".join(map(str, [*modules, _LEAVES.get(leaf, leaf)]))


def _axes(rank: int) -> tuple[int, ...]:
    """The order of axes that makes (k, k, i, o) into (o, i, k, k) and (d, k) into (k, d)."""
    return {4: (3, 2, 0, 1), 2: (1, 0)}.get(rank, tuple(range(rank)))


def _with_joint_attention(
    state: Mapping[str, np.ndarray | Float[Array, "..."]],
) -> dict[str, np.ndarray | Float[Array, "..."]]:
    """The state with queries, keys and values that are apart joined as `qkv`."""
    joined = dict(state)
    for name in state:
        found = _QUERY.search(name)
        if not found:
            continue
        names = [name]
        names += [_QUERY.sub(f".{other}.", name) for other in _KEYS_AND_VALUES[found[1]]]
        if all(other in state for other in names):
            parts = [np.asarray(joined.pop(other)) for other in names]
            joined[_QUERY.sub(".qkv.", name)] = np.concatenate(parts)
    return joined


def _without_normalization(
    state: Mapping[str, np.ndarray | Float[Array, "..."]], channels: int
) -> tuple[list[str], Normalization | None]:
    """The names of weights, and the normalization that is kept beside them."""
    names = [name for name in state if not _IGNORED.search(name)]
    found = [
        [name for name in names if _last(name) in kind and state[name].size == channels]
        for kind in (_MEANS, _STDS)
    ]
    if [len(matches) for matches in found] != [1, 1]:
        return names, None
    kept = [name for (name,) in found]
    mean, std = (tuple(float(value) for value in np.ravel(state[name])) for name in kept)
    return [name for name in names if name not in kept], Normalization(mean, std)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _located(names: list[str], expected: Iterable[str]) -> tuple[str, dict[str, str]]:
    """The prefix behind which most of the expected names are, and the publishers' name -> the
    file's of all names behind it.
    """
    expected = frozenset(expected)
    behind: dict[str, dict[str, str]] = {"": {}}
    for name in names:
        modules = name.split(".")[:-1]
        for count in range(min(len(modules), _MAX_WRAPPERS) + 1):
            prefix = "".join(f"{module}." for module in modules[:count])
            behind.setdefault(prefix, {})[name.removeprefix(prefix)] = name
    located = {prefix: _published_names(inner) for prefix, inner in behind.items()}
    matches = {prefix: len(expected & inner.keys()) for prefix, inner in located.items()}
    most = max(matches.values())
    if not most:
        raise ValueError(
            f"expected the {len(expected)} weights of this network, such as {min(expected)}, got "
            f"none of them, but {', '.join(names[:3]) or 'nothing'}"
            f"{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        )
    best = [prefix for prefix, count in matches.items() if count == most]
    if len(best) > 1:
        raise ValueError(
            f"expected the weights of one network, got those of {len(best)}, behind the prefixes "
            f"{', '.join(best)}; leave out those of the others"
        )
    return best[0], located[best[0]]


def _published_names(names: dict[str, str]) -> dict[str, str]:
    """The publishers' name -> the file's, for the layout that the names are in."""
    rules = next(
        rules for marker, rules in _LAYOUTS if any(re.search(marker, name) for name in names)
    )
    renamed = {}
    for name, file in names.items():
        published = name
        for pattern, replacement in rules:
            published = re.sub(pattern, replacement, published)
        # Of two names for one weight the second is one that nothing expects.
        renamed[f"another {published}" if published in renamed else published] = file
    return renamed


def _check_match(
    prefix: str, expected: dict[str, tuple[int, ...]], found: dict[str, tuple[str, tuple[int, ...]]]
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
            f"expected the {len(expected)} weights of this network, got"
            f"{f' behind the prefix {prefix!r}' if prefix else ''}\n" + "\n".join(lines)
        )
