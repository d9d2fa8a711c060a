"""The folded engine: a golden network run by PyTorch, equal to `Network.run` bit for bit on every device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from refdesign.errors import RefdesignError
from refdesign.frameworks import Engine, engine_along
from refdesign.frameworks.torch.folded import FoldedNetwork, FoldedSign, check_integers_only, folded_products
from refdesign.network import CombinedConv2d, NetworkData, Stage
from refdesign.paths import thresholds_of
from refdesign.run import check_images, check_outputs, default_batch_size


def compile(network: NetworkData, *, device: str | torch.device = "cpu", compiled: bool = False) -> Engine:
    """The network as a callable from images to outputs, computed by PyTorch on folded integer thresholds.

    Networks of integers only run as one `FoldedNetwork`. In others (residual additions, real layers) PyTorch computes
    the accumulators and folded bits, and the real stream is the reference's own, on the host, in its named order.

    Args:
        network: any that the packed path runs, under any conventions.
        device: where the integers are computed.
        compiled: whether the modules go through `torch.compile` (needs a C++ compiler on the CPU).

    Returns:
        A function from images, uint8 (N, H, W, C), and the names of `outputs` to a dict from output name to array.

    Raises:
        RefdesignError: a layer that cannot be folded under the network's conventions, or whose sums no float64
            holds, by name; a device that there is not.

    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> images = np.zeros((2, 8, 8, 1), np.uint8)
    >>> bool(np.array_equal(compile(digits)(images)["logits"], digits.run(images)["logits"]))
    True
    """
    try:
        where = torch.device(device)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RefdesignError(f"compile, device: found {device!s}, which PyTorch cannot use here: {reason}") from error
    try:
        check_integers_only(network)
    except RefdesignError:
        return engine_along(network, _Path(network, where, compiled))
    module = _prepared(FoldedNetwork(network), where, compiled)
    size = default_batch_size(network)

    def run(images: NDArray[np.uint8], *, outputs: str | Sequence[str] = ("logits",)) -> dict[str, NDArray[Any]]:
        check_images(network, images)
        wanted = check_outputs(network, outputs)
        pieces = []
        for start in range(0, max(len(images), 1), size):
            with torch.no_grad():
                found = module(_to(images[start : start + size], where))
            named = dict(zip(network.output_names, found, strict=True))
            pieces.append({name: _numpy(named[name]) for name in wanted})
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in wanted}

    return run


def _prepared(module: nn.Module, device: torch.device, compiled: bool) -> Callable[..., Any]:
    module = module.to(device).eval()
    return torch.compile(module, dynamic=False) if compiled else module


def _to(array: NDArray[Any], device: torch.device) -> Tensor:
    # PyTorch warns of arrays that it may not write to, and knows no negative strides.
    usable = array if array.flags.writeable and array.flags.c_contiguous else array.copy()
    return torch.from_numpy(usable).to(device)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.contiguous().cpu().numpy()
    return array


class _Path:
    """A `refdesign.paths.Path` whose sums and thresholds are PyTorch's; bits are int8 tensors, NHWC."""

    def __init__(self, network: NetworkData, device: torch.device, compiled: bool) -> None:
        self.device = device
        self.products: dict[str, list[Callable[..., Any]]] = {}
        self.thresholds: dict[str, Callable[..., Any]] = {}
        for layer in network.layers:
            self.products[layer.name] = [_prepared(module, device, compiled) for module in folded_products(layer)]
        for name, thresholds in thresholds_of(network).items():
            module = FoldedSign(thresholds, network.shapes[name].output)
            self.thresholds[name] = _prepared(module, device, compiled)

    def integers(self, layer: Stage, x: Any) -> NDArray[np.int32]:
        return self._sums(layer, x)[0]

    def bases(self, layer: CombinedConv2d, x: Any) -> list[NDArray[np.int32]]:
        return self._sums(layer, x)

    def _sums(self, layer: Stage, x: Any) -> list[NDArray[np.int32]]:
        tensor = x if isinstance(x, Tensor) else _to(x, self.device)
        return [_numpy(product(tensor)) for product in self.products[layer.name]]

    def decide(self, layer: Stage, accumulators: NDArray[np.int32]) -> Tensor:
        bits: Tensor = self.thresholds[layer.name](_to(accumulators, self.device))
        return bits

    def hold(self, signs: NDArray[np.int8]) -> Tensor:
        return _to(signs, self.device)

    def signs(self, bits: Any) -> NDArray[np.int8]:
        return _numpy(bits)
