"""The second factor: codes count once, near their time, and recovery codes once at all."""

import asyncio
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import pyotp
import pytest

from command_bus.second_factor import new_recovery_codes, recovery_hash, recovery_number, step_of
from tests.rest.harness import Api
from tests.rest.people import FIRST, SECOND, Person

WRONG = "wrong wrong wrong"
OFF = [timedelta(seconds=-61), timedelta(seconds=61), timedelta(days=-1)]


async def test_what_is_offered_can_be_scanned(api: Api) -> None:
    """The address names issuer, user and secret; the image is an SVG without anything to run."""
    ada = await Person.add(api, "Ada & Co/1")
    await ada.log_in()
    offered = (await ada.http.post("/session/second-factor/offer")).json()
    parts = urlsplit(offered["uri"])
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    told = parse_qs(parts.query)
    assert (told["secret"], told["issuer"]) == ([offered["secret"]], ["Fleetlog"])
    assert pyotp.parse_uri(offered["uri"]).now() == pyotp.TOTP(offered["secret"]).now()
    image = ET.fromstring(offered["qr_svg"])  # noqa: S314 - our own
    assert image.tag.endswith("svg")
    assert {element.tag.rpartition("}")[2] for element in image.iter()} == {"svg", "path"}


async def test_a_code_counts_once(api: Api) -> None:
    """Replayed within its own half minute it is refused: at a login, at a proof, and from one to the other."""
    ada = await Person.ready(api)
    code = ada.code()
    assert (await ada.try_to_log_in(code=code)).status_code == 201
    assert (await ada.try_to_log_in(code=code)).json()["code"] == "login_refused"
    for spelled in (code, f" {code[:3]} {code[3:]}", f"{code[:3]}-{code[3:]}"):
        assert (await ada.http.post("/session/proof", json={"code": spelled})).json()["code"] == "proof_refused"
    assert [event["data"]["why"] for event in await ada.events("LoginRefused")] == ["used_code"] * 4
    # Two at once, in two places: the log takes one.
    bob = await Person.ready(api, "Bob")
    code = bob.code()
    both = await asyncio.gather(*(bob.try_to_log_in(code=code) for _ in range(2)))
    assert sorted(answer.status_code for answer in both) == [201, 401]


async def test_a_code_with_a_wrong_password_is_not_used_up(api: Api) -> None:
    """Who knows no password cannot spoil the owner's codes."""
    ada = await Person.ready(api)
    code = ada.code()
    assert (await ada.try_to_log_in(code=code, password=WRONG)).status_code == 401
    assert (await ada.try_to_log_in(code=code)).status_code == 201


@pytest.mark.parametrize("off", OFF)
async def test_a_code_of_another_time_is_wrong(api: Api, off: timedelta) -> None:
    """Half a minute before and after are near enough, and no more is."""
    ada = await Person.ready(api)
    ada.code()
    now = api.clock()
    assert (await ada.try_to_log_in(code=pyotp.TOTP(ada.secret).at(now + off))).status_code == 401


def test_the_window_is_one_step() -> None:
    """Exactly: the steps before, now and after."""
    secret = pyotp.random_base32()
    at = datetime(2030, 1, 1, 0, 0, 15, tzinfo=UTC)
    steps = {
        shift: step_of(secret, pyotp.TOTP(secret).at(at + timedelta(seconds=30 * shift)), at) for shift in range(-5, 6)
    }
    now = int(at.timestamp()) // 30
    found = {shift for shift, step in steps.items() if step == now + shift}
    assert {-1, 0, 1} <= found
    assert found <= {-1, 0, 1}


