"""The loop: it learns, it repeats itself bit for bit, and a run that was killed goes on as if it had not been."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from refdesign.errors import RefdesignError
from refdesign.frameworks.torch.models import binarynet
from refdesign.training.checkpoint import read_checkpoint, write_checkpoint
from refdesign.training.determinism import deterministic
from refdesign.training.digits import split
from refdesign.training.loop import Diverged, Epoch, Labelled, Trained, train
from refdesign.training.recipe import LOSSES, Recipe

RECIPE = Recipe(epochs=3, batch_size=37, learning_rate=0.01, rotation=5, stretch=0.05, shift=1)
build = partial(binarynet, (8, 8, 1), 10, widths=(6, 10), dense=(14,))


def part(name: str, count: int) -> Labelled:
    whole = split(name)
    return Labelled(whole.images[:count], whole.labels[:count])


def tiny(recipe: Recipe = RECIPE, seed: int = 5, **options: Any) -> Trained:
    return train(build, part("train", 203), part("validation", 71), recipe, seed=seed, **options)


def weights(trained: Trained) -> dict[str, Tensor]:
    return dict(trained.model.state_dict())


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("loss", LOSSES)
def test_training_improves(loss: str) -> None:
    trained = tiny(replace(RECIPE, epochs=12, loss=loss))
    losses = [epoch.loss for epoch in trained.history]
    assert losses[-1] < 0.7 * losses[0]
    assert trained.history[-1].validation_accuracy > 0.5
    assert not trained.model.training


def test_the_same_seed_gives_the_same_weights_and_another_others() -> None:
    first = tiny()
    torch.rand(3)
    torch.set_num_threads(2)
    again = tiny()
    assert torch.get_num_threads() == 2
    assert equal(weights(first), weights(again))
    assert first.history == again.history
    assert not equal(weights(first), weights(tiny(seed=6)))


def test_latent_weights_stay_within_one() -> None:
    state = weights(tiny(replace(RECIPE, learning_rate=1.0)))
    latent = [value for name, value in state.items() if name.endswith("product.weight")]
    assert len(latent) == 4
    assert all(value.abs().max() == 1 for value in latent)


class Killed(Exception):
    """Stands for a killed process."""


def kill_after(epochs: int) -> Callable[[list[Epoch]], None]:
    def progress(history: list[Epoch]) -> None:
        if len(history) == epochs:
            raise Killed

    return progress


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, epochs: int) -> None:
    undisturbed = tiny()
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(Killed):
        tiny(checkpoint=checkpoint, progress=kill_after(epochs))
    seen: list[int] = []
    resumed = tiny(checkpoint=checkpoint, progress=lambda history: seen.append(len(history)))
    assert seen == list(range(epochs + 1, 4))
    assert equal(weights(undisturbed), weights(resumed))
    assert undisturbed.history == resumed.history
    # A run that is already done is read, not trained.
    assert equal(weights(undisturbed), weights(tiny(checkpoint=checkpoint, progress=kill_after(3))))
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    tiny(checkpoint=checkpoint)
    with pytest.raises(RefdesignError, match=r"checkpoint\.pt: seed: found a checkpoint of 5, expected 6"):
        tiny(seed=6, checkpoint=checkpoint)
    with pytest.raises(RefdesignError, match=r"learning_rate: found a checkpoint of 0\.01, expected 0\.02"):
        tiny(replace(RECIPE, learning_rate=0.02), checkpoint=checkpoint)
    other = partial(binarynet, (8, 8, 1), 10, widths=(6, 12), dense=(14,))
    with pytest.raises(RefdesignError, match="a checkpoint of another model"):
        train(other, part("train", 203), part("validation", 71), RECIPE, seed=5, checkpoint=checkpoint)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "pickle"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    tiny(replace(RECIPE, epochs=1), checkpoint=checkpoint)
    content = checkpoint.read_bytes()
    if damage == "pickle":
        torch.save({"settings": Path()}, checkpoint)
    else:
        damaged = {"truncated": content[: len(content) // 2], "foreign": b"%PDF-1.7 not a checkpoint", "empty": b""}
        checkpoint.write_bytes(damaged[damage])
    with pytest.raises(RefdesignError, match=r"checkpoint\.pt: no checkpoint that can be read"):
        tiny(replace(RECIPE, epochs=1), checkpoint=checkpoint)


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(RefdesignError, match=r"absent/checkpoint\.pt: cannot be written"):
        write_checkpoint(tmp_path / "absent" / "checkpoint.pt", {"model": model}, {"seed": 1}, [])
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_keeps_the_random_state(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    with deterministic(3):
        write_checkpoint(checkpoint, {}, {"seed": 3}, [(0.5, 0.25)])
        expected = torch.rand(5)
        assert read_checkpoint(checkpoint, {}, {"seed": 3}) == [(0.5, 0.25)]
        assert torch.equal(torch.rand(5), expected)


class Exploding(nn.Module):
    """Gives finite outputs for some steps, then none."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.left = after

    def forward(self, x: Tensor) -> Tensor:
        self.left -= self.training
        return x.flatten(1)[:, :10].float() * self.scale * (1.0 if self.left >= 0 else float("nan"))


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(RefdesignError, match="the loss is nan in epoch 2"):
        train(partial(Exploding, 7), part("train", 203), part("validation", 71), RECIPE, seed=5, checkpoint=checkpoint)
    settings = torch.load(checkpoint, weights_only=True)["settings"]
    figures = read_checkpoint(checkpoint, {}, settings)
    assert len(figures) == 1
    assert np.isfinite(figures).all()


