"""A plan from a Keras model's own description: Keras's layers, Larq's, the authors' and this project's own.

A network's layer is gathered from what stands one behind the other: a product, a max pool, a batch norm, a sign, which
Larq writes as the next product's `input_quantizer`. What has no place in a binary network is named with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refdesign.errors import RefdesignError
from refdesign.formats.keras_chain import KerasLayer
from refdesign.formats.keras_geometry import RELEASED, average_pool, convolution, max_pool, zero_padding
from refdesign.formats.keras_signs import Sign, activation, design, weight_rule
from refdesign.formats.plans import LayerPlan, Norm
from refdesign.formats.report import Report
from refdesign.formats.tensors import StoredTensor

CONVOLUTIONS = ("conv2d", "quantconv2d", "binaryconv2d", "conv2dbinarylayer")
DENSE = ("dense", "quantdense", "binarydense", "densebinarylayer")
_IDENTITIES = ("dropout", "spatialdropout2d", "gaussiannoise", "gaussiandropout", "activityregularization")


@dataclass
class Plan:
    """What a description says.

    Attributes:
        layers: the plan.
        tensors: the variables under the names that the plan has.
        pixels: scale and offset of the pixels, None where no layer says it.
        rules: the conventions that the signs settle.
        report: what was recognised and assumed besides.
    """

    layers: list[LayerPlan] = field(default_factory=list)
    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    pixels: tuple[float, float] | None = None
    rules: dict[str, Any] = field(default_factory=dict)
    report: Report = field(default_factory=Report)


def plan_for(
    layers: Sequence[KerasLayer],
    variables: Mapping[str, Mapping[str, StoredTensor]],
    input_shape: tuple[int, int, int],
    rule: str | None,
) -> Plan:
    """The plan of a chain of layers.

    Args:
        layers: from input to output.
        variables: by layer's name.
        input_shape: (H, W, C).
        rule: how latent weights of layers without a quantizer are binarised; None: they must be ±1.

    Raises:
        RefdesignError: a layer that has no place in a binary network, or whose settings have none; names it.
    """
    reader = _Reader(variables, input_shape, rule, tuple(layer.name for layer in layers))
    for layer in layers:
        try:
            reader.take(layer)
        except RefdesignError as error:
            raise RefdesignError(f"layer {layer.name[:60]!r} ({layer.kind}): {error}") from error
    return reader.finish()


@dataclass
class _Stage:
    """A product and what came behind it so far."""

    layer: KerasLayer
    plan: dict[str, Any]
    settings: dict[str, Any]
    real: bool
    signed: bool = False


class _Reader:
    """Takes layer after layer; `shape` is the map that the last one leaves."""

    def __init__(
        self,
        variables: Mapping[str, Mapping[str, StoredTensor]],
        shape: tuple[int, ...],
        rule: str | None,
        names: tuple[str, ...],
    ) -> None:
        self.variables, self.shape, self.rule, self.names = variables, shape, rule, names
        self.plan = Plan()
        self.stage: _Stage | None = None
        self.padding: tuple[int, int] | None = None
        self.ended = False

    def take(self, layer: KerasLayer) -> None:
        if self.ended:
            raise RefdesignError("found a layer behind the softmax, expected none")
        if layer.text("data_format", "channels_last") != "channels_last":
            raise RefdesignError("data_format: found 'channels_first', expected 'channels_last'")
        _check_dtype(layer.config.get("dtype"))
        if layer.kind in CONVOLUTIONS or layer.kind in DENSE:
            self.product(layer)
        elif layer.kind in _LAYERS:
            _LAYERS[layer.kind](self, layer)
        elif layer.kind not in _IDENTITIES:
            self.activate(activation({"class_name": layer.kind}))

    def finish(self) -> Plan:
        if self.stage is not None and self.stage.signed:
            raise RefdesignError(f"layer {self.stage.layer.name[:60]!r}: found a sign behind it, expected logits")
        self.close()
        if self.padding is not None:
            raise RefdesignError("found padding behind the last layer, expected none")
        if not self.plan.layers:
            raise RefdesignError("found no convolution and no dense layer, expected a binary network")
        return self.plan

    def close(self) -> None:
        """The stage is complete."""
        if self.stage is not None:
            stage, self.stage = self.stage, None
            self.plan.layers.append(LayerPlan(**stage.plan, settings=stage.settings))

    def open(self, what: str) -> _Stage:
        """The stage that a layer belongs to, which must not be signed yet."""
        if self.stage is None or self.stage.signed:
            raise RefdesignError(f"found {what} that follows no product, or its sign, expected it behind the product")
        return self.stage

    def rescale(self, layer: KerasLayer) -> None:
        if self.stage is not None or self.plan.layers or self.plan.pixels is not None:
            raise RefdesignError("found it behind a product or twice, expected one before the first product")
        names = ("multiplier", "offset") if layer.kind == "pixelinput" else ("scale", "offset")
        self.plan.pixels = scale, offset = layer.number(names[0], 1.0), layer.number(names[1], 0.0)
        self.plan.report.recognised.append(f"{layer.name}: pixels p enter as {scale:g}*p{offset:+g}")

    def zero_pad(self, layer: KerasLayer) -> None:
        if self.padding is not None:
            raise RefdesignError("found padding twice, expected it once before a convolution")
        self.padding = zero_padding(layer)

    def product(self, layer: KerasLayer) -> None:
        sign = activation(layer.config.get("input_quantizer"))
        # What is padded before the sign is what the sign makes of 0.
        filled = 0
        if isinstance(sign, Sign) and self.padding is not None:
            filled = int(sign.rules["sign_at_zero"])
        self.activate(sign)
        first = self.stage is None and not self.plan.layers
        bits = self.stage is not None and self.stage.signed
        self.close()
        own = layer.kind in ("binaryconv2d", "binarydense")
        biased = not own and layer.flag("use_bias", True)
        weights, *bias = self.leaves(layer, ("latent",) if own else ("kernel", "bias") if biased else ("kernel",))
        rule = self.weights_rule(layer, weights, bits)
        real = rule is None and not _two_valued(self.plan.tensors[weights])
        dense = layer.kind in DENSE
        self.check_product(weights, real, dense, first, bits)
        prefix = "real" if real else "pixel" if first else "binary"
        plan = {
            "name": self.unique(layer.name), "kind": f"{prefix}_{'dense' if dense else 'conv2d'}", "weights": weights,
            "layout": "IO" if dense else "HWIO", "rule": rule, "bias": bias[0] if bias else None,
        }  # fmt: skip
        settings: dict[str, Any] = {}
        if not dense:
            settings, self.shape = convolution(layer, self.shape, self.padding, filled)
        else:
            if len(self.shape) != 1 or self.padding is not None:
                raise RefdesignError(f"found a dense layer on a map {self.shape}, expected Flatten before it")
            self.shape = (self.plan.tensors[weights].shape[-1],)
        self.padding = None
        self.stage = _Stage(layer, plan, settings, real)
        self.activate(activation(layer.config.get("activation")))

    def check_product(self, weights: str, real: bool, dense: bool, first: bool, bits: bool) -> None:
        """Whether such weights can stand here."""
        if dense and first:
            raise RefdesignError("found a dense layer first, expected a convolution on the pixels")
        if real and bits:
            raise RefdesignError(
                f"found weights {_how_far(self.plan.tensors[weights])} on bits, expected weights of ±1; where they are "
                "latent, say how they are binarised (--binarise sign)"
            )
        if not real and not first and not bits:
            raise RefdesignError("found binary weights on real inputs, expected a sign before them")
        if real and not first and not dense:
            raise RefdesignError("found a real convolution behind the first layer, expected binary weights")

    def weights_rule(self, layer: KerasLayer, weights: str, bits: bool) -> str | None:
        """How the weights are binarised; None: they are taken as they are."""
        if layer.kind in RELEASED:
            return "keras_round"
        if layer.kind in ("binaryconv2d", "binarydense"):
            return "sign"
        rule = weight_rule(layer.config.get("kernel_quantizer"))
        if rule is None and bits and not _two_valued(self.plan.tensors[weights]):
            return self.rule
        return rule

    def pool(self, layer: KerasLayer) -> None:
        stage = self.stage
        if stage is None or len(self.shape) != 3 or stage.settings.get("pool") is not None or self.padding is not None:
            raise RefdesignError("found a max pool that follows no convolution, or a second one, expected one")
        if stage.signed and stage.plan.get("kernel") is not None:
            raise RefdesignError(
                "found a max pool behind a dither, expected it before: its thresholds vary in a window"
            )
        stage.settings["pool"], self.shape = max_pool(layer, self.shape)
        stage.plan["pool_behind"] = stage.plan.get("batch_norm") is not None

    def average(self, layer: KerasLayer) -> None:
        stage = self.open("an average pool")
        if stage.plan["kind"].endswith("dense"):
            raise RefdesignError("found an average pool behind a dense layer, expected a map")
        size, self.shape = average_pool(layer, self.shape)
        self.close()
        self.plan.layers.append(LayerPlan(name=self.unique(layer.name), kind="average_pool", settings={"size": size}))
        self.plan.report.assumed.append(f"{layer.name}: an average is summed row by row in float32, then divided")

    def norm(self, layer: KerasLayer) -> None:
        stage = self.open("a batch norm")
        if stage.plan.get("batch_norm") is not None or stage.plan["kind"] == "real_dense":
            raise RefdesignError("found a batch norm behind another, or behind a real dense layer, expected one")
        axis = layer.config.get("axis", -1)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        if type(axis) is not int or axis not in (-1, len(self.shape)):
            raise RefdesignError(f"axis: found {str(axis)[:40]}, expected the last one")
        if any(layer.config.get(key) for key in ("renorm", "virtual_batch_size", "adjustment")):
            raise RefdesignError("found batch renormalisation, expected a plain batch norm")
        scaled, centred = layer.flag("scale", True), layer.flag("center", True)
        names = ["gamma"] * scaled + ["beta"] * centred + ["moving_mean", "moving_variance"]
        held = self.variables.get(layer.name, {})
        if len(held) != len(names):
            raise RefdesignError(f"found the variables {', '.join(held)[:80] or 'none'}, expected {', '.join(names)}")
        found = dict(zip(names, self.leaves(layer, names), strict=True))
        stage.plan["batch_norm"] = Norm(
            mean=found["moving_mean"], variance=found["moving_variance"], gamma=found.get("gamma"),
            beta=found.get("beta"), epsilon=layer.number("epsilon", 1e-3),
        )  # fmt: skip

    def norm_design(self, layer: KerasLayer) -> None:
        self.norm(layer)
        self.design(layer)

    def flatten(self, layer: KerasLayer) -> None:
        self.shape = (math.prod(self.shape),)

    def activation(self, layer: KerasLayer) -> None:
        self.activate(activation(layer.config.get("activation")))

    def design(self, layer: KerasLayer) -> None:
        self.activate(design(layer.config))

    def activate(self, found: Sign | str | None) -> None:
        """A sign, a softmax, or nothing."""
        if found is None:
            return
        stage = self.open("a sign or a softmax")
        if isinstance(found, str):
            self.ended = True
            self.plan.report.assumed.append(f"the {found} behind the logits is left aside")
            return
        if stage.plan["kind"] == "real_dense":
            raise RefdesignError("found a sign behind a real dense layer, expected logits")
        for key, value in found.rules.items():
            if self.plan.rules.setdefault(key, value) != value:
                raise RefdesignError(f"{key}: found {value!r}, in earlier layers {self.plan.rules[key]!r}")
        stage.signed = True
        stage.plan["kernel"] = found.kernel

    def leaves(self, layer: KerasLayer, names: Sequence[str]) -> list[str]:
        """The names, in the plan, of a layer's variables."""
        held = self.variables.get(layer.name, {})
        numbered = sorted(held, key=lambda leaf: int(leaf)) if all(leaf.isdecimal() for leaf in held) else []
        found = []
        for place, name in enumerate(names):
            leaf = name if name in held else numbered[place] if place < len(numbered) == len(names) else None
            if leaf is None and len(held) == len(names) and name == "latent":
                leaf = next(iter(held))  # numbered in the file, and by its shape taken for a kernel
            if leaf is None:
                raise RefdesignError(
                    f"found the variables {', '.join(held)[:80] or 'none'}, expected {', '.join(names)}: were the "
                    "weights saved with the model?"
                )
            found.append(f"{layer.name}.{name}")
            self.plan.tensors[found[-1]] = held[leaf]
        return found

    def unique(self, name: str) -> str:
        """A name that a network's layer can have, and none has yet."""
        plain = name.replace(".", "_").replace("/", "_")
        # Keras calls them conv2d, conv2d_1, ...: arrays in firmware are told apart by what their names begin with.
        if any(other.startswith(f"{plain}_") for other in self.names):
            plain += "_0"
        taken = {layer.name for layer in self.plan.layers} | {"logits"}
        while plain in taken:
            plain += "_"
        return plain


