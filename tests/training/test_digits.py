"""The shipped digits networks: what they promise, and that the command that makes them does what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from refdesign.api import load, pretrained
from refdesign.errors import RefdesignError
from refdesign.frameworks.torch import from_network
from refdesign.training.digits import ACTIVATIONS, RECIPE, Result, choose, main, run_one, split
from refdesign.training.exactness import compare
from refdesign.training.recipe import Recipe

SHIPPED = [activation.network for activation in ACTIVATIONS.values()]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_networks_reach_the_accuracy_that_their_files_state(name: str) -> None:
    network = pretrained(name)
    for part in ("validation", "test"):
        data = split(part)
        share = np.mean(np.argmax(network.run(data.images)["logits"], axis=1) == data.labels)
        assert network.metadata[f"{part}_accuracy"] == f"{share:.4f}"
    assert float(network.metadata["test_accuracy"]) >= (0.97 if name == "digits" else 0.96)


@pytest.mark.parametrize("name", SHIPPED)
def test_torch_computes_the_shipped_networks_to_the_bit_on_all_test_images(name: str) -> None:
    network = pretrained(name)
    agreement = compare(from_network(network), network, split("test").images)
    assert agreement.compared > 7_000_000
    assert agreement.differing == 0


def test_a_difference_between_module_and_network_is_counted() -> None:
    network = pretrained("digits")
    module = from_network(network)
    with torch.no_grad():
        module.get_submodule("dense2").get_parameter("product.weight")[3, 7] *= -1
    agreement = compare(module, network, split("validation").images)
    # One weight of the last layer: one accumulator and one logit per image.
    assert agreement.by_output == {"dense2.accumulator": 287, "logits": 287}


def test_a_run_exports_a_network_that_equals_its_module(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, shift=1)
    done: dict[tuple[str, int], int] = {}
    result = run_one("3d", 4, recipe, tmp_path / "run", done)
    assert done == {("3d", 4): 1}
    assert result.differing == 0
    assert result.compared > 7_000_000
    network = load(tmp_path / "run" / "network.safetensors")
    assert network.metadata["seed"] == "4"
    assert json.loads(network.metadata["recipe"])["epochs"] == 1
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test_accuracy"] == result.test_accuracy
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())) == 1


def test_the_seed_is_chosen_on_validation_only() -> None:
    runs = [
        Result("2d", 0, validation_accuracy=0.98, validation_loss=0.1, test_accuracy=0.99, compared=1, differing=0),
        Result("2d", 1, validation_accuracy=0.99, validation_loss=0.3, test_accuracy=0.95, compared=1, differing=0),
        Result("2d", 2, validation_accuracy=0.99, validation_loss=0.2, test_accuracy=0.94, compared=1, differing=0),
    ]
    assert choose(runs).seed == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "1", "1"], "--seeds: found [1, 1]"),
        (["--seeds", "-3"], "--seeds: found [-3]"),
        (["--jobs", "0"], "--jobs: found 0"),
        (["--epochs", "0"], "recipe, epochs: found 0"),
    ],
)
def test_wrong_arguments_end_with_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RefdesignError, match="the folder cannot be made"):
        run_one("sign", 0, RECIPE, tmp_path / "file" / "run")


@pytest.mark.slow
def test_the_command_trains_exports_chooses_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--activation", "sign", "--seeds", "2", "3", "--epochs", "2", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "none differs" in printed
    results = [json.loads((tmp_path / "sign" / f"seed-{seed}" / "result.json").read_text()) for seed in (2, 3)]
    chosen = choose([Result(**result) for result in results]).seed
    trained = tmp_path / "sign" / f"seed-{chosen}" / "network.safetensors"
    assert (tmp_path / "digits-sign.safetensors").read_bytes() == trained.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_shipped_networks_are_reproduced(activation: str, tmp_path: Path) -> None:
    shipped = pretrained(ACTIVATIONS[activation].network)
    here = f"PyTorch {torch.__version__}, CPU, {torch.backends.cpu.get_cpu_capability()}, one thread"
    if shipped.metadata["trained_with"] != here:
        pytest.skip(f"trained with {shipped.metadata['trained_with']}; this is {here}: gradients round differently")
    run_one(activation, int(shipped.metadata["seed"]), RECIPE, tmp_path)
    shipped.save(tmp_path / "shipped.safetensors")
    assert (tmp_path / "network.safetensors").read_bytes() == (tmp_path / "shipped.safetensors").read_bytes()
