"""PyTorch modules as implementations under test: hooks see what the submodules give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from refdesign.frameworks.torch.folded import FoldedNetwork
from refdesign.frameworks.torch.modes import evaluating
from refdesign.frameworks.torch.residual import BinaryNetwork, network_outputs
from refdesign.network import NetworkData
from refdesign.verify.doors.mapping import Map

Array = NDArray[Any]


def read(path: Path) -> Any:
    """The program in a `.pt2` file of `torch.export.save`."""
    return torch.export.load(path)


def model(target: Any, network: NetworkData, mapping: Map) -> ModuleModel:
    """A module, or an exported program as one."""
    if not isinstance(target, nn.Module):
        return ModuleModel(target.module(), network, exported=True)
    return ModuleModel(target, network)


class ModuleModel:
    """A module, run in eval mode without gradients, on the device of its parameters.

    Args:
        module: takes images as float32 (N, C, H, W), unless it is this project's `FoldedNetwork`.
        network: the network that it implements.
        exported: whether it comes of `torch.export`, and so has no modes.
    """

    def __init__(self, module: nn.Module, network: NetworkData, *, exported: bool = False) -> None:
        self._module = module
        self._network = network
        self._exported = exported
        folded = isinstance(module, FoldedNetwork)
        tensors = [*module.parameters(), *module.buffers()]
        self._device = tensors[0].device if tensors else torch.device("cpu")
        self.what = f"PyTorch module {type(module).__name__} on {self._device}"
        self.channels_first = not folded
        self.layout, self.dtype = ("n h w c", "uint8") if folded else ("n c h w", "float32")
        self.returns: Sequence[str] = module.output_names if isinstance(module, FoldedNetwork) else ()
        own = isinstance(module, BinaryNetwork)
        self.places: Mapping[str, str] = {} if own or folded else _places(module)
        training = not exported and any(part.training for part in module.modules())
        self.notes = ["it was in training mode, and is run in eval mode"] if training else []

    def run(self, images: Array, places: Sequence[str]) -> tuple[Any, dict[str, Array]]:
        """What the module returns, and what its submodules gave on the way."""
        if isinstance(self._module, BinaryNetwork):
            pixels = images.transpose(0, 2, 3, 1).astype("uint8")
            return network_outputs(self._module, self._network.output_names, pixels), {}
        modules = dict(self._module.named_modules(remove_duplicate=False))
        given: dict[str, list[Any]] = {place: [] for place in places}
        handles = [modules[place].register_forward_hook(_keep(given[place])) for place in places]
        try:
            with torch.no_grad() if self._exported else evaluating(self._module):
                returned = self._module(torch.from_numpy(images).to(self._device))
        finally:
            for handle in handles:
                handle.remove()
        inside = {
            place: _numpy(values[0])
            for place, values in given.items()
            if len(values) == 1 and isinstance(values[0], Tensor)
        }
        return _numpy(returned), inside


def _keep(into: list[Any]) -> Any:
    def hook(_module: nn.Module, _inputs: object, output: Any) -> None:
        # A later module may work in place on what this one gave.
        into.append(output.detach().clone() if isinstance(output, Tensor) else output)

    return hook


def _places(module: nn.Module) -> dict[str, str]:
    """Submodules by name; a shared one under each of its names, which is then run more than once."""
    return {name: _kind(part) for name, part in module.named_modules(remove_duplicate=False) if name}


def _kind(module: nn.Module) -> str:
    weight = getattr(module, "weight", None)
    if isinstance(weight, Tensor) and weight.ndim >= 2:
        return "product"
    return "block" if any(True for _ in module.children()) else "value"


def _numpy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _numpy(entry) for name, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_numpy(entry) for entry in value]
    if not isinstance(value, Tensor):
        return value
    host = value.detach().cpu()
    return (host.float() if host.dtype == torch.bfloat16 else host).numpy()
