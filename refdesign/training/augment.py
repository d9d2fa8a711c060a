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
    top, left = torch.randint(0, 2 * pixels + 1, (2, count))
    rows = top[:, None, None] + torch.arange(height)[:, None]
    columns = left[:, None, None] + torch.arange(width)
    return padded[torch.arange(count)[:, None, None], rows, columns].permute(0, 3, 1, 2)
