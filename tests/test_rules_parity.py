"""Backward rules against Captum, SHAP, Zennit and LXT on the same weights: where they are right,
and where they are not.
"""

import functools
import sys
import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from numpy.testing import assert_allclose
from precisions import strictly

from saliency_jax import attribution, models, rules, scores

torch = pytest.importorskip("torch", reason="the comparison needs the extra bench")
captum = pytest.importorskip("captum.attr", reason="the comparison needs the extra bench")
lrp_rules = pytest.importorskip("captum.attr._utils.lrp_rules")
# Not before: it is made of PyTorch's modules.
import torch_models  # noqa: E402

LABEL = 1
IMAGE = np.random.default_rng(0).uniform(size=(8, 8, 3))
BASELINE = np.random.default_rng(1).uniform(size=(8, 8, 3)) / 2


@pytest.fixture(autouse=True)
def in_double_precision():
    with strictly(True):
        yield


class Network(torch.nn.Module):
    """A residual block between a stem with a pool and a mean; its rectifiers in three ways."""

    def __init__(self, rectifiers="modules", *, skip=True, bias=True, norm=True, pool="max"):
        super().__init__()
        self.skip, self.rectifiers = skip, rectifiers
        self.conv1 = torch.nn.Conv2d(3, 4, 3, padding=1, bias=bias)
        self.conv2 = torch.nn.Conv2d(4, 4, 3, padding=1, bias=bias)
        self.conv3 = torch.nn.Conv2d(4, 4, 3, padding=1, bias=bias)
        if norm:
            self.bn1, self.bn2, self.bn3 = (torch.nn.BatchNorm2d(4) for _ in range(3))
        if rectifiers == "modules":
            self.relu1, self.relu2, self.relu3 = (torch.nn.ReLU() for _ in range(3))
        elif rectifiers == "reused":
            self.relu = torch.nn.ReLU()
        self.pool = torch.nn.MaxPool2d(2) if pool == "max" else torch.nn.AvgPool2d(2)
        self.mean = torch.nn.AdaptiveAvgPool2d(1)
        self.fc = torch.nn.Linear(4, 3, bias=bias)

    def convolved(self, x, number):
        x = getattr(self, f"conv{number}")(x)
        norm = getattr(self, f"bn{number}", None)
        return x if norm is None else norm(x)

    def rectify(self, x, number):
        if self.rectifiers == "functional":
            return torch.nn.functional.relu(x)
        return (self.relu if self.rectifiers == "reused" else getattr(self, f"relu{number}"))(x)

    def forward(self, x):
        x = self.pool(self.rectify(self.convolved(x, 1), 1))
        y = self.convolved(self.rectify(self.convolved(x, 2), 2), 3)
        x = self.rectify(x + y if self.skip else y, 3)
        return self.fc(self.mean(x).flatten(1))


def theirs(rectifiers="modules", **settings):
    torch.manual_seed(0)
    network = Network(rectifiers, **settings).double().eval()
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                with torch.no_grad():
                    tensor.copy_(torch.rand(4, generator=generator, dtype=torch.float64) + 0.3)
    return network


def ours(network):
    """The same weights and the same network, in jax.numpy."""
    state = {name: jnp.asarray(each.numpy()) for name, each in network.state_dict().items()}
    skip, has_maxima = network.skip, isinstance(network.pool, torch.nn.MaxPool2d)

    def convolved(x, number):
        kernel = state[f"conv{number}.weight"].transpose(2, 3, 1, 0)
        x = lax.conv_general_dilated(
            x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )[0]
        if f"conv{number}.bias" in state:
            x = x + state[f"conv{number}.bias"][None, None]
        if f"bn{number}.weight" not in state:
            return x
        names = ("running_mean", "running_var", "weight", "bias")
        mean, variance, scale, bias = (state[f"bn{number}.{name}"][None, None] for name in names)
        return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + bias

    def model(image):
        x = jax.nn.relu(convolved(image, 1))
        if has_maxima:
            x = lax.reduce_window(x, -jnp.inf, lax.max, (2, 2, 1), (2, 2, 1), "VALID")
        else:
            x = x.reshape(4, 2, 4, 2, 4).mean((1, 3))
        y = convolved(jax.nn.relu(convolved(x, 2)), 3)
        x = jax.nn.relu(x + y if skip else y)
        logits = state["fc.weight"] @ x.mean((0, 1))
        return logits + state["fc.bias"] if "fc.bias" in state else logits

    return scores.logit(model, LABEL)


