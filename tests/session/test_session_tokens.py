"""Tokens in a session, message by message: what the server is sent in their place, what waits, what is refused."""

import struct

import pytest

from rowgate.journal.record import Verdict
from rowgate.session import commands
from rowgate.session.commands import TokenRefusal
from support.bearer_relay import Issuer, person, token_of
from support.core_messages import (
    BOUND,
    CLOSED,
    NO_DATA,
    PARSED,
    SYNC,
    bind,
    complete,
    describe,
    error,
    errors,
    execute,
    extended,
    kinds,
    message,
    parse,
    query,
    ready,
    row,
    row_description,
    rows,
)
from support.playbook import ENFORCE, MONITOR, Playbook, World, limit

KIM, LEE = token_of("kim"), token_of("lee")
EXPIRED = TokenRefusal("the token has expired: get a new one and try again")
ISSUERS = (
    "issuers:\n  - {name: sso, issuer: 'https://sso.example', audience: [rowgate], keys: /k.json,"
    " algorithms: [ES256]}\n"
)
REQUIRED = ISSUERS + "clients:\n  - {name: all, end_user: token}\n"
EACH = ISSUERS + "clients:\n  - {name: all, end_user: token, per: transaction}\n"
SELECT = query("SELECT id FROM customers")


class Seal:
    """A seal that can be read."""

    def seal(self, end_user: str, session: tuple[int, int], transaction: int | None, expires: float) -> str:
        return f"{end_user}/{session[0]}-{session[1]}/{transaction or 'session'}"


def book(policy: str = ENFORCE, *, warm: bool = True, sealed: bool = False, first: str = "") -> Playbook:
    issuer = Issuer(warm=warm)
    issuer.add("kim", "lee", "o'kim")
    book = Playbook(world=World(policy, tokens=issuer, seal=Seal() if sealed else None))
    if first:
        book.begin(person(first))
    return book


def set_local(token: str) -> bytes:
    return query(f"SET LOCAL rowgate.token = '{token}'")


def said(name: str, *, local: bool = True) -> bytes:
    return query(f"SET {'LOCAL ' if local else ''}rowgate.end_user = '{name}'")


def who(book: Playbook) -> str:
    end_user = book.session.conversation.end_user
    return end_user.name if end_user is not None else ""


def begun(book: Playbook) -> Playbook:
    return book.client(query("BEGIN")).says_to_server(query("BEGIN")).server(complete("BEGIN"), ready("T"))


def test_a_known_token_is_replaced_at_once() -> None:
    play = begun(book())
    play.client(set_local(KIM)).says_to_server(said("kim"))
    play.server(complete("SET"), ready("T")).to_client()
    assert who(play) == "kim"
    assert [record.template for record in play.journal.records][-1].count("set local rowgate.token = ?") == 1
    play.client(query("COMMIT")).server(complete("COMMIT"), ready())
    assert who(play) == ""


def test_an_unknown_token_is_asked_about_and_the_client_waits() -> None:
    play = begun(book(warm=False))
    play.client(set_local(KIM), SELECT).says_to_server()
    assert play.asks() == [KIM]
    play.token_verified(person("kim")).says_to_server(said("kim"))
    play.server(complete("SET"), ready("T")).says_to_server(SELECT)
    assert play.asks() == [KIM]


def test_a_token_that_is_refused_fails_like_any_statement() -> None:
    play = book(warm=False).client(set_local(KIM)).token_verified(EXPIRED)
    assert kinds(sent := play.to_server()) == "Q"
    assert KIM.encode() not in sent
    play.server(error("42601"), ready())
    (told,) = errors(play.to_client())
    assert (told["C"], told["M"]) == ("28000", "rowgate: the token has expired: get a new one and try again")
    assert "SET LOCAL rowgate.token" in told["H"]
    play.client(SELECT).says_to_server(SELECT)
    assert play.journal.records[0].verdict is Verdict.DENIED
    assert KIM not in repr(play.commands) + repr(play.journal.records)


def test_a_client_that_gives_up_waiting_is_told_so() -> None:
    play = book(warm=False).client(set_local(KIM)).user_cancels()
    assert kinds(play.to_server()) == "Q"
    play.server(error("42601"), ready())
    assert errors(play.to_client())[0]["C"] == "57014"
    # What becomes of it is no answer to what is asked next.
    play.client(set_local(LEE)).says_to_server().token_verified(person("kim")).says_to_server()
    assert play.asks() == [KIM, LEE]
    play.token_verified(person("lee")).says_to_server(said(""))  # it is outside of a transaction


