"""Grids: read with errors that name the field, run in every way, resumed, tested only when done, and reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refdesign.api import load
from refdesign.datasets import load as load_images
from refdesign.errors import RefdesignError
from refdesign.training import experiment
from refdesign.training.experiment import Results, Task, look_at_test, run_all, tasks
from refdesign.training.grid import Grid, read_grid
from refdesign.training.report import markdown, plot, report
from tests.cli.command_line import interruptible
from tests.shared_data import CHECKOUT
from tests.training.grids import ONE_BLOCK, TWO_BLOCKS


def grid_of(folder: Path, text: str = TWO_BLOCKS) -> Grid:
    path = folder / "grid.toml"
    path.write_text(text)
    return read_grid(path)


def carry_out_all(grid: Grid, folder: Path, **options: Any) -> Results:
    results = Results(folder / "results.jsonl")
    run_all(tasks(grid, grid.blocks, results, folder / "runs", None), done=results.add, **options)
    return results


def test_a_run_that_stands_in_two_blocks_is_one_run(tmp_path: Path) -> None:
    grid = grid_of(tmp_path)
    assert [len(block.runs()) for block in grid.blocks] == [4, 8]
    left = tasks(grid, grid.blocks, Results(tmp_path / "none"), tmp_path, None)
    assert len(left) == 4 + 8 - 2
    assert [(c.baseline, c.variant) for c in grid.blocks[1].contrasts] == [
        ("sign, recipe.flip=False", "3d, recipe.flip=False"),
        ("sign, recipe.flip=True", "3d, recipe.flip=True"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "tiny"', "name = 3", "grid.toml, name: found 3, expected str"),
        ('name = "tiny"', 'nmae = "tiny"', "grid.toml: found the field 'nmae'"),
        ('name = "second"', 'name = "first"', "block: found ['first', 'first']"),
        ('name = "second"', "", "found no name"),
        ('kind = "primary"', 'kind = "main"', "kind: found 'main', expected one of primary"),
        ("count = 2 }\ncompare", "count = 0 }\ncompare", "seeds: found 0 from 3 on"),
        ("first = 3", "furst = 3", "seeds: found the field 'furst'"),
        ('compare = "activation"', 'compare = "width"', "compare: found 'width', expected an axis: activation"),
        ('activation = ["sign", "2d"]', 'activation = "2d"', "axes, activation: found '2d', expected a list"),
        (
            'activation = ["sign", "2d"]',
            'activashun = ["sign"]\nactivation = ["sign"]',
            "'activashun' (did you mean 'activation'?), expected",
        ),
        ("width = 0.0625", 'width = "narrow"', "width: found 'narrow', expected float"),
        ("[common]", "[execution]\nthreads = 0\n[common]", "execution: execution, threads: found 0"),
        ("[common]", "[common", "found no TOML"),
        ("limit = 128", f"limit = {'1' * 5000}", "grid.toml: found no TOML (Exceeds the limit"),
        ("limit = 128", "limit = -1", "grid.toml, block first, sign: limit: found -1"),
        ("recipe = { epochs = 1, batch_size = 32 }", "recipe = 3", "block 'first', recipe: found 3, expected a table"),
        (
            "[block.axes]",
            "[block.fields]\nrecipe = 3\n[block.axes]",
            "block 'first', recipe: found 3, expected a table",
        ),
        ("limit = 128", "seed = 5", "block 'first': found the field 'seed', expected seeds = {"),
        ("[block.axes]", "[block.axes]\nseed = [1, 2]", "block 'first': found the field 'seed', expected seeds = {"),
        ("[block.axes]", "[block.axes]\nrecipe = [{ epochs = 2 }]", "axes: found 'recipe', expected one of its fields"),
        ('["sign", "2d"]', '["sign", "2d", "2d"]', "axes: found the arm '2d' twice"),
        ('["sign", "2d"]', '["sign", "2d", "3d"]', "grid.toml: found 2 primary contrasts, expected one"),
    ],
)
def test_a_wrong_grid_is_refused_before_anything_runs(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TWO_BLOCKS
    with pytest.raises(RefdesignError) as raised:
        grid_of(tmp_path, TWO_BLOCKS.replace(old, new, 1))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("4d", "block first, 4d: activation: found '4d'"),
        ("absent.mat", "block first, absent.mat: absent.mat: cannot be read"),
        ("3x3x4_shifted_1_right_v1", "a kernel of 4 slices for layers of 6 channels"),
    ],
)
def test_an_arm_that_cannot_be_built_is_refused_before_anything_runs(
    tmp_path: Path, variant: str, message: str
) -> None:
    text = ONE_BLOCK.replace('"2d"', f'"{variant}"').replace("0.0625", "0.05")
    grid = grid_of(tmp_path, text)
    with pytest.raises(RefdesignError) as raised:
        tasks(grid, grid.blocks, Results(tmp_path / "none"), tmp_path / "runs", None)
    assert message in str(raised.value)


def test_an_unknown_block_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match="block: found 'third', expected one of first, second"):
        grid_of(tmp_path).block("third")
    with pytest.raises(RefdesignError, match=r"absent\.toml: cannot be read"):
        read_grid(tmp_path / "absent.toml")


def scores(results: Results) -> dict[str, float]:
    return {identity: row["validation_accuracy"] for identity, row in sorted(results.rows.items())}


def test_processes_and_a_cluster_give_the_same_results(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="Dask comes with the extra 'cluster'")
    text = ONE_BLOCK
    found = []
    ways: list[dict[str, Any]] = [{}, {"jobs": 2}, {"cluster": "local", "jobs": 1}]
    for number, options in enumerate(ways):
        folder = tmp_path / str(number)
        folder.mkdir()
        found.append(scores(carry_out_all(grid_of(folder, text), folder, **options)))
    assert len(found[0]) == 4
    assert found[0] == found[1] == found[2]


def killed(task: Task) -> dict[str, Any]:
    """Stands for a run that the system kills, as it does where memory ends."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {"identity": task.configuration.identity()}


