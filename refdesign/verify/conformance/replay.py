"""Failing examples as folders that can be kept, sent and replayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from refdesign import api
from refdesign.errors import RefdesignError
from refdesign.formats import atomic
from refdesign.verify.conformance.drawing import Example

NETWORK, IMAGES, ABOUT = "network.safetensors", "images.npy", "case.json"


def write(example: Example, about: dict[str, Any], folder: Path) -> Path:
    """Write an example: its network, its images, and what is known about it.

    Args:
        example: what failed.
        about: plain data: at least `case` and `fault`.
        folder: is made where it does not exist; an example that lies there is replaced.

    Returns:
        The folder.

    Raises:
        RefdesignError: it cannot be written.

    >>> import tempfile
    >>> example = Example(api.pretrained("digits"), np.zeros((1, 8, 8, 1), np.uint8))
    >>> with tempfile.TemporaryDirectory() as scratch:
    ...     folder = write(example, {"case": "padding/zeros", "fault": "none"}, Path(scratch, "found"))
    ...     read(folder).images.shape
    (1, 8, 8, 1)
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        example.network.save(folder / NETWORK)
        with atomic.replacing(folder / IMAGES) as stream:
            np.save(stream, example.images, allow_pickle=False)
        atomic.write_bytes(folder / ABOUT, json.dumps(about, indent=2).encode() + b"\n")
    except OSError as error:
        raise RefdesignError(f"{error.filename or folder}: {error.strerror or error}") from error
    return folder


def read(folder: Path) -> Example:
    """Read an example that `write` wrote.

    Raises:
        RefdesignError: something is missing, or cannot be read.
    """
    network = api.load(folder / NETWORK)
    try:
        images = np.load(folder / IMAGES, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RefdesignError(f"{folder / IMAGES}: found no array: {error}") from error
    if not isinstance(images, np.ndarray):
        raise RefdesignError(f"{folder / IMAGES}: found an archive, expected an array")
    if images.dtype != np.uint8 or images.shape[1:] != network.input_shape or not len(images):
        raise RefdesignError(
            f"{folder / IMAGES}: found {images.dtype} of shape {images.shape}, "
            f"expected uint8 images of {network.input_shape}"
        )
    return Example(network, images)
