"""Whether the server writes down what statements say."""

from collections.abc import Iterator

from rowgate.doctor.facts import RoleSetting, Server, Setup
from rowgate.doctor.finding import Finding, Grade, Remedy, quoted

_WHY = "names, addresses and whatever else statements hold as literals lie in the server's log, for whoever reads logs"
_OFF = {
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "auto_explain.log_min_duration": "-1",
    "debug_print_parse": "off",
}


def judge(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find settings by which statements get into the log with their literals, for all or for some."""
    del setup
    for name, off in _OFF.items():
        value = server.settings.get(name, off) if "." in name else server.setting(name)
        if value != off:
            sql = (f"ALTER SYSTEM SET {name} = '{off}';", "SELECT pg_reload_conf();")
            yield Finding(Grade.WARNING, f"{name} is {value}", _WHY, Remedy("unless it is meant", sql=sql))
    for each in server.role_settings:
        if each.name in _OFF and each.value != _OFF[each.name]:
            whose = " in ".join(part for part in (each.role, each.database) if part)
            yield Finding(
                Grade.WARNING,
                f"{each.name} is {each.value} for {whose}",
                _WHY,
                Remedy("unless it is meant", sql=(_reset(each),)),
            )


def _reset(setting: RoleSetting) -> str:
    if not setting.role:
        return f"ALTER DATABASE {quoted(setting.database)} RESET {setting.name};"
    place = f" IN DATABASE {quoted(setting.database)}" if setting.database else ""
    return f"ALTER ROLE {quoted(setting.role)}{place} RESET {setting.name};"