def test_monitor_refuses_no_token_but_keeps_it_from_the_server() -> None:
    play = begun(book(MONITOR, warm=False))
    play.client(set_local(KIM)).token_verified(EXPIRED).says_to_server(said(""))
    assert len(play.reports(commands.WOULD_DENY)) == 1
    assert who(play) == ""


@pytest.mark.parametrize("policy", [ENFORCE, MONITOR])
@pytest.mark.parametrize(
    "text",
    [
        f"SELECT set_config('rowgate.token', '{KIM}', true) FROM customers",
        f"SET rowgate.token = {KIM.split('.')[0]}",
        f"SET rowgate.token '{KIM}'",
        f"SET rowgate.token = '{KIM}",
        f"ALTER ROLE app SET rowgate.token = '{KIM}'",
        f"SELECT set_config('rowgate.token', upper('{KIM}'), true)",
        f"SELECT set_config(setting_name => 'rowgate.token', new_value => '{KIM}', is_local => true)",
    ],
)
def test_a_token_that_cannot_be_replaced_goes_nowhere(policy: str, text: str) -> None:
    secret = KIM.split(".")[0].encode()
    for said_by_client in (query(text), parse(text) + SYNC):
        play = book(policy).client(said_by_client)
        assert secret not in play.to_server()
        play.server(error("42601"), ready())
        (told,) = errors(play.to_client())
        assert told["C"] == "0A000"
        assert secret.decode() not in str(told) + repr(play.commands) + repr(play.journal.records)


def test_without_issuers_nothing_of_this_is_so() -> None:
    play = Playbook(ENFORCE)
    play.client(set_local(KIM)).says_to_server(set_local(KIM))


# The extended protocol


def test_a_prepared_token_is_verified_when_it_is_executed() -> None:
    play = begun(book(warm=False))
    text = f"SET LOCAL rowgate.token = '{KIM}'"
    play.client(parse(text, "t"), SYNC).says_to_server(parse("SET LOCAL rowgate.end_user = ''", "t"), SYNC)
    play.server(PARSED, ready("T"))
    assert play.asks() == []
    play.client(bind("p", "t"), describe("p"), execute("p"), SYNC)
    play.token_verified(person("kim"))
    assert kinds(sent := play.to_server()) == "BDHCPCBCES"
    assert b"rowgate.end_user = 'kim'" in sent
    play.server(BOUND, NO_DATA, CLOSED, PARSED, CLOSED, BOUND, CLOSED, complete("SET"), ready("T"))
    play.says_to_client(complete("BEGIN"), ready("T"), PARSED, ready("T"), BOUND, NO_DATA, complete("SET"), ready("T"))
    assert who(play) == "kim"
    play.client(bind("p", "t"), execute("p"), SYNC).token_verified(EXPIRED)
    assert kinds(play.to_server()) == "BHES"
    play.server(BOUND, error("34000"), ready("E"))
    assert errors(play.to_client())[0]["C"] == "28000"
    assert who(play) == ""


def test_a_parameter_is_replaced_in_text_and_binary() -> None:
    for formats in (b"\0\0", b"\0\1\0\1", b"\0\2\0\0\0\1"):
        binary = formats.endswith(b"\1")
        for local in (True, False):
            play = begun(book())
            scope = bytes([local]) if binary else (b"on" if local else b"f")
            values = (KIM.encode(), scope)
            packed = struct.pack("!H", 2) + b"".join(struct.pack("!I", len(value)) + value for value in values)
            play.client(parse("SELECT set_config('rowgate.token', $1, $2)"))
            play.client(message("B", b"\0\0" + formats + packed + b"\0\0"), execute(), SYNC)
            sent = play.to_server()
            assert KIM.encode() not in sent
            assert struct.pack("!I", 3) + b"kim" + struct.pack("!I", len(scope)) + scope in sent
            play.server(PARSED, BOUND, CLOSED, PARSED, CLOSED, BOUND, CLOSED, row(b"kim"), complete(), ready("T"))
            play.client(query("COMMIT")).server(complete("COMMIT"), ready())
            assert who(play) == ("" if local else "kim")


