"""PyTorch's residual networks, written for the tests from the papers and the published names."""

import torch
from torch import nn
from torch.nn.functional import pad


def convolution(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Block(nn.Module):
    """Basic, or with `bottleneck` 1x1, 3x3, 1x1; `shortcut` is its projection's name, or None."""

    def __init__(self, inputs, width, stride, *, bottleneck, widening, shortcut):
        super().__init__()
        outputs, inner = (4 * width, width * widening) if bottleneck else (width, width)
        if bottleneck:
            layers = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1)]
        else:
            layers = [(inputs, width, 3, stride), (width, width, 3, 1)]
        for index, layer in enumerate(layers, 1):
            setattr(self, f"conv{index}", convolution(*layer))
            setattr(self, f"bn{index}", nn.BatchNorm2d(layer[1]))
        self.depth, self.stride, self.growth = len(layers), stride, outputs - inputs
        self.shortcut_name = shortcut
        if shortcut and (stride > 1 or inputs != outputs):
            projection = nn.Sequential(
                convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )
            setattr(self, shortcut, projection)

    def forward(self, x):
        y = x
        for index in range(1, self.depth + 1):
            y = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(y))
            y = y.relu() if index < self.depth else y
        if self.shortcut_name is None:
            x = pad(x[:, :, :: self.stride, :: self.stride], [0] * 4 + [self.growth // 2] * 2)
        elif hasattr(self, self.shortcut_name):
            x = getattr(self, self.shortcut_name)(x)
        return (x + y).relu()


class ResNet(nn.Module):
    """Torchvision's with its names, or that of CIFAR-10 with a small stem, `shortcut`, `linear`."""

    def __init__(
        self, counts, *, bottleneck=False, widening=1, width=4, classes=7, small=False,
        shortcut="downsample", last="fc",
    ):  # fmt: skip
        super().__init__()
        self.conv1 = convolution(3, width, 3) if small else convolution(3, width, 7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        inputs, self.stages = width, len(counts)
        for stage, count in enumerate(counts):
            blocks = []
            for index in range(count):
                block = Block(
                    inputs,
                    width * 2**stage,
                    2 if stage and not index else 1,
                    bottleneck=bottleneck,
                    widening=widening,
                    shortcut=shortcut,
                )
                inputs = width * 2**stage * (4 if bottleneck else 1)
                blocks.append(block)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.last = last
        setattr(self, last, nn.Linear(inputs, classes))

    def forward(self, x):
        x = self.pool(self.bn1(self.conv1(x)).relu())
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return getattr(self, self.last)(x.mean((2, 3)))


class ConvLayer(nn.Module):
    def __init__(self, inputs, outputs, size, stride=1, *, active=True):
        super().__init__()
        self.convolution = convolution(inputs, outputs, size, stride)
        self.normalization = nn.BatchNorm2d(outputs)
        self.active = active

    def forward(self, x):
        x = self.normalization(self.convolution(x))
        return x.relu() if self.active else x


class HuggingFaceLayer(nn.Module):
    def __init__(self, inputs, outputs, stride, bottleneck):
        super().__init__()
        self.shortcut = (
            ConvLayer(inputs, outputs, 1, stride, active=False)
            if stride > 1 or inputs != outputs
            else nn.Identity()
        )
        inner = outputs // 4
        self.layer = (
            nn.Sequential(
                ConvLayer(inputs, inner, 1),
                ConvLayer(inner, inner, 3, stride),
                ConvLayer(inner, outputs, 1, active=False),
            )
            if bottleneck
            else nn.Sequential(
                ConvLayer(inputs, outputs, 3, stride), ConvLayer(outputs, outputs, 3, active=False)
            )
        )

    def forward(self, x):
        return (self.layer(x) + self.shortcut(x)).relu()


class HuggingFaceResNet(nn.Module):
    def __init__(self, counts, *, bottleneck=False, width=4, classes=7):
        super().__init__()
        inputs, stages = width, []
        for stage, count in enumerate(counts):
            outputs, layers = width * 2**stage * (4 if bottleneck else 1), []
            for index in range(count):
                stride = 2 if stage and not index else 1
                layers.append(HuggingFaceLayer(inputs, outputs, stride, bottleneck))
                inputs = outputs
            stages.append(nn.ModuleDict({"layers": nn.Sequential(*layers)}))
        self.resnet = nn.ModuleDict(
            {
                "embedder": nn.ModuleDict({"embedder": ConvLayer(3, width, 7, 2)}),
                "encoder": nn.ModuleDict({"stages": nn.ModuleList(stages)}),
            }
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))

    def forward(self, x):
        x = nn.functional.max_pool2d(self.resnet["embedder"]["embedder"](x), 3, 2, 1)
        for stage in self.resnet["encoder"]["stages"]:
            x = stage["layers"](x)
        return self.classifier(x.mean((2, 3)))


class PreActBlock(nn.Module):
    """`wide` names its projection as the Wide ResNets do; `raw` gives it the block's input."""

    def __init__(self, inputs, width, stride, *, wide, raw):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), convolution(inputs, width, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), convolution(width, width, 3)
        self.projection, self.raw = None, raw
        if stride > 1 or inputs != width:
            projection = convolution(inputs, width, 1, stride)
            self.projection = "convShortcut" if wide else "shortcut"
            setattr(self, self.projection, projection if wide else nn.Sequential(projection))

    def forward(self, x):
        active = self.bn1(x).relu()
        y = self.conv2(self.bn2(self.conv1(active)).relu())
        if self.projection:
            x = getattr(self, self.projection)(x if self.raw else active)
        return x + y


class PreActResNet(nn.Module):
    def __init__(self, counts, *, width, stem_width, wide, raw=False, final_norm=True, classes=7):
        super().__init__()
        self.conv1 = convolution(3, stem_width, 3)
        inputs, self.stages = stem_width, []
        for stage, count in enumerate(counts):
            blocks = []
            for index in range(count):
                stride = 2 if stage and not index else 1
                blocks.append(PreActBlock(inputs, width * 2**stage, stride, wide=wide, raw=raw))
                inputs = width * 2**stage
            body = nn.Sequential(*blocks)
            name = f"block{stage + 1}" if wide else f"layer{stage + 1}"
            setattr(self, name, nn.ModuleDict({"layer": body}) if wide else body)
            self.stages.append(name)
        self.norm = ("bn1" if wide else "bn") if final_norm else None
        if final_norm:
            setattr(self, self.norm, nn.BatchNorm2d(inputs))
        self.last = "fc" if wide else "linear"
        setattr(self, self.last, nn.Linear(inputs, classes))

    def forward(self, x):
        x = self.conv1(x)
        for name in self.stages:
            stage = getattr(self, name)
            x = (stage["layer"] if isinstance(stage, nn.ModuleDict) else stage)(x)
        if self.norm:
            x = getattr(self, self.norm)(x).relu()
        return getattr(self, self.last)(x.mean((2, 3)))


def randomized(network, seed=0):
    """The network with statistics and scales that are not the identity, in inference mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.3, 0.9, generator=generator)
            module.bias.data.uniform_(-0.3, 0.3, generator=generator)
            module.running_mean.uniform_(-0.3, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fan = module.weight[0].numel()
            module.weight.data.normal_(0, fan**-0.5, generator=generator)
    return network.eval()


def logits_and_gradient(network, images, weights):
    """Logits (n, k) and the input gradient of their weighted sum, of images (n, h, w, c)."""
    network = network.double()
    images = torch.tensor(images, dtype=torch.float64, requires_grad=True)
    logits = network(images.permute(0, 3, 1, 2))
    (gradient,) = torch.autograd.grad((logits * torch.tensor(weights)).sum(), images)
    network.float()
    return logits.detach().numpy(), gradient.numpy()
