"""One output bit, step by step: found in a network, as plain data, and as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape

from refdesign.api import Network
from refdesign.cli import _common as common
from refdesign.errors import RefdesignError
from refdesign.naive.explain import explain
from refdesign.naive.explanation import Explanation, Step, Tap, Window
from refdesign.network import Convolution, Layer, Stage
from refdesign.ops.residual import shortcut
from refdesign.parameters import BatchNorm

MAX_ROWS = 24
"""Rows of a window that are printed unless all are asked for."""

_ROW = 32
"""Columns of a window's row beside x, w and their XNOR."""

_FILLED = {
    "zeros": "zero padding counts for nothing",
    "ones": "the padding is +1",
    "minus_ones": "the padding is -1",
}
"""The padding modes that read nothing, in words."""

_SIGNS = {1: "+", -1: "-", 0: "0"}


def of(network: Network, image: NDArray[np.uint8], layer_name: str, index: tuple[int, ...]) -> Explanation:
    """Explain one bit of one layer, for one image.

    The input of the layer comes from the packed path; everything from there to the bit from the naive one.

    Args:
        network: the network.
        image: uint8, shape (H, W, C).
        layer_name: a layer with integer accumulators, and not the last, which leaves logits.
        index: (row, column, channel), or (channel,) in a dense layer.

    Raises:
        RefdesignError: no such layer, a layer without integer accumulators or without bits, or no such index.
    """
    layer = network.layer(layer_name)
    position = network.layers.index(layer)
    if layer is network.layers[-1]:
        raise RefdesignError(f"layer {layer_name!r}: found the last layer, expected one that leaves bits, not logits")
    source = getattr(layer, "shortcut", None)
    before = network.layers[position - 1].name
    wanted = [f"{before}.bits"] * (position > 0) + ([f"{source.source}.real"] if source else [])
    outputs = network.run(image[np.newaxis], outputs=wanted) if wanted else {}
    return explain(
        layer,
        network.conventions,
        outputs[f"{before}.bits"][0] if position else image,
        index,
        shortcut=shortcut(outputs[f"{source.source}.real"], source)[0] if source else None,
        ternary_input=position > 0 and _ternary(network, network.layers[position - 1]),
    )


def _ternary(network: Network, before: Layer) -> bool:
    """Whether a layer can leave zeros."""
    if network.conventions.sign_at_zero != 0:
        return False
    folds = isinstance(before, Stage) and before.folds
    return bool(network.thresholds()[before.name].ternary.any()) if folds else True


def parameters(network: Network, why: Explanation) -> dict[str, float | str]:
    """The batch norm's parameters of the bit's channel, by name; empty where there is no batch norm."""
    batch_norm: BatchNorm | None = getattr(network.layer(why.layer), "batch_norm", None)
    if batch_norm is None:
        return {}
    arrays = {name: getattr(batch_norm, name) for name in ("gamma", "beta", "mean", "variance", "alpha", "k", "c")}
    found: dict[str, float | str] = {
        name: float(array[why.index[-1]]) for name, array in arrays.items() if array is not None
    }
    found["epsilon"] = batch_norm.epsilon
    if batch_norm.affine is not None:
        affine = batch_norm.affine
        found["affine"] = f"({affine.numerator}*a + {affine.offsets[why.index[-1]]})/{affine.denominator}"
    return found


def to_dict(network: Network, why: Explanation) -> dict[str, Any]:
    """Everything as plain data; exact numbers as fractions in text, beside a decimal."""
    fold = why.fold
    return {
        "layer": why.layer,
        "kind": why.kind,
        "index": list(why.index),
        "batch_norm": parameters(network, why),
        "windows": [_window_dict(network, window, why) for window in why.windows],
        "accumulator": why.pooled,
        "steps": [{"name": step.name, "formula": step.formula, **_number_dict(step.value)} for step in why.steps],
        "phase": list(why.phase),
        "threshold": why.threshold,
        "exact_z": {
            end: _number_dict(value) for end, value in zip(("lower_bound", "upper_bound"), why.enclosure, strict=True)
        },
        "margin": _number_dict(why.margin),
        "fold": None
        if fold is None
        else {
            "rule": _rule(why),
            "direction": fold.direction,
            "threshold": fold.threshold,
            "constant": fold.constant,
            "ties": None if fold.ties is None else list(fold.ties),
            "domain": {"low": fold.low, "high": fold.high, "step": fold.step},
        },
        "bit": why.bit,
        "conventions": why.conventions.to_dict(),
    }