def test_a_process_that_is_killed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "_interruptible", killed)
    grid = grid_of(tmp_path, ONE_BLOCK)
    left = tasks(grid, grid.blocks, Results(tmp_path / "none"), tmp_path / "runs", None)
    with pytest.raises(RefdesignError, match=r"a process was killed \(out of memory\?\); the same command goes on"):
        run_all(left, jobs=2, done=lambda row: None)


def test_an_interrupt_ends_all_processes_at_once(tmp_path: Path) -> None:
    grid, runs = tmp_path / "grid.toml", tmp_path / "runs"
    grid.write_text(ONE_BLOCK.replace("epochs = 1", "epochs = 9999"))
    command = interruptible("experiment", "run", grid, "--runs", runs, "--jobs", 2)
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for _ in range(1200):
        if len(list(runs.glob("*/config.json"))) == 2:
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, said) == (130, "0 of 4 runs are done\n")


def test_no_scheduler_is_said(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="Dask comes with the extra 'cluster'")
    grid = grid_of(tmp_path)
    left = tasks(grid, grid.blocks, Results(tmp_path / "none"), tmp_path, None)
    with pytest.raises(RefdesignError, match="found no Dask scheduler at 'nonsense'"):
        run_all(left, cluster="nonsense", done=lambda row: None)


class Stopped(Exception):
    """Stands for an interrupt."""


