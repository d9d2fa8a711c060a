"""A plan from an architecture: its layers found in a file by their names, or in the file's order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from refdesign.bits import PackedBits
from refdesign.errors import RefdesignError
from refdesign.formats.modules import Modules, NormModule, Product, gather
from refdesign.formats.plans import LayerPlan, Norm
from refdesign.formats.report import Report
from refdesign.formats.tensors import TensorFile
from refdesign.network import (
    AveragePool,
    BinaryDense,
    CombinedConv2d,
    Layer,
    NetworkData,
    PixelConv2d,
    RealConv2d,
    RealDense,
    Stage,
    describe,
)
from refdesign.parameters import BatchNorm, ThresholdKernel

GRID = 127
"""The largest integer of the grid on which this project's own modules keep real first-layer weights."""

_GEOMETRY = ("stride", "padding", "padding_mode", "dilation", "groups")
_PREFIXES = ("module.", "model.", "net.", "network.", "layers.", "features.", "_orig_mod.")
_NORM_WORDS = ("bn", "norm", "batchnorm", "batch_norm", "batch_normalization")
_PRODUCT_WORDS = ("conv2d", "conv", "dense", "linear", "fc", "product")

Found = TypeVar("Found", Product, NormModule)


def plan_for(
    architecture: NetworkData,
    file: TensorFile,
    *,
    rule: str | None = None,
    names: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[list[LayerPlan], Report]:
    """Where the layers of an architecture are in a file.

    Layers are found by their names (`layer1_0_conv1` is `layer1.0.conv1`), and if not all of them are, in the order in
    which the file has its products and its batch norms; shapes decide nothing, and are checked.

    Args:
        architecture: the layers, their geometry and the epsilons; its parameters are not used.
        file: the tensors.
        rule: how latent weights are binarised; None: as the file shows (±1, or ReCU's own parameters beside them).
        names: by layer, names of tensors that the user gave: `weights`, `alpha`, `bias`, `batch_norm` (a prefix).

    Raises:
        RefdesignError: a layer that is not found, or of which several could be meant; says what the file has.
    """
    modules = gather(file.tensors)
    given = dict(names or {})
    with_weights = [layer for layer in architecture.layers if not isinstance(layer, AveragePool)]
    report = Report()
    products = _products(with_weights, modules, file, given, report)
    normed = [layer for layer in with_weights if _norm_of(layer) is not None]
    norms = _norms(normed, products, modules, file, given, report)
    plans = []
    for layer in architecture.layers:
        if isinstance(layer, AveragePool):
            plans.append(LayerPlan(name=layer.name, kind=layer.kind, settings={"size": layer.size}))
            continue
        plans.append(_plan(layer, products[layer.name], norms.get(layer.name), modules, file, rule))
    used = {product.name for product in products.values()} | {norm.name for norm in norms.values()}
    left = [product.name for product in modules.products if product.name not in used]
    left += [norm.name for norm in modules.norms if norm.name not in used]
    if left:
        raise RefdesignError(
            f"found {', '.join(name[:60] for name in left[:8])} in the file, for which the architecture has no place, "
            "expected none: another width, or another architecture?"
        )
    return plans, report


def _products(
    layers: Sequence[Layer],
    modules: Modules,
    file: TensorFile,
    given: Mapping[str, Mapping[str, Any]],
    report: Report,
) -> dict[str, Product]:
    found: dict[str, Product] = {}
    for layer in layers:
        name = given.get(layer.name, {}).get("weights")
        if name is not None:
            meant = [product for product in modules.products if product.weights == name]
            found[layer.name] = _only(layer.name, meant, f"tensor {name!r}")
    rest = [layer for layer in layers if layer.name not in found]
    free = [product for product in modules.products if product not in found.values()]
    by_name = {layer.name: _named(layer.name, free, ("product",)) for layer in rest}
    if all(by_name.values()):
        return found | {name: product for name, product in by_name.items() if product is not None}
    missing = ", ".join(name for name, product in by_name.items() if product is None)
    if len(free) != len(rest) or not (file.ordered or given):
        raise RefdesignError(
            f"found no weights for {missing[:200]} among {_names(free)} ({len(free)} for {len(rest)} layers), expected "
            "the architecture's names"
            + (", or as many in its order" if file.ordered else "")
            + "; or name them (--map)"
        )
    in_order = [product for _, product in sorted(enumerate(free), key=lambda entry: (entry[1].axes != 4, entry[0]))]
    report.assumed.append(
        "layers are matched in the order of the file: "
        + ", ".join(f"{layer.name} {product.name}" for layer, product in zip(rest, in_order, strict=True))
    )
    return found | {layer.name: product for layer, product in zip(rest, in_order, strict=True)}


def _norms(
    layers: Sequence[Layer],
    products: Mapping[str, Product],
    modules: Modules,
    file: TensorFile,
    given: Mapping[str, Mapping[str, Any]],
    report: Report,
) -> dict[str, NormModule]:
    found: dict[str, NormModule] = {}
    for layer in layers:
        name = given.get(layer.name, {}).get("batch_norm")
        if name is not None:
            meant = [norm for norm in modules.norms if norm.name == name]
            found[layer.name] = _only(layer.name, meant, f"batch norm {name!r}")
    for layer in layers:
        if layer.name not in found:
            free = [norm for norm in modules.norms if norm not in found.values()]
            match = _beside(products[layer.name].name, free) or _named(layer.name, free, _NORM_WORDS)
            if match is not None:
                found[layer.name] = match
    rest = [layer for layer in layers if layer.name not in found]
    free = [norm for norm in modules.norms if norm not in found.values()]
    if rest and len(free) == len(rest) and (file.ordered or len(rest) == 1):
        report.assumed.append(
            "batch norms are matched in the order of the file: "
            + ", ".join(f"{layer.name} {norm.name}" for layer, norm in zip(rest, free, strict=True))
        )
        found |= {layer.name: norm for layer, norm in zip(rest, free, strict=True)}
    elif rest:
        raise RefdesignError(
            f"layer {rest[0].name!r}, batch_norm: found none for {products[rest[0].name].name!r} among {_names(free)}, "
            "expected one: name it (--map)"
        )
    for layer in layers:
        if not found[layer.name].complete:
            raise RefdesignError(
                f"layer {layer.name!r}, batch_norm: found {found[layer.name].name!r} without its running mean and "
                "variance, expected both: register them as buffers, so that state_dict() has them, take them from the "
                "running model, and save again"
            )
    return found


def _plan(
    layer: Layer, product: Product, norm: NormModule | None, modules: Modules, file: TensorFile, rule: str | None
) -> LayerPlan:
    if isinstance(layer, CombinedConv2d):
        raise RefdesignError(f"layer {layer.name!r}: found several bases, which files of tensors are not mapped onto")
    settings = {key: value for key, value in describe(layer).items() if key in _GEOMETRY}
    if isinstance(layer, Stage):
        settings |= {"pool": layer.pool, "shortcut": layer.shortcut, "hardtanh": layer.hardtanh}
    dense = isinstance(layer, (BinaryDense, RealDense))
    on_grid = isinstance(layer, PixelConv2d) and not isinstance(layer.weights, PackedBits)
    real = on_grid or isinstance(layer, (RealConv2d, RealDense))
    template = _norm_of(layer)
    layout = ("IO" if product.keras else "OI") if dense else ("HWIO" if product.keras else "OIHW")
    return LayerPlan(
        name=layer.name,
        kind="real_conv2d" if on_grid else layer.kind,
        weights=product.weights,
        layout=layout,
        rule=None if real else rule or ("recu" if product.recu else None),
        alpha=product.alpha,
        bias=product.bias,
        grid=GRID if on_grid and product.alpha is not None and not product.recu else None,
        batch_norm=None if norm is None or template is None else _source(norm, template.epsilon),
        kernel=_kernel(layer, product, modules, file),
        channels_first=dense and not product.keras and not _own_network(modules),
        settings={} if isinstance(layer, RealDense) else settings,
    )


def _kernel(layer: Layer, product: Product, modules: Modules, file: TensorFile) -> ThresholdKernel | str | None:
    """The thresholds that this project's own modules keep beside a product, or those that the architecture has."""
    if not isinstance(layer, Stage):
        return None
    stored = modules.thresholds.get(f"{product.name.removesuffix('.product')}.activation")
    if stored is None or layer.kernel is None:
        return stored or layer.kernel
    found = file.tensors[stored].float32().transpose(1, 2, 0)
    if not np.array_equal(found, layer.kernel.values):
        raise RefdesignError(
            f"layer {layer.name!r}, kernel: found other thresholds in {stored!r} than in the kernel that was given, "
            "expected one of them"
        )
    return stored


def _own_network(modules: Modules) -> bool:
    """Whether this project's own `BinaryNetwork` was saved, whose dense layers read (row, column, channel)."""
    return any(name.startswith("layers.") for name in modules.thresholds)


def _source(norm: NormModule, epsilon: float) -> Norm:
    fields = norm.fields
    return Norm(
        mean=fields["mean"], variance=fields["variance"], gamma=fields.get("gamma"), beta=fields.get("beta"),
        epsilon=epsilon,
    )  # fmt: skip


def _norm_of(layer: Layer) -> BatchNorm | None:
    if isinstance(layer, RealDense):
        return layer.input_batch_norm
    return layer.batch_norm if isinstance(layer, Stage) else None


def _beside(product: str, norms: Iterable[NormModule]) -> NormModule | None:
    """The batch norm whose name is the product's with another word: `layer1.0.conv1` has `layer1.0.bn1`."""
    parent, _, leaf = product.rpartition(".")
    wanted = set()
    for word in _PRODUCT_WORDS:
        if leaf.startswith(word):
            wanted |= {_joined(parent, f"{norm}{leaf[len(word) :]}") for norm in _NORM_WORDS}
            break
    wanted |= {_joined(parent, f"{norm}_{leaf}") for norm in _NORM_WORDS}
    if leaf == "product":
        wanted |= {_joined(parent, norm) for norm in _NORM_WORDS}
    matches = [norm for norm in norms if norm.name in wanted]
    return matches[0] if len(matches) == 1 else None


def _joined(parent: str, leaf: str) -> str:
    return f"{parent}.{leaf}" if parent else leaf


def _named(layer: str, modules: Iterable[Found], suffixes: Sequence[str]) -> Found | None:
    """The module that is called like the layer; by its plainest name where several could be."""
    spelled = {_plain(layer), *(_plain(f"{layer}_{suffix}") for suffix in suffixes)}
    matches = [module for module in modules if _plain(_stripped(module.name)) in spelled]
    return matches[0] if len(matches) == 1 else None


def _stripped(name: str) -> str:
    while True:
        shorter = name
        for prefix in _PREFIXES:
            shorter = shorter.removeprefix(prefix)
        if shorter == name:
            return name
        name = shorter


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


def _only(layer: str, found: Sequence[Found], what: str) -> Found:
    if len(found) != 1:
        raise RefdesignError(f"layer {layer!r}: found {len(found)} of {what} in the file, expected one")
    return found[0]


def _names(modules: Sequence[Product] | Sequence[NormModule]) -> str:
    return ", ".join(module.name[:60] for module in modules[:12]) or "none"
