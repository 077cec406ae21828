"""The story fits its terminal, names what went wrong, and prints nothing as markup that is not ours."""

import io

import pytest
from rich.console import Console

from demo.demo_reports import ERROR, LIMIT, haul, honest, report
from rowgate.demo.counting_client import ServerError
from rowgate.demo.story import MAX_WIDTH, Story


def console(width: int = 80) -> tuple[Console, io.StringIO]:
    output = io.StringIO()
    return Console(file=output, width=width, highlight=False, emoji=False), output


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_or_too_wide_to_read(width: int) -> None:
    screen, output = console(width)
    story = Story(screen)
    story.title(compiled=False)
    story.policy(LIMIT)
    story.theft()
    story.page(300, 0.1, LIMIT)
    story.stopped(haul(LIMIT))
    story.race()
    story.raced([haul(250)] * 8, LIMIT)
    story.ending(report())
    assert max(len(line) for line in output.getvalue().splitlines()) <= min(width, MAX_WIDTH)


def test_a_result_that_held_says_so() -> None:
    screen, output = console()
    Story(screen).ending(report())
    assert "Held." in output.getvalue()
    assert "NO" not in output.getvalue()


def test_a_broken_promise_is_shown_as_one() -> None:
    screen, output = console()
    Story(screen).ending(report(honest=honest(failed=2)))
    text = output.getvalue()
    assert "Not held: 1 of 6 promises" in text
    assert "10 of 12" not in text
    assert "12 of 14" in text


def test_the_pure_hot_path_is_warned_of_and_the_compiled_one_is_not() -> None:
    for compiled in (True, False):
        screen, output = console()
        Story(screen).title(compiled=compiled)
        assert ("pure Python" in output.getvalue()) is not compiled


def test_what_a_server_says_is_no_markup() -> None:
    screen, output = console()
    words = "rule [bold]x[/bold] [/] reached"
    Story(screen).stopped(haul(LIMIT, ServerError(ERROR.sqlstate, words, "", "")))
    assert words in output.getvalue()
