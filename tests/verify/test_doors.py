"""The pipe and the files: every way in which what comes through them can be wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.api import pretrained
from refdesign.errors import RefdesignError
from refdesign.verify.compare import DIFFERENT, EQUAL, Verdict, compare
from refdesign.verify.doors.files import FilesDoor
from refdesign.verify.doors.layout import Layout
from refdesign.verify.doors.pipe import PipeDoor
from refdesign.verify.doors.words import UNDEFINED, WordFormat, read_hex
from refdesign.verify.vectors import write_vectors
from tests.verify.subjects import images_for, uneven

NETWORK = uneven()
IMAGES = images_for(NETWORK, 9)
OUTPUTS = NETWORK.run(IMAGES, outputs="all")

_PROGRAM = """
import struct, sys, time, os
import numpy as np
answers = np.load(sys.argv[1])
how = sys.argv[2]
names, binary = [], False
for line in sys.stdin.buffer:
    words = line.decode().split()
    binary |= words == ["refdesign", "1", "binary"]
    if words[0] == "output":
        names.append(words[1])
    if words == ["start"]:
        break
images = answers["images"]
def number_and_row():
    if binary:
        head = sys.stdin.buffer.read(4 + images[0].size)
        if not head:
            return None, None
        pixels = np.frombuffer(head[4:], np.uint8)
        number = struct.unpack("<I", head[:4])[0]
    else:
        line = sys.stdin.buffer.readline()
        if not line:
            return None, None
        number, *values = [int(v) for v in line.split()]
        pixels = np.array(values, np.uint8)
    return number, int(np.flatnonzero((images.reshape(len(images), -1) == pixels).all(axis=1))[0])
def answer(number, row, ended=True):
    for place, name in enumerate(names):
        value = answers[name][row]
        if binary:
            sys.stdout.buffer.write(struct.pack("<II", number, place) + value.tobytes())
        else:
            text = " ".join(float(v).hex() if value.dtype.kind == "f" else str(v) for v in value.ravel())
            sys.stdout.write(f"# a comment\\n\\n{number} {name} {text}\\n")
    if binary:
        sys.stdout.buffer.write(struct.pack("<II", number, 0xFFFFFFFF))
    else:
        sys.stdout.write(f"{number} end\\n" if ended else "")
    sys.stdout.flush()
held = []
while True:
    number, row = number_and_row()
    if number is None:
        break
    if how == "crash" and row == 4:
        sys.stderr.write("segmentation of some kind")
        sys.stderr.flush()
        os.abort()
    if how == "hang" and row == 4:
        time.sleep(60)
    if how == "garbage" and row == 4:
        sys.stdout.write("hello, world\\n")
    if how == "flood" and row == 4:
        while True:
            sys.stdout.write("hello, world\\n")
    if how == "twice" and row == 4:
        answer(number, row, False)
    if how == "words" and row == 4:
        sys.stdout.write(f"{number} logits one two\\n")
    if how == "nothing" and row == 4:
        sys.stdout.write(f"{number} end\\n")
        continue
    if how == "drifting" and number >= 9:
        answers = {name: -answers[name] for name in answers}
    if how == "short" and row == 4:
        sys.stdout.write(f"{number} logits 1 2\\n")
    if how == "backwards":
        held.append((number, row))
        if len(held) == 3:
            while held:
                answer(*held.pop())
        continue
    answer(number, row)
