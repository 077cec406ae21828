"""The directory as scim2-server wants a storage: SCIM's resources to our people and groups, and back."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from scim2_models import (
    EnterpriseUser,
    Group,
    InvalidValueException,
    Meta,
    NotFoundException,
    PreconditionFailedException,
    Resource,
    ResourceType,
    ResponseParameters,
    ScimFilter,
    SearchRequest,
    TooManyException,
    UniquenessException,
    User,
)
from scim2_models.path import AttrPath, CompareOperator, Comparison, FilterNode, LogicalExpr, LogicalOperator, ValuePath
from scim2_server.storage import ScimStorage, SearchPage

from rowgate.identity import people
from rowgate.identity.directory import ChangedError, Directory, FullError, GroupKey, NotFoundError, TakenError
from rowgate.identity.people import GroupDraft, Member, NameKind, PersonDraft, UnfitError

# People or groups that a filter without an index may look at: a tenth of a second's work each thousand.
MAX_SCAN: Final = 10_000

# Where a page can begin at most: nothing is there, and SQLite counts no further than 64 bits.
MAX_START: Final = 2**53

USER: Final = "User"
GROUP: Final = "Group"
Person = User[EnterpriseUser]
_CORE: Final = {str(User.__schema__).lower(), str(Group.__schema__).lower()}
_FILTERS: Final[dict[str, Any]] = {USER: ScimFilter[Person], GROUP: ScimFilter[Group]}
_Result = TypeVar("_Result")

# What is kept in columns of its own, or not at all: a password is nobody's business here.
_NOT_KEPT: Final = {"id", "meta", "groups", "password", "members"}
_POSITION: Final = ("organization", "division", "department")


class DirectoryStorage(ScimStorage):
    """Resources kept in a Directory. For one thread, the directory's."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def get(
        self,
        resource_type: ResourceType,
        resource_id: str,
        *,
        response_parameters: ResponseParameters[Any] | None = None,
    ) -> Resource[Any]:
        """Return a resource; see ``ScimStorage.get``. Members that the caller does not want are not read."""
        excluded = response_parameters.excluded_attributes if response_parameters is not None else None
        if _name(resource_type) == GROUP and any(str(each).lower() == "members" for each in excluded or []):
            return self._group(_told(lambda: self._directory.group(resource_id, members=False)))
        return _told(lambda: self._resource(_name(resource_type), resource_id))

    def change_members(self, group: str, new: list[Member], gone: list[str], expected_version: str) -> Resource[Any]:
        """Add members to a group, by id, and take others out; return the group without any."""
        version = _version_number(expected_version)
        return self._group(_told(lambda: self._directory.change_members(group, new, gone, version or 0)))

    def version(self, group: str) -> Resource[Any]:
        """Return a group without its members: what conditions need to know."""
        return self._group(_told(lambda: self._directory.group(group, members=False)))

    def search(
        self,
        resource_types: list[ResourceType],
        search_request: SearchRequest[Any],
        *,
        position: Any = None,  # noqa: ARG002 - scim2-server's; pages are by index
    ) -> SearchPage:
        """Return a page of resources; see ``ScimStorage.search``. Several types come one after the other."""
        start, count = min(search_request.start_index_0 or 0, MAX_START), search_request.count or 0
        names = [_name(each) for each in resource_types]
        if search_request.filter is None and len(names) == 1:
            find = self._directory.people if names[0] == USER else self._directory.groups
            page = find(start, count)
            return SearchPage(page.total, [self._resource(names[0], id_) for id_ in self._fitting(names[0], page.ids)])
        found = [resource for name in names for resource in self._matching(name, search_request.filter)]
        return SearchPage(len(found), found[start : start + count])

    def create(self, resource_type: ResourceType, resource: Resource[Any]) -> Resource[Any]:
        """Add a resource; see ``ScimStorage.create``."""
        if _name(resource_type) == USER:
            return self._user(_told(lambda: self._directory.add_person(_person_draft(resource))))
        return self._group(_told(lambda: self._directory.add_group(_group_draft(resource))))

    def update(
        self, resource_type: ResourceType, resource: Resource[Any], *, expected_version: str | None = None
    ) -> Resource[Any]:
        """Replace a resource; see ``ScimStorage.update``."""
        id_, version = str(resource.id), _version_number(expected_version)
        if _name(resource_type) == USER:
            return self._user(_told(lambda: self._directory.replace_person(id_, _person_draft(resource), version)))
        return self._group(_told(lambda: self._directory.replace_group(id_, _group_draft(resource), version)))

    def delete(self, resource_type: ResourceType, resource_id: str, *, expected_version: str | None = None) -> None:
        """Forget a resource; see ``ScimStorage.delete``."""
        remove = self._directory.remove_person if _name(resource_type) == USER else self._directory.remove_group
        _told(lambda: remove(resource_id, _version_number(expected_version)))

    def _resource(self, name: str, id_: str) -> Resource[Any]:
        return self._user(self._directory.person(id_)) if name == USER else self._group(self._directory.group(id_))

    def _fitting(self, name: str, ids: tuple[str, ...]) -> Iterator[str]:
        """Give the ids of a page, fewer where the groups are large: a page may have less than was asked for."""
        left = people.MAX_MEMBERS
        for id_ in ids:
            left -= self._directory.member_count(id_) if name == GROUP else 0
            if left < 0 and id_ != ids[0]:
                return
            yield id_

    def _matching(self, name: str, scim_filter: "ScimFilter[Any] | None") -> Iterator[Resource[Any]]:
        # At the root a filter is bound to no one model: bound to each, what a model does not have matches nothing.
        bound = None if scim_filter is None else _FILTERS[name](str(scim_filter))
        for resource in self._candidates(name, bound):
            if bound is None or bound.match(resource):
                yield resource

    def _candidates(self, name: str, scim_filter: "ScimFilter[Any] | None") -> Iterator[Resource[Any]]:
        """Give what a filter may match: by an index where it says what something is equal to, else everything."""
        for path, value in [] if scim_filter is None else _equalities(scim_filter.ast):
            ids = self._indexed(name, path, value)
            if ids is not None:
                yield from (self._resource(name, id_) for id_ in ids)
                return
        count = self._directory.people(0, 0).total if name == USER else self._directory.groups(0, 0).total
        if count > MAX_SCAN:
            raise TooManyException(
                detail=f"this filter would look at {count} resources, more than {MAX_SCAN}: expected one with `eq` on "
                "id, userName, externalId, emails.value, displayName (of groups) or members.value"
            )
        if name == USER:
            yield from map(self._user, self._directory.everybody())
        else:
            yield from map(self._group, self._directory.every_group())

    def _indexed(self, name: str, path: str, value: str) -> tuple[str, ...] | None:
        """Return the ids of what has ``value`` at ``path``, None: there is no index for it."""
        if path == "id":
            return self._existing(name, value)
        if name == USER:
            kind = _NAME_INDEXES.get(path)
            return None if kind is None else self._directory.people_named(kind, value)
        key = _GROUP_INDEXES.get(path)
        return None if key is None else self._directory.groups_with(key, value)

    def _existing(self, name: str, id_: str) -> tuple[str, ...]:
        try:
            self._resource(name, id_)
        except NotFoundError:
            return ()
        return (id_,)

    def _user(self, person: people.Person) -> Resource[Any]:
        content = json.loads(person.said.document)
        if not person.active:
            content["active"] = False  # also where the directory has not said so lately
        content["groups"] = [
            {"value": id_, "$ref": f"Groups/{id_}", "display": display, "type": "direct"}
            for id_, display in self._directory.groups_of(person.id)
        ]
        user = Person.model_validate(content)
        user.id = person.id
        user.meta = _meta(USER, person.created, person.modified, person.version)
        return user

    def _group(self, group: people.Group) -> Resource[Any]:
        content = json.loads(group.said.document)
        members = sorted(group.said.members, key=lambda member: member.id)
        content["members"] = [_member(member) for member in members]
        result = Group.model_validate(content)
        result.id = group.id
        result.meta = _meta(GROUP, group.created, group.modified, group.version)
        return result


