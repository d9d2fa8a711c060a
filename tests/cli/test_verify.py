"""`refdesign verify` and `refdesign vectors`, as a user calls them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.api import pretrained
from refdesign.datasets import load
from refdesign.verify.diagnosis import Diagnosis, diagnose
from tests.cli.command_line import call, good, refused


def _json(*arguments: object) -> tuple[int, dict[str, Any]]:
    result = call("verify", *arguments, "--json")
    assert result.stderr == ""
    report: dict[str, Any] = json.loads(result.stdout)
    return result.exit_code, report


def test_a_right_implementation_is_equal_and_says_what_was_compared() -> None:
    text = good("verify", "digits", "digits:test", "--first", 20, "--impl", "tests.verify.subjects:digits_right")
    assert "equal: 200 values of 20 images in 1 of 14 outputs (logits)" in text
    assert "not compared: conv1.accumulator" in text


def test_a_wrong_one_is_named_with_its_reason(tmp_path: Path) -> None:
    page, cases = tmp_path / "r.html", tmp_path / "r.xml"
    result = call(
        "verify", "digits", "digits:test", "--first", 30, "--impl", "tests.verify.subjects:digits_repeat",
        "--html", page, "--junit", cases,
    )  # fmt: skip
    assert (result.exit_code, result.stderr) == (1, "")
    for said in (
        "first difference: conv1.bits, image 0",
        "wrong by themselves, on their own inputs: conv1, conv2, conv3, conv4",
        "diagnosis: matches bit for bit with channel_map=repeat (confirmed on fresh images)",
        "conv1.bits differs by phase",
    ):
        assert said in result.stdout
    assert "channel_map=repeat" in page.read_text()
    assert "conv1.bits" in cases.read_text()


def test_the_first_difference_is_said_before_the_search_for_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def searching(*given: Any, **options: Any) -> Diagnosis:
        print("searching")  # as far as the run has come
        return diagnose(*given, **options)

    monkeypatch.setattr(sys.modules["refdesign.cli.verify"], "diagnose", searching)
    text = call("verify", "digits", "--random", 4, "--impl", "tests.verify.subjects:digits_repeat").stdout
    said = ("first difference", "searching", "diagnosis: ", "to mend: use channel_map=tile")
    places = [text.index(part) for part in said]
    assert places == sorted(places)


@pytest.mark.parametrize("given", [(), ("digits:test",), ("one.npy", "digits:test"), ("--vectors", "vectors")])
def test_what_nothing_explains_is_led_to_its_first_bit(
    given: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that is printed explains the bit of the same image: it names our bit, and our sum."""
    monkeypatch.chdir(tmp_path)
    np.save("one.npy", load("digits", "train")[0][:1])
    if "--vectors" in given:
        good("vectors", "digits", "vectors", "--random", 40)
    page, cases = tmp_path / "r.html", tmp_path / "r.xml"
    status, report = _json(
        "digits", *given, "--impl", "tests.verify.subjects:digits_odd", "--diagnosis-time", 1, "--html", page,
        "--junit", cases,
    )  # fmt: skip
    first, line = report["first_difference"], report["diagnosis"]["go_on"]
    assert (status, first["output"]) == (1, "conv2.bits")
    assert f"--layer conv2 --at {first['row']},{first['column']},{first['channel']}" in line
    assert line in page.read_text()
    assert line in cases.read_text()
    program, *arguments = shlex.split(line)
    why = json.loads(good(*arguments, "--json"))
    assert program == "refdesign"
    assert (why["bit"], why["accumulator"]) == (first["ours"], first["accumulator"])


def test_json_without_a_diagnosis() -> None:
    status, report = _json(
        "digits", "--random", 4, "--impl", "tests.verify.subjects:digits_repeat", "--no-diagnosis"
    )  # fmt: skip
    assert (status, report["status"], report["diagnosis"]) == (1, 1, None)
    assert report["images"] == 25
    assert report["layers_at_fault"] == ["conv1", "conv2", "conv3", "conv4"]


def test_a_program_and_a_folder(tmp_path: Path) -> None:
    images, _ = load("digits", "test")
    logits = pretrained("digits").run(images[:5])["logits"]
    np.savez(tmp_path / "all.npz", logits=logits)
    script = tmp_path / "dut.py"
    script.write_text(
        "import sys, numpy as np\n"
        f"logits = np.load({str(tmp_path / 'all.npz')!r})['logits']\n"
        "lines = iter(sys.stdin)\n"
        "while next(lines) != 'start\\n':\n    pass\n"
        "for row, line in enumerate(lines):\n"
        "    number = line.split()[0]\n"
        "    print(number, 'logits', *(float(v).hex() for v in logits[row % 5]))\n"  # the first case is asked again
        "    print(number, 'end', flush=True)\n"
    )
    command = f"{sys.executable} {script}"
    assert "equal: 50 values" in good(
        "verify", "digits", "digits:test", "--first", 5, "--pipe", command, "--in-flight", 1
    )
    assert "equal: 50 values" in good("verify", "digits", "digits:test", "--first", 5, "--files", tmp_path)
    status, report = _json("digits", "digits:test", "--files", tmp_path)
    assert status == 1
    assert report["findings"][0]["message"] == "all.npz: ends after 5 of these 360 cases"