def batch(image):
    return torch.tensor(image.transpose(2, 0, 1)[None], requires_grad=True)


def attributed(method, network, image=IMAGE, **arguments):
    with warnings.catch_warnings():
        # Of hooks that are set, and of gradients that were required already.
        warnings.simplefilter("ignore")
        found = method(network).attribute(batch(image), target=LABEL, **arguments)
    return found.detach().numpy()[0].transpose(1, 2, 0)


def difference(found, expected):
    return np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected)


def with_captums_rules(network, chosen):
    """Captum reads a module's rule off it."""
    for name, rule in chosen.items():
        getattr(network, name).rule = rule
    return network


def everywhere(rule, **parameters):
    """For convolutions; exact epsilon for all else."""
    bound = functools.partial(rule, **parameters)

    def composite(operation):
        if operation.has_weights and not operation.is_dense:
            return bound
        return rules.epsilon_everywhere(1e-9)(operation)

    return composite


CONVOLUTIONS = ("conv1", "conv2", "conv3")


class TestWhereCaptumIsRight:
    def test_the_networks_are_the_same(self):
        network = theirs()
        expected = network(batch(IMAGE)).detach().numpy()[0]
        assert_allclose(ours(network)(IMAGE), expected[LABEL], rtol=1e-10)

    @pytest.mark.parametrize("skip", [True, False])
    def test_guided_backpropagation_and_deconvnet(self, skip):
        network = theirs(skip=skip)
        guided = attributed(captum.GuidedBackprop, network)
        assert difference(rules.guided_backprop(ours(network), IMAGE), guided) < 1e-6
        deconvolved = attributed(captum.Deconvolution, network)
        assert difference(rules.deconvnet(ours(network), IMAGE), deconvolved) < 1e-6

    def test_guided_grad_cam(self):
        network = theirs()
        found = attributed(
            functools.partial(captum.GuidedGradCam, layer=network.conv1),
            network,
            interpolate_mode="bilinear",
        )
        score = ours(network)
        # Behind the bias, of the image's own size, so that nothing is interpolated.
        cut = next(
            each
            for each in rules.layers(score.model, IMAGE)
            if each.shape == (8, 8, 4) and each.primitive == "add"
        )
        mine = rules.guided_grad_cam(score, IMAGE, layer=cut.layer)
        assert difference(mine, found) < 1e-6

    @pytest.mark.parametrize("skip", [True, False])
    def test_deep_lift(self, skip):
        network = theirs(skip=skip, pool="mean")
        found = attributed(captum.DeepLift, network, baselines=batch(BASELINE))
        mine = rules.deep_lift(ours(network), IMAGE, baseline=BASELINE)
        assert difference(mine, found) < 1e-6

    def test_deep_shap(self):
        network = theirs(pool="mean")
        baselines = np.random.default_rng(2).uniform(size=(3, 8, 8, 3))
        stacked = torch.tensor(baselines.transpose(0, 3, 1, 2))
        found = attributed(captum.DeepLiftShap, network, baselines=stacked)
        assert difference(rules.deep_shap(ours(network), IMAGE, baselines=baselines), found) < 1e-6

    @pytest.mark.parametrize("rectifiers", ["modules", "functional", "reused"])
    def test_lrp_epsilon_with_batch_normalization(self, rectifiers):
        """There it is a module of its own; with this rule merging changes nothing."""
        network = theirs(rectifiers, skip=False)
        found = attributed(captum.LRP, network)
        mine = rules.lrp(ours(network), IMAGE, composite=rules.epsilon_everywhere(1e-9))
        assert difference(mine, found) < 1e-5

    def test_lrp_gamma(self):
        """Without biases, which Captum leaves as they are: Montavon et al. have b + gamma b+."""
        network = theirs(skip=False, bias=False, norm=False)
        score = ours(network)
        expected = {name: lrp_rules.GammaRule(gamma=0.5) for name in CONVOLUTIONS}
        found = attributed(captum.LRP, with_captums_rules(network, expected))
        mine = rules.lrp(score, IMAGE, composite=everywhere(rules.gamma, gamma=0.5, epsilon=1e-9))
        assert difference(mine, found) < 1e-5

    def test_lrp_z_plus(self):
        network = theirs(skip=False, norm=False)
        score = ours(network)
        chosen = {name: lrp_rules.Alpha1_Beta0_Rule(set_bias_to_zero=True) for name in CONVOLUTIONS}
        found = attributed(captum.LRP, with_captums_rules(network, chosen))
        mine = rules.lrp(score, IMAGE, composite=everywhere(rules.z_plus, epsilon=1e-9))
        assert difference(mine, found) < 1e-5


