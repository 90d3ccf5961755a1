"""What somebody may do: scopes as sets, keys within their owners, nobody above themselves."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain import codec
from domain.access import Access, Right
from domain.api_keys import ApiKey, ApiKeyCreated
from domain.ids import ClientId, SiteId
from domain.permissions import Permission
from domain.roles import BUILT_IN, Limits, Role, RoleChanged, RoleCreated, Terms
from domain.scopes import EVERYTHING, Place, Scope

CLIENTS = [ClientId(UUID(int=n)) for n in range(1, 4)]
PLACES = [Place(SiteId(UUID(int=10 * n + m)), client) for n, client in enumerate(CLIENTS, 1) for m in range(1, 3)]
scopes = st.just(EVERYTHING) | st.builds(
    Scope.of, st.sets(st.sampled_from(CLIENTS)), st.sets(st.sampled_from(PLACES), max_size=4)
)
some_permissions = st.frozensets(st.sampled_from([*Permission][:4]), min_size=1)
some_limits = st.builds(
    Limits,
    max_agents=st.none() | st.integers(1, 9),
    approval_above=st.none() | st.integers(0, 9),
    approval_for=st.lists(st.sampled_from(["keys.manage", "agents.see"]), unique=True).map(
        lambda one: tuple(sorted(one))
    ),
)
accesses = st.lists(st.builds(Right, st.builds(Terms, some_permissions, some_limits), scopes), max_size=3).map(
    lambda rights: Access(tuple(rights))
)


def held(scope: Scope) -> set[object]:
    """All that it holds, counted out; ``None`` stands for what is nobody's."""
    found: set[object] = {client for client in CLIENTS if scope.holds(client)}
    found |= {place for place in PLACES if scope.holds(place.client_id, place.site_id)}
    return found | ({None} if scope.everything else set())


@given(one=scopes, other=scopes)
def test_scopes_are_sets_of_clients_and_sites(one: Scope, other: Scope) -> None:
    """Both, either, within: as counting says."""
    assert held(one & other) == held(one) & held(other)
    assert held(one | other) == held(one) | held(other)
    assert one.includes(other) == (held(other) <= held(one))
    assert one.empty == (not held(one))


@given(owner=accesses, key=accesses)
def test_a_key_never_does_more_than_its_owner(owner: Access, key: Access) -> None:
    """Whatever either was granted: each permission, each place and each limit of a key lies within both."""
    both = owner & key
    assert owner.includes(both)
    assert key.includes(both)
    for permission in Permission:
        assert held(both.scope(permission)) == held(owner.scope(permission)) & held(key.scope(permission))


@given(one=accesses, other=accesses, third=accesses)
def test_nobody_rises_by_giving(one: Access, other: Access, third: Access) -> None:
    """Who may give something may do it, and what they give cannot give more in turn."""
    if one.includes(other):
        for permission in Permission:
            assert held(other.scope(permission)) <= held(one.scope(permission))
    if one.includes(other) and other.includes(third):
        for permission in Permission:
            assert held(third.scope(permission)) <= held(one.scope(permission))


def test_roles_of_before_allow_what_they_allowed() -> None:
    """What was one permission for several things is all of them now, in what asks for another person, too; no more."""
    for topic in ("RoleCreated/1", "RoleCreated/2", "RoleChanged/2"):
        body = b'{"name":"r","permissions":["agents.edit","events.see","people.see","platform.manage"],"limits":%s}'
        event = codec.decode(topic, body % b'{"max_agents":5,"approval_for":["agents.edit","platform.manage"]}')
        assert isinstance(event, RoleCreated | RoleChanged)
        assert set(event.permissions) == {
            *("agents.edit", "notes.write", "events.see", "commands.output", "people.see", "roles.see", "keys.see"),
            *("retention.manage", "server_keys.manage"),
        }
        waits = ("agents.edit", "notes.write", "retention.manage", "server_keys.manage")
        assert event.limits == Limits(max_agents=5, approval_for=waits)
        assert set(event.permissions) <= set(Permission)
    for name in ("forwarding.manage", "platform.browse"):  # each showed outputs by itself
        alone = codec.decode("RoleCreated/2", b'{"name":"r","permissions":["%s"]}' % name.encode())
        assert alone == RoleCreated(name="r", permissions=("commands.output", name))
    plain = codec.decode("RoleCreated/2", b'{"name":"r","permissions":["agents.see","commands.queue"]}')
    assert plain == RoleCreated(name="r", permissions=("agents.see", "commands.queue"))
    now = codec.decode("RoleCreated/3", b'{"name":"r","permissions":["commands.see"]}')
    assert now == RoleCreated(name="r", permissions=("commands.see",))


@given(access=accesses, permission=st.sampled_from([*Permission][:4]), place=st.sampled_from(PLACES))
def test_a_limit_is_that_of_a_role_which_reaches_so_far(access: Access, permission: Permission, place: Place) -> None:
    """A role over another client never loosens what one may do here."""
    over = Scope.of(sites=[place])
    here = [right for right in access.rights if permission in right.terms.permissions and right.scope.includes(over)]
    limits = access.limits(permission, over=over)
    if here:
        assert any(right.terms.limits.max_agents == limits.max_agents for right in here)


def test_keys_of_before_do_what_they_did() -> None:
    """Each of the three roles that a key could have is a grant now, over the same clients."""
    client = str(CLIENTS[0])
    for name, role in (("admin", Role.ADMIN), ("operator", Role.OPERATOR), ("auditor", Role.READ_ONLY)):
        body = f'{{"name":"k","role":"{name}","secret_sha256":"00","client_ids":["{client}"]}}'.encode()
        event = codec.decode("ApiKeyCreated/1", body)
        assert isinstance(event, ApiKeyCreated)
        (grant,) = event.grants or ()
        assert (grant.role_id, grant.scope) == (role.id, Scope.of([CLIENTS[0]]))
        assert ApiKey.load(UUID(int=1), [event]).concerns() == (None, CLIENTS[0])
    event = codec.decode("ApiKeyCreated/1", b'{"name":"k","role":"operator","secret_sha256":"00"}')
    assert isinstance(event, ApiKeyCreated)
    (grant,) = event.grants or ()
    assert grant.scope == EVERYTHING
    assert event.unattended
    assert not BUILT_IN[Role.READ_ONLY].permissions & {Permission.PEOPLE_SEE, Permission.COMMANDS_QUEUE}
