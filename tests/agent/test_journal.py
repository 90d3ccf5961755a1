"""The journal against a model, with a crash after any step."""

import contextlib
import hashlib
import shutil
import sqlite3
import tempfile
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.errors import JournalFullError, StateDamagedError
from agent.journal import MEMORY, RESULTS_KEPT, Journal, Key
from schema.wire import Order, PingWork, ResultReport, StreamReport, encode

NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDS = [UUID(int=n) for n in range(1, 6)]
keys = st.builds(Key, st.sampled_from(IDS), st.integers(1, 2))


def order(key: Key, **fields: object) -> Order:
    given = {
        "command_id": key.command_id,
        "attempt": key.attempt,
        "lane": "default",
        "priority": 5,
        "position": 1,
        "expires_at": NOW + timedelta(hours=1),
        "age_ms": 0,
        "work": encode(PingWork()),
        "correlation_id": uuid4(),
    }
    return Order(**given | fields)  # type: ignore[arg-type]


def result(key: Key) -> ResultReport:
    return ResultReport(command_id=key.command_id, attempt=key.attempt, outcome="succeeded")


class JournalModel(RuleBasedStateMachine):
    """What the journal must remember, whatever happens: `state` by key, and the cancelled ids."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.journal = Journal(Path(self.folder.name))
        self.state: dict[Key, str] = {}
        self.runs: dict[Key, int] = {}
        self.cancelled: set[UUID] = set()
        self.repeated = ""

    def teardown(self) -> None:
        self.journal.close()
        self.folder.cleanup()

    @rule(key=keys)
    def accept(self, key: Key) -> None:
        answer = self.journal.accept([order(key)], NOW)[key]
        if key in self.state:
            assert answer == "accepted"
            if self.state[key] == "finished":
                self.state[key] = "ended"  # somebody does not know how it ended
        elif key.command_id in self.cancelled:
            assert answer == "cancelled"
        else:
            assert answer == "accepted"
            self.state[key] = "accepted"

    @rule(key=keys)
    def start(self, key: Key) -> None:
        started = self.journal.start(key, "boot", NOW)
        assert started == (self.state.get(key) == "accepted")
        if started:
            self.state[key] = "running"
            self.runs[key] = self.runs.get(key, 0) + 1

    @rule(key=keys)
    def end(self, key: Key) -> None:
        ended = self.journal.end(result(key))
        assert ended == (self.state.get(key) in {"accepted", "running"})
        if ended:
            self.state[key] = "ended"

    @rule(key=keys)
    def acknowledge(self, key: Key) -> None:
        self.journal.acknowledge(key, NOW)
        if self.state.get(key) == "ended":
            self.state[key] = "finished"

    @rule(occasion=st.sampled_from(["one", "two"]))
    def repeat(self, occasion: str) -> None:
        again = {key for key, state in self.state.items() if state == "finished"}
        expected = set() if occasion == self.repeated else again
        assert set(self.journal.repeat(occasion, NOW)) == expected
        self.repeated = occasion
        self.state |= dict.fromkeys(expected, "ended")

    @rule(wanted=st.sets(keys))
    def held(self, wanted: set[Key]) -> None:
        """The server takes these to be here: what does not go on here has an ending to be reported."""
        expected = {key for key in wanted if self.state.get(key, "finished") == "finished"}
        assert set(self.journal.held(sorted(wanted), NOW)) == expected
        outcomes = {
            key: "interrupted" if key.command_id not in self.cancelled else "cancelled"
            for key in expected - self.state.keys()
        }
        self.state |= dict.fromkeys(expected, "ended")
        for key, outcome in outcomes.items():
            ended = self.journal.result(key)
            assert ended is not None
            assert ended.result.outcome == outcome

    @rule(command_id=st.sampled_from(IDS))
    def cancel(self, command_id: UUID) -> None:
        answer, newest = self.journal.cancel([command_id], NOW)[command_id]
        states = {state for key, state in self.state.items() if key.command_id == command_id}
        ended = [
            key.attempt
            for key, state in self.state.items()
            if key.command_id == command_id and state in {"ended", "finished"}
        ]
        assert newest == max(ended, default=0)
        if "running" in states:
            assert answer == "running"
        elif "accepted" in states or not states:
            assert answer == "dropped"
        else:
            assert answer == "ended"
        self.cancelled.add(command_id)
        self.state = {
            key: state
            for key, state in self.state.items()
            if not (key.command_id == command_id and state == "accepted")
        }

    @rule()
    def crash(self) -> None:
        """Go on with what a killed process leaves: the files as they are, without a closing checkpoint."""
        left = tempfile.TemporaryDirectory()
        shutil.copytree(self.folder.name, left.name, dirs_exist_ok=True)
        self.teardown()
        self.folder = left
        self.journal = Journal(Path(left.name))

    @rule()
    def compact(self) -> None:
        self.journal.compact(NOW)

    @precondition(lambda self: self.state)
    @rule(data=st.data())
    def read_order(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.state)))
        assert (self.journal.order(key) is not None) == (self.state[key] == "accepted")

    @invariant()
    def remembers(self) -> None:
        def having(state: str) -> set[Key]:
            return {key for key, known in self.state.items() if known == state}

        assert {waiting.key for waiting in self.journal.waiting()} == having("accepted")
        assert {left.key for left in self.journal.leftovers()} == having("running")
        assert set(self.journal.ended()) == having("ended")
        assert all(count == 1 for count in self.runs.values())


JournalModel.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestJournalModel = JournalModel.TestCase


def test_full_disk_accepts_nothing(tmp_path: Path) -> None:
    """An order that does not fit on the disk is not accepted, nor is any other of its delivery."""
    journal = Journal(tmp_path, max_pages=24)
    small = order(Key(uuid4(), 1))
    large = order(Key(uuid4(), 1), work=b"x" * 200_000)
    with pytest.raises(JournalFullError):
        journal.accept([small, large], NOW)
    assert journal.waiting() == []
    assert journal.accept([small], NOW) == {Key(small.command_id, 1): "accepted"}
    journal.close()


def test_orders_are_sealed(tmp_path: Path) -> None:
    """What an order says is nowhere on disk in the clear, and once nothing waits its key is gone too."""
    journal = Journal(tmp_path)
    key = Key(uuid4(), 1)
    journal.accept([order(key, work=b"the s3cret body")], NOW)
    first_key = (tmp_path / "journal.key").read_bytes()
    assert not any(b"s3cret" in path.read_bytes() for path in tmp_path.iterdir())
    opened = journal.order(key)
    assert opened is not None
    assert opened.work == b"the s3cret body"
    journal.start(key, "boot", NOW)
    journal.compact(NOW)
    assert (tmp_path / "journal.key").read_bytes() != first_key
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    journal.close()


def test_forgets_after_its_memory(tmp_path: Path) -> None:
    """Finished ids are remembered for longer than a command may wait, and not for ever."""
    journal = Journal(tmp_path)
    key = Key(uuid4(), 1)
    journal.accept([order(key)], NOW)
    journal.end(result(key))
    journal.acknowledge(key, NOW)
    journal.compact(NOW + MEMORY - timedelta(days=1))
    assert journal.accept([order(key)], NOW) == {key: "accepted"}
    assert journal.waiting() == []
    journal.acknowledge(key, NOW)
    journal.compact(NOW + MEMORY + timedelta(days=1))
    journal.accept([order(key)], NOW)
    assert [waiting.key for waiting in journal.waiting()] == [key]
    journal.close()


def test_damaged_file_is_said(tmp_path: Path) -> None:
    """A journal that cannot be read stops the agent: starting afresh could run things twice."""
    (tmp_path / "journal.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StateDamagedError):
        Journal(tmp_path)


def finished(journal: Journal, key: Key, report: ResultReport, at: datetime) -> None:
    """Have an attempt be accepted, ended and acknowledged."""
    journal.accept([order(key)], NOW)
    journal.start(key, "boot", NOW)
    journal.end(report)
    journal.acknowledge(key, at)


def test_what_was_acknowledged_is_said_again(tmp_path: Path) -> None:
    """A server that was set back hears each result since then once more, with the end of what was printed."""
    journal = Journal(tmp_path)
    before, after = Key(IDS[0], 1), Key(IDS[1], 1)
    finished(journal, before, result(before), NOW)
    long = StreamReport(size=10**6, sha256="0" * 64, tail=b"the end\n")
    report = ResultReport(command_id=after.command_id, attempt=1, outcome="failed", exit_code=7, stdout=long)
    finished(journal, after, report, NOW + timedelta(hours=1))
    journal.note("facts", "told")
    journal.note("other", "stays")
    assert journal.repeat("restored", NOW + timedelta(minutes=30), ("facts", "software")) == [after]
    assert (journal.notes().get("facts"), journal.notes().get("other")) == (None, "stays")
    journal.note("facts", "told again")
    assert journal.repeat("restored", NOW + timedelta(minutes=30), ("facts", "software")) == []
    assert journal.notes()["facts"] == "told again"
    again = journal.result(after)
    assert again is not None
    assert (again.result.outcome, again.result.exit_code, again.stdout_spool) == ("failed", 7, False)
    assert again.result.stdout.tail == b"the end\n"
    assert zlib.decompress(again.result.stdout.inline or b"") == b"the end\n"
    assert again.result.stdout.sha256 == hashlib.sha256(b"the end\n").hexdigest()
    assert "of stdout the end alone was kept" in again.result.detail
    journal.close()


def test_a_result_is_not_kept_for_ever(tmp_path: Path) -> None:
    """Weeks after its acknowledgement the attempt alone is remembered, and is never run again for that."""
    journal = Journal(tmp_path)
    key = Key(IDS[0], 1)
    finished(journal, key, result(key), NOW)
    journal.compact(NOW + RESULTS_KEPT + timedelta(seconds=1))
    assert journal.accept([order(key, expires_at=NOW + timedelta(days=90))], NOW) == {key: "accepted"}
    assert journal.waiting() == []
    again = journal.result(key)
    assert again is not None
    assert again.result.outcome == "interrupted"
    journal.close()


def test_a_journal_of_the_first_version_is_read(tmp_path: Path) -> None:
    """An agent that is updated keeps what it had finished before."""
    journal = Journal(tmp_path)
    key = Key(IDS[0], 1)
    finished(journal, key, result(key), NOW)
    journal.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.db")) as file:
        file.execute("ALTER TABLE finished DROP COLUMN result")
        file.execute("PRAGMA user_version = 1")
    journal = Journal(tmp_path)
    assert journal.repeat("restored", NOW) == [key]
    journal.close()