def test_a_setting_that_a_parameter_names() -> None:
    def bound(name: bytes, value: bytes) -> bytes:
        packed = b"".join(struct.pack("!I", len(each)) + each for each in (name, value, b"t"))
        return message("B", b"\0\0\0\0" + struct.pack("!H", 3) + packed + b"\0\0")

    text = "SELECT set_config($1, $2, $3)"
    play = begun(book())
    harmless = (parse(text), bound(b"search_path", b"a"), execute(), SYNC)
    play.client(*harmless).says_to_server(*harmless)
    play.server(PARSED, BOUND, row(), complete(), ready("T"))
    play.client(parse(text), bound(b"RowGate.Token", KIM.encode()), execute(), SYNC)
    assert KIM.encode() not in (sent := play.to_server())
    assert b"rowgate.end_user" in sent
    assert b"kim" in sent
    play = begun(book())
    play.client(parse(text), bound(b"ROWGATE.end_user", b"kim"), execute(), SYNC)
    assert b"kim" not in play.to_server()
    play.server(PARSED, error("26000"), ready("E"))
    assert errors(play.to_client())[0]["C"] == "42501"


def test_a_bind_is_waited_for_as_a_whole() -> None:
    play = begun(book())
    whole = parse("SELECT set_config('rowgate.token', $1, true)") + bind(value=KIM.encode()) + execute() + SYNC
    for octet in whole:
        play.client(bytes([octet]))
    sent = play.to_server()
    assert KIM.encode() not in sent
    assert kinds(sent) == "PBCPCBCES"
    play = begun(book())
    play.client(parse("SELECT set_config('rowgate.token', $1, true)"), bind(value=b"x" * 100_000)[:50_000])
    assert play.ended


def test_statements_later_in_a_pipeline_are_the_new_end_users() -> None:
    counted = (
        "limits:\n  - {name: few, scope: [end_user], measure: rows, windows: {1h: {limit: 3, on_exceed: block}}}\n"
    )
    play = book(ENFORCE.replace("admit", "refuse") + REQUIRED + counted)
    for name, token in (("kim", KIM), ("lee", LEE)):
        play.client(parse("BEGIN"), bind(), execute(), extended(f"SET LOCAL rowgate.token = '{token}'"))
        play.client(extended("SELECT id FROM customers"))
        assert who(play) == name
        assert kinds(play.to_server()) == "PBEPBDCPCBCEPBDE"
        play.client(parse("COMMIT"), bind(), execute(), SYNC)
        play.server(PARSED, BOUND, complete("BEGIN"), PARSED, BOUND, NO_DATA)
        play.server(CLOSED, PARSED, CLOSED, BOUND, CLOSED, complete("SET"))
        play.server(PARSED, BOUND, row_description(), rows(3), complete("SELECT 3"))
        play.to_server()
        play.server(PARSED, BOUND, complete("COMMIT"), ready())
        assert who(play) == ""
        assert not errors(play.to_client())
    (record,) = [each for each in play.journal.records if "customers" in each.template][1:]
    assert (record.rows, record.verdict) == (3, Verdict.ALLOWED)


def test_what_the_server_skips_names_nobody() -> None:
    play = begun(book())
    play.client(extended("SELECT 1/0"), extended(f"SET LOCAL rowgate.token = '{KIM}'"), SYNC)
    play.server(PARSED, BOUND, row_description(), error(), ready("E"))
    assert who(play) == ""
    play.client(query("ROLLBACK")).server(complete("ROLLBACK"), ready())
    assert who(play) == ""
    assert play.session.conversation.setting is None


def test_the_next_group_waits_until_it_is_known_who_counts() -> None:
    play = begun(book())
    play.client(set_local(KIM), SELECT, query("COMMIT"), SELECT).says_to_server(said("kim"))
    play.server(complete("SET"), ready("T")).says_to_server(SELECT, query("COMMIT"))
    assert who(play) in {"", "kim"}
    play.server(row_description(), rows(1), complete(), ready("T"), complete("COMMIT"), ready()).says_to_server(SELECT)
    assert who(play) == ""


# The seal


def answered(process: int = 7, start: int = 8, transaction: int = 9) -> bytes:
    fields = struct.pack("!HIiIqIq", 3, 4, process, 8, start, 8, transaction)
    return PARSED + BOUND + message("D", fields) + complete() + CLOSED + CLOSED


def test_a_seal_takes_the_servers_word_on_session_and_transaction() -> None:
    play = begun(book(sealed=True))
    play.client(set_local(KIM), SELECT)
    assert kinds(play.to_server()) == "PBECCS"
    play.to_client()
    play.server(answered(), ready("T")).says_to_client().says_to_server(said("kim/7-8/9"))
    play.server(complete("SET"), ready("T")).says_to_client(complete("SET"), ready("T")).says_to_server(SELECT)


