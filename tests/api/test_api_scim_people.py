"""Somebody leaves: what a directory says, and what the rest of the proxy hears before the directory is answered."""

from typing import Any

import httpx
import pytest

from api.api_harness import ServedApi

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


def add(client: httpx.Client, name: str = "kim@shop.example", **more: Any) -> dict[str, Any]:
    answer = client.post("/Users", json={"schemas": [USER], "userName": name, "active": True, **more})
    assert answer.status_code == 201, answer.text
    added: dict[str, Any] = answer.json()
    return added


def patch(client: httpx.Client, id_: str, *operations: dict[str, Any]) -> httpx.Response:
    return client.patch(f"/Users/{id_}", json={"schemas": [PATCH], "Operations": operations})


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param({"op": "replace", "path": "active", "value": False}, id="rfc"),
        pytest.param({"op": "replace", "value": {"active": False}}, id="okta"),
        pytest.param({"op": "Replace", "path": "active", "value": "False"}, id="entra"),
        pytest.param({"op": "Replace", "path": f"{USER}:active", "value": False}, id="by the attribute's full name"),
        pytest.param({"op": "Add", "path": "active", "value": "false"}, id="entra, add"),
    ],
)
def test_a_deactivated_person_is_revoked_before_the_directory_is_answered(
    api: ServedApi, operation: dict[str, Any]
) -> None:
    with api.scim() as client:
        kim = add(client, emails=[{"value": "kim.lee@shop.example", "primary": True}])
        assert api.directory.is_active("kim@shop.example")
        answer = patch(client, kim["id"], operation)
        assert answer.status_code in {200, 204}, answer.text
        assert api.heard.told("left") == [("kim.lee@shop.example", "kim@shop.example")]
        assert client.get(f"/Users/{kim['id']}").json()["active"] is False


def test_a_deleted_person_is_revoked_and_unknown(api: ServedApi) -> None:
    with api.scim() as client:
        kim = add(client)
        assert client.delete(f"/Users/{kim['id']}").status_code == 204
        assert api.heard.told("left") == [("kim@shop.example",)]
        assert client.get(f"/Users/{kim['id']}").status_code == 404
        assert client.delete(f"/Users/{kim['id']}").status_code == 404


def test_who_is_active_again_is_restored(api: ServedApi) -> None:
    with api.scim() as client:
        kim = add(client)
        patch(client, kim["id"], {"op": "replace", "value": {"active": False}})
        patch(client, kim["id"], {"op": "replace", "value": {"active": True}})
        assert [change.kind for change in api.heard.changes] == ["returned", "left", "returned"]


def test_saying_the_same_again_revokes_nobody_anew(api: ServedApi) -> None:
    with api.scim() as client:
        kim = add(client)
        for _ in range(3):
            patch(client, kim["id"], {"op": "replace", "path": "active", "value": False})
        assert len(api.heard.told("left")) == 1


def test_a_put_that_does_not_say_active_does_not_deactivate(api: ServedApi) -> None:
    with api.scim() as client:
        kim = add(client)
        answer = client.put(f"/Users/{kim['id']}", json={"schemas": [USER], "userName": "kim@shop.example"})
        assert answer.status_code == 200
        assert api.heard.told("left") == []


def test_a_former_name_is_nobodys(api: ServedApi) -> None:
    with api.scim() as client:
        kim = add(client)
        patch(client, kim["id"], {"op": "replace", "path": "userName", "value": "kim.lee@shop.example"})
        assert api.heard.told("left") == [("kim@shop.example",)]
        assert api.heard.told("returned")[-1] == ("kim.lee@shop.example",)


def test_what_cannot_be_followed_is_an_error_and_is_made_up_for(api: ServedApi) -> None:
    with api.scim() as client:
        kim = add(client)
        api.heard.fails = True
        answer = patch(client, kim["id"], {"op": "replace", "path": "active", "value": False})
        assert answer.status_code == 500
        assert "no space" not in answer.text
        assert not api.directory.is_active("kim@shop.example")
        api.heard.fails = False
        api.run(api.endpoint.catch_up())
        assert api.heard.told("left") == [("kim@shop.example",)]


def test_a_password_is_kept_nowhere(api: ServedApi) -> None:
    with api.scim() as client:
        kim = add(client, password="hunter2-hunter2")
        patch(client, kim["id"], {"op": "replace", "path": "password", "value": "hunter3-hunter3"})
    for file in api.state.glob("identity.sqlite*"):
        assert b"hunter" not in file.read_bytes()