_NAME_INDEXES: Final = {
    "username": NameKind.USER_NAME,
    "externalid": NameKind.EXTERNAL_ID,
    "emails.value": NameKind.EMAIL,
}
_GROUP_INDEXES: Final = {
    "displayname": GroupKey.DISPLAY_NAME,
    "externalid": GroupKey.EXTERNAL_ID,
    "members.value": GroupKey.MEMBER,
    "members": GroupKey.MEMBER,
}


def _told(work: Callable[[], _Result]) -> _Result:
    """Run ``work`` on the directory, and tell its errors as SCIM does (RFC 7644, 3.12)."""
    try:
        return work()
    except NotFoundError as error:
        raise NotFoundException(detail=str(error)) from error
    except TakenError as error:
        raise UniquenessException(detail=str(error)) from error
    except ChangedError as error:
        raise PreconditionFailedException(detail=str(error)) from error
    except (UnfitError, FullError) as error:
        raise InvalidValueException(detail=str(error)) from error


def _name(resource_type: ResourceType) -> str:
    return str(resource_type.name)


def _meta(kind: str, created: float, modified: float, version: int) -> Meta:
    return Meta(
        resource_type=kind,
        created=datetime.fromtimestamp(created, UTC),
        last_modified=datetime.fromtimestamp(modified, UTC),
        version=f'W/"{version}"',
    )