def test_for_the_session_it_is_asked_once() -> None:
    play = book(sealed=True).client(query(f"SET rowgate.token = '{KIM}'"))
    assert kinds(play.to_server()) == "PBECCS"
    play.server(answered(), ready()).says_to_server(said("kim/7-8/session", local=False))
    play.server(complete("SET"), ready())
    play.client(query(f"SET rowgate.token = '{LEE}'")).says_to_server(said("lee/7-8/session", local=False))


def test_a_question_that_fails_is_the_statements_error() -> None:
    play = begun(book(sealed=True))
    play.client(set_local(KIM), SELECT).to_server()
    play.to_client()
    play.server(error("25P02", "current transaction is aborted")).server(ready("E"))
    play.says_to_client(error("25P02", "current transaction is aborted"), ready("E")).says_to_server(SELECT)
    assert who(play) == ""


def test_a_question_in_a_pipeline_that_fails_skips_the_rest() -> None:
    play = begun(book(sealed=True))
    play.client(extended(f"SET LOCAL rowgate.token = '{KIM}'"), extended("SELECT 1"), SYNC)
    assert kinds(play.to_server()) == "PBDPBECCH"
    play.server(PARSED, BOUND, NO_DATA, PARSED, error("57014"))
    assert KIM.encode() not in (sent := play.to_server())
    assert kinds(sent)[-1:] == "S"
    play.server(ready("E"))
    assert [each["C"] for each in errors(play.to_client())] == ["57014"]
    assert who(play) == ""


def test_a_session_that_the_server_will_not_name_gets_no_seal() -> None:
    play = begun(book(sealed=True))
    play.client(set_local(KIM)).to_server()
    play.server(PARSED, BOUND, message("D", struct.pack("!HIiiIq", 3, 4, 7, -1, 8, 9)), complete(), CLOSED, CLOSED)
    play.server(ready("T"))
    assert kinds(play.to_server()) == "Q"
    play.server(error("42601"), ready("E"))
    assert errors(play.to_client())[0]["C"] == "28000"


def test_a_text_is_sealed_inside_its_own_transaction() -> None:
    play = book(sealed=True).client(query(f"SET LOCAL rowgate.token = '{KIM}'; SELECT id FROM customers"))
    assert kinds(sent := play.to_server()) == "PBEPBECCS"
    assert b"BEGIN" in sent
    play.server(PARSED, BOUND, complete("BEGIN"), answered(), ready("T")).says_to_client()
    assert b"SET LOCAL rowgate.end_user = 'kim/7-8/9'" in play.to_server()
    play.server(complete("SET"), ready("T"))
    assert who(play) == "kim"
    assert b"SELECT id" in play.to_server()
    play.server(row_description(), rows(1), complete(), ready("T")).says_to_server(query("COMMIT"))
    play.server(complete("COMMIT"), ready())
    assert kinds(play.to_client()) == "CTDCZ"
    assert who(play) == ""


def test_a_text_whose_question_fails_is_rolled_back() -> None:
    play = book(sealed=True).client(query(f"SET LOCAL rowgate.token = '{KIM}'; SELECT id FROM customers"))
    play.to_server()
    play.server(PARSED, BOUND, complete("BEGIN"), PARSED, error("57014"), ready("E")).says_to_server(query("ROLLBACK"))
    play.server(complete("ROLLBACK"), ready())
    assert kinds(play.to_client()) == "EZ"
    play.client(SELECT).says_to_server(SELECT)
    assert who(play) == ""


# Whom the log-in has named


@pytest.mark.parametrize("sealed", [True, False])
def test_the_server_is_told_whom_the_log_in_has_named(sealed: bool) -> None:
    play = book(sealed=sealed, first="kim").client(SELECT)
    if sealed:
        assert kinds(play.to_server()) == "PBECCS"
        play.server(answered(), ready())
    assert b"SET rowgate.end_user = 'kim" in (sent := play.to_server())
    assert kinds(sent) == "PBECCS"
    play.server(PARSED, BOUND, complete("SET"), CLOSED, CLOSED, ready()).says_to_client().says_to_server(SELECT)
    assert who(play) == "kim"
    play.server(row_description(), complete("SELECT 0"), ready())
    play.client(query("DISCARD ALL"), SELECT).says_to_server(query("DISCARD ALL"))
    play.server(complete("DISCARD ALL"), ready())
    assert who(play) == "kim"
    assert b"SET rowgate.end_user = 'kim" in play.to_server()  # again
    play.server(PARSED, BOUND, complete("SET"), CLOSED, CLOSED, ready()).says_to_server(SELECT)


