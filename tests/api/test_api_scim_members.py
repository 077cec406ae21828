"""Members come and go without the others being read, and just as if they had been."""

import random
from pathlib import Path
from typing import Any

import pytest

from api.api_harness import ServedApi
from api.test_api_scim_conformance import GROUP, PATCH, assert_error, post
from rowgate.identity.people import MAX_MEMBERS


def entry(number: int) -> dict[str, Any]:
    return {"value": f"m{number}", "$ref": None}


def some_operation(rng: random.Random) -> dict[str, Any]:
    several = [entry(rng.randrange(6)) for _ in range(rng.randrange(1, 4))]
    return rng.choice(
        [
            {"op": "Add", "path": "members", "value": several},
            {"op": "remove", "path": "members", "value": several},
            {"op": "remove", "path": f'members[value eq "m{rng.randrange(6)}"]'},
        ]
    )


@pytest.mark.parametrize("seed", range(8))
def test_a_change_is_the_same_whether_the_others_are_read_or_not(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - nothing secret
    with ServedApi(tmp_path) as api, api.scim() as client:
        quick, slow = (post(client, "/Groups", {"schemas": [GROUP], "displayName": n})["id"] for n in ("a", "b"))
        for _ in range(10):
            content = {"schemas": [PATCH], "Operations": [some_operation(rng) for _ in range(rng.randrange(1, 4))]}
            assert client.patch(f"/Groups/{quick}", json=content).status_code == 204
            # Whoever wants to see some of it makes all of it be read.
            assert client.patch(f"/Groups/{slow}?attributes=displayName", json=content).status_code == 200
            members = [
                {member["value"] for member in client.get(f"/Groups/{id_}").json().get("members", [])}
                for id_ in (quick, slow)
            ]
            assert members[0] == members[1], content


def test_saying_what_is_so_already_is_no_change(api: ServedApi) -> None:
    with api.scim() as client:
        content = {"schemas": [GROUP], "displayName": "x", "members": [entry(1)]}
        group = post(client, "/Groups", content)
        operations = [
            {"op": "add", "path": "members", "value": [entry(1)]},
            {"op": "remove", "path": 'members[value eq "m2"]'},
        ]
        answer = client.patch(f"/Groups/{group['id']}", json={"schemas": [PATCH], "Operations": operations})
        assert answer.headers["etag"] == group["meta"]["version"]


def test_a_group_has_its_bound(api: ServedApi) -> None:
    with api.scim() as client:
        members = [entry(number) for number in range(MAX_MEMBERS)]
        group = post(client, "/Groups", {"schemas": [GROUP], "displayName": "x", "members": members})
        one_more = {"op": "add", "path": "members", "value": [entry(MAX_MEMBERS)]}
        path = f"/Groups/{group['id']}"
        assert_error(client.patch(path, json={"schemas": [PATCH], "Operations": [one_more]}), 400, "invalidValue")
        away = {"op": "remove", "path": "members", "value": [entry(0)]}
        assert client.patch(path, json={"schemas": [PATCH], "Operations": [away, one_more]}).status_code == 204
        post(client, "/Groups", {"schemas": [GROUP], "displayName": "y", "members": members[:2]})
        page = client.get("/Groups").json()  # what follows a large group is on the next page
        assert (page["totalResults"], page["itemsPerPage"]) == (2, 1)


def test_only_the_expected_version_of_a_group_is_changed(api: ServedApi) -> None:
    with api.scim() as client:
        group = post(client, "/Groups", {"schemas": [GROUP], "displayName": "x"})
        path, version = f"/Groups/{group['id']}", group["meta"]["version"]
        content = {"schemas": [PATCH], "Operations": [{"op": "add", "path": "members", "value": [entry(1)]}]}
        assert client.patch(path, json=content, headers={"If-Match": version}).status_code == 204
        assert_error(client.patch(path, json=content, headers={"If-Match": version}), 412)
        assert_error(client.patch("/Groups/nobody", json=content), 404)


@pytest.mark.parametrize("value", [[{"value": 1}], [{}], ["m1"], "m1", [{"value": "x" * 600}]])
def test_members_that_are_none_are_refused(api: ServedApi, value: Any) -> None:
    with api.scim() as client:
        group = post(client, "/Groups", {"schemas": [GROUP], "displayName": "x"})
        content = {"schemas": [PATCH], "Operations": [{"op": "add", "path": "members", "value": value}]}
        answer = client.patch(f"/Groups/{group['id']}", json=content)
        assert answer.status_code in {204, 400}, answer.text
        assert "members" not in client.get(f"/Groups/{group['id']}").json()
    assert api.heard.failures == []
