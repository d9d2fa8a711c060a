"""The README.md of a folder of vectors: every array in it, and how the layers follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from refdesign.layers import Convolution
from refdesign.network import AveragePool, Layer, NetworkData, PixelConv2d, Stage
from refdesign.ops.dither import first_phase
from refdesign.paths import thresholds_of

_MEANS = {
    "accumulator": "sums of products, one for each window and channel",
    "pooled": "the accumulators after the layer's max pool",
    "real": "what the layer's sign is taken of",
    "bits": "the layer's activations",
    "logits": "the network's answer, a row for each image",
    "inputs": "bits that are given to this layer alone",
    "weights": "the weights",
    "threshold": "integer thresholds",
    "direction": "on which side of the threshold the bit is +1",
    "constant": "the bit where the direction is 0",
    "gamma": "scale of the batch norm",
    "beta": "shift of the batch norm",
    "mean": "mean of the batch norm",
    "variance": "variance of the batch norm",
    "alpha": "scale of the accumulators, before the batch norm",
    "epsilon": "what is added to the variance; one number",
    "k": "scale of the batch norm as it is computed, see Logits",
    "c": "shift of the batch norm as it is computed, see Logits",
    "images": "the images, a pixel a byte",
}
_AXES = {
    "n h w c": "image, row, column, channel",
    "n c": "image, channel",
    "o h w i": "output channel, row, column, input channel",
    "o i": "output channel, input",
    "m n c": "phase row, phase column, channel",
    "c": "channel",
}
_PADDING = {
    "zeros": "positions outside count for nothing",
    "ones": "outside is +1",
    "minus_ones": "outside is -1",
    "symmetric": "the map is mirrored with its edge: the first position outside repeats the edge",
    "reflect": "the map is mirrored without its edge: the first position outside repeats the edge's neighbour",
    "edge": "all positions outside repeat the edge",
    "circular": "the map is continued from its other side",
}
_K = "`k = gamma * (1 / sqrt(variance + epsilon))`"
PROGRAMS = {
    "real": "`y = gamma * (v - mean) / sqrt(variance + epsilon) + beta`, exact, and rounded to float32",
    "torch": f"`y = fma(v, k, c)`; {_K}; `c = fma(-mean, k, beta)`; fma rounds once",
    "onnxruntime": f"`y = v * k + c`; {_K}; `c = beta - mean * k`",
    "keras": "`y = v * k + c`; `k = gamma * rsqrt(variance + epsilon)`, TensorFlow's rsqrt; `c = beta - mean * k`",
    "released_torch": "`y = gamma * ((v - mean) / sqrt(variance + epsilon)) + beta`",
}
"""The batch norms of docs/method.md, section 3, by arithmetic."""


def page(network: NetworkData, files: Sequence[dict[str, Any]]) -> str:
    """The page, as Markdown.

    Args:
        network: the network that the vectors are of.
        files: the manifest's `files`.

    >>> from refdesign.api import pretrained
    >>> page(pretrained("digits"), []).splitlines()[0]
    '# Test vectors of `digits`'
    """
    conventions = network.conventions
    one = conventions.bit_one
    bit = "c mod 64" if conventions.bit_order == "little" else "63 - (c mod 64)"
    word = "c div 64" if conventions.word_order == "little" else "W - 1 - c div 64, of W words in a row,"
    lines = [
        f"# Test vectors of `{network.name}`",
        "",
        "Every array is there twice, as NumPy's `.npy` and as `.hex` for `$readmemh`: a word a line, the last axis",
        "fastest.",
        "",
        f"- Arrays of -1 and +1 are packed, 64 in a word: element c is bit {bit} of word {word};",
        f"  a 1 bit is {one:+d}, a 0 bit is {-one:+d}. Every row of the last axis starts a new word.",
        "- All other numbers are one in a word: two's complement, or the bits of a float32.",
        "",
        "`manifest.json` (`manifest.schema.json` describes it) has the SHA-256 and layout of every file, the",
        "conventions, and, for each image (`cases`) and each case of one layer (`layer_cases`), which class of bug it",
        "catches.",
        "",
        "| array | type | shape | axes | what it is |",
        "| --- | --- | --- | --- | --- |",
        *(_row(entry) for entry in files if entry["encoding"] == "npy"),
        "",
        "`outputs/` are those of `images`, and `layers/` those of `layers/LAYER.inputs`, in order.",
        "",
        "## Layers, in order",
        "",
        *(f"- `{layer.name}`: {_described(network, layer)}." for layer in network.layers),
        "",
        *_bits(network),
        *_logits(network),
    ]
    return "\n".join(lines) + "\n"


def _row(entry: dict[str, Any]) -> str:
    name, shape = entry["array"], " x ".join(map(str, entry["shape"]))
    part = name.rpartition(".")[2].rpartition("/")[2]
    what = _MEANS.get(part.rstrip("0123456789"), "")
    return f"| `{name}` | {entry['dtype']} | {shape} | {_AXES[entry['axes']]} | {what} |"


def _described(network: NetworkData, layer: Layer) -> str:
    """A layer's kind, shapes and geometry; a dense layer's inputs are a map's in the order row, column, channel."""
    shapes = network.shapes[layer.name]
    says = [layer.kind.replace("_", " "), f"{_extents(shapes.input)} to {_extents(shapes.output)}"]
    if isinstance(layer, PixelConv2d):
        says.append(f"of x = {layer.multiplier} * pixel + {layer.offset}")
    if isinstance(layer, Convolution):
        says.append(f"window {_extents(layer.weight_shape[1:3])}, stride {_extents(layer.stride)}")
        if layer.padding != (0, 0):
            says.append(f"padding {_extents(layer.padding)}, {layer.padding_mode} ({_PADDING[layer.padding_mode]})")
        if layer.dilation != (1, 1) or layer.groups != 1:
            says.append(f"dilation {_extents(layer.dilation)}, {layer.groups} groups")
    elif len(shapes.input) == 3 and not isinstance(layer, AveragePool):
        says.append("its inputs are the map's values, row by row, column by column, channel by channel")
    if isinstance(layer, Stage) and layer.pool is not None:
        says.append(f"then a max pool {_extents(layer.pool.size)}, stride {_extents(layer.pool.stride)}")
    if isinstance(layer, Stage) and layer.shortcut is not None:
        says.append(f"plus the real values of `{layer.shortcut.source}`")
    return ", ".join(says)


