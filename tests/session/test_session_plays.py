"""Whole conversations with a model of the server: nothing hangs, is misattributed, or commits unseen."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowgate.ledger.interface import WindowSpec
from rowgate.session.starter import REDEFINED
from support.core_plays import CONVERSATIONS, Group, named, pipelines, written
from support.core_theatre import Stage, Theatre, check_unchanged, transcript
from support.playbook import ENFORCE, ENTITIES, MONITOR, World, limit

SEEDS = st.integers(0, 2**32)
CASTS = st.lists(CONVERSATIONS, min_size=1, max_size=3)
CAPS = "statements:\n  - {name: all, max_rows: 9, max_bytes: 300}\n"
NO_COPY = "statements:\n  - {name: all, deny: [copy_to]}\n"


def play(policy: str, conversations: list[list[Group]], seed: int, filler: bytes = b"") -> tuple[World, list[Stage]]:
    rng = random.Random(seed)  # noqa: S311 - an order of events, no secret
    world = World(policy)
    stages = [Stage(world, written(groups), rng, filler=filler) for groups in conversations]
    Theatre(stages, rng).play()
    for record in world.journal.records:
        assert record.verdict is not None, "a record that nobody closed"
    assert sum(record.rows for record in world.journal.records) == sum(stage.client.rows for stage in stages)
    return world, stages


@settings(deadline=None)
@given(CASTS, SEEDS, st.sampled_from((b"", b"x" * 3000)))
def test_what_is_allowed_passes_byte_for_byte(conversations: list[list[Group]], seed: int, filler: bytes) -> None:
    monitored = MONITOR + limit() + "statements:\n  - {name: all, max_rows: 5, max_bytes: 200, deny: [copy_to]}\n"
    _, stages = play(monitored, conversations, seed, filler)
    for stage in stages:
        check_unchanged(stage)


@settings(deadline=None)
@given(CASTS, SEEDS, st.sampled_from((3, 30, 60)))
def test_block(conversations: list[list[Group]], seed: int, amount: int) -> None:
    _, stages = play(ENFORCE + limit(amount=str(amount)), conversations, seed)
    assert sum(stage.client.rows for stage in stages) <= amount


@settings(deadline=None)
@given(CASTS, SEEDS)
def test_block_bytes(conversations: list[list[Group]], seed: int) -> None:
    _, stages = play(ENFORCE + limit("bytes", "600"), conversations, seed)
    for stage in stages:
        assert stage.client.rows <= 600 // 11


@settings(deadline=None)
@given(CASTS, SEEDS)
def test_caps(conversations: list[list[Group]], seed: int) -> None:
    _, stages = play(ENFORCE + CAPS, conversations, seed)
    for stage in stages:
        assert all(outcome.rows <= 9 for outcome in stage.client.outcomes.values()), transcript(stage)


@settings(deadline=None)
@given(CASTS, SEEDS)
def test_throttle(conversations: list[list[Group]], seed: int) -> None:
    policy = ENFORCE + limit(amount="40", window="1s", action="throttle, max_wait: 2s")
    _, stages = play(policy, conversations, seed)
    delivered = sorted(moment for stage in stages for moment in stage.delivered)
    for start, _ in delivered:
        assert sum(rows for at, rows in delivered if start <= at < start + 1.0) <= 40


@settings(deadline=None)
@given(CASTS, SEEDS)
def test_statements(conversations: list[list[Group]], seed: int) -> None:
    play(ENFORCE + limit("statements", "5"), conversations, seed)


@settings(deadline=None)
@given(CASTS, SEEDS)
def test_denied_text_never_reaches_the_server(conversations: list[list[Group]], seed: int) -> None:
    _, stages = play(ENFORCE + NO_COPY, conversations, seed)
    for stage in stages:
        assert b") TO STDOUT" not in stage.told


def spent(world: World) -> int:
    """Units of the policy's one limit that the ledger counts and no lease still holds."""
    assert world.store is not None
    (account,) = world.accounts._accounts.values()
    (window,) = account.limit.windows
    (used,) = world.store.usage(account.scope, [WindowSpec(window.seconds, window.limit, True)])
    return used - account.remaining


def counted(stage: Stage) -> int:
    """Rows the client was given of a customer, or of an origin that is not known."""
    free = re.findall(rb"DELETE FROM log WHERE q = (\d+)", stage.asked) + re.findall(rb"SELECT (\d+)[;\0]", stage.asked)
    return stage.client.rows - sum(stage.client.outcomes[int(q)].rows for q in free if int(q) in stage.client.outcomes)


@settings(deadline=None)
@given(CASTS, SEEDS)
def test_entity(conversations: list[list[Group]], seed: int) -> None:
    _, stages = play(ENFORCE + ENTITIES + limit("rows(customer)", "20"), conversations, seed)
    assert sum(counted(stage) for stage in stages) <= 20


@pytest.mark.peers(3, 23)
@settings(deadline=None)
@given(CONVERSATIONS, SEEDS, SEEDS, st.sampled_from((ENFORCE + CAPS, ENFORCE + NO_COPY, MONITOR + limit())))
def test_chunks_make_no_difference(groups: list[Group], one: int, other: int, policy: str) -> None:
    """Under a limit it may: whether a statement sent ahead starts depends on what is left when it arrives."""
    (first, (left,)), (second, (right,)) = play(policy, [groups], one), play(policy, [groups], other)
    assert left.heard == right.heard, transcript(left) + transcript(right)
    if policy == MONITOR + limit():
        assert [spent(world) for world in (first, second)] == [left.client.rows] * 2, transcript(left)


@settings(deadline=None)
@given(pipelines(), SEEDS, st.sampled_from((ENFORCE + CAPS, ENFORCE + limit(amount="60"), ENFORCE + NO_COPY)))
def test_pipelines(groups: list[Group], seed: int, policy: str) -> None:
    play(policy, [groups], seed)


@settings(deadline=None)
@given(named(), SEEDS, st.sampled_from((ENFORCE + CAPS, ENFORCE + ENTITIES + limit("rows(customer)", "60"), MONITOR)))
def test_named_statements(groups: list[Group], seed: int, policy: str) -> None:
    _, (stage,) = play(policy, [groups], seed)
    for name, known in stage.session.conversation.statements.items():
        if known is not REDEFINED:
            assert (known.bound == 1) == (stage.server.statements[name.decode()].kind == "one"), transcript(stage)