def _version_number(version: str | None) -> int | None:
    return None if version is None else int(version.removeprefix('W/"').removesuffix('"'))


def _member(member: Member) -> dict[str, str | None]:
    kind, endpoint = (GROUP, "Groups") if member.is_group else (USER, "Users")
    return {"value": member.id, "type": kind, "$ref": f"{endpoint}/{member.id}", "display": member.display}


def _document(resource: Resource[Any]) -> dict[str, Any]:
    content: dict[str, Any] = resource.model_dump()
    return {name: value for name, value in content.items() if name not in _NOT_KEPT}


def _person_draft(resource: Resource[Any]) -> PersonDraft:
    document = _document(resource)
    extension = document.get(str(EnterpriseUser.__schema__), {})
    emails = (email.get("value") for email in document.get("emails", []))
    return PersonDraft(
        user_name=str(document["userName"]),
        external_id=document.get("externalId"),
        emails=tuple(dict.fromkeys(email for email in emails if email)),
        active=document.get("active"),
        position=" / ".join(extension[part] for part in _POSITION if extension.get(part)),
        document=json.dumps(document, ensure_ascii=False),
    )


def _group_draft(resource: Resource[Any]) -> GroupDraft:
    document = _document(resource)
    members = getattr(resource, "members", None) or []
    return GroupDraft(
        display_name=str(document["displayName"]),
        external_id=document.get("externalId"),
        members=frozenset(
            Member(str(each.value), is_group(each.type, each.ref), each.display) for each in members if each.value
        ),
        document=json.dumps(document, ensure_ascii=False),
    )


def is_group(kind: str | None, reference: str | None) -> bool:
    """Return whether a member is a group, by its type or by its reference."""
    return kind == GROUP or "/Groups/" in f"/{reference or ''}"


def _equalities(node: FilterNode) -> Iterator[tuple[str, str]]:
    """Give what a filter says that something must be equal to: each narrows what has to be looked at."""
    if isinstance(node, Comparison):
        if node.op is CompareOperator.eq and isinstance(node.value, str) and _is_core(node.attr_path):
            path = ".".join(filter(None, (node.attr_path.attr, node.attr_path.sub_attr)))
            yield path.lower(), node.value
    elif isinstance(node, LogicalExpr) and node.op is LogicalOperator.and_:
        for part in node.terms:
            yield from _equalities(part)
    elif isinstance(node, ValuePath) and _is_core(node.attr_path):
        for path, value in _equalities(node.val_filter):
            yield f"{node.attr_path.attr.lower()}.{path}", value


def _is_core(path: AttrPath) -> bool:
    return path.uri is None or path.uri.lower() in _CORE
