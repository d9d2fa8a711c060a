"""Figures that take long to make: kept as data by the command that makes them; the pages are written from the data.

    python -m docs.generator.measured            # write every block of every page anew
    python -m docs.generator.measured conv rtl   # run these commands first, and keep what they print

What a command printed lies in `docs/measured/NAME.json`, with the command, the commit and the machine. In the README
and in the pages a block that is written from it stands between `<!-- measured: BLOCK -->` and `<!-- end -->`, a table
or a few words; what each block says is in `docs.generator.blocks`. The build writes the blocks as well, and a test
compares them with what stands in the pages.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from refdesign.formats.atomic import write_bytes

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "measured"
_BLOCK = re.compile(r"<!-- measured: (\S+) -->(\n?).*?<!-- end -->", re.DOTALL)
_NUMBERS = re.compile(r"\[[^\[\]{}\"]*\]")


def _everything(printed: Any) -> Any:
    return printed


@dataclass(frozen=True)
class Source:
    """Where a data file comes from.

    Attributes:
        command: for bash, from the repository's root; it prints JSON. Variables say where a user's folders are.
        part: picks what is kept of that.
    """

    command: str
    part: Callable[[Any], Any] = _everything


def _exact(model: str) -> Source:
    train = f"refdesign train $RUNS/{model} --dataset cifar10 --root $CIFAR --limit 2000 --epochs 1 --batch-size 50"
    options = {
        "binarynet": "--width 0.125 --activation 2d",
        "vgg_small": "--width 0.0625 --activation 3d --optimiser sgd --learning-rate 0.1",
        "resnet20": "--width 0.25 --activation 2d --optimiser sgd --learning-rate 0.1",
    }
    golden = f"$RUNS/{model}/network.safetensors"
    return Source(
        f"{train} --flip --model {model} {options[model]} >&2 && "
        f"refdesign evaluate {golden} cifar10 --root $CIFAR --module $RUNS/{model} --json",
        lambda printed: {name: printed["module"][name] for name in ("images", "compared", "differing", "predictions")},
    )


def _activations(identity: str) -> Source:
    return Source(f"refdesign activations $RUNS/{identity}/network.safetensors cifar10:train --root $CIFAR --json")


_DIGITS = "{Sign=$RUNS/sign,2D=$RUNS/2d,3D=$RUNS/3d}/seed-{0,1,2,3,4}/network.safetensors"
SOURCES = {
    **{
        name: Source(f"python -m benchmarks.{name} --json")
        for name in ("conv", "network", "engines", "design", "memory", "rtl", "simulator", "rounding")
    },
    "kernels": Source("python -m docs.design_study --cifar $CIFAR --released $RELEASED"),
    "synthesis": Source("python -m simulator.rtl.synthesis --json"),
    "accelerator-sign": Source("refdesign explore digits-sign --rate 1000 --synthesize --json"),
    "accelerator-3d": Source("refdesign explore digits --rate 1000 --synthesize --json"),
    "faults": Source(
        f"refdesign faults {_DIGITS} --first 120 --trials 40 --save $RUNS/trials.jsonl --json",
        lambda printed: printed["summary"],
    ),
    "experiment": Source(
        "refdesign experiment report docs/experiments/cifar10.toml --markdown docs/experiments/cifar10.md --json"
    ),
    "shipped": Source(
        "refdesign evaluate cifar10 cifar10 --root $CIFAR --module $RUNS/cifar10 --json",
        lambda printed: {
            **{name: printed[name] for name in ("data", "images", "correct", "accuracy")},
            **{name: printed["module"][name] for name in ("compared", "differing", "predictions")},
        },
    ),
    "fuzz": Source("python -m refdesign.verify.fuzz --seed 12 --count 1000000 --jobs 2 --log $RUNS/fuzz.jsonl --json"),
    "activations-sign": _activations("fbf4b69fa913c750"),
    "activations-2d": _activations("ec9255af0a0ceefd"),
    **{f"exact-{model}": _exact(model) for model in ("binarynet", "vgg_small", "resnet20")},
}
"""Every data file, by name."""


@cache
def kept(name: str) -> Any:
    """What a data file holds: `command`, `commit`, `machine`, `result`.

    >>> kept("synthesis")["command"]
    'python -m simulator.rtl.synthesis --json'
    """
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def result(name: str) -> Any:
    """What the command of a data file printed."""
    return kept(name)["result"]


def record(name: str) -> None:
    """Run a command and keep what it prints."""
    source = SOURCES[name]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        ["bash", "-euc", source.command], cwd=ROOT, env=os.environ | {"PATH": path}, stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name}: {source.command}: exit status {done.returncode}")
    printed = json.loads(done.stdout)
    machine = printed.pop("machine", None) if isinstance(printed, dict) else None
    keep(name, source.part(printed), machine)


def keep(name: str, found: Any, machine: Mapping[str, Any] | None) -> None:
    """Write a data file."""
    from benchmarks._measure import machine as this_machine

    head = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, cwd=ROOT, capture_output=True, text=True, check=True)
    content = {
        "command": SOURCES[name].command,
        "commit": commit.stdout.strip(),
        "machine": machine or this_machine(),
        "result": found,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    text = _NUMBERS.sub(lambda numbers: re.sub(r"\s*\n\s*", " ", numbers[0]), text)  # a list of numbers on one line
    FOLDER.mkdir(exist_ok=True)
    write_bytes(FOLDER / f"{name}.json", (text + "\n").encode())
    kept.cache_clear()


def pages() -> list[Path]:
    """The README and the written pages."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def written(text: str) -> str:
    """A page with its blocks as the data say.

    Raises:
        ValueError: a block that nobody writes.

    >>> written("no block")
    'no block'
    """
    from docs.generator.blocks import BLOCKS

    def block(found: re.Match[str]) -> str:
        name, newline = found.groups()
        if name not in BLOCKS:
            raise ValueError(f"block: found {name!r}, expected one of {', '.join(BLOCKS)}")
        return f"<!-- measured: {name} -->{newline}{BLOCKS[name]().strip()}{newline}<!-- end -->"

    return _BLOCK.sub(block, text)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*SOURCES, []], help="commands to run first")
    for name in parser.parse_args().names:
        record(name)
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := written(text)) != text:
            page.write_text(new, encoding="utf-8")
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
