"""What is installed: as each package manager says it, and as a list that may be sent."""

import hashlib
import json
import shutil
import subprocess
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.platforms import PLATFORM, packages
from schema import software
from schema.software import MAX_PACKAGES, MAX_TEXT, BadSoftwareError, Package, SoftwareList, listed

DPKG = "ii \tbash\t5.2.15-2+b8\tamd64\nrc \told\t1\tamd64\nhi \theld\t2:1.0\tall\nun \tgone\t\t\n"
APT = """\
NOTE: This is only a simulation!
Reading package lists...
Inst libc6 [2.36-9+deb12u9] (2.36-9+deb12u10 Debian-Security:12/stable-security [amd64]) []
Inst tzdata [2024a-0+deb12u1] (2025b-0+deb12u1 Debian:12.11/stable [all])
Inst linux-image-6.1.0-37-amd64 (6.1.140-1 Debian-Security:12/stable-security [amd64])
Conf libc6 (2.36-9+deb12u10 Debian-Security:12/stable-security [amd64])
"""
RPM = "bash\t0:5.1.8-9.el9\tx86_64\ngpg-pubkey\t(none):fd431d51-4ae0493b\t(none)\nvim\t2:8.2.2637-20.el9\tx86_64\n"
DNF = """
bash.x86_64                5.1.8-10.el9            baseos
vim.x86_64                 2:8.2.2637-22.el9       appstream
Obsoleting Packages
grub2-tools.x86_64         1:2.06-80.el9           baseos
"""
APK = "musl-1.2.5-r0\nlibcrypto3-3.3.2-r1\nca-certificates-bundle-20240705-r0\n"
APK_UPDATES = (
    "Installed:                                Available:\nlibcrypto3-3.3.2-r1                     < 3.3.3-r0\n"
)
MAC = json.dumps({"SPApplicationsDataType": [{"_name": "Safari", "version": "17.5"}, {"_name": "Odd"}, "no"]})
MAC_UPDATES = """\
Software Update found the following new or updated software:
* Label: macOS Sonoma 14.6-23G80
\tTitle: macOS Sonoma 14.6, Version: 14.6, Size: 1502560KiB, Recommended: YES, Action: restart,
"""
WINDOWS = '{"DisplayName":"7-Zip 24.08 (x64)","DisplayVersion":"24.08"}'
WINDOWS_UPDATES = '[{"Title":"2024-11 Cumulative Update","KB":["5046633"],"Security":true},{"Title":"x","KB":[]}]'


def test_each_manager_is_understood() -> None:
    """What is there, and no headings, leavings, keys and things of the same look."""
    assert list(packages.read_dpkg(DPKG)) == [("bash", "5.2.15-2+b8", "amd64"), ("held", "2:1.0", "all")]
    assert list(packages.read_apt_updates(APT)) == [
        ("libc6", "", "2.36-9+deb12u10", True),
        ("tzdata", "", "2025b-0+deb12u1", False),
    ]
    assert list(packages.read_rpm(RPM)) == [("bash", "5.1.8-9.el9", "x86_64"), ("vim", "2:8.2.2637-20.el9", "x86_64")]
    assert list(packages.read_dnf_updates(DNF)) == [
        ("bash", "x86_64", "5.1.8-10.el9", False),
        ("vim", "x86_64", "2:8.2.2637-22.el9", False),
    ]
    assert list(packages.read_pacman("bash 5.2.037-1\n\n")) == [("bash", "5.2.037-1", "")]
    assert list(packages.read_pacman_updates("bash 5.2.036-1 -> 5.2.037-1 [ignored]\nzlib 1 -> 2\n")) == [
        ("zlib", "", "2", False)
    ]
    assert list(packages.read_apk(APK)) == [
        ("musl", "1.2.5-r0", ""),
        ("libcrypto3", "3.3.2-r1", ""),
        ("ca-certificates-bundle", "20240705-r0", ""),
    ]
    assert list(packages.read_apk_updates(APK_UPDATES)) == [("libcrypto3", "", "3.3.3-r0", False)]


