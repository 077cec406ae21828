"""Checks between the parts of a policy that are about identity: who signs, what a session lacks, who keeps what."""

from collections.abc import Callable, Iterator
from typing import Final

from rowgate.policy.fields import MAX_DISTINCT
from rowgate.policy.model import ClientModel, CustodyModel, LimitModel
from rowgate.policy.problem import Fault, Path, listed, shown
from rowgate.policy.references import MAX_LISTED, repeated, unknown
from rowgate.policy.snapshot import Action, Dimension, Quantity
from rowgate.policy.validation import Draft, Part
from rowgate.policy.wording import words

OF_TOKENS: Final = frozenset({Dimension.END_USER, Dimension.SIGNING_KEY, Dimension.ISSUER})
"""Dimensions that a session has only with a token."""

REVOCABLE: Final = (
    Dimension.USER,
    Dimension.END_USER,
    Dimension.SIGNING_KEY,
    Dimension.ISSUER,
    Dimension.CERTIFICATE,
    Dimension.SOURCE,
)
"""Dimensions that name an identity, which can be revoked."""

_REQUIRED: Final = {"end_user": "end_user: token", "certificate": "certificate: […]"}
"""How a client rule requires what a limit is about, by its key."""

CREDENTIALS: Final = ("user", "signing_key", "certificate", "secret")
"""Keys of custody, one of which says what is kept."""


def _issuers(draft: Draft) -> Iterator[Fault]:
    first: dict[str, str] = {}
    for part in draft.issuers:
        issuer = part.model
        for key in ("audience", "algorithms", "revoked_keys"):
            if key not in part.healed:
                yield from repeated((*part.path, key), getattr(issuer, key))
        if "issuer" in part.healed:
            continue
        if issuer.issuer in first:
            yield Fault(
                (*part.path, "issuer"),
                f"{shown(issuer.issuer)} again",
                f"another issuer than that of {shown(first[issuer.issuer])}",
                "a token names its issuer and nothing else: put both into one rule, with all their audiences",
            )
        first.setdefault(issuer.issuer, issuer.name)


def _clients(draft: Draft) -> Iterator[Fault]:
    for part in draft.clients:
        path, client = part.path, part.model
        for index, name in enumerate(client.issuers or ()):
            yield from unknown(draft, (*path, "issuers", index), name, "issuers", "issuer")
        yield from repeated((*path, "issuers"), client.issuers or ())
        yield from repeated((*path, "country"), client.country or ())
        if client.end_user is not None and "issuers" in draft.empty:
            yield Fault(
                (*path, "end_user"),
                "token, with no issuer of tokens",
                "an issuer under `issuers` whose tokens count",
                "nobody could have a token",
            )
        if "auth" not in part.healed:
            yield from _auth(path, client, draft)
        if part.lacks("end_user"):
            yield from _pointless(path, client)


def _auth(path: Path, client: ClientModel, draft: Draft) -> Iterator[Fault]:
    if client.auth == "oauth" and "issuers" in draft.empty:
        yield Fault(
            (*path, "auth"), "oauth, with no issuer of tokens", "an issuer under `issuers`", "nobody could log in"
        )


def _pointless(path: Path, client: ClientModel) -> Iterator[Fault]:
    for key, value in (("per", client.per), ("issuers", client.issuers)):
        if value is not None:
            hint = "no token would be required, whatever it says"
            yield Fault((*path, key), f"`{key}` without `end_user`", "end_user: token beside it", hint, at_key=True)


def _scopes(draft: Draft) -> Iterator[Fault]:
    for part in draft.limits:
        for path, what, key in _wants(part):
            yield from _lacking(draft, path, part.model, what, key)
        if _counts_people(part):
            yield from _distinct(part)


def _wants(part: Part[LimitModel]) -> Iterator[tuple[Path, str, str]]:
    """Give what a limit is about that not every session has: where it says so, what, and a client rule's key for it."""
    if "clients" in part.healed:
        return
    for index, dimension in enumerate(() if "scope" in part.healed else part.model.scope):
        if dimension in OF_TOKENS:
            yield (*part.path, "scope", index), dimension, "end_user"
        elif dimension is Dimension.CERTIFICATE:
            yield (*part.path, "scope", index), dimension, "certificate"
    if _counts_people(part):
        yield (*part.path, "measure"), Quantity.END_USERS, "end_user"


def _counts_people(part: Part[LimitModel]) -> bool:
    return "measure" not in part.healed and part.model.measure.quantity is Quantity.END_USERS


