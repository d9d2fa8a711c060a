"""`train`, `evaluate` and `experiment` from the command line: what they leave, and every refusal in one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from refdesign.api import pretrained
from refdesign.cli.train import train
from refdesign.datasets import load as load_images
from refdesign.training.configuration import Configuration
from refdesign.training.determinism import Execution
from refdesign.training.recipe import Recipe
from tests.cli.command_line import call, good, refused
from tests.training.grids import ONE_BLOCK

QUICK = ("--preset", "digits", "--width", 0.0625, "--limit", 128, "--epochs", 1)


def test_train_leaves_a_golden_network_that_evaluate_measures(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trained = call("train", folder, *QUICK, "--activation", "3d", "--json")
    assert trained.exit_code == 0
    assert trained.stderr.startswith("epoch 1 of 1: loss ")
    report = json.loads(trained.stdout)
    assert report["configuration"]["recipe"]["shift"] == 1
    assert report["configuration"]["activation"] == "3d"
    network = folder / "network.safetensors"
    found = json.loads(good("evaluate", network, "digits:validation", "--json", "--module", folder))
    assert found["accuracy"] == report["result"]["validation_accuracy"]
    assert found["module"]["differing"] == found["module"]["predictions"] == 0
    assert "of 287 correct" in good("evaluate", network, "digits:validation")


def test_evaluate_counts_and_all_engines_agree() -> None:
    images, labels = load_images("digits", "test")
    predictions = pretrained("digits").run(images)["logits"].argmax(axis=1)
    for engine in ("packed", "torch"):
        found = json.loads(good("evaluate", "digits", "digits", "--engine", engine, "--json"))
        assert found["correct"] == int((predictions == labels).sum())
        confusion = np.array(found["confusion"])
        assert confusion.sum(axis=1).tolist() == np.bincount(labels).tolist()
        assert confusion[3, 5] == ((labels == 3) & (predictions == 5)).sum()


def test_evaluate_says_where_a_module_is_not_the_network(tmp_path: Path) -> None:
    for seed in (1, 2):
        assert call("train", tmp_path / str(seed), *QUICK, "--seed", seed).exit_code == 0
    network = tmp_path / "1" / "network.safetensors"
    result = call("evaluate", network, "digits", "--first", 20, "--module", tmp_path / "2")
    assert result.exit_code == 1
    assert "values (in conv1.accumulator" in result.stdout


def test_a_module_of_another_network_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert call("train", folder, *QUICK, "--model", "vgg_small").exit_code == 0
    assert "network 'digits-sign': outputs " in refused("evaluate", "digits-sign", "digits", "--module", folder)
    assert call("train", tmp_path / "wide", *QUICK, "--width", 0.125).exit_code == 0
    network = tmp_path / "wide" / "network.safetensors"
    assert call("train", tmp_path / "narrow", *QUICK).exit_code == 0
    assert "conv1.accumulator: found shape" in refused("evaluate", network, "digits", "--module", tmp_path / "narrow")
    plain = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**plain, "dataset": "cifar10"}))
    assert "found a module for images of 32×32×3, expected 8×8×1" in refused(
        "evaluate", "digits", "digits", "--module", folder
    )


def test_options_come_after_a_file_after_a_preset(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text("width = 0.0625\nseed = 8\n[recipe]\nepochs = 1\nshift = 0\n")
    options = ("--preset", "digits", "--config", config, "--limit", 128, "--seed", 9, "--json")
    plain = json.loads(call("train", tmp_path / "run", *options).stdout)["configuration"]
    assert (plain["seed"], plain["width"], plain["recipe"]["shift"]) == (9, 0.0625, 0)
    assert plain["recipe"]["rotation"] == 10.0


def test_every_field_has_its_option(tmp_path: Path) -> None:
    options = {option.name for option in train.params}
    fields = {field.name for made in (Configuration, Recipe, Execution) for field in dataclasses.fields(made)}
    assert fields - {"recipe"} <= options
    options_given = (*QUICK, "--final-learning-rate", 0.001, "--json")
    plain = json.loads(call("train", tmp_path / "run", *options_given).stdout)["configuration"]
    assert plain["recipe"]["final_learning_rate"] == 0.001


def test_presets_are_listed() -> None:
    assert "released-recu" in good("train", "--presets")
    assert "released-recu" in json.loads(good("train", "--presets", "--json"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "train: found no FOLDER"),
        (("F", "--preset", "nope"), "preset: found 'nope', expected one of digits"),
        (("F", "--model", "lenet"), "model: found 'lenet'"),
        (("F", "--config", "absent.toml"), "absent.toml: cannot be read: No such file or directory"),
        (("F", "--dataset", "cifar10"), "dataset cifar10, root: found none, expected the folder of the files of"),
        (("F", "--dataset", "stl10", "--root", "nowhere"), "get stl10_binary.tar.gz from https"),
        (("F", "--root", "nowhere"), "dataset digits, root: found 'nowhere', expected none"),
        (("F", "--activation", "4d"), "activation: found '4d'"),
        (("F", "--activation", "3d", "--width", 0.05), "a kernel of 4 slices for layers of 6 channels"),
        (("F", "--width", -1), "width: found -1.0"),
        (("F", "--device", "abacus"), "execution, device: found 'abacus'"),
        (("F", "--precision", "float16"), "execution, precision: found 'float16'"),
        (("F", "--epochs", 0), "recipe, epochs: found 0"),
        (("F", "--limit", 10), "training images: found 10, expected at least 64"),
    ],
)
def test_train_refuses_in_one_line(tmp_path: Path, arguments: tuple[object, ...], message: str) -> None:
    given = [tmp_path / "run" if argument == "F" else argument for argument in arguments]
    assert message in refused("train", *given)


def test_damaged_data_are_refused(tmp_path: Path) -> None:
    for number in range(1, 6):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(b"\0" * 100)
    assert "data_batch_1.bin: found 100 bytes, expected 30730000" in refused(
        "train", tmp_path / "run", "--dataset", "cifar10", "--root", tmp_path
    )


def test_a_config_that_is_none_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    for text, message in (
        ("[", "run.toml: found no TOML"),
        (f"seed = {'1' * 5000}", "run.toml: found no TOML (Exceeds the limit"),
        ("recipe = 3", "run.toml, recipe: found 3, expected a table"),
        ("colour = 3", "run.toml: found the field 'colour'"),
    ):
        config.write_text(text)
        assert message in refused("train", tmp_path / "run", "--config", config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digits", "cifar10", "--root", "nowhere"), "get cifar-10-binary.tar.gz"),
        (("digits", "absent.npy"), "absent.npy: found no such file"),
        (("digits", "digits", "--module", "nowhere"), "nowhere/config.json: cannot be read"),
    ],
)
def test_evaluate_refuses_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused("evaluate", *arguments)


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 8, 8, 1), np.uint8))
    assert "found images without labels" in refused("evaluate", "digits", tmp_path / "a.npy")


def test_a_network_of_too_few_classes_is_refused(tmp_path: Path) -> None:
    from refdesign.models import binarynet

    network = tmp_path / "seven.safetensors"
    binarynet(input_shape=(8, 8, 1), widths=(4,), dense=(), classes=7).save(network)
    assert "labels: found class 9, expected the network's classes, 0 to 6" in refused("evaluate", network, "digits")


def test_an_experiment_from_the_first_run_to_the_report(tmp_path: Path) -> None:
    grid, runs = tmp_path / "quick.toml", tmp_path / "runs"
    grid.write_text(ONE_BLOCK)
    first = call("experiment", "run", grid, "--runs", runs, "--most", 3)
    assert first.exit_code == 0
    assert first.stderr.startswith("0 of 4 runs are done\n1/3: sign, seed 3: validation accuracy ")
    assert "block first: 1 of 4 runs are not done" in refused("experiment", "test", grid, "--runs", runs)
    second = call("experiment", "run", grid, "--runs", runs)
    assert second.stderr.startswith("3 of 4 runs are done\n1/1: 2d, seed 4")
    assert call("experiment", "test", grid, "--runs", runs).exit_code == 0
    report = json.loads(good("experiment", "report", grid, "--json"))
    assert report[0]["images"] == "test"
    assert report[0]["contrasts"][0]["pairs"] == 2
    page = tmp_path / "page.md"
    text = good("experiment", "report", grid, "--markdown", page)
    assert "first (primary), test images" in text
    assert "| 2d − sign | 2 |" in page.read_text()
    assert len((tmp_path / "quick.results.jsonl").read_text().splitlines()) == 4


def test_experiment_refuses_in_one_line(tmp_path: Path) -> None:
    grid = tmp_path / "quick.toml"
    grid.write_text(ONE_BLOCK)
    assert "absent.toml: cannot be read" in refused("experiment", "run", tmp_path / "absent.toml")
    assert "block: found 'x', expected one of first" in refused("experiment", "run", grid, "--block", "x")
    (tmp_path / "quick.results.jsonl").write_text("{\n")
    assert "quick.results.jsonl, line 1: found no result" in refused("experiment", "report", grid)
