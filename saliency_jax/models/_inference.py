"""Networks rewritten for inference: the same function of the image, with less work."""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from .._validation import check_float_dtype
from ._classifier import Classifier
from ._convolution import convolution
from ._parts import Network
from ._resnet import Convolution

Model = TypeVar("Model", Network, Classifier)

# Of so few channels a product of a kernel's rows is too short for a processor's vectors.
_FEW_CHANNELS = 4


def for_inference(model: Model, *, dtype: Any = None) -> Model:
    """The same classifier with less to compute: logits and input gradients equal to rounding.

    conv'(I) + b' = (conv(I) - m) s / sqrt(v + e) + b

    Batch normalization is folded into the convolution before it, or is one product and one sum
    where there is none, as in networks with pre-activation; a small stem with a stride reads blocks
    of pixels, which are its channels, without a stride. Names, cuts, rectifiers (`relu`, `relu6`)
    and normalization stay, so that every method, layer and rule gives what it gave; the weights are
    leaves, fewer and other ones. What has no batch normalization and no such stem, as transformers
    and ConvNeXt, is returned as it is. A module of your own says in `folds` what is folded, pairs
    of its attributes' names: `(("bn1", "conv1"),)`.

    It is for use: what is trained, saved or compared weight by weight is the network before.

    Args:
      model: a network of this library, in inference mode, or a `Classifier` of one.
      dtype: of the work inside, as `jnp.bfloat16` for accelerators; what comes out is still in the
        image's. The image's if left out.

    Returns:
      The network, or the classifier with it.

    Raises:
      TypeError: it is no network of this library, or the dtype is of no floats.
      ValueError: batch normalization takes the statistics of the batch.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from saliency_jax import models
      >>> network = models.ResNet(18, 10, width=4, rngs=nnx.Rngs(0))
      >>> faster = models.for_inference(network)
      >>> image = jnp.ones((32, 32, 3))
      >>> print(bool(jnp.allclose(faster(image), network(image), rtol=1e-5, atol=1e-5)))
      True
      >>> faster.layers == network.layers
      True

    Reference: Jacob et al. 2017, arXiv:1712.05877, section 3.2, on folding.
    """
    if isinstance(model, Classifier):
        return dataclasses.replace(model, network=for_inference(model.network, dtype=dtype))
    if not isinstance(model, Network):
        raise TypeError(
            "expected a network of saliency_jax or a Classifier of one, got "
            f"{type(model).__name__}: of another library's fold the batch normalization there"
        )
    if dtype is not None:
        check_float_dtype(dtype, "a dtype of floats")
    network = nnx.clone(model)
    modules = [module for _, module in nnx.iter_graph(network) if isinstance(module, nnx.Module)]
    found = [_rewritten(module) for module in modules]
    if not any(found) and dtype is None:
        return model
    network.is_rewritten = model.is_rewritten or any(found)
    network.dtype = model.dtype if dtype is None else jnp.dtype(dtype)
    return network


class Shift(nnx.Module):
    """x + b, for each channel: what is left of a batch normalization that is folded."""

    def __init__(self, bias: Any):
        self.bias = nnx.Param(bias)

    def __call__(self, maps):
        return maps + self.bias[...].reshape((1,) * (maps.ndim - 1) + (-1,))


class ScaleAndShift(nnx.Module):
    """s x + b, for each channel: a batch normalization with no convolution before it."""

    def __init__(self, scale: Any, bias: Any):
        self.scale, self.bias = nnx.Param(scale), nnx.Param(bias)

    def __call__(self, maps):
        shape = (1,) * (maps.ndim - 1) + (-1,)
        return maps * self.scale[...].reshape(shape) + self.bias[...].reshape(shape)


class BlockedConvolution(nnx.Module):
    """A convolution with stride s as one without, of blocks of s x s pixels as channels."""

    def __init__(self, layer: Convolution):
        size, _, inputs, outputs = layer.kernel.shape
        self.size, self.stride, self.edges = size, layer.stride, type(layer).edges
        blocks = -(-size // self.stride)
        missing = (0, blocks * self.stride - size)
        kernel = np.pad(np.asarray(layer.kernel[...]), (missing, missing, (0, 0), (0, 0)))
        kernel = kernel.reshape(blocks, self.stride, blocks, self.stride, inputs, outputs)
        kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(blocks, blocks, -1, outputs)
        self.kernel = nnx.Param(jax.device_put(kernel))

    def __call__(self, images):
        n, *sides, channels = images.shape
        blocks, stride, counts, edges = self.kernel.shape[0], self.stride, [], []
        margins = self.edges(tuple(sides), self.size, stride)
        for side, (before, after) in zip(sides, margins, strict=True):
            count = (before + side + after - self.size) // stride + blocks
            counts.append(count)
            edges.append((before, count * stride - before - side, 0))
        zero = jnp.zeros((), images.dtype)
        padded = lax.pad(images, zero, ((0, 0, 0), *edges, (0, 0, 0)))
        rows, columns = counts
        pixels = padded.reshape(n, rows, stride, columns, stride, channels)
        blocked = pixels.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows, columns, -1)
        return convolution(blocked, self.kernel[...])


def _rewritten(module: nnx.Module) -> bool:
    """Rewrites the layers that a module holds, and says whether there were any."""
    layers = list(vars(module).items())
    folds = dict(getattr(module, "folds", ()))
    norms = [(name, layer) for name, layer in layers if isinstance(layer, nnx.BatchNorm)]
    for name, norm in norms:
        scale, bias = _scale_and_bias(norm)
        layer = getattr(module, folds[name]) if name in folds else None
        if layer is None:
            setattr(module, name, ScaleAndShift(_like(norm.mean, scale), _like(norm.mean, bias)))
        else:
            layer.kernel[...] = _like(layer.kernel, _exact(layer.kernel) * scale)
            setattr(module, name, Shift(_like(norm.mean, bias)))
    stems = [(name, layer) for name, layer in layers if _is_stem(layer)]
    for name, stem in stems:
        setattr(module, name, BlockedConvolution(stem))
    return bool(norms or stems)


def _is_stem(layer: Any) -> bool:
    if not isinstance(layer, Convolution):
        return False
    size, _, inputs, _ = layer.kernel.shape
    # Larger kernels are slower in blocks.
    return 1 < layer.stride < size <= 2 * layer.stride and inputs <= _FEW_CHANNELS


def _scale_and_bias(norm: nnx.BatchNorm) -> tuple[np.ndarray, np.ndarray]:
    """The s and b of a batch normalization in inference, s x + b, in double precision."""
    if not norm.use_running_average:
        raise ValueError(
            "expected batch normalization by its running statistics, got the batch's: call "
            "network.eval()"
        )
    scale = (_exact(norm.var) + norm.epsilon) ** -0.5
    if norm.scale is not None:
        scale = scale * _exact(norm.scale)
    bias = -_exact(norm.mean) * scale
    return scale, bias if norm.bias is None else bias + _exact(norm.bias)


def _exact(variable: Any) -> np.ndarray:
    return np.asarray(variable[...], np.float64)


def _like(variable: Any, values: np.ndarray) -> jax.Array:
    # `jnp.asarray` would compile a program for every shape.
    return jax.device_put(values.astype(variable.dtype))