def stop_after(count: int, add: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    seen: list[str] = []

    def done(row: dict[str, Any]) -> None:
        add(row)
        seen.append(row["identity"])
        if len(seen) == count:
            raise Stopped

    return done


def test_an_interrupted_experiment_goes_on_and_tests_only_what_is_done(tmp_path: Path) -> None:
    grid = grid_of(tmp_path)
    results = Results(tmp_path / "results.jsonl")
    with pytest.raises(Stopped):
        run_all(tasks(grid, grid.blocks, results, tmp_path / "runs", None), done=stop_after(3, results.add))
    results = Results(tmp_path / "results.jsonl")
    assert len(results.rows) == 3
    with pytest.raises(RefdesignError, match=r"block first: 1 of 4 runs are not done \(2d, seed 4, \.\.\.\)"):
        list(look_at_test(grid.blocks[0], results, tmp_path / "runs", None))
    interim = report(grid, results.rows)[0]
    assert (interim.complete, interim.scored_on) == (False, "validation")
    assert "3 of 4 runs done: interim, nothing is concluded" in markdown(grid, [interim])
    results = carry_out_all(grid, tmp_path)
    assert len(results.rows) == 10
    assert not any("test_correct" in row for row in results.rows.values())
    images, labels = load_images("digits", "test")
    for row in look_at_test(grid.blocks[0], results, tmp_path / "runs", None):
        network = load(tmp_path / "runs" / row["identity"] / "network.safetensors")
        assert row["test_correct"] == (network.run(images)["logits"].argmax(axis=1) == labels).sum()
    made = report(grid, results.rows)
    assert [part.scored_on for part in made] == ["test", "validation"]
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert sum("test_correct" in row for row in rows) == 4


def test_a_network_that_is_gone_is_named(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, ONE_BLOCK)
    results = carry_out_all(grid, tmp_path)
    next((tmp_path / "runs").glob("*/network.safetensors")).unlink()
    with pytest.raises(RefdesignError, match=r"network\.safetensors: the network is missing"):
        list(look_at_test(grid.blocks[0], results, tmp_path / "runs", None))


def test_a_run_that_diverges_is_reported_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from refdesign.training.recipe import LOSSES

    grid = grid_of(tmp_path, ONE_BLOCK)
    losses = iter([False, False, True, False])  # 2d of the first seed is the second run, sign of the second the third

    def some_explode(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(outputs, labels)
        return loss * float("nan") if exploding else loss

    monkeypatch.setitem(LOSSES, "cross_entropy", some_explode)
    results = Results(tmp_path / "results.jsonl")
    for task in tasks(grid, grid.blocks, results, tmp_path / "runs", None):
        exploding = next(losses)
        run_all([task], done=results.add)
    assert tasks(grid, grid.blocks, results, tmp_path / "runs", None) == []
    assert len(list(look_at_test(grid.blocks[0], results, tmp_path / "runs", None))) == 4
    (part,) = report(grid, results.rows)
    assert (part.complete, part.scored_on) == (True, "test")
    assert [(len(arm.scores), arm.failed) for arm in part.arms] == [(1, 1), (2, 0)]
    assert part.compared[0].result.pairs == 1
    assert "| sign | 1/2, 1 diverged |" in markdown(grid, [part])


GOOD_LINE = '{"identity": "a", "validation_accuracy": 0.5, "validation_images": 4}'


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"no": "identity"}',
        '{"identity": "a"}',
        GOOD_LINE.replace("0.5", "1.5"),
        GOOD_LINE.replace("0.5", "NaN"),
        GOOD_LINE.replace("0.5", '"half"'),
        GOOD_LINE.replace("4", "0"),
        GOOD_LINE.replace("}", ', "test_correct": 3}'),
        GOOD_LINE.replace("}", ', "test_correct": 3, "test_images": 2}'),
    ],
)
def test_results_that_are_none_are_named_by_their_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(f"{GOOD_LINE}\n{line}\n")
    with pytest.raises(RefdesignError, match=r"r\.jsonl, line 2: found no result of a run"):
        Results(path)


def row(grid: Grid, arm: str, seed: int, correct: int) -> dict[str, Any]:
    found = {(name, number): each for name, number, each in grid.blocks[0].runs()}[arm, seed]
    return {"identity": found.identity(), "validation_accuracy": correct / 5000, "validation_images": 5000,
            "test_correct": correct, "test_images": 10000}  # fmt: skip


def test_a_report_pairs_by_seed_and_counts_images(tmp_path: Path) -> None:
    text = ONE_BLOCK.replace("count = 2", "count = 6")
    grid = grid_of(tmp_path, text)
    signs, designed = [4000, 4100, 4050, 3990, 4020, 4060], [4030, 4190, 4070, 4050, 4040, 4110]
    rows = [row(grid, "sign", 3 + i, score) for i, score in enumerate(signs)]
    rows += [row(grid, "2d", 3 + i, score) for i, score in enumerate(designed)]
    part = report(grid, {each["identity"]: each for each in rows})[0]
    assert part.complete
    assert part.scored_on == "test"
    (compared,) = part.compared
    assert list(compared.differences.values()) == pytest.approx([0.3, 0.9, 0.2, 0.6, 0.2, 0.5])
    assert compared.result.p == 2 / 64
    assert compared.result.mean == pytest.approx(np.mean([0.3, 0.9, 0.2, 0.6, 0.2, 0.5]))
    page = markdown(grid, [part])
    assert "| 2d − sign | 6 | +0.45 | +0.16 to +0.74 |" in page
    assert "| sign | 6/6 | 40.37 |" in page


