"""Build `conv1.sv` and run its bench, in the current folder, which holds `vectors`:

    refdesign vectors digits vectors
    python run.py [--sim icarus|verilator] [--fault 0|1|2]

Ends with status 1 if the bench fails, with the scoreboard's report on the terminal.
"""

import argparse
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Parse, build, run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sim", choices=("icarus", "verilator"), default="icarus")
    parser.add_argument("--fault", type=int, choices=(0, 1, 2), default=0)
    arguments = parser.parse_args()
    runner = get_runner(arguments.sim)
    build = Path(f"build_{arguments.sim}_{arguments.fault}").resolve()
    runner.build(
        sources=[HERE / "conv1.sv"], hdl_toplevel="conv1", build_dir=build, parameters={"FAULT": arguments.fault},
        build_args=["-Wno-fatal"] if arguments.sim == "verilator" else [],
    )  # fmt: skip
    results = runner.test(
        hdl_toplevel="conv1", test_module="bench", build_dir=build, test_dir=Path.cwd(),
        results_xml=str(build / "results.xml"), extra_env={"PYTHONPATH": str(HERE)},
    )  # fmt: skip
    _, failed = get_results(results)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