async def test_a_recovery_code_opens_the_door_once(api: Api) -> None:
    """However it is typed; used ones and those of a set that was replaced open nothing."""
    ada = await Person.ready(api)
    one, two, *_ = ada.recovery_codes
    typed = one.lower().replace("-", " ")
    assert (await ada.try_to_log_in(code=typed)).status_code == 201
    assert (await ada.try_to_log_in(code=one)).status_code == 401
    used = (await ada.events("RecoveryCodeUsed"))[0]
    assert used["data"]["number"] == 0
    assert one.replace("-", "") not in str(used)
    refused = await ada.http.post("/session/recovery-codes", json={"code": "000000"})
    assert refused.json()["code"] == "proof_refused"
    renewed = await ada.http.post("/session/recovery-codes", json={"code": ada.code()})
    fresh = renewed.json()["recovery_codes"]
    assert len({*fresh, *ada.recovery_codes}) == 20
    assert (await ada.try_to_log_in(code=two)).status_code == 401
    assert (await ada.try_to_log_in(code=fresh[3])).status_code == 201


def test_recovery_codes_are_told_apart() -> None:
    """Each is found at its place, and nothing else is found."""
    codes = new_recovery_codes()
    hashes = [recovery_hash(code) for code in codes]
    assert [recovery_number(hashes, code) for code in codes] == list(range(10))
    assert recovery_number(hashes, new_recovery_codes()[0]) is None
    assert recovery_number([], codes[0]) is None
    assert all(len(code.replace("-", "")) == 16 for code in codes)


async def test_a_factor_is_replaced_by_who_has_it(api: Api) -> None:
    """Another device takes its place on a code of the first; a session alone is not enough."""
    ada = await Person.ready(api)
    first = ada.secret
    refused = await ada.http.post("/session/second-factor/offer")
    assert (refused.status_code, refused.json()["code"]) == (409, "second_factor_there")
    wrong = await ada.http.post("/session/second-factor/offer", json={"code": "000000"})
    assert wrong.json()["code"] == "proof_refused"
    nothing = await ada.http.post("/session/second-factor", json={"code": "000000"})
    assert nothing.json()["code"] == "no_second_factor"
    await ada.enroll(code=ada.code())
    assert ada.secret != first
    old = pyotp.TOTP(first).at(api.clock())
    assert (await ada.try_to_log_in(code=old)).status_code == 401
    assert (await ada.try_to_log_in()).status_code == 201


async def test_an_administrator_takes_a_factor_away(api: Api) -> None:
    """Sessions are over at once; the next login enrolls another, and old codes of either kind open nothing."""
    ada = await Person.ready(api)
    gone = ada.recovery_codes[0]
    answer = await api.client().post(f"/users/{ada.user_id}/second-factor/reset", json={"reason": "phone lost"})
    assert answer.is_success
    assert (await ada.http.get("/session")).status_code == 401
    secret, ada.secret = ada.secret, ""
    shown = await ada.log_in()
    assert shown["pending"] == ["totp"]
    await ada.enroll()
    assert ada.secret != secret
    assert (await ada.try_to_log_in(code=gone)).status_code == 401


async def test_who_knew_the_first_password_gains_nothing_by_it(api: Api) -> None:
    """Two sessions begin by a password that two know: when one sets things in order, the other is over."""
    ada = await Person.add(api)
    await ada.log_in()
    eve = Person(api, ada.user_id, "Ada")
    await eve.log_in()
    offered = (await eve.http.post("/session/second-factor/offer")).json()["secret"]
    await ada.change_password(SECOND)
    assert (await eve.http.get("/session")).status_code == 401
    await ada.enroll()
    # What was offered to the other is not what is enrolled.
    assert ada.secret != offered
    assert (await ada.try_to_log_in(code=pyotp.TOTP(offered).at(api.clock()))).status_code == 401


async def test_a_password_is_changed_by_who_knows_it(api: Api) -> None:
    """The present one is asked for; the same, or a weak one, is refused; then the old one opens nothing."""
    ada = await Person.ready(api)
    for body, code in (
        ({"current": "wrong wrong wrong", "new": FIRST}, "proof_refused"),
        ({"current": SECOND, "new": SECOND}, "weak_password"),
        ({"current": SECOND, "new": "password1234"}, "weak_password"),
    ):
        refused = await ada.http.post("/session/password", json=body)
        assert refused.json()["code"] == code
        assert SECOND not in refused.text
    await ada.change_password(FIRST)
    assert (await ada.try_to_log_in(password=SECOND)).status_code == 401
    assert (await ada.try_to_log_in()).status_code == 201
