"""Binary layers as PyTorch modules, usable in anyone's model, and their way into a golden network.

Importing this package needs PyTorch, which the extra `torch` brings.

>>> import torch
>>> from refdesign.design import published
>>> model = torch.nn.Sequential(BinaryLinear(6, 4), torch.nn.BatchNorm1d(4), DeSign(published("threshold_2x2_v1")))
>>> model(torch.ones(3, 6)).shape
torch.Size([3, 4])
"""

from refdesign.errors import missing_extra

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise missing_extra("torch", "torch") from error

from refdesign.frameworks.estimators import ESTIMATORS
from refdesign.frameworks.torch.design import DeSign, Sign
from refdesign.frameworks.torch.engine import compile
from refdesign.frameworks.torch.export import to_network
from refdesign.frameworks.torch.folded import FoldedNetwork
from refdesign.frameworks.torch.layers import BinaryConv2d, BinaryLayer, BinaryLinear, PixelInput, clamp_latent
from refdesign.frameworks.torch.padding import pad
from refdesign.frameworks.torch.restore import from_network
from refdesign.frameworks.torch.straight_through import straight_through_sign
from refdesign.frameworks.torch.trace import layer_outputs

__all__ = [
    "ESTIMATORS", "BinaryConv2d", "BinaryLayer", "BinaryLinear", "DeSign", "FoldedNetwork", "PixelInput", "Sign",
    "clamp_latent", "compile", "from_network", "layer_outputs", "pad", "straight_through_sign", "to_network",
]  # fmt: skip