def residual_18(*, small, modules=True):
    """A narrow ResNet-18, and ours of the same weights; its rectifiers are functions otherwise."""
    counts = (2, 2, 2, 2)
    network = torch_models.ResNet(
        counts, small=small, shortcut="shortcut" if small else "downsample", last="linear"
    )
    network = torch_models.randomized(network)
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    stem = {"stem": models.SMALL_IMAGE_STEM} if small else {}
    model = models.from_state_dict(
        nnx.eval_shape(lambda: models.ResNet(18, 7, width=4, rngs=nnx.Rngs(0), **stem)), arrays
    )
    model = jax.tree.map(lambda array: jnp.asarray(array, jnp.float64), model)
    return with_modules(network.double()) if modules else network.double(), model


def with_modules(network):
    """A module of its own for every rectifier, as Captum needs it."""
    traced = torch.fx.symbolic_trace(network)
    for number, node in enumerate(traced.graph.nodes):
        if node.op == "call_method" and node.target == "relu":
            node.op, node.target = "call_module", f"rectifier{number}"
            traced.add_submodule(node.target, torch.nn.ReLU())
    traced.recompile()
    return traced


PHOTOGRAPH = np.random.default_rng(3).uniform(size=(32, 32, 3))


class TestResNet18:
    @pytest.mark.parametrize("small", [True, False])
    def test_guided_backpropagation(self, small):
        network, model = residual_18(small=small)
        found = attributed(captum.GuidedBackprop, network, PHOTOGRAPH)
        score = scores.logit(model, LABEL)
        mine = jax.jit(lambda image: rules.guided_backprop(score, image))(PHOTOGRAPH)
        assert difference(mine, found) < 1e-6

    def test_deconvnet(self):
        """Without the pool: where all of a window is 0 PyTorch has its first pixel win, and JAX
        shares.
        """
        network, model = residual_18(small=True)
        found = attributed(captum.Deconvolution, network, PHOTOGRAPH)
        score = scores.logit(model, LABEL)
        mine = jax.jit(lambda image: rules.deconvnet(score, image))(PHOTOGRAPH)
        assert difference(mine, found) < 1e-6

    @pytest.mark.parametrize("small", [True, False])
    def test_deep_lift(self, small):
        """Equal without a max-pool; of one Captum loses a part, and ours is complete."""
        network, model = residual_18(small=small)
        score, start = scores.logit(model, LABEL), np.full_like(PHOTOGRAPH, 0.2)
        mine = jax.jit(lambda x: rules.deep_lift(score, x, baseline=start))(PHOTOGRAPH)
        found = attributed(captum.DeepLift, network, PHOTOGRAPH, baselines=batch(start))
        change = score(jnp.asarray(PHOTOGRAPH)) - score(jnp.asarray(start))
        assert abs(mine.sum() - change) < 1e-9 * abs(change)
        if small:
            assert difference(mine, found) < 1e-6
        else:
            assert abs(found.sum() - change) > 0.01 * abs(change)

    def test_relevance(self):
        """Captum has a rule for modules alone, and the additions are none."""
        network, model = residual_18(small=False)
        score = scores.logit(model, LABEL)
        composite = rules.epsilon_everywhere(1e-9)
        kept = jax.jit(lambda x: rules.conservation(score, x, composite=composite))(PHOTOGRAPH)
        assert_allclose(kept.image + sum(kept.lost.values()), kept.score, rtol=1e-8)
        found = attributed(captum.LRP, network, PHOTOGRAPH)
        mine = jax.jit(lambda x: rules.lrp(score, x, composite=composite))(PHOTOGRAPH)
        assert difference(found, np.asarray(mine)) > 0.1