def test_other_systems_are_understood() -> None:
    """Also one thing where a list is meant, nothing at all, and what is no JSON."""
    assert list(packages.read_applications(MAC)) == [
        Package("Safari", "17.5", "", "app"),
        Package("Odd", "", "", "app"),
    ]
    assert list(packages.read_softwareupdate(MAC_UPDATES)) == [
        Package("macOS Sonoma 14.6", "", "", "softwareupdate", "14.6")
    ]
    assert list(packages.read_programs(WINDOWS)) == [Package("7-Zip 24.08 (x64)", "24.08", "", "registry")]
    assert list(packages.read_windows_updates(WINDOWS_UPDATES)) == [
        Package("2024-11 Cumulative Update", "", "", "windows_update", "KB5046633", security=True),
        Package("x", "", "", "windows_update", "available"),
    ]
    for nothing in ("", "  \n", "no JSON", "7", '"text"', "null"):
        assert list(packages.read_programs(nothing)) == []
        assert list(packages.read_applications(nothing)) == []


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="not a Debian")
def test_this_machine_is_read_by_its_own_package_manager() -> None:
    """As many as dpkg counts, each with its version; and what is found may be sent."""
    found = PLATFORM.software()
    counted = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${db:Status-Status}\\n"], capture_output=True, text=True, check=True
    )
    assert len(found.packages) == counted.stdout.split().count("installed")
    assert all(one.version and one.source == "dpkg" for one in found.packages)
    assert software.unpack(software.pack(found)) == found


def test_a_manager_that_fails_says_nothing() -> None:
    """One that is not there, and one that ends badly; the reason is not guessed from what it printed."""
    assert packages.run(["no-such-manager"]) is None
    assert packages.run(["false"]) is None
    assert packages.run(["sh", "-c", "echo printed; exit 100"], good=(0, 100)) == "printed\n"


TEXT = st.text(max_size=MAX_TEXT + 20)
PACKAGES = st.builds(Package, TEXT, TEXT, TEXT, TEXT, TEXT, st.booleans())


@given(st.lists(PACKAGES, max_size=20), st.booleans())
def test_whatever_is_found_may_be_sent(found: list[Package], known: bool) -> None:
    """A list that was made is taken, whatever names and versions are; told twice, it has the same hash."""
    made = listed(found, updates_known=known)
    assert software.unpack(software.pack(made)) == made
    assert software.digest(made) == software.digest(listed(reversed(found), updates_known=known))
    assert set(software.versions(made)) or not [one for one in made.packages if one.version or not one.update]


def test_what_was_not_made_so_is_not_taken() -> None:
    """No list, one in another order, one with a name that reaches into the next line, one too many, and a zip bomb."""
    good = [Package("a", "1"), Package("b", "1")]
    bad = [
        b"",
        b"no zlib",
        zlib.compress(b"\xc1"),
        zlib.compress(msgspec.msgpack.encode({"packages": [], "updates_known": "perhaps"})),
        zlib.compress(b"\x00" * (64 * 1024 * 1024), 9),
        software.pack(SoftwareList(good, updates_known=True))[:-3],
        software.pack(SoftwareList(good[::-1], updates_known=True)),
        software.pack(SoftwareList([*good, good[1]], updates_known=True)),
        software.pack(SoftwareList([Package("a\nb", "1")], updates_known=True)),
        software.pack(SoftwareList([Package("\x1b[31mred", "1")], updates_known=True)),
        software.pack(SoftwareList([Package("a" * (MAX_TEXT + 1), "1")], updates_known=True)),
        zlib.compress(msgspec.msgpack.encode([[["a", "1"]] * 160_000, True]), 9),
        zlib.compress(msgspec.msgpack.encode({"packages": [["a", "1"]] * 160_000, "updates_known": True}), 9),
        software.pack(SoftwareList([Package(f"{number:06}", "1") for number in range(MAX_PACKAGES + 1)], True)),
    ]
    for data in bad:
        with pytest.raises(BadSoftwareError):
            software.unpack(data)
    many = listed([Package(f"{number:06}", "1") for number in range(MAX_PACKAGES + 5)], updates_known=True)
    assert len(software.unpack(software.pack(many)).packages) == MAX_PACKAGES


def test_names_are_told_apart_where_they_have_to_be() -> None:
    """Two architectures of one package are two; several versions of one are one, with both; an update alone is none."""
    found = listed(
        [
            Package("libc6", "2.36", "amd64", "dpkg"),
            Package("libc6", "2.35", "i386", "dpkg"),
            Package("kernel", "5.1", "x86_64", "rpm"),
            Package("kernel", "5.2", "x86_64", "rpm"),
            Package("macOS", "", "", "softwareupdate", "14.6"),
        ],
        updates_known=True,
    )
    assert software.versions(found) == {
        "kernel": "5.1, 5.2",
        "libc6 (amd64, dpkg)": "2.36",
        "libc6 (i386, dpkg)": "2.35",
    }


def test_a_list_that_is_too_long_for_a_message_is_cut() -> None:
    """What fits is sent, and is a list."""
    found = listed(
        [Package(f"{number:06}-{hashlib.sha256(number.to_bytes(4)).hexdigest()}", "1") for number in range(5_000)],
        updates_known=True,
    )
    assert software.fitted(found, 1_000_000) == software.pack(found)
    cut = software.unpack(software.fitted(found, 20_000))
    assert cut.packages == found.packages[: len(cut.packages)]
    assert 100 < len(cut.packages) < 5_000
