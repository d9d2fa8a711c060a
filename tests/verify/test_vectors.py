"""The folder of vectors, read as someone without this project would: by its manifest."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from refdesign.api import pretrained
from refdesign.bits import unpack
from refdesign.conventions import ARITHMETICS
from refdesign.errors import RefdesignError
from refdesign.network import BinaryConv2d
from refdesign.verify import vectors_page
from refdesign.verify.compare import EQUAL, compare
from refdesign.verify.doors.files import FilesDoor
from refdesign.verify.vectors import read_images, write_vectors
from tests.verify.port import Port
from tests.verify.subjects import uneven

NETWORK = uneven()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "of_the_network"
    write_vectors(NETWORK, path, count=5, seed=3)
    return path


def _manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def test_the_manifest_is_as_its_schema_says_and_names_every_file(folder: Path) -> None:
    manifest = _manifest(folder)
    schema = json.loads((folder / "manifest.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(manifest, schema)
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {entry["path"] for entry in manifest["files"]} == there - {"manifest.json"}
    for entry in manifest["files"]:
        content = (folder / entry["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"])
    assert str(folder) not in json.dumps(manifest)


def test_hex_and_npy_hold_the_same(folder: Path) -> None:
    """Read with the manifest alone, a word at a time."""
    arrays = {entry["array"]: entry for entry in _manifest(folder)["files"] if entry["encoding"] == "npy"}
    checked = 0
    for entry in _manifest(folder)["files"]:
        if entry["encoding"] != "readmemh":
            continue
        array = np.load(folder / arrays[entry["array"]]["path"])
        words = [int(line, 16) for line in (folder / entry["path"]).read_text().split()]
        rows = array.reshape(-1, array.shape[-1])
        assert len(words) == len(rows) * entry["words_in_a_row"]
        random = np.random.default_rng(checked)
        for _ in range(20):
            row, element = int(random.integers(len(rows))), int(random.integers(rows.shape[1]))
            per_word = entry["word_bits"] // entry["element_bits"]
            word = words[row * entry["words_in_a_row"] + element // per_word]
            raw = word >> (element % per_word * entry["element_bits"]) & ((1 << entry["element_bits"]) - 1)
            value = rows[row, element]
            if entry["kind"] == "bits":
                assert value == (1 if raw else -1)
            elif entry["kind"] == "float32":
                assert np.float32(value).view(np.uint32) == raw
            else:
                assert int(value) % (1 << entry["element_bits"]) == raw
        checked += 1
    assert checked > 30


def test_the_readme_says_what_every_array_is(folder: Path) -> None:
    page = (folder / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(.*?)` \|.*\| (.*) \|$", page, re.MULTILINE))
    assert set(rows) == {entry["array"] for entry in _manifest(folder)["files"] if "array" in entry}
    assert all(rows.values())
    assert "zeros (positions outside count for nothing)" in page
    assert "`a <= threshold` (direction -1)" in page


def test_the_readme_has_the_formula_of_the_last_layer() -> None:
    page = vectors_page.page(pretrained("digits"), [])
    assert "`y = fma(v, k, c)`; `k = gamma * (1 / sqrt(variance + epsilon))`; `c = fma(-mean, k, beta)`" in page
    assert "symmetric (the map is mirrored with its edge: the first position outside repeats the edge)" in page
    assert set(vectors_page.PROGRAMS) == set(ARITHMETICS)


def test_outputs_are_those_of_a_port_that_was_written_apart(folder: Path) -> None:
    images = read_images(folder, NETWORK)
    expected = Port(NETWORK)(images)
    for name in NETWORK.output_names:
        np.testing.assert_array_equal(np.load(folder / "outputs" / f"{name}.npy"), expected[name])
    assert compare(NETWORK, FilesDoor(folder / "outputs", NETWORK), images).status == EQUAL


@pytest.mark.parametrize("files", [None, 3, ["images.npy"], [{"path": "images.npy"}]])
def test_a_manifest_that_lists_no_images_is_refused(folder: Path, tmp_path: Path, files: Any) -> None:
    (tmp_path / "images.npy").write_bytes((folder / "images.npy").read_bytes())
    (tmp_path / "manifest.json").write_text(json.dumps({**_manifest(folder), "files": files}))
    with pytest.raises(RefdesignError, match=r"images\.npy: found another SHA-256 than the manifest's"):
        read_images(tmp_path, NETWORK)


def test_thresholds_give_the_bits(folder: Path) -> None:
    threshold, direction, constant = (
        np.load(folder / "parameters" / f"second.{part}.npy") for part in ("threshold", "direction", "constant")
    )
    a = np.load(folder / "outputs" / "second.accumulator.npy")
    rows, columns = np.arange(a.shape[1])[:, None] % 2, np.arange(a.shape[2]) % 3
    t, d, c = (field[rows, columns] for field in (threshold, direction, constant))
    bits = np.where(np.where(d > 0, a >= t, np.where(d < 0, a <= t, c > 0)), 1, -1)
    np.testing.assert_array_equal(bits, np.load(folder / "outputs" / "second.bits.npy"))


def test_directed_cases_meet_what_they_say(folder: Path) -> None:
    manifest = _manifest(folder)
    thresholds = NETWORK.thresholds()
    layer = NETWORK.layer("second")
    assert isinstance(layer, BinaryConv2d)
    a = np.load(folder / "layers" / "second.accumulator.npy")
    bits = np.load(folder / "layers" / "second.bits.npy")
    seen: set[tuple[tuple[int, ...], bool]] = set()
    for case in manifest["layer_cases"]["second"]:
        found = re.match(r"channel (\d+), phase \((\d), (\d)\): (.*), (-?\d+)$", case["name"])
        if found is None:
            continue
        channel, row, column, target = (int(found[group]) for group in (1, 2, 3, 5))
        here = a[case["case"], row::2, column::3, channel] == target
        fires = "not" not in found[4]
        assert here.any()
        assert (bits[case["case"], row::2, column::3, channel][here] == (1 if fires else -1)).all()
        # The channel's sums are all even here; the next even one towards the boundary gives the other bit.
        threshold = int(thresholds["second"].threshold[row, column, channel])
        assert abs(target - threshold) <= 2
        seen.add(((row, column), fires))
    assert len(seen) == 2 * 3 * 2
    fan_in = 3 * 3 * 10
    assert (a.max(), a.min()) == (fan_in, -fan_in)
    images = [case["name"] for case in manifest["cases"]]
    assert {"all zeros", "all 255", "corner top left"} <= set(images)
    assert any("thresholds" in name for name in images)
    assert unpack(layer.weights).shape == np.load(folder / "parameters" / "second.weights.npy").shape


def test_the_same_seed_gives_the_same_folder(folder: Path, tmp_path: Path) -> None:
    again = write_vectors(NETWORK, tmp_path / "again", count=5, seed=3)
    assert [entry["sha256"] for entry in again["files"]] == [entry["sha256"] for entry in _manifest(folder)["files"]]
    other = write_vectors(NETWORK, tmp_path / "other", count=5, seed=4)
    assert other["files"] != again["files"]


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match="expected no folder or an empty one"):
        write_vectors(NETWORK, folder)
    with pytest.raises(RefdesignError, match="cannot be read"):
        read_images(tmp_path, NETWORK)
    with pytest.raises(RefdesignError, match="found other conventions"):
        read_images(folder, uneven(NETWORK.conventions.replace(channel_map="repeat")))
    write_vectors(NETWORK, tmp_path / "v", count=1)
    images = tmp_path / "v" / "images.npy"
    content = bytearray(images.read_bytes())
    content[-1] ^= 1
    images.write_bytes(bytes(content))
    with pytest.raises(RefdesignError, match="another SHA-256"):
        read_images(tmp_path / "v", NETWORK)
    (tmp_path / "v" / "manifest.json").write_text('{"format": "else"}')
    with pytest.raises(RefdesignError, match="found the format 'else'"):
        read_images(tmp_path / "v", NETWORK)
