"""Running a grid: one after another, in processes, or on a Dask cluster; results gathered from run to run.

Every run has a folder of its own under one folder of runs, which is left out of the repository. What came out stands
in one file of JSON lines beside the grid. Test images are read by `look_at_test` only, once all runs of a block are
done; until then its networks lie sealed in their folders.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from refdesign.api import load
from refdesign.errors import RefdesignError, missing_extra
from refdesign.formats.atomic import write_bytes
from refdesign.training.architectures import build
from refdesign.training.configuration import Configuration
from refdesign.training.data import CLASSES, INPUT_SHAPES, load_test
from refdesign.training.determinism import Execution, deterministic
from refdesign.training.grid import Block, Grid
from refdesign.training.loop import Diverged
from refdesign.training.run import NETWORK, Result, run

_GOES_ON = "the same command goes on from each run's last epoch"


@dataclass(frozen=True)
class Task:
    """One run, wherever it is carried out."""

    configuration: Configuration
    folder: Path
    root: Path | None
    execution: Execution


class Results:
    """The file of JSON lines: one line a run, by its configuration's identity.

    Args:
        path: the file; none yet is an empty one.

    Raises:
        RefdesignError: a line that is no result of a run that ended.

    >>> Results(Path("nowhere.jsonl")).rows
    {}
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        try:
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise RefdesignError(f"{path}: cannot be read ({error})") from error
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                _check(row)
                self.rows[row["identity"]] = row
            except (ValueError, KeyError, TypeError) as error:
                raise RefdesignError(f"{path}, line {number}: found no result of a run ({error})") from error

    def add(self, row: dict[str, Any]) -> None:
        """Add a run's line, or replace what it says; the file is replaced at once or not at all."""
        known = self.rows.get(row["identity"], {})
        self.rows = Results(self.path).rows | {row["identity"]: known | row}
        text = "".join(f"{json.dumps(each, sort_keys=True)}\n" for each in self.rows.values())
        write_bytes(self.path, text.encode())


def _check(row: Mapping[str, Any]) -> None:
    """Refuse a row without what a report reads: a failure, or how many images of how many were right."""
    if "failed" in row:
        return
    if not (row["validation_images"] > 0 and 0 <= row["validation_accuracy"] <= 1):
        raise ValueError("its validation images or accuracy are out of range")
    if "test_correct" in row and not (row["test_images"] > 0 and 0 <= row["test_correct"] <= row["test_images"]):
        raise ValueError("its test images are out of range")


def tasks(grid: Grid, blocks: Sequence[Block], results: Results, runs: Path, root: Path | None) -> list[Task]:
    """What is left to run, each run once, in the order of the blocks and seeds.

    Raises:
        RefdesignError: an arm whose network cannot be built (an unknown activation, a kernel file that is missing or
            does not fit the channels), before the first run starts.
    """
    left: dict[str, Task] = {}
    for block in blocks:
        buildable = set()
        for arm, _, configuration in block.runs():
            identity = configuration.identity()
            if identity in results.rows:
                continue
            if arm not in buildable:
                _check_buildable(configuration, f"block {block.name}, {arm}")
                buildable.add(arm)
            left[identity] = Task(configuration, runs / identity, root, grid.execution)
    return list(left.values())


def _check_buildable(configuration: Configuration, where: str) -> None:
    try:
        with deterministic(configuration.seed):
            build(configuration, INPUT_SHAPES[configuration.dataset], CLASSES[configuration.dataset])
    except RefdesignError as error:
        raise RefdesignError(f"{where}: {error}") from error


def carry_out(task: Task) -> dict[str, Any]:
    """Run one task; its line for the results. A run that diverges is a result too: the same seed would again."""
    identity = {"identity": task.configuration.identity(), "configuration": task.configuration.plain()}
    try:
        result: Result = run(task.configuration, task.folder, root=task.root, execution=task.execution)
    except Diverged as error:
        return {**identity, "failed": str(error)}
    return {**identity, **asdict(result)}


