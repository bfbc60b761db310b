"""The tasks of `peers.py` by the libraries on PyTorch, each as its own documentation has it.

What Captum does not have is a plain loop here, as one would write it in PyTorch: RISE, class
visualization, PGD, insertion and deletion.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _tasks import (
    ATTACK_STEPS,
    EPSILON,
    LEARNING_RATE,
    NOISE_SCALE,
    RISE_CELLS,
    STEP_SIZE,
    Inputs,
    curve_counts,
    windows,
)
from _torch_networks import EfficientNetLite0, Sum, ready, resnet
from torch import nn
from torch.nn.functional import interpolate

Call = Callable[[], Any]
LAYOUTS = {"channels_last": torch.channels_last}


class OnTorch:
    """A network and images in PyTorch; see `_turns` for what is made of them.

    `layout` is "default", "channels_last" or "compiled".
    """

    def __init__(
        self,
        *,
        inputs: Inputs,
        batch_size: int,
        dtype: str,
        device: str,
        threads: int,
        layout: str = "default",
    ):
        torch.set_num_threads(threads)
        self.inputs, self.batch_size, self.dtype = inputs, batch_size, getattr(torch, dtype)
        self.device, self.layout = device, LAYOUTS.get(layout, torch.contiguous_format)
        made = resnet(inputs.settings, inputs.weights) if inputs.weights else EfficientNetLite0()
        self.network: Any = ready(made).to(device, self.dtype).to(memory_format=self.layout)
        self.forward = torch.compile(self.network) if layout == "compiled" else self.network
        self.is_compiled = layout == "compiled"
        self.labels = torch.tensor(inputs.labels, dtype=torch.int64, device=device)

    def tensor(self, images: np.ndarray) -> torch.Tensor:
        """Images (n, h, w, c) as PyTorch has them, (n, c, h, w)."""
        tensor = torch.tensor(images.transpose(0, 3, 1, 2)).to(self.device, self.dtype)
        return tensor.contiguous(memory_format=self.layout)

    def images(self, count: int) -> torch.Tensor:
        return self.tensor(self.inputs.images[:count])

    def finish(self, result: Any) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()

    def array(self, result: Any) -> np.ndarray:
        """Images (n, c, h, w) as (n, h, w, c), and all else as it is."""
        if not isinstance(result, torch.Tensor):
            return np.asarray(result, np.float32)
        values = result.detach().float().cpu().numpy()
        return values.transpose(0, 2, 3, 1) if values.ndim == 4 else values


class Captum(OnTorch):
    """Captum, and plain loops where it has nothing."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.attr = importlib.import_module("captum.attr")

    def _check_hooks(self) -> None:
        if self.is_compiled:
            raise ValueError("hooks are not called in a compiled network")

    def saliency(self, count: int) -> Call:
        images, labels = self.images(count), self.labels[:count]
        method = self.attr.Saliency(self.forward)
        return lambda: method.attribute(images, target=labels).amax(1)

    def several_labels(self, count: int) -> Call:
        images = self.images(1).expand(count, -1, -1, -1)
        labels = torch.arange(count, device=self.device)
        method = self.attr.Saliency(self.forward)
        return lambda: method.attribute(images, target=labels).amax(1)

    def smoothgrad(self, count: int) -> Call:
        image, label = self.images(1), self.labels[:1]
        tunnel = self.attr.NoiseTunnel(self.attr.Saliency(self.forward))
        sigma = NOISE_SCALE * float(image.max() - image.min())
        options = {"nt_samples": count, "nt_samples_batch_size": self.batch_size, "stdevs": sigma}
        return lambda: tunnel.attribute(image, target=label, abs=False, **options)

    def integrated_gradients(self, count: int) -> Call:
        image, label = self.images(1), self.labels[:1]
        method = self.attr.IntegratedGradients(self.forward)
        options = {"method": "riemann_middle", "internal_batch_size": self.batch_size}
        return lambda: method.attribute(image, target=label, n_steps=count, **options)

    def grad_cam(self, count: int) -> Call:
        self._check_hooks()
        images, labels = self.images(count), self.labels[:count]
        method = self.attr.LayerGradCam(self.network, self.network.last_map)

        def call():
            cam = method.attribute(images, target=labels, relu_attributions=True)
            upsampled = self.attr.LayerAttribution.interpolate(cam, images.shape[2:], "bilinear")
            return upsampled[:, 0]

        return call

    def occlusion(self, count: int) -> Call:
        image, label = self.images(1), self.labels[:1]
        window, stride = windows(image.shape[-1], count)
        method = self.attr.Occlusion(self.forward)
        options = {
            "sliding_window_shapes": (3, window, window),
            "strides": (3, stride, stride),
            "perturbations_per_eval": self.batch_size,
        }
        return lambda: method.attribute(image, target=label, **options)[:, 0]

    def kernel_shap(self, count: int) -> Call:
        image, label = self.images(1), self.labels[:1]
        mask = torch.tensor(self.inputs.segments, dtype=torch.int64, device=self.device)[None, None]
        method = self.attr.KernelShap(self.forward)
        options = {"n_samples": count, "perturbations_per_eval": self.batch_size}
        return lambda: method.attribute(image, target=label, feature_mask=mask, **options)[:, 0]

    def guided_backprop(self, count: int) -> Call:
        self._check_hooks()
        images, labels = self.images(count).requires_grad_(), self.labels[:count]
        method = self.attr.GuidedBackprop(self.network)
        return lambda: method.attribute(images, target=labels)

    def rise(self, count: int) -> Call:
        image, label = self.images(1), self.inputs.labels[0]
        side = image.shape[-1]
        cell = -(-side // RISE_CELLS)

        @torch.inference_mode()
        def call():
            total = torch.zeros_like(image[0, 0])
            for start in range(0, count, self.batch_size):
                drawn = min(self.batch_size, count - start)
                shape = (drawn, 1, RISE_CELLS, RISE_CELLS)
                grids = (torch.rand(shape, device=self.device) < 0.5).to(self.dtype)
                large = interpolate(grids, size=((RISE_CELLS + 1) * cell,) * 2, mode="bilinear")
                corners = torch.randint(cell, (drawn, 2)).tolist()
                cut = [
                    mask[:, top : top + side, left : left + side]
                    for mask, (top, left) in zip(large, corners, strict=True)
                ]
                masks = torch.stack(cut)
                scores = self.forward(image * masks).softmax(1)[:, label]
                total += (scores[:, None, None] * masks[:, 0]).sum(0)
            return (total / count / 0.5)[None]

        return call

    def visualization(self, count: int) -> Call:
        starts = self.tensor(self.inputs.starts)
        labels = torch.arange(len(starts), device=self.device)[:, None]

        def call():
            images = starts.clone().requires_grad_()
            optimizer = torch.optim.Adam([images], lr=LEARNING_RATE, maximize=True)
            values = []
            for _ in range(count):
                optimizer.zero_grad()
                score = self.forward(images).gather(1, labels)[:, 0]
                score.sum().backward()
                optimizer.step()
                with torch.no_grad():
                    images.clamp_(0, 1)
                values.append(score.detach())
            return torch.stack(values, 1)

        return call

    def pgd(self, count: int) -> Call:
        images, labels = self.images(count), self.labels[:count, None]

        def norms(perturbations):
            return perturbations.flatten(1).norm(dim=1)[:, None, None, None]

        def call():
            adversarial = images
            for _ in range(ATTACK_STEPS):
                seen = adversarial.detach().requires_grad_()
                loss = -self.forward(seen).log_softmax(1).gather(1, labels)
                (slope,) = torch.autograd.grad(loss.sum(), seen)
                moved = seen.detach() + STEP_SIZE * slope / norms(slope) - images
                kept = moved * (EPSILON / norms(moved)).clamp(max=1)
                adversarial = (images + kept).clamp(0, 1)
            return adversarial - images

        return call

    def deletion(self, count: int) -> Call:
        return self._curves(count, deleted=True)

    def insertion(self, count: int) -> Call:
        return self._curves(count, deleted=False)

    def _curves(self, count: int, *, deleted: bool) -> Call:
        images, maps = self.images(count), torch.tensor(self.inputs.maps[:count])
        maps = maps.to(self.device)
        changed = torch.tensor(curve_counts(maps[0].numel()), device=self.device)

        @torch.inference_mode()
        def call():
            curves = []
            for image, saliency_map, label in zip(images, maps, self.inputs.labels, strict=False):
                rank = saliency_map.flatten().argsort(descending=True).argsort()
                rank = rank.reshape(saliency_map.shape)
                values = []
                for counts in changed.split(self.batch_size):
                    inside = (rank < counts[:, None, None])[:, None]
                    shown = image * (~inside if deleted else inside)
                    values.append(self.forward(shown).softmax(1)[:, label])
                curves.append(torch.cat(values))
            return torch.stack(curves)

        return call


class PairSaliency(OnTorch):
    """The package saliency of Google's PAIR, which asks for gradients by a function."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.core = importlib.import_module("saliency.core")
        self.image = self.inputs.images[0]

    def _model(self, number: int = 0) -> Callable:
        """Its function of the network, for the label of an image."""
        label = int(self.inputs.labels[number])

        def call(images, call_model_args=None, expected_keys=()):
            tensor = self.tensor(np.asarray(images, np.float32)).requires_grad_()
            maps: list[torch.Tensor] = []
            hook = self.network.last_map.register_forward_hook(lambda *seen: maps.append(seen[-1]))
            score = self.forward(tensor)[:, label].sum()
            hook.remove()
            if self.core.INPUT_OUTPUT_GRADIENTS in expected_keys:
                (slope,) = torch.autograd.grad(score, tensor)
                return {self.core.INPUT_OUTPUT_GRADIENTS: self.array(slope)}
            (slope,) = torch.autograd.grad(score, maps[0])
            return {
                self.core.CONVOLUTION_LAYER_VALUES: self.array(maps[0]),
                self.core.CONVOLUTION_OUTPUT_GRADIENTS: self.array(slope),
            }

        return call

    def saliency(self, count: int) -> Call:
        method = self.core.GradientSaliency()
        cases = [(self.inputs.images[number], self._model(number)) for number in range(count)]
        return lambda: np.stack([np.abs(method.GetMask(*case)).max(-1) for case in cases])

    def smoothgrad(self, count: int) -> Call:
        method, model = self.core.GradientSaliency(), self._model()
        options = {"stdev_spread": NOISE_SCALE, "nsamples": count, "magnitude": False}
        return lambda: method.GetSmoothedMask(self.image, model, **options)[None]

    def integrated_gradients(self, count: int) -> Call:
        method, model = self.core.IntegratedGradients(), self._model()
        options = {"x_steps": count, "batch_size": self.batch_size}
        return lambda: method.GetMask(self.image, model, **options)[None]

    def grad_cam(self, count: int) -> Call:
        method, model = self.core.GradCam(), self._model()
        return lambda: method.GetMask(self.image, model, three_dims=False)[None]


class GradCam(OnTorch):
    """The package grad-cam."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.package = importlib.import_module("pytorch_grad_cam")
        self.targets = importlib.import_module("pytorch_grad_cam.utils.model_targets")

    def grad_cam(self, count: int) -> Call:
        images = self.images(count).requires_grad_()
        method = self.package.GradCAM(model=self.network, target_layers=[self.network.last_map])
        wanted = [self.targets.ClassifierOutputTarget(int(label)) for label in self.labels[:count]]
        return lambda: method(input_tensor=images, targets=wanted)


class Stacked(nn.Module):
    """A residual addition as Zennit knows it."""

    def __init__(self, layers: Any):
        super().__init__()
        self.sum = layers.Sum()

    def forward(self, shortcut, residual):
        return self.sum(torch.stack([shortcut, residual], dim=-1))


class Zennit(OnTorch):
    """Zennit: guided backpropagation, and relevance by epsilon and z+."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        names = ("composites", "canonizers", "layer", "rules", "types")
        modules = (importlib.import_module(f"zennit.{name}") for name in names)
        self.composites, self.canonizers, layers, self.rules, self.types = modules
        blocks = [module for module in self.network.modules() if hasattr(module, "sum")]
        for block in blocks:
            if isinstance(block.sum, Sum):
                block.sum = Stacked(layers)
        # Its rules know no normalization, which would pass for a layer without one.
        self.normalization, self.network.normalization = self.network.normalization, nn.Identity()

    def guided_backprop(self, count: int) -> Call:
        images = self.images(count).requires_grad_()
        return self._by(self.composites.GuidedBackprop(), images, self.normalization)

    def lrp(self, count: int) -> Call:
        # Its z+ shares out to the bias too, which deep Taylor's does not.
        without_bias = self.rules.ZPlus(zero_params=["bias"])
        composite = self.composites.EpsilonPlus(
            layer_map=[(self.types.Convolution, without_bias)],
            canonizers=[self.canonizers.SequentialMergeBatchNorm()],
        )
        return self._by(composite, self.normalization(self.images(count)).requires_grad_(), None)

    def _by(self, composite: Any, images: Any, normalization: Any) -> Call:
        """What arrives of the logits' gradient at images to be normalized, else of the score."""
        labels = self.labels[: len(images), None]

        def call():
            with composite.context(self.network) as modified:
                logits = modified(normalization(images) if normalization else images)
                ones = torch.zeros_like(logits).scatter_(1, labels, 1.0)
                start = ones if normalization else ones * logits.detach()
                (found,) = torch.autograd.grad(logits, images, start)
            return found

        return call


class Quantus(OnTorch):
    """Quantus, whose pixel flipping is deletion from the second value of a curve on."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.package = importlib.import_module("quantus")

    def deletion(self, count: int) -> Call:
        images = self.inputs.images[:count].transpose(0, 3, 1, 2).copy()
        maps, labels = self.inputs.maps[:count, None], self.inputs.labels[:count]
        # It repeats a map for each channel, so that three of its steps take as many pixels as ours.
        features = curve_counts(maps[0].size)[1]

        def call():
            metric = self.package.PixelFlipping(
                features_in_step=features, perturb_baseline=0.0, abs=False, normalise=False,
                disable_warnings=True,
            )  # fmt: skip
            curves = metric(
                model=self.network, x_batch=images, y_batch=labels, a_batch=maps,
                channel_first=True, device=self.device,
            )  # fmt: skip
            return np.asarray(curves)[:, 2::3]

        return call
