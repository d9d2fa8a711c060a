"""What `torch.compile` makes of a batch norm: another program than the eager one, measured, and refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from torch import nn

from refdesign.errors import RefdesignError
from refdesign.frameworks.torch import BinaryConv2d, PixelInput, to_network
from tests.channels import random_channels

FAN_IN = 18


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_module_is_refused() -> None:
    model = torch.compile(nn.Sequential(PixelInput(), BinaryConv2d(1, 2, 3)))
    with pytest.raises(RefdesignError, match="found OptimizedModule first, expected PixelInput"):
        to_network(model, name="n", input_shape=(4, 5, 1))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Inductor's own imports warn
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: no g++")
def test_inductors_program() -> None:
    """y = fl(fl(fl(fl(v - mean) * fl(1/fl(sqrt(fl(variance + epsilon))))) * gamma) + beta), on all accumulators."""
    bn = random_channels(3, 1003, FAN_IN, with_alpha=False)
    module = nn.BatchNorm2d(bn.channels, eps=bn.epsilon).eval()
    with torch.no_grad():
        for target, values in (
            (module.weight, bn.gamma), (module.bias, bn.beta),
            (module.running_mean, bn.mean), (module.running_var, bn.variance),
        ):  # fmt: skip
            assert target is not None
            target.copy_(torch.tensor(values))
        v = np.arange(-FAN_IN, FAN_IN + 1, dtype=np.float32)[:, None] * np.ones(bn.channels, np.float32)
        x = torch.tensor(v)[:, :, None, None].repeat(1, 1, 3, 5)
        compiled = torch.compile(module)(x)[..., 1, 2].numpy()
        eager = module(x)[..., 1, 2].numpy()
    inverse = np.float32(1) / np.sqrt(bn.variance + np.float32(bn.epsilon))
    np.testing.assert_array_equal(compiled, (v - bn.mean) * inverse * bn.gamma + bn.beta)
    assert np.mean(compiled != eager) > 0.1
