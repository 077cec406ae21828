"""pgbench's output and log, read."""

from pathlib import Path

import pytest

from rowgate.bench.errors import BenchError
from rowgate.bench.load import Endpoint, Login
from rowgate.bench.pgbench import Pgbench, check, figure, log_latencies

OUTPUT = """\
pgbench (18.4)
transaction type: <builtin: select only>
number of clients: 8
number of transactions actually processed: 75926
number of failed transactions: 0 (0.000%)
latency average = 0.734 ms
tps = 10905.031746 (without initial connection time)
"""


def test_figures_are_found_by_name() -> None:
    assert figure(OUTPUT, "number of transactions actually processed:") == 75_926
    assert figure(OUTPUT, "number of retries:") is None


def test_the_log_counts_what_ended_in_the_measured_stretch() -> None:
    log = [
        "0 1 500 0 1764021800 100000",  # before it
        "0 2 734 0 1764021800 500000",
        "1 1 1250 0 1764021801 250000 17",  # with the lag of a schedule
        "1 2 failed 0 1764021801 300000",
        "0 3 600 0 1764021802 0",  # behind it
        "0 4 60",  # torn
    ]
    assert log_latencies(log, 1764021800.5, 1764021802.0) == [0.734, 1.25]


def test_failed_transactions_are_an_error() -> None:
    check(0, OUTPUT, "")
    with pytest.raises(BenchError, match="3 transactions failed: ERROR:  deadlock"):
        check(0, OUTPUT.replace("transactions: 0", "transactions: 3"), "pgbench: hint\nERROR:  deadlock detected\n")


def test_an_aborted_run_says_why() -> None:
    errors = (
        'pgbench: error: client 0 script 0 aborted: ERROR:  limit "rows of a user" reached\n'
        "DETAIL:  rule=x\npgbench: error: Run was aborted; the above results are incomplete.\n"
    )
    with pytest.raises(BenchError, match=r'status 2: .*limit "rows of a user" reached.*DETAIL'):
        check(2, "", errors)


def test_no_password_is_in_the_command() -> None:
    login = Login("app", "shop", "secret")
    command = Pgbench(Path("pgbench"), "prepared", 32, Path("own.sql")).command(
        Endpoint("127.0.0.1", 6432), login, 2, 7, Path("log")
    )
    assert not any("secret" in word for word in command)
    assert command[command.index("-f") + 1] == "own.sql"
    assert "-S" not in command
