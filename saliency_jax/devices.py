"""The devices that long work is shared out among: a processor's cores, or accelerators.

Where a mesh is set, every method shares out its path steps, samples and masks, also those of one
image:

    with jax.set_mesh(devices.mesh()):
        attribution = explain(score, image)

JAX makes each core of a processor a device where `jax.config.update("jax_num_cpu_devices", n)`, or
the environment's JAX_NUM_CPU_DEVICES, says so before its first computation.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ._chunks import vmap_shared
from ._types import Count
from ._validation import check_callable, check_count

AXIS = "devices"


def mesh(count: Count | None = None) -> jax.sharding.Mesh:
    """A mesh of this process's devices along one axis, which JAX may share work out along.

    Under `jax.set_mesh(mesh)` whatever is computed is computed on every device, each alike, but for
    what is shared out: what methods do in chunks, what `runs.sweep` does at its points, and what is
    done on arrays that are laid out along the axis. A method that is called eagerly is slowed by
    it: compile what calls it.

    On two idle cores and images of 64 pixels, 32 at once, integrated gradients, SmoothGrad, maps,
    ten class visualizations and 64 attacks took 0.59 to 0.69 of the time on one device, which has
    both cores' threads too, RISE, Kernel SHAP, occlusion and insertion 0.74 to 0.84
    (`experiments/benchmarks/peers.py`). Give each device 12 images at once or more: of 8, forward
    passes alone took longer than on one device, 1.06 to 1.15 times. What a method does for one
    image makes the devices meet after every chunk, so that it is for cores that nothing else wants:
    under a load of 10 to 20 it took 1.2 to 2.6 times as long.

    Args:
      count: of how many devices, the first ones; all if None.

    Returns:
      The mesh, whose one axis is `devices.AXIS`.

    Raises:
      TypeError: count is not an integer.
      ValueError: count is below 1 or above the number of devices.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, devices
      >>> @jax.jit
      ... def explain(image):
      ...     return attribution.integrated_gradients(jnp.sum, image)
      >>> with jax.set_mesh(devices.mesh()):
      ...     print(explain(jnp.ones((1, 2, 1))).squeeze().round(4))
      [1. 1.]

    Reference:
      Bradbury et al., JAX: composable transformations of Python+NumPy programs, 2018, on sharding
      (not on arXiv).
    """
    local = jax.local_devices()
    if count is not None and check_count("the number of devices", count, 1) > len(local):
        raise ValueError(f"expected the number of devices to be at most {len(local)}, got {count}")
    return jax.sharding.Mesh(np.array(local[:count]), (AXIS,))


def vmap(function: Callable) -> Callable:
    """`jax.vmap` of a function along all its arguments' first axes, shared out among the devices.

    Without a mesh it is `jax.vmap(function)`. Of a batch that is a multiple of their number each
    device keeps its part of the result, and none waits for another; any other is filled up.

    Args:
      function: from PyTrees of arrays to a PyTree of arrays.

    Returns:
      The function of batches, whose arrays all have one length along their first axes.

    Raises:
      TypeError: function is not callable.

    Example:
      Sixty-four attacks, as `jax.jit` of it would compile them:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attacks, devices
      >>> def attacked(image):
      ...     return attacks.fgsm(jnp.sum, image, epsilon=0.1)
      >>> with jax.set_mesh(devices.mesh()):
      ...     print(jax.jit(devices.vmap(attacked))(jnp.zeros((64, 1, 2, 1))).max())
      0.1

    Reference:
      Bradbury et al., JAX: composable transformations of Python+NumPy programs, 2018, on vmap and
      sharding (not on arXiv).
    """
    check_callable("function", function)

    def mapped(*batches: Any) -> Any:
        return vmap_shared(lambda arguments: function(*arguments), batches)

    return mapped