def _lacking(draft: Draft, path: Path, limit: LimitModel, what: str, key: str) -> Iterator[Fault]:
    """Give the mistake that some session of a limit could lack what the limit is about."""
    lacking = [
        f"of {shown(part.model.name)}"
        for part in draft.clients
        if (limit.clients is None or part.model.name in limit.clients) and part.lacks(key) and "name" not in part.healed
    ]
    if limit.clients is None and draft.unmatched_clients == "admit":
        lacking.append("that unmatched_clients admits")
    if lacking:
        more = f" and {len(lacking) - MAX_LISTED} more" if len(lacking) > MAX_LISTED else ""
        yield Fault(
            path,
            f"`{what}`, which sessions {words(lacking[:MAX_LISTED])}{more} can lack",
            f"a limit for client rules that all say `{_REQUIRED[key]}`",
            "name those that do in the limit's `clients`, or let the others say so too",
        )


def _distinct(part: Part[LimitModel]) -> Iterator[Fault]:
    """Give what makes no sense of a limit that counts people."""
    if Dimension.END_USER in part.model.scope and "scope" not in part.healed:
        yield Fault(
            (*part.path, "scope", part.model.scope.index(Dimension.END_USER)),
            f"`end_user` with {Quantity.END_USERS}",
            "a scope that many people can share, such as [signing_key] or [source]",
            "each person would be counted alone, as one",
        )
    for name, window in part.model.windows.items():
        if window.limit.value > MAX_DISTINCT:
            path = (*part.path, "windows", name, "limit")
            yield Fault(
                path, str(window.limit.value), f"at most {MAX_DISTINCT}", "each of them is kept to be known again"
            )


def _revocations(draft: Draft) -> Iterator[Fault]:
    for part in draft.limits:
        named = [dimension for dimension in REVOCABLE if dimension in part.model.scope]
        if len(named) == 1 or "scope" in part.healed:
            continue
        for name, window in part.model.windows.items():
            if window.on_exceed is Action.REVOKE:
                yield Fault(
                    (*part.path, "windows", name, "on_exceed"),
                    f"revoke for a scope of {words(part.model.scope)}",
                    f"a scope with exactly one of {listed(REVOCABLE)}",
                    "there must be no doubt who is revoked" if named else "it names nobody who could be revoked",
                )


def _exempted(draft: Draft) -> Iterator[Fault]:
    for part in draft.exemptions:
        path, scope = (*part.path, "scope"), part.model.scope
        if scope.issuer is not None:
            yield from unknown(draft, (*path, "issuer"), scope.issuer, "issuers", "issuer")
        if scope.signing_key is not None:
            yield from _unknown_signer(draft, (*path, "signing_key"), scope.signing_key)
            if scope.signing_key.endswith("/*"):
                hint = "each key has an account of its own; an exemption is for one, or for all when it is left out"
                yield Fault((*path, "signing_key"), shown(scope.signing_key), "one key such as sso/2026-11", hint)


def _unknown_signer(draft: Draft, path: Path, signing_key: str) -> Iterator[Fault]:
    issuer, _, _ = signing_key.partition("/")
    for fault in unknown(draft, path, issuer, "issuers", "issuer"):
        yield Fault(path, shown(signing_key), "a key of an issuer of this policy", fault.hint)


def _custody(draft: Draft) -> Iterator[Fault]:
    first: dict[tuple[str, str], Path] = {}
    for part in draft.custody:
        path, model = part.path, part.model
        named = [(key, getattr(model, key)) for key in CREDENTIALS if getattr(model, key) is not None]
        if len(named) > 1 or all(map(part.lacks, CREDENTIALS)):
            found = f"{words(key for key, _ in named)} at once" if named else f"none of {', '.join(CREDENTIALS)}"
            yield Fault(path, found, f"exactly one of {listed(CREDENTIALS)}", "each credential has custody of its own")
        for credential in named:
            if credential in first:
                yield Fault((*path, credential[0]), f"{shown(credential[1])} again", "each credential once")
            first.setdefault(credential, path)
        yield from _kept(draft, path, model)


def _kept(draft: Draft, path: Path, model: CustodyModel) -> Iterator[Fault]:
    yield from repeated((*path, "custodians"), model.custodians)
    if model.signing_key is not None:
        yield from _unknown_signer(draft, (*path, "signing_key"), model.signing_key)
    if model.secret is not None and model.overdue == "refuse":
        hint = "Rowgate never sees this secret, so it can only tell that it is due"
        yield Fault((*path, "overdue"), "refuse for a secret", "alert", hint)


IDENTITY_CHECKS: Final[tuple[Callable[[Draft], Iterator[Fault]], ...]] = (
    _issuers,
    _clients,
    _scopes,
    _revocations,
    _exempted,
    _custody,
)
