"""What is right where a known change was found: the direction of the mend."""

from __future__ import annotations

from refdesign.network import NetworkData
from refdesign.verify.change import Placed

RIGHT: dict[str, str] = {
    "sign": "give the bit +1 where z > 0 and -1 where z < 0; the sign of an exact zero is {sign_at_zero}, by the rule "
    "{sign_rule}",
    "threshold": "fire at a >= threshold where the direction is 1 and at a <= threshold where it is -1, with the "
    "integer thresholds of `refdesign fold`, unrounded; where the direction is 0 the bit is the constant",
    "direction": "where the direction is -1 (gamma < 0), fire at a <= threshold, and elsewhere at a >= threshold, with "
    "the integer thresholds of `refdesign fold` as they are",
    "channels": "let output channel c use the batch norm, the thresholds and the direction of channel c",
    "polarity": "let a 1 bit stand for +1 in weights and activations, count equal bits as +1, and let the bit be +1 "
    "where the comparison fires",
    "width": "hold sums, counters and thresholds in as many bits as the layer's largest and smallest sums need",
    "phase": "over pixel (row, column) of the layer's output, after its pool, use the kernel's cell (row mod m, column "
    "mod n), counted anew in every row and image from where kernel_origin={kernel_origin} starts; a channel's slice is "
    "that of channel_map={channel_map}",
    "pool": "take the largest sum of each window, then batch norm, dither and sign of the pooled pixel, by its own "
    "phase; pooled as bits, it is OR where the direction is 1 and AND where it is -1",
    "padding": "fill the border by the layer's own padding_mode, with what the pixels' map makes of pixels, and as "
    "many rows and columns before the map as behind it",
    "geometry": "start window (row, column) at (row, column) * stride - padding, with its taps a dilation apart; rows "
    "come first in every pair",
    "groups": "let each group of neighbouring output channels read its own block of neighbouring input channels",
    "off by one": "sum all taps of the window that starts at (row, column) * stride - padding, and all input channels",
    "layout": "index maps as (row, column, channel) and weights as (output channel, row, column, input channel), and "
    "correlate without turning the window; a dense layer reads a map in the order row, column, channel",
    "bit order": "take the first element from the lowest bit of its word",
    "byte order": "take a word's lowest octet first",
    "word order": "take the first elements from the first word",
    "tail bits": "leave the bits after a pixel's last channel out of the count, and out of N",
    "2p - N": "sum 2p - N, with p the number of equal bits among the N products that lie inside the map",
    "counting": "count each differing bit once",
    "input": "read pixels as unsigned octets in the order row, column, channel, and map p to multiplier*p + offset",
    "batch norm": "compute y = gamma*(alpha*a - mean)/sqrt(variance + epsilon) + beta with each channel's own "
    "parameters in float32, as the network has them",
    "arithmetic": "compute batch norm and dither as arithmetic={arithmetic} does",
    "dither": "subtract the kernel from the batch norm's output, z = y - T, with the values of T as the network has "
    "them; threshold_scale={threshold_scale} says whether they are multiplied by gamma, channel_map={channel_map} "
    "which slice is a channel's",
    "residual": "add the mean-pooled real shortcut to z, then clamp, then take the sign",
    "bases": "scale each basis's sums by its own scale, and add them one after the other, the first one first",
    "last layer": "give the last layer its batch norm, its bias and its input as the network has them",
    "batch": "answer every image by itself: start phases anew, and use the stored mean and variance",
}
"""By group of changes, what the reference does; names in braces are the network's conventions."""


def mend(placed: Placed, network: NetworkData) -> str:
    """What to do about a change that explains an implementation's answers.

    >>> from refdesign.api import pretrained
    >>> from refdesign.verify.change import Change
    >>> found = Change(name="channel_map=repeat", group="phase", says="", conventions={"channel_map": "repeat"})
    >>> mend(Placed(found, frozenset({"conv2"}), "conv2"), pretrained("digits"))
    'in conv2, use channel_map=tile'
    """
    conventions = network.conventions.to_dict()
    changed = placed.change.conventions
    if changed is None:
        right = placed.change.right or RIGHT[placed.change.group].format(**conventions)
    else:
        own = [f"{name}={conventions[name]}" for name, value in changed.items() if conventions[name] != value]
        right = f"use {' and '.join(own)}"
    return right if placed.where == "everywhere" else f"in {placed.where}, {right}"
