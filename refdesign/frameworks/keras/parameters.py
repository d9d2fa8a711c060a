"""What Keras computes of a batch norm, read out of it."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.parameters import BatchNorm

PROGRAMS: dict[str, str] = {"tensorflow": "keras", "jax": "torch"}
"""By backend, the `Conventions.arithmetic` of `predict` on the CPU, with the k that `read_batch_norm` reads out.

TensorFlow rounds y = fl(fl(v*k) + c) eagerly and in a graph. JAX compiles `predict`, and fuses: y = fma(v, k, c) with
c = fma(-mean, k, beta); called eagerly it rounds like TensorFlow. PyTorch's backend computes another program,
fl(fl(fl(v - mean) * k) + beta), which has no name, and so has TensorFlow under XLA (docs/arithmetic.md).
"""


def program(arithmetic: str | None) -> str:
    """The arithmetic that is meant: the one given, or that of the backend.

    Raises:
        RefdesignError: none given, on a backend whose program has no name.

    >>> program("real")
    'real'
    """
    backend = keras.backend.backend()
    if arithmetic is None and backend not in PROGRAMS:
        raise RefdesignError(
            f"arithmetic: found the backend {backend!r}, whose batch norm is no arithmetic that has a name, expected "
            f"one of {', '.join(PROGRAMS)}, or an arithmetic that the network is meant under"
        )
    return PROGRAMS[backend] if arithmetic is None else arithmetic


def reads_k(arithmetic: str) -> bool:
    """Whether the arithmetic rests on the backend's own reciprocal square root.

    >>> reads_k("real")
    False
    """
    backend = keras.backend.backend()
    return backend in PROGRAMS and arithmetic in (PROGRAMS[backend], "keras")


def read_batch_norm(layer: keras.layers.BatchNormalization) -> BatchNorm:
    """A batch norm with the k that Keras's inference computes from it on TensorFlow or JAX (docs/method.md, section 3).

    k = fl(gamma * rsqrt(variance + epsilon)) takes the backend's own reciprocal square root, which is not correctly
    rounded; so it is asked for, not recomputed. c follows from k by the arithmetic, `"keras"` or `"torch"`.

    Args:
        layer: built, float32, over the last axis.

    Raises:
        RefdesignError: a backend whose program has no name, a layer that is not built, another dtype or axis.

    >>> layer = keras.layers.BatchNormalization(epsilon=0.25)
    >>> layer.build((None, 2))
    >>> layer.set_weights([np.full(2, value, np.float32) for value in (3, 0.5, 7, 3.75)])
    >>> if keras.backend.backend() in PROGRAMS:
    ...     found = read_batch_norm(layer)
    ...     assert found.k is not None and abs(found.k[0] - 1.5) < 1e-6 and found.mean[0] == 7
    """
    backend = keras.backend.backend()
    if backend not in PROGRAMS:
        raise RefdesignError(
            f"read_batch_norm: found the backend {backend!r}, whose batch norm is no arithmetic that has a name, "
            f"expected one of {', '.join(PROGRAMS)}"
        )
    bn = batch_norm_of(layer)
    root = array_of(ops.rsqrt(ops.convert_to_tensor(bn.variance + np.float32(bn.epsilon))))
    return BatchNorm(bn.gamma, bn.beta, bn.mean, bn.variance, bn.epsilon, k=bn.gamma * root)


def batch_norm_of(layer: keras.layers.BatchNormalization) -> BatchNorm:
    """A batch norm's parameters as they are, without k.

    Raises:
        RefdesignError: a layer that is not built, another dtype or axis.

    >>> layer = keras.layers.BatchNormalization(scale=False)
    >>> layer.build((None, 2))
    >>> batch_norm_of(layer).gamma.tolist()
    [1.0, 1.0]
    """
    if not layer.built or layer.dtype != "float32":
        raise RefdesignError(f"read_batch_norm, layer {layer.name!r}: expected a built float32 layer")
    if layer.axis not in (-1, layer.input_spec.ndim - 1):
        raise RefdesignError(f"read_batch_norm, layer {layer.name!r}: found axis {layer.axis}, expected the last")
    mean, variance = array_of(layer.moving_mean), array_of(layer.moving_variance)
    gamma = array_of(layer.gamma) if layer.scale else np.ones_like(mean)
    # Without beta c is -mean*k, which is -0.0 where the mean is 0.
    beta = array_of(layer.beta) if layer.center else -np.zeros_like(mean)
    return BatchNorm(gamma, beta, mean, variance, layer.epsilon)


def array_of(tensor: Any) -> NDArray[Any]:
    """A tensor or variable of the backend as an array of its own.

    >>> array_of(ops.ones((2,)))
    array([1., 1.], dtype=float32)
    """
    with warnings.catch_warnings():
        # Keras's variables, and PyTorch's tensors, do not know the arguments by which NumPy 2 asks for an array, and
        # work all the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.array(ops.convert_to_numpy(tensor))
