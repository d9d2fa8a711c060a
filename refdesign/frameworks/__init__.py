"""Accelerated implementations, one package per framework, each imported only when it is asked for.

>>> import numpy as np
>>> from refdesign.api import pretrained
>>> engine = compile(pretrained("digits"), "packed")
>>> engine(np.zeros((2, 8, 8, 1), np.uint8), outputs="logits")["logits"].shape
(2, 10)
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.network import NetworkData
from refdesign.paths import PackedPath, Path
from refdesign.run import check_images, check_outputs, default_batch_size, run_along

PACKAGES: Mapping[str, str] = {
    "numba": "refdesign.frameworks.numba",
    "jax": "refdesign.frameworks.jax",
    "torch": "refdesign.frameworks.torch",
    "keras": "refdesign.frameworks.keras",
}
"""The package behind an engine's name; each has a `compile(network)` that gives an `Engine`."""

ENGINES = ("packed", *PACKAGES)
"""What can run a network, folded to integers: the reference's packed path, and one engine for each framework."""


class Engine(Protocol):
    """A network, prepared: images in, the same mapping of outputs as `refdesign.run.run` out."""

    def __call__(
        self, images: NDArray[np.uint8], *, outputs: str | Sequence[str] = ("logits",)
    ) -> dict[str, NDArray[Any]]:
        """Run it on images: uint8, (N, H, W, C); `outputs` as in `refdesign.run.run`."""


def compile(network: NetworkData, engine: str) -> Engine:
    """A network on an engine: the same outputs as `refdesign.run.run`, bit for bit.

    Args:
        network: the network.
        engine: one of `ENGINES`.

    Returns:
        A function from images, uint8 (N, H, W, C), and the names of `outputs` to a dict from output name to array.

    Raises:
        RefdesignError: an unknown engine, one whose framework is not installed (naming the extra that brings it),
            or a network that it cannot follow.

    >>> from refdesign.api import pretrained
    >>> compile(pretrained("digits"), "abacus")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: engine: found 'abacus', expected one of packed, numba..., keras
    """
    if engine == "packed":
        return engine_along(network, PackedPath(network))
    if engine not in PACKAGES:
        raise RefdesignError(f"engine: found {engine!r}, expected one of {', '.join(ENGINES)}")
    made: Engine = importlib.import_module(PACKAGES[engine]).compile(network)
    return made


def engine_along(network: NetworkData, path: Path) -> Engine:
    """The engine that runs a network along a path, in batches that fit into memory.

    Args:
        network: the network.
        path: how its bits are held, summed and decided.

    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> engine_along(digits, PackedPath(digits))(np.zeros((3, 8, 8, 1), np.uint8))["logits"].shape
    (3, 10)
    """
    size = default_batch_size(network)

    def run(images: NDArray[np.uint8], *, outputs: str | Sequence[str] = ("logits",)) -> dict[str, NDArray[Any]]:
        check_images(network, images)
        names = check_outputs(network, outputs)
        if len(images) == 0:  # of the right shapes and dtypes; no framework need know about empty batches
            shapes = run_along(network, np.zeros((1, *network.input_shape), np.uint8), path, names)
            return {name: array[:0] for name, array in shapes.items()}
        starts = range(0, len(images), size)
        pieces = [run_along(network, images[start : start + size], path, names) for start in starts]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    return run
