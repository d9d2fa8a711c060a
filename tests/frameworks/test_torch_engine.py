"""The folded engine and its modules: compiled, exported, on a GPU, and what they refuse."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from refdesign.api import Network, pretrained
from refdesign.conventions import PAPER, RELEASED_TORCH
from refdesign.errors import RefdesignError
from refdesign.frameworks.torch import FoldedNetwork, compile
from refdesign.models import binarynet, resnet20, vgg_small
from refdesign.network import NetworkData, PixelConv2d
from refdesign.parameters import ThresholdKernel
from refdesign.verify import strategies
from tests.properties.engines import assert_equals_reference
from tests.properties.test_torch_modules import networks

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: no g++")
KERNEL = ThresholdKernel((np.arange(12) / 8).astype(np.float32).reshape(2, 3, 2))


def pixels(network: NetworkData, count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, *network.input_shape), dtype=np.uint8)


def tensors(network: NetworkData, module: Any, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    outputs = module(torch.tensor(images))
    return {name: tensor.numpy() for name, tensor in zip(network.output_names, outputs, strict=True)}


def assert_same(found: dict[str, NDArray[Any]], network: Network, images: NDArray[np.uint8]) -> None:
    expected = network.run(images, outputs="all")
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


@needs_compiler
@pytest.mark.filterwarnings("ignore")  # Inductor's own imports warn
def test_compiled_gives_the_same() -> None:
    network = binarynet(input_shape=(7, 5, 2), classes=3, widths=(6, 70), dense=(), kernel=KERNEL, seed=3)
    assert_equals_reference(compile(network, compiled=True), network, pixels(network, 5), "all")


def test_exported_gives_the_same_and_takes_any_batch(tmp_path: Path) -> None:
    digits = pretrained("digits")
    batch = torch.export.Dim("batch", min=1, max=64)
    example = (torch.zeros(3, 8, 8, 1, dtype=torch.uint8),)
    program = torch.export.export(FoldedNetwork(digits).eval(), example, dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "digits.pt2")
    loaded = torch.export.load(tmp_path / "digits.pt2").module()
    for count in (2, 7):
        images = pixels(digits, count)
        assert_same(tensors(digits, loaded, images), digits, images)


@given(networks(), st.data())
def test_a_state_dict_carries_everything(network: NetworkData, data: st.DataObject) -> None:
    images = data.draw(strategies.images((2, *network.input_shape)))
    module = FoldedNetwork(network)
    saved = module.state_dict()
    other = FoldedNetwork(network)
    for buffer in other.buffers():
        buffer.zero_()
    other.load_state_dict(saved)
    assert_same(tensors(network, other, images), Network.from_data(network), images)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_reduced_precision_of_products_changes_nothing(precision: str) -> None:
    digits = pretrained("digits")
    images = pixels(digits, 4)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        assert_equals_reference(compile(digits), digits, images, "all")
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("conventions", [PAPER.replace(threshold_scale="gamma"), RELEASED_TORCH])
@pytest.mark.parametrize("make", [vgg_small, resnet20])
def test_real_streams(make: Any, conventions: Any) -> None:
    network = make(input_shape=(8, 12, 3), classes=7, width=1 / 8, kernel=KERNEL, conventions=conventions, seed=6)
    with pytest.raises(RefdesignError, match="with a real-valued stream, expected layers that fold"):
        FoldedNetwork(network)
    assert_equals_reference(compile(network), network, pixels(network, 3), "all")


def test_a_large_last_table_goes_the_other_way() -> None:
    weights = np.full((3, 2, 2, 1), 2**21, np.int32)
    layer = PixelConv2d(name="only", weights=weights, batch_norm=pretrained("digits").layers[-1].batch_norm)  # type: ignore[attr-defined]
    layer = replace(layer, weights=np.repeat(weights, 4, axis=0)[:10])
    network = NetworkData(name="wide", input_shape=(3, 4, 1), layers=(layer,))
    with pytest.raises(RefdesignError, match="entries in the table of its batch norm"):
        FoldedNetwork(network)
    assert_equals_reference(compile(network), network, pixels(network, 2), "all")


def test_a_device_that_there_is_not_is_refused() -> None:
    for device in ("abacus", "cuda:77"):
        with pytest.raises(RefdesignError, match="compile, device: found "):
            compile(pretrained("digits"), device=device)


def test_tensors_are_no_images() -> None:
    with pytest.raises(RefdesignError, match="images: found Tensor, expected a uint8 array of NumPy's"):
        compile(pretrained("digits"))(torch.zeros(2, 8, 8, 1, dtype=torch.uint8))  # type: ignore[arg-type]


@pytest.mark.cuda
def test_cuda_equals_the_reference() -> None:
    @settings(max_examples=settings().max_examples * 4)
    @given(strategies.networks(), st.data())
    def agree(network: NetworkData, data: st.DataObject) -> None:
        images = data.draw(strategies.images((2, *network.input_shape)))
        assert_equals_reference(compile(network, device="cuda"), network, images, "all")

    agree()


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore")
def test_cuda_compiled_and_with_tf32() -> None:
    digits = pretrained("digits")
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        for compiled in (False, True):
            engine = compile(digits, device="cuda", compiled=compiled)
            assert_equals_reference(engine, digits, pixels(digits, 33), "all")
    finally:
        torch.set_float32_matmul_precision(before)
