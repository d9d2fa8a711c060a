"""A module's layers as the reference sees them: which modules belong to one layer, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from refdesign.errors import RefdesignError
from refdesign.frameworks.exporting import refuse_changed
from refdesign.frameworks.torch.design import DeSign
from refdesign.frameworks.torch.layers import BinaryConv2d, BinaryLayer, BinaryLinear, PixelInput
from refdesign.frameworks.torch.parameters import NORMS

_IDLE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
_KINDS = (
    nn.Sequential, BinaryLayer, PixelInput, BinaryConv2d, BinaryLinear, nn.MaxPool2d, DeSign, nn.Flatten, *_IDLE,
    *NORMS["torch"], *NORMS["released_torch"],
)  # fmt: skip
_METHODS = ("forward", "binarised", "sums", "planes", "dithered", "sign", "threshold_map", "normalised", "trace")


def refuse_changed_modules(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> None:
    """Refuse modules below `module` of one of these kinds that compute something else than their kind.

    Forward hooks are not looked at: most only observe.

    >>> class Residual(nn.Sequential):
    ...     def forward(self, x):
    ...         return x + super().forward(x)
    >>> refuse_changed_modules(nn.Sequential(Residual()), (nn.Sequential,))
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: to_network, '0': found Residual, a Sequential with a forward of its own, which \
would be lost, expected Sequential as it is
    """
    for place, part in module.named_modules():
        refuse_changed(place or "the model", part, kinds, _METHODS)


@dataclass
class Parts:
    """The modules of one layer, in the order in which they run; those that follow the product are optional.

    Attributes:
        name: the layer's name, made from the product's place in the model.
        flattened: whether an `nn.Flatten` stands before the product.
    """

    name: str
    product: BinaryConv2d | BinaryLinear
    flattened: bool
    pool: nn.MaxPool2d | None = None
    batch_norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None
    activation: DeSign | None = None


def split(module: nn.Module) -> tuple[PixelInput, list[Parts]]:
    """The pixel input and the layers of a sequential binary network.

    Args:
        module: an `nn.Sequential` (it may hold others and `BinaryLayer`s) of a `PixelInput`, then for every
            layer `BinaryConv2d` or `BinaryLinear`, optional `nn.MaxPool2d`, batch norm, `DeSign` or `Sign`, in this
            order; `nn.Flatten` before the first dense layer. `nn.Identity` and `nn.Dropout` are passed over.

    Raises:
        RefdesignError: another module, one whose class computes something else than these, or another order, naming
            the module's place.

    >>> from refdesign.frameworks.torch import Sign
    >>> pixels, layers = split(nn.Sequential(PixelInput(), BinaryConv2d(1, 2, 3), nn.BatchNorm2d(2), Sign()))
    >>> [layer.name for layer in layers]
    ['1']
    """
    refuse_changed_modules(module, _KINDS)
    steps = list(_flow(module, ""))
    if not steps or not isinstance(steps[0][1], PixelInput):
        found = type(steps[0][1]).__name__ if steps else "an empty model"
        raise RefdesignError(
            f"to_network: found {found} first, expected PixelInput at the head of an nn.Sequential, or a "
            "BinaryNetwork, which may have shortcuts, several bases and real layers"
        )
    layers: list[Parts] = []
    flattened = False
    for place, part in steps[1:]:
        if isinstance(part, nn.Flatten):
            if (part.start_dim, part.end_dim) != (1, -1):
                raise RefdesignError(f"to_network, module {place!r}: expected Flatten(1, -1), found {part}")
            flattened = True
        elif isinstance(part, (BinaryConv2d, BinaryLinear)):
            layers.append(Parts(place.removesuffix("_product"), part, flattened))
            flattened = False
        else:
            _add(layers, place, part, flattened)
    if not layers:
        raise RefdesignError("to_network: found no layer, expected BinaryConv2d or BinaryLinear after PixelInput")
    return steps[0][1], layers


def _flow(module: nn.Module, place: str) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, (nn.Sequential, BinaryLayer)):
        # Not named_children(), which leaves out a module's second place (one Sign used by all layers).
        for name, child in module._modules.items():
            if child is None:
                continue
            yield from _flow(child, f"{place}_{name}" if place else name)
    elif not isinstance(module, _IDLE):
        yield place, module


def _add(layers: list[Parts], place: str, part: nn.Module, flattened: bool) -> None:
    """Put a module that follows a product into its layer, if it is one of those and stands in its place."""
    kinds: dict[str, Any] = {"pool": nn.MaxPool2d, "batch_norm": NORMS["torch"], "activation": DeSign}
    field = next((field for field, kind in kinds.items() if isinstance(part, kind)), None)
    later = list(kinds)[list(kinds).index(field) :] if field else []
    if not field or not layers or flattened or any(getattr(layers[-1], taken) is not None for taken in later):
        raise RefdesignError(
            f"to_network, module {place!r}: found {type(part).__name__}, expected for each layer a BinaryConv2d or "
            "BinaryLinear, then optionally MaxPool2d, batch norm, DeSign or Sign, in this order"
        )
    setattr(layers[-1], field, part)