class TestWhereCaptumIsWrong:
    """Ours is what it was with a module for each rectifier, and theirs is something else."""

    @pytest.mark.parametrize("method", [captum.GuidedBackprop, captum.Deconvolution])
    def test_rectifiers_that_are_functions(self, method):
        """Captum's hooks do not see them, and its answer is the gradient."""
        network = theirs("functional")
        mine = {
            captum.GuidedBackprop: rules.guided_backprop,
            captum.Deconvolution: rules.deconvnet,
        }[method](ours(network), IMAGE)
        assert difference(mine, attributed(method, theirs())) < 1e-6
        found = attributed(method, network)
        assert difference(mine, found) > 0.1
        gradient = attribution.input_gradient(ours(network), IMAGE)
        assert difference(found, np.asarray(gradient)) < 1e-6

    @pytest.mark.parametrize("rectifiers", ["functional", "reused"])
    def test_deep_lift_of_rectifiers(self, rectifiers):
        """Complete through a rectifier that is used again, and through one without a module."""
        network, right = theirs(rectifiers, pool="mean"), theirs(pool="mean")
        score, start = ours(network), batch(BASELINE)
        mine = rules.deep_lift(score, IMAGE, baseline=BASELINE)
        assert difference(mine, attributed(captum.DeepLift, right, baselines=start)) < 1e-6
        change = score(jnp.asarray(IMAGE)) - score(jnp.asarray(BASELINE))
        assert abs(mine.sum() - change) < 1e-9 * abs(change)
        try:
            found = attributed(captum.DeepLift, network, baselines=start)
        except (AssertionError, RuntimeError):
            return
        assert abs(found.sum() - change) > 1e-3 * abs(change)

    @pytest.mark.parametrize("skip", [True, False])
    def test_deep_lift_of_a_max_pool(self, skip):
        """A third of the change is missing from theirs, or 5 %; ours is complete."""
        network = theirs(skip=skip)
        score = ours(network)
        mine = rules.deep_lift(score, IMAGE, baseline=BASELINE)
        change = score(jnp.asarray(IMAGE)) - score(jnp.asarray(BASELINE))
        assert abs(mine.sum() - change) < 1e-9 * abs(change)
        found = attributed(captum.DeepLift, network, baselines=batch(BASELINE))
        assert abs(found.sum() - change) > 0.04 * abs(change)

    def test_relevance_through_a_skip_connection(self):
        """Captum hands all of it to both branches, so that more comes out than went in."""
        network = theirs(skip=True, bias=False, norm=False)
        score = ours(network)
        mine = rules.lrp(score, IMAGE, composite=rules.epsilon_everywhere(1e-12))
        # Without constants it is input x gradient, and adds up to the score.
        expected = IMAGE * np.asarray(attribution.input_gradient(score, IMAGE))
        assert difference(mine, expected) < 1e-6
        assert_allclose(mine.sum(), score(IMAGE), rtol=1e-6)
        found = attributed(captum.LRP, network)
        assert difference(found, expected) > 0.1
        assert abs(found.sum() - score(IMAGE)) > 0.05 * abs(score(IMAGE))

    def test_relevance_through_a_layer_that_is_used_twice(self):
        """Weights that are shared: Captum refuses, ours are two operations."""

        class Twice(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = torch.nn.Conv2d(3, 3, 3, padding=1, bias=False)

            def forward(self, x):
                return self.conv(torch.relu(self.conv(x))).mean((2, 3))

        network = Twice().double()
        kernel = jnp.asarray(network.conv.weight.detach().numpy().transpose(2, 3, 1, 0))

        def convolved(x):
            layout = ("NHWC", "HWIO", "NHWC")
            return lax.conv_general_dilated(
                x[None], kernel, (1, 1), "SAME", dimension_numbers=layout
            )[0]

        score = scores.logit(lambda x: convolved(jax.nn.relu(convolved(x))).mean((0, 1)), LABEL)
        mine = rules.lrp(score, IMAGE, composite=rules.epsilon_everywhere(1e-12))
        expected = IMAGE * np.asarray(attribution.input_gradient(score, IMAGE))
        assert difference(mine, expected) < 1e-6
        with pytest.raises(RuntimeError, match="used more than once"):
            attributed(captum.LRP, network)


def imported(name, needs):
    with warnings.catch_warnings():
        # They warn when they are imported.
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"the comparison needs {needs}")


