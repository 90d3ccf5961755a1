"""Ids that are derived name the same thing for ever."""

from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from domain.ids import derived_id, is_derived

NAMESPACE = UUID("f1ee7109-0000-5000-8000-000000000001")


@given(parts=st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.uuids(), max_size=5))
def test_a_derived_id_is_the_version_5_uuid_of_its_parts(parts: list[str | UUID]) -> None:
    """Anybody can reckon it by RFC 9562 from the namespace and the parts, joined by a separator."""
    derived = derived_id(*parts)
    assert derived == uuid5(NAMESPACE, "\x1f".join(str(part) for part in parts))
    assert is_derived(derived)


def test_derived_ids_stay_what_they_are() -> None:
    """The log is full of them: a change would queue each command of a rollout once more."""
    rollout_id = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    agent_id = UUID("01890a5d-ac96-774b-bcce-b302099a8058")
    assert derived_id("rollout", rollout_id, agent_id, "1") == UUID("cbc9e894-397f-584f-b512-d8b5408b55e5")
