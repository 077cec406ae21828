"""From a valid policy model to the snapshot in force."""

from types import MappingProxyType

from rowgate.policy.model import (
    DEFAULT_MAX_WAIT,
    ClientModel,
    EntityModel,
    ExemptionModel,
    LimitModel,
    PolicyModel,
    StatementModel,
    WindowModel,
)
from rowgate.policy.snapshot import (
    Action,
    ClientRule,
    Dimension,
    Entity,
    EntityTable,
    Exemption,
    Limit,
    Mode,
    Snapshot,
    StatementRule,
    Window,
)
from rowgate.policy.units import Amount, Percentage, read_duration, read_table


def compiled(model: PolicyModel, source: str) -> Snapshot:
    """Return the snapshot of a model that has passed every check; ``source`` is the name of its file."""
    return Snapshot(
        mode=model.mode,
        unmatched_clients=model.unmatched_clients,
        clients=tuple(map(_client, model.clients)),
        limits=tuple(_limit(limit, model.mode) for limit in model.limits),
        statements=tuple(_statement(rule, model.mode) for rule in model.statements),
        entities=tuple(_entity(name, model.entities[name]) for name in sorted(model.entities)),
        exemptions=tuple(map(_exemption, model.exemptions)),
        source=source,
    )


def _client(model: ClientModel) -> ClientRule:
    return ClientRule(
        model.name, model.user or (), model.database or (), model.from_ or (), requires_tls=model.tls == "require"
    )


def _limit(model: LimitModel, mode: Mode) -> Limit:
    windows = sorted((_window(name, window) for name, window in model.windows.items()), key=lambda each: each.seconds)
    return Limit(
        name=model.name,
        clients=_named(model.clients),
        scope=tuple(dimension for dimension in Dimension if dimension in model.scope),
        measure=model.measure,
        windows=tuple(windows),
        enforced=_enforced(model.mode, mode),
        hint=model.hint,
    )


def _window(name: str, model: WindowModel) -> Window:
    wait = DEFAULT_MAX_WAIT if model.max_wait is None else model.max_wait
    return Window(
        seconds=read_duration(name),
        limit=model.limit.value,
        action=model.on_exceed,
        alert_at=_alert_at(model.limit.value, model.alert_at),
        max_wait=wait if model.on_exceed is Action.THROTTLE else 0.0,
    )


def _alert_at(limit: int, alert_at: Amount | Percentage | None) -> int | None:
    """Return the units at which to alert; a percentage is rounded up, so that it is at least one."""
    if isinstance(alert_at, Percentage):
        return -(-limit * alert_at.value // 100)
    return None if alert_at is None else alert_at.value


def _statement(model: StatementModel, mode: Mode) -> StatementRule:
    return StatementRule(
        name=model.name,
        clients=_named(model.clients),
        allow=frozenset(model.allow),
        deny=frozenset(model.deny),
        max_rows=None if model.max_rows is None else model.max_rows.value,
        max_bytes=None if model.max_bytes is None else model.max_bytes.value,
        enforced=_enforced(model.mode, mode),
        hint=model.hint,
    )


def _entity(name: str, model: EntityModel) -> Entity:
    tables = sorted((read_table(table), columns) for table, columns in model.tables.items())
    return Entity(
        name=name,
        database=model.database,
        tables=tuple(
            EntityTable(schema, table, columns.key, tuple(sorted(set(columns.sensitive))))
            for (schema, table), columns in tables
        ),
    )


def _exemption(model: ExemptionModel) -> Exemption:
    values = model.scope.model_dump(exclude_none=True)
    return Exemption(
        limit=model.limit,
        scope=MappingProxyType({dimension: values[dimension] for dimension in Dimension if dimension in values}),
        factor=model.factor,
        until=model.until,
        reason=model.reason,
    )


def _named(clients: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if clients is None else frozenset(clients)


def _enforced(own: Mode | None, mode: Mode) -> bool:
    return (mode if own is None else own) is Mode.ENFORCE
