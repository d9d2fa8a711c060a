"""`refdesign run`: what it prints and saves is what the network gives, and bad input is one line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refdesign import api, datasets
from refdesign.errors import MissingExtra
from refdesign.frameworks import ENGINES
from refdesign.frameworks import compile as compile_for
from refdesign.models import binarynet
from tests.cli.command_line import call, good, refused, small_images


def test_predictions_and_logits_are_the_networks(model: Path, images: Path) -> None:
    printed = json.loads(good("run", model, images, "--json"))
    logits = api.load(model).run(np.load(images), path="float")["logits"]
    assert [entry["logits"] for entry in printed["predictions"]] == logits.tolist()
    assert [entry["prediction"] for entry in printed["predictions"]] == logits.argmax(axis=1).tolist()
    for entry, row in zip(printed["predictions"], np.sort(logits.astype(np.float64), axis=1), strict=True):
        assert entry["margin"] == row[-1] - row[-2]
    assert "accuracy" not in printed


@pytest.mark.parametrize(
    "options",
    [[], ["--path", "float"], ["--path", "naive"], ["--batch-size", "3"], ["--workers", "2", "--batch-size", "1"]],
    ids=" ".join,
)
def test_saved_outputs_are_the_networks(options: list[str], model: Path, images: Path, tmp_path: Path) -> None:
    target = tmp_path / "trace.npz"
    good("run", model, images, "--outputs", "all", "--save", target, *options)
    network = api.load(model)
    expected = network.run(np.load(images), outputs="all")
    with np.load(target, allow_pickle=False) as saved:
        assert tuple(saved.files) == network.output_names
        for name, array in expected.items():
            assert saved[name].dtype == array.dtype
            np.testing.assert_array_equal(saved[name], array)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["four.npy", "small.safetensors", "trace.npz"]


def test_some_outputs_only(model: Path, images: Path, tmp_path: Path) -> None:
    target = tmp_path / "some.npz"
    text = good("run", model, images, "--outputs", "conv2.bits,conv1.accumulator", "--save", target, "--first", 3)
    with np.load(target) as saved:
        assert saved.files == ["conv1.accumulator", "conv2.bits"]
        assert saved["conv2.bits"].shape == (3, 4, 3, 15)
    assert f"saved conv1.accumulator, conv2.bits to {target}" in text


def test_saving_without_names_saves_the_logits(model: Path, images: Path, tmp_path: Path) -> None:
    printed = json.loads(good("run", model, images, "--save", tmp_path / "logits.npz", "--json"))
    assert printed["saved"] == str(tmp_path / "logits.npz")
    with np.load(tmp_path / "logits.npz") as saved:
        assert saved.files == ["logits"]
        assert saved["logits"].tolist() == [entry["logits"] for entry in printed["predictions"]]


@pytest.fixture
def for_digits(tmp_path: Path) -> Path:
    """A random network for the bundled digits."""
    path = tmp_path / "for-digits.safetensors"
    binarynet(input_shape=(8, 8, 1), widths=(5, 7), dense=(9,), seed=11).save(path)
    return path


def test_a_data_set_has_labels_and_an_accuracy(for_digits: Path) -> None:
    pixels, labels = datasets.load("digits", "validation")
    correct = int((api.load(for_digits).run(pixels)["logits"].argmax(axis=1) == labels).sum())
    printed = json.loads(good("run", for_digits, "digits:validation", "--json"))
    assert (printed["correct"], printed["images"]) == (correct, len(labels))
    assert printed["accuracy"] == correct / len(labels)
    assert [entry["label"] for entry in printed["predictions"]] == labels.tolist()
    text = good("run", for_digits, "digits:validation", "--rows", 5)
    assert f"{correct} of {len(labels)} correct" in text
    assert "… and 282 more" in text
    assert "digits:validation[4]" in text
    assert "digits:validation[5]" not in text


def test_the_default_split_is_the_test_split_and_rows_0_prints_all(for_digits: Path) -> None:
    text = good("run", for_digits, "digits", "--rows", 0)
    assert text.startswith("binarynet on digits:test\n")
    assert "digits:test[359]" in text
    assert "more" not in text


def test_several_sources_come_one_after_the_other(model: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    small_images(folder / "b.npy", 1)
    small_images(folder / "a.npy", 2)
    printed = json.loads(good("run", model, images, folder, "--json"))
    names = [entry["image"] for entry in printed["predictions"]]
    expected = [*(f"four.npy[{i}]" for i in range(4)), "folder/a.npy[0]", "folder/a.npy[1]", "folder/b.npy"]
    assert names == [str(tmp_path / name) for name in expected]
    names = [entry["image"] for entry in json.loads(good("run", model, folder, "--json"))["predictions"]]
    (folder / "outputs").mkdir()
    assert call("run", model, folder).stderr == f"{folder}: read 2 files, left 1 other entry alone\n"
    assert names == ["a.npy[0]", "a.npy[1]", "b.npy"]


def test_labels_are_left_out_where_a_source_has_none(for_digits: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", datasets.load("digits", "test")[0][:1])
    printed = json.loads(good("run", for_digits, "digits:validation", tmp_path / "one.npy", "--json"))
    assert printed["images"] == 288
    assert "correct" not in printed


def test_a_picture_file_is_read(for_digits: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="pictures need Pillow (extra 'plot')")
    pixels = datasets.load("digits", "test")[0][3]
    image.fromarray(pixels[:, :, 0]).save(tmp_path / "digit.png")
    printed = json.loads(good("run", for_digits, tmp_path / "digit.png", "--json"))
    expected = api.load(for_digits).run(pixels[np.newaxis])["logits"]
    assert printed["predictions"][0]["logits"] == expected[0].tolist()


@pytest.mark.parametrize("command", [("run",), ("explain", "--layer", "conv2", "--at", "0,0,0")])
def test_a_picture_is_converted_only_when_asked_for(command: tuple[str, ...], for_digits: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="pictures need Pillow (extra 'plot')")
    large = np.random.default_rng(8).integers(0, 256, (28, 28), dtype=np.uint8)
    image.fromarray(large).save(tmp_path / "g28.png")
    arguments = (command[0], for_digits, tmp_path / "g28.png", *command[1:])
    message = refused(*arguments)
    assert message.endswith(
        "g28.png: found 28×28 pixels, expected 8×8; to convert the picture ask for it (--resize, resize=True)"
    )
    result = call(*arguments, "--resize")
    assert result.exit_code == 0
    assert result.stderr == "g28.png: 28×28 resized to 8×8, box filter\n"


def test_many_converted_pictures_are_counted(for_digits: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="pictures need Pillow (extra 'plot')")
    (tmp_path / "scans").mkdir()
    for number in range(7):
        image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "scans" / f"{number}.png")
    lines = call("run", for_digits, tmp_path / "scans", "--resize").stderr.splitlines()
    assert lines[4:] == ["4.png: 16×16 resized to 8×8, box filter", "… and 2 more pictures converted"]


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def tampered(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x10
    path.write_bytes(data)


def foreign(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))


def newer(path: Path) -> None:
    data = path.read_bytes()
    changed = re.sub(rb'(version\\": )\d', rb"\g<1>9", data, count=1)
    assert changed != data
    path.write_bytes(changed)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [truncated, tampered, foreign, newer, empty, folder], ids=lambda f: f.__name__)
@pytest.mark.parametrize("command", ["run", "info", "fold", "explain"])
def test_a_bad_network_file_is_named_by_every_command(
    command: str, damage: Callable[[Path], None], model: Path, images: Path, tmp_path: Path
) -> None:
    damage(model)
    target = tmp_path / "kept.npz"
    target.write_bytes(b"old")
    arguments = {
        "run": [images, "--save", target],
        "info": [],
        "fold": ["--save", target],
        "explain": [images, "--layer", "conv2", "--at", "0,0,0"],
    }[command]
    assert "small.safetensors" in refused(command, model, *arguments)
    assert target.read_bytes() == b"old"


BAD_ARRAYS: dict[str, NDArray[Any]] = {
    "float": np.zeros((2, 9, 7, 1), np.float32),
    "another size": np.zeros((2, 7, 9, 1), np.uint8),
    "channels": np.zeros((2, 9, 7, 3), np.uint8),
    "none": np.zeros((0, 9, 7, 1), np.uint8),
    "objects": np.array([None]),
}


@pytest.mark.parametrize("what", BAD_ARRAYS)
def test_a_bad_array_is_named(what: str, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", BAD_ARRAYS[what], allow_pickle=what == "objects")
    assert "bad.npy" in refused("run", model, tmp_path / "bad.npy", "--save", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("name", ["bad.png", "bad.npy", "bad.npz", "missing.png", "empty-folder"])
def test_an_unreadable_image_is_named(name: str, model: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.startswith("bad"):
        path.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    elif name == "empty-folder":
        path.mkdir()
    assert name in refused("run", model, path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--outputs", "conv9.bits", "--save", "x.npz"], ["conv9.bits", "conv1.accumulator"]),
        (["--outputs", "all"], ["--save"]),
        (["--save", "nowhere/x.npz"], ["nowhere/x.npz", "cannot be written"]),
        (["--save", "."], ["folder"]),
        (["--save", "x.txt"], ["x.txt: found the suffix '.txt', expected .npz"]),
    ],
)
def test_bad_outputs(
    arguments: list[str], words: list[str], model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused("run", model, images, *arguments)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("digits:nowhere", ["digits", "nowhere", "validation"]),
        ("cifar10:test", ["cifar10", "root"]),
        ("digits:test", ["digits:test", "8×8×1", "9×7×1"]),
        ("nosuch.npy", ["nosuch.npy: found no such file, expected", ".npy or .npz", "digits, cifar10"]),
        ("mnist:test", ["mnist:test: found no such file, expected", "a data set: digits, cifar10"]),
        ("digit:test", ["did you mean 'digits'?"]),
    ],
)
def test_bad_data_sets(source: str, words: list[str], model: Path) -> None:
    line = refused("run", model, source)
    assert all(word in line for word in words), line


def test_a_failure_on_the_way_leaves_the_old_file(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "trace.npz"
    target.write_bytes(b"old")

    def fails(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("refdesign.cli._files.shutil.copyfileobj", fails)
    assert "trace.npz: cannot be written: No space left on device" in refused(
        "run", model, images, "--outputs", "all", "--save", target
    )
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["four.npy", "small.safetensors", "trace.npz"]


def test_a_file_called_like_a_data_set_is_reached_by_its_path(
    for_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    np.save(tmp_path / "digits" / "one.npy", np.zeros((1, 8, 8, 1), np.uint8))
    assert json.loads(good("run", for_digits, "digits", "--json"))["images"] == 360
    assert json.loads(good("run", for_digits, "./digits", "--json"))["images"] == 1
    shutil.copy(for_digits, tmp_path / "digits-2d")
    assert json.loads(good("run", "./digits-2d", "./digits", "--json"))["network"] == "binarynet"


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_the_slow_path_reports_its_progress_within_an_image(batch_size: int, model: Path, images: Path) -> None:
    calls: list[tuple[int, int]] = []
    api.load(model).run(
        np.load(images), path="naive", batch_size=batch_size, progress=lambda done, total: calls.append((done, total))
    )
    pixels = 9 * 7 + 9 * 7 + 4 * 3 + 1 + 1  # of the sums of five layers
    assert calls == [(done, 4 * pixels) for done in range(1, 4 * pixels + 1)]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_same(engine: str, model: Path, images: Path, tmp_path: Path) -> None:
    target = tmp_path / "trace.npz"
    network = api.load(model)
    try:
        compile_for(network, engine)
    except MissingExtra as error:
        pytest.skip(str(error))
    good("run", model, images, "--engine", engine, "--outputs", "all", "--save", target, "--batch-size", "3")
    expected = network.run(np.load(images), outputs="all")
    with np.load(target, allow_pickle=False) as saved:
        assert tuple(saved.files) == network.output_names
        for name, array in expected.items():
            np.testing.assert_array_equal(saved[name], array, strict=True)


@pytest.mark.parametrize("options", [["--path", "naive"], ["--workers", "2"]], ids=" ".join)
def test_an_engine_stands_alone(options: list[str], model: Path, images: Path) -> None:
    message = refused("run", model, images, "--engine", ENGINES[1], *options)
    assert f"--engine: found {ENGINES[1]} with {' '.join(options)}, expected it alone" in message
