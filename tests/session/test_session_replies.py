import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowgate.session.kinds import (
    BIND_REPLY,
    CALL_REPLY,
    COPY_END,
    DESCRIBE_REPLY,
    EXECUTE_REPLY,
    PARSE_REPLY,
    PASS,
    QUERY_REPLY,
    SWALLOW,
    SYNC_REPLY,
)
from rowgate.session.replies import ReplyQueue

GROUP_ENDS = {SYNC_REPLY, QUERY_REPLY, CALL_REPLY}
KINDS = (PARSE_REPLY, BIND_REPLY, DESCRIBE_REPLY, EXECUTE_REPLY, SYNC_REPLY, QUERY_REPLY, CALL_REPLY, COPY_END)


def queue_of(*kinds: int) -> ReplyQueue:
    queue = ReplyQueue()
    for kind in kinds:
        queue.push(kind, PASS)
    return queue


def left(queue: ReplyQueue) -> list[int]:
    """What is queued; checks that the counters agree with it."""
    kinds = []
    reply = queue.head
    while reply is not None:
        kinds.append(reply.kind)
        if reply.following is None:
            assert queue.tail is reply
        reply = reply.following
    assert queue.length == len(kinds)
    assert queue.groups == sum(kind in GROUP_ENDS for kind in kinds)
    assert (queue.tail is None) == (not kinds)
    return kinds


def test_first_in_first_out() -> None:
    queue = queue_of(PARSE_REPLY, BIND_REPLY)
    queue.push(EXECUTE_REPLY, SWALLOW)
    taken = [queue.pop() for _ in range(4)]
    assert [(reply.kind, reply.manner) if reply else None for reply in taken] == [
        (PARSE_REPLY, PASS),
        (BIND_REPLY, PASS),
        (EXECUTE_REPLY, SWALLOW),
        None,
    ]
    assert left(queue) == []


def test_a_new_reply_carries_nothing() -> None:
    reply = ReplyQueue().push(BIND_REPLY, PASS)
    assert (reply.execution, reply.portal, reply.denial, reply.undo, reply.following) == (None,) * 5


@pytest.mark.parametrize(
    ("kinds", "dropped", "remaining"),
    [
        ([EXECUTE_REPLY, BIND_REPLY, SYNC_REPLY, QUERY_REPLY], [EXECUTE_REPLY, BIND_REPLY], [SYNC_REPLY, QUERY_REPLY]),
        ([EXECUTE_REPLY, QUERY_REPLY, CALL_REPLY], [EXECUTE_REPLY, QUERY_REPLY, CALL_REPLY], []),
        ([SYNC_REPLY], [], [SYNC_REPLY]),
        ([], [], []),
    ],
)
def test_an_error_drops_what_the_server_skips(kinds: list[int], dropped: list[int], remaining: list[int]) -> None:
    queue = queue_of(*kinds)
    assert [reply.kind for reply in queue.drop_to_sync()] == dropped
    assert left(queue) == remaining


@pytest.mark.parametrize(
    ("kinds", "remaining", "ended"),
    [
        ([EXECUTE_REPLY, SYNC_REPLY], [EXECUTE_REPLY], False),
        ([EXECUTE_REPLY, SYNC_REPLY, SYNC_REPLY], [EXECUTE_REPLY], False),
        ([EXECUTE_REPLY, SYNC_REPLY, COPY_END, SYNC_REPLY], [EXECUTE_REPLY, COPY_END, SYNC_REPLY], True),
        ([EXECUTE_REPLY, COPY_END, SYNC_REPLY], [EXECUTE_REPLY, COPY_END, SYNC_REPLY], True),
        ([EXECUTE_REPLY], [EXECUTE_REPLY], False),
        ([], [], False),
    ],
)
def test_a_sync_during_copy_from_is_ignored(kinds: list[int], remaining: list[int], ended: bool) -> None:
    queue = queue_of(*kinds)
    assert queue.drop_ignored_syncs() is ended
    assert left(queue) == remaining
    queue.push(SYNC_REPLY, PASS)
    assert left(queue) == [*remaining, SYNC_REPLY]


@pytest.mark.parametrize(
    ("head", "surplus"), [((), 1), ((PARSE_REPLY,), 1), ((EXECUTE_REPLY,), 1), ((SYNC_REPLY,), 0), ((QUERY_REPLY,), 0)]
)
def test_a_sync_that_a_failed_copy_left_unread_may_be_answered(head: tuple[int, ...], surplus: int) -> None:
    queue = queue_of(EXECUTE_REPLY, SYNC_REPLY)
    queue.drop_ignored_syncs()
    assert not queue.is_surplus()
    queue.failed()
    queue.pop()
    for kind in head:
        queue.push(kind, PASS)
    assert queue.is_surplus() == bool(surplus)  # what ends with ReadyForQuery itself has its own first


@given(st.lists(st.one_of(st.sampled_from(KINDS), st.sampled_from(("pop", "drop", "copy")))))
def test_the_counters_always_agree(steps: list[int | str]) -> None:
    queue = ReplyQueue()
    for step in steps:
        if step == "pop":
            queue.pop()
        elif step == "drop":
            queue.drop_to_sync()
        elif step == "copy":
            queue.drop_ignored_syncs()
        else:
            queue.push(int(step), PASS)
        left(queue)
