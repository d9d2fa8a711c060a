"""Every benchmark, one after the other, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

MODULES = ("conv", "network", "memory", "design")


def main() -> None:
    """Run all, with the arguments given (`--json`)."""
    for module in MODULES:
        print(f"== benchmarks.{module}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()
