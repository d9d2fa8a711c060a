"""Packed binary layers in JAX, and float ones with straight-through gradients, as pure functions.

Importing this package needs JAX, which the extra `jax` brings.

>>> import numpy as np
>>> from refdesign.api import pretrained
>>> engine = compile(pretrained("digits"))
>>> engine(np.zeros((1, 8, 8, 1), np.uint8), outputs="all")["logits"].dtype
dtype('float32')
"""

from refdesign.errors import missing_extra

try:
    import jax as _jax  # noqa: F401
except ImportError as error:
    raise missing_extra("jax", "jax") from error

from refdesign.frameworks.jax.engine import JaxPath, compile, layer_function

__all__ = ["JaxPath", "compile", "layer_function"]
