"""Checks between the parts of a policy: names, rules that can never match, windows that contradict each other.

Those of identity are in ``identity_checks``.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Final

from rowgate.policy.coverage import covers_countries, covers_hours, covers_networks, covers_patterns
from rowgate.policy.fields import MAX_THROTTLE_WINDOW
from rowgate.policy.hours import joined
from rowgate.policy.identity_checks import IDENTITY_CHECKS
from rowgate.policy.model import (
    ClientModel,
    LimitModel,
    StatementModel,
    WindowModel,
)
from rowgate.policy.problem import Fault, Path, listed, shown
from rowgate.policy.references import repeated, unknown
from rowgate.policy.snapshot import Action, Quantity
from rowgate.policy.units import Amount, read_duration, read_table
from rowgate.policy.validation import Draft, Part


def check(draft: Draft) -> Iterator[Fault]:
    """Give every mistake that shows only when parts of the policy are held against each other."""
    for one in (*_CHECKS, *IDENTITY_CHECKS):
        yield from one(draft)


def _duplicate_names(draft: Draft) -> Iterator[Fault]:
    for section in ("clients", "limits", "statements", "issuers"):
        first: dict[str, Path] = {}
        for path, name in draft.names[section]:
            if name in first:
                yield Fault(path, f"the name {shown(name)} again", f"names of their own in `{section}`")
            first.setdefault(name, path)


def _nobody(draft: Draft) -> Iterator[Fault]:
    if draft.unmatched_clients == "refuse" and not draft.clients and not draft.names["clients"]:
        yield Fault(
            ("unmatched_clients",),
            "refuse without a client rule",
            "client rules, or unmatched_clients: admit",
            "nobody could connect",
        )


def _references(draft: Draft) -> Iterator[Fault]:
    wanted = [((*limit.path, "clients"), limit.model.clients) for limit in draft.limits]
    wanted += [((*rule.path, "clients"), rule.model.clients) for rule in draft.statements]
    for path, names in wanted:
        for index, name in enumerate(names or ()):
            yield from unknown(draft, (*path, index), name, "clients", "client rule")
        yield from repeated(path, names or ())
    for limit in draft.limits:
        if limit.model.measure.entity is not None:
            yield from unknown(draft, (*limit.path, "measure"), limit.model.measure.entity, "entities", "entity")
    for exemption in draft.exemptions:
        if "limit" not in exemption.healed:
            yield from unknown(draft, (*exemption.path, "limit"), exemption.model.limit, "limits", "limit")


def _shadowed_clients(draft: Draft) -> Iterator[Fault]:
    whole = [part for part in draft.clients if not part.healed]
    for index, part in enumerate(whole):
        earlier = next((other for other in whole[:index] if _broader(other.model, part.model)), None)
        if earlier is not None:
            yield Fault(
                part.path,
                f"the client rule {shown(part.model.name)}, which can never match",
                f"a rule that {shown(earlier.model.name)} before it leaves something for",
                "the first match counts: move the narrower rule up, or remove it",
            )


def _broader(first: ClientModel, second: ClientModel) -> bool:
    return (
        covers_patterns(first.user or (), second.user or ())
        and covers_patterns(first.database or (), second.database or ())
        and covers_networks(first.from_ or (), second.from_ or ())
        and covers_countries(first.country or (), second.country or ())
        and covers_patterns(first.certificate or (), second.certificate or ())
        and covers_hours(joined(first.hours), joined(second.hours))
    )


def _shadowed_statements(draft: Draft) -> Iterator[Fault]:
    taken: dict[str, str] = {}
    everyone: Part[StatementModel] | None = None
    for part in draft.statements:
        wanted = part.model.clients
        before = None if everyone is None else everyone.model.name
        if before is None and wanted is not None and "clients" not in part.healed and set(wanted) <= set(taken):
            before = taken[wanted[0]]
        if before is not None:
            yield Fault(
                part.path,
                f"the statement rule {shown(part.model.name)}, which can never match",
                f"a rule that {shown(before)} before it leaves a client for",
                "the first match counts: put the rule for everyone last, and each client into one rule",
            )
        elif wanted is None and not part.healed:
            everyone = part
        else:
            taken |= {name: part.model.name for name in wanted or () if name not in taken}


def _statement_rules(draft: Draft) -> Iterator[Fault]:
    for part in draft.statements:
        both = set(part.model.allow) & set(part.model.deny)
        for index, action in enumerate(part.model.deny):
            if action in both:
                yield Fault((*part.path, "deny", index), f"{action} both allowed and denied", "one of the two")
        yield from repeated((*part.path, "allow"), part.model.allow)
        yield from repeated((*part.path, "deny"), part.model.deny)


def _limits(draft: Draft) -> Iterator[Fault]:
    for part in draft.limits:
        if "scope" not in part.healed:
            yield from repeated((*part.path, "scope"), part.model.scope)
        for name, window in part.model.windows.items():
            path = (*part.path, "windows", name)
            if "measure" not in part.healed:
                yield from _units(path, part.model, window)
            yield from _alerts(path, window)
            yield from _throttling(path, name, window)
        yield from _contradictions(part)


def _units(path: Path, limit: LimitModel, window: WindowModel) -> Iterator[Fault]:
    if limit.measure.quantity is Quantity.BYTES:
        return
    for key, amount in (("limit", window.limit), ("alert_at", window.alert_at)):
        if isinstance(amount, Amount) and amount.sized:
            yield Fault((*path, key), "a size", f"a number of {limit.measure.quantity}", f"measure is {limit.measure}")


def _alerts(path: Path, window: WindowModel) -> Iterator[Fault]:
    if isinstance(window.alert_at, Amount) and window.alert_at.value > window.limit.value:
        yield Fault(
            (*path, "alert_at"),
            f"{window.alert_at.value}, which is never reached",
            f"at most the limit, {window.limit.value}",
            "an alert comes before the limit; at the limit there is one anyway",
        )


def _throttling(path: Path, name: str, window: WindowModel) -> Iterator[Fault]:
    if window.on_exceed is Action.THROTTLE and read_duration(name) > MAX_THROTTLE_WINDOW:
        yield Fault(
            (*path, "on_exceed"),
            f"throttle in a window of {name}",
            "block or alert in a window longer than 1h",
            "so long a window gives no room back while a statement is held",
        )
    if window.on_exceed is not Action.THROTTLE and window.max_wait is not None:
        yield Fault(
            (*path, "max_wait"),
            f"max_wait with on_exceed: {window.on_exceed}",
            "max_wait only with on_exceed: throttle",
            at_key=True,
        )


def _contradictions(part: Part[LimitModel]) -> Iterator[Fault]:
    windows = sorted(part.model.windows.items(), key=lambda item: read_duration(item[0]))
    for (short_name, short), (long_name, long) in combinations(windows, 2):
        path = (*part.path, "windows", long_name)
        if read_duration(short_name) == read_duration(long_name):
            yield Fault(path, f"{long_name}, the same window as {short_name}", "each window once", at_key=True)
        elif _idle(short, long):
            yield Fault(
                (*path, "limit"),
                f"{long.limit.value} in {long_name}",
                f"more than the {short.limit.value} that {short_name} allows",
                f"the shorter window could never be exhausted: raise {long_name}, or remove {short_name}",
            )


def _idle(short: WindowModel, long: WindowModel) -> bool:
    """Return whether the shorter window is without effect: the longer one always acts first, and no more weakly.

    A longer window that only alerts leaves work for a shorter one that stops; where both are exhausted at once, the
    stronger action counts.
    """
    if long.limit.value == short.limit.value and Action.REVOKE in {short.on_exceed, long.on_exceed}:
        return long.on_exceed is Action.REVOKE
    return long.limit.value <= short.limit.value and (
        long.on_exceed is not Action.ALERT or short.on_exceed is Action.ALERT
    )


def _exemptions(draft: Draft) -> Iterator[Fault]:
    limits = {part.model.name: part for part in draft.limits}
    for part in draft.exemptions:
        limit = limits.get(part.model.limit)
        named = part.model.scope.model_fields_set
        if not named and "scope" not in part.healed:
            yield Fault((*part.path, "scope"), "an empty scope", "whose accounts are exempted, such as {user: kim}")
        if limit is None or "scope" in limit.healed:
            continue
        for dimension in sorted(named - set(limit.model.scope)):
            yield Fault(
                (*part.path, "scope", dimension),
                f"`{dimension}`",
                f"what the limit {shown(limit.model.name)} is scoped by: {listed(limit.model.scope)}",
                at_key=True,
            )


def _tables(draft: Draft) -> Iterator[Fault]:
    for part in draft.entities:
        seen: dict[tuple[str, str], str] = {}
        for name in part.model.tables:
            table = read_table(name)
            if table in seen:
                path = (*part.path, "tables", name)
                yield Fault(path, f"{name}, the same table as {seen[table]}", "each table once", at_key=True)
            seen.setdefault(table, name)


_CHECKS: Final[tuple[Callable[[Draft], Iterator[Fault]], ...]] = (
    _duplicate_names,
    _nobody,
    _references,
    _shadowed_clients,
    _shadowed_statements,
    _statement_rules,
    _limits,
    _exemptions,
    _tables,
)