def _window_dict(network: Network, window: Window, why: Explanation) -> dict[str, Any]:
    binary = why.binary
    padded = _padded(network.layer(why.layer), window, network.shapes[why.layer].input)
    taps = [
        {
            "reads": None if tap.place is None else list(tap.place),
            "padded": outside,
            "x": list(tap.x),
            "w": list(tap.w),
            **({"xnor": list(tap.agree)} if binary else {}),
        }
        for tap, outside in zip(window.taps, padded, strict=True)
    ]
    counts = {"valid": window.valid, "popcount": window.popcount} if binary else {}
    return {"place": list(window.place), **counts, "accumulator": window.accumulator, "taps": taps}


def _number_dict(value: float | Fraction) -> dict[str, str]:
    exact = value.hex() if isinstance(value, float) else str(value)
    return {"exact": exact, "decimal": f"{float(value):.9g}"}


def show(console: Console, network: Network, why: Explanation, *, everything: bool = False) -> None:
    """Print an explanation, step by step.

    Args:
        console: where to.
        network: the network of the layer.
        why: the explanation.
        everything: print every row of the windows.
    """
    position = [layer.name for layer in network.layers].index(why.layer)
    reads = f"the bits of {escape(network.layers[position - 1].name)}" if position else "the image"
    shown = max(why.windows, key=lambda window: window.accumulator)
    console.print(f"[bold]1  The window[/bold]: {_count(shown)} from {reads}, and as many weights\n")
    layer = network.layer(why.layer)
    padded = _padded(layer, shown, network.shapes[why.layer].input)
    _show_window(console, shown, why.binary, everything, padded)
    if any(padded) and isinstance(layer, Convolution):
        instead = _FILLED.get(layer.padding_mode, f"{layer.padding_mode} padding reads the place named")
        console.print(f"   pad: the tap lies outside the map; {instead}")
    console.print(f"\n[bold]2  The sum[/bold]: {_sum(shown, why.binary)}")
    if len(why.windows) > 1:
        sums = ", ".join(f"{window.accumulator} at {_place(window.place)}" for window in why.windows)
        console.print(f"   max pool over {sums}: a = {why.pooled}", soft_wrap=True)
    console.print(f"\n[bold]3  Batch norm and dither[/bold], arithmetic {why.conventions.arithmetic}\n")
    row, column, piece = why.phase
    made = common.table("", "", "", left=("",))
    made.show_header = False
    for name, value in parameters(network, why).items():
        made.add_row(f"  {name}", "", value if isinstance(value, str) else f"{value:.9g}")
    dither = f"the dither kernel's row {row}, column {column}, slice {piece}"
    if getattr(layer, "kernel", None) is None:
        dither = "this layer has no dither"
    made.add_row("  T", dither, f"{why.threshold:.9g}")
    for step in why.steps:
        made.add_row(common.cell(f"  {step.name}"), common.cell(step.formula), _value(step))
    console.print(made)
    low, high = why.enclosure
    exact = f"= {low}" if low == high and len(str(low)) < 40 else f"≈ {float(low):.17g}"
    console.print(f"   in exact arithmetic z {exact}", soft_wrap=True)
    console.print(f"\n[bold]4  The bit[/bold]: z lies {_side(why.margin)}")
    if why.fold is not None:
        console.print(f"   folded: {_rule(why)}, with a in {why.fold.low}..{why.fold.high} by {why.fold.step}")
        console.print(f"   {_distance(why)}")
    console.print(f"   bit [bold]{why.bit:+d}[/bold]" if why.bit else "   bit [bold]0[/bold], an exact tie")


def in_short(why: Explanation) -> str:
    """An explanation in four lines."""
    shown = max(why.windows, key=lambda window: window.accumulator)
    row, column, piece = why.phase
    pool = f"; the largest of {len(why.windows)} under the max pool" if len(why.windows) > 1 else ""
    lines = [
        f"  sum     {_sum(shown, why.binary)}{pool}",
        f"  dither  phase ({row}, {column}), slice {piece}: T = {why.threshold:.6g}; z = {_value(why.steps[-1])}",
    ]
    if why.fold is not None:
        lines.append(f"  fold    {_rule(why)}; {_distance(why)}")
    return "\n".join([*lines, f"  bit     {why.bit:+d}"])