def test_a_server_that_cannot_be_told_gets_no_statement() -> None:
    play = book(first="kim").client(SELECT)
    play.to_server()
    play.server(PARSED, error("42501"), ready())
    assert play.ended
    assert b"customers" not in play.to_server()


# What policy asks


def test_nobody_reads_where_an_end_user_is_required() -> None:
    play = book(ENFORCE + REQUIRED).client(SELECT)
    play.server(error("42601"), ready())
    (told,) = errors(play.to_client())
    assert (told["C"], "SET LOCAL rowgate.token" in told["H"]) == ("42501", True)
    play.to_server()
    play.client(query(f"SET rowgate.token = '{KIM}'"), SELECT)
    play.server(complete("SET"), ready()).says_to_server(said("kim", local=False), SELECT)


def test_per_transaction_nobody_inherits_the_last_end_user() -> None:
    play = book(ENFORCE + EACH)
    play.client(query(f"SET rowgate.token = '{KIM}'"))
    play.server(error("42601"), ready())
    assert errors(play.to_client())[0]["C"] == "28000"
    play.to_server()
    begun(play).client(query(f"SET rowgate.token = '{KIM}'")).says_to_server(said("kim", local=False))
    play.server(complete("SET"), ready("T")).client(SELECT).says_to_server(SELECT)
    play.server(row_description(), complete("SELECT 0"), ready("T"))
    play.client(query("COMMIT")).server(complete("COMMIT"), ready())
    assert who(play) == ""
    play.to_server()
    begun(play).client(SELECT)
    play.server(error("42601"), ready("E"))
    assert "requires an end user" in errors(play.to_client())[-1]["M"]


def test_per_transaction_a_log_in_counts_for_nothing() -> None:
    play = book(ENFORCE + EACH, first="kim")
    play.says_to_server()
    assert who(play) == ""


def test_a_token_counts_until_it_expires() -> None:
    play = book(ENFORCE + REQUIRED)
    issuer = play.world.tokens
    assert isinstance(issuer, Issuer)
    issuer.people[KIM] = person("kim", expires=play.clock.wall() + 10.0)
    play.client(query(f"SET rowgate.token = '{KIM}'")).server(complete("SET"), ready()).to_server()
    play.client(SELECT).says_to_server(SELECT).server(row_description(), complete("SELECT 0"), ready()).to_client()
    play.wait(10.0).client(SELECT)
    assert b"customers" not in play.to_server()


def test_another_policy_decides_anew() -> None:
    play = book(ENFORCE + REQUIRED).client(query(f"SET rowgate.token = '{KIM}'"))
    play.server(complete("SET"), ready()).to_server()
    for policy, expected in ((ENFORCE + REQUIRED + limit(), "kim"), (ENFORCE + EACH, "")):
        play.world.adopt(policy)
        subject = play.world.subject()
        play.session.judged_by(play.world.evaluator.judge_for(subject), play.world.terms(subject))
        assert who(play) == expected


def test_an_end_user_has_no_business_in_a_literal_but_as_text() -> None:
    play = begun(book())
    play.client(set_local(token_of("o'kim"))).says_to_server(query("SET LOCAL rowgate.end_user = E'o\\u0027kim'"))


def test_a_flood_of_refused_tokens_is_slowed_and_ended() -> None:
    play = book(warm=False)
    for number in range(600):
        play.client(query(f"SET rowgate.token = '{KIM}{number}'")).token_verified(EXPIRED).wait(0.1)
        if play.ended:
            break
        play.server(error("42601"), ready())
    assert play.ended


def test_two_tokens_of_one_statement() -> None:
    play = begun(book(warm=False))
    text = f"SELECT set_config('rowgate.token', '{KIM}', true), set_config('rowgate.token', '{LEE}', true)"
    play.client(query(text)).token_verified(person("kim")).token_verified(person("lee"))
    assert b"'lee', true)" in (sent := play.to_server())
    assert b"'kim', true)" in sent
    play.server(row_description(), row(b"kim"), complete(), ready("T"))
    assert who(play) == "lee"
