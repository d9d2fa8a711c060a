"""Joint distributions measured on images: grey, binarise, convolve with binary weights, count triples.

For k up to 3 the windows under a pixel, its right and its lower neighbour hold at most 15 bits, so their
2**15 counts, taken once, give the joint distribution for any weights, all 512 of them included. Larger
convolutions are counted weight by weight.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdesign.checks import is_whole, shown
from refdesign.design.joint import JointDistribution, accumulator_values, check_weights, count_triples
from refdesign.design.parallel import Checkpoint, Progress, check_jobs, fingerprint, ordered
from refdesign.errors import RefdesignError, missing_extra

__all__ = [
    "AUTHORS_WEIGHTS",
    "all_weights",
    "binarise_images",
    "binary_maps",
    "image_joint_distribution",
    "random_weights",
    "read_image_folder",
]

AUTHORS_WEIGHTS = np.array([[1, -1, 1], [-1, -1, -1], [1, 1, -1]])
"""The weights behind the released scores (released code: MATLAB's `rng(6)`, then `2*round(rand(3)) - 1`)."""
AUTHORS_WEIGHTS.flags.writeable = False

LARGEST_WINDOW = 3
"""The largest k whose union of three windows, (k + 1)**2 - 1 pixels, fits a 16-bit code."""
GREY = np.array([2989, 5870, 1140])
"""0.2989 R + 0.5870 G + 0.1140 B in ten-thousandths, so that "above one half" is decided in integers."""
PIXELS_A_PIECE = 1 << 20
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".gif"})

Bits = NDArray[np.int8]
Counts = NDArray[np.int64]


def binarise_images(images: ArrayLike) -> Bits:
    """8-bit images to -1 and +1: +1 where the grey value exceeds one half.

    Args:
        images: uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3), channels red, green, blue.

    Returns:
        int8 (N, H, W). Grey is 0.2989 R + 0.5870 G + 0.1140 B, compared exactly, in integers.

    Raises:
        RefdesignError: another dtype or shape.

    Source: released code (`rgb2gray` to four digits, threshold 0.5).

    >>> binarise_images(np.array([[[127, 128]]], dtype=np.uint8))
    array([[[-1,  1]]], dtype=int8)
    """
    array = np.asarray(images)
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.size == 0:
        raise RefdesignError(f"images: found {array.dtype} of shape {array.shape}, expected uint8 (N, H, W[, C])")
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim == 3:
        bright = array > 127
    elif array.shape[3] == 3:
        bright = array.astype(np.int64) @ GREY > 255 * 10_000 // 2
    else:
        raise RefdesignError(f"images: found {array.shape[3]} channels, expected 1 or 3 (red, green, blue)")
    return np.where(bright, 1, -1).astype(np.int8)


def binary_maps(bits: Bits, weights: ArrayLike) -> NDArray[np.int32]:
    """Accumulators of a valid one-channel binary convolution (not flipped): int32 (N, H-k+1, W-k+1).

    Args:
        bits: int8 (N, H, W) in {-1, +1}.
        weights: (k, k) in {-1, +1}.

    >>> binary_maps(np.ones((1, 3, 4), dtype=np.int8), np.ones((3, 3)))
    array([[[9, 9]]], dtype=int32)
    """
    kernel = check_weights(weights)[0]
    k = kernel.shape[0]
    _check_extent(bits.shape[1], bits.shape[2], k, k)
    height, width = bits.shape[1] - k + 1, bits.shape[2] - k + 1
    total = np.zeros((bits.shape[0], height, width), dtype=np.int32)
    for i, j in np.ndindex(k, k):
        total += kernel[i, j].astype(np.int32) * bits[:, i : i + height, j : j + width]
    return total


def _check_extent(height: int, width: int, k: int, least: int) -> None:
    if min(height, width) < least:
        raise RefdesignError(
            f"images: found {height} x {width} pixels, expected at least {least} x {least} for a {k} x {k} "
            f"convolution{' and its neighbours' if least > k else ''}"
        )


