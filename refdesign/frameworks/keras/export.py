"""From a trained Keras model to a golden network: parameters are copied, nothing is folded or rounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from refdesign.api import Network
from refdesign.bits import pack
from refdesign.conventions import PAPER
from refdesign.errors import RefdesignError
from refdesign.frameworks.exporting import refuse_changed, shared_conventions
from refdesign.frameworks.keras.design import BatchNormDeSign, DeSign
from refdesign.frameworks.keras.layers import BinaryConv2D, BinaryDense, PixelInput
from refdesign.frameworks.keras.parameters import array_of, batch_norm_of, program, read_batch_norm, reads_k
from refdesign.frameworks.subnormals import refuse_subnormals
from refdesign.network import BinaryConv2d as BinaryConv2dData
from refdesign.network import BinaryDense as BinaryDenseData
from refdesign.network import Layer, MaxPool, NetworkData, PixelConv2d, accumulator_domain
from refdesign.ops.dither import threshold_map
from refdesign.parameters import NO_DITHER, BatchNorm

_IDLE = (keras.layers.InputLayer, keras.layers.Identity, keras.layers.Dropout)
_KINDS = (
    PixelInput, BinaryConv2D, BinaryDense, keras.layers.MaxPooling2D, keras.layers.BatchNormalization, DeSign,
    BatchNormDeSign, keras.layers.Flatten, keras.Sequential, *_IDLE,
)  # fmt: skip
_ORDER = "MaxPooling2D, BatchNormalization, DeSign, in this order, or BatchNormDeSign for the last two"


@dataclass
class Parts:
    """The Keras layers of one layer of the network; those that follow the product are optional."""

    product: BinaryConv2D | BinaryDense
    pool: keras.layers.MaxPooling2D | None = None
    batch_norm: keras.layers.BatchNormalization | None = None
    sign: DeSign | BatchNormDeSign | None = None


def to_network(
    model: keras.Sequential,
    *,
    name: str,
    arithmetic: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Network:
    """The golden network of a sequential binary model.

    Under the backend's own arithmetic its bits and logits are those of `model.predict` on the CPU
    (`parameters.PROGRAMS`); k of every batch norm is read out. Weights are signs of the latent weights.

    Args:
        model: a built `keras.Sequential` (it may hold others): `PixelInput`, then for every layer `BinaryConv2D` or
            `BinaryDense`, and optionally a max pool, a batch norm and `DeSign`, or `BatchNormDeSign` for the last two.
            Layers are named after their products. `Flatten`, `Dropout` and `Identity` are passed over.
        name: the network's name.
        arithmetic: the arithmetic that the network is meant under; None is the backend's own.
        metadata: free text by key.

    Raises:
        RefdesignError: a layer, order or parameter that the reference has no counterpart for, a class that computes
            something else than the one that it is derived from, layers with different conventions, or, without an
            arithmetic, a backend whose own has no name or layers that compute in another type than float32, naming
            the layer.

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((4, 5, 1)), PixelInput(), BinaryConv2D(2, (3, 3), name="conv"), DeSign(),
    ...                           keras.layers.Flatten(), BinaryDense(4, name="dense")])
    >>> to_network(model, name="tiny", arithmetic="real").output_names
    ('conv.accumulator', 'conv.bits', 'dense.accumulator', 'logits')
    """
    pixels, parts = split(model)
    if arithmetic is None:
        check_precision("to_network", model, "an arithmetic that the network is meant under")
    shape = tuple(model.input_shape[1:])
    if len(shape) != 3 or None in shape:
        raise RefdesignError(f"to_network: found the input shape {shape}, expected (H, W, C), without batches")
    meant = program(arithmetic) if arithmetic or any(part.batch_norm for part in parts) else PAPER.arithmetic
    signs = ((part.product.name, part.sign.conventions, part.sign.kernel is not None) for part in parts if part.sign)
    conventions = shared_conventions(signs).replace(arithmetic=meant)
    layers = tuple(_layer(part, pixels if part is parts[0] else None, meant) for part in parts)
    network = Network(
        name=name, input_shape=shape, layers=layers, conventions=conventions, metadata=dict(metadata or {})
    )
    if arithmetic is None and any(part.batch_norm for part in parts):
        check_that_keras_follows(network)
    return network


def check_precision(where: str, model: keras.Sequential, otherwise: str) -> None:
    """Refuse a model whose layers compute in another type than float32, the arithmetic's.

    >>> check_precision("here", keras.Sequential([BinaryDense(3, dtype="float32")]), "another policy")
    """
    for layer in leaves(model):
        if layer.compute_dtype != "float32":
            raise RefdesignError(
                f"{where}, layer {layer.name!r}: found that it computes in {layer.compute_dtype!r}, expected "
                f"'float32', or {otherwise}"
            )


def split(model: keras.Sequential) -> tuple[PixelInput, list[Parts]]:
    """The pixel input and the layers of a sequential binary model.

    Raises:
        RefdesignError: another layer, one whose class computes something else than these, or another order, naming the
            layer.

    >>> model = keras.Sequential([keras.Input((4, 5, 1)), PixelInput(), BinaryConv2D(2, (3, 3), name="conv")])
    >>> [part.product.name for part in split(model)[1]]
    ['conv']
    """
    if not isinstance(model, keras.Sequential) or not model.built:
        raise RefdesignError(f"to_network: found {type(model).__name__}, expected a built keras.Sequential")
    refuse_changed(model.name, model, _KINDS, ["call"])
    steps = []
    for layer in leaves(model):
        refuse_changed(layer.name, layer, _KINDS, ["call"])
        if not isinstance(layer, keras.layers.Flatten):
            steps.append(layer)
        elif layer.data_format != "channels_last":
            raise RefdesignError(
                f"to_network, layer {layer.name!r}: found Flatten with {layer.data_format!r}, expected 'channels_last'"
            )
    if not steps or not isinstance(steps[0], PixelInput):
        found = type(steps[0]).__name__ if steps else "an empty model"
        raise RefdesignError(f"to_network: found {found} first, expected PixelInput")
    parts: list[Parts] = []
    for step in steps[1:]:
        if isinstance(step, (BinaryConv2D, BinaryDense)):
            parts.append(Parts(step))
        else:
            _add(parts, step)
    if not parts:
        raise RefdesignError("to_network: found no layer, expected BinaryConv2D after PixelInput")
    for part in parts:
        last = part is parts[-1]
        if (part.sign is None) != last:
            found, expected = (
                ("no DeSign", "one (not the last)") if part.sign is None else ("a sign", "none (the last)")
            )
            raise RefdesignError(f"to_network, layer {part.product.name!r}: found {found}, expected {expected}")
    return steps[0], parts


def leaves(model: keras.Sequential) -> Iterator[Any]:
    """The layers of a model and of the models in it, in order, without those that do nothing in inference.

    Raises:
        RefdesignError: a model in it whose class computes something else than a `Sequential`.

    >>> [type(layer).__name__ for layer in leaves(keras.Sequential([keras.Input((2, 3)), keras.layers.Flatten()]))]
    ['Flatten']
    """
    for layer in model.layers:
        if isinstance(layer, keras.Sequential):
            refuse_changed(layer.name, layer, _KINDS, ["call"])
            yield from leaves(layer)
        elif not isinstance(layer, _IDLE):
            yield layer


def _add(parts: list[Parts], step: Any) -> None:
    """Put a Keras layer that follows a product into its place, if it has one and comes in order."""
    fields = {"pool": keras.layers.MaxPooling2D, "batch_norm": keras.layers.BatchNormalization, "sign": DeSign}
    places = ["batch_norm", "sign"] if isinstance(step, BatchNormDeSign) else []
    places = places or [field for field, kind in fields.items() if isinstance(step, kind)]
    free = list(fields)[list(fields).index(places[0]) :] if places else []
    if not places or not parts or any(getattr(parts[-1], field) is not None for field in free):
        raise RefdesignError(
            f"to_network, layer {step.name!r}: found {type(step).__name__}, expected for each layer a BinaryConv2D or "
            f"BinaryDense, then optionally {_ORDER}"
        )
    for field in places:
        setattr(parts[-1], field, step)


def _layer(part: Parts, pixels: PixelInput | None, arithmetic: str) -> Layer:
    product = part.product
    latent = array_of(product.latent)
    shared: dict[str, Any] = {
        "name": product.name,
        "batch_norm": None if part.batch_norm is None else _batch_norm(product.name, part.batch_norm, arithmetic),
        "kernel": None if part.sign is None else part.sign.kernel,
    }
    if isinstance(product, BinaryDense):
        if pixels is not None or part.pool is not None:
            raise RefdesignError(
                f"to_network, layer {product.name!r}: found BinaryDense {'first' if pixels else 'with a pool'}, "
                "expected BinaryConv2D"
            )
        return BinaryDenseData(weights=pack(latent.T >= 0), **shared)
    shared |= {
        "weights": pack(latent.transpose(3, 0, 1, 2) >= 0), "stride": product.strides, "padding": product.padding,
        "padding_mode": product.padding_mode, "dilation": product.dilation, "groups": product.groups,
        "pool": None if part.pool is None else _pool(product.name, part.pool),
    }  # fmt: skip
    if pixels is None:
        return BinaryConv2dData(**shared)
    return PixelConv2d(multiplier=pixels.multiplier, offset=pixels.offset, **shared)


def _batch_norm(name: str, layer: keras.layers.BatchNormalization, arithmetic: str) -> BatchNorm:
    try:
        return read_batch_norm(layer) if reads_k(arithmetic) else batch_norm_of(layer)
    except RefdesignError as error:
        raise RefdesignError(f"to_network, layer {name!r}: {error}") from error


def _pool(name: str, layer: keras.layers.MaxPooling2D) -> MaxPool:
    if layer.padding != "valid" or layer.data_format != "channels_last":
        raise RefdesignError(
            f"to_network, layer {name!r}: found a max pool with padding {layer.padding!r} and {layer.data_format!r}, "
            "expected 'valid' and 'channels_last'"
        )
    return MaxPool(size=tuple(layer.pool_size), stride=tuple(layer.strides))


def check_that_keras_follows(network: NetworkData) -> None:
    """Refuse what the backend computes otherwise: subnormal numbers, and on JAX thresholds scaled by gamma.

    Raises:
        RefdesignError: naming the layer.

    >>> from refdesign.models import binarynet
    >>> named = PAPER.replace(arithmetic="torch")
    >>> check_that_keras_follows(
    ...     binarynet(input_shape=(4, 5, 1), classes=3, widths=(2, 4), dense=(), conventions=named))
    """
    for layer in network.layers:
        if not isinstance(layer, (PixelConv2d, BinaryConv2dData, BinaryDenseData)) or layer.batch_norm is None:
            continue
        scaled = network.conventions.threshold_scale == "gamma"
        if layer.kernel is not None and scaled and keras.backend.backend() == "jax":
            raise RefdesignError(
                f"to_network, layer {layer.name!r}: found thresholds scaled by gamma on JAX, which fuses y - gamma*T "
                "into one operation, expected 'unit', or an arithmetic that the network is meant under"
            )
        shape = network.shapes[layer.name].output
        height, width, channels = shape if len(shape) == 3 else (1, 1, shape[0])
        thresholds = threshold_map(layer.kernel or NO_DITHER, height, width, channels, network.conventions)
        if scaled:
            with np.errstate(under="ignore"):
                thresholds = layer.batch_norm.gamma * thresholds
        low, high, _ = accumulator_domain(layer, ternary_input=True)
        domain = int(low.min()), int(high.max())
        try:
            refuse_subnormals(layer.batch_norm, network.conventions.arithmetic, thresholds, domain)
        except RefdesignError as error:
            raise RefdesignError(f"to_network, layer {layer.name!r}, {error}") from error
