"""The package as a whole: without PyTorch it says which extra is missing; its models are the reference's."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from refdesign import models
from refdesign.frameworks.torch import to_network
from refdesign.frameworks.torch.models import binarynet
from refdesign.network import Stage, describe
from refdesign.parameters import ThresholdKernel
from tests.shared_data import CHECKOUT


@pytest.mark.parametrize(
    ("module", "extra"), [("refdesign.frameworks.torch", "torch"), ("refdesign.training.digits", "train")]
)
def test_without_torch_the_missing_extra_is_named(module: str, extra: str) -> None:
    code = f"import sys; sys.modules['torch'] = None; import {module}"
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert f'torch is not installed; it comes with: pip install "refdesign[{extra}]"' in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("package", ["refdesign.frameworks", "refdesign.training"])
def test_importing_the_outer_package_loads_no_framework(package: str) -> None:
    code = f"import sys, {package}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True)


@pytest.mark.parametrize("slices", [None, 1, 4])
def test_binarynet_is_the_references(slices: int | None) -> None:
    kernel = None if slices is None else ThresholdKernel(np.ones((2, 3, slices), np.float32))
    shape = (12, 9, 3)
    ours = to_network(
        binarynet(shape, 7, widths=(4, 8, 12, 16), dense=(5, 6), kernel=kernel), name="binarynet", input_shape=shape
    )
    theirs = models.binarynet(
        input_shape=shape, classes=7, widths=(4, 8, 12, 16), dense=(5, 6), kernel=kernel, conventions=ours.conventions
    )
    assert [describe(layer) for layer in ours.layers] == [describe(layer) for layer in theirs.layers]
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        assert isinstance(mine, Stage)
        assert isinstance(other, Stage)
        assert mine.kernel is other.kernel
        assert mine.batch_norm is not None
        assert other.batch_norm is not None
        assert mine.batch_norm.epsilon == other.batch_norm.epsilon
    assert ours.shapes == theirs.shapes
