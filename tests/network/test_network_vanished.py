"""Connections are looked at in turns, each once in a round."""

import pytest

from rowgate.network.vanished import Rounds


@pytest.mark.parametrize(("things", "turns"), [(0, 3), (1, 3), (7, 3), (10, 3), (3, 10), (5, 0)])
def test_everything_has_its_turn_once_in_a_round(things: int, turns: int) -> None:
    rounds = Rounds(turns)
    for _ in range(2):
        seen: list[int] = []
        for _ in range(max(1, turns)):
            if len(seen) == things:
                break
            share = rounds.turn(range(things))
            assert len(share) <= -(-things // max(1, turns))
            seen += share
        assert sorted(seen) == list(range(things))
