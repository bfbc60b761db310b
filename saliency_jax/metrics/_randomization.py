"""Sanity checks: an attribution has to change when the model's weights or the label do."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import FlattenedIndexKey, SequenceKey
from jaxtyping import Array, Bool, Float

from .. import scores
from .._types import Image, Key, Label, Method, Model, ScoreFunction
from .._validation import (
    as_image,
    check_callable,
    check_floats,
    check_instance,
    check_key,
    check_text,
    nearest,
    to_jax,
)
from ._correlation import spearman_correlation

Similarity = Callable[[Float[Array, "..."], Float[Array, "..."]], Array]
Redraw = Callable[[Array, Key], Array]


def permuted(parameter: Float[Array | np.ndarray, "*n"], key: Key) -> Float[Array, "*n"]:
    """The values of a parameter in random order.

    W'_i = W_pi(i), pi a random permutation

    The values stay and what was learnt, their places, goes. So activations keep their size, and a
    variance stays positive, which a new draw from some distribution would not ensure.

    Args:
      parameter: W, of any shape.
      key: see the room.

    Returns:
      An array of the same shape and the same values.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> print(jnp.sort(metrics.permuted(jnp.arange(4.0), jax.random.key(0))))
      [0. 1. 2. 3.]

    Reference:
      Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, Sanity Checks for Saliency Maps, 2018,
      arXiv:1810.03292, which draws weights anew from their initializers: a PyTree does not know
      them.
    """
    check_floats("parameter", parameter)
    check_key(key)
    values = to_jax(parameter)
    return jax.random.permutation(key, values.ravel()).reshape(values.shape)


def layer_names(score: ScoreFunction, image: Image) -> tuple[str, ...]:
    """The layers of a score's model, from the top, the output, to the image.

    Parameters are the model's leaves that are floating-point arrays with at least one axis; what a
    readout holds, such as a direction or weights of several logits, is none. Those in one
    dictionary or module are a layer, named by its path, such as `stages.0.1.conv2`; in a list, a
    tuple or the arguments of a `Partial`, each array is a layer of its own. Their order is that in
    which the traced score uses them, backwards: not that of a PyTree, which may be the alphabet's.
    What the score does not use is left out.

    Args:
      score, image: see the room; of the image only shape and type are looked at.

    Returns:
      The names, for `layers` of `cascading_randomization`. Any prefix of whole names, such as
      `stages.0`, names all layers under it.

    Example:
      >>> import jax.numpy as jnp
      >>> from jax.tree_util import Partial
      >>> from saliency_jax import metrics, scores
      >>> weights = {"first": {"w": jnp.ones((3, 2))}, "last": {"b": jnp.ones(2)}}
      >>> model = Partial(
      ...     lambda weights, x: x.mean((0, 1)) @ weights["first"]["w"] + weights["last"]["b"],
      ...     weights,
      ... )
      >>> print(metrics.layer_names(scores.logit(model, 1), jnp.ones((2, 2, 3))))
      ('last', 'first')

    Reference:
      Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, Sanity Checks for Saliency Maps, 2018,
      arXiv:1810.03292.
    """
    score, image = scores.as_score(score), as_image(image)
    names = _layer_of_each_leaf(score.model)
    used = _order_of_use(score, image)
    first_use: dict[str, int] = {}
    for name, use in zip(names, used, strict=True):
        if name is not None and use is not None:
            first_use[name] = min(use, first_use.get(name, use))
    return tuple(sorted(first_use, key=lambda name: -first_use[name]))


def cascading_randomization(
    method: Method,
    score: ScoreFunction,
    image: Image,
    *,
    key: Key,
    layers: Sequence[str] | None = None,
    similarity: Similarity = spearman_correlation,
    redraw: Redraw = permuted,
) -> Float[Array, "..."]:
    """Cascading randomization: the attribution's likeness to itself as layers lose their weights.

    C_k = similarity(A_S(I), A_{S_k}(I)), k = 0 .. n, where S_k has the weights of the first k of n
    layers redrawn

    A method that explains the model has to forget with it: lower is better, and a curve that stays
    up is that of an image filter.

    Traps: it is a check, not a ranking: noise passes best. A sign that is lost or absolute values
    that are taken change the result, and so does the likeness: the paper shows ranks of values, of
    absolute values, and others side by side. For values of one sign, edges of the image alone give
    a high likeness. A permutation does nothing to a parameter of equal values, such as the biases
    of a network just initialized. A sum of scores of several models has the layers of all of them,
    and a model that two of them share twice.

    Args:
      method, score, image: see the room. The score's model has the weights as its leaves.
      key: see the room; the same weights are drawn whichever layers are redrawn.
      layers: names, or prefixes of names, of layers, the first to go first; by default
        `layer_names(score, image)`, from the top. Of a network that is cut at named layers, such as
        a `models.Network`, these names do too: ("logits", "stage 4", "stage 3"). Fewer and larger
        ones cost less: the method runs n + 1 times, one after the other.
      similarity: from the original and the new attribution to a number or an array: the default is
        the rank correlation. `lambda original, new: new` gives the attributions themselves.
      redraw: from a parameter and a key to another of its shape, such as an initializer.

    Returns:
      The similarity (n + 1, ...). Its first is that of the attribution to itself, so 1 for a
      correlation. Of a constant attribution a correlation is undefined: nan.

    Example:
      A linear score, whose gradient is its weights, and weights that change their sign:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jax.tree_util import Partial
      >>> from saliency_jax import attribution, metrics
      >>> weights = jnp.arange(3.0).reshape(1, 3, 1)
      >>> score = Partial(lambda weights, image: (weights * image).sum(), weights)
      >>> print(metrics.cascading_randomization(
      ...     attribution.input_gradient, score, jnp.ones((1, 3, 1)), key=jax.random.key(0),
      ...     redraw=lambda parameter, key: -parameter,
      ... ).round(4))
      [ 1. -1.]

    Reference:
      Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, Sanity Checks for Saliency Maps, 2018,
      arXiv:1810.03292.
    """
    score, image = scores.as_score(score), as_image(image)
    layers = layer_names(score, image) if layers is None else _as_names(layers)
    chosen = jnp.tri(len(layers) + 1, len(layers), -1, dtype=bool)
    return _similarities(method, score, image, key, layers, chosen, similarity, redraw)


def independent_randomization(
    method: Method,
    score: ScoreFunction,
    image: Image,
    *,
    key: Key,
    layers: Sequence[str] | None = None,
    similarity: Similarity = spearman_correlation,
    redraw: Redraw = permuted,
) -> Float[Array, "..."]:
    """Independent randomization: the attribution's likeness to itself when one layer is redrawn.

    C_k = similarity(A_S(I), A_{S_k}(I)), k = 1 .. n, where S_k has the weights of the k-th of n
    layers redrawn

    It tells on which layers a method depends, where a cascade tells whether it depends on any.
    Lower is better; the traps are those of `cascading_randomization`, and one more: in a residual
    network a layer inside a block can be bypassed, so that the likeness stays high with reason.

    Args:
      method, score, image, key, similarity, redraw: as for `cascading_randomization`.
      layers: likewise; by default `layer_names(score, image)`. The method runs n + 1 times, one
        after the other.

    Returns:
      The similarity (n, ...) for each layer.

    Example:
      Of a factor and weights, which both change their sign:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jax.tree_util import Partial
      >>> from saliency_jax import attribution, metrics
      >>> def score(factor, weights, image):
      ...     return (factor * (weights * image).sum()).sum()
      >>> score = Partial(score, jnp.ones(1), jnp.arange(3.0)[None, :, None])
      >>> print(metrics.independent_randomization(
      ...     attribution.input_gradient, score, jnp.ones((1, 3, 1)), key=jax.random.key(0),
      ...     redraw=lambda parameter, key: -parameter,
      ... ).round(4))
      [-1. -1.]

    Reference:
      Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, Sanity Checks for Saliency Maps, 2018,
      arXiv:1810.03292.
    """
    score, image = scores.as_score(score), as_image(image)
    layers = layer_names(score, image) if layers is None else _as_names(layers)
    chosen = jnp.eye(len(layers), dtype=bool)
    return _similarities(method, score, image, key, layers, chosen, similarity, redraw)


def random_logit(
    method: Method,
    model: Model,
    label: Label,
    image: Image,
    *,
    key: Key,
    similarity: Similarity = spearman_correlation,
    make_score: Callable[[Model, Label], ScoreFunction] = scores.logit,
) -> Float[Array, "..."]:
    """The random-logit test: the attribution's likeness to that of another class.

    similarity(A_c(I), A_c'(I)), c' uniform over the classes other than c

    A method that explains a class has to tell classes apart: lower is better.

    Traps: what two classes share, as two breeds of dog do, they may share with reason; average over
    images and keys. It is made for the classes' logits: their probabilities are tied together.

    Args:
      method, model, image: see the room; the model has at least 2 classes.
      label: the class c, an integer in 0 .. k - 1; a traced one is welcome.
      key: see the room; it draws the other class.
      similarity: from the two attributions to a number or an array: the default is the rank
        correlation.
      make_score: from model and class to the score that is explained.

    Returns:
      The similarity: for a correlation in [-1, 1], and nan if an attribution is constant or a
      traced label is out of range.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, metrics
      >>> weights = jnp.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
      >>> def model(image):
      ...     return weights @ image.ravel()
      >>> print(metrics.random_logit(
      ...     attribution.input_gradient, model, 0, jnp.ones((1, 3, 1)), key=jax.random.key(0)
      ... ).round(4))
      -1.0

    Reference:
      Sixt, Granz, Landgraf, When Explanations Lie: Why Many Modified BP Attributions Fail, 2019,
      arXiv:1912.09818.
    """
    image = as_image(image)
    for name, function in (
        ("method", method),
        ("similarity", similarity),
        ("make_score", make_score),
    ):
        check_callable(name, function)
    check_key(key)
    of_label = scores.logit(model, label)
    jax.eval_shape(of_label, image)
    num_classes = jax.eval_shape(of_label.model, image).size
    if num_classes < 2:
        raise ValueError(f"expected at least 2 classes to have another one, got {num_classes}")
    distance = jax.random.randint(key, (), 1, num_classes)
    other = (jnp.asarray(label, int) + distance) % num_classes
    return similarity(*(method(make_score(model, c), image) for c in (label, other)))


def _as_names(layers: Any) -> tuple[str, ...]:
    check_instance("layers", layers, Sequence, "a sequence of names")
    for layer in layers:
        check_text("layers", layer)
    return tuple(layers)


def _similarities(
    method: Method,
    score: scores.Score,
    image: Image,
    key: Key,
    layers: tuple[str, ...],
    chosen: Bool[Array, "rows n"],
    similarity: Similarity,
    redraw: Redraw,
) -> Float[Array, "..."]:
    for name, function in (("method", method), ("similarity", similarity), ("redraw", redraw)):
        check_callable(name, function)
    check_key(key)
    leaves, structure = jax.tree.flatten(score.model)
    cut_at = _cut_of_each_leaf(score.model)
    layer_of = [
        None if name is None else _index((name, cut), layers)
        for name, cut in zip(_layer_of_each_leaf(score.model), cut_at, strict=True)
    ]
    for index, layer in enumerate(layers):
        if index not in layer_of:
            cuts = [name for name in getattr(score.model, "layers", ()) if name in cut_at]
            known = (*layer_names(score, image), *reversed(cuts))
            raise ValueError(
                f"expected different layers of {', '.join(known)}, got {layer!r}"
                + nearest(layer, known)
            )
    keys = jax.random.split(key, len(leaves))
    redrawn = [
        leaf if index is None else _redrawn(redraw, leaf, leaf_key)
        for leaf, index, leaf_key in zip(leaves, layer_of, keys, strict=True)
    ]
    original = method(score, image)

    def of_choice(is_chosen):
        new = [
            leaf if index is None else jnp.where(is_chosen[index], other, leaf)
            for leaf, index, other in zip(leaves, layer_of, redrawn, strict=True)
        ]
        randomized = scores.Score(score.readout, jax.tree.unflatten(structure, new))
        return similarity(original, method(randomized, image))

    # One model after the other: weights with a batch axis would make grouped convolutions.
    return jax.lax.map(of_choice, chosen)


def _redrawn(redraw: Redraw, leaf: Array | np.ndarray, key: Key) -> Array:
    parameter = to_jax(leaf)
    new = redraw(parameter, key)
    check_floats("a redrawn parameter", new)
    if new.shape != parameter.shape:
        raise ValueError(
            f"expected a redrawn parameter to have its shape {parameter.shape}, got {new.shape}"
        )
    return new.astype(parameter.dtype)


def _index(names: tuple[str, str | None], layers: tuple[str, ...]) -> int | None:
    """Which of the layers a leaf belongs to, by its path or by where its network is cut."""
    for index, layer in enumerate(layers):
        if layer in names or names[0].startswith(layer + "."):
            return index
    return None


def _cut_of_each_leaf(model: Any) -> list[str | None]:
    """For each leaf the first of the network's named layers whose features hold it."""
    first: dict[int, str] = {}
    for name in reversed(getattr(model, "layers", ()) if hasattr(model, "layer") else ()):
        first |= {id(leaf): name for leaf in jax.tree.leaves(model.layer(name).features)}
    return [first.get(id(leaf)) for leaf in jax.tree.leaves(model)]


def _is_parameter(leaf) -> bool:
    return (
        isinstance(leaf, jax.Array | np.ndarray)
        and leaf.ndim > 0
        and jnp.issubdtype(leaf.dtype, jnp.floating)
    )


def _layer_of_each_leaf(model: Callable) -> list[str | None]:
    paths = [
        _layer_path(path) if _is_parameter(leaf) else None
        for path, leaf in jax.tree.leaves_with_path(model)
    ]
    of_parameters = [path for path in paths if path is not None]
    if not of_parameters:
        raise ValueError("expected a score whose leaves are its model's weights, got no weights")
    # What all have in common, such as the arguments of a `Partial`, tells nothing.
    shared = 0
    while all(len(path) > shared + 1 for path in of_parameters) and (
        len({path[shared] for path in of_parameters}) == 1
    ):
        shared += 1
    return [None if path is None else ".".join(path[shared:]) for path in paths]


def _layer_path(path: tuple) -> tuple[str, ...]:
    keys = [key for key in path if not isinstance(key, FlattenedIndexKey)]
    names = [jax.tree_util.keystr((key,), simple=True) for key in keys]
    # A Flax NNX variable holds its array as `value`.
    if len(names) > 1 and names[-1] == "value":
        del keys[-1], names[-1]
    is_named = len(names) > 1 and not isinstance(keys[-1], SequenceKey)
    return tuple(names[:-1] if is_named else names)


def _order_of_use(score: scores.Score, image: Image) -> list[int | None]:
    """For each of the model's leaves, which of the traced score's operations first takes it."""
    leaves, structure = jax.tree.flatten(score.model)
    positions = [index for index, leaf in enumerate(leaves) if _is_parameter(leaf)]

    def of_parameters(parameters, image):
        new = list(leaves)
        for index, parameter in zip(positions, parameters, strict=True):
            new[index] = parameter
        return scores.Score(score.readout, jax.tree.unflatten(structure, new))(image)

    shapes = jax.eval_shape(lambda: ([to_jax(leaves[index]) for index in positions], image))
    # Without `jit`, inside which all that a model does would be one operation.
    with jax.disable_jit():
        jaxpr = jax.make_jaxpr(of_parameters)(*shapes).jaxpr
    used: list[int | None] = [None] * len(leaves)
    leaf_of = {id(variable): leaf for leaf, variable in zip(positions, jaxpr.invars, strict=False)}
    for index, equation in enumerate(jaxpr.eqns):
        for variable in equation.invars:
            leaf = leaf_of.get(id(variable))
            if leaf is not None and equation.primitive is jax.lax.convert_element_type_p:
                # All weights in another precision is no use of them yet.
                leaf_of[id(equation.outvars[0])] = leaf
            elif leaf is not None and used[leaf] is None:
                used[leaf] = index
    return used
