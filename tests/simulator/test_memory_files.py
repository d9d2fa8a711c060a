"""Memory images: written, read back, and refused where they are for another memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.bits import unpack
from refdesign.errors import RefdesignError
from simulator.memory_files import FORMATS, Bank, export, format_bank, load, parse_bank
from simulator.run import Simulator
from tests.simulator.pipelines import random_pipeline

TEXTS = tuple(form for form in FORMATS if form != "npy")


@given(
    st.integers(1, 130).flatmap(
        lambda width: st.tuples(st.just(width), st.lists(st.integers(0, 2**width - 1), min_size=1, max_size=9))
    )
)
def test_every_text_is_read_back(drawn: tuple[int, list[int]]) -> None:
    bank = Bank(drawn[0], tuple(drawn[1]))
    for form in TEXTS:
        assert parse_bank(format_bank(bank, form), form, bank.depth, bank.width) == bank


@pytest.mark.parametrize("form", FORMATS)
def test_a_whole_accelerator_is_written_and_runs_from_its_files(form: str, tmp_path: Path) -> None:
    pipeline = random_pipeline(8)
    simulator = Simulator(pipeline.network, pipeline.accelerator)
    files = export(tmp_path, simulator.stages, simulator.memories, form)
    assert all(file.is_file() for file in files)
    again = Simulator(pipeline.network, pipeline.accelerator, load(tmp_path, simulator.stages, form))
    for name, values in simulator.outputs(pipeline.images).items():
        assert np.array_equal(again.outputs(pipeline.images)[name], values), name


def test_weights_lie_where_the_contract_says() -> None:
    # Word of PE pe at address nf*K*CF + tap*CF + cf: lane s is the weight of channel cf*SIMD + s of output nf*PE + pe.
    pipeline = random_pipeline(8)
    simulator = Simulator(pipeline.network, pipeline.accelerator)
    for stage, memory in zip(simulator.stages, simulator.memories, strict=True):
        weights = unpack(stage.layer.weights).reshape(stage.layer.out_channels, stage.taps, -1)  # type: ignore[attr-defined]
        for (nf, pe), channel in np.ndenumerate(stage.channels):
            for tap in range(stage.taps):
                for fold in range(stage.input_folds):
                    word = memory.weight(pe, (nf * stage.taps + tap) * stage.input_folds + fold)
                    for lane in range(stage.config.simd):
                        place = fold * stage.config.simd + lane
                        expected = channel >= 0 and place < stage.inputs and weights[channel, tap, place] > 0
                        assert (word >> lane & 1) == expected


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("readmemh", "0\n1\n2", "found 3 words, expected 2"),
        ("readmemh", "0", "found 1 words, expected 2"),
        ("readmemh", "00\n1", "found a word of 2 digits"),
        ("readmemh", "g\n1", "expected digits to the base 16"),
        ("readmemh", "8\n1", "expected 3 bits"),
        ("readmemh", "@1 1\n@1 1", "address 1 twice"),
        ("readmemh", "@zz 1", "expected digits"),
        ("readmemh", "x\n1", "expected digits"),
        ("readmemb", "00\n01", "expected 3"),
        ("coe", "memory_initialization_vector=0,1;", "found no .coe"),
        ("mif", "DEPTH = 3;", "DEPTH: found 3, expected 2"),
        ("mif", "DEPTH = 2; WIDTH = 4;", "WIDTH: found 4, expected 3"),
        ("mif", "DEPTH = 2; WIDTH = 3; ADDRESS_RADIX = HEX; DATA_RADIX = HEX; CONTENT BEGIN 0 : 1;", "found no END"),
        (
            "mif",
            "DEPTH = 2; WIDTH = 3; ADDRESS_RADIX = HEX; DATA_RADIX = HEX; CONTENT BEGIN 0 1; END;",
            "expected ADDR",
        ),
        ("mif", "DEPTH = 2; WIDTH = 3; CONTENT BEGIN END;", "found no .mif"),
        ("other", "", "expected one of"),
    ],
)
def test_images_of_another_memory_are_refused(form: str, text: str, message: str) -> None:
    with pytest.raises(RefdesignError, match=message) as refused:
        parse_bank(text, form, 2, 3, "weights.hex")
    assert "\n" not in str(refused.value)


def test_comments_addresses_and_underscores_are_read() -> None:
    text = "// bank\n@1 /* one\nword */ 0_5\n@0\nff"
    assert parse_bank(text, "readmemh", 2, 8).words == (255, 5)


def test_wrong_arrays_and_missing_files_are_refused(tmp_path: Path) -> None:
    pipeline = random_pipeline(8)
    simulator = Simulator(pipeline.network, pipeline.accelerator)
    with pytest.raises(RefdesignError, match=r"conv0_weights_pe0\.hex: No such file"):
        load(tmp_path, simulator.stages, "readmemh")
    export(tmp_path, simulator.stages, simulator.memories, "npy")
    file = tmp_path / "conv0_weights.npy"
    np.save(file, np.load(file)[:, :-1])
    with pytest.raises(RefdesignError, match=r"conv0_weights\.npy: found uint64 of shape"):
        load(tmp_path, simulator.stages, "npy")
    file.write_bytes(b"")
    with pytest.raises(RefdesignError, match=r"found no \.npy file"):
        load(tmp_path, simulator.stages, "npy")
    with pytest.raises(RefdesignError, match="expected one of"):
        export(tmp_path, simulator.stages, simulator.memories, "elf")
