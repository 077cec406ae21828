"""What fuzzers begin with, on whichever twin is imported: no input that was once found fails again."""

from pathlib import Path

import pytest

from fuzz.blind import fuzz
from fuzz.corpus_files import TALKS, read_talk
from fuzz.record import by_psycopg, psycopg_queries, tapped
from fuzz.stage import Stage
from fuzz.talks import CLIENT, CUT, ONE_BY_ONE, SERVER, Talk, arrivals, decoded, mutate, recordings
from fuzz.targets import TARGETS
from fuzz.worlds import WORLDS
from rowgate.demo.postgres import ThrowawayPostgres

# Executions of mutated inputs, behind the kept ones.
RUNS = 2_000
MONITORS = next(world for world in WORLDS if world.rules.monitors)


@pytest.mark.parametrize("name", TARGETS)
def test_kept_inputs_and_some_mutations_of_them(name: str) -> None:
    target = TARGETS[name]
    assert target.inputs(), "nothing is kept"
    finding = fuzz(target, RUNS, seed=1)
    assert finding is None, f"{finding.data.hex()}\n{finding.what}"


@pytest.mark.parametrize("order", [ONE_BY_ONE, CUT])
@pytest.mark.parametrize("path", sorted(TALKS.glob("*.talk")), ids=lambda path: path.stem)
def test_a_recorded_conversation_passes_a_monitor_byte_for_byte(path: Path, order: int) -> None:
    items = read_talk(path)
    said = [b"".join(message for by, message in items if by == side) for side in (CLIENT, SERVER)]
    for seed in range(5):
        stage = Stage(MONITORS)
        for side, data in arrivals(Talk(0, order, seed, items)):
            (stage.from_server if side == SERVER else stage.from_client)(data)
        assert [bytes(stage.told), bytes(stage.heard)] == said
        stage.close()


def test_a_mutation_is_the_same_for_the_same_seed_and_no_longer_than_allowed() -> None:
    data = Talk(1, CUT, 7, list(recordings()[0])).encoded()
    assert decoded(data).encoded() == data
    changed = [mutate(data, 1000, seed) for seed in range(200)]
    assert changed == [mutate(data, 1000, seed) for seed in range(200)]
    assert len(set(changed)) > 150
    assert max(map(len, changed)) <= 1000


def test_a_conversation_is_recorded(postgres: ThrowawayPostgres, tmp_path: Path) -> None:
    with tapped(postgres, "some_queries", folder=tmp_path) as port:
        by_psycopg(port, lambda connection: psycopg_queries(connection, "select 1"))
    messages = read_talk(tmp_path / "some_queries.talk")
    assert messages[0] == (CLIENT, b"Q\0\0\0\x0aBEGIN\0")
    assert (SERVER, b"Z\0\0\0\5T") in messages
    assert messages[-1] == (CLIENT, b"X\0\0\0\4")
