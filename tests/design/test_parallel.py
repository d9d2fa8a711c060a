from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from refdesign.design import (
    AUTHORS_WEIGHTS,
    Optimum,
    image_joint_distribution,
    optimum,
    parallel,
    random_joint_distribution,
)
from refdesign.design import images as images_module
from refdesign.design import optimal as optimal_module
from refdesign.design.parallel import Checkpoint
from refdesign.errors import MissingExtra, RefdesignError
from tests.design.test_images import photograph_like
from tests.shared_data import CHECKOUT


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pieces of work also for small inputs."""
    monkeypatch.setattr(images_module, "PIXELS_A_PIECE", 11 * 7 * 2)
    monkeypatch.setattr(optimal_module, "ROWS_A_PIECE", 5)


IMAGES = photograph_like(2, (9, 11, 7))
JOINT = random_joint_distribution(3, weights=np.ones((3, 3)))


def same_optimum(one: Optimum, other: Optimum) -> bool:
    return (
        one.score == other.score
        and one.bound == other.bound
        and (one.kernel_levels == other.kernel_levels).all()
        and [entry.kernel_levels.tolist() for entry in one.classes]
        == [entry.kernel_levels.tolist() for entry in other.classes]
    )


@pytest.fixture(scope="module")
def dask_cluster() -> Iterator[None]:
    """A real local cluster of two processes, which joblib is told to use."""
    pytest.importorskip("joblib", reason="needs the extra 'cluster'")
    distributed = pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    import joblib

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit="1GiB"
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        yield


@pytest.mark.usefixtures("dask_cluster", "small_pieces")
@pytest.mark.filterwarnings("ignore:Sending large graph")
def test_a_dask_cluster_gives_the_same_bits() -> None:
    alone = image_joint_distribution(IMAGES, weights=AUTHORS_WEIGHTS)
    spread = image_joint_distribution(IMAGES, weights=AUTHORS_WEIGHTS, jobs=None)
    assert (alone.probability == spread.probability).all()
    five = images_module.random_weights(5, 3, seed=0)
    alone = image_joint_distribution(IMAGES, k=5, weights=five)
    assert (image_joint_distribution(IMAGES, k=5, weights=five, jobs=None).probability == alone.probability).all()
    assert same_optimum(optimum(JOINT, (5, 3)), optimum(JOINT, (5, 3), jobs=None))


@pytest.mark.usefixtures("small_pieces")
def test_processes_give_the_same_bits() -> None:
    pytest.importorskip("joblib", reason="needs the extra 'cluster'")
    alone = image_joint_distribution(IMAGES)
    assert (image_joint_distribution(IMAGES, jobs=2).probability == alone.probability).all()
    assert same_optimum(optimum(JOINT, (4, 3)), optimum(JOINT, (4, 3), jobs=2))


class Interrupt(KeyboardInterrupt):
    """What Ctrl-C raises, told apart from a real one."""


def interrupt_after(pieces: int) -> parallel.Progress:
    calls = iter(range(pieces))

    def progress(done: int, total: int) -> None:
        if next(calls, None) is None:
            raise Interrupt

    return progress


@pytest.mark.usefixtures("small_pieces")
def test_interrupted_statistics_are_taken_up_again(tmp_path: Path) -> None:
    path = tmp_path / "counts.npz"
    with pytest.raises(Interrupt):
        image_joint_distribution(IMAGES, checkpoint=path, progress=interrupt_after(2))
    assert path.exists()
    calls: list[tuple[int, int]] = []
    resumed = image_joint_distribution(IMAGES, checkpoint=path, progress=lambda *call: calls.append(call))
    assert calls == [(4, 5), (5, 5)]
    assert (resumed.probability == image_joint_distribution(IMAGES).probability).all()
    assert not path.exists()


@pytest.mark.usefixtures("small_pieces")
def test_an_interrupted_search_is_taken_up_again(tmp_path: Path) -> None:
    path = tmp_path / "search.npz"
    whole: list[int] = []
    alone = optimum(JOINT, (5, 3), progress=lambda done, total: whole.append(done))
    with pytest.raises(Interrupt):
        optimum(JOINT, (5, 3), checkpoint=path, progress=interrupt_after(3))
    calls: list[int] = []
    resumed = optimum(JOINT, (5, 3), checkpoint=path, progress=lambda done, total: calls.append(done))
    assert same_optimum(resumed, alone)
    assert calls == whole[4:]
    assert not path.exists()


def test_checkpoints_of_other_work_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "search.npz"
    Checkpoint(path, "other work").save({"values": np.zeros(3)}, force=True)
    before = path.read_bytes()
    with pytest.raises(RefdesignError, match=r"search\.npz: found a checkpoint of other work"):
        optimum(JOINT, (2, 2), checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"text"])
def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "search.npz"
    path.write_bytes(content)
    with pytest.raises(RefdesignError, match=r"search\.npz: found a file that is no checkpoint"):
        image_joint_distribution(IMAGES, checkpoint=path)


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "search.npz"
    np.savez(path, work=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(RefdesignError, match="no checkpoint"):
        optimum(JOINT, (2, 2), checkpoint=path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match="the checkpoint cannot be written"):
        Checkpoint(tmp_path / "absent" / "file.npz", "work").save({}, force=True)


@pytest.mark.parametrize("jobs", [0, 1.5, True])
def test_unusable_jobs_are_refused(jobs: object) -> None:
    with pytest.raises(RefdesignError, match="jobs: found"):
        optimum(JOINT, (2, 2), jobs=jobs)  # type: ignore[arg-type]


def test_without_joblib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(MissingExtra, match=r"refdesign\[cluster\]"):
        image_joint_distribution(IMAGES, jobs=2)
    assert image_joint_distribution(IMAGES, jobs=1).observations


def test_the_library_imports_no_extra() -> None:
    program = (
        "import sys, refdesign.design; "
        "print(sorted({'matplotlib', 'joblib', 'dask', 'PIL', 'click', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