def _extents(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _bits(network: NetworkData) -> list[str]:
    """How thresholds make bits."""
    thresholds = thresholds_of(network)
    if not thresholds:
        return []
    origin, starts = network.conventions.kernel_origin, []
    for name, folded in thresholds.items():
        first = [
            first_phase(extent, period, origin)
            for extent, period in zip(network.shapes[name].output[:-1], folded.threshold.shape[:2], strict=False)
        ]
        if any(first):
            starts.append(f"`{name}` starts at phase ({first[0]}, {first[1]})")
    return [
        "## Bits",
        "",
        "With a the accumulator, after the layer's max pool where it has one, a bit is +1 where `a >= threshold`",
        "(direction 1) or `a <= threshold` (direction -1), else -1; where direction is 0, it is `constant`.",
        "`threshold`, `direction` and `constant` have the shape m x n x channels: pixel (row, column) of the layer's",
        "output has the phase (row mod m, column mod n); a dense layer has (0, 0).",
        *([f"The phases are shifted: {'; '.join(starts)}."] if starts else []),
        *(
            ["Where a sum is exactly on the boundary, the activation is 0."]
            if not network.conventions.sign_at_zero
            else []
        ),
        "",
    ]


def _logits(network: NetworkData) -> list[str]:
    """How the last layer ends."""
    last = network.layers[-1]
    if isinstance(last, Stage) and last.batch_norm is not None:
        v = "alpha * a" if last.batch_norm.alpha is not None else "a"
        program = PROGRAMS[network.conventions.arithmetic]
        ends = [
            f"The last layer has no thresholds. With a the accumulator, and `v = {v}`, the logits are y:",
            "",
            f"{program}. Every other operation rounds to float32.",
        ]
    elif isinstance(last, Stage):
        ends = ["The logits are the accumulators of the last layer."]
    else:
        ends = [
            "The logits are real: the last layer computes in float32, and the order of its sums can round otherwise."
        ]
    return ["## Logits", "", *ends]
