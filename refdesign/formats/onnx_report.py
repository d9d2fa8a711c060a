"""What an import of ONNX says: of the layers that were recognised, and of the nodes that were not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refdesign.errors import RefdesignError
from refdesign.formats import onnx_constants as constants
from refdesign.formats.onnx_comparisons import TRAINING
from refdesign.formats.onnx_file import tensor
from refdesign.formats.onnx_flow import Draft
from refdesign.formats.onnx_layers import Tail, deviation
from refdesign.parameters import ThresholdKernel

_LISTED = 20
_PRODUCTS = ("Conv", "Gemm", "MatMul")
ADVICE = {
    **dict.fromkeys(("Softmax", "LogSoftmax", "ArgMax", "TopK"), "export the network without it, up to the logits"),
    **dict.fromkeys(
        ("Relu", "LeakyRelu", "PRelu", "Gelu", "Elu", "HardSwish"),
        "activations are signs: was the network exported with its binary activations?",
    ),
    **dict.fromkeys(
        ("Tanh", "Sigmoid", "HardSigmoid", "Erf"),
        f"a sign is the same without it: leave it out, and {TRAINING}",
    ),
    **dict.fromkeys(
        (
            "QuantizeLinear",
            "DequantizeLinear",
            "DynamicQuantizeLinear",
            "QLinearConv",
            "QLinearMatMul",
            "ConvInteger",
            "MatMulInteger",
        ),
        "weights and activations of several bits are not binary: export the float network with its signs",
    ),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "Attention"), "only layers that run once, one after the other, are read"),
    **dict.fromkeys(("ConvTranspose", "Resize", "Upsample"), "maps become no larger in any layer that is read"),
    **dict.fromkeys(
        ("LayerNormalization", "InstanceNormalization", "GroupNormalization"),
        "only batch norm in evaluation mode folds: its statistics are constants",
    ),
}
"""What to do about operators that exports often have and no layer takes."""


def deviations(nodes: Sequence[Any], tensors: Mapping[str, Any], folder: Path | None) -> str:
    """How far the weights of nodes' products are from ±s, as far as they stand in the file."""
    found = []
    for node in nodes:
        proto = tensors.get(node.input[1]) if node.op_type in _PRODUCTS and len(node.input) > 1 else None
        if proto is None or proto.data_type != 1 or len(proto.dims) < 2:
            continue
        try:
            weights = tensor(proto, folder)
        except RefdesignError:
            continue
        if node.op_type == "MatMul" or (node.op_type == "Gemm" and not constants.attributes(node).get("transB", 0)):
            weights = weights.swapaxes(0, 1)
        if weights.size and np.isfinite(weights).all() and deviation(weights).any():
            off = float(deviation(weights).max())
            found.append(f"{node.name or node.output[0]!r} by {off:.0%}" if off >= 0.01 else
                         f"{node.name or node.output[0]!r} by {100 * off:.1g}%")  # fmt: skip
    return f"; of the products behind it, off their mean magnitudes too: {listed(found)}" if found else ""


def unknown(nodes: Sequence[Any], known: Collection[str], first: Any) -> str:
    """The other nodes whose operators are not known."""
    found = [
        f"{node.name or node.output[0]!r} ({node.op_type})" for node in nodes
        if key_of(node) not in known and node.output and node is not first and node != first
    ]  # fmt: skip
    return f"; also not known: {listed(found)}" if found else ""


def key_of(node: Any) -> str:
    """An operator's name, with its domain where that is not ONNX's own."""
    return str(node.op_type) if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def listed(found: Sequence[str]) -> str:
    """Some names, and how many more there are.

    >>> listed(["a", "b"])
    'a, b'
    """
    return ", ".join(found[:_LISTED]) + (f" and {len(found) - _LISTED} more" if len(found) > _LISTED else "")


def sign_words(tie: int, keras: bool) -> str:
    """The sign's rule in words.

    >>> sign_words(1, False)
    'of zero is +1'
    """
    return "fires above 2**-24, as the released Keras activation" if keras else f"of zero is {tie:+d}"


def line_of(draft: Draft, tail: Tail, kernel: ThresholdKernel | None, tried: bool) -> str:
    """A layer in one line."""
    parts = [f"{draft.name}: {draft.kind.kind}, output {draft.shape}"]
    if "pool" in draft.fields:
        parts.append(f"max pool {draft.fields['pool'].size}")
    if tried:
        parts.append("integer thresholds, found by computing its operators for every attainable sum")
    norm = draft.fields.get("input_batch_norm", tail.batch_norm)
    if norm is not None and not tried:
        parts.append("batch norm" if norm.k is None else "batch norm folded into scale and bias")
    if norm is not None and norm.affine is not None:
        parts.append("normalised pixels as an exact map")
    if kernel is not None:
        parts.append("threshold kernel of period {}x{} with {} slices".format(*kernel.shape))
    if tail.shortcut is not None:
        parts.append(f"+ {tail.shortcut.source}")
    if tail.hardtanh:
        parts.append("hardtanh")
    return ", ".join(parts)
