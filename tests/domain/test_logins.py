"""How a person logs in, as its events tell it."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import NoSecondFactorError, RecoveryCodeUsedError, SessionOverError
from domain.event import Change
from domain.ids import UserId
from domain.logins import Login, login_stream
from domain.sessions import Ending, Proof, UserSession

ADA = UserId(uuid4())
STEPS = st.lists(
    st.sampled_from(["password", "forced", "offer", "enroll", "remove", "codes", "revoke", *(range(10))]), max_size=25
)


def taken(login: Login, step: object) -> Change | None:
    """One step, if the login allows it."""
    does: dict[object, Callable[[], Change]] = {
        "password": lambda: login.set_password(ADA, uuid4(), must_change=False),
        "forced": lambda: login.set_password(ADA, uuid4(), must_change=True),
        "offer": lambda: login.offer_totp(ADA, uuid4()),
        "enroll": lambda: login.enroll_totp(ADA, uuid4()),
        "remove": lambda: login.remove_totp(ADA, ""),
        "codes": lambda: login.make_recovery_codes(ADA, uuid4()),
        "revoke": lambda: login.revoke_sessions(ADA, ""),
    }
    try:
        return login.use_recovery_code(ADA, step) if isinstance(step, int) else does[step]()
    except (NoSecondFactorError, RecoveryCodeUsedError):
        return None


@given(STEPS)
def test_any_history_of_a_login(steps: list[object]) -> None:
    """A recovery code is used once; what makes old knowledge worthless raises the generation; replay gives the same."""
    login = Login(login_stream(ADA))
    events, used = [], set()
    for step in steps:
        before = login.generation, login.totp_id, login.recovery_id
        change = taken(login, step)
        if change is None:
            assert (login.generation, login.totp_id, login.recovery_id) == before
            continue
        events.append(change.event)
        raised = step in ("password", "forced", "enroll", "remove", "revoke")
        assert login.generation == before[0] + raised
        if isinstance(step, int):
            assert (login.recovery_id, step) not in used
            used.add((login.recovery_id, step))
    again = Login.load(login.stream_id, events)
    assert vars(again) == vars(login)
    assert login.complete == (not login.pending_in(()))
    assert login.complete == (login.totp_id is not None and not login.must_change)


def test_a_session_ends_once() -> None:
    """What is over can neither be ended nor proved again."""
    session = UserSession(UUID(int=1))
    with pytest.raises(SessionOverError):
        session.end(Ending.LOGGED_OUT, "")
    session.user_id, session.version = ADA, 1
    session.prove(Proof.TOTP, "10.0.0.1")
    session.end(Ending.LOGGED_OUT, "10.0.0.1")
    for again in (lambda: session.end(Ending.REVOKED, ""), lambda: session.prove(Proof.PASSWORD, "")):
        with pytest.raises(SessionOverError):
            again()
