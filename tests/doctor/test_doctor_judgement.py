"""Judgements that need no server: facts go in, findings come out."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from doctor.patient import POLICY
from policy.policies import snapshot
from rowgate.doctor.examination import FINE, HOLES, NOTES, WARNINGS, Report, examine
from rowgate.doctor.facts import (
    Database,
    Facts,
    File,
    HbaRule,
    ListenerCertificate,
    Role,
    Server,
    Sessions,
    Setup,
    Slot,
)
from rowgate.doctor.finding import Finding, Grade, NotKnownError, Remedy, Unreadable, known, listed, quoted
from rowgate.doctor.registry import CHECKS
from rowgate.policy.snapshot import Issuer
from rowgate.settings import settings_from

PROXY = ip_address("10.0.0.5")
NOW = 1_800_000_000.0
SETTINGS = {
    "listen_addresses": "*",
    "ssl": "on",
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "superuser_reserved_connections": "3",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "debug_print_parse": "off",
}
LINE = HbaRule("pg_hba.conf", 7, "hostssl", ("all",), ("all",), "10.0.0.5", "255.255.255.255", "scram-sha-256")
SERVER = Server(
    address="db:5432",
    version=180_000,
    looker="rowgate",
    login="rowgate",
    client_address=PROXY,
    settings=SETTINGS,
    hba=(LINE,),
    roles=(Role("rowgate", login=True), Role("postgres", login=True, superuser=True, bootstrap=True)),
    members=(("rowgate", "pg_signal_backend"),),
    secrets={},
    sessions=(),
    slots=(),
    subscriptions=(),
    role_settings=(),
    clock_ahead=0.0,
    clock_doubt=0.01,
    databases=(Database("shop"),),
)


def settings(**values: Any) -> Any:
    given = {"listen": "127.0.0.1:6432", "policy": "policy.yaml", "state": "state", "max_sessions": 80, **values}
    return settings_from({"upstream": "postgresql://rowgate@db?sslmode=verify-full&sslrootcert=system", **given})


SETUP = Setup(NOW, 0, settings(), snapshot(POLICY))


def judged(server: Server | None = SERVER, setup: Setup = SETUP) -> Report:
    return examine(Facts(setup, () if server is None else (server,)))


def found(server: Server = SERVER, setup: Setup = SETUP) -> list[str]:
    return [finding.found for finding in judged(server, setup).findings]


def test_a_sound_set_up_is_fine() -> None:
    report = judged()
    assert not report.findings
    assert report.status == FINE
    assert [check.name for check in report.fine] == [check.name for check in CHECKS]
    assert "takes their passwords" in NOTES[0]


def test_plain_text_on_a_network() -> None:
    off = replace(SERVER, settings={**SETTINGS, "ssl": "off"}, hba=(replace(LINE, kind="host"),))
    assert found(off) == ["ssl is off, and the server listens on *"]
    near = replace(SERVER, settings={**SETTINGS, "ssl": "off", "listen_addresses": "localhost, 127.0.0.2, ::1"})
    assert not found(near)
    plain = judged(replace(SERVER, hba=(replace(LINE, kind="host"),))).findings
    assert plain[0].found.startswith("pg_hba.conf:7 takes plain text from the network")
    assert plain[0].remedy.edits[0].new == "hostssl all all 10.0.0.5/32 scram-sha-256"


@pytest.mark.parametrize("mode", ["disable", "prefer", "require"])
def test_a_server_that_is_not_verified(mode: str) -> None:
    unverified = replace(SETUP, settings=settings(upstream=f"postgresql://rowgate@db?sslmode={mode}"))
    assert found(setup=unverified) == [f"sslmode={mode} to db:5432"]
    near = replace(SETUP, settings=settings(upstream=f"postgresql://rowgate@127.0.0.1?sslmode={mode}"))
    assert not found(setup=near)


def test_a_server_on_the_proxys_machine_need_not_listen_to_the_network() -> None:
    local = replace(SERVER, client_address=ip_address("127.0.0.1"), hba=())
    assert found(local) == ["the server listens on *, though the proxy is on its own machine"]
    assert not found(local, replace(SETUP, proxies=(ip_network("10.0.0.6"),)))


def test_a_server_that_takes_who_reaches_the_proxy_for_the_proxys_account() -> None:
    peer = replace(
        SERVER, client_address=None, hba=(replace(LINE, kind="local", address="", netmask="", method="peer"),)
    )
    peer = replace(peer, settings={**SETTINGS, "listen_addresses": ""})
    assert [each for each in found(peer) if "and the proxy comes by that way" in each]
    asked = replace(SETUP, settings=settings(auth="scram-sha-256", auth_file="users"))
    assert not found(peer, asked)


def test_sessions_from_other_machines() -> None:
    sessions = (
        Sessions("shop_app", "shop", PROXY, "", 40),
        Sessions("shop_app", "shop", ip_address("10.0.0.9"), "psql", 2),
        Sessions("copier", "", ip_address("10.0.0.8"), "", 1, replication=True),
    )
    report = judged(replace(SERVER, sessions=sessions))
    assert [(each.grade, each.found) for each in report.findings] == [
        (Grade.HOLE, "2 sessions of shop_app (database shop) from 10.0.0.9, psql, not through the proxy"),
        (Grade.HOLE, "1 session of copier (replication) from 10.0.0.8, no application_name, not through the proxy"),
    ]
    assert report.status == HOLES


def test_too_few_connections() -> None:
    many = replace(SETUP, settings=settings(max_sessions=98))
    assert found(setup=many)[0].startswith("the proxy may open 98 sessions (max_sessions), the server takes 97")
    reserved = replace(SERVER, settings={**SETTINGS, "reserved_connections": "20"})
    assert found(reserved)[0].startswith("the proxy may open 80 sessions (max_sessions), the server takes 77")


@pytest.mark.parametrize(
    ("ahead", "doubt", "grade"),
    [(1.5, 0.01, None), (-3.0, 0.01, Grade.WARNING), (40.0, 0.01, Grade.HOLE), (3.0, 2.0, None)],
)
def test_clocks_that_differ(ahead: float, doubt: float, grade: Grade | None) -> None:
    report = judged(replace(SERVER, clock_ahead=ahead, clock_doubt=doubt))
    assert [each.grade for each in report.findings] == ([] if grade is None else [grade])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (POLICY.replace("mode: enforce", "mode: monitor"), "the policy is in monitor: nothing is stopped"),
        (POLICY.replace("matched_clients: refuse", "matched_clients: admit"), "unmatched_clients: admit"),
        (
            POLICY + "statements:\n  - {name: anybody, mode: monitor, max_rows: 10}\n",
            "rules in monitor: anybody",
        ),
    ],
)
def test_a_policy_that_stops_little(text: str, expected: str) -> None:
    report = judged(setup=replace(SETUP, policy=snapshot(text)))
    assert expected in [each.found for each in report.findings]


def test_an_issuer_whose_signature_is_enough() -> None:
    issuer = Issuer("sso", "https://sso.example", ("rowgate",), "http://127.0.0.1/jwks.json", ("ES256",))
    report = judged(setup=replace(SETUP, policy=replace(snapshot(POLICY), issuers=(issuer,))))
    assert [each.found for each in report.findings if each.check == "policy"] == [
        "issuer sso: whether a token was ever issued is not checked",
        "issuer sso: its keys come by plain HTTP, http://127.0.0.1/jwks.json",
    ]


def test_files_that_others_may_read_or_change() -> None:
    sound = File(Path("/etc/rowgate/users"), "auth_file", secret=True, mode=0o640)
    for file, words in (
        (sound, ""),
        (replace(sound, mode=0o644), "others may read it (mode 0644)"),
        (replace(sound, mode=0o660), "others may change it (mode 0660)"),
        (replace(sound, secret=False, mode=0o644), ""),
        (replace(sound, secret=False, mode=0o664), "others may change it"),
        (replace(sound, directory=True, mode=0o700), ""),
        (replace(sound, directory=True, mode=0o750), "others may read it"),
        (replace(sound, owner=1000), "belongs to another account (uid 1000; this is 0)"),
        (replace(sound, problem="No such file or directory"), "No such file or directory"),
    ):
        texts = found(setup=replace(SETUP, files=(file,)))
        assert bool(texts) == bool(words), (file, texts)
        assert not words or words in texts[0]


def test_a_certificate_that_runs_out() -> None:
    day = 86_400.0
    for left, grade in ((60 * day, None), (20 * day, Grade.WARNING), (-day, Grade.HOLE)):
        certificate = ListenerCertificate(Path("proxy.pem"), NOW + left, ("db.example.com",))
        report = judged(setup=replace(SETUP, certificates=(certificate,)))
        assert [each.grade for each in report.findings] == ([] if grade is None else [grade])
    unusable = ListenerCertificate(Path("proxy.pem"), 0.0, (), "proxy.key: others have access to the key")
    assert found(setup=replace(SETUP, certificates=(unusable,))) == ["proxy.key: others have access to the key"]


def test_a_proxy_that_takes_plain_text_from_the_network() -> None:
    assert found(setup=replace(SETUP, settings=settings(listen="0.0.0.0:6432"))) == [
        "the proxy listens on 0.0.0.0:6432, without TLS"
    ]
    offered = settings(listen="0.0.0.0:6432", tls_certificate="proxy.pem", tls_key="proxy.key")
    assert not found(setup=replace(SETUP, settings=offered))
    lax = snapshot(POLICY.replace("[10.20.0.0/16], tls: require", "[10.20.0.0/16]"))
    assert found(setup=replace(SETUP, settings=offered, policy=lax)) == ["client rules that take plain text: shop"]


def test_administration_in_plain_text() -> None:
    for listen, expected in (("0.0.0.0:8443", ["HTTP is served on 0.0.0.0:8443, without TLS"]), ("127.0.0.1:8443", [])):
        given = settings(api_listen=listen, api_tokens_file="tokens")
        assert found(setup=replace(SETUP, settings=given)) == expected


def test_end_users_that_are_told_to_the_server_unsealed() -> None:
    issuer = Issuer("sso", "https://sso.example", ("rowgate",), "https://sso.example/keys", ("ES256",), recorded=True)
    told = replace(SETUP, policy=replace(snapshot(POLICY), issuers=(issuer,)))
    assert found(setup=told) == ["no seal_key_file is set, though the policy has issuers of tokens"]
    assert not found(setup=replace(told, settings=settings(seal_key_file="seal.key")))


def test_a_setting_that_cannot_be_seen_is_not_fine() -> None:
    report = judged(replace(SERVER, settings={"ssl": "on"}))
    assert all(each.grade is Grade.UNCHECKED for each in report.findings)
    assert report.status == WARNINGS
    assert 'GRANT pg_read_all_settings TO "rowgate";' in {sql for each in report.findings for sql in each.remedy.sql}


def test_without_policy_or_settings_their_checks_are_not_made() -> None:
    report = judged(setup=Setup(NOW, 0))
    assert {each.check for each in report.findings if each.grade is Grade.UNCHECKED} == {
        check.name for check in CHECKS if check.needs
    }
    assert report.status == WARNINGS


def test_a_server_that_could_not_be_asked_is_not_fine() -> None:
    report = examine(Facts(SETUP, (SERVER,), (("other:5432", "it did not answer"),)))
    assert [each.found for each in report.findings] == ["the server other:5432 could not be asked: it did not answer"]
    assert not [check.name for check in report.fine if check.servers]


def test_the_worst_comes_first() -> None:
    server = replace(SERVER, slots=(Slot("s", "", active=True),), hba=(replace(LINE, method="trust"),))
    assert [each.grade for each in judged(server).findings] == [Grade.HOLE, Grade.WARNING]


def test_hba_lines_are_written_as_one_types_them() -> None:
    odd = replace(LINE, databases=("my db",), users=("+team", "all"), method="ldap", options=("ldapserver=x",))
    assert odd.written() == 'hostssl "my db" +team,all 10.0.0.5/32 ldap ldapserver=x'
    six = replace(LINE, address="fd00::", netmask="ffff:ffff::")
    assert str(six.network) == "fd00::/32"
    assert replace(LINE, address="samenet", netmask="").network is None


def test_values() -> None:
    assert quoted('a"b') == '"a""b"'
    assert listed([str(number) for number in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
    assert known(3) == 3
    with pytest.raises(NotKnownError, match="why"):
        known(Unreadable("why"))
    assert Finding(Grade.HOLE, "found", "why", Remedy()).database == ""


@pytest.mark.parametrize(("member", "holders"), [("team", ["eve"]), ("pg_read_all_data", ["eve"]), ("nobody", [])])
def test_groups_are_followed(member: str, holders: list[str]) -> None:
    roles = (Role("eve", login=True), Role("team", login=False))
    server = replace(SERVER, roles=roles, members=(("eve", "team"), ("team", "pg_read_all_data"), ("team", "team")))
    assert server.holders(member) == holders