@pytest.mark.parametrize("last_step", [5, 10])
def test_an_epoch_whose_last_step_breaks_the_weights_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_step: int
) -> None:
    calls = []

    def breaking(outputs: Tensor, labels: Tensor) -> Tensor:
        calls.append(len(labels))
        loss = torch.nn.functional.cross_entropy(outputs, labels)
        if calls.count(37) < last_step or len(labels) != 37:
            return loss
        return loss + (0 * outputs.sum()).sqrt()  # finite itself, with a gradient that is no number

    monkeypatch.setitem(LOSSES, "cross_entropy", breaking)
    checkpoint = tmp_path / "checkpoint.pt"
    epoch = last_step // 5
    with pytest.raises(Diverged, match=rf"holds a value that is not finite after epoch {epoch}$"):
        tiny(checkpoint=checkpoint)
    assert checkpoint.exists() == (epoch > 1)
    if epoch > 1:
        state = torch.load(checkpoint, weights_only=True)
        assert len(state["figures"]) == epoch - 1
        assert all(torch.isfinite(value).all() for value in state["parts"]["model"].values())


def test_a_checkpoint_of_a_device_that_is_not_here_says_which(tmp_path: Path) -> None:
    checkpoint, moved = tmp_path / "checkpoint.pt", tmp_path / "moved.pt"
    model = nn.Linear(3, 2)
    write_checkpoint(checkpoint, {"model": model}, {"device": "cuda"}, [])
    # As PyTorch writes tensors of a GPU: their place stands in the pickle, once.
    with zipfile.ZipFile(checkpoint) as old, zipfile.ZipFile(moved, "w") as new:
        for name in old.namelist():
            place = pickle_text("cuda:0") if name.endswith("data.pkl") else pickle_text("cpu")
            new.writestr(name, old.read(name).replace(pickle_text("cpu"), place))
    assert b"cuda:0" in moved.read_bytes()
    with pytest.raises(RefdesignError, match=r"moved\.pt: device: found a checkpoint of 'cuda', expected 'cpu'"):
        read_checkpoint(moved, {"model": model}, {"device": "cpu"})


def pickle_text(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("batch_size", 1), ("learning_rate", 0.0), ("learning_rate", float("nan")), ("loss", "l1"),
     ("learning_rate", 2e6),
     ("shift", -1), ("rotation", -1.0), ("stretch", -0.1)],
)  # fmt: skip
def test_a_recipe_names_the_field_that_is_wrong(field: str, value: object) -> None:
    with pytest.raises(
        RefdesignError, match=f"recipe, {field}: found {value}" if field != "loss" else "loss: found 'l1'"
    ):
        Recipe(**{field: value})  # type: ignore[arg-type]


def test_wrong_images_are_refused() -> None:
    with pytest.raises(RefdesignError, match="found 3, expected at least 37"):
        train(build, part("train", 3), part("validation", 3), RECIPE, seed=0)
    with pytest.raises(RefdesignError, match=r"found uint8 of shape \(2, 8, 8, 1\) with labels of shape \(3,\)"):
        Labelled(np.zeros((2, 8, 8, 1), np.uint8), np.zeros(3, np.int64))


def test_settings_come_back_even_after_an_error() -> None:
    torch.manual_seed(9)
    expected = torch.rand(2)
    torch.manual_seed(9)
    torch.set_num_threads(2)
    inside: list[object] = []

    def killed_inside() -> None:
        with deterministic(1):
            inside.extend([torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.rand(7)])
            raise Killed

    with pytest.raises(Killed):
        killed_inside()
    assert inside[:2] == [1, True]
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.rand(2), expected)
