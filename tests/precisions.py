"""The precisions that scores and methods are held to, beside single."""

import contextlib

import jax
import jax.numpy as jnp

# The dtypes of image and weights, whether JAX has double precision, and what rounding may do, as a
# share of the largest value.
PRECISIONS = {
    "float16": (jnp.float16, jnp.float16, False, 0.01),
    "bfloat16": (jnp.bfloat16, jnp.bfloat16, False, 0.05),
    "bfloat16 model": (jnp.float32, jnp.bfloat16, False, 0.05),
    "float32 beside double": (jnp.float32, jnp.float32, True, 1e-4),
    "float64": (jnp.float64, jnp.float64, True, 1e-4),
}


@contextlib.contextmanager
def strictly(double):
    """No type is promoted to another, and JAX has double precision or not."""
    # JAX's newer name for the switch, or its older one.
    switch = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with switch(double), jax.numpy_dtype_promotion("strict"):
        yield
