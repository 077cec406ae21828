"""SCIM as others test it: scim2-tester's checks, Okta's specification test, Entra's requests; on the real server."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from scim2_client import BaseSyncSCIMClient
from scim2_tester import check_server
from scim2_tester.utils import Status

from api.api_harness import ServedApi
from rowgate.clock import ManualClock

# What the checker may find: a deviation would be one from a recommendation.
FINE = {Status.SUCCESS, Status.COMPLIANT, Status.ACCEPTABLE, Status.SKIPPED}


class Client(BaseSyncSCIMClient):
    """scim2-client over the httpx that we use."""

    def __init__(self, client: httpx.Client, clock: ManualClock) -> None:
        super().__init__()
        self.client = client
        self.clock = clock

    def _stays_under_base_url(self, endpoint: str) -> bool:
        return True

    def _parse_json(self, response: Any) -> Any:
        return response.json()

    def request(self, method: str, url: str, **options: Any) -> Any:
        self.clock.advance(1)  # as slow as a directory is asked to be
        return self.client.request(method, url, **options)


def test_the_checker_finds_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    with ServedApi(tmp_path, clock=clock) as api, api.scim() as client:
        results = check_server(Client(client, clock))
    wrong = [f"{each.title}: {each.reason}" for each in results if each.status not in FINE]
    # Whoever was deactivated stays so when a directory no longer says anything about it.
    wrong = [each for each in wrong if each != "check_remove_attribute: Attribute 'active' was not removed"]
    assert wrong == []
    assert len(results) > 100
    assert api.heard.failures == []


USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"

OKTA_USER = {
    "schemas": [USER],
    "userName": "Runscope300@shop.example",
    "name": {"givenName": "Runscope", "familyName": "Blaze"},
    "emails": [{"primary": True, "value": "runscope300@shop.example", "type": "work"}],
    "displayName": "Runscope Blaze",
    "active": True,
}
ENTRA_USER = {
    "schemas": [USER, ENTERPRISE],
    "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef",
    "userName": "Test_User_ab6490ee",
    "active": True,
    "emails": [{"primary": True, "type": "work", "value": "test_user_ab6490ee@shop.example"}],
    "meta": {"resourceType": "User"},
    "name": {"formatted": "givenName familyName", "familyName": "familyName", "givenName": "givenName"},
    "roles": [],
    ENTERPRISE: {"department": "Support"},
}


def ids(answer: httpx.Response) -> list[str]:
    """The ids that a list has, which is one by its form."""
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert content["schemas"] == [LIST]
    assert content["totalResults"] >= len(content.get("Resources", []))
    assert content["itemsPerPage"] == len(content.get("Resources", []))
    return [resource["id"] for resource in content.get("Resources", [])]


def assert_error(answer: httpx.Response, status: int, kind: str | None = None) -> None:
    content = answer.json()
    assert answer.headers["content-type"].startswith("application/scim+json")
    assert (answer.status_code, content["status"], content["schemas"]) == (status, str(status), [ERROR]), content
    assert content["detail"]
    assert content.get("scimType") == kind


def post(client: httpx.Client, path: str, content: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(path, json=content)
    assert answer.status_code == 201, answer.text
    added: dict[str, Any] = answer.json()
    assert answer.headers["location"] == added["meta"]["location"]
    return added


def patch(client: httpx.Client, path: str, *operations: dict[str, Any]) -> None:
    answer = client.patch(path, json={"schemas": [PATCH], "Operations": operations})
    assert answer.status_code in {200, 204}, answer.text


def test_okta_specification(api: ServedApi) -> None:
    """Okta's "SCIM 2.0 SPEC Test", step by step."""
    with api.scim() as client:
        client.headers.update({"User-Agent": "OKTA SCIM Integration", "Accept": "application/scim+json"})
        post(client, "/Users", {**OKTA_USER, "userName": "first@shop.example"})
        page = client.get("/Users?count=1&startIndex=1")
        first = page.json()["Resources"][0]
        assert ids(page) == [first["id"]]
        assert page.json()["startIndex"] == 1
        for user in (first, client.get(f"/Users/{first['id']}").json()):
            assert user["name"]["familyName"]
            assert user["name"]["givenName"]
            assert user["userName"] == "first@shop.example"
            assert user["active"] is True
            assert user["emails"][0]["value"]
        assert ids(client.get('/Users?filter=userName eq "abcdefgh@shop.example"')) == []
        assert_error(client.get("/Users/010101001010101011001010101011"), 404)
        user = post(client, "/Users", OKTA_USER)
        assert {**user, **OKTA_USER} == user
        assert client.get(f"/Users/{user['id']}").json()["userName"] == OKTA_USER["userName"]
        assert_error(client.post("/Users", json=OKTA_USER), 409, "uniqueness")
        assert ids(client.get('/Users?filter=userName eq "RUNSCOPE300@SHOP.EXAMPLE"')) == [user["id"]]
        assert ids(client.get("/Groups")) == []
        assert_error(client.get("/Users", headers={"Authorization": "non-token"}), 401)
        assert_error(client.get("/Users/00919288221112222"), 404)


