"""Relevance propagation written from the papers, in NumPy: explicit matrices, output by output.

A network is a list of stages, each with `__call__(x)`, which JAX can trace, and with
`back(x, relevance)`, from the relevance of its answer to that of what it takes.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np


def numbers(seed, *shape):
    """Away from 0, of both signs."""
    generator = np.random.default_rng(seed)
    return generator.uniform(0.2, 1, shape) * generator.choice([-1, 1], shape)


@functools.lru_cache(64)
def matrix(function, shape):
    """Weights (outputs, inputs) and constants of an affine function, unit image by unit image."""
    constant = np.asarray(function(jnp.zeros(shape))).ravel()
    columns = []
    for index in np.ndindex(*shape):
        unit = np.zeros(shape)
        unit[index] = 1
        columns.append(np.asarray(function(jnp.asarray(unit))).ravel() - constant)
    return np.stack(columns, axis=1), constant


# The rules: of the relevance of one output, the share of each of its inputs x, weights w, bias b.


def stabilized(value, epsilon):
    return value + (epsilon if value >= 0 else -epsilon)


def epsilon(x, w, b, epsilon=1e-12):
    """Bach et al. 2015, equation 58; the bias has a share that is lost."""
    return w * x / stabilized((w * x).sum() + b, epsilon)


def gamma(x, w, b, gamma=0.25, epsilon=1e-6):
    """Montavon et al. 2019, section 10.2.2, extended to both signs by Andeol et al. 2021."""
    contributions = [weight * value for weight, value in zip(w, x, strict=True)]
    sign = 1 if sum(contributions) + b >= 0 else -1
    favoured = [each + gamma * sign * max(sign * each, 0) for each in contributions]
    bias = b + gamma * sign * max(sign * b, 0)
    return np.array(favoured) / stabilized(sum(favoured) + bias, epsilon)


def montavon_gamma(x, w, b, gamma=0.25):
    """As printed there, for inputs and outputs of at least 0."""
    weights, bias = w + gamma * np.maximum(w, 0), b + gamma * max(b, 0)
    return x * weights / ((x * weights).sum() + bias)


def alpha_beta(x, w, b, alpha=2.0, beta=1.0, epsilon=1e-6):
    """Bach et al. 2015, equation 60, beta with the sign of Montavon et al. 2019."""
    positive, negative = np.maximum(w * x, 0), np.minimum(w * x, 0)
    along = positive / (positive.sum() + max(b, 0) + epsilon)
    against = negative / (negative.sum() + min(b, 0) - epsilon)
    return alpha * along - beta * against


def z_plus(x, w, b, epsilon=1e-6):
    """Montavon et al. 2015, section 4.3: of contributions above 0, for any sign of the inputs."""
    positive = np.maximum(w * x, 0)
    return positive / (positive.sum() + epsilon)


def flat(x, w, b, epsilon=1e-6):
    """Lapuschkin et al. 2019: alike to all that the output is connected to."""
    connected = (w != 0).astype(float)
    return connected / (connected.sum() + epsilon)


def w_squared(x, w, b, epsilon=1e-6):
    """Montavon et al. 2015, section 4.1."""
    return w**2 / ((w**2).sum() + epsilon)


def z_box(x, w, b, low=0.0, high=1.0, epsilon=1e-6):
    """Montavon et al. 2015, section 4.2."""
    z = x * w - low * np.maximum(w, 0) - high * np.minimum(w, 0)
    return z / stabilized(z.sum(), epsilon)


@dataclasses.dataclass
class Affine:
    """A stage with weights, or a mean pool, or a flattening: whatever is affine."""

    function: Callable
    rule: Callable = epsilon

    def __call__(self, x):
        return self.function(x)

    def back(self, x, relevance):
        weights, constants = matrix(self.function, x.shape)
        found = np.zeros(x.size)
        for w, b, each in zip(weights, constants, relevance.ravel(), strict=True):
            found += self.rule(x.ravel(), w, b) * each
        return found.reshape(x.shape)

    def bias_share(self, x, relevance):
        """What the constants keep under the epsilon rule, epsilon being 0."""
        weights, constants = matrix(self.function, x.shape)
        return sum(
            b / (w @ x.ravel() + b) * each
            for w, b, each in zip(weights, constants, relevance.ravel(), strict=True)
        )


@dataclasses.dataclass
class Activation:
    """Bach et al. 2015, equation 54 and below: it hands on what it gets."""

    function: Callable

    def __call__(self, x):
        return self.function(x)

    def back(self, x, relevance):
        return relevance


@dataclasses.dataclass
class MaxPool:
    """Windows of a map (h, w, c), each given by its pixels: the winner, or in proportion."""

    function: Callable
    size: int
    stride: int
    padding: int
    proportional: bool = False

    def __call__(self, x):
        return self.function(x)

    def back(self, x, relevance):
        found = np.zeros(x.shape)
        for row, column, channel in np.ndindex(relevance.shape):
            pixels = [
                (i, j, channel)
                for i in range(row * self.stride - self.padding, x.shape[0])
                for j in range(column * self.stride - self.padding, x.shape[1])
                if i >= 0 and i < row * self.stride - self.padding + self.size
                if j >= 0 and j < column * self.stride - self.padding + self.size
            ]
            each = relevance[row, column, channel]
            if self.proportional:
                total = sum(x[pixel] for pixel in pixels)
                for pixel in pixels:
                    found[pixel] += x[pixel] / (total + 1e-6) * each
            else:
                found[max(pixels, key=lambda pixel: x[pixel])] += each
        return found


@dataclasses.dataclass
class Sum:
    """Branches added up, a residual block: in proportion to what each brings."""

    branches: Sequence[Sequence[Any]]

    def __call__(self, x):
        answers = [forward(branch, x) for branch in self.branches]
        return sum(answers[1:], answers[0])

    def back(self, x, relevance):
        answers = [np.asarray(forward(branch, x)) for branch in self.branches]
        total = sum(answers)
        return sum(
            relevances(
                branch, x, answer / (total + np.where(total >= 0, 1e-12, -1e-12)) * relevance
            )
            for branch, answer in zip(self.branches, answers, strict=True)
        )


@dataclasses.dataclass
class Concatenation:
    """Branches side by side along the last axis."""

    branches: Sequence[Sequence[Any]]

    def __call__(self, x):
        return jnp.concatenate([forward(branch, x) for branch in self.branches], axis=-1)

    def back(self, x, relevance):
        widths = [np.shape(forward(branch, x))[-1] for branch in self.branches]
        parts = np.split(relevance, np.cumsum(widths)[:-1], axis=-1)
        return sum(
            relevances(branch, x, part) for branch, part in zip(self.branches, parts, strict=True)
        )


@dataclasses.dataclass
class Gate:
    """A map (h, w, c) times a gate (c,) made of it: half to either (Achtibat et al. 2024, 3.2)."""

    gate: Sequence[Any]

    def __call__(self, x):
        return x * forward(self.gate, x)[None, None]

    def back(self, x, relevance):
        return relevance / 2 + relevances(self.gate, x, (relevance / 2).sum((0, 1)))


@dataclasses.dataclass
class Normalization:
    """Layer normalization (centered) or RMS normalization of the last axis, its scale held.

    Achtibat et al. 2024, section 3.3.2: the division is an identity to relevance, the rest affine.
    """

    function: Callable
    scale: np.ndarray
    bias: np.ndarray
    centered: bool

    def __call__(self, x):
        return self.function(x)

    def back(self, x, relevance):
        found = np.zeros(x.shape)
        size = x.shape[-1]
        mixing = np.eye(size) - (1 / size if self.centered else 0)
        for index in np.ndindex(x.shape[:-1]):
            centered = mixing @ x[index]
            deviation = np.sqrt((centered**2).mean() + 1e-5)
            normalized = centered / deviation
            # Affine behind the division, identity at it, affine before it.
            for j in range(size):
                share = (
                    self.scale[j] * normalized[j] / (self.scale[j] * normalized[j] + self.bias[j])
                )
                each = share * relevance[index][j]
                found[index] += mixing[j] * x[index] / (mixing[j] @ x[index]) * each
        return found


@dataclasses.dataclass
class SelfAttention:
    """Of tokens (n, d), one head: Achtibat et al. 2024, propositions 3.1 and 3.3."""

    function: Callable
    query: Affine
    key: Affine
    value: Affine

    def __call__(self, x):
        return self.function(self.query(x), self.key(x), self.value(x))

    def back(self, x, relevance):
        q, k, v = (np.asarray(each(x)) for each in (self.query, self.key, self.value))
        count, width = q.shape
        logits = np.zeros((count, count))
        for i, j in np.ndindex(count, count):
            logits[i, j] = sum(q[i, p] * k[j, p] for p in range(width)) / width**0.5
        attention = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        answers = attention @ v
        of_attention, of_value = np.zeros_like(attention), np.zeros_like(v)
        for i, p in np.ndindex(answers.shape):
            for j in range(count):
                share = attention[i, j] * v[j, p] / (2 * answers[i, p]) * relevance[i, p]
                of_attention[i, j] += share
                of_value[j, p] += share
        of_logits = np.zeros_like(logits)
        for i, j in np.ndindex(logits.shape):
            total = of_attention[i].sum()
            of_logits[i, j] = logits[i, j] * (of_attention[i, j] - attention[i, j] * total)
        of_query, of_key = np.zeros_like(q), np.zeros_like(k)
        for i, j in np.ndindex(logits.shape):
            for p in range(width):
                product = q[i, p] * k[j, p] / width**0.5
                share = product / (2 * logits[i, j]) * of_logits[i, j]
                of_query[i, p] += share
                of_key[j, p] += share
        return (
            self.query.back(x, of_query) + self.key.back(x, of_key) + self.value.back(x, of_value)
        )


def forward(stages, x):
    for stage in stages:
        x = stage(jnp.asarray(x))
    return x


def inputs(stages, x):
    """What each stage takes."""
    taken = []
    for stage in stages:
        taken.append(np.asarray(x))
        x = stage(jnp.asarray(x))
    return taken


def relevances(stages, x, relevance, watch=None):
    """Of what the first stage takes, for that of what the last one makes."""
    for stage, taken in zip(reversed(stages), reversed(inputs(stages, x)), strict=True):
        if watch is not None:
            watch(stage, taken, relevance)
        relevance = stage.back(taken, relevance)
    return relevance


def lrp(stages, x, label=0):
    """The relevance of an image for one of the answers."""
    answers = np.asarray(forward(stages, x))
    return relevances(stages, np.asarray(x), np.where(np.arange(answers.size) == label, answers, 0))
