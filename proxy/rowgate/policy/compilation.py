"""From a valid policy model to the snapshot in force."""

from pathlib import PurePath
from types import MappingProxyType

from rowgate.policy.fields import DEFAULT_MAX_WAIT
from rowgate.policy.hours import joined
from rowgate.policy.identity_units import is_url
from rowgate.policy.model import (
    ClientModel,
    CustodyModel,
    EntityModel,
    ExemptionModel,
    IntrospectionModel,
    IssuerModel,
    LimitModel,
    PolicyModel,
    StatementModel,
    UnreachableModel,
    WindowModel,
)
from rowgate.policy.snapshot import (
    Action,
    ClientRule,
    Custody,
    Dimension,
    Entity,
    EntityTable,
    Exemption,
    Introspection,
    Issuer,
    Limit,
    Mode,
    NamedFile,
    Snapshot,
    StatementRule,
    Window,
)
from rowgate.policy.units import Amount, Percentage, read_duration, read_table
from rowgate.subject import IdentityKind


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
        issuers=tuple(_issuer(issuer, PurePath(source).parent) for issuer in model.issuers),
        custody=tuple(map(_custody, model.custody)),
        source=source,
    )


def _client(model: ClientModel) -> ClientRule:
    return ClientRule(
        name=model.name,
        users=model.user or (),
        databases=model.database or (),
        sources=model.from_ or (),
        countries=tuple(sorted(model.country or ())),
        certificates=model.certificate or (),
        hours=joined(model.hours),
        requires_tls=model.tls == "require",
        requires_end_user=model.end_user == "token",
        per_transaction=model.per == "transaction",
        issuers=_named(model.issuers),
        max_session=model.max_session,
        auth=model.auth,
    )


def _issuer(model: IssuerModel, directory: PurePath) -> Issuer:
    issued = model.issued
    unreachable = model.unreachable
    return Issuer(
        name=model.name,
        issuer=model.issuer,
        audiences=tuple(sorted(set(model.audience))),
        keys=model.keys if is_url(model.keys) else _file(model.keys, directory),
        algorithms=tuple(sorted(set(model.algorithms))),
        end_user=model.end_user,
        max_age=model.max_age,
        skew=model.skew,
        max_key_age=model.max_key_age,
        revoked_keys=frozenset(model.revoked_keys),
        introspection=_introspection(issued, directory) if isinstance(issued, IntrospectionModel) else None,
        recorded=issued == "record",
        directory=model.end_users == "directory",
        grace=unreachable.grace if isinstance(unreachable, UnreachableModel) else 0.0,
    )


def _introspection(model: IntrospectionModel, directory: PurePath) -> Introspection:
    return Introspection(model.introspection, model.client, _file(model.secret_file, directory), model.remember)


def _file(written: str, directory: PurePath) -> NamedFile:
    return NamedFile(str(directory / written), written)


def _custody(model: CustodyModel) -> Custody:
    """Return the custody of the one credential that the model names."""
    kind, name = next(
        (kind, name)
        for kind, name in (
            (IdentityKind.USER, model.user),
            (IdentityKind.SIGNING_KEY, model.signing_key),
            (IdentityKind.CERTIFICATE, model.certificate),
            (None, model.secret),
        )
        if name is not None
    )
    return Custody(
        kind=kind,
        name=name,
        owner=model.owner,
        custodians=frozenset(model.custodians),
        rotate_within=model.rotate_within,
        rotated=model.rotated,
        max_age=model.max_age,
        dormant_after=model.dormant_after,
        overdue=model.overdue,
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