def test_okta_life_of_a_person(api: ServedApi) -> None:
    """As Okta's CRUD test has it: assigned, updated by PUT, deactivated, reactivated, put into a pushed group."""
    with api.scim() as client:
        user = post(client, "/Users", OKTA_USER)
        path = f"/Users/{user['id']}"
        renamed = {**OKTA_USER, "id": user["id"], "name": {"givenName": "Another", "familyName": "Blaze"}}
        assert client.put(path, json=renamed).json()["name"]["givenName"] == "Another"
        patch(client, path, {"op": "replace", "value": {"active": False}})
        assert client.get(path).json()["active"] is False
        patch(client, path, {"op": "replace", "value": {"active": True}})
        assert client.get(path).json()["active"] is True
        group = post(client, "/Groups", {"schemas": [GROUP], "displayName": "Support", "members": []})
        at = f"/Groups/{group['id']}"
        member = {"value": user["id"], "display": "Runscope300@shop.example"}
        patch(client, at, {"op": "add", "path": "members", "value": [member]})
        patch(client, at, {"op": "replace", "value": {"id": group["id"], "displayName": "Support people"}})
        assert client.get(path).json()["groups"][0]["display"] == "Support people"
        patch(client, at, {"op": "remove", "path": f'members[value eq "{user["id"]}"]'})
        assert "groups" not in client.get(path).json()
        patch(client, at, {"op": "replace", "path": "members", "value": [member]})
        assert client.get(at).json()["members"][0]["value"] == user["id"]
        assert client.delete(at).status_code == 204
        assert len(api.heard.told("left")) == 1


def test_entra_people(api: ServedApi) -> None:
    """As Entra's reference and validator have it."""
    with api.scim() as client:
        assert ids(client.get('/Users?filter=externalId eq "7a6e2bf1"')) == []
        user = post(client, "/Users", ENTRA_USER)
        path = f"/Users/{user['id']}"
        for condition in (
            'userName eq "test_user_ab6490ee"',
            'externalId eq "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef"',
            'emails[type eq "work"].value eq "test_user_ab6490ee@shop.example"',
            'emails.value eq "TEST_USER_AB6490EE@shop.example"',
            f'{USER}:userName eq "Test_User_ab6490ee" and active eq true',
        ):
            answer = client.get("/Users", params={"filter": condition})
            assert ids(answer) == [user["id"]], condition
        patch(
            client,
            path,
            {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "updated@shop.example"},
            {"op": "Replace", "path": "name.familyName", "value": "updatedFamilyName"},
            {"op": "Add", "path": 'phoneNumbers[type eq "mobile"].value', "value": "tel:+82-2-555"},
            {"op": "Add", "path": f"{ENTERPRISE}:manager", "value": "26118915"},
            {"op": "Replace", "path": f"{ENTERPRISE}:department", "value": "Fraud"},
        )
        patch(
            client, path, {"op": "Replace", "value": {"name.givenName": "updatedGivenName", "userType": "Contractor"}}
        )
        changed = client.get(path).json()
        assert changed["emails"][0]["value"] == "updated@shop.example"
        assert changed["name"]["givenName"] == "updatedGivenName"
        assert changed["phoneNumbers"][0] == {"type": "mobile", "value": "tel:+82-2-555"}
        assert changed[ENTERPRISE]["manager"]["value"] == "26118915"
        assert ("Test_User_ab6490ee" in api.heard.told("moved")[0]) is True
        patch(client, path, {"op": "Replace", "path": "active", "value": "False"})
        found = client.get("/Users", params={"filter": 'userName eq "Test_User_ab6490ee"'}).json()["Resources"][0]
        assert found["active"] is False
        assert client.delete(path).status_code == 204
        assert ids(client.get("/Users", params={"filter": 'userName eq "Test_User_ab6490ee"'})) == []


def test_entra_groups(api: ServedApi) -> None:
    with api.scim() as client:
        people = [
            post(client, "/Users", {**ENTRA_USER, "userName": f"user{n}", "externalId": f"e{n}"}) for n in range(3)
        ]
        content = {"schemas": [GROUP, "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group"]}
        group = post(client, "/Groups", {**content, "externalId": "8aa1a0c0", "displayName": "displayName"})
        path = f"/Groups/{group['id']}"
        assert ids(client.get("/Groups", params={"filter": 'displayName eq "displayName"'})) == [group["id"]]
        assert "members" not in client.get(f"{path}?excludedAttributes=members").json()
        patch(client, path, {"op": "Replace", "path": "displayName", "value": "1879db59"})
        members = [{"$ref": None, "value": person["id"]} for person in people]
        patch(client, path, {"op": "Add", "path": "members", "value": members})
        assert len(client.get(path).json()["members"]) == 3
        found = client.get("/Groups", params={"filter": f'id eq "{group["id"]}" and members eq "{people[0]["id"]}"'})
        assert ids(found) == [group["id"]]
        patch(client, path, {"op": "Remove", "path": "members", "value": members[:1]})
        patch(client, path, {"op": "Remove", "path": f'members[value eq "{people[1]["id"]}"]'})
        assert [member["value"] for member in client.get(path).json()["members"]] == [people[2]["id"]]
        assert client.delete(path).status_code == 204
        assert_error(client.get(path), 404)


