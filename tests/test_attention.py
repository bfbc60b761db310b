"""Attention laid open: rollout and gradient-weighted attention by loops, of any transformer."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal
from precisions import strictly
from test_vision_transformer import DEPTH, HEADS, IMAGE, PATCH, small, written_out

from saliency_jax import attribution, scores
from saliency_jax.layers import Attention

LABEL = 2
mapped = jax.jit(lambda attention, image: attention.maps(image))


@pytest.mark.parametrize("distilled", [False, True])
def test_the_attention_of_a_network_is_that_of_its_definition(distilled):
    model = small(distilled)
    logits, _, maps = written_out(model, IMAGE)
    attend = jax.jit(lambda attention, image: attention.attend(image, None))
    answer, found = attend(model.attention, IMAGE)
    assert found.shape == (DEPTH, HEADS, 7 + distilled, 7 + distilled)
    assert_allclose(answer, logits, rtol=1e-4, atol=1e-5)
    assert_allclose(found, maps, rtol=1e-4, atol=1e-6)
    assert_allclose(mapped(model.attention, IMAGE), maps, rtol=1e-4, atol=1e-6)
    relevance = np.random.default_rng(0).random(found.shape[-2:], np.float32)
    rows = relevance[: 1 + distilled, 1 + distilled :].mean(0)
    assert_allclose(
        model.attention.map(jnp.asarray(relevance), IMAGE), rows.reshape(2, 3), rtol=1e-6
    )


def test_the_weights_are_those_of_the_network():
    model = small(distilled=True)
    leaves = jax.tree.leaves(model.attention)
    assert {id(leaf) for leaf in leaves} == {id(leaf) for leaf in jax.tree.leaves(model)}
    assert len(leaves) == len(jax.tree.leaves(model))


def enlarged(patches):
    return np.kron(patches, np.ones((PATCH, PATCH)))


@pytest.mark.parametrize("distilled", [False, True])
@pytest.mark.parametrize("reduce", [np.mean, np.max, np.min], ids=lambda reduce: reduce.__name__)
def test_rollout_is_a_walk_over_all_paths(distilled, reduce):
    model, count = small(distilled), 7 + distilled
    _, _, maps = written_out(model, IMAGE)
    shares = np.eye(count)
    for heads in maps:
        carried = np.zeros((count, count))
        for row in range(count):
            joined = np.array([reduce(heads[:, row, column]) for column in range(count)])
            for column in range(count):
                half = joined[column] / joined.sum() / 2 + (row == column) / 2
                carried[row] += half * shares[column]
        shares = carried
    assert_allclose(shares.sum(-1), 1)
    expected = shares[: 1 + distilled, 1 + distilled :].mean(0).reshape(2, 3)
    rollout = functools.partial(
        attribution.attention_rollout,
        reduce=getattr(jnp, reduce.__name__),
        upsample=attribution.nearest,
    )
    found = jax.jit(rollout)(scores.logit(model, LABEL), IMAGE, attention=model.attention)
    assert_allclose(found, enlarged(expected), rtol=1e-4)


def test_rollout_asks_no_label_and_compiles_once(compilations):
    def rollout(model, label, image):
        score = scores.logit(model, label)
        return attribution.attention_rollout(score, image, attention=model.attention)

    program = jax.jit(rollout)
    first = program(small(), 0, IMAGE)
    with compilations.counted():
        other_label, other_image = program(small(), 3, IMAGE), program(small(), 3, IMAGE[::-1])
    assert compilations.count == 0
    assert_array_equal(first, other_label)
    assert not np.allclose(first, other_image)


@pytest.mark.parametrize("distilled", [False, True])
def test_relevance_weights_attention_by_differences_of_the_score(distilled):
    """The gradient is what the logit does when each entry of each map is moved by itself."""
    model, count, step = small(distilled), 7 + distilled, 1e-4
    with strictly(double=True):
        double = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model)
        image = jnp.asarray(IMAGE, jnp.float64)
        attend = jax.jit(jax.vmap(double.attention.attend, (None, 0)))
        shape = (DEPTH, HEADS, count, count)
        moves = np.eye(np.prod(shape)).reshape(-1, *shape)
        values = [
            np.asarray(attend(image, jnp.asarray(sign * step * moves))[0])[:, LABEL]
            for sign in (1, -1)
        ]
    gradient = ((values[0] - values[1]) / (2 * step)).reshape(shape)
    _, _, maps = written_out(model, IMAGE)
    relevance = np.eye(count)
    for block in range(DEPTH):
        carried = np.zeros((count, count))
        for head in range(HEADS):
            weighted = np.maximum(gradient[block, head] * maps[block, head], 0)
            carried += weighted @ relevance / HEADS
        relevance = relevance + carried
    expected = relevance[: 1 + distilled, 1 + distilled :].mean(0).reshape(2, 3)
    attend = functools.partial(attribution.attention_relevance, upsample=attribution.nearest)
    found = jax.jit(attend)(scores.logit(model, LABEL), IMAGE, attention=model.attention)
    assert expected.max() > 0
    assert_allclose(found, enlarged(expected), rtol=1e-3, atol=1e-5 * expected.max())


def test_what_moves_a_map_moves_all_that_comes_after():
    """Later blocks attend otherwise after an offset in the first, earlier ones as before."""
    attention, offsets = small().attention, jnp.zeros((DEPTH, HEADS, 7, 7))
    before = mapped(attention, IMAGE)
    attend = jax.jit(lambda attention, image, offsets: attention.attend(image, offsets))
    _, after = attend(attention, IMAGE, offsets.at[1, 0, 0, 1].set(0.5))
    assert_array_equal(after[0], before[0])
    assert_allclose(after[1] - before[1], offsets.at[1, 0, 0, 1].set(0.5)[1], atol=1e-6)
    assert np.abs(after[2] - before[2]).max() > 1e-3


def one_block(weights, image, offsets):
    """A class token that attends to the pixels, by hand."""
    query, read = weights
    tokens = image.reshape(-1, image.shape[-1])
    tokens = jnp.concatenate([jnp.zeros_like(tokens[:1]), tokens])
    similarity = (tokens + query) @ tokens.T
    maps = jax.nn.softmax(similarity)[None, None]
    maps = maps if offsets is None else maps + offsets
    return (maps[0, 0] @ tokens)[0] @ read, maps


def class_row(relevance, image):
    return relevance[0, 1:].reshape(image.shape[:2])


def test_of_one_block_it_is_the_positive_part_of_each_pixels_share():
    """logit = sum_p A_p x_p w, so that A_p dS/dA_p = A_p x_p w."""
    generator = np.random.default_rng(0)
    query, read = generator.standard_normal((1, 3)), generator.standard_normal((3, 2))
    image = generator.standard_normal((2, 4, 3)).astype(np.float32)
    weights = (jnp.asarray(np.repeat(query, 9, 0), jnp.float32), jnp.asarray(read, jnp.float32))
    attention = Attention(Partial(one_block, weights), class_row)
    raised = np.exp(image.reshape(8, 3) @ query[0])
    shares = raised / (raised.sum() + 1)
    expected = np.maximum(shares * (image.reshape(8, 3) @ read[:, 1]), 0).reshape(2, 4)

    def model(image):
        return one_block(weights, image, None)[0]

    score = scores.logit(model, 1)
    found = attribution.attention_relevance(score, image, attention=attention)
    assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    rollout = attribution.attention_rollout(score, image, attention=attention)
    assert_allclose(rollout, shares.reshape(2, 4) / 2, rtol=1e-4)


class EquinoxBlock(eqx.Module):
    projections: jax.Array

    def __call__(self, tokens, offset):
        query, key, value = (tokens @ matrix for matrix in self.projections)
        attention = jax.nn.softmax(query @ key.T)[None]
        attention = attention if offset is None else attention + offset
        return tokens + attention[0] @ value, attention


class EquinoxTransformer(eqx.Module):
    blocks: list[EquinoxBlock]

    def attend(self, image, offsets):
        tokens, maps = image.reshape(-1, 3), []
        for index, block in enumerate(self.blocks):
            tokens, attention = block(tokens, None if offsets is None else offsets[index])
            maps.append(attention)
        return tokens.mean(0), jnp.stack(maps)

    def __call__(self, image):
        return self.attend(image, None)[0]


class LinenTransformer(nn.Module):
    """Its attention is perturbed and sown, as Linen has it."""

    @nn.compact
    def __call__(self, image):
        tokens = image.reshape(-1, 3)
        for index in range(2):
            query, key, value = (
                tokens @ self.param(f"{name}{index}", nn.initializers.normal(), (3, 3))
                for name in ("query", "key", "value")
            )
            attention = jax.nn.softmax(query @ key.T)[None]
            attention = self.perturb(f"attention{index}", attention)
            self.sow("intermediates", "attention", attention)
            tokens = tokens + attention[0] @ value
        return tokens.mean(0)


def linen_attend(params, image, offsets):
    variables = {"params": params}
    if offsets is not None:
        variables["perturbations"] = {f"attention{index}": offsets[index] for index in range(2)}
    answer, state = LinenTransformer().apply(variables, image, mutable="intermediates")
    return answer, jnp.stack(state["intermediates"]["attention"])


def linen_answer(params, image):
    return LinenTransformer().apply({"params": params}, image)


def mean_row(relevance, image):
    return relevance.mean(0).reshape(image.shape[:2])


def test_transformers_of_equinox_and_linen_are_laid_open_alike():
    image = jax.random.normal(jax.random.key(0), (2, 3, 3))
    names = [f"{name}{index}" for name in ("query", "key", "value") for index in range(2)]
    params = {
        name: jax.random.normal(jax.random.key(number), (3, 3)) for number, name in enumerate(names)
    }
    blocks = [
        EquinoxBlock(jnp.stack([params[f"{name}{index}"] for name in ("query", "key", "value")]))
        for index in range(2)
    ]
    equinox = EquinoxTransformer(blocks)
    pairs = [
        (equinox, Attention(equinox.attend, mean_row)),
        (Partial(linen_answer, params), Attention(Partial(linen_attend, params), mean_row)),
    ]
    for method in (attribution.attention_rollout, attribution.attention_relevance):
        first, second = (
            jax.jit(method)(scores.logit(model, 1), image, attention=attention)
            for model, attention in pairs
        )
        assert np.ptp(first) > 1e-3
        assert_allclose(first, second, rtol=1e-4)


@pytest.mark.usefixtures("entry_checks")
def test_what_is_no_attention_is_refused():
    model = small()
    score = scores.logit(model, 0)
    for method in (attribution.attention_rollout, attribution.attention_relevance):
        with pytest.raises(TypeError, match=r"to be an Attention\(attend, to_map\), got Layer"):
            method(score, IMAGE, attention=model.layer("block 1"))
    with pytest.raises(TypeError, match=r"expected score to be a Score, .* got function"):
        attribution.attention_relevance(lambda image: image.sum(), IMAGE, attention=model.attention)
    with pytest.raises(TypeError, match="expected attend to be callable, got int"):
        Attention(3, mean_row)
    flat = Attention(lambda image, offsets: (image.sum((0, 1)), jnp.ones((2, 4, 4))), mean_row)
    with pytest.raises(ValueError, match=r"maps of one image to have shape \(b, m, n, n\)"):
        attribution.attention_rollout(score, IMAGE, attention=flat)
    tall = Attention(lambda image, offsets: (image.sum((0, 1)), jnp.ones((1, 1, 4, 3))), mean_row)
    with pytest.raises(ValueError, match=r"\(b, m, n, n\), got \(1, 1, 4, 3\)"):
        attribution.attention_rollout(score, IMAGE, attention=tall)
    unfolded = Attention(model.attention.attend, lambda relevance, image: relevance[0])
    with pytest.raises(ValueError, match=r"tokens' relevances to have shape \(i, j\), got \(7,\)"):
        attribution.attention_relevance(score, IMAGE, attention=unfolded)
    with pytest.raises(ValueError, match=r"reduce's result to have shape \(n, n\)"):
        attribution.attention_rollout(
            score, IMAGE, attention=model.attention, reduce=lambda maps, axis: maps
        )
