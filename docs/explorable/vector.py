"""Golden vectors that the page exports, computed again by the reference and compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign import naive
from refdesign.bits import pack
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.network import BinaryConv2d, NetworkData, PixelConv2d
from refdesign.parameters import BatchNorm, ThresholdKernel
from refdesign.run import run

FORMAT = "refdesign.explorable/1"
_SIGNS = {"+": 1, "-": -1, "0": 0}


def read(path: Path) -> dict[str, Any]:
    """A vector's file.

    Raises:
        RefdesignError: no such file, no JSON, or of another format.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RefdesignError(
            f"{path}: found no JSON ({error}), expected a vector that the explorable exported"
        ) from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise RefdesignError(f"{path}, format: found {type(found).__name__}, expected an object of format {FORMAT}")
    return found


def network(vector: dict[str, Any]) -> NetworkData:
    """The network that a vector describes, from nothing but the vector."""
    dots, conv = vector["dots"], vector["conv"]
    count = len(conv["weights"])
    height, width = photograph(vector).shape
    first = PixelConv2d(
        name="dots",
        weights=pack(np.array(dots["weights"], np.int8)[np.newaxis, :, :, np.newaxis]),
        multiplier=dots["multiplier"],
        offset=dots["offset"],
        batch_norm=BatchNorm([dots["gamma"]], [dots["beta"]], [dots["mean"]], [dots["variance"]], dots["epsilon"]),
        kernel=ThresholdKernel(dots["kernel"]),
    )
    second = BinaryConv2d(
        name="conv",
        weights=pack(np.array(conv["weights"], np.int8)[:, :, :, np.newaxis]),
        batch_norm=BatchNorm(
            [conv["gamma"]] * count, [conv["beta"]] * count, conv["mean"], conv["variance"], conv["epsilon"]
        ),
        kernel=ThresholdKernel(conv["kernel"]),
    )
    last = BinaryConv2d(name="sum", weights=pack(np.ones((1, 1, 1, count), np.int8)))
    conventions = Conventions.from_dict(vector["conventions"])
    return NetworkData(
        name="vector", input_shape=(height, width, 1), layers=(first, second, last), conventions=conventions
    )


def photograph(vector: dict[str, Any]) -> NDArray[np.uint8]:
    """The input, uint8 (H, W)."""
    return np.array([list(bytes.fromhex(row)) for row in vector["photograph"]], dtype=np.uint8)


def signs(rows: list[str]) -> NDArray[np.int8]:
    """A map of `+`, `-` and `0` as int8.

    >>> signs(["+-", "0+"]).tolist()
    [[1, -1], [0, 1]]
    """
    return np.array([[_SIGNS[sign] for sign in row] for row in rows], dtype=np.int8)


def differences(vector: dict[str, Any]) -> Iterator[str]:
    """What the reference has otherwise: nothing, if the vector is right.

    The whole maps are computed along the packed path, the chosen pixel by the slow path's `explain`.
    """
    described = network(vector)
    outputs = run(described, photograph(vector)[np.newaxis, :, :, np.newaxis], outputs="all")
    found = {"dots.bits": signs(vector["dots.bits"])[:, :, np.newaxis]}
    found["conv.bits"] = np.stack([signs(rows) for rows in vector["conv.bits"]], axis=-1)
    for name, bits in found.items():
        expected = outputs[name][0]
        if bits.shape != expected.shape:
            yield f"{name}: found shape {bits.shape}, expected {expected.shape}"
        elif not np.array_equal(bits, expected):
            row, column, channel = (int(i) for i in np.argwhere(bits != expected)[0])
            yield (
                f"{name}, row {row}, column {column}, channel {channel}: found {bits[row, column, channel]}, "
                f"expected {expected[row, column, channel]}"
            )
    chosen = vector["pixel"]
    place = (chosen["row"], chosen["column"], chosen["channel"])
    why = naive.explain(described.layers[1], described.conventions, outputs["dots.bits"][0], place)
    window, fold = why.windows[0], why.fold
    if fold is None:
        raise RefdesignError("vector, conv: found no fold, expected integer thresholds")
    expected_pixel: dict[str, Any] = {
        "window": [tap.x[0] for tap in window.taps],
        "weights": [tap.w[0] for tap in window.taps],
        "agree": [tap.agree[0] for tap in window.taps],
        "popcount": window.popcount,
        "accumulator": why.pooled,
        "phase": list(why.phase[:2]),
        "threshold": why.threshold,
        "y": next(float(step.value) for step in why.steps if step.name == "y"),
        "bit": why.bit,
        "accumulators_by_cycle": np.cumsum([tap.x[0] * tap.w[0] for tap in window.taps]).tolist(),
        "rule": {
            "direction": fold.direction,
            "threshold": fold.threshold or 0,
            "constant": fold.constant or 0,
        },
    }
    for name, expected_value in expected_pixel.items():
        if chosen[name] != expected_value and not (name == "rule" and fold.direction != 0 and fold.threshold is None):
            yield f"pixel, {name}: found {chosen[name]}, expected {expected_value}"
