"""From latent weights to bits and scales: BNN's sign, ReCU, XNOR-Net, DoReFa and ABC-Net's several bases.

At inference all of them are bits and a real scale per output channel (docs/method.md, section 6), which multiplies the
accumulator: v = fl(alpha*a).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from refdesign.errors import RefdesignError
from refdesign.frameworks.estimators import check_estimator
from refdesign.frameworks.torch.straight_through import straight_through_sign


class Binariser(nn.Module):
    """The plain sign without a scale, and what all binarisers share.

    Attributes:
        estimator: the gradient of the sign, one of `estimators.ESTIMATORS`.

    >>> bits, scale = Binariser()(torch.tensor([[0.5, -0.25, 0.0]]))
    >>> bits.tolist(), scale
    ([[1.0, -1.0, 1.0]], None)
    """

    def __init__(self, estimator: str = "clipped") -> None:
        super().__init__()
        check_estimator(estimator)
        self.estimator = estimator

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Bits in the shape of `weight` (O, ...), a latent 0 counting as +1, and a scale (O,), or None."""
        return straight_through_sign(weight, self.estimator), None


class LearnedScale(Binariser):
    """The sign with a learned scale per output channel.

    Args:
        alpha: the scales to start from, (O,).
        estimator: the gradient of the sign.

    >>> LearnedScale(torch.tensor([0.5]))(torch.tensor([[2.0, -2.0]]))[1].tolist()
    [0.5]
    """

    def __init__(self, alpha: Tensor, estimator: str = "clipped") -> None:
        super().__init__(estimator)
        self.alpha = nn.Parameter(alpha.clone())

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        return straight_through_sign(weight, self.estimator), self.alpha


class ReCU(LearnedScale):
    """ReCU (Xu et al. 2021, the released code): standardise, revive the dead weights at a quantile, sign, scale.

    Per output channel w1 = (w - mean)/(deviation/(2*sqrt(2))), with 1e-5 added to the variance; clamped to ±Q with one
    Q = -mean|w1|*ln(2 - 2*tau) for the whole layer, the quantile tau of a Laplace distribution, which has no gradient.
    The clamp changes no sign, only who has a gradient.

    Args:
        out_channels: O; the learned scales start uniformly in [0, 1), as in the released code.
        tau: from 0.85 at the training's start to 0.99 at its end there; set it with `set_tau`.

    >>> bits, scale = ReCU(1)(torch.tensor([[[[1.0, 2.0, 6.0]]]]))
    >>> bits.flatten().tolist()
    [-1.0, -1.0, 1.0]
    """

    tau: Tensor

    def __init__(self, out_channels: int, tau: float = 0.85, estimator: str = "identity") -> None:
        super().__init__(torch.rand(out_channels), estimator)
        self.register_buffer("tau", torch.zeros(()))
        self.set_tau(tau)

    def set_tau(self, tau: float) -> None:
        """Choose the quantile.

        Raises:
            RefdesignError: not at least 0.5 and below 1.
        """
        if not 0.5 <= tau < 1:
            raise RefdesignError(f"ReCU, tau: found {tau}, expected at least 0.5 and below 1")
        self.tau.fill_(tau)

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        axes = tuple(range(1, weight.ndim))
        centred = weight - weight.mean(axes, keepdim=True)
        deviation = (centred.var(axes, keepdim=True) + 1e-5).sqrt()
        standard = centred / (deviation / (2 * math.sqrt(2)))
        limit = (-standard.abs().mean() * torch.log(2 - 2 * self.tau)).detach()
        revived = torch.maximum(torch.minimum(standard, limit), -limit)
        return straight_through_sign(revived, self.estimator), self.alpha


class XNORNet(Binariser):
    """XNOR-Net (Rastegari et al. 2016): the sign, scaled by the mean magnitude of each output channel.

    >>> XNORNet()(torch.tensor([[1.0, -3.0], [0.5, 0.5]]))[1].tolist()
    [2.0, 0.5]
    """

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        return straight_through_sign(weight, self.estimator), weight.abs().flatten(1).mean(1)


class DoReFa(Binariser):
    """DoReFa-Net with 1-bit weights (Zhou et al. 2016): the sign, scaled by the mean magnitude over the layer.

    The scale is constant in the gradient, as in the authors' code.

    >>> DoReFa()(torch.tensor([[1.0, -3.0], [0.5, 0.5]]))[1].tolist()
    [1.25, 1.25]
    """

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        scale = weight.detach().abs().mean().expand(weight.shape[0])
        return straight_through_sign(weight, self.estimator), scale


def abc_bases(weight: Tensor, bases: int, estimator: str = "identity") -> tuple[Tensor, Tensor]:
    """ABC-Net's binary bases of a weight (Lin, Zhao and Pan 2017), with scales by least squares per output channel.

    Basis i is sign(w - mean + u_i*deviation), the u_i evenly from -1 to 1 (0 for a single basis).

    Args:
        weight: (O, ...), latent.
        bases: M, at least 1.
        estimator: the gradient of each sign; the scales have none.

    Returns:
        Bits (M, O, ...) and scales (M, O), both in the dtype of `weight`.

    Raises:
        RefdesignError: no basis.

    >>> bits, scales = abc_bases(torch.tensor([[1.0, -1.0, 3.0, -3.0]]), 1)
    >>> bits.tolist(), scales.tolist()
    ([[[1.0, -1.0, 1.0, -1.0]]], [[2.0]])
    """
    if bases < 1:
        raise RefdesignError(f"ABC-Net, bases: found {bases}, expected at least 1")
    shifts = torch.linspace(-1, 1, bases) if bases > 1 else torch.zeros(1)
    centred, deviation = weight - weight.mean(), weight.std(correction=0)
    bits = torch.stack([straight_through_sign(centred + shift * deviation, estimator) for shift in shifts.tolist()])
    with torch.no_grad():
        columns = bits.flatten(2).permute(1, 2, 0).double()
        # The pseudo-inverse: bases may coincide, and then share their scale.
        scales = (torch.linalg.pinv(columns) @ weight.flatten(1).double().unsqueeze(2)).squeeze(2)
    return bits, scales.T.to(weight.dtype).contiguous()
