"""Models of frameworks as implementations under test: what is taken from them, what is said, what is refused."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.errors import MissingExtra, RefdesignError
from refdesign.frameworks import adapters
from refdesign.frameworks.adapting import Adapted
from refdesign.verify.binding import bind
from refdesign.verify.compare import DIFFERENT, EQUAL, Verdict, compare
from refdesign.verify.doors.callable import CallableDoor
from refdesign.verify.doors.mapping import Map, read_map
from tests.verify.models import DIGITS, jax_function, torch_module
from tests.verify.subjects import images_for, uneven

IMAGES = images_for(DIGITS, 5)
EVERYTHING = 14


def _map(tmp_path: Path, text: str = "") -> Map:
    (tmp_path / "map.toml").write_text(text)
    return read_map(tmp_path / "map.toml", DIGITS)


def _adapted(target: Any, mapping: Map | None = None) -> Adapted:
    found = bind(target, DIGITS, lambda a, b: adapters.adapt(a, b, mapping or read_map(None, DIGITS)))
    assert isinstance(found, Adapted)
    return found


def _verdict(target: Any, mapping: Map | None = None, images: Any = IMAGES) -> tuple[Verdict, str]:
    found = _adapted(target, mapping)
    verdict = compare(DIGITS, CallableDoor(found, DIGITS, notes=lambda: found.notes), images)
    assert all(finding.kind == "adapted" for finding in verdict.findings if not finding.fault)
    return verdict, "\n".join(finding.message for finding in verdict.findings)


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def test_a_plain_module_is_seen_in_every_layer() -> None:
    needs("torch")
    verdict, said = _verdict(torch_module())
    assert verdict.status == EQUAL
    assert len(verdict.counts) == EVERYTHING
    assert "images given as float32 (N, C, H, W), 0 to 255; its maps are turned from (N, C, H, W)" in said
    assert "conv2.accumulator from conv2.product, conv2.pooled from conv2.pool, conv2.bits from conv2.sign" in said


def test_what_a_model_returns_by_name_goes_before_a_guess() -> None:
    """A place `conv2.sign` that holds something else neither replaces nor drops the bits that are returned."""
    needs("torch")
    from torch import nn

    class Answering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv2 = nn.ModuleDict({"sign": nn.Identity()})

        def forward(self, images: Any) -> Any:
            pixels = images.permute(0, 2, 3, 1).numpy().astype(np.uint8)
            self.conv2["sign"](images * 0.25)
            return dict(DIGITS.run(pixels, outputs=("conv2.bits", "logits")))

    verdict, said = _verdict(Answering())
    assert (verdict.status, list(verdict.counts)) == (EQUAL, ["conv2.bits", "logits"])
    assert "outputs by place" not in said
    assert "it is not compared" not in said


def test_every_part_of_a_module_keeps_its_mode() -> None:
    needs("torch")
    module = torch_module()
    frozen = {name for name, part in module.named_modules() if "conv2" in name}
    for name, part in module.named_modules():
        part.training = name not in frozen
    verdict, said = _verdict(module)
    assert verdict.status == EQUAL
    assert "it was in training mode, and is run in eval mode" in said
    assert {name for name, part in module.named_modules() if not part.training} == frozen != set()


def test_a_wrong_bit_of_a_module_is_placed_in_our_axes() -> None:
    needs("torch")
    module = torch_module()
    image, row, column, channel = 3, 1, 2, 50

    def planted(_module: Any, _inputs: Any, output: Any) -> Any:
        wrong = output.clone()
        wrong[image, channel, row, column] *= -1
        return wrong

    module.conv2.register_forward_hook(planted)
    module.conv2.sign.register_forward_hook(planted)
    verdict, _ = _verdict(module, images=IMAGES)
    assert verdict.first is not None
    found = verdict.first
    assert (found.output, found.image, found.row, found.column, found.channel) == (
        "conv2.bits", image, row, column, channel,
    )  # fmt: skip
    assert verdict.counts["conv2.bits"].differing == 1
    assert "conv2" in verdict.layers_at_fault


def test_places_by_a_map(tmp_path: Path) -> None:
    needs("torch")
    module = torch_module(names=False)
    alone, said = _verdict(module)
    assert (alone.status, list(alone.counts)) == (EQUAL, ["logits"])
    assert "no place in it is named after a layer" in said
    text = "[names]\n'conv3.bits' = 'block2.sign'\n'conv4.accumulator' = 'block3.product'"
    verdict, _ = _verdict(module, _map(tmp_path, text))
    assert list(verdict.counts) == ["conv3.bits", "conv4.accumulator", "logits"]
    assert verdict.status == EQUAL
    with pytest.raises(RefdesignError, match=r"found no 'gone' in PyTorch module Digits on cpu, which has block0"):
        _adapted(module, _map(tmp_path, "[names]\n'conv3.bits' = 'gone'"))
    with pytest.raises(RefdesignError, match="found 'word_bits', which is about files"):
        _adapted(module, _map(tmp_path, "[defaults]\nword_bits = 8"))


def test_how_a_module_wants_its_images(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    given: list[Any] = []

    class Takes(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            given.append((str(x.dtype), tuple(x.shape)))
            return torch.zeros(len(x), 10)

    images = images_for(uneven(), 2)
    for text, expected in (
        ("", ("torch.float32", (2, 2, 7, 10))),
        ("[input]\nlayout = 'n h w c'\ndtype = 'int64'", ("torch.int64", (2, 7, 10, 2))),
    ):
        network = uneven()
        (tmp_path / "map.toml").write_text(text)
        found = adapters.adapt(Takes(), network, read_map(tmp_path / "map.toml", network))
        assert found is not None
        found(images)
        assert given[-1] == expected
    for text, message in (
        ("[input]\nlayout = 'c h w n'", "expected n h w c, n c h w"),
        ("[input]\nscale = 2", "expected layout, dtype"),
        ("[names]\n'conv1.bits' = 3", "expected text"),
    ):
        with pytest.raises(RefdesignError, match=message):
            _map(tmp_path, text)


def test_what_was_guessed_wrongly_is_left_out_and_said() -> None:
    torch = pytest.importorskip("torch")

    class Scaled(torch.nn.Module):  # type: ignore[misc, name-defined]
        """Pixels from 0 to 1, so that the first layer's sums are no integers; one sign for all layers."""

        def __init__(self) -> None:
            super().__init__()
            inner = torch_module()
            for name, child in inner.named_children():
                self.add_module(name, child)
            self.dense1.bits = torch.nn.Identity()
            self.train()

        def forward(self, pixels: Any) -> Any:
            assert not self.training
            self.conv1.product(pixels / 255)
            x = 2 * pixels - 255
            for child in self.children():
                x = child(x)
            return {"logits": x, "something": x}

    module = Scaled()
    found = _adapted(module)
    answer = found(IMAGES)
    np.testing.assert_allclose(answer["logits"], DIGITS.run(IMAGES)["logits"])
    assert "conv1.accumulator" not in answer
    assert "dense1.bits" not in answer
    said = "\n".join(found.notes)
    assert "it was in training mode, and is run in eval mode" in said
    assert "conv1.product: was not run exactly once" in said
    assert module.training