# For tests alone, as Zennit's licence is the LGPL.
ALONE = "zennit and lxt without what they depend on: pip install --no-deps -c tests/versions.txt"


def zennit_alone(monkeypatch):
    """Zennit imports torchvision for two classes of networks that no test needs. Its wheel is built
    for one kind of PyTorch, and beside another it cannot be imported.
    """
    resnet = types.ModuleType("torchvision.models.resnet")
    resnet.Bottleneck = resnet.BasicBlock = type("Unused", (), {})
    for name in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, resnet.__name__, resnet)
    return imported("zennit", ALONE)


def sequential(norm=True):
    """Zennit joins a convolution and the batch normalization that is the next of its modules."""
    torch.manual_seed(2)
    layers = [
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4) if norm else None,
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 5, 3, padding=1),
        torch.nn.BatchNorm2d(5) if norm else None,
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(80, 6),
        torch.nn.ReLU(),
        torch.nn.Linear(6, 3),
    ]
    network = torch.nn.Sequential(*(layer for layer in layers if layer is not None)).double().eval()
    for module in network:
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                with torch.no_grad():
                    tensor.copy_(torch.rand(tensor.shape, dtype=torch.float64) + 0.3)
    return network


def of_modules(network):
    """The same in jax.numpy, module by module."""
    modules = list(network)

    def array(tensor):
        return jnp.asarray(tensor.detach().numpy())

    def model(image):
        x = image
        for module in modules:
            if isinstance(module, torch.nn.Conv2d):
                kernel = array(module.weight).transpose(2, 3, 1, 0)
                x = lax.conv_general_dilated(
                    x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )[0]
                x = x + array(module.bias)[None, None]
            elif isinstance(module, torch.nn.BatchNorm2d):
                mean, variance, scale, bias = (
                    array(each)[None, None]
                    for each in (
                        module.running_mean,
                        module.running_var,
                        module.weight,
                        module.bias,
                    )
                )
                x = (x - mean) / jnp.sqrt(variance + module.eps) * scale + bias
            elif isinstance(module, torch.nn.ReLU):
                x = jax.nn.relu(x)
            elif isinstance(module, torch.nn.MaxPool2d):
                x = lax.reduce_window(x, -jnp.inf, lax.max, (2, 2, 1), (2, 2, 1), "VALID")
            elif isinstance(module, torch.nn.Flatten):
                x = x.transpose(2, 0, 1).ravel()
            else:
                x = array(module.weight) @ x + array(module.bias)
        return x

    return scores.logit(model, LABEL)


def bounds(value):
    return torch.full((1, 3, 8, 8), value, dtype=torch.float64)


def without_bias(zennit):
    """Zennit's z+ shares out to the bias, as alpha-beta does; of deep Taylor's it has no share."""
    return [(zennit.types.Convolution, zennit.rules.ZPlus(zero_params=["bias"]))]


