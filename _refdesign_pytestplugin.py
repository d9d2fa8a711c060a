"""The pytest plugin of refdesign's conformance suite.

It lies outside the package because pytest loads it in every run of an environment that has refdesign installed: it
imports nothing but pytest until `--refdesign-implementation` is given.

    pytest --pyargs refdesign.verify.conformance.suite --refdesign-implementation package.module:name
"""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from refdesign.verify.conformance.session import Session

_SESSION = pytest.StashKey["Session"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the suite's options."""
    group = parser.getgroup("refdesign", "conformance with refdesign's reference of binary networks")
    group.addoption(
        "--refdesign-implementation", metavar="MODULE:NAME",
        help="The implementation under test: a factory of callables, or a callable of (network, images).",
    )  # fmt: skip
    group.addoption("--refdesign-capabilities", metavar="FILE", type=Path, help="What it lacks (TOML).")
    group.addoption("--refdesign-examples", metavar="N", type=int, help="Examples of a case (default: 25).")
    group.addoption("--refdesign-seed", metavar="N", type=int, default=0, help="Which examples (default: 0).")
    group.addoption("--refdesign-failures", metavar="DIR", type=Path, help="Where failing examples are written.")
    group.addoption("--refdesign-time-limit", metavar="SECONDS", type=float, help="For an example.")
    group.addoption("--refdesign-report", metavar="FILE", type=Path, help="Write the results as JSON.")


def pytest_configure(config: pytest.Config) -> None:
    """Watch the results, where there is an implementation to watch."""
    if config.getoption("refdesign_implementation") is not None:
        config.pluginmanager.register(_Results(config), "refdesign-results")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Load the implementation; what cannot be loaded is a usage error, said once."""
    config = session.config
    target = config.getoption("refdesign_implementation")
    if target is None:
        return
    from refdesign.errors import RefdesignError
    from refdesign.frameworks.adapters import adapt
    from refdesign.verify.conformance.session import Session

    examples = config.getoption("refdesign_examples")
    if examples is not None and examples < 1:
        raise pytest.UsageError(f"--refdesign-examples: found {examples}, expected at least 1")
    try:
        config.stash[_SESSION] = Session.of(
            target,
            capabilities=config.getoption("refdesign_capabilities"),
            examples=examples,
            seed=config.getoption("refdesign_seed"),
            failures=config.getoption("refdesign_failures"),
            time_limit=config.getoption("refdesign_time_limit"),
            adapt=adapt,
        )
    except RefdesignError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def refdesign_conformance(pytestconfig: pytest.Config) -> Session:
    """The run of the suite: the implementation under test, and what it lacks."""
    if _SESSION not in pytestconfig.stash:
        pytest.fail("found no --refdesign-implementation, expected the implementation under test", pytrace=False)
    return pytestconfig.stash[_SESSION]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A case that fails is reported in its own words, without a traceback of the suite."""
    report = yield
    if call.excinfo is not None and call.excinfo.typename == "NotConforming":
        report.longrepr = str(call.excinfo.value)
    return report


class _Results:
    """Collects what became of the cases, also from the workers of pytest-xdist."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.results: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.results += [value for name, value in report.user_properties if name == "refdesign"]  # type: ignore[misc]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(self.config, "workerinput"):  # a worker of pytest-xdist; its parent knows all results
            return
        executed = [result for result in self.results if result["status"] != "skipped"]
        if not executed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        path = self.config.getoption("refdesign_report")
        if path is not None:
            report = {"implementation": self.config.getoption("refdesign_implementation"), "cases": self.results}
            path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        say = terminalreporter.write_line
        by_status: dict[str, list[dict[str, Any]]] = {"passed": [], "failed": [], "skipped": []}
        for result in self.results:
            by_status[result["status"]].append(result)
        terminalreporter.section("conformance with refdesign")
        for result in by_status["skipped"]:
            say(f"not run: {result['case']}: {result['skipped']}")
        for result in by_status["failed"]:
            say(f"wrong: {result['case']}: {result['fault']}")
        executed = by_status["passed"] + by_status["failed"]
        if not executed:
            say("no case was executed, so nothing is known: this is a failure", red=True)
            return
        outputs = sorted({output for result in executed for output in result["outputs"]})
        say(
            f"{len(by_status['passed'])} of {len(executed)} executed cases agree in every bit "
            f"({sum(result['examples'] for result in executed):,} networks, "
            f"{sum(result['values'] for result in executed):,} values compared, in {', '.join(outputs)}); "
            f"{len(by_status['skipped'])} not run"
        )
