"""A file's tensors, gathered into the modules that they belong to: products, and batch norms.

A module is a prefix of names: `layer1.0.conv1.weight` belongs to `layer1.0.conv1`. Products have a weight of two or
four axes, batch norms a running mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from refdesign.formats.tensors import StoredTensor

_WEIGHTS = ("weight", "kernel", "latent", "w")
_SCALES = ("alpha", "scale", "scaling_factor", "scales")
_NORM_FIELDS = {
    "gamma": ("weight", "gamma"),
    "beta": ("bias", "beta"),
    "mean": ("running_mean", "moving_mean"),
    "variance": ("running_var", "moving_var", "moving_variance", "running_variance"),
}


@dataclass(frozen=True)
class Product:
    """A convolution or a dense layer.

    Attributes:
        name: the module's.
        weights: the name of its weights.
        axes: how many they have.
        alpha, bias: the names of a scale and of a bias, where there are such.
        recu: whether it has ReCU's quantile tau.
        keras: whether the weights' axes are in Keras's order.
    """

    name: str
    weights: str
    axes: int
    alpha: str | None
    bias: str | None
    recu: bool
    keras: bool


@dataclass(frozen=True)
class NormModule:
    """A batch norm; `fields` are the names of its tensors by what they are, `channels` how many it has.

    `complete` says whether it has running statistics.
    """

    name: str
    fields: Mapping[str, str]
    channels: int

    @property
    def complete(self) -> bool:
        """Whether it has running statistics."""
        return "mean" in self.fields and "variance" in self.fields


@dataclass(frozen=True)
class Modules:
    """The modules of a file, in its order, and the tensors that hold thresholds (g, m, n) by their module's name."""

    products: tuple[Product, ...]
    norms: tuple[NormModule, ...]
    thresholds: Mapping[str, str]


def gather(tensors: Mapping[str, StoredTensor]) -> Modules:
    """The modules that tensors belong to.

    >>> import numpy as np
    >>> def stored(*shape: int) -> StoredTensor:
    ...     return StoredTensor("float32", shape, lambda: np.zeros(shape, np.float32))
    >>> found = gather({"conv1.weight": stored(2, 1, 3, 3), "bn1.weight": stored(2), "bn1.bias": stored(2),
    ...                 "bn1.running_mean": stored(2), "bn1.running_var": stored(2)})
    >>> [product.name for product in found.products], [norm.name for norm in found.norms]
    (['conv1'], ['bn1'])
    """
    grouped: dict[str, dict[str, str]] = {}
    for name in tensors:
        module, _, leaf = name.replace("/", ".").rpartition(".")
        grouped.setdefault(module, {})[re.sub(r":\d+$", "", leaf)] = name
    products, norms, thresholds = [], [], {}
    for module, leaves in grouped.items():
        weights = next((leaves[leaf] for leaf in _WEIGHTS if leaf in leaves), None)
        axes = 0 if weights is None else len(tensors[weights].shape)
        if weights is not None and axes in (2, 4):
            products.append(_product(module, leaves, weights, axes, grouped))
        elif _is_norm(leaves, tensors):
            fields = {key: leaves[leaf] for key, names in _NORM_FIELDS.items() for leaf in names if leaf in leaves}
            norms.append(NormModule(module, fields, max(_count(tensors[name]) for name in fields.values())))
        if "threshold" in leaves and len(tensors[leaves["threshold"]].shape) == 3:
            thresholds[module] = leaves["threshold"]
    return Modules(tuple(products), tuple(norms), thresholds)


def _product(
    module: str, leaves: Mapping[str, str], weights: str, axes: int, grouped: Mapping[str, Mapping[str, str]]
) -> Product:
    below = grouped.get(f"{module}.binariser", {})
    alpha = next((place[leaf] for place in (leaves, below) for leaf in _SCALES if leaf in place), None)
    keras = "kernel" in leaves or "latent" in leaves
    return Product(module, weights, axes, alpha, leaves.get("bias"), "tau" in leaves or "tau" in below, keras)


def _is_norm(leaves: Mapping[str, str], tensors: Mapping[str, StoredTensor]) -> bool:
    """A running mean says so; so do gamma and beta alone, of a batch norm whose statistics were not saved."""
    statistics = (*_NORM_FIELDS["mean"], *_NORM_FIELDS["variance"])
    pairs = [("gamma", "beta"), ("weight", "bias")]
    if any(leaf in leaves for leaf in statistics):
        return True
    return any(all(leaf in leaves and _flat(tensors[leaves[leaf]]) for leaf in pair) for pair in pairs)


def _flat(tensor: StoredTensor) -> bool:
    """Whether it is a vector, axes of 1 around it not counted."""
    return sum(extent != 1 for extent in tensor.shape) <= 1


def _count(tensor: StoredTensor) -> int:
    return max((1, *tensor.shape))
