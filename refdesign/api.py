"""What users hold: a network with its methods, and the ways to get one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import refdesign.formats.conversion as conversion
import refdesign.formats.native as native
from refdesign import run as _run
from refdesign.checks import shown
from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds
from refdesign.network import NetworkData
from refdesign.paths import thresholds_of

_PRETRAINED = resources.files("refdesign") / "models" / "pretrained"


class Network(NetworkData):
    """A network that can be run, folded and saved; its data are those of `NetworkData`.

    >>> network = pretrained("digits")
    >>> from refdesign.datasets import load as load_images
    >>> images, labels = load_images("digits", "test")
    >>> network.run(images[:2])["logits"].shape
    (2, 10)
    """

    def __repr__(self) -> str:
        """In one line: the name, the images, the layers, the conventions.

        >>> pretrained("digits-sign")
        <Network 'digits-sign': images (8, 8, 1), layers conv1, conv2, conv3, conv4, dense1, dense2, arithmetic torch>
        """
        layers = ", ".join(layer.name for layer in self.layers)
        return (
            f"<Network {self.name!r}: images {tuple(self.input_shape)}, layers {layers}, "
            f"arithmetic {self.conventions.arithmetic}>"
        )

    def run(
        self,
        images: NDArray[np.uint8],
        *,
        path: str = "packed",
        outputs: str | Sequence[str] = ("logits",),
        batch_size: int | None = None,
        workers: int = 1,
        progress: _run.Progress | None = None,
    ) -> Mapping[str, NDArray[Any]]:
        """Run the network; see `refdesign.run.run`, whose arguments these are.

        Returns:
            The outputs asked for, by name, in order of execution.
        """
        return _run.run(
            self,
            images,
            path=path,
            outputs=outputs,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )

    def iter_run(
        self,
        images: NDArray[np.uint8],
        *,
        path: str = "packed",
        outputs: str | Sequence[str] = ("logits",),
        batch_size: int | None = None,
        workers: int = 1,
        progress: _run.Progress | None = None,
    ) -> Iterator[Mapping[str, NDArray[Any]]]:
        """Run the network batch by batch; see `refdesign.run.iter_run`, whose arguments these are."""
        return _run.iter_run(
            self,
            images,
            path=path,
            outputs=outputs,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )

    def thresholds(self) -> dict[str, Thresholds]:
        """The folded thresholds of every layer that folds, with their certificates, by layer name."""
        return thresholds_of(self)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the network to a file (safetensors with metadata); replaced atomically.

        Raises:
            RefdesignError: the file cannot be written.
        """
        _check_path("save", path)
        native.write(self, path)

    @classmethod
    def from_data(cls, data: NetworkData) -> Network:
        """The same network, with methods."""
        return cls(
            name=data.name,
            input_shape=data.input_shape,
            layers=data.layers,
            conventions=data.conventions,
            metadata=data.metadata,
        )


def load(path: str | PathLike[str], **options: Any) -> Network:
    """Read a network from a file that `Network.save` wrote, or from another format, by its ending.

    Args:
        path: the file: refdesign's own, ONNX, a Keras model, or a state dict (`refdesign.formats.conversion.FORMATS`).
        options: what the file does not say, such as `architecture`, a network whose layers the arrays of a PyTorch
            state dict are, with `binarise` or `pixels` (`refdesign.formats.foreign.Wanted`).

    Raises:
        RefdesignError: the file is missing, truncated, foreign, of a newer version, or was tampered with; the
            message names the file, and the layer and field where there is one.

    >>> load("/nowhere/net.pt", architecture=pretrained("digits"), binarise="sign")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: /nowhere/net.pt: cannot be read: No such file or directory
    """
    _check_path("load", path)
    return Network.from_data(conversion.read(path, **options).network)


def _check_path(where: str, path: object) -> None:
    if not isinstance(path, (str, PathLike)):
        raise RefdesignError(f"{where}: found {shown(path)}, expected the path of a file")


def pretrained_names() -> tuple[str, ...]:
    """The names of the networks that ship with the project, sorted."""
    return tuple(
        sorted(entry.name.removesuffix(".safetensors") for entry in _PRETRAINED.iterdir() if _is_network(entry.name))
    )


def _is_network(name: str) -> bool:
    return name.endswith(".safetensors")


def pretrained(name: str) -> Network:
    """A network that ships with the project.

    Args:
        name: one of `pretrained_names()`: `"digits"` (DeSign 3D), `"digits-2d"`, `"digits-sign"`,
            `"cifar10"` (DeSign 2D).

    Raises:
        RefdesignError: there is no such network.

    >>> pretrained("digits").input_shape
    (8, 8, 1)
    """
    if name not in pretrained_names():
        raise RefdesignError(f"pretrained: found {name!r}, expected one of {', '.join(pretrained_names())}")
    with resources.as_file(_PRETRAINED / f"{name}.safetensors") as path:
        return load(Path(path))
