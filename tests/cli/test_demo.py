"""`refdesign demo`: the shipped networks, the count of differences, and the pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign import api
from refdesign.cli.demo import NETWORKS
from tests.cli.command_line import call, good

ROOT = Path(__file__).resolve().parents[2]


def equal_rows(text: str) -> int:
    """The rows of the table of agreement that end in "equal"."""
    return sum(line.rstrip().endswith(" equal") for line in text.splitlines())


PNG = b"\x89PNG\r\n\x1a\n"


def test_the_demo_shows_agreement_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib (extra 'plot')")
    text = good("demo", "--naive", 1, "--out", tmp_path / "new" / "pictures")
    for name, activation in NETWORKS:
        assert f"{name} " in text
        assert activation in text
    assert equal_rows(text) == 2 * len(NETWORKS)
    for name in ("photograph.png", "feature-maps.png"):
        assert (tmp_path / "new" / "pictures" / name).read_bytes().startswith(PNG)
        assert name in text
    # The example that it ends with runs, and says the same.
    example = next(line for line in text.splitlines() if line.startswith("$ refdesign "))
    told = good(*example.split()[2:])
    rule = next(line for line in text.splitlines() if line.startswith("  fold ")).removeprefix("  fold").split(";")[0]
    assert rule.strip() in told
    assert "the packed path gives the same" in told


def test_the_readme_shows_what_the_demo_draws(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="pictures need matplotlib (extra 'plot')")
    pillow = pytest.importorskip("PIL.Image", reason="pictures need Pillow, which matplotlib brings")
    if f"matplotlib=={matplotlib.__version__}\n" not in (ROOT / "constraints.txt").read_text():
        pytest.skip("another matplotlib draws letters otherwise")
    good("demo", "--naive", 0, "--out", tmp_path)
    shown, drawn = (
        np.asarray(pillow.open(folder / "photograph.png").convert("RGB")) for folder in (ROOT / "docs", tmp_path)
    )
    assert np.array_equal(shown, drawn)


def test_the_json_counts_every_value() -> None:
    report = json.loads(good("demo", "--naive", 2, "--no-pictures", "--json"))
    counts = {(entry["network"], entry["paths"]): entry for entry in report["agreement"]}
    for name, _ in NETWORKS:
        network = api.pretrained(name)
        outputs = network.run(np.zeros((1, *network.input_shape), np.uint8), outputs="all")
        per_image = sum(array.size for array in outputs.values())
        assert counts[name, "float"]["values"] == 360 * per_image
        assert counts[name, "naive"]["values"] == 2 * per_image
        assert counts[name, "float"]["differences"] == counts[name, "naive"]["differences"] == 0
    assert report["pictures"] == []
    for entry in report["networks"]:
        assert entry["accuracy"] == entry["correct"] / 360


@pytest.mark.parametrize(("path", "output"), [("float", "logits"), ("naive", "conv1.bits")])
def test_a_planted_difference_is_counted_and_status_1(path: str, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = api.Network.run

    def wrong(self: api.Network, images: Any, **options: Any) -> Mapping[str, Any]:
        outputs = dict(run(self, images, **options))
        if options.get("path") == path and self.name == "digits":
            planted = outputs[output].copy()
            planted.flat[3] = -planted.flat[3]
            outputs[output] = planted
        return outputs

    monkeypatch.setattr(api.Network, "run", wrong)
    result = call("demo", "--naive", 1, "--no-pictures")
    assert result.exit_code == 1
    assert f"first at {output}[0, " in result.stdout
    assert equal_rows(result.stdout) == 2 * len(NETWORKS) - 1


def test_without_matplotlib_it_says_which_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    text = good("demo", "--naive", 0, "--out", tmp_path / "pictures")
    assert 'pip install "refdesign[plot]"' in text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    result = call("demo", "--naive", 0, "--out", tmp_path / "file" / "below")
    assert result.exit_code == 2
    assert "below" in result.stderr
