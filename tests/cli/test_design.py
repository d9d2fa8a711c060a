from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refdesign import datasets
from refdesign.design import (
    AUTHORS_WEIGHTS,
    LEVEL_SETS,
    all_scores,
    half_wave_levels,
    image_joint_distribution,
    objective_table,
    optimum,
    random_joint_distribution,
    read_mat,
)
from tests.cli.command_line import good, refused
from tests.design.test_images import photograph_like


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs of different sizes."""
    image = pytest.importorskip("PIL.Image")
    made = tmp_path / "photos"
    made.mkdir()
    for seed in range(3):
        image.fromarray(photograph_like(seed, (1, 20 + seed, 31 - seed, 3))[0]).save(made / f"{seed}.png")
    return made


def test_known_optimum_for_random_pixels() -> None:
    out = json.loads(good("design", "random", "--weights", "ones", "--json"))
    assert out["kernel_levels"] == [[1, 3], [3, 5]]
    assert round(out["score"], 5) == 0.14181
    assert out["candidates"] == 1296
    assert out["observations"] is None
    assert out["classes"][0]["members"] == 4
    assert [entry["score"] for entry in out["classes"]] == sorted((e["score"] for e in out["classes"]), reverse=True)


def test_the_text_shows_classes_and_drawings() -> None:
    text = good("design", "random", "--shape", "2x3", "--top", "2")
    assert "proven best of 46,656 kernels" in text
    assert "no kernel of 2 rows, however long, exceeds 0.215594" in text
    assert "3 3 3 / 3 3 3" in text
    assert any(set(line.strip()) & set("░▒▓█.+#@") for line in text.splitlines())


def test_the_photograph_is_the_default() -> None:
    out = json.loads(good("design", "--json", "--top", "1"))
    joint = image_joint_distribution(datasets.photograph()[np.newaxis])
    assert out["kernel_levels"] == optimum(joint, (2, 2)).kernel_levels.tolist()
    assert out["observations"] == joint.observations


def test_a_folder_of_images(folder: Path) -> None:
    out = json.loads(good("design", folder, "--weights", "authors", "--objective", "information", "--json"))
    images = [photograph_like(seed, (1, 20 + seed, 31 - seed, 3))[0] for seed in range(3)]
    joint = image_joint_distribution(images, weights=AUTHORS_WEIGHTS)
    assert out["score"] == optimum(joint, (2, 2), objective="information").score


def test_a_data_set_and_its_first_images() -> None:
    out = json.loads(good("design", "digits:test", "--first", "20", "--weights", "random:3", "--seed", "4", "--json"))
    assert out["observations"] == 3 * 20 * 5 * 5


def test_large_convolutions() -> None:
    out = json.loads(good("design", "random", "--k", "5", "--shape", "1x2", "--json", "--top", "1"))
    assert out["levels"] == [0, *range(1, 26, 2)]
    assert out["score"] == optimum(random_joint_distribution(5), (1, 2)).score


def test_larger_shapes_show_the_optimum_and_its_ties() -> None:
    out = json.loads(good("design", "random", "--weights", "ones", "--shape", "4x4", "--json"))
    assert len(out["classes"]) == len(out["ties"]) == 2
    assert "2 classes tie" in good("design", "random", "--weights", "ones", "--shape", "4x4")


def test_kernels_are_written(tmp_path: Path) -> None:
    names = [tmp_path / f"kernel{suffix}" for suffix in (".mat", ".json", ".npz")]
    save = [part for name in names for part in ("--save", name)]
    text = good("design", "random", "--weights", "ones", "--slices", "3", "--scale", "A", *save)
    assert "re-scaled to the released set A (--scale A)" in text
    assert "0.631006 0.967138 / 0.967138 1.33519   (slice 0)" in text
    a = LEVEL_SETS["A"]
    expected = [[[a[1], a[2], a[3]], [a[2], a[3], a[4]]], [[a[2], a[3], a[4]], [a[3], a[4], a[5]]]]
    assert read_mat(names[0]).tolist() == expected
    described = json.loads(names[1].read_text())
    assert described["values"] == expected
    assert described["shape"] == [2, 2, 3]
    assert described["designed"]["kernel_levels"] == [[1, 3], [3, 5]]
    with np.load(names[2]) as archive:
        assert (archive["values"] == np.array(expected, dtype=np.float32)).all()
        assert (archive["level_set"][archive["levels"]] == expected).all()


@pytest.mark.parametrize(
    ("options", "values"),
    [
        (["--scale", "none"], [[1, 3], [3, 5]]),
        ([], half_wave_levels(6)[[[1, 2], [2, 3]]].tolist()),
        (["--scale", "none", "--complement"], [[[1, 7], [3, 5]], [[3, 5], [5, 3]]]),
    ],
)
def test_scales_and_complement(tmp_path: Path, options: list[str], values: list[list[object]]) -> None:
    good("design", "random", "--weights", "ones", *options, "--save", tmp_path / "k.mat")
    assert read_mat(tmp_path / "k.mat").squeeze().tolist() == values


def test_the_kernels_beside_the_best() -> None:
    """One threshold for all pixels, and the best 2x2, as the library scores them."""
    pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
    from refdesign.cli._design_pictures import best_2x2, no_dither

    joint, levels = random_joint_distribution(3), np.array([0.0, 1, 3, 5, 7, 9])
    table = objective_table(joint, levels)
    plain, small = no_dither(table, levels), best_2x2(table, levels)
    assert (plain.rows, round(plain.score, 5)) == ("3 everywhere", 0.21559)
    assert small is not None
    assert small.score == optimum(joint, (2, 2)).score
    assert best_2x2(np.zeros((85, 85, 85)), np.arange(85.0)) is None


@pytest.mark.parametrize("shape", ["2x2", "3x4"])
def test_plots_are_written(tmp_path: Path, shape: str) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
    image = pytest.importorskip("PIL.Image")
    good("design", "random", "--weights", "ones", "--shape", shape, "--plots", tmp_path / "plots")
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "kernel.png",
        "photograph.png",
        "scores.png",
    ]
    for path in (tmp_path / "plots").iterdir():
        with image.open(path) as opened:
            assert len(np.unique(np.asarray(opened.convert("L")))) > 2


def test_a_checkpoint_is_gone_when_the_work_is_done(tmp_path: Path) -> None:
    good("design", "--checkpoint", tmp_path / "work.npz", "--first", "1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["random", "--shape", "2"], "--shape: found '2', expected rows and columns as in 2x3"),
        (["random", "--shape", "0x2"], "shape: found (0, 2)"),
        (["random", "--levels", "1,a"], "--levels: found '1,a'"),
        (["random", "--levels", "3,1"], "levels: found 3.0 before 1.0"),
        (["random", "--levels", "1,1"], "levels: found 1.0 twice"),
        (["random", "--shape", "12x12"], "is the largest square that is sure to end"),
        (["random", "--shape", "5x5", "--weights", "ones", "--max-seconds", "5"], "would take about"),
        (["random", "--weights", "some"], "--weights: found 'some'"),
        (["random", "--weights", "authors", "--k", "5"], "--weights: found authors with --k 5"),
        (["random", "--k", "7"], "convolution, k: found 7"),
        (["random", "--save", "k.txt"], "k.txt: found the suffix '.txt'"),
        (["random", "--slices", "2", "--complement"], "--slices: found --complement too"),
        (
            ["random", "--scale", "A", "--levels", "1,3", "--save", "k.mat"],
            "--scale: found A with 6 levels, expected 2",
        ),
        (["absent"], "absent: found no folder of this name, expected one with images, or random, photograph"),
        (["--objective", "entropy"], "'entropy' is not one of"),
    ],
)
def test_unusable_input_ends_in_one_line(arguments: list[str], message: str) -> None:
    assert message in refused("design", *arguments)


def test_unusable_images_end_in_one_line(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    assert "found no images" in refused("design", tmp_path)
    (tmp_path / "a.txt").write_text("text")
    assert "found no images" in refused("design", tmp_path)
    image.fromarray(np.full((20, 31), 7, dtype=np.uint8)).save(tmp_path / "a.png")
    assert "constant images only" in refused("design", tmp_path)
    image.fromarray(photograph_like(0, (1, 3, 9))[0]).save(tmp_path / "b.png")
    assert "found 3 x 9 pixels, expected at least 4 x 4" in refused("design", tmp_path)
    (tmp_path / "0.png").write_text("no image")
    assert "0.png: found a file that cannot be read as an image" in refused("design", tmp_path)


@pytest.mark.parametrize("objective", ["total_variation", "information"])
def test_other_kernels_are_scored_beside_the_best(objective: str, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    options = ("design", "random", "--weights", "ones", "--objective", objective)
    good(*options, "--save", own)
    arguments = (*options, "--compare", "threshold_2x2_v2", "--compare", own)
    facts = json.loads(good(*arguments, "--json"))
    published_one, best = facts["compared"]
    assert published_one["kernel_levels"] == [[[1], [1]], [[3], [3]]]
    # Its place among all 1,296 scores: digits 1 1 2 2 of base 6.
    table = objective_table(random_joint_distribution(3, weights=np.ones((3, 3))), objective=objective)
    assert published_one["score"] == pytest.approx(all_scores(table, (2, 2))[1 * 216 + 1 * 36 + 2 * 6 + 2], abs=1e-10)
    assert published_one["of_best"] == published_one["score"] / facts["score"] < 1
    assert (best["kernel"], best["score"]) == (str(own), pytest.approx(facts["score"], abs=1e-10))
    assert f"threshold_2x2_v2: {published_one['score']:.6f}, {published_one['of_best']:.1%} of the best" in good(
        *arguments
    )


def test_kernels_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.mat"
    good("design", "random", "--shape", "3x2", "--save", own)
    for kernel, message in (
        ("baseline2x2", "--compare baseline2x2: found a kernel of 4 levels, expected one of 6 levels"),
        (own, f"--compare {own}: found thresholds alone, expected one of 6 levels, as .json has them"),
        ("threshold_2x2_v3", "threshold_2x2_v3: found no such file, expected a kernel file or one of"),
    ):
        assert message in refused("design", "random", "--compare", kernel)