def test_only_secondary_contrasts_are_corrected_together(tmp_path: Path) -> None:
    grid = grid_of(tmp_path)
    results = carry_out_all(grid, tmp_path)
    first, second = report(grid, results.rows)
    assert [each.adjusted for each in first.compared] == [None]
    raw = sorted(each.result.p for each in second.compared)
    assert min(each.adjusted or 0 for each in second.compared) == min(1.0, 2 * raw[0])


def test_contrasts_without_a_pair_yet_are_corrected_for_too(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, ONE_BLOCK.replace("primary", "secondary").replace('"2d"', '"2d", "3d"'))
    rows = [row(grid, arm, seed, 4000 + 10 * (arm == "2d")) for arm in ("sign", "2d") for seed in (3, 4)]
    (part,) = report(grid, {each["identity"]: each for each in rows})
    (compared,) = part.compared
    assert (compared.result.p, compared.adjusted) == (0.5, 1.0)


def test_points_are_of_the_images_that_were_scored(tmp_path: Path) -> None:
    text = ONE_BLOCK.replace("primary", "secondary").replace(
        "[block.axes]", '[block.axes]\ndataset = ["cifar10", "stl10"]'
    )
    grid = grid_of(tmp_path, text)
    rows: dict[str, dict[str, Any]] = {}
    for arm, _, configuration in grid.blocks[0].runs():
        images = 5000 if configuration.dataset == "cifar10" else 500
        right = images // 2 + 5 * arm.endswith("2d")
        identity = configuration.identity()
        rows[identity] = {"identity": identity, "validation_accuracy": right / images, "validation_images": images}
    (part,) = report(grid, rows)
    means = {each.contrast.variant: each.result.mean for each in part.compared}
    assert means == pytest.approx({"dataset=cifar10, 2d": 0.1, "dataset=stl10, 2d": 1.0})
    across = grid_of(tmp_path, text.replace('compare = "activation"', 'compare = "dataset"'))
    with pytest.raises(RefdesignError, match="found scores on 500 and on 5000 images"):
        report(across, rows)


def test_a_plot_is_written_or_says_why_not(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures come with the extra 'plot'")
    grid = grid_of(tmp_path, ONE_BLOCK)
    with pytest.raises(RefdesignError, match="plot: found no pair of runs"):
        plot(report(grid, {}), tmp_path / "a.png")
    rows = {each["identity"]: each for each in (row(grid, arm, 3, 4000) for arm in ("sign", "2d"))}
    with pytest.raises(RefdesignError, match=r"a\.txt: found the suffix '\.txt'"):
        plot(report(grid, rows), tmp_path / "a.txt")
    plot(report(grid, rows), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_grid_for_a_gpu_can_be_read_without_one() -> None:
    grid = read_grid(CHECKOUT / "docs" / "experiments" / "cifar10-gpu.toml")
    assert grid.execution.device == "cuda"
    assert {block.kind for block in grid.blocks} == {"secondary"}
    assert all(len(block.seeds) >= 8 for block in grid.blocks)


def test_the_projects_own_experiment_is_as_its_protocol_says() -> None:
    grid = read_grid(CHECKOUT / "docs" / "experiments" / "cifar10.toml")
    primary = [block for block in grid.blocks if block.kind == "primary"]
    assert len(primary) == 1
    assert [(c.baseline, c.variant) for c in primary[0].contrasts] == [("sign", "2d")]
    assert len(primary[0].seeds) >= 10
    assert all(len(block.seeds) >= 8 for block in grid.blocks if block.kind == "secondary")
    for block in grid.blocks:
        for _, _, configuration in block.runs():
            assert configuration.validation == 5000
    results = Results(CHECKOUT / "docs" / "experiments" / "cifar10.results.jsonl")
    known = {configuration.identity() for block in grid.blocks for *_, configuration in block.runs()}
    assert results.rows.keys() <= known