def random_weights(k: int, count: int, seed: int) -> Counts:
    """`count` random binary convolutions: int64 (count, k, k) in {-1, +1}, reproducible from the seed.

    >>> random_weights(2, 3, seed=0).shape
    (3, 2, 2)
    """
    accumulator_values(k)
    if not is_whole(count, 1):
        raise RefdesignError(f"weights: found a count of {shown(count)}, expected 1 or more")
    return np.random.default_rng(seed).integers(0, 2, (count, k, k)) * 2 - 1


def all_weights(k: int) -> Counts:
    """All 2**(k*k) binary convolutions, k up to 3: int64 (2**(k*k), k, k).

    >>> all_weights(2).shape
    (16, 2, 2)
    """
    accumulator_values(k)
    if k > LARGEST_WINDOW:
        raise RefdesignError(
            f"weights: all 2**{k * k} convolutions of {k} x {k} are too many, expected given or random ones"
        )
    codes = np.arange(1 << (k * k))
    return (((codes[:, np.newaxis] >> np.arange(k * k)) & 1) * 2 - 1).reshape(-1, k, k)


def _window_places(k: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(k + 1) for j in range(k + 1) if (i, j) != (k, k)]


def count_windows(bits: Bits, k: int) -> Counts:
    """Counts of the 2**((k+1)**2 - 1) patterns under a pixel's window and those of its two neighbours."""
    height, width = bits.shape[1] - k, bits.shape[2] - k
    code = np.zeros((bits.shape[0], height, width), dtype=np.int32)
    for place, (i, j) in enumerate(_window_places(k)):
        code |= (bits[:, i : i + height, j : j + width] > 0).astype(np.int32) << place
    return np.bincount(code.ravel(), minlength=1 << len(_window_places(k))).astype(np.int64)


def joint_counts(windows: Counts, weights: Counts) -> Counts:
    """From counts of window patterns to counts of accumulator triples, summed over the weights."""
    k = weights.shape[1]
    places = _window_places(k)
    codes = np.flatnonzero(windows)
    bits = ((codes[:, np.newaxis] >> np.arange(len(places))) & 1) * 2 - 1
    size = k * k + 1
    counts = np.zeros(size**3, dtype=np.int64)
    for weight in weights:
        code = np.zeros(codes.size, dtype=np.int64)
        for down, right in ((0, 0), (0, 1), (1, 0)):
            columns = [places.index((i + down, j + right)) for i in range(k) for j in range(k)]
            code = code * size + ((bits[:, columns] @ weight.ravel() + k * k) >> 1)
        # Whole numbers below 2**53: bincount's float sums are exact.
        counts += np.bincount(code, weights=windows[codes], minlength=size**3).astype(np.int64)
    return counts.reshape((size,) * 3)


def _piece_counts(images: NDArray[np.uint8], k: int, weights: Counts | None) -> Counts:
    """One piece of the work: window patterns (weights None), or triples for each weight."""
    bits = binarise_images(images)
    if weights is None:
        return count_windows(bits, k)
    size = k * k + 1
    counts = np.zeros((size,) * 3, dtype=np.int64)
    for weight in weights:
        counts += count_triples(binary_maps(bits, weight), k)
    return counts


def _as_groups(images: ArrayLike | Sequence[ArrayLike], k: int) -> list[NDArray[np.uint8]]:
    """Arrays (N, H, W[, C]) of equally sized images, checked; a list of single images is one group each."""
    if isinstance(images, Sequence):
        groups = [np.asarray(image)[np.newaxis] for image in images]
    else:
        groups = [np.asarray(images)]
    if not groups or any(group.shape[0] == 0 for group in groups if group.ndim):
        raise RefdesignError("images: found none, expected one or more")
    constant = True
    for group in groups:
        if group.dtype != np.uint8 or group.ndim not in (3, 4):
            shape = group.shape[1:] if isinstance(images, Sequence) else group.shape
            raise RefdesignError(f"images: found {group.dtype} of shape {shape}, expected uint8 images (H, W[, C])")
        _check_extent(group.shape[1], group.shape[2], k, k + 1)
        constant = constant and bool((group == group[:, :1, :1]).all())
    if constant:
        raise RefdesignError("images: found constant images only, expected some that vary")
    return groups


