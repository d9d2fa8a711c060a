"""Networks from other frameworks' own files: from a path and what the user says to a network and a report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refdesign.conventions import ARITHMETICS, LARQ, PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.formats import keras_chain, keras_file, keras_layers, layer_map, safetensors_file, torch_file
from refdesign.formats.assembling import Context, Root, assemble
from refdesign.formats.binarising import RULES
from refdesign.formats.files import naming
from refdesign.formats.matching import plan_for
from refdesign.formats.plans import LayerPlan
from refdesign.formats.report import Report
from refdesign.formats.tensors import TensorFile
from refdesign.network import NetworkData, PixelConv2d, RealConv2d

Path_ = str | os.PathLike[str]

TORCH_ENDINGS = (".pt", ".pth", ".ckpt", ".tar")
"""Of files of PyTorch; `.tar` is what many name checkpoints, `model_best.pth.tar`."""

KERAS_ENDINGS = (".keras", ".h5", ".hdf5")
"""Of files of Keras."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a user says about a file that does not say it itself.

    Attributes:
        architecture: a network whose layers the file's are; its parameters are not used.
        layer_map: a JSON file, see `refdesign.formats.layer_map`.
        binarise: the rule for latent weights, one of `refdesign.formats.binarising.RULES`.
        pixels: scale and offset of the pixels, x = scale*p + offset, for each input channel or once for all.
        conventions: of the network; None is the architecture's, or what the file implies.
        arithmetic: in place of that of the conventions.
        root: what TensorFlow computes for 1/sqrt, needed for the arithmetic `"keras"`.

    Raises:
        RefdesignError: an unknown rule or arithmetic.
    """

    architecture: NetworkData | None = None
    layer_map: Path_ | None = None
    binarise: str | None = None
    pixels: Sequence[tuple[float, float]] | None = None
    conventions: Conventions | None = None
    arithmetic: str | None = None
    root: Root | None = None

    def __post_init__(self) -> None:
        for name, found, choices in (
            ("binarise", self.binarise, tuple(RULES)),
            ("arithmetic", self.arithmetic, ARITHMETICS),
        ):
            if found is not None and found not in choices:
                raise RefdesignError(f"{name}: found {found!r}, expected one of {', '.join(choices)}")


OPTIONS = frozenset(Wanted.__dataclass_fields__)
"""The names of what a user can say."""


def read_torch(path: Path_, **wanted: Any) -> tuple[NetworkData, Report, str]:
    """A network from a PyTorch state dict; `wanted` are the fields of `Wanted`.

    Raises:
        RefdesignError: as the reader, `refdesign.formats.matching` and `refdesign.formats.assembling`; names the file.

    >>> read_torch("/nowhere/net.pt")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: /nowhere/net.pt: cannot be read: No such file or directory
    """
    return _mapped(path, torch_file.read(path), Wanted(**wanted), "torch")


def read_safetensors(path: Path_, **wanted: Any) -> tuple[NetworkData, Report, str]:
    """A network from a foreign safetensors file; as `read_torch`."""
    return _mapped(path, safetensors_file.read(path), Wanted(**wanted), "torch")


def read_keras(path: Path_, **wanted: Any) -> tuple[NetworkData, Report, str]:
    """A network from a Keras file; with an architecture or a layer map its own description is not asked.

    Raises:
        RefdesignError: as the reader, `refdesign.formats.keras_layers` and `refdesign.formats.assembling`; names the
            file.
    """
    file, said = keras_file.read(path), Wanted(**wanted)
    if file.model is None or said.architecture is not None or said.layer_map is not None:
        return _mapped(path, file.tensor_file(), said, "real")
    with naming(path):
        network, report = described(file, said)
    return network, report, "a Keras model"


def described(file: keras_file.KerasFile, said: Wanted) -> tuple[NetworkData, Report]:
    """The network that a Keras model's own description makes of its variables.

    Raises:
        RefdesignError: names the layer.
    """
    if file.model is None:
        raise RefdesignError("found weights without a model, expected an architecture to map them onto (--model)")
    name, layers, shape = keras_chain.chain(file.model)
    if shape is None:
        raise RefdesignError("input: found no fixed shape (H, W, C) of the images, expected a model built on one")
    plan = keras_layers.plan_for(layers, file.variables, shape, said.binarise)
    kinds = {layer.kind for layer in layers}
    base = said.conventions or (LARQ if any(kind.startswith("quant") for kind in kinds) else PAPER)
    report = Report(assumed=list(file.notes))
    chosen = said.arithmetic or (said.conventions.arithmetic if said.conventions is not None else "real")
    conventions = base.replace(**plan.rules, arithmetic=chosen)
    if chosen == "real" and said.arithmetic is None:
        report.assumed.append(
            "arithmetic 'real': the file does not hold what TensorFlow computes for 1/sqrt (--arithmetic keras reads "
            "it out of an installed TensorFlow)"
        )
    pixels = said.pixels or (None if plan.pixels is None else [plan.pixels])
    if pixels is None:
        pixels = [(1.0, 0.0)]
        report.assumed.append("pixels p enter as they are, since the model does not rescale them (--pixels)")
    context = Context(tensors=plan.tensors, conventions=conventions, pixels=pixels, root=said.root)
    network, found = assemble(plan.layers, context, name=name, input_shape=shape)
    return network, report + plan.report + found


def mapped(file: TensorFile, said: Wanted, arithmetic: str) -> tuple[NetworkData, Report]:
    """The network that tensors are, by an architecture or a layer map.

    Args:
        file: the tensors.
        said: what the user says.
        arithmetic: where nobody says it.

    Raises:
        RefdesignError: neither is given, or as `refdesign.formats.matching` and `refdesign.formats.assembling`.
    """
    report = Report(assumed=list(file.notes))
    given = None if said.layer_map is None else layer_map.read(said.layer_map)
    usual = None
    pixels = said.pixels
    if said.architecture is not None:
        names = {} if given is None else given.names()
        plans, found = plan_for(said.architecture, file, rule=said.binarise, names=names)
        report += found
        base, shape, name = said.architecture.conventions, said.architecture.input_shape, said.architecture.name
        first = said.architecture.layers[0]
        if isinstance(first, PixelConv2d):
            usual = first.multiplier, first.offset
        elif isinstance(first, RealConv2d) and pixels is None:
            pixels = [(float(scale), float(shift)) for scale, shift in zip(first.scale, first.shift, strict=True)]
    elif given is not None and given.input_shape is not None:
        plans = [_with_rule(plan, said.binarise) for plan in given.plans()]
        base, shape, name = given.conventions or PAPER, given.input_shape, given.name
    else:
        raise RefdesignError(
            f"found {file.format}, {len(file.tensors)} arrays by name and nothing about the layers, expected an "
            "architecture to map them onto, or a layer map (refdesign convert --model, --map)"
        )
    conventions = said.conventions or (given.conventions if given is not None else None) or base
    if said.arithmetic is not None or (said.conventions is None and (given is None or given.conventions is None)):
        conventions = conventions.replace(arithmetic=said.arithmetic or arithmetic)
    if said.conventions is None and (given is None or given.conventions is None):
        told = f"sign_at_zero {conventions.sign_at_zero}, arithmetic {conventions.arithmetic!r}"
        report.assumed.append(
            f"{told}: the file does not say how signs and sums are meant (--conventions, --arithmetic)"
        )
    context = Context(
        tensors=file.tensors, conventions=conventions, pixels=pixels, usual_pixels=usual, root=said.root
    )  # fmt: skip
    network, found = assemble(plans, context, name=name, input_shape=shape)
    return network, report + found


def _mapped(path: Path_, file: TensorFile, said: Wanted, arithmetic: str) -> tuple[NetworkData, Report, str]:
    with naming(path):
        network, report = mapped(file, said, arithmetic)
    return network, report, file.format


def tensor_file(path: Path_) -> TensorFile | None:
    """The named arrays in a foreign file, or None where its ending says another kind of file.

    Raises:
        RefdesignError: as the reader.

    >>> tensor_file("net.onnx") is None
    True
    """
    ending = Path(path).suffix.lower()
    if ending in TORCH_ENDINGS:
        return torch_file.read(path)
    if ending in KERAS_ENDINGS:
        return keras_file.read(path).tensor_file()
    return safetensors_file.read(path) if ending == ".safetensors" else None


def _with_rule(plan: LayerPlan, rule: str | None) -> LayerPlan:
    binary = plan.kind in ("pixel_conv2d", "binary_conv2d", "binary_dense")
    return replace(plan, rule=rule) if rule is not None and plan.rule is None and binary else plan