@pytest.mark.parametrize("more", [True, False], ids=["end after", "hold more"])
def test_results_of_other_images_are_not_explained(more: bool, tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    good("vectors", "digits", folder, "--random", 1)
    count = len(np.load(folder / "images.npy"))
    made = count + 5 if more else count - 5
    status, report = _json("digits", "--random", made - 21, "--files", folder / "outputs")
    assert (status, report["diagnosis"]) == (1, None)
    assert report["values_differing"]
    messages = [finding["message"] for finding in report["findings"]]
    assert messages[0].endswith("images that were made for lack of others: did you mean --vectors FOLDER, or IMAGES?")
    if more:
        assert messages[1] == f"all 14 files end after {count} of these {made} cases"
    else:
        assert sum("holds more cases than there are images" in message for message in messages) == 14


def test_a_verification_without_the_last_layer_is_no_verdict(tmp_path: Path) -> None:
    images, _ = load("digits", "test")
    bits = pretrained("digits").run(images[:5], outputs="conv1.bits")["conv1.bits"]
    np.save(tmp_path / "conv1.bits.npy", bits)
    status, report = _json("digits", "digits:test", "--first", 5, "--files", tmp_path)
    assert status == 2
    assert "the last layer (logits or dense2.accumulator) was not compared" in report["sentence"]


def test_vectors_are_what_verify_reads(tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    assert "described in README.md" in good("vectors", "digits-sign", folder, "--random", 2)
    text = good("verify", "digits-sign", "--vectors", folder, "--files", folder / "outputs")
    assert "14 of 14 outputs" in text
    assert "found other conventions" not in text
    assert "expected no folder or an empty one" in refused("vectors", "digits", folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "found none, expected exactly one of --impl, --pipe and --files"),
        (("--impl", "a:b", "--pipe", "./x"), "found --impl and --pipe"),
        (("--impl", "nowhere_at_all:f"), "No module named 'nowhere_at_all'"),
        (("--impl", "tests.verify.subjects"), "expected package.module:name"),
        (("--impl", "tests.verify.subjects:Answer2"), "found no 'Answer2'"),
        (("--pipe", "/nowhere/dut"), "cannot be started"),
        (("--files", "/nowhere"), "found no folder"),
        (("--impl", "tests.verify.subjects:digits_right", "--map", "x.toml"), "x.toml: cannot be read"),
        (("--pipe", "./x", "--map", "x.toml"), "found --pipe beside it"),
        (("--impl", "nowhere.onnx"), "found no such file"),
        (("--impl", "nowhere.py:f"), "found no file nowhere.py"),
        (("--impl", "tests.verify.subjects:digits_right", "--vectors", "/nowhere"), "cannot be read"),
        (("--impl", "tests.verify.subjects:digits_right", "--isolated"), "run_layer"),
        (("--impl", "tests.verify.subjects:digits_right", "--binary"), "--binary: found no --pipe beside it"),
        (("--files", ".", "--in-flight", "2"), "--in-flight: found no --pipe beside it"),
    ],
)
def test_what_cannot_be_used_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused("verify", "digits", "--random", 1, *arguments)


def test_a_page_that_cannot_be_written_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert 'pip install "refdesign[verify]"' in refused("verify", "digits", "--impl", "a:b", "--html", "page.html")


_CHATTY = """
import ctypes, os
import numpy as np
print("imported")

def forward(images):
    print("asked")
    ctypes.CDLL(None).puts(b"natively")
    os.chdir("/")
    return np.zeros((len(images), 10))
"""


def test_what_the_code_under_test_prints_and_where_it_goes_is_its_own(tmp_path: Path) -> None:
    """JSON alone on stdout, and reports where the command was called."""
    (tmp_path / "chatty.py").write_text(_CHATTY)
    command = [sys.executable, "-m", "refdesign", "verify", "digits", "--random", "1", "--no-diagnosis", "--json"]
    ended = subprocess.run(
        [*command, "--impl", "chatty.py:forward", "--junit", "report.xml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert json.loads(ended.stdout)["status"] == ended.returncode == 1
    assert {"imported", "asked", "natively"} <= set(ended.stderr.split())
    assert (tmp_path / "report.xml").exists()
