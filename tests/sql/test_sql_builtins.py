"""The committed list of built-ins says what real servers say."""

import pytest

from rowgate.sql.builtins import IMPURE_BUILTINS, PURE_BUILTINS, READS_NO_TABLE, SETS
from sql import write_pure_builtins as script


@pytest.mark.skipif(not script.DEBIAN.is_dir(), reason="the list is made from PostgreSQL 15 as well")
def test_the_list_is_current() -> None:
    assert script.TARGET.read_text(encoding="utf-8") == script.current_text()


async def test_the_list_agrees_with_the_newest_server() -> None:
    with script.newest_server() as dsn:
        builtins = await script.read_builtins(dsn)
    assert builtins.keys() <= PURE_BUILTINS | IMPURE_BUILTINS
    assert all(script.is_pure(name, builtins[name]) for name in PURE_BUILTINS if name in builtins)
    assert {name for name in builtins if builtins[name].returns_set} <= SETS


@pytest.mark.parametrize(
    "name",
    [
        *("nextval", "setval", "set_config", "pg_sleep", "pg_notify", "lo_import", "lo_get", "lo_put", "loread"),
        *("pg_read_file", "pg_ls_dir", "query_to_xml", "table_to_xml", "cursor_to_xml", "schema_to_xml", "ts_stat"),
        *(
            "database_to_xml",
            "ts_rewrite",
            "pg_advisory_lock",
            "pg_export_snapshot",
            "txid_current",
            "pg_cancel_backend",
        ),
        *("pg_terminate_backend", "pg_reload_conf", "pg_stat_reset", "domain_in", "pg_input_is_valid", "pg_switch_wal"),
        *("jsonb_populate_record", "json_to_recordset", "pg_logical_slot_get_changes", "pg_create_restore_point"),
    ],
)
def test_dangerous_functions_are_not_pure(name: str) -> None:
    assert name in IMPURE_BUILTINS
    assert name not in PURE_BUILTINS
    assert name not in READS_NO_TABLE


@pytest.mark.parametrize(
    "name",
    [
        *("lower", "upper", "now", "count", "sum", "avg", "max", "row_number", "rank", "lag", "json_agg", "array_agg"),
        *("random", "gen_random_uuid", "clock_timestamp", "to_char", "date_trunc", "substring", "lpad", "age", "log"),
        *("generate_series", "unnest", "regexp_replace", "jsonb_build_object", "current_setting", "pg_is_in_recovery"),
    ],
)
def test_what_everybody_uses_is_pure(name: str) -> None:
    assert name in PURE_BUILTINS