def image_joint_distribution(
    images: ArrayLike | Sequence[ArrayLike],
    *,
    k: int = 3,
    weights: ArrayLike | None = None,
    jobs: int | None = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> JointDistribution:
    """The joint distribution over images and binary convolutions.

    Args:
        images: uint8 (N, H, W) or (N, H, W, C) with C 1 or 3, or a list of images (H, W[, C]) of any sizes.
        k: the convolution's size.
        weights: (k, k) or (O, k, k) in {-1, +1}, counted alike; None: all 2**(k*k), for k up to 3.
        jobs: see `refdesign.design.parallel.ordered`; the counts do not depend on it.
        checkpoint: a file that keeps what is counted; the same call takes it up again.
        progress: called with the pieces done and their number.

    Raises:
        RefdesignError: no images, constant ones, smaller than the convolution and its neighbours, another
            dtype.

    Source: released code: valid convolution of images binarised at one half. Its `conv2` flips the weights;
    here they are not flipped, as in networks.

    >>> images = np.random.default_rng(0).integers(0, 256, (5, 7, 6), dtype=np.uint8)
    >>> image_joint_distribution(images).observations == 5 * 4 * 3 * 512
    True
    """
    accumulator_values(k)
    check_jobs(jobs)
    checked = check_weights(weights, k) if weights is not None else all_weights(k)
    groups = _as_groups(images, k)
    by_window = k <= LARGEST_WINDOW
    pieces = []
    for group in groups:
        step = max(1, PIXELS_A_PIECE // (group.shape[1] * group.shape[2]))
        pieces += [(group[i : i + step], k, None if by_window else checked) for i in range(0, len(group), step)]
    keeper = Checkpoint(checkpoint, fingerprint(k, checked, *groups) if checkpoint is not None else "")
    cells = 1 << ((k + 1) ** 2 - 1) if by_window else (k * k + 1) ** 3
    counts, done = np.zeros(cells, dtype=np.int64), 0
    kept = keeper.load()
    if kept is not None:
        if set(kept) != {"counts", "done"} or kept["counts"].shape != (cells,) or kept["counts"].dtype != np.int64:
            raise RefdesignError(f"{checkpoint}: found a damaged checkpoint")
        counts, done = kept["counts"], int(kept["done"])
    try:
        for part in ordered(_piece_counts, pieces[done:], jobs):
            # One assignment, so that an interruption never keeps a sum without its number of pieces.
            counts, done = counts + part.ravel(), done + 1
            keeper.save({"counts": counts, "done": np.array(done)})
            if progress is not None:
                progress(done, len(pieces))
    except BaseException:
        keeper.save({"counts": counts, "done": np.array(done)}, force=True)
        raise
    triples = joint_counts(counts, checked) if by_window else counts.reshape((k * k + 1,) * 3)
    keeper.remove()
    return JointDistribution.from_counts(accumulator_values(k), triples)


def read_image_folder(folder: str | os.PathLike[str], *, limit: int | None = None) -> list[NDArray[Any]]:
    """The images of a folder (not of its subfolders) in the order of their names: uint8 (H, W, 3) each.

    Needs Pillow (extra `plot`). Files with another suffix than an image's are passed over.

    Raises:
        RefdesignError: no such folder, no images in it, or a file that is no image in spite of its name.
        MissingExtra: Pillow is not installed.

    >>> read_image_folder("no such folder")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: no such folder: found no folder of this name
    """
    path = Path(folder)
    if not path.is_dir():
        raise RefdesignError(f"{path}: found no folder of this name")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not files:
        raise RefdesignError(f"{path}: found no images, expected files with the suffix .png, .jpg or the like")
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("plot", "PIL") from error
    images = []
    for file in files[:limit]:
        try:
            with Image.open(file) as opened:
                images.append(np.asarray(opened.convert("RGB"), dtype=np.uint8))
        # Pillow's decoders raise whatever their format's parser does (OSError, SyntaxError, struct.error
        # ...).
        except Exception as error:
            raise RefdesignError(f"{file}: found a file that cannot be read as an image ({error})") from error
    return images