ZENNIT = {
    "epsilon gamma box": (
        lambda zennit: zennit.composites.EpsilonGammaBox(bounds(-0.5), bounds(1.5), gamma=0.3),
        rules.epsilon_gamma_box(low=-0.5, high=1.5, gamma=0.3),
    ),
    "epsilon plus": (
        lambda zennit: zennit.composites.EpsilonPlus(layer_map=without_bias(zennit)),
        rules.epsilon_plus(),
    ),
    "epsilon plus flat": (
        lambda zennit: zennit.composites.EpsilonPlusFlat(layer_map=without_bias(zennit)),
        rules.epsilon_plus_flat(),
    ),
    "epsilon alpha beta": (
        lambda zennit: zennit.composites.EpsilonAlpha2Beta1(),
        rules.epsilon_alpha_beta(2.0, 1.0),
    ),
    "epsilon alpha 1": (
        lambda zennit: zennit.composites.EpsilonPlus(),
        rules.epsilon_alpha_beta(1.0, 0.0),
    ),
    "excitation": (
        lambda zennit: zennit.composites.ExcitationBackprop(zero_params=["bias"]),
        rules.excitation_backpropagation,
    ),
    "guided": (lambda zennit: zennit.composites.GuidedBackprop(), None),
    "deconvnet": (lambda zennit: zennit.composites.DeconvNet(), None),
}


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("name", ZENNIT)
def test_zennits_composites(name, norm, monkeypatch):
    zennit = zennit_alone(monkeypatch)
    make, composite = ZENNIT[name]
    network = sequential(norm)
    score = of_modules(network)
    zennits = make(zennit)
    zennits.canonizers = [zennit.canonizers.SequentialMergeBatchNorm()] if norm else []
    image = batch(IMAGE)
    with warnings.catch_warnings(), zennits.context(network) as modified:
        warnings.simplefilter("ignore")
        logits = modified(image)
        # LRP hands back the score, the others its gradient.
        start = torch.zeros_like(logits)
        start[0, LABEL] = logits[0, LABEL].detach() if composite else 1.0
        (found,) = torch.autograd.grad(logits, image, start)
    expected = found.detach().numpy()[0].transpose(1, 2, 0)
    if composite is None:
        method = rules.guided_backprop if name == "guided" else rules.deconvnet
        mine = method(score, IMAGE)
    else:
        mine = rules.lrp(score, IMAGE, composite=composite)
    assert difference(mine, expected) < 1e-4


def test_lxts_attention():
    """A block with layer normalization, one head and a residual addition, by AttnLRP's authors."""
    found = imported("lxt.explicit.functional", ALONE)
    generator = np.random.default_rng(5)
    query, key, value, last = (generator.normal(size=(3, 3)) for _ in range(4))
    scale, bias = generator.normal(size=(2, 3))
    tokens = generator.normal(size=(1, 5, 3))

    x = torch.tensor(tokens[0], requires_grad=True)
    weights = [torch.tensor(each.T) for each in (query, key, value, last)]
    normalized = found.layer_norm(x, torch.tensor(scale), torch.tensor(bias), 1e-5)
    q, k, v = (found.linear_epsilon(normalized, each, None, 1e-12) for each in weights[:3])
    logits = found.matmul(q, k.transpose(0, 1), False, 1e-12)
    attended = found.matmul(found.softmax(logits, -1), v, False, 1e-12)
    hidden = found.add2(x, attended, False, 1e-12)
    answers = found.linear_epsilon(hidden, weights[3], None, 1e-12)
    start = torch.zeros_like(answers)
    start[2, 1] = answers[2, 1].detach()
    (expected,) = torch.autograd.grad(answers, x, start)

    def score(image):
        tokens = image[0]
        centered = tokens - tokens.mean(-1, keepdims=True)
        deviation = jnp.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
        normalized = centered / deviation * scale[None] + bias[None]
        q, k, v = (normalized @ each for each in (query, key, value))
        return ((tokens + jax.nn.softmax(q @ k.T) @ v) @ last)[2, 1]

    def composite(operation):
        by_kind = {"affine": rules.epsilon, "sum": rules.epsilon, "product": rules.uniform}
        rule = by_kind.get(operation.kind)
        return rule and functools.partial(rule, epsilon=1e-12)

    assert_allclose(score(tokens), answers[2, 1].item(), rtol=1e-10)
    mine = rules.lrp(score, tokens, composite=composite)
    assert difference(mine[0], expected.numpy()) < 1e-6


