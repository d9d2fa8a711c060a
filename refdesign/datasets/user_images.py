"""Users' own images: pictures that Pillow reads, and arrays."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError, missing_extra

if TYPE_CHECKING:
    from PIL import Image

ARRAY_SUFFIXES = (".npy", ".npz")
PICTURE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
"""What is taken from a folder; a single file may have any name."""

_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
"""Pillow's modes with at most 8 bits per channel."""


def images(path: str | os.PathLike[str], shape: tuple[int, int, int]) -> tuple[NDArray[np.uint8], list[str]]:
    """A user's images in the shape that a network takes.

    A picture file (PNG, JPEG, ...: needs the extra `plot`) is turned upright by its EXIF tag, converted to grey
    (C = 1) or RGB (C = 3), cropped around its centre to the network's proportions and scaled to its size by
    Pillow's box filter (averages over areas); a picture that has the size already keeps its pixels. Arrays are
    taken as they are: `.npy`, or `.npz` with an array `images` (or with one array only), uint8 of shape
    (N, H, W, C), (H, W, C), and (N, H, W) or (H, W) where C is 1.

    Args:
        path: a file, or a folder whose files of known suffixes are read in the order of their names.
        shape: (H, W, C).

    Returns:
        uint8 images (N, H, W, C), and for each the name of its file, with `[index]` where it came from an array of
        several images.

    Raises:
        RefdesignError: a file that is missing, unreadable or of another dtype or shape; a folder without images;
            Pillow is needed and not installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/two.npy", np.zeros((2, 5, 7), np.uint8))
    ...     pixels, names = images(folder, (5, 7, 1))
    >>> pixels.shape, names
    ((2, 5, 7, 1), ['two.npy[0]', 'two.npy[1]'])
    """
    source = Path(path)
    if source.is_dir():
        try:
            entries = sorted(source.iterdir())
        except OSError as error:
            raise RefdesignError(f"{source}: cannot be read: {error.strerror or error}") from error
        files = [f for f in entries if f.is_file() and f.suffix.lower() in (*ARRAY_SUFFIXES, *PICTURE_SUFFIXES)]
        if not files:
            raise RefdesignError(
                f"{source}: found no images in the folder, expected files named "
                + " ".join((*ARRAY_SUFFIXES, *PICTURE_SUFFIXES))
            )
    else:
        files = [source]
    batches: list[NDArray[np.uint8]] = []
    names: list[str] = []
    for file in files:
        if not file.is_file():
            raise RefdesignError(f"{file}: found no such file, expected an image or a folder of images")
        batch = _array(file, shape) if file.suffix.lower() in ARRAY_SUFFIXES else _picture(file, shape)
        batches.append(batch)
        names += [file.name] if len(batch) == 1 else [f"{file.name}[{index}]" for index in range(len(batch))]
    return np.concatenate(batches), names


def _array(file: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    try:
        # Opened here: on some damaged archives np.load leaves open what it opened itself.
        with file.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = _load(file, np.load(stream, allow_pickle=False))
    except RefdesignError:
        raise
    except Exception as error:  # Damaged archives and headers raise almost anything.
        raise RefdesignError(f"{file}: cannot be read as an array without pickle: {_one_line(error)}") from error
    found = f"{array.dtype} of shape {array.shape}"
    if shape[2] == 1 and (array.shape == shape[:2] or array.shape[1:] == shape[:2]):
        array = array[..., np.newaxis]
    if array.ndim == 3:
        array = array[np.newaxis]
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1:] != shape or len(array) == 0:
        raise RefdesignError(f"{file}: found {found}, expected uint8 of shape {('N', *shape)}".replace("'N'", "N"))
    return np.ascontiguousarray(array)


def _load(file: Path, loaded: NDArray[Any] | np.lib.npyio.NpzFile) -> NDArray[Any]:
    """The array of a `.npy` file, or the right one of an `.npz` archive."""
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        return loaded
    with loaded:
        keys = loaded.files
        if "images" not in keys and len(keys) != 1:
            raise RefdesignError(f"{file}: found arrays {keys}, expected one named 'images'")
        array: NDArray[Any] = loaded["images" if "images" in keys else keys[0]]
        return array


def _picture(file: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    if shape[2] not in (1, 3):
        raise RefdesignError(f"{file}: a picture gives 1 or 3 channels, expected {shape[2]}; use a .npy array")
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise missing_extra("plot", "PIL") from error
    try:
        with warnings.catch_warnings():
            # Pillow's other warnings (odd tags, palettes) do not concern the pixels.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                _check_mode(file, opened)
                upright = ImageOps.exif_transpose(opened)
                converted = upright.convert("L" if shape[2] == 1 else "RGB")
                if converted.size != (shape[1], shape[0]):
                    converted = ImageOps.fit(converted, (shape[1], shape[0]), method=Image.Resampling.BOX)
                pixels = np.asarray(converted, dtype=np.uint8)
    except RefdesignError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything on damaged files.
        raise RefdesignError(f"{file}: cannot be read as an image: {_one_line(error)}") from error
    return pixels.reshape(1, *shape)


def _check_mode(file: Path, picture: Image.Image) -> None:
    if picture.mode not in _MODES:
        raise RefdesignError(f"{file}: found pixels of mode {picture.mode}, expected at most 8 bits per channel")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
