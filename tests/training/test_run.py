"""Run folders: what stands in them, resuming to the same bits, and every way in which a run can go wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboardX.proto import event_pb2

from refdesign.api import load
from refdesign.errors import RefdesignError
from refdesign.training.configuration import Configuration
from refdesign.training.data import load_test, training_data
from refdesign.training.determinism import Execution
from refdesign.training.exactness import compare
from refdesign.training.recipe import Recipe
from refdesign.training.run import read_configuration, run, trained_module
from tests.shared_data import CHECKOUT

TINY = Configuration(
    width=0.07, limit=203, activation="2d", seed=4, recipe=Recipe(epochs=3, batch_size=37, shift=1, flip=True)
)


class Killed(Exception):
    """Stands for a killed process."""


def kill_after(epochs: int) -> Any:
    def progress(history: list[Any]) -> None:
        if len(history) == epochs:
            raise Killed

    return progress


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(trained_module(folder).state_dict())


def assert_same(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (a / "network.safetensors").read_bytes() == (b / "network.safetensors").read_bytes()
    assert (a / "metrics.jsonl").read_text() == (b / "metrics.jsonl").read_text()


def events(folder: Path) -> list[tuple[int, str]]:
    """The (step, name) of every scalar in TensorBoard's files, by the records' framing: length, check, data, check."""
    found = []
    for path in sorted(folder.glob("events.out*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            event = event_pb2.Event.FromString(data[at + 12 : at + 12 + size])
            found += [(event.step, value.tag) for value in event.summary.value]
            at += size + 16
    return found


def test_a_folder_holds_all_that_a_run_gave(tmp_path: Path) -> None:
    result = run(TINY, tmp_path)
    assert read_configuration(tmp_path) == TINY
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["validation_accuracy"] == result.validation_accuracy
    assert (3, "validation_accuracy") in events(tmp_path)
    network = load(tmp_path / "network.safetensors")
    assert json.loads(network.metadata["configuration"]) == TINY.plain()
    _, validation = training_data(TINY, None)
    share = np.mean(network.run(validation.images)["logits"].argmax(axis=1) == validation.labels)
    assert share == result.validation_accuracy
    assert compare(trained_module(tmp_path), network, validation.images).differing == 0


def test_a_finished_run_is_read_not_trained_again(tmp_path: Path) -> None:
    first = run(TINY, tmp_path)
    assert run(TINY, tmp_path, progress=kill_after(1)) == first


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("model", ["binarynet", "resnet20"])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, epochs: int, model: str) -> None:
    configuration = replace(TINY, model=model, recipe=replace(TINY.recipe, optimiser="sgd", warmup=1))
    run(configuration, tmp_path / "undisturbed")
    with pytest.raises(Killed):
        run(configuration, tmp_path / "killed", progress=kill_after(epochs))
    assert not (tmp_path / "killed" / "network.safetensors").exists()
    run(configuration, tmp_path / "killed")
    assert_same(tmp_path / "undisturbed", tmp_path / "killed")


def test_a_process_that_is_killed_outright_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    options = ["--preset", "digits", "--width", "0.0625", "--epochs", "40", "--limit", "512", "--activation", "3d"]

    def command(folder: str) -> list[str]:
        return [sys.executable, "-m", "refdesign", "train", str(tmp_path / folder), *options]

    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command("killed"), cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    for _ in range(1200):
        if metrics.exists() and len(metrics.read_text().splitlines()) >= 3:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 3 <= len(metrics.read_text().splitlines()) < 40
    for folder in ("killed", "undisturbed"):
        subprocess.run(command(folder), cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert_same(tmp_path / "killed", tmp_path / "undisturbed")


def test_the_best_epoch_is_kept_and_patience_ends_a_run(tmp_path: Path) -> None:
    recipe = replace(TINY.recipe, epochs=12, learning_rate=0.02, keep="best", patience=2, schedule="constant")
    result = run(replace(TINY, recipe=recipe), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    accuracies = [line["validation_accuracy"] for line in lines]
    assert result.kept == 1 + accuracies.index(max(accuracies))
    assert result.validation_accuracy == max(accuracies)
    assert result.epochs == len(lines)
    assert result.epochs == 12 or result.epochs - result.kept == 2
    _, validation = training_data(TINY, None)
    logits = load(tmp_path / "network.safetensors").run(validation.images)["logits"]
    assert np.mean(logits.argmax(axis=1) == validation.labels) == max(accuracies)
    assert compare(trained_module(tmp_path), load(tmp_path / "network.safetensors"), validation.images).differing == 0


def test_a_folder_of_another_run_is_refused_by_the_field_that_differs(tmp_path: Path) -> None:
    run(TINY, tmp_path)
    with pytest.raises(RefdesignError, match=r"config\.json, seed: found a run with 4, expected 5; choose another"):
        run(replace(TINY, seed=5), tmp_path)
    with pytest.raises(RefdesignError, match=r"recipe\.epochs: found a run with 3, expected 4"):
        run(replace(TINY, recipe=replace(TINY.recipe, epochs=4)), tmp_path)


def test_a_folder_in_which_nothing_was_trained_takes_another_run(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match="found 20, expected at least 37"):
        run(replace(TINY, limit=20), tmp_path)
    run(TINY, tmp_path)
    assert read_configuration(tmp_path) == TINY
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(RefdesignError, match="seed: found a run with 4, expected 5"):
        run(replace(TINY, seed=5), tmp_path)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    for name, configuration in (("a", TINY), ("b", replace(TINY, activation="sign"))):
        with pytest.raises(Killed):
            run(configuration, tmp_path / name, progress=kill_after(1))
    (tmp_path / "b" / "checkpoint.pt").write_bytes((tmp_path / "a" / "checkpoint.pt").read_bytes())
    with pytest.raises(RefdesignError, match=r"b/checkpoint\.pt: configuration: found a checkpoint of"):
        run(replace(TINY, activation="sign"), tmp_path / "b")
    (tmp_path / "b" / "config.json").unlink()
    with pytest.raises(RefdesignError, match=r"found checkpoint\.pt without config\.json"):
        run(replace(TINY, activation="sign"), tmp_path / "b")


def test_a_kernel_file_that_changed_since_is_noticed(tmp_path: Path) -> None:
    kernel = tmp_path / "k.json"
    kernel.write_text('{"values": [[0.5, 1.0]]}')
    configuration = replace(TINY, activation=str(kernel))
    with pytest.raises(Killed):
        run(configuration, tmp_path / "run", progress=kill_after(1))
    kernel.write_text('{"values": [[0.5, 1.25]]}')
    with pytest.raises(RefdesignError, match=r"checkpoint\.pt: kernel: found a checkpoint of"):
        run(configuration, tmp_path / "run")


def test_another_number_of_threads_is_another_run(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(TINY, tmp_path, progress=kill_after(1))
    with pytest.raises(RefdesignError, match="threads: found a checkpoint of 1, expected 2"):
        run(TINY, tmp_path, execution=Execution(threads=2))


def test_a_loss_that_is_no_number_keeps_the_last_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from refdesign.training.recipe import LOSSES

    calls = []

    def exploding(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls.append(len(labels))
        loss = torch.nn.functional.cross_entropy(outputs, labels)
        return loss * (float("nan") if len(calls) > 8 else 1)  # 5 steps and a validation in an epoch

    monkeypatch.setitem(LOSSES, "cross_entropy", exploding)
    with pytest.raises(RefdesignError, match="the loss is nan in epoch 2"):
        run(TINY, tmp_path)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    assert not (tmp_path / "network.safetensors").exists()
    # The good state goes on where the cause is gone, to the same weights.
    monkeypatch.undo()
    run(TINY, tmp_path)
    run(TINY, tmp_path / "undisturbed")
    assert_same(tmp_path, tmp_path / "undisturbed")


@pytest.mark.parametrize("writes", [6, 7, 8, 9])
def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    fsync, left = os.fsync, [writes]

    def full(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RefdesignError, match=r"cannot be written: .*No space left on device"):
        run(TINY, tmp_path / "full")
    monkeypatch.undo()
    assert (tmp_path / "full" / "checkpoint.pt").exists()
    assert not list((tmp_path / "full").glob("*.tmp"))
    run(TINY, tmp_path / "full")
    run(TINY, tmp_path / "undisturbed")
    assert_same(tmp_path / "full", tmp_path / "undisturbed")


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    with pytest.raises(Killed):
        run(TINY, tmp_path, progress=kill_after(1))
    path = tmp_path / "checkpoint.pt"
    content = path.read_bytes()
    path.write_bytes({"truncated": content[:-2000], "foreign": b"GIF89a", "empty": b""}[damage])
    with pytest.raises(RefdesignError, match=r"checkpoint\.pt: no checkpoint that can be read"):
        run(TINY, tmp_path)
    with pytest.raises(RefdesignError, match=r"checkpoint\.pt: no checkpoint of this run that can be read"):
        trained_module(tmp_path)


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RefdesignError, match=r"config\.json: found no JSON"):
        run(TINY, tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(RefdesignError, match=r"config\.json: found list, expected an object"):
        run(TINY, tmp_path)
    (tmp_path / "config.json").write_text('{"colour": "red"}')
    with pytest.raises(RefdesignError, match="found the field 'colour'"):
        run(TINY, tmp_path)


def test_missing_and_small_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match=r"cifar-10-binary\.tar\.gz from https"):
        run(replace(TINY, dataset="cifar10"), tmp_path / "a", root=tmp_path / "nowhere")
    with pytest.raises(RefdesignError, match="limit: found 99999, expected at most 1150"):
        run(replace(TINY, limit=99999), tmp_path / "b")
    with pytest.raises(RefdesignError, match="validation: found 12, expected 0: the digits hold out images"):
        run(replace(TINY, validation=12), tmp_path / "c")
    with pytest.raises(RefdesignError, match="found 20, expected at least 37"):
        run(replace(TINY, limit=20), tmp_path / "d")
    (tmp_path / "file").write_text("")
    with pytest.raises(RefdesignError, match="the folder cannot be made"):
        run(TINY, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device": "tpu9"}, "execution, device: found 'tpu9'"),
        ({"device": "meta"}, "execution, device: found 'meta', expected cpu or cuda"),
        ({"device": "cpu:3"}, "execution, device: found 'cpu:3', expected cpu or cuda"),
        ({"precision": "bfloat16"}, "execution, precision: found 'bfloat16', expected one of float32, tf32"),
        ({"precision": "tf32"}, "found 'tf32' on the CPU"),
    ],
)
def test_where_steps_cannot_be_computed(fields: dict[str, str], message: str) -> None:
    with pytest.raises(RefdesignError) as raised:
        Execution(**fields)  # type: ignore[arg-type]
    assert message in str(raised.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an NVIDIA device here")
def test_no_device_is_said(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match="found 'cuda', but PyTorch sees no NVIDIA device here"):
        run(TINY, tmp_path, execution=Execution(device="cuda"))


def test_a_device_beyond_those_that_there_are_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    Execution(device="cuda").check_available()
    Execution(device="cuda:1").check_available()
    with pytest.raises(RefdesignError, match=r"found 'cuda:2', but PyTorch sees 2 NVIDIA device\(s\)"):
        Execution(device="cuda:2").check_available()


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_cuda_trains_exactly_and_repeats_itself(tmp_path: Path, precision: str) -> None:
    execution = Execution(device="cuda", precision=precision, channels_last=True)
    for name in ("a", "b"):
        run(TINY, tmp_path / name, execution=execution)
    assert_same(tmp_path / "a", tmp_path / "b")
    images = load_test("digits", None).images
    network = load(tmp_path / "a" / "network.safetensors")
    assert compare(trained_module(tmp_path / "a"), network, images).differing == 0


def test_channels_last_trains_too(tmp_path: Path) -> None:
    run(TINY, tmp_path, execution=Execution(channels_last=True))
    images = load_test("digits", None).images
    network = load(tmp_path / "network.safetensors")
    assert compare(trained_module(tmp_path), network, images).differing == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler uses what PyTorch deprecates
def test_compiled_steps_resume_to_the_same_weights_and_export_exactly(tmp_path: Path) -> None:
    execution = Execution(compiled=True, channels_last=True)
    with pytest.raises(Killed):
        run(TINY, tmp_path / "killed", execution=execution, progress=kill_after(2))
    for name in ("killed", "undisturbed"):
        run(TINY, tmp_path / name, execution=execution)
    assert_same(tmp_path / "killed", tmp_path / "undisturbed")
    network = load(tmp_path / "killed" / "network.safetensors")
    assert compare(trained_module(tmp_path / "killed"), network, load_test("digits", None).images).differing == 0