def test_pages_are_of_a_bounded_size(api: ServedApi) -> None:
    with api.scim() as client:
        added = [post(client, "/Users", {"schemas": [USER], "userName": f"user{n:03}"})["id"] for n in range(205)]
        assert ids(client.get("/Users")) == added[:200]
        assert ids(client.get("/Users?startIndex=201&count=1000")) == added[200:]
        assert ids(client.get("/Users?startIndex=2&count=2")) == added[1:3]
        assert ids(client.get("/Users?startIndex=-3&count=1")) == added[:1]
        assert ids(client.get("/Users?count=0")) == []
        assert ids(client.get("/Users?startIndex=99999999999999999999")) == []
        assert client.get("/Users?count=0").json()["totalResults"] == 205
        assert len(ids(client.get("/Users", params={"filter": 'userName sw "user00"'}))) == 10
        assert len(ids(client.get("/Users", params={"filter": 'not (userName co "user0")', "count": "3"}))) == 3
        assert ids(client.get("/Users", params={"filter": "title pr or displayName pr"})) == []


def operation(**members: Any) -> dict[str, Any]:
    return {"schemas": [PATCH], "Operations": [members]}


MISTAKES: list[tuple[str, Any, int, str | None]] = [
    ("GET /Users?filter=userName eq", None, 400, "invalidFilter"),
    ('GET /Users?filter=userName like "x"', None, 400, "invalidFilter"),
    ("GET /Users?filter=" + "(" * 3_000, None, 400, "invalidFilter"),
    ("GET /Users?count=x", None, 400, "invalidValue"),
    ("GET /Users?sortBy=userName", None, 501, None),
    ("POST /Users", b"{", 400, "invalidSyntax"),
    ("POST /Users", b"[" * 100_000, 400, "invalidSyntax"),
    ("POST /Users", b"\xff", 400, "invalidSyntax"),
    ("POST /Users", {"schemas": [USER]}, 400, "invalidValue"),
    ("POST /Users", {"schemas": [USER], "userName": "x" * 600}, 400, "invalidValue"),
    ("POST /Users", {"schemas": [USER], "userName": "a\0b"}, 400, "invalidValue"),
    ("POST /Users", {"schemas": [USER], "userName": "\ud800"}, 400, "invalidSyntax"),
    ("PATCH /Users/{id}", operation(op="replace", path="id", value="1"), 400, "mutability"),
    ("PATCH /Users/{id}", operation(op="replace", path="a[", value="1"), 400, "invalidPath"),
    ("PATCH /Users/{id}", operation(op="remove"), 400, "noTarget"),
    ("PATCH /Users/{id}", operation(op="explode"), 400, "invalidValue"),
    ("PATCH /Users/nobody", operation(op="replace", value={"active": False}), 404, None),
    ("DELETE /Groups/nobody", None, 404, None),
    ("POST /Bulk", {"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": []}, 501, None),
    ("GET /Me", None, 501, None),
    ("GET /Nothing", None, 404, None),
    ("DELETE /Users", None, 405, None),
    ("GET /Schemas?filter=id pr", None, 403, None),
]


@pytest.mark.parametrize(("request_line", "content", "status", "kind"), MISTAKES)
def test_mistakes_are_told_as_scim_tells_them(
    api: ServedApi, request_line: str, content: Any, status: int, kind: str | None
) -> None:
    method, _, path = request_line.partition(" ")
    with api.scim() as client:
        kim = post(client, "/Users", {"schemas": [USER], "userName": "kim"})
        body = content if isinstance(content, bytes | None) else json.dumps(content)
        assert_error(client.request(method, path.replace("{id}", kim["id"]), content=body), status, kind)
    assert api.heard.failures == []


def test_versions_keep_changes_apart(api: ServedApi) -> None:
    with api.scim() as client:
        user = post(client, "/Users", OKTA_USER)
        path, version = f"/Users/{user['id']}", user["meta"]["version"]
        assert client.get(path).headers["etag"] == version
        assert client.get(path, headers={"If-None-Match": version}).status_code == 304
        other = {**OKTA_USER, "displayName": "Other"}
        assert client.put(path, json=other, headers={"If-Match": version}).status_code == 200
        assert_error(client.put(path, json=OKTA_USER, headers={"If-Match": version}), 412)
        assert_error(client.delete(path, headers={"If-Match": version}), 412)


def test_what_the_service_says_of_itself(api: ServedApi) -> None:
    with api.scim() as client:
        config = client.get("/ServiceProviderConfig").json()
        supported = {name for name, value in config.items() if isinstance(value, dict) and value.get("supported")}
        assert supported == {"patch", "filter", "etag"}
        assert {each["id"] for each in client.get("/Schemas").json()["Resources"]} == {USER, GROUP, ENTERPRISE}
        assert [each["endpoint"] for each in client.get("/ResourceTypes").json()["Resources"]] == ["/Users", "/Groups"]
