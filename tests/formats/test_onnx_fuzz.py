"""Mutated ONNX files: a short run of `python -m refdesign.verify.fuzz`, and that the command finds what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

from refdesign.formats import native, onnx_in
from refdesign.verify import fuzz

COUNTS = [pytest.param(400, id="quick"), pytest.param(20_000, id="long", marks=pytest.mark.slow)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # mutated parameters overflow
@pytest.mark.parametrize("count", COUNTS)
def test_mutated_models_are_refused_or_read(count: int) -> None:
    tally = fuzz.try_files("onnx", count, seed=count)
    assert 0.5 * count < tally.refused < count


def test_the_sample_is_read_before_it_is_mutated() -> None:
    from refdesign.formats import onnx_out

    network, _ = onnx_in.from_bytes(onnx_out.to_model(fuzz.sample()).SerializeToString())
    assert [layer.kind for layer in network.layers] == ["pixel_conv2d", "binary_conv2d", "binary_dense"]


def test_a_reader_that_fails_is_found_and_its_file_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(data: bytes) -> None:
        raise IndexError("out of range")

    monkeypatch.setattr(native, "from_bytes", broken)
    monkeypatch.setattr(fuzz, "_limit", lambda: None)
    kept = tmp_path / "kept.bin"
    assert fuzz.main(["--count", "3", "--formats", "native", "--keep", str(kept)]) == 1
    assert kept.stat().st_size > 100
    assert "native: IndexError: out of range" in capsys.readouterr().err
