"""The pipe: a right program is equal in both forms, and every way in which one can be wrong is a finding."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.api import pretrained
from refdesign.errors import RefdesignError
from refdesign.verify.compare import DIFFERENT, EQUAL, Verdict, compare
from refdesign.verify.doors.pipe import PipeDoor
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
    if how == "flood of pieces" and row == 4:
        while True:
            sys.stdout.write(f"{number} logits 1 2\\n")
    if how == "crash behind an answer" and row == 4:
        place, logits = len(names) - 1, answers["logits"][row + 1]
        if binary:
            sys.stdout.buffer.write(struct.pack("<II", number + 1, place) + logits.tobytes())
        else:
            sys.stdout.write(f"{number + 1} logits {' '.join(map(str, logits))}\\n")
        sys.stdout.flush()
        os.abort()
    if how == "both notations" and row == 4:
        sums = answers["first.accumulator"][row].ravel()
        text = " ".join(float(v).hex() if place else str(v) for place, v in enumerate(sums))
        sys.stdout.write(f"{number} first.accumulator {text}\\n{number} end\\n")
        sys.stdout.flush()
        continue
    if how == "number" and row == 4:
        sys.stdout.write(f"{'9' * 5000} end\\n")
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
        ("hang", "hung", "found no answer in 8 s", 8),
        ("garbage", "garbage", "hello, world", 9),
        ("number", "garbage", "expected 'CASE OUTPUT VALUES' or 'CASE end'", 9),
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
    # A busy machine may take seconds to start a program: only the one that hangs is waited for no longer.
    verdict = program(how, in_flight=3, time_limit=8.0 if how == "hang" else 60.0)
    assert verdict.status == DIFFERENT
    assert {finding.kind for finding in verdict.findings} == {kind}
    assert says in verdict.findings[0].message
    if compared == 8:
        assert verdict.findings[0].image == 4
    assert verdict.counts["logits"].values == 5 * compared
    assert verdict.differing == 0


@pytest.mark.parametrize("how", ["flood", "flood of pieces"])
def test_a_flood_of_garbage_ends(program: Any, how: str) -> None:
    verdict = program(how, in_flight=3, time_limit=20.0)
    assert verdict.status == DIFFERENT
    assert verdict.findings[-1].message == "given up after 50 answers that cannot be used"
    assert verdict.counts["logits"].values == 5 * 4


_CHATTERING = """
import sys
for line in sys.stdin:
    if line == "start\\n":
        break
for line in sys.stdin:
    number = line.split()[0]
    print(f"{number} logits 1 2 3 4 5\\n{number} end", flush=True)
    while number == "2":
        print("0 end", flush=True)
"""


def test_a_program_that_writes_without_end_waits_for_its_reader() -> None:
    door = PipeDoor([sys.executable, "-c", _CHATTERING], NETWORK, repeat=False, time_limit=1.0)
    answer = door.ask(IMAGES[:3])
    assert set(answer.outputs) == {"logits"}
    process = door._process
    assert process is not None
    begun = time.monotonic()
    while process.events.qsize() < process.events.maxsize and time.monotonic() < begun + 20:
        time.sleep(0.01)
    time.sleep(0.2)
    assert process.events.qsize() == process.events.maxsize  # and it goes no further
    assert [str(finding) for finding in door.close()] == ["hung: it did not end after its input was closed"]
    assert not any(thread.is_alive() for thread in process.threads)


def test_an_output_of_another_size_is_a_finding(program: Any) -> None:
    """The right one that follows is a second answer to the same question."""
    verdict = program("short", in_flight=3)
    assert [finding.kind for finding in verdict.findings] == ["shape", "garbage"]
    assert verdict.findings[0].message == "found 2 values, expected 5"
    assert verdict.counts["logits"].values == 5 * 8
    assert verdict.differing == 0


@pytest.mark.parametrize("binary", [False, True])
def test_a_case_that_was_answered_in_part_when_the_program_crashed_is_answered_anew(program: Any, binary: bool) -> None:
    verdict = program("crash behind an answer", in_flight=3, binary=binary)
    assert [finding.kind for finding in verdict.findings] == ["crashed"]
    assert verdict.counts["logits"].values == 5 * 8
    assert verdict.differing == 0


def test_a_line_may_hold_decimals_beside_hexadecimals(program: Any) -> None:
    assert abs(OUTPUTS["first.accumulator"][4].flat[0]) > 9  # else its digits mean the same in both
    verdict = program("both notations", in_flight=3)
    assert (verdict.findings, verdict.status) == ([], EQUAL)


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
