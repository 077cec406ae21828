"""SCIM 2.0 (RFC 7643, RFC 7644): a directory tells who there is, who is active, and who is in which group.

The protocol is scim2-server's, which does no I/O; what is kept is the Directory's. Its policy is what Entra and Okta
need beyond the letter: unknown attributes are ignored, a PATCH may name in its value what to remove, and a path whose
filter matches nothing adds what it describes. All of it runs in a thread of its own: large groups take a while, and the
loop has traffic to carry.

Every answer comes after what followed from it: once a directory is told that somebody is deactivated, his names are
revoked. What could not be followed is kept and tried again.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from scim2_models import (
    AuthenticationScheme,
    Bulk,
    ChangePassword,
    EnterpriseUser,
    ETag,
    Filter,
    Group,
    InvalidFilterException,
    Patch,
    PatchOp,
    PatchOperation,
    ResourceType,
    SCIMException,
    ScimPolicy,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
    User,
)
from scim2_server.requests import ScimRequest
from scim2_server.responses import ScimResponse
from scim2_server.service import ScimService
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from rowgate.api import scim_description
from rowgate.api.description import Operation
from rowgate.api.scim_members import MemberHandler
from rowgate.api.scim_store import DirectoryStorage, Person
from rowgate.identity.directory import Directory
from rowgate.identity.people import Change, ChangeKind

PREFIX: Final = "/scim/v2"
# Resources of one answer; whoever wants more asks for the next page.
MAX_RESULTS: Final = 200

_Result = TypeVar("_Result")


class Follower(Protocol):
    """Who acts on what a directory has said. Called in the loop; what raises is tried again later."""

    def left(self, change: Change) -> None:
        """Revoke the names of ``change``: they are no active person's any more."""
        ...

    def returned(self, change: Change) -> None:
        """Lift what was revoked of these names because the directory had said so, and nothing else."""
        ...

    def moved(self, change: Change) -> None:
        """Take note that a person has another position, or is in other groups."""
        ...


class ScimEndpoint:
    """The ASGI application under ``PREFIX``; the gate in front of it has let only a directory's token through."""

    def __init__(self, directory: Directory, follower: Follower, public: str = "") -> None:
        """``public``: the address that callers know the API by, "" for the one they ask for (https://host:port)."""
        self._directory = directory
        self._follower = follower
        self._public = public.rstrip("/")
        self._service = _Service(_provider())
        self._handler = MemberHandler(self._service, DirectoryStorage(directory))
        self._thread = ThreadPoolExecutor(1, "scim")
        self._following = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        asked = ScimRequest(
            method=request.method,
            base_url=(self._public or f"{request.url.scheme}://{request.url.netloc}") + PREFIX,
            path=request.url.path.removeprefix(PREFIX) or "/",
            query=dict(request.query_params),
            headers=request.headers.items(),
            body=await request.body(),
        )
        answer = await self._run(lambda: self._answer(asked))
        await self.catch_up()
        await _response(answer)(scope, receive, send)

    async def catch_up(self) -> None:
        """Act on what nobody has acted on yet, of earlier processes too; raises what the follower or the file does."""
        async with self._following:
            while changes := await self._run(self._directory.pending):
                for change in changes:
                    self._follow(change)
                    await self._run(partial(self._directory.acknowledge, change.number))

    def operations(self) -> list[Operation]:
        """Return what there is, for the API's description."""
        return scim_description.operations(PREFIX, self._service.provider)

    def close(self) -> None:
        """End the thread; the directory is its owner's to close."""
        self._thread.shutdown()

    def _answer(self, request: ScimRequest) -> ScimResponse:
        try:
            return self._handler.handle(request)
        except SCIMException as error:
            return self._service.error_response(error)
        except RecursionError:
            return self._service.error_response(InvalidFilterException(detail="nested too deeply to be understood"))

    def _follow(self, change: Change) -> None:
        {
            ChangeKind.LEFT: self._follower.left,
            ChangeKind.RETURNED: self._follower.returned,
            ChangeKind.MOVED: self._follower.moved,
        }[change.kind](change)

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class _Service(ScimService):
    """The protocol, with two more of Entra's ways."""

    def read_patch(self, resource_type: ResourceType, body: bytes, content_type: str | None) -> "PatchOp[Any]":
        """Read a PATCH; Entra gives members to remove a ``$ref`` of null, which is no member's, a manager as an id."""
        patch = super().read_patch(resource_type, body, content_type)
        for operation in patch.operations or []:
            if operation.op is PatchOperation.Op.remove and isinstance(operation.value, list):
                operation.value = [_by_value(entry) for entry in operation.value]
            elif isinstance(operation.value, str) and str(operation.path or "").lower().endswith(":manager"):
                operation.value = {"value": operation.value}
        return patch


def _by_value(entry: Any) -> Any:
    """Return what names an entry to remove: its ``value`` alone if it has one."""
    return {"value": entry["value"]} if isinstance(entry, dict) and "value" in entry else entry


def _provider() -> ScimProvider:
    """Describe the service: what it keeps, what it can do, and what it lets pass."""
    config = ServiceProviderConfig(
        documentation_uri=None,
        patch=Patch(supported=True),
        bulk=Bulk(supported=False, max_operations=0, max_payload_size=0),
        filter=Filter(supported=True, max_results=MAX_RESULTS),
        change_password=ChangePassword(supported=False),
        sort=Sort(supported=False),
        etag=ETag(supported=True),
        authentication_schemes=[
            AuthenticationScheme(
                type=AuthenticationScheme.Type.oauthbearertoken,
                name="Bearer token",
                description="A token of `rowgate api-token new` with the role scim",
                primary=True,
            )
        ],
    )
    policy = ScimPolicy(
        unknown=ScimPolicy.Unknown.ignore,
        remove_value_as_filter=ScimPolicy.RemoveValue.apply,
        unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
    )
    types = [ResourceType.from_resource(Person), ResourceType.from_resource(Group)]
    return ScimProvider([User, EnterpriseUser, Group], types, config, policy)


def _response(answer: ScimResponse) -> Response:
    headers = dict(answer.headers)
    media_type = headers.pop("Content-Type", None)
    if answer.body is None:
        return Response(status_code=answer.status, headers=headers)
    return JSONResponse(answer.body, answer.status, headers, media_type)
