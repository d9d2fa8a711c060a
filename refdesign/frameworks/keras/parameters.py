"""What Keras computes of a batch norm, read out of it."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from refdesign.errors import RefdesignError
from refdesign.parameters import BatchNorm


def read_batch_norm(layer: keras.layers.BatchNormalization) -> BatchNorm:
    """A batch norm with the k and c that Keras's inference computes from it on TensorFlow (docs/method.md, section 3).

    k = fl(gamma * rsqrt(variance + epsilon)) takes TensorFlow's own reciprocal square root, which is not correctly
    rounded; so it is asked for, not recomputed. The result is that of eager and graph execution on the CPU; XLA
    (`jit_compile=True`) computes another program.

    Args:
        layer: built, float32, over the last axis.

    Raises:
        RefdesignError: another backend than TensorFlow, a layer that is not built, or another dtype.
    """
    if keras.backend.backend() != "tensorflow":
        raise RefdesignError(
            f"read_batch_norm: found the backend {keras.backend.backend()!r}, expected 'tensorflow': the arithmetic "
            "'keras' is measured there"
        )
    if not layer.built or layer.dtype != "float32":
        raise RefdesignError(f"read_batch_norm, layer {layer.name!r}: expected a built float32 layer")
    mean, variance = (np.asarray(ops.convert_to_numpy(v)) for v in (layer.moving_mean, layer.moving_variance))
    gamma = np.asarray(ops.convert_to_numpy(layer.gamma)) if layer.scale else np.ones_like(mean)
    beta = np.asarray(ops.convert_to_numpy(layer.beta)) if layer.center else np.zeros_like(mean)
    root = np.asarray(ops.convert_to_numpy(ops.rsqrt(ops.convert_to_tensor(variance + np.float32(layer.epsilon)))))
    k = gamma * root
    return BatchNorm(gamma, beta, mean, variance, layer.epsilon, k=k, c=beta - mean * k)