_LAYERS = {
    "rescaling": _Reader.rescale,
    "pixelinput": _Reader.rescale,
    "zeropadding2d": _Reader.zero_pad,
    "maxpooling2d": _Reader.pool,
    "averagepooling2d": _Reader.average,
    "globalaveragepooling2d": _Reader.average,
    "batchnormalization": _Reader.norm,
    "batchnormdesign": _Reader.norm_design,
    "flatten": _Reader.flatten,
    "activation": _Reader.activation,
    "design": _Reader.design,
}
"""What is done with each kind of layer that is no product."""


def _check_dtype(policy: Any) -> None:
    config = policy.get("config") if isinstance(policy, dict) else None
    name = config.get("name") if isinstance(config, dict) else policy
    if name not in (None, "float32"):
        raise RefdesignError(f"dtype: found {str(name)[:40]!r}, expected float32")


def _two_valued(tensor: StoredTensor) -> bool:
    """Whether the weights are ±s with one s for each output channel, which is the last axis."""
    if 0 in tensor.shape or not tensor.shape:
        return False
    size = np.abs(tensor.load()).reshape(-1, tensor.shape[-1])
    return bool((size == size[:1]).all() and (size > 0).all())


def _how_far(tensor: StoredTensor) -> str:
    size = np.abs(tensor.load().astype(np.float64))
    return f"with |w| from {size.min(initial=0):.3g} to {size.max(initial=0):.3g}"
