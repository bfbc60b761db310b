"""Classifiers: the ResNet, and trained ones by name.

Any callable PyTree from one image (h, w, c) to logits (k,) is a model for this library; these are
the ones that come with it.
"""

from .checkpoints import available as available
from .checkpoints import load as load
from .checkpoints import save as save
from .convolution import convolution as convolution
from .resnet import HALVING_STEM as HALVING_STEM
from .resnet import IMAGENET_STEM as IMAGENET_STEM
from .resnet import SMALL_IMAGE_STEM as SMALL_IMAGE_STEM
from .resnet import ResNet as ResNet
from .resnet import Stem as Stem