def _count(window: Window) -> str:
    positions = len(window.taps)
    channels = len(window.taps[0].x)
    return f"{positions} × {channels} = {positions * channels} inputs" if positions > 1 else f"{channels} inputs"


def _sum(window: Window, binary: bool) -> str:
    if not binary:
        return f"a = Σ x·w = {window.accumulator}"
    return (
        f"{window.popcount} of {window.valid} inputs equal their weights: "
        f"a = 2·{window.popcount} - {window.valid} = {window.accumulator}"
    )


def _place(place: tuple[int, ...]) -> str:
    return "(" + ", ".join(str(i) for i in place) + ")"


def _padded(layer: Layer, window: Window, shape: tuple[int, ...]) -> list[bool]:
    """Which taps of a window lie outside the layer's input map (H, W, C), whatever is read in their place."""
    if not isinstance(layer, Convolution):
        return [False] * len(window.taps)
    _, rows, columns, _ = layer.weight_shape
    return [
        not all(
            0 <= place * stride - padding + offset * dilation < extent
            for place, stride, padding, offset, dilation, extent in zip(
                window.place, layer.stride, layer.padding, offsets, layer.dilation, shape[:2], strict=True
            )
        )
        for offsets in np.ndindex(rows, columns)
    ]


def _show_window(console: Console, window: Window, binary: bool, everything: bool, padded: Sequence[bool]) -> None:
    columns = ("tap", "reads", "channels", "x", "w", "xnor" if binary else "x·w", "equal" if binary else "sum")
    made = common.table(*columns, left=("reads", "x", "w", "xnor"))
    chunk = max((size for size in (16, 32, 64) if _ROW + 3 * size <= console.width), default=8) if binary else 4
    rows = list(_rows(window.taps, chunk, binary, padded))
    shown = rows if everything or len(rows) <= MAX_ROWS + 1 else rows[:MAX_ROWS]
    for row in shown:
        made.add_row(*map(common.cell, row))
    console.print(made)
    if len(shown) < len(rows):
        console.print(f"… and {len(rows) - len(shown)} more rows (--all prints them, --json too)")


def _rows(taps: tuple[Tap, ...], chunk: int, binary: bool, padded: Sequence[bool]) -> Iterator[tuple[str, ...]]:
    for number, tap in enumerate(taps):
        for start in range(0, len(tap.x), chunk):
            part = slice(start, start + chunk)
            x, w = tap.x[part], tap.w[part]
            place = "" if start else str(number)
            mark = " pad" if padded[number] else ""
            reads = "" if start else ("nothing" if tap.place is None else _place(tap.place)) + mark
            channels = f"{start}..{start + len(x) - 1}" if len(tap.x) > 1 else "0"
            if binary:
                agree = tap.agree[part]
                yield (
                    place, reads, channels,
                    "".join(_SIGNS[value] for value in x),
                    "".join(_SIGNS[value] for value in w),
                    "".join(map(str, agree)),
                    str(sum(agree)),
                )  # fmt: skip
            else:
                products = [a * b for a, b in zip(x, w, strict=True)]
                yield (
                    place, reads, channels,
                    " ".join(map(str, x)), " ".join(map(str, w)), " ".join(map(str, products)), str(sum(products)),
                )  # fmt: skip


def _value(step: Step) -> str:
    return f"{float(step.value):.9g}"


def _side(margin: Fraction) -> str:
    if margin == 0:
        return "exactly on the boundary"
    return f"{abs(float(margin)):.9g} {'above' if margin > 0 else 'below'} the boundary"


def _rule(why: Explanation) -> str:
    fold = why.fold
    if fold is None:
        return ""
    if fold.threshold is None:
        rule = f"always {fold.constant:+d}" if fold.constant else "always 0"
    else:
        rule = f"fires where a {'>=' if fold.direction > 0 else '<='} {fold.threshold}"
    if fold.ties is not None:
        rule += f", 0 where {fold.ties[0]} <= a <= {fold.ties[1]}"
    return rule


def _distance(why: Explanation) -> str:
    """How far the accumulator is from the threshold, in attainable integers."""
    if why.fold is None or why.fold.threshold is None:
        return f"a = {why.pooled}; no attainable accumulator changes the bit"
    ahead = (why.pooled - why.fold.threshold) * why.fold.direction
    if ahead >= 0:
        return f"a = {why.pooled} fires, {ahead} inside the threshold"
    return f"a = {why.pooled} does not fire, {-ahead} short of the threshold"
