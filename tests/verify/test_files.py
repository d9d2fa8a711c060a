"""Files: arrays, archives, hex and raw words in any declared layout, and every way in which they can be wrong."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.errors import RefdesignError
from refdesign.verify.compare import DIFFERENT, EQUAL, Verdict, compare
from refdesign.verify.doors import words
from refdesign.verify.doors.files import FilesDoor
from refdesign.verify.doors.layout import Layout
from refdesign.verify.doors.words import UNDEFINED, WordFormat, read_hex
from refdesign.verify.reports.data import sentence, to_dict
from refdesign.verify.reports.text import first_difference
from tests.verify.subjects import images_for, uneven

NETWORK = uneven()
IMAGES = images_for(NETWORK, 9)
OUTPUTS = NETWORK.run(IMAGES, outputs="all")


def _files(folder: Path, mapping: str | None = None) -> Verdict:
    where = None
    if mapping is not None:
        where = folder / "layout.toml"
        where.write_text(mapping)
    door = FilesDoor(folder, NETWORK, where)
    verdict = compare(NETWORK, door, IMAGES, batch_size=4)
    verdict.findings += door.close()
    return verdict


def _save(folder: Path, **arrays: Any) -> None:
    for name, array in arrays.items():
        np.save(folder / f"{name.replace('_', '.')}.npy", array)


def test_arrays_by_our_names(tmp_path: Path) -> None:
    for name, array in OUTPUTS.items():
        np.save(tmp_path / f"{name}.npy", array)
    assert _files(tmp_path).status == EQUAL
    np.save(tmp_path / "logits.npy", OUTPUTS["logits"][:7])
    verdict = _files(tmp_path)
    assert [(f.kind, f.output, f.image) for f in verdict.findings] == [("count", "logits", 7)]
    assert verdict.counts["logits"].values == 7 * 5
    np.save(tmp_path / "logits.npy", np.concatenate([OUTPUTS["logits"]] * 2))
    verdict = _files(tmp_path)
    assert [f.message for f in verdict.findings] == ["logits.npy: holds more cases than there are images"]


def test_an_archive_of_foreign_names_in_foreign_layouts(tmp_path: Path) -> None:
    bits = OUTPUTS["second.bits"].astype(np.float32)
    folded = bits.reshape(9, 7, 10, 3, 4).transpose(0, 3, 1, 2, 4)  # fold outermost, as streams of PE = 4 come
    np.savez(
        tmp_path / "all.npz",
        Thresholding_1_out0=folded,
        nchw=OUTPUTS["first.bits"].transpose(0, 3, 1, 2),
        y=OUTPUTS["logits"],
    )
    verdict = _files(
        tmp_path,
        """
        [names]
        "first.bits" = "nchw"
        "second.bits" = "Thresholding_1_out0"
        logits = "y"
        [outputs."first.bits"]
        layout = "n c h w -> n h w c"
        [outputs."second.bits"]
        layout = "n fold h w pe -> n h w (fold pe)"
        sizes = { pe = 4 }
        """,
    )
    assert verdict.findings == []
    assert verdict.status == EQUAL
    assert list(verdict.counts) == ["first.bits", "second.bits", "logits"]


@pytest.mark.parametrize("word_bits", [4, 8, 64, 96])
@pytest.mark.parametrize("bit_order", ["little", "big"])
@pytest.mark.parametrize("word_order", ["little", "big"])
def test_hex_words_of_any_width_and_order(tmp_path: Path, word_bits: int, bit_order: str, word_order: str) -> None:
    packing = WordFormat(word_bits=word_bits, bit_order=bit_order, word_order=word_order, bit_one=-1)
    lines = [f"{word:x}" for word in packing.encode(OUTPUTS["second.bits"])]
    (tmp_path / "dump.mem").write_text("// from a simulation\n@0\n" + "\n".join(lines) + "\n")
    np.save(tmp_path / "logits.npy", OUTPUTS["logits"])
    declared = f"""
        [outputs."second.bits"]
        file = "dump.mem"
        word_bits = {word_bits}
        bit_order = "{bit_order}"
        word_order = "{word_order}"
        bit_one = -1
        """
    assert _files(tmp_path, declared).status == EQUAL
    assert _files(tmp_path, declared.replace("bit_one = -1", "bit_one = 1")).differing == OUTPUTS["second.bits"].size


def test_undefined_digits_are_a_finding_with_their_line(tmp_path: Path) -> None:
    np.save(tmp_path / "logits.npy", OUTPUTS["logits"])
    packing = WordFormat(word_bits=16)
    lines = [f"{word:04x}" for word in packing.encode(OUTPUTS["second.bits"])]
    lines[200] = "0x" + lines[200][2:]  # channels 8 to 11 of one pixel
    (tmp_path / "second.bits.hex").write_text("/* a\n comment */\n" + "\n".join(lines) + "\n")
    verdict = _files(tmp_path, '[outputs."second.bits"]\nword_bits = 16\n')
    (finding,) = verdict.findings
    assert (finding.kind, finding.image) == ("undefined", 200 // 70)
    assert "line 203: X or Z" in finding.message
    assert verdict.counts["second.bits"].differing == 4
    assert verdict.counts["second.bits"].by_channel.tolist() == [0] * 8 + [1] * 4
    assert verdict.sample is None  # the finding says it
    report = to_dict(NETWORK, verdict)
    assert report["outputs"]["second.bits"]["first_values"][1] == report["first_difference"]["theirs"] == "X"
    assert first_difference(report["first_difference"])[1].endswith(", theirs X")


def test_raw_words_of_accumulators(tmp_path: Path) -> None:
    OUTPUTS["second.accumulator"].astype(">i2").tofile(tmp_path / "acc.bin")
    np.save(tmp_path / "logits.npy", OUTPUTS["logits"])
    declared = """
        [outputs."second.accumulator"]
        file = "acc.bin"
        word_bits = 16
        element_bits = 16
        byte_order = "big"
        """
    assert _files(tmp_path, declared).status == EQUAL
    verdict = _files(tmp_path, declared.replace('byte_order = "big"', ""))
    assert verdict.counts["second.accumulator"].differing > 0


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("[outputs.'nope']\nfile = 'x.npy'", "found the output 'nope'"),
        ("[outputs.logits]\nfiel = 'x.npy'", "found 'fiel'"),
        ("[outputs.logits]\nsizes = 3", "expected a table of positive integers"),
        ("[outputs.logits]\nsizes = { pe = 99999999999999999999 }", "expected a table of positive integers"),
        ("[outputs.logits]\nword_bits = 9999999999\nfile = 'logits.hex'", "a word of at most 1048576"),
        ("[outputs.logits]\nword_bits = 'x'", "expected an integer"),
        ("[outputs.logits]\nlayout = 'n h w c'", "expected the same axes on both sides"),
        ("[output.logits]", "expected the tables"),
        ("[outputs", "cannot be read"),
        (f"a = {'[' * 5000}{']' * 5000}", "cannot be read"),
    ],
)
def test_a_wrong_map(tmp_path: Path, mapping: str, message: str) -> None:
    _save(tmp_path, logits=OUTPUTS["logits"])
    (tmp_path / "logits.hex").touch()
    with pytest.raises(RefdesignError, match=message):
        _files(tmp_path, mapping)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    verdict = _files(tmp_path)
    assert [finding.kind for finding in verdict.findings] == ["missing"]
    assert verdict.status == DIFFERENT
    (tmp_path / "logits.npy").write_bytes(b"\x93NUMPY damaged")
    assert "garbage" in {finding.kind for finding in _files(tmp_path).findings}
    verdict = _files(tmp_path, "[names]\n'first.bits' = 'gone'")
    assert any("gone: found no such file" in finding.message for finding in verdict.findings)
    with pytest.raises(RefdesignError, match="found no folder"):
        FilesDoor(tmp_path / "nowhere", NETWORK)


def _archive(at: int = 0, change: bytes = b"") -> bytes:
    """An archive of one array, with bytes changed where they are in its header and in its list."""
    stream = io.BytesIO()
    np.savez_compressed(stream, logits=OUTPUTS["logits"])
    data = stream.getvalue()
    listed = data.index(b"PK\x01\x02")
    return (
        data[:at] + change + data[at + len(change) : listed + at + 2] + change + data[listed + at + 2 + len(change) :]
    )


def _array(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(80)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("all.npz", _archive(6, b"\x01")),
        ("all.npz", _archive(8, b"\x63")),
        ("all.npz", _archive()[:60] + b"\xff" * 20 + _archive()[80:]),
        ("logits.npy", _array("-9, 5")),
        ("logits.npy", _array("True, 5")),
    ],
    ids=["encrypted", "packed unusually", "damaged", "a negative extent", "an extent that is none"],
)
def test_damaged_arrays_are_a_finding(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    found = _files(tmp_path).findings[0]
    assert (found.kind, found.output) == ("garbage", "logits")
    assert f"{name}: cannot be read: " in found.message


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "all.npz")
    assert [finding.kind for finding in _files(tmp_path).findings] == ["missing"]
    os.mkfifo(tmp_path / "map.toml")
    with pytest.raises(RefdesignError, match=r"map\.toml: found something else than a regular file"):
        FilesDoor(tmp_path, NETWORK, tmp_path / "map.toml")


def test_a_misnamed_file_is_said_in_the_verdict(tmp_path: Path) -> None:
    _save(tmp_path, logits=OUTPUTS["logits"])
    np.save(tmp_path / "first_bits.npy", OUTPUTS["first.bits"])
    (tmp_path / "notes.txt").write_text("mine\n")
    verdict = _files(tmp_path)
    assert verdict.status == EQUAL
    assert sentence(NETWORK, verdict).endswith("; found 'first_bits' (did you mean 'first.bits'?), not used")
    (tmp_path / "logits.npy").unlink()
    (finding,) = (finding for finding in _files(tmp_path).findings if finding.fault)
    assert "found first_bits.npy, notes.txt, but no results; expected files of first.accumulator" in finding.message


def test_shapes_that_do_not_fit_the_layout(tmp_path: Path) -> None:
    np.save(tmp_path / "first.bits.npy", OUTPUTS["first.bits"].transpose(0, 3, 1, 2))
    np.save(tmp_path / "logits.npy", OUTPUTS["logits"])
    verdict = _files(tmp_path)
    assert next((finding.kind, finding.output) for finding in verdict.findings) == ("shape", "first.bits")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n h w c -> n h w", "found 3 axes on the right"),
        ("n h w (c", "matching parentheses"),
        ("n h h c", "each once"),
        ("n h w $", "expected names of axes"),
        ("", "expected names of axes"),
    ],
)
def test_wrong_layouts(text: str, message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        Layout.parse(text, 4)


def test_a_layout_asks_for_sizes() -> None:
    layout = Layout.parse("n h w f pe -> n h w (f pe)", 4)
    with pytest.raises(RefdesignError, match="expected the size of f or pe"):
        layout.file_shape((2, 3, 5, 12), {})
    with pytest.raises(RefdesignError, match="do not make 12"):
        layout.file_shape((2, 3, 5, 12), {"pe": 5})
    assert layout.file_shape((2, 3, 5, 12), {"pe": 4}) == (2, 3, 5, 3, 4)


def test_hex_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.hex"
    for text, message in (("12 zz\nhello", "line 2"), ("@5 12", "expected the address @0"), ("1ff", "expected 8 bits")):
        path.write_text(text)
        with pytest.raises(RefdesignError, match=message):
            list(read_hex(path, 8))
    path.write_text("1_2 // x\n/* 34 */ xz")
    assert [(word.value, word.unknown, word.line) for word in read_hex(path, 8)] == [(0x12, 0, 1), (0, 0xFF, 2)]
    assert UNDEFINED < -(2**31)


def test_hex_lines_of_many_comments_and_of_any_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.hex"
    path.write_text("1/**/" * 200_000 + "/*" + "*" * 200_000 + "\n3 */ 2 // 4 /*\n5/* 6 // */7//*")
    assert [word.value for word in read_hex(path, 8)] == [1] * 200_000 + [2, 5, 7]
    monkeypatch.setattr(words, "_LONGEST_LINE", 6)
    path.write_text("1 34\n 56 78")
    with pytest.raises(RefdesignError, match="line 2: found 6 characters or more"):
        list(read_hex(path, 8))