def run_all(
    left: Sequence[Task],
    *,
    jobs: int = 1,
    cluster: str | None = None,
    done: Callable[[dict[str, Any]], None],
) -> None:
    """Carry out tasks, one after another, in processes, or on a Dask cluster.

    Args:
        left: from `tasks`.
        jobs: processes side by side; 1 stays in this one.
        cluster: the address of a Dask scheduler, or `"local"` for one of its own; the folders must be reachable
            under the same paths on all workers.
        done: called with every line as it comes, in the order of completion.

    Raises:
        RefdesignError: from the runs, or a process or worker that was killed; what is done stays done.
        MissingExtra: Dask is not installed (extra `cluster`).
    """
    outcomes: Iterator[dict[str, Any]]
    if cluster is not None:
        outcomes = _on_cluster(left, cluster, jobs)
    elif jobs > 1:
        outcomes = _in_processes(left, jobs)
    else:
        outcomes = map(carry_out, left)
    for row in outcomes:
        done(row)


def _in_processes(left: Sequence[Task], jobs: int) -> Iterator[dict[str, Any]]:
    # Started afresh, not forked: a fork of a process with threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        waiting = iter(left)
        try:
            # No more than there are processes: what a pool has queued still runs after an interrupt.
            running = {pool.submit(_interruptible, task) for task in islice(waiting, jobs)}
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(_interruptible, task) for task in islice(waiting, len(finished))}
                for future in finished:
                    yield future.result()
        except BrokenProcessPool as error:
            raise RefdesignError(f"experiment: a process was killed (out of memory?); {_GOES_ON}") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _interruptible(task: Task) -> dict[str, Any]:
    """A task in a process of a pool, which hears Ctrl-C only meanwhile: one that waits would print a traceback."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return carry_out(task)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _on_cluster(left: Sequence[Task], address: str, jobs: int) -> Iterator[dict[str, Any]]:
    try:
        import distributed as untyped
    except ImportError as error:
        raise missing_extra("cluster", "distributed") from error
    distributed: Any = untyped
    where: dict[str, Any] = {"address": address}
    if address == "local":
        where = {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": None}
    try:
        client = distributed.Client(**where)
    except (OSError, ValueError, TimeoutError) as error:
        raise RefdesignError(f"cluster: found no Dask scheduler at {address!r} ({error})") from error
    with client:
        # Not pure: the same call twice is a run resumed, not a result to be remembered.
        try:
            for future in distributed.as_completed(client.map(carry_out, left, pure=False)):
                yield future.result()
        except (distributed.KilledWorker, CancelledError) as error:
            raise RefdesignError(f"cluster: a worker or the scheduler is gone; {_GOES_ON}") from error


def look_at_test(block: Block, results: Results, runs: Path, root: Path | None) -> Iterator[dict[str, Any]]:
    """Measure a block's networks on the test images, once all of its runs are done.

    Yields:
        Each run's line with `test_correct`, `test_images` and `test_accuracy`, also kept in the results; a run that
        diverged has none.

    Raises:
        RefdesignError: a run that is not done yet, or a network that is missing.
    """
    wanted = block.runs()
    missing = [f"{arm}, seed {seed}" for arm, seed, each in wanted if each.identity() not in results.rows]
    if missing:
        raise RefdesignError(
            f"block {block.name}: {len(missing)} of {len(wanted)} runs are not done ({missing[0]}, ...); test images "
            "are looked at when all are"
        )
    for _, _, configuration in wanted:
        row = results.rows[configuration.identity()]
        if "test_correct" not in row and "failed" not in row:
            path = runs / configuration.identity() / NETWORK
            if not path.exists():
                raise RefdesignError(f"{path}: the network is missing, expected it beside its finished run")
            data = load_test(configuration.dataset, root)
            predictions = np.argmax(load(path).run(data.images)["logits"], axis=1)
            right = int(np.count_nonzero(predictions == data.labels))
            row = {
                **row, "test_correct": right, "test_images": len(data.labels),
                "test_accuracy": right / len(data.labels),
            }  # fmt: skip
            results.add(row)
        yield row
