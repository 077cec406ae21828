"""What a new policy allows that the old one did not: a reload that loosens anything is an event of its own."""

from collections.abc import Iterator, Mapping

from rowgate.policy.coverage import covers_countries, covers_hours, covers_networks, covers_patterns, may_meet
from rowgate.policy.identity_compare import client_loosened, custody_loosened, issuers_loosened
from rowgate.policy.snapshot import (
    ClientRule,
    Entity,
    Exemption,
    Limit,
    Mode,
    Snapshot,
    StatementRule,
    Window,
)
from rowgate.policy.wording import length, words


def loosened(old: Snapshot, new: Snapshot) -> list[str]:
    """Return one sentence for everything that ``new`` allows and ``old`` did not; none when it only tightens.

    Rules are told apart by name; statement rules by what they do to each client, as only the first match counts.
    It errs towards telling: a change that might loosen something for somebody is told.
    """
    return [
        *_global(old, new),
        *issuers_loosened(old, new),
        *_clients(old, new),
        *_limits(old, new),
        *_statements(old, new),
        *_entities(old, new),
        *_exemptions(old, new),
        *custody_loosened(old, new),
    ]


def _global(old: Snapshot, new: Snapshot) -> Iterator[str]:
    if old.mode is Mode.ENFORCE and new.mode is Mode.MONITOR:
        yield "The policy's mode went from enforce to monitor."
    if old.unmatched_clients == "refuse" and new.unmatched_clients == "admit":
        yield "Clients that no rule matches are admitted instead of refused."


def _clients(old: Snapshot, new: Snapshot) -> Iterator[str]:
    before = {rule.name: rule for rule in old.clients}
    for rule in new.clients:
        if rule.name not in before:
            yield f"Client rule '{rule.name}' was added."
        else:
            yield from _widened(before[rule.name], rule)
    after = {rule.name for rule in new.clients}
    yield from _left(before, new)
    if new.unmatched_clients == "admit":
        yield from (
            f"Client rule '{name}' was removed, and clients that no rule matches are admitted."
            for name in before
            if name not in after
        )
    common = [rule.name for rule in old.clients if rule.name in after]
    if common != [rule.name for rule in new.clients if rule.name in before]:
        yield "The order of the client rules changed: a session may come under another rule."


def _left(before: Mapping[str, ClientRule], new: Snapshot) -> Iterator[str]:
    """Tell where a narrower rule leaves sessions to a later one, or to nobody's rule."""
    for index, rule in enumerate(new.clients):
        old = before.get(rule.name)
        if old is None or not any(_admits_more(rule, old)):
            continue
        heirs = [later.name for later in new.clients[index + 1 :] if _may_meet(old, later)]
        if heirs:
            yield f"Client rule '{rule.name}' matches less: what it leaves may come under '{heirs[0]}'."
        elif new.unmatched_clients == "admit":
            yield f"Client rule '{rule.name}' matches less, and clients that no rule matches are admitted."


def _may_meet(first: ClientRule, second: ClientRule) -> bool:
    return may_meet(first.users, second.users) and may_meet(first.databases, second.databases)


def _admits_more(old: ClientRule, new: ClientRule) -> Iterator[str]:
    """Give the parts in which a rule matches what the old one did not."""
    parts = (
        ("users", covers_patterns(old.users, new.users)),
        ("databases", covers_patterns(old.databases, new.databases)),
        ("networks", covers_networks(old.sources, new.sources)),
        ("countries", covers_countries(old.countries, new.countries)),
        ("certificates", covers_patterns(old.certificates, new.certificates)),
        ("hours", covers_hours(old.hours, new.hours)),
    )
    yield from (noun for noun, covered in parts if not covered)


def _widened(old: ClientRule, new: ClientRule) -> Iterator[str]:
    yield from (f"Client rule '{new.name}' admits more {noun}." for noun in _admits_more(old, new))
    if old.requires_tls and not new.requires_tls:
        yield f"Client rule '{new.name}' no longer requires TLS."
    yield from client_loosened(old, new)


def _limits(old: Snapshot, new: Snapshot) -> Iterator[str]:
    after = {limit.name: limit for limit in new.limits}
    for limit in old.limits:
        if limit.name not in after:
            yield f"Limit '{limit.name}' was removed."
        else:
            yield from _limit(limit, after[limit.name], new)


def _limit(old: Limit, new: Limit, policy: Snapshot) -> Iterator[str]:
    subject = f"Limit '{old.name}'"
    if old.enforced and not new.enforced:
        yield f"{subject} is no longer enforced."
    if set(new.scope) - set(old.scope):
        yield f"{subject} has a scope for each {words(new.scope)}, it had one for each {words(old.scope)}."
    if old.key != new.key:
        yield f"{subject} counts anew from zero, because its scope or measure changed."
    if old.measure != new.measure:
        yield f"{subject} counts {new.measure} instead of {old.measure}."
    elif (fewer := _fewer(old.clients, new.clients, policy)) is not None:
        yield f"{subject} {fewer}."
    for window in old.windows:
        yield from _window(subject, window, new.windows)