def test_halves_tuples_and_classes() -> None:
    torch = pytest.importorskip("torch")

    class Half(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, pixels: Any) -> Any:
            return (torch.ones(len(pixels), 10, dtype=torch.bfloat16),)

    class Two(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, pixels: Any) -> Any:
            return pixels, pixels

    class Mine(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, network: Any) -> None:
            super().__init__()
            self.inner = torch_module(network)

        def forward(self, pixels: Any) -> Any:
            return self.inner(pixels)

    assert _adapted(Half)(IMAGES)["logits"].dtype == np.float32
    assert _verdict(Mine)[0].status == EQUAL
    verdict, said = _verdict(Two())
    assert verdict.status == DIFFERENT
    assert "returned 2 values, expected the logits, a mapping of outputs, or all 14 outputs in order" in said


def test_this_projects_modules() -> None:
    pytest.importorskip("torch")
    from refdesign.frameworks.torch import FoldedNetwork, from_network

    for module in (from_network(DIGITS), FoldedNetwork(DIGITS)):
        verdict, _ = _verdict(module)
        assert (verdict.status, len(verdict.counts)) == (EQUAL, EVERYTHING)


# PyTorch says so of weights that share a storage, which it has just written itself.
@pytest.mark.filterwarnings("ignore:No complete tensor found in the group")
def test_an_exported_program(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    example = torch.zeros(5, 1, 8, 8)
    torch.export.save(torch.export.export(torch_module(), (example,)), tmp_path / "digits.pt2")
    found = _adapted(adapters.read_model(tmp_path / "digits.pt2"))
    verdict = compare(DIGITS, CallableDoor(found, DIGITS, notes=lambda: found.notes), IMAGES)
    assert (verdict.status, list(verdict.counts)) == (EQUAL, ["logits"])
    (note,) = (finding for finding in verdict.findings if finding.kind != "adapted")
    assert note.message.startswith("3 images, asked again by themselves: ")  # it was exported for five


def test_a_compiled_jax_function() -> None:
    needs("jax")
    verdict, said = _verdict(jax_function())
    assert verdict.status == EQUAL
    assert list(verdict.counts) == ["conv1.bits", "conv2.bits", "conv3.bits", "conv4.bits", "dense1.bits", "logits"]
    assert "JAX function forward on cpu: images given as uint8 (N, H, W, C)" in said


@pytest.mark.parametrize("form", ["folded", "float"])
def test_an_onnx_model(tmp_path: Path, form: str) -> None:
    needs("onnxruntime")
    from refdesign.formats import onnx_out

    onnx_out.write(DIGITS, tmp_path / "all.onnx", form=form, outputs="all")
    verdict, said = _verdict(adapters.read_model(tmp_path / "all.onnx"))
    assert (verdict.status, len(verdict.counts)) == (EQUAL, EVERYTHING)
    assert "images given as uint8 (N, H, W, C)" in said
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "all.onnx"), providers=["CPUExecutionProvider"])
    assert _verdict(session)[0].status == EQUAL


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of PyTorch's older exporter
def test_an_onnx_model_of_pytorch_with_a_fixed_batch(tmp_path: Path) -> None:
    """Foreign names, NCHW floats, three images at a time, and a tensor from inside that a map names."""
    torch = pytest.importorskip("torch")
    onnx = pytest.importorskip("onnx")
    needs("onnxruntime")
    path = tmp_path / "foreign.onnx"
    torch.onnx.export(torch_module(), (torch.zeros(3, 1, 8, 8),), str(path), dynamo=False)
    verdict, said = _verdict(adapters.read_model(path))
    assert (verdict.status, list(verdict.counts)) == (EQUAL, ["logits"])
    assert "images given as float32 (N, C, H, W)" in said
    assert "the model takes 3 images at a time" in said
    # Only where a pool stands between them does the exporter leave batch norm and product apart.
    nodes = onnx.load(path).graph.node
    pooled = next(node for node in nodes if node.op_type == "MaxPool").input[0]
    mapping = _map(tmp_path, f"[names]\n'conv2.accumulator' = '{pooled}'")
    verdict, _ = _verdict(adapters.read_model(path), mapping)
    assert (verdict.status, list(verdict.counts)) == (EQUAL, ["conv2.accumulator", "logits"])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    needs("onnxruntime")
    (tmp_path / "damaged.onnx").write_bytes(b"no model")
    with pytest.raises(RefdesignError, match=r"damaged.onnx: cannot be read: DecodeError"):
        adapters.read_model(tmp_path / "damaged.onnx")


@pytest.mark.parametrize(("name", "extra"), adapters.EXTRAS.items())
def test_an_absent_framework_is_named_with_its_extra(
    name: str, extra: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [key for key in sys.modules if key.startswith(f"refdesign.frameworks.{name}")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, extra[1], None)
    with pytest.raises(MissingExtra, match=rf'pip install "refdesign\[{extra[0]}\]"'):
        adapters._adapter(name)
