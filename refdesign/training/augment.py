"""Random changes to training images that leave their meaning."""

from __future__ import annotations

from refdesign.errors import RefdesignError, missing_extra

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor
except ImportError as error:
    raise missing_extra("train", "torch") from error


def random_shift(images: Tensor, pixels: int) -> Tensor:
    """Every image moved by up to `pixels` rows and columns, each by its own random amount; 0 moves in.

    Args:
        images: (N, C, H, W), any dtype.
        pixels: the largest shift; 0 leaves the images as they are.

    Returns:
        The shape and dtype of `images`. The shifts come from PyTorch's global generator.

    Raises:
        RefdesignError: a negative shift.

    >>> random_shift(torch.ones(2, 1, 3, 4), 1).shape
    torch.Size([2, 1, 3, 4])
    """
    if pixels < 0:
        raise RefdesignError(f"random_shift, pixels: found {pixels}, expected at least 0")
    if pixels == 0:
        return images
    count, _, height, width = images.shape
    padded = F.pad(images, (pixels, pixels, pixels, pixels)).permute(0, 2, 3, 1)
    # Drawn on the CPU whatever the device is: the same seed gives the same shifts everywhere.
    top, left = torch.randint(0, 2 * pixels + 1, (2, count))
    rows = top[:, None, None] + torch.arange(height)[:, None]
    columns = left[:, None, None] + torch.arange(width)
    places = (torch.arange(count)[:, None, None], rows, columns)
    return padded[tuple(place.to(images.device) for place in places)].permute(0, 3, 1, 2)


def random_affine(images: Tensor, *, rotation: float, stretch: float) -> Tensor:
    """Every image turned, stretched and sheared around its centre by its own random amounts; 0 moves in.

    Args:
        images: (N, C, H, W), uint8 or floats that hold integers.
        rotation: the largest angle, in degrees, either way.
        stretch: the largest change of rows and columns (each by itself) and the largest shear, as a share.

    Returns:
        The shape and dtype of `images`; interpolated values are rounded to integers, as pixels are. The amounts
        come from PyTorch's global generator.

    Raises:
        RefdesignError: a negative amount.

    >>> random_affine(torch.full((2, 1, 5, 7), 9), rotation=0, stretch=0).unique()
    tensor([9])
    """
    if rotation < 0 or stretch < 0:
        raise RefdesignError(f"random_affine: found rotation {rotation}, stretch {stretch}, expected none negative")
    if rotation == 0 and stretch == 0:
        return images
    angle, rows, columns, shear = torch.rand(4, len(images)) * 2 - 1
    angle = torch.deg2rad(angle * rotation)
    matrix = torch.zeros(len(images), 2, 3)
    matrix[:, 0, 0] = torch.cos(angle) * (1 + stretch * columns)
    matrix[:, 0, 1] = stretch * shear - torch.sin(angle)
    matrix[:, 1, 0] = torch.sin(angle)
    matrix[:, 1, 1] = torch.cos(angle) * (1 + stretch * rows)
    grid = F.affine_grid(matrix.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, align_corners=False).round().to(images.dtype)


def random_flip(images: Tensor) -> Tensor:
    """About every second image mirrored left to right, each by its own toss.

    Args:
        images: (N, C, H, W), any dtype.

    Returns:
        The shape and dtype of `images`. The tosses come from PyTorch's global generator.

    >>> random_flip(torch.ones(2, 1, 3, 4)).shape
    torch.Size([2, 1, 3, 4])
    """
    tossed = torch.rand(len(images)) < 0.5
    return torch.where(tossed.to(images.device)[:, None, None, None], images.flip(3), images)