def _window(subject: str, old: Window, windows: tuple[Window, ...]) -> Iterator[str]:
    """Tell what a window lost, unless another one, as long or longer, holds as little as strictly."""
    window_name = f"window of {length(old.seconds)}"
    if not any(_as_strict(window, old) for window in windows):
        same = next((window for window in windows if window.seconds == old.seconds), None)
        if same is None:
            yield f"{subject} lost its {window_name}."
            return
        if same.limit > old.limit:
            yield f"{subject} allows {same.limit} in its {window_name}, it allowed {old.limit}."
        if same.action.strength < old.action.strength:
            yield f"{subject} answers with {same.action} instead of {old.action} in its {window_name}."
    told = min((_first_alert(window) for window in windows if window.seconds >= old.seconds), default=None)
    if told is not None and told > _first_alert(old):
        yield f"{subject} alerts at {told} instead of {_first_alert(old)} in its {window_name}."


def _as_strict(new: Window, old: Window) -> bool:
    return new.seconds >= old.seconds and new.limit <= old.limit and new.action.strength >= old.action.strength


def _first_alert(window: Window) -> int:
    return window.limit if window.alert_at is None else window.alert_at


def _fewer(old: frozenset[str] | None, new: frozenset[str] | None, policy: Snapshot) -> str | None:
    """Return what to say when a rule was for clients that it is not for any more."""
    if new is None:
        return None
    if old is None:
        return f"is for the clients {words(sorted(new))} only"
    lost = sorted(old - new)
    return f"is no longer for the clients {words(lost)}" if lost and policy.clients else None


def _statements(old: Snapshot, new: Snapshot) -> Iterator[str]:
    """Compare what statement rules do to each client rule of either policy and to unmatched clients."""
    told: dict[str, list[str]] = {}
    names = dict.fromkeys([*(rule.name for rule in old.clients), *(rule.name for rule in new.clients), None])
    for name in names:
        who = "unmatched clients" if name is None else f"'{name}'"
        for change in _rule_changes(old.statement_rule_for(name), new.statement_rule_for(name)):
            told.setdefault(change, []).append(who)
    for change, clients in told.items():
        yield f"{change} (for {words(clients)})."


def _rule_changes(old: StatementRule | None, new: StatementRule | None) -> Iterator[str]:
    if old is None:
        return
    if new is None:
        yield f"Statement rule '{old.name}' no longer applies, and none does"
        return
    subject = f"Statement rule '{new.name}'"
    instead = "" if new.name == old.name else f", where '{old.name}' did"
    if old.enforced and not new.enforced:
        yield f"{subject} is not enforced{instead or ' any more'}"
    for action in sorted(old.deny - new.deny):
        yield f"{subject} does not deny {action}{instead or ' any more'}"
    for action in sorted(new.allow - old.allow - old.deny):
        yield f"{subject} allows {action}"
    for noun, before, after in (("rows", old.max_rows, new.max_rows), ("bytes", old.max_bytes, new.max_bytes)):
        if before is not None and (after is None or after > before):
            yield f"{subject} has max_{noun} {'no more' if after is None else after} instead of {before}"


def _entities(old: Snapshot, new: Snapshot) -> Iterator[str]:
    after = {entity.name: entity for entity in new.entities}
    for entity in old.entities:
        if entity.name not in after:
            yield f"Entity '{entity.name}' was removed."
        else:
            yield from _entity(entity, after[entity.name])


def _entity(old: Entity, new: Entity) -> Iterator[str]:
    if new.database is not None and new.database != old.database:
        before = "every database" if old.database is None else f"database '{old.database}'"
        yield f"Entity '{old.name}' is in database '{new.database}' instead of {before}."
    after = {(table.schema, table.name): table for table in new.tables}
    for table in old.tables:
        name = f"{table.schema}.{table.name}"
        kept = after.get((table.schema, table.name))
        if kept is None:
            yield f"Entity '{old.name}' lost its table {name}."
        elif lost := set(table.sensitive) - set(kept.sensitive):
            yield f"Entity '{old.name}' no longer holds {words(sorted(lost))} of {name} sensitive."


def _exemptions(old: Snapshot, new: Snapshot) -> Iterator[str]:
    for exemption in new.exemptions:
        if not any(_includes(other, exemption) for other in old.exemptions):
            values = ", ".join(f"{dimension} {value}" for dimension, value in exemption.scope.items())
            yield f"Limit '{exemption.limit}' has an exemption by {exemption.factor:g} for {values}: {exemption.reason}"


def _includes(old: Exemption, new: Exemption) -> bool:
    """Return whether the old exemption already gave what the new one gives."""
    return (
        old.limit == new.limit
        and old.scope.items() <= new.scope.items()
        and old.factor >= new.factor
        and old.until >= new.until
    )