def test_lxts_vision_transformer():
    """Ours, of two blocks with two heads, in the functions of AttnLRP's authors."""
    found = imported("lxt.explicit.functional", ALONE)
    generator = np.random.default_rng(6)
    model = jax.tree.map(
        lambda array: jnp.asarray(generator.normal(size=array.shape)) / 2,
        models.VisionTransformer(2, 3, width=8, heads=2, size=(8, 8), patch=4, rngs=nnx.Rngs(0)),
    )
    state = {
        name: torch.tensor(np.asarray(array, np.float64))
        for name, array in models.to_state_dict(model).items()
    }

    def linear(x, name):
        return found.linear_epsilon(x, state[f"{name}.weight"], state[f"{name}.bias"], 1e-12)

    def normalized(x, name):
        return found.layer_norm(x, state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def gelu(x):
        return x + (torch.nn.functional.gelu(x) - x).detach()

    def attended(x, name):
        split = linear(x, f"{name}.qkv").reshape(5, 3, 2, 4).permute(1, 2, 0, 3)
        logits = found.matmul(split[0], split[1].transpose(1, 2), False, 1e-12)
        logits = found.mul2(logits, torch.tensor(0.5))
        sums = found.matmul(found.softmax(logits, -1), split[2], False, 1e-12)
        return linear(sums.transpose(0, 1).reshape(5, 8), f"{name}.proj")

    image = batch(IMAGE)
    # (channels, rows, 4, columns, 4) -> patches of channels by 4 by 4
    patches = image.reshape(3, 2, 4, 2, 4).permute(1, 3, 0, 2, 4).reshape(4, 48)
    kernel = state["patch_embed.proj.weight"].reshape(8, 48)
    embedded = found.linear_epsilon(patches, kernel, state["patch_embed.proj.bias"], 1e-12)
    embedded = found.add2(embedded, state["pos_embed"][0, 1:], False, 1e-12)
    x = torch.cat([state["cls_token"][0] + state["pos_embed"][0, :1], embedded])
    for block in ("blocks.0", "blocks.1"):
        x = found.add2(x, attended(normalized(x, f"{block}.norm1"), f"{block}.attn"), False, 1e-12)
        hidden = gelu(linear(normalized(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = found.add2(x, linear(hidden, f"{block}.mlp.fc2"), False, 1e-12)
    answers = linear(normalized(x, "norm")[:1], "head")[0]
    start = torch.zeros_like(answers)
    start[LABEL] = answers[LABEL].detach()
    (expected,) = torch.autograd.grad(answers, image, start)

    score = scores.logit(model, LABEL)
    assert_allclose(score(IMAGE), answers[LABEL].item(), rtol=1e-10)
    mine = rules.lrp(score, IMAGE, composite=rules.epsilon_everywhere(1e-12))
    # Its layer normalization adds 1e-6 to what it divides by.
    assert difference(mine, expected.numpy()[0].transpose(1, 2, 0)) < 1e-3


def of_shap(network, baselines):
    """SHAP's Deep explainer, (h, w, c)."""
    shap = imported("shap", "the extra bench")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = shap.DeepExplainer(network, torch.tensor(baselines.transpose(0, 3, 1, 2)))
        found = explainer.shap_values(batch(IMAGE).detach(), check_additivity=False)
    return found[0, ..., LABEL].transpose(1, 2, 0)


BASELINES = np.random.default_rng(2).uniform(size=(3, 8, 8, 3))


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("skip", [True, False])
def test_shaps_deep_explainer(skip, pool):
    network = theirs(skip=skip, pool=pool)
    mine = rules.deep_shap(ours(network), IMAGE, baselines=BASELINES)
    assert difference(mine, of_shap(network, BASELINES)) < 1e-6


def test_shaps_deep_explainer_of_rectifiers_without_modules():
    """It takes a functional rectifier's gradient, and stops at one that is used again; ours is what
    it was with a module for each.
    """
    expected = of_shap(theirs(pool="mean"), BASELINES)
    for rectifiers in ("functional", "reused"):
        mine = rules.deep_shap(ours(theirs(rectifiers, pool="mean")), IMAGE, baselines=BASELINES)
        assert difference(mine, expected) < 1e-6
    assert difference(expected, of_shap(theirs("functional", pool="mean"), BASELINES)) > 0.1
    with pytest.raises(RuntimeError, match="size of tensor"):
        of_shap(theirs("reused", pool="mean"), BASELINES)
