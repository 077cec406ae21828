"""Changes of a group's members that need not know the others: what directories send all day, for groups of any size."""

from dataclasses import dataclass, field
from typing import Any, Final

from scim2_models import PatchOp, PatchOperation, Path, Resource, ResourceType
from scim2_models.path import CompareOperator, Comparison, FilterNode
from scim2_server.conditions import Conditions
from scim2_server.handler import ScimHandler
from scim2_server.requests import ScimRequest
from scim2_server.responses import ScimResponse
from scim2_server.service import ScimService

from rowgate.api.scim_store import GROUP, DirectoryStorage, is_group
from rowgate.identity.people import Member

# With these a caller wants to see the group afterwards, and so all of it is read.
_SELECTING: Final = {"attributes", "excludedattributes"}


@dataclass(slots=True)
class MemberChange:
    """Who comes into a group and who goes out of it, by id."""

    new: dict[str, Member] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def add(self, member: Member) -> None:
        """Let a member come in, also if an operation before has put him out."""
        self.gone.discard(member.id)
        self.new[member.id] = member

    def remove(self, id_: str) -> None:
        """Let a member go out, also if an operation before has let him in."""
        self.new.pop(id_, None)
        self.gone.add(id_)


class MemberHandler(ScimHandler):
    """scim2-server's handler, which applies what is nothing but a change of members without reading the others."""

    def __init__(self, service: ScimService, storage: DirectoryStorage) -> None:
        super().__init__(service, storage)
        self._storage = storage
        self._selecting = False

    def patch(self, request: ScimRequest) -> ScimResponse:
        """Modify a resource (RFC 7644, 3.5.2)."""
        self._selecting = not _SELECTING.isdisjoint(name.lower() for name in request.query)
        return super().patch(request)

    def patch_resource(
        self, resource_type: ResourceType, resource_id: str, patch_op: "PatchOp[Any]", conditions: Conditions
    ) -> Resource[Any]:
        """Apply a PATCH that has been validated; return what it has made of the resource."""
        change = None if resource_type.name != GROUP or self._selecting else member_change(patch_op)
        if change is None:
            return super().patch_resource(resource_type, resource_id, patch_op, conditions)
        current = self._storage.version(resource_id)
        self.service.check_preconditions(current, "PATCH", conditions)
        version = current.meta.version if current.meta is not None else None
        return self._storage.change_members(resource_id, [*change.new.values()], [*change.gone], str(version))


def member_change(patch: "PatchOp[Any]") -> MemberChange | None:
    """Return what a PATCH says if it only adds members or removes some by their id, None: it says something else."""
    change = MemberChange()
    for operation in patch.operations or []:
        if operation.path is None or not _apply(operation, operation.path, change):
            return None
    return change


def _apply(operation: "PatchOperation[Any]", path: "Path[Any]", change: MemberChange) -> bool:
    if operation.op is PatchOperation.Op.add and str(path).lower() == "members":
        members = [_member(entry) for entry in _entries(operation.value)]
        for member in members:
            if member is None:
                return False
            change.add(member)
        return bool(members)
    ids = _removed(operation, path) if operation.op is PatchOperation.Op.remove else []
    for id_ in ids:
        change.remove(id_)
    return bool(ids)


def _removed(operation: "PatchOperation[Any]", path: "Path[Any]") -> list[str]:
    """Return the ids of the members to remove, none: it is not said by their ids alone."""
    if str(path).lower() == "members":
        ids = [entry.get("value") if set(entry) == {"value"} else None for entry in _entries(operation.value)]
    elif str(path).lower().startswith("members[") and str(path).endswith("]") and operation.value is None:
        ids = [_equal_value(path.value_filter)]
    else:
        ids = []
    found = [id_ for id_ in ids if isinstance(id_, str)]
    return found if len(found) == len(ids) else []


def _equal_value(node: FilterNode | None) -> str | None:
    """Return the id in ``value eq "…"``, None: it is another filter."""
    if not isinstance(node, Comparison) or node.op is not CompareOperator.eq or not isinstance(node.value, str):
        return None
    return node.value if str(node.attr_path).lower() == "value" else None


def _entries(value: Any) -> list[dict[str, Any]]:
    """Return the members that an operation names as objects, none: it names them in another way."""
    entries = value if isinstance(value, list) else [value]
    return entries if all(isinstance(entry, dict) for entry in entries) else []


def _member(entry: dict[str, Any]) -> Member | None:
    """Return a member as it is sent, None: it is not as usual, and left to scim2-models to judge."""
    id_, kind, reference, display = (entry.get(name) for name in ("value", "type", "$ref", "display"))
    if not isinstance(id_, str) or not id_ or set(entry) - {"value", "type", "$ref", "display"}:
        return None
    if not all(isinstance(each, str | None) for each in (kind, reference, display)):
        return None
    return Member(id_, is_group(kind, reference), display)
