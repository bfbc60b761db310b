"""Classifiers: networks cut at named layers, and trained ones by name.

`load` gives a `Classifier`: a network, and the record of what it takes and knows. Its `preprocess`
makes the network's input of any file or array, and its `network` is the model that every method of
this library takes:

    classifier = models.load("tiny-imagenet-robust")
    image = classifier.preprocess("photograph.jpg")
    score = scores.logit(classifier.network, classifier.label("lemon"))
    attribution.grad_cam(score, image, layer=classifier.network.layer("stage 4"))

Any callable PyTree from one image (h, w, c) to logits (k,) is a model; the networks here take one
image too, and a batch is `jax.vmap(network)(images)`. They are sequences of named parts: `layers`
lists the names, and `layer(name)` cuts the sequence in two behind one. Normalization is the first
part of a network, so that its input is in [0, 1]. `for_inference` makes the same network with less
to compute, for use and not for training.

A network of your own that takes batches, in inference mode, becomes a model by a function that is
defined once, so that it compiles once, and takes the weights as an argument:

    def single(network, image):  # Flax NNX, Equinox: the network is a PyTree
        return network(image[None])[0]  # Equinox: network(image.transpose(2, 0, 1))

    model = jax.tree_util.Partial(single, network)

    def single(variables, image):  # Flax Linen
        return module.apply(variables, image[None], train=False)[0]

    def single(variables, image):  # Keras on JAX; 255 * image if it takes bytes
        return keras_model.stateless_call(*variables, image[None], training=False)[0][0]

    arrays = [[v.value for v in keras_model.trainable_variables],
              [v.value for v in keras_model.non_trainable_variables]]
    model = jax.tree_util.Partial(single, arrays)

PyTorch's weights of these networks are read by `load(name, path=...)`, or by `read_state_dict` and
`from_state_dict` into an architecture of your choice.

What means the same everywhere here:

  num_classes: the number of logits k.
  channels: channels of the image.
  mean, std: per channel, what is subtracted from the image, in units of [0, 1], and what the
    difference is divided by; 0 and 1 if left out.
  rngs: where the initial weights come from.
"""

from ._checkpoints import available as available
from ._checkpoints import bundled as bundled
from ._checkpoints import checksums as checksums
from ._checkpoints import load as load
from ._checkpoints import save as save
from ._classifier import Classifier as Classifier
from ._classifier import Input as Input
from ._config import card as card
from ._convnext import ConvNext as ConvNext
from ._convolution import convolution as convolution
from ._convolution import depthwise_convolution as depthwise_convolution
from ._convolution import same_padding as same_padding
from ._efficientnet_lite import EfficientNetLite as EfficientNetLite
from ._inference import for_inference as for_inference
from ._parts import Network as Network
from ._preact import PreActResNet as PreActResNet
from ._published import Description as Description
from ._published import Weights as Weights
from ._published import imagenet_classes as imagenet_classes
from ._resnet import HALVING_STEM as HALVING_STEM
from ._resnet import IMAGENET_STEM as IMAGENET_STEM
from ._resnet import SMALL_IMAGE_STEM as SMALL_IMAGE_STEM
from ._resnet import ResNet as ResNet
from ._resnet import Stem as Stem
from ._torch_files import read_state_dict as read_state_dict
from ._torch_names import from_state_dict as from_state_dict
from ._torch_names import to_state_dict as to_state_dict
from ._vision_transformer import VisionTransformer as VisionTransformer
