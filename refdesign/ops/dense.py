"""Binary dense layers: dot products of packed bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import WORD, PackedBits, check_packed, pack_bool, unpack
from refdesign.errors import RefdesignError
from refdesign.ops.products import count_differences


def binary_dense(x: PackedBits, w: PackedBits) -> NDArray[np.int32]:
    """The accumulators of a dense layer: a[n, o] = sum over i of x[n, i]*w[o, i] (docs/method.md, section 2).

    Args:
        x: packed inputs, shape (N, I); elements may be 0 (`PackedBits.nonzero`).
        w: packed weights of ±1, shape (O, I).

    Returns:
        int32, shape (N, O).

    Raises:
        RefdesignError: shapes that do not fit, or weights that carry zeros.

    >>> from refdesign.bits import pack
    >>> binary_dense(pack([[1, 1, -1]]), pack([[1, 1, -1], [-1, -1, -1]]))
    array([[ 3, -1]], dtype=int32)
    """
    return PreparedDense(w)(x)


class PreparedDense:
    """A dense layer's weights, laid out once for `binary_dense`.

    Args:
        w: packed weights of ±1, shape (O, I).

    Raises:
        RefdesignError: another shape, or weights that carry zeros.

    >>> from refdesign.bits import pack
    >>> layer = PreparedDense(pack([[1, 1, -1], [-1, -1, -1]]))
    >>> layer(pack([[1, 1, -1]]))
    array([[ 3, -1]], dtype=int32)
    """

    def __init__(self, w: PackedBits) -> None:
        check_packed("binary_dense, weights", w)
        if w.words.ndim != 2 or w.nonzero is not None:
            found = f"shape {w.shape}" if w.nonzero is None else "elements that are 0"
            raise RefdesignError(f"binary_dense, weights: found {found}, expected ±1 of shape (O, I)")
        self._length = w.length
        self._columns = np.ascontiguousarray(w.words.T)

    def __call__(self, x: PackedBits) -> NDArray[np.int32]:
        """The accumulators of packed inputs (N, I): int32, (N, O)."""
        check_packed("binary_dense, inputs", x)
        if x.words.ndim != 2 or x.length != self._length:
            raise RefdesignError(f"binary_dense, inputs: found shape {x.shape}, expected (N, {self._length})")
        nonzero = None if x.nonzero is None else np.ascontiguousarray(x.nonzero.T)
        differ = count_differences(np.ascontiguousarray(x.words.T), self._columns, nonzero)
        result = np.empty(differ.shape, dtype=np.int32)
        np.copyto(result, differ)
        result *= -2
        result += (
            self._length
            if x.nonzero is None
            else np.bitwise_count(x.nonzero).sum(axis=1, dtype=np.int32, keepdims=True)
        )
        return result


def flatten_bits(x: PackedBits) -> PackedBits:
    """Flatten maps as (row, column, channel), without gaps between the pixels.

    Args:
        x: shape (N, H, W, C), or (N, C), which comes back as it is.

    Returns:
        Packed bits of shape (N, H*W*C).

    Raises:
        RefdesignError: another number of axes.

    >>> from refdesign.bits import pack
    >>> flatten_bits(pack(np.ones((1, 2, 1, 3)))).words
    array([[63]], dtype=uint64)
    """
    if x.words.ndim == 2:
        return x
    if x.words.ndim != 4:
        raise RefdesignError(f"flatten_bits: found shape {x.shape}, expected (N, H, W, C)")
    n, height, width, channels = x.shape
    length = height * width * channels
    if channels % WORD == 0:
        flat = (n, length // WORD)
        return PackedBits(x.words.reshape(flat), length, None if x.nonzero is None else x.nonzero.reshape(flat))
    values = unpack(x).reshape(n, length)
    words = pack_bool(values > 0)
    return words if x.nonzero is None else PackedBits(words.words, length, pack_bool(values != 0).words)