sys.exit(3 if how == "status" else 0)
"""


@pytest.fixture
def program(tmp_path: Path) -> Any:
    script, data = tmp_path / "dut.py", tmp_path / "answers.npz"
    script.write_text(_PROGRAM)
    arrays: dict[str, Any] = {**OUTPUTS, "images": IMAGES}
    np.savez(data, **arrays)

    def judge(how: str, **options: Any) -> Verdict:
        door = PipeDoor([sys.executable, str(script), str(data), how], NETWORK, **options)
        verdict = compare(NETWORK, door, IMAGES)
        verdict.findings += door.close()
        return verdict

    return judge


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(("how", "in_flight"), [("right", 1), ("right", 4), ("backwards", 3)])
def test_a_right_program_is_equal_in_both_forms(program: Any, how: str, in_flight: int, binary: bool) -> None:
    verdict = program(how, in_flight=in_flight, binary=binary)
    assert verdict.findings == []
    assert verdict.status == EQUAL
    assert verdict.values == sum(array.size for array in OUTPUTS.values())


@pytest.mark.parametrize(
    ("how", "kind", "says", "compared"),
    [
        ("crash", "crashed", "SIGABRT, and wrote to stderr: segmentation of some kind", 8),
        ("hang", "hung", "found no answer in 2 s", 8),
        ("garbage", "garbage", "hello, world", 9),
        ("short", "shape", "found 2 values, expected 5", 9),
        ("twice", "garbage", "found a second", 9),
        ("words", "garbage", "could not convert string to float: 'one'", 9),
        ("nothing", "missing", "ended without any output", 8),
        ("drifting", "not repeatable", "asked again", 9),
        ("status", "crashed", "ended with status 3, expected status 0", 9),
    ],
)
def test_a_wrong_program_is_a_finding_and_the_run_goes_on(
    program: Any, how: str, kind: str, says: str, compared: int
) -> None:
    verdict = program(how, in_flight=3, time_limit=2.0)
    assert verdict.status == DIFFERENT
    assert {finding.kind for finding in verdict.findings} == {kind}
    assert says in verdict.findings[0].message
    if compared == 8:
        assert verdict.findings[0].image == 4
    assert verdict.counts["logits"].values == 5 * compared
    assert verdict.differing == 0


def test_a_flood_of_garbage_ends(program: Any) -> None:
    verdict = program("flood", in_flight=3, time_limit=20.0)
    assert verdict.status == DIFFERENT
    assert verdict.findings[-1].message == "given up after 50 answers that cannot be used"
    assert verdict.counts["logits"].values == 5 * 4


def test_a_program_that_cannot_be_started() -> None:
    with pytest.raises(RefdesignError, match="cannot be started"):
        PipeDoor("/nowhere/dut", NETWORK).ask(IMAGES)
    with pytest.raises(RefdesignError, match="empty command"):
        PipeDoor("", NETWORK)
    with pytest.raises(RefdesignError, match="No closing quotation"):
        PipeDoor("./dut 'x", NETWORK)


def test_a_program_that_always_crashes_is_given_up() -> None:
    door = PipeDoor([sys.executable, "-c", "raise SystemExit(4)"], NETWORK)
    verdict = compare(NETWORK, door, IMAGES)
    assert verdict.status == DIFFERENT
    assert verdict.values == 0
    assert "given up" in verdict.findings[-1].message


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_page_of_c_through_the_pipe(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "examples" / "c_pipe" / "digits.c"
    program = tmp_path / "digits"
    warnings = ["-Wall", "-Wextra", "-Werror", "-std=c11"]
    subprocess.run(["cc", "-O2", *warnings, "-ffp-contract=off", source, "-o", program, "-lm"], check=True)
    digits = pretrained("digits")
    write_vectors(digits, tmp_path / "vectors", count=3)
    images = np.random.default_rng(5).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    door = PipeDoor([str(program), str(tmp_path / "vectors")], digits)
    verdict = compare(digits, door, images)
    assert (verdict.status, door.close()) == (EQUAL, ())
    assert list(verdict.counts) == ["conv1.bits", "conv2.bits", "conv3.bits", "conv4.bits", "dense1.bits", "logits"]
    # The same program with one threshold's comparison turned is found in its layer.
    wrong = tmp_path / "wrong.c"
    wrong.write_text(source.read_text().replace("a >= t", "a > t"))
    subprocess.run(["cc", "-O2", wrong, "-o", program, "-lm"], check=True)
    door = PipeDoor([str(program), str(tmp_path / "vectors")], digits)
    assert compare(digits, door, images).status == DIFFERENT
    door.close()


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
        ("[outputs.logits]\nword_bits = 'x'", "expected an integer"),
        ("[outputs.logits]\nlayout = 'n h w c'", "expected the same axes on both sides"),
        ("[output.logits]", "expected the tables"),
        ("[outputs", "cannot be read"),
    ],
)
def test_a_wrong_map(tmp_path: Path, mapping: str, message: str) -> None:
    _save(tmp_path, logits=OUTPUTS["logits"])
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
