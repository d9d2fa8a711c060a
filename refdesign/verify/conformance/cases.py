"""The cases of the conformance suite, as data: what each is about, and what its networks look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from refdesign.conventions import ARITHMETICS
from refdesign.network import PADDING_MODES

FEW = (1, 2, 3, 5)
WORDS = (63, 64, 65, 70, 130)
"""Channels around a word's end, and of more than one word."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A family of small networks, and what it is about.

    A focussed case has one layer that is special; pixels come before it, a plain dense layer behind it.

    Attributes:
        name: `chapter/case`.
        what: what it would catch, in a sentence.
        on: the special layer: `"pixels"`, `"conv"`, `"dense"`, `"last conv"`, `"last dense"`, `"last bases"`; or
            `"any"`, `"residual"`: whole networks of every kind.
        conventions: by field, the choices to draw from; fields that do not stand here are as in `PAPER`.
        channels: outputs of the layer before the special one to choose from.
        outputs: the special layer's own.
        depth: channels of the images.
        kernels, strides, dilations, paddings: choices for each axis of the special layer.
        mode: the padding mode.
        groups: choices.
        pools: choices of (size, stride) for each axis; empty for no pool.
        norm: whether the special layer has a batch norm.
        dither: `"none"`, `"2d"`, `"3d"`.
        integers: whether a first layer has integer weights.
        saturated: whether weights and images are also drawn all alike.
        images: choices of how many.
        repeat: whether the implementation is asked twice.
        needs: traits that the case is about; without them it is skipped.
        effort: how many times as many examples as other cases it gets.
    """

    name: str
    what: str
    on: str = "conv"
    conventions: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    channels: tuple[int, ...] = FEW
    outputs: tuple[int, ...] = (2, 3, 5)
    depth: tuple[int, ...] = (1, 2, 3)
    kernels: tuple[int, ...] = (1, 2, 3)
    strides: tuple[int, ...] = (1,)
    dilations: tuple[int, ...] = (1,)
    paddings: tuple[int, ...] = (0,)
    mode: str = "zeros"
    groups: tuple[int, ...] = (1,)
    pools: tuple[tuple[int, int], ...] = ()
    norm: bool = False
    dither: str = "none"
    integers: bool = False
    saturated: bool = False
    images: tuple[int, ...] = (2, 3)
    repeat: bool = False
    needs: tuple[str, ...] = ()
    effort: int = 1


def _padding(mode: str) -> Case:
    return Case(
        name=f"padding/{mode}",
        what=f"what stands outside the map under {mode!r} padding, and on which side how much",
        mode=mode, paddings=(0, 1, 2), kernels=(2, 3), channels=(3, 66), needs=(f"padding:{mode}",),
    )  # fmt: skip


def _batch_norm(arithmetic: str) -> Case:
    return Case(
        name=f"batch norm/{arithmetic}",
        what=f"thresholds and logits under {arithmetic!r} arithmetic, with boundaries planted on attainable sums",
        on="dense", norm=True, outputs=(4, 6), conventions={"arithmetic": (arithmetic,)},
        needs=(f"arithmetic:{arithmetic}", "batch_norm"), effort=3,
    )  # fmt: skip


def _logits(arithmetic: str) -> Case:
    return Case(
        name=f"last layer/{arithmetic}",
        what=f"batch-normed logits under {arithmetic!r} arithmetic, bit for bit",
        on="last dense", norm=True, outputs=(4, 6), channels=(3, 20), conventions={"arithmetic": (arithmetic,)},
        needs=(f"arithmetic:{arithmetic}", "batch_norm"), effort=2,
    )  # fmt: skip


def _zero(value: int) -> Case:
    return Case(
        name=f"sign/zero {value:+d}" if value else "sign/zero 0",
        what=f"exact ties where the sign of zero is {value}, and what the next layer makes of them",
        conventions={"sign_at_zero": (value,)}, kernels=(1, 2), channels=(2, 4, 66),
        needs=(f"sign_at_zero:{value}",), effort=2,
    )  # fmt: skip


def _dither(name: str, what: str, **options: Any) -> Case:
    return Case(name=f"dither/{name}", what=what, **({"dither": "2d", "kernels": (1, 2)} | options))


CASES: tuple[Case, ...] = (
    Case(name="counting/words", what="packing, tail bits and 2p - N around a word's end",
         on="dense", channels=WORDS, images=(1, 2)),
    Case(name="counting/windows", what="packing and counting over a window, for channels around a word's end",
         channels=WORDS, kernels=(1, 2)),
    Case(name="counting/saturated", what="the largest and smallest sums: counters and thresholds that are too narrow",
         on="dense", channels=(64, 70, 128), saturated=True, norm=True, effort=3),
    Case(name="counting/wide", what="sums of more than eight bits", on="last dense", channels=(130, 300),
         saturated=True),
    Case(name="pixels/bits", what="a first layer with weights of ±1, pixels from 0 to 255", on="pixels",
         depth=(1, 2, 3), kernels=(1, 2, 3)),
    Case(name="pixels/integers", what="a first layer with integer weights: wide sums", on="pixels", integers=True,
         depth=(2, 3), kernels=(2, 3), saturated=True, needs=("integer_weights",)),
    Case(name="pixels/padding", what="what padding fills in under an affine map of the pixels", on="pixels",
         kernels=(2, 3), paddings=(1, 2)),
    Case(name="pixels/batch norm", what="thresholds on a first layer's wide sums", on="pixels", norm=True,
         needs=("batch_norm",)),
    Case(name="windows/kernel", what="the order of a kernel's rows, columns and channels", kernels=(2, 3)),
    Case(name="windows/stride", what="strides, also unequal ones", strides=(1, 2, 3), needs=("stride",)),
    Case(name="windows/dilation", what="dilations, also unequal ones", kernels=(2, 3), dilations=(1, 2),
         needs=("dilation",)),
    Case(name="windows/groups", what="which channels a group reads and writes", channels=(6, 12), outputs=(6, 12),
         groups=(2, 3), needs=("groups",)),
    *(_padding(mode) for mode in PADDING_MODES),
    Case(name="pool/disjoint", what="max pools, on maps that do not fill their windows", kernels=(1, 2),
         pools=((2, 2), (3, 3)), norm=True, needs=("max_pool", "batch_norm")),
    Case(name="pool/overlapping", what="max pools whose stride is not their size", kernels=(1,),
         pools=((2, 1), (3, 2), (1, 2), (2, 2)), needs=("max_pool", "overlapping_pool")),
    Case(name="pool/dither", what="the order of pool, dither and sign, and the phase behind a pool", kernels=(1, 2),
         pools=((2, 2),), dither="2d", norm=True, needs=("max_pool", "batch_norm", "dither:2d"), effort=2),
    *(_batch_norm(arithmetic) for arithmetic in ARITHMETICS),
    *(_logits(arithmetic) for arithmetic in ARITHMETICS),
    Case(name="last layer/sums", what="logits without batch norm", on="last dense"),
    Case(name="last layer/bases", what="three bases whose scaled sums are rounded one after the other: their order",
         on="last bases", norm=True, channels=(3, 66), kernels=(1, 2), conventions={"arithmetic": ARITHMETICS[1:3]},
         needs=("convolution_last", "batch_norm", "layer:combined_conv2d")),
    Case(name="last layer/convolution", what="a convolution as the last layer", on="last conv", norm=True,
         needs=("convolution_last", "batch_norm")),
    *(_zero(value) for value in (1, -1, 0)),
    Case(name="sign/round", what="the released rounding rule, which fires above 2**-24", on="dense", norm=True,
         conventions={"sign_rule": ("keras_round",), "sign_at_zero": (-1,)},
         needs=("sign_rule:keras_round", "sign_at_zero:-1", "batch_norm"), effort=4),
    _dither("phase", "the kernel's cell over each pixel, on maps that are no multiple of the period", effort=2,
            needs=("dither:2d",)),
    _dither("pixels", "dither on the first layer's sums", on="pixels", norm=True, needs=("dither:2d", "batch_norm")),
    _dither("batch norm", "dither behind a batch norm, its sign and its scale", norm=True, effort=3,
            needs=("dither:2d", "batch_norm")),
    _dither("gamma", "the threshold scaled by gamma", norm=True, conventions={"threshold_scale": ("gamma",)},
            needs=("dither:2d", "batch_norm", "threshold_scale:gamma"), effort=2),
    _dither("program", "dither in a float program", norm=True, effort=2, needs=("dither:2d", "batch_norm"),
            conventions={"arithmetic": ARITHMETICS[1:]}),
    _dither("channels", "which slice of a 3D kernel a channel uses", dither="3d", outputs=(6, 8), needs=("dither:3d",)),
    _dither("channels repeated", "slices repeated over neighbouring channels", dither="3d", outputs=(6, 8),
            conventions={"channel_map": ("repeat",)}, needs=("dither:3d", "channel_map:repeat")),
    _dither("wide", "a 3D kernel over more channels than a word has", dither="3d", outputs=(66, 130),
            needs=("dither:3d",)),
    _dither("centre", "a kernel whose phase starts from the centre", conventions={"kernel_origin": ("center_crop",)},
            needs=("dither:2d", "kernel_origin:center_crop"), effort=2),
    _dither("dense", "dither in a dense layer, a map of one pixel", on="dense", dither="3d", outputs=(4, 6), effort=2,
            needs=("dither:3d", "dither_on_dense")),
    Case(name="batch/many", what="more images than a batch of 16 holds", images=(17, 33), needs=("many_images",)),
    Case(name="batch/images", what="every image by itself: nothing is left from the one before", dither="2d",
         kernels=(1,), images=(3, 4), repeat=True, effort=2),
    Case(name="networks/any", what="whole networks: every kind of layer, under any conventions", on="any", effort=3),
    Case(name="networks/residual", what="residual networks: shortcuts, several bases, real last layers", on="residual",
         effort=12),
)  # fmt: skip
"""Every case, in the order of the suite."""


def case(name: str) -> Case:
    """The case of this name.

    >>> case("windows/stride").strides
    (1, 2, 3)
    """
    return next(entry for entry in CASES if entry.name == name)
