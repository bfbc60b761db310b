"""Classifiers: the ResNet, and trained ones by name.

Any callable PyTree from one image (h, w, c) to logits (k,) is a model for this library; those here
come with it. A network of your own, in inference mode, becomes one by a function that is defined
once, so that it compiles once, and takes the weights as an argument:

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

PyTorch's weights of a ResNet are read by `load(name, path=...)`, or by `read_state_dict` and
`from_state_dict` into an architecture of your choice. Normalization belongs inside the model.
"""

from .checkpoints import available as available
from .checkpoints import bundled as bundled
from .checkpoints import load as load
from .checkpoints import save as save
from .convolution import convolution as convolution
from .preact import PreActResNet as PreActResNet
from .published import Description as Description
from .published import Weights as Weights
from .published import imagenet_classes as imagenet_classes
from .resnet import HALVING_STEM as HALVING_STEM
from .resnet import IMAGENET_STEM as IMAGENET_STEM
from .resnet import SMALL_IMAGE_STEM as SMALL_IMAGE_STEM
from .resnet import ResNet as ResNet
from .resnet import Stem as Stem
from .signals import SignalResNet as SignalResNet
from .spectrogram_resnet import SpectrogramResNet as SpectrogramResNet
from .torch_files import read_state_dict as read_state_dict
from .torch_names import from_state_dict as from_state_dict
from .torch_names import to_state_dict as to_state_dict
