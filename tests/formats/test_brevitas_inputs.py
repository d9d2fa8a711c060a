"""Brevitas networks whose images are binarised first, as in FINN's examples TFC-w1a1 and CNV-w1a1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

from refdesign.api import Network
from refdesign.formats import onnx_in

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("onnxoptimizer", reason="onnxoptimizer, which Brevitas exports with, is not installed")

from torch import nn  # noqa: E402

from tests.formats.test_onnx_frameworks import trained  # noqa: E402


class Scaled(nn.Module):
    """Pixels in [0, 1] as 2x - 1."""

    def forward(self, x: Any) -> Any:
        return 2.0 * x - 1.0


def dense_network(qnn: Any) -> Any:
    binary, act = parts(qnn)
    return nn.Sequential(
        nn.Flatten(), Scaled(), act(), qnn.QuantLinear(2 * 9 * 11, 17, **binary), nn.BatchNorm1d(17), act(),
        nn.Dropout(0.2), qnn.QuantLinear(17, 5, **binary), nn.BatchNorm1d(5),
    )  # fmt: skip


def convolutional_network(qnn: Any) -> Any:
    binary, act = parts(qnn)
    return nn.Sequential(
        Scaled(), act(), qnn.QuantConv2d(2, 4, 3, **binary), nn.BatchNorm2d(4), act(),
        qnn.QuantConv2d(4, 6, 3, **binary), nn.BatchNorm2d(6), act(), nn.MaxPool2d(2),
        nn.Flatten(), qnn.QuantLinear(6 * 2 * 3, 5, **binary), nn.BatchNorm1d(5),
    )  # fmt: skip


def parts(qnn: Any) -> tuple[dict[str, Any], Any]:
    from brevitas.quant import SignedBinaryActPerTensorConst, SignedBinaryWeightPerTensorConst

    weights = {"bias": False, "weight_quant": SignedBinaryWeightPerTensorConst}
    return weights, lambda: qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst)


@pytest.mark.filterwarnings("ignore")  # Brevitas' and PyTorch's own
@pytest.mark.parametrize("make", [dense_network, convolutional_network])
def test_a_network_on_binarised_images_gives_brevitas_bits(make: Any, tmp_path: Path) -> None:
    qnn = pytest.importorskip("brevitas.nn", reason="Brevitas is not installed", exc_type=ImportError)
    from brevitas.export import export_qonnx

    torch.manual_seed(12)
    module: Any = trained(make(qnn))
    export_qonnx(module, args=torch.zeros(1, 2, 9, 11), export_path=str(tmp_path / "net.onnx"))
    read, report = onnx_in.read(tmp_path / "net.onnx", arithmetic="torch", pixels=[(1 / 255, 0.0)])
    assert "sign1: the sign of pixels is a layer of its own, whose weights are 1" in report.assumed
    x = np.random.default_rng(13).integers(0, 256, (40, 9, 11, 2), dtype=np.uint8)
    x[0, :, :2, 0] = [127, 128]
    value: Any = torch.tensor(x.transpose(0, 3, 1, 2)).float() * np.float32(1 / 255)
    bits = []
    with torch.no_grad():
        for part in module:
            value = part(value)
            if isinstance(part, qnn.QuantIdentity):
                bits.append(getattr(value, "value", value).numpy())
    found = Network.from_data(read).run(x, outputs="all")
    ours = [array for name, array in found.items() if name.endswith(".bits")]
    for array, theirs in zip(ours, bits, strict=True):
        if theirs.ndim == 4 and array.shape[1:3] != theirs.shape[2:]:  # a pool behind the sign, ours before it
            continue
        wanted = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
        if theirs.ndim == 2 and array.ndim == 4:
            wanted = theirs.reshape(-1, 2, 9, 11).transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(array, wanted)
    np.testing.assert_allclose(found["logits"], getattr(value, "value", value).numpy(), rtol=1e-6, atol=1e-6)
