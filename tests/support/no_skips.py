"""A pytest plugin: where ``CI`` is set, a skipped test has failed, for what was not run proves nothing."""

import os
from collections.abc import Generator

import pytest

WHY = "skipped, and CI skips nothing: install what it needs in the Makefile or in .ci/run"


def pytest_configure(config: pytest.Config) -> None:
    """Take effect in CI only: elsewhere a developer may lack root's rights or a second PostgreSQL."""
    if os.environ.get("CI"):
        config.pluginmanager.register(_NoSkips(), "no-skips")


class _NoSkips:
    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.skipped and not hasattr(report, "wasxfail"):
            report.outcome, report.longrepr = "failed", _explained(report)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if report.skipped:
            report.outcome, report.longrepr = "failed", _explained(report)
        return report


def _explained(report: pytest.TestReport | pytest.CollectReport) -> str:
    skipped = report.longrepr
    where = f"{skipped[0]}:{skipped[1]}: {skipped[2]}" if isinstance(skipped, tuple) else str(skipped)
    return f"{where}\n{WHY}"
