"""The authority that `fleetlog up` makes, over its whole life."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateways.local.authority import CA_LIFE, RENEW_BEFORE, SERVER_LIFE, SETTLED_S, Authority
from gateways.tls import CertificateError, names, read_certificate
from schema.authorities import certificates, fingerprint
from tests.tls.conftest import HOSTS


def test_nobody_else_may_read_what_it_keeps(authority: Authority) -> None:
    """The folder and all files in it are its owner's alone."""
    assert authority.folder.stat().st_mode & 0o077 == 0
    files = list(authority.folder.iterdir())
    assert {file.name for file in files} == {"ca-1.pem", "ca-1.key", "server.pem", "authorities.pem"}
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)


def test_a_second_look_changes_nothing(authority: Authority) -> None:
    """A certificate that is good stays."""
    before = {file.name: file.read_bytes() for file in authority.folder.iterdir()}
    assert not authority.see_to(HOSTS, datetime.now(UTC))
    assert {file.name: file.read_bytes() for file in authority.folder.iterdir()} == before


def test_a_certificate_is_renewed_before_it_ends(authority: Authority) -> None:
    """A month before its end there is a new one, under the same authority."""
    before = read_certificate(authority.server_file)
    told = authority.file.read_text()
    at = datetime.now(UTC) + SERVER_LIFE - RENEW_BEFORE
    assert not authority.see_to(HOSTS, at - timedelta(hours=1))
    assert authority.see_to(HOSTS, at + timedelta(hours=1))
    after = read_certificate(authority.server_file)
    assert after.not_valid_after_utc > before.not_valid_after_utc
    assert authority.file.read_text() == told


def test_a_new_address_is_put_in(authority: Authority) -> None:
    """A machine that is reached by one more address shows a certificate that names it."""
    assert authority.see_to([*HOSTS, "192.0.2.7", "fleet.example.com"], datetime.now(UTC))
    assert set(names(read_certificate(authority.server_file))) == {*HOSTS, "192.0.2.7", "fleet.example.com"}


@pytest.mark.parametrize("damage", [b"", b"no certificate\n", None])
def test_what_is_damaged_is_made_anew(authority: Authority, damage: bytes | None) -> None:
    """A server's certificate that was lost or cut is no reason not to start."""
    if damage is None:
        authority.server_file.unlink()
    else:
        authority.server_file.write_bytes(damage)
    assert authority.see_to(HOSTS, datetime.now(UTC))
    read_certificate(authority.server_file)


def test_a_new_authority_takes_over_in_three_steps(authority: Authority) -> None:
    """Announced, used, retired: at each step whoever trusts what was told before and after it trusts the server."""
    now = datetime.now(UTC)
    (old,) = [one.fingerprint for one in authority.standings()]
    told = [set(map(fingerprint, certificates(authority.file.read_text())))]
    signers = [old]
    for expected in ("announced", "used", "retired"):
        if expected == "retired":
            with pytest.raises(CertificateError, match="come again"):
                authority.roll_over(now)
            now += timedelta(seconds=SETTLED_S + 1)
        assert authority.roll_over(now).did == expected
        authority.see_to(HOSTS, now)
        told.append(set(map(fingerprint, certificates(authority.file.read_text()))))
        server = read_certificate(authority.server_file)
        (signer,) = [one for one in authority.standings() if one.signs]
        signing = next(
            one for one in certificates(authority.file.read_text()) if fingerprint(one) == signer.fingerprint
        )
        assert server.issuer.rfc4514_string()
        assert fingerprint(certificates(authority.file.read_text())[0]) == fingerprint(signing)
        signers.append(signer.fingerprint)
    new = signers[-1]
    assert signers == [old, old, new, new]
    assert told == [{old}, {old, new}, {old, new}, {new}]
    # Who has heard of a step trusts the server through the next one.
    assert all(signer in known for known, signer in zip(told, signers[1:], strict=False))


def test_a_step_that_was_cut_is_taken_again(authority: Authority) -> None:
    """Killed between its files, a step was not taken, and the next call takes it; nothing is retired too early."""
    (authority.folder / "ca-2.key").write_text("half a key")
    assert authority.roll_over(datetime.now(UTC)).did == "announced"
    (authority.folder / "signing").write_text("2")  # killed before there was a certificate of the new one
    later = datetime.now(UTC) + timedelta(days=1)
    assert authority.roll_over(later).did == "used"
    with pytest.raises(CertificateError, match="come again"):
        authority.roll_over(datetime.now(UTC))
    assert not authority.see_to(HOSTS, datetime.now(UTC))


def test_there_is_nothing_to_roll_over_where_nothing_was_made(tmp_path: Path) -> None:
    """Without an authority the step is refused, and nothing is made."""
    with pytest.raises(CertificateError, match="no authority"):
        Authority(tmp_path).roll_over(datetime.now(UTC))
    assert list(tmp_path.iterdir()) == []


def test_an_authority_outlives_its_certificates() -> None:
    """The authority lasts for years, the certificates for months."""
    assert CA_LIFE > 10 * SERVER_LIFE
