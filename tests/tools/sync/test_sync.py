"""After a sync the destination is what the source is, by every kind of signature."""

from __future__ import annotations

import json
import os
import stat
from urllib.request import Request, urlopen

import pytest

from fsspec_osspresigned import (
    ConfigurationError,
    NotCoveredError,
    UploadErrors,
    sync,
)
from fsspec_osspresigned.client import client
from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import (
    StoreError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART
from fsspec_osspresigned.tools.cli.sync import exit_code
from fsspec_osspresigned.tools.sync import source as sync_source
from fsspec_osspresigned.tools.sync.state import SyncState
from tests.tools.sync.conftest import BUCKET, FILES, write

DEST = f"{BUCKET}/backup"
OBJECTS = {f"backup/{name}": data for name, data in FILES.items()}


def puts(owner):
    """Return how many objects were put since the requests were cleared."""
    return owner.actions().count("PutObject")


# -- what is sent ------------------------------------------------------------------------


def test_all_is_sent_once(full, owner, source):
    """The first run sends all, the second one nothing, with any signer."""
    result = sync(source, DEST, filesystem=full)
    assert owner.stored() == OBJECTS
    assert (result.sent, result.sent_bytes) == (5, sum(map(len, FILES.values())))
    assert (result.same, exit_code(result), result.is_complete) == (0, 0, True)
    owner.oss.clear()
    result = sync(str(source) + "/", f"osspresigned://{DEST}/", filesystem=full)
    assert (result.sent, result.same, exit_code(result)) == (0, 5, 0)
    assert set(owner.actions()) == {"ListObjectsV2"}


def test_only_changes_are_sent(fs, owner, source):
    """Another size, a later change, a new file; what only the destination has stays."""
    sync(source, DEST, filesystem=fs)
    fs.pipe_file(f"{DEST}/more", b"more")
    (source / "a.csv").write_bytes(b"longer than it was")
    os.utime(source / "a.csv", (1, 1))
    (source / "logs/two.log").write_bytes(b"owt\n")
    future = os.stat(source / "empty").st_mtime + 1_000
    os.utime(source / "logs/two.log", (future, future))
    write(source, {"new": b"n"})
    events = []
    result = sync(source, DEST, filesystem=fs, on_event=events.append)
    why = {item.entry.name: item.why for item in result.plan.send}
    assert why == {"a.csv": "other size", "logs/two.log": "newer", "new": "new"}
    assert (result.sent, result.same, result.plan.extra) == (3, 3, [])
    stored = owner.stored()
    assert stored["backup/logs/two.log"] == b"owt\n"
    assert stored["backup/more"] == b"more"
    told = [(event.kind, event.name) for event in events if event.kind != "bytes"]
    assert told[0] == ("plan", "")
    assert (events[0].count, events[0].size) == (3, 23)
    assert sorted(told[1:]) == sorted(
        [("begin", name) for name in why] + [("sent", name) for name in why]
    )
    assert sum(event.size for event in events if event.kind == "bytes") == 23
    assert json.dumps(events[0].as_dict())


def test_file_of_the_same_second_is_compared_by_its_bytes(fs, owner, source):
    """If the times are too close, HEAD and CRC-64 decide."""
    write(source, {"now": b"now"}, age=0)
    sync(source, DEST, filesystem=fs)
    owner.oss.clear()
    assert sync(source, DEST, filesystem=fs).same == 6
    assert owner.actions().count("HeadObject") == 1
    write(source, {"now": b"won"}, age=0)
    result = sync(source, DEST, filesystem=fs)
    assert [item.why for item in result.plan.send] == ["other content"]
    assert owner.stored()["backup/now"] == b"won"


@pytest.mark.parametrize("compare", ["size", "checksum"])
def test_time_is_not_looked_at(fs, owner, source, compare):
    """By size or by checksum, a file that was only touched is the same."""
    sync(source, DEST, filesystem=fs)
    owner.oss.clear()
    for name in FILES:
        os.utime(source / name)
    assert sync(source, DEST, filesystem=fs, compare=compare).same == 5
    write(source, {"a.csv": b"x,y\n1,2\n"})
    sent = sync(source, DEST, filesystem=fs, compare=compare).sent
    assert sent == (1 if compare == "checksum" else 0)
    heads = owner.actions().count("HeadObject")
    assert heads == (10 if compare == "checksum" else 0)


def test_checksum_where_nobody_signs_head(only, owner, source):
    """A plain ETag of the listing is an MD5; without one, the file is sent."""
    fs = only("ListObjectsV2", part_size=MIN_PART, multipart_threshold=MIN_PART)
    write(source, {"large": b"l" * (MIN_PART + 1)})
    sync(source, DEST, filesystem=fs)
    write(source, {"a.csv": b"x,y\n1,2\n"})
    result = sync(source, DEST, filesystem=fs, compare="checksum")
    assert {item.entry.name for item in result.plan.send} == {"a.csv", "large"}
    assert result.same == 4


def test_object_that_goes_meanwhile_is_sent(fs, owner, source):
    """It was listed, and HEAD finds nothing, or another size."""
    sync(source, DEST, filesystem=fs)
    owner.oss.faults.add(
        Fault(action="HeadObject", key="backup/empty", status=404, code="NoSuchKey")
    )
    result = sync(source, DEST, filesystem=fs, compare="checksum")
    assert {i.entry.name: i.why for i in result.plan.send} == {"empty": "new"}


@pytest.mark.parametrize("often", [1, 2])
def test_file_that_changes_after_its_last_byte_is_sent_again(
    fs, owner, source, monkeypatch, often
):
    """Otherwise its object would be newer than the change, and count as equal."""
    changes = _changing(fs, source / "a.csv", often, monkeypatch)
    events = []
    result = sync(source, DEST, filesystem=fs, on_event=events.append)
    assert owner.stored()["backup/a.csv"] == changes[-1]
    assert len(changes) == often
    assert (result.sent, sum(len(d) for d in FILES.values())) == (5, result.sent_bytes)
    assert sum(e.size for e in events if e.kind == "bytes") == result.sent_bytes
    assert sync(source, DEST, filesystem=fs, compare="checksum").same == 5


def _changing(fs, path, often, monkeypatch):
    """Change the file *path* in place whenever it was stored; return its contents."""
    changes = []

    def change():
        if len(changes) < often:
            at = path.stat().st_mtime_ns + 10**9
            changes.append(b"%08d" % len(changes))
            path.write_bytes(changes[-1])
            os.utime(path, ns=(at, at))

    _after_storing(fs, path, change, monkeypatch)
    return changes


def _after_storing(fs, path, act, monkeypatch):
    """Call *act* whenever the file *path* was stored."""
    real = fs.client.call

    async def call(operation, *args, **options):
        result = await real(operation, *args, **options)
        if operation.key == f"backup/{path.name}":
            act()
        return result

    monkeypatch.setattr(fs.client, "call", call)


def test_large_file_goes_on_after_a_crash(environment, owner, source, tmp_path):
    """With resume_dir, the next run sends only the parts that are missing."""
    (source / "large").write_bytes(os.urandom(4 * MIN_PART))
    fs = OSSPresignedFileSystem(
        signer="keys",
        part_size=MIN_PART,
        multipart_threshold=MIN_PART,
        max_concurrency=1,
        resume_dir=str(tmp_path / "journals"),
    )
    refused = {"status": 403, "code": "AccessDenied"}
    owner.oss.faults.add(Fault(action="UploadPart", part_number=3, **refused))
    result = sync(source, DEST, filesystem=fs, on_error="return")
    assert (list(result.failed), result.sent) == (["large"], 5)
    owner.oss.clear()
    assert sync(source, DEST, filesystem=fs).sent == 1
    assert owner.actions().count("UploadPart") == 2


@pytest.mark.parametrize("offset", [-300, 300])
def test_clocks_may_differ(source, monkeypatch, offset, tmp_path):
    """The times of files are by this clock, those of objects by the store's."""
    with Emulator() as oss:
        oss.clock.offset = offset
        key = oss.credentials
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", key.access_key_id)
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", key.access_key_secret.reveal())
        options = {"signer": "keys", "endpoint": oss.url, "region": "cn-hangzhou"}
        sync(source, DEST, storage_options=options)
        write(source, {"a.csv": b"x,y\n1,2\n"}, age=-60)
        OSSPresignedFileSystem.clear_instance_cache()
        client.reset()
        oss.clear()
        result = sync(source, DEST, storage_options=options, dry_run=True)
        assert {i.entry.name: i.why for i in result.plan.send} == {"a.csv": "newer"}
        assert [r.action for r in oss.requests] == ["ListObjectsV2", "HeadObject"]


# -- deleting ----------------------------------------------------------------------------


@pytest.fixture
def stored(fs, source):
    """A destination that has two objects too many."""
    sync(source, DEST, filesystem=fs)
    fs.pipe({f"{DEST}/old": b"old", f"{DEST}/logs/older": b"older"})
    return fs


def test_delete_deletes_exactly_what_it_lists(stored, owner, source):
    """All that the source does not have, and nothing else."""
    asked, events = [], []
    result = sync(
        source,
        DEST,
        filesystem=stored,
        delete=True,
        confirm=asked.extend,
        on_event=events.append,
    )
    names = ["logs/older", "old"]
    assert sorted(result.deleted) == [one.name for one in asked] == names
    assert sorted(e.name for e in events if e.kind == "deleted") == names
    assert owner.stored() == OBJECTS
    assert not stored.client.written.receipt(f"{DEST}/old")


def test_more_than_may_be_is_not_deleted(stored, owner, source):
    """The limit is checked before anything is done."""
    write(source, {"new": b"n"})
    with pytest.raises(
        ConfigurationError, match="2 objects would be deleted, the limit is 1"
    ):
        sync(source, DEST, filesystem=stored, delete=True, max_delete=1)
    assert "backup/new" not in owner.stored()
    assert len(sync(source, DEST, filesystem=stored, delete=True, max_delete=2).deleted) == 2  # fmt: skip
    with pytest.raises(ConfigurationError, match="max_delete= needs delete"):
        sync(source, DEST, filesystem=stored, max_delete=1)


def test_empty_source_deletes_nothing_unless_it_is_meant(stored, owner, tmp_path):
    """A disk that is not mounted looks like an empty directory."""
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigurationError, match="give max_delete=7"):
        sync(empty, DEST, filesystem=stored, delete=True)
    assert len(owner.stored()) == 7
    result = sync(empty, DEST, filesystem=stored, delete=True, max_delete=7)
    assert (len(result.deleted), owner.stored()) == (7, {})


def test_nothing_is_deleted_after_a_failure(stored, owner, source):
    """A file that could not be sent keeps everything."""
    write(source, {"new": b"n"})
    owner.oss.faults.add(Fault(key="backup/new", status=403, code="AccessDenied"))
    with pytest.raises(UploadErrors, match="new") as caught:
        sync(source, DEST, filesystem=stored, delete=True)
    assert list(caught.value.failures) == ["new"]
    assert len(owner.stored()) == 7
    owner.oss.faults.add(Fault(key="backup/new", status=403, code="AccessDenied"))
    result = sync(source, DEST, filesystem=stored, delete=True, on_error="return")
    assert (result.kept, result.deleted, exit_code(result)) == (2, [], 1)


def test_nothing_is_deleted_if_the_source_was_not_read(
    stored, owner, source, monkeypatch
):
    """A directory that cannot be read may hold what the destination has."""
    (source / "secret").mkdir()
    scandir = os.scandir

    def refuse(place):
        if str(place).endswith("secret"):
            raise PermissionError(13, "Permission denied", place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    options = {"filesystem": stored, "delete": True, "on_error": "return"}
    result = sync(source, DEST, **options)
    assert (list(result.failed), result.kept, exit_code(result)) == (["secret"], 2, 1)
    assert len(owner.stored()) == 7
    assert sync(source, DEST, dry_run=True, **options).kept == 2
    rules = ["- secret/"]
    assert len(sync(source, DEST, filters=rules, **options).deleted) == 2


def test_failure_to_delete_stops_deleting(stored, owner, source):
    """It is named, and what was not tried is counted."""
    for name in ("old", "logs/older"):
        fault = Fault(action="DeleteObject", key=f"backup/{name}", status=403, code="X")
        owner.oss.faults.add(fault)
    events = []
    result = sync(
        source,
        DEST,
        filesystem=stored,
        delete=True,
        on_error="return",
        on_event=events.append,
    )
    assert result.failed.keys() <= {"old", "logs/older"}
    assert (result.kept, result.deleted, exit_code(result)) == (2, [], 1)
    assert {e.name for e in events if e.kind == "failed"} == set(result.failed)


def test_destination_that_was_not_listed_as_a_whole_stops_all(stored, owner, source):
    """Nothing is sent, nothing is deleted."""
    owner.oss.clear()
    fault = Fault(action="ListObjectsV2", status=403, code="SignatureDoesNotMatch")
    owner.oss.faults.add(fault)
    with pytest.raises(PermissionError):
        sync(source, DEST, filesystem=stored, delete=True)
    assert owner.actions() == ["ListObjectsV2"]


def test_refusal_of_a_later_page_is_no_blindness(stored, owner, source, monkeypatch):
    """A refusal of a later page raises an error instead of an incomplete listing."""
    pages = sync_source.listing

    async def cut(*arguments, **options):
        yield await anext(pages(*arguments, **options))
        raise NotCoveredError("the second page is not signed")

    monkeypatch.setattr(sync_source, "listing", cut)
    with pytest.raises(NotCoveredError, match="second page"):
        sync(source, DEST, filesystem=stored, delete=True)


def test_listing_that_hides_objects_is_refused(stored, source, monkeypatch):
    """Directories were not asked for: what is in them is not seen."""
    hidden = {"name": f"{DEST}/logs", "size": 0, "type": "directory"}

    async def listing(*_, **__):
        yield hidden

    monkeypatch.setattr(sync_source, "listing", listing)
    with pytest.raises(StoreError, match="were not asked for"):
        sync(source, DEST, filesystem=stored, delete=True)


@pytest.mark.parametrize("signed", [(), ("ListObjectsV2",), ("DeleteObject",)])
def test_delete_needs_a_listing_and_delete(only, stored, owner, source, signed):
    """If listing or deleting is not signed, nothing is sent or deleted."""
    write(source, {"new": b"n"})
    with pytest.raises(NotCoveredError, match="delete needs"):
        sync(source, DEST, filesystem=only(*signed), delete=True)
    assert "backup/new" not in owner.stored()


def test_what_is_no_file_protects_what_lies_below(fs, owner, source):
    """A link to a directory and a pipe are not sent, and objects below them stay."""
    (source / "link").symlink_to(source / "logs")
    os.mkfifo(source / "pipe")
    (source / "alias").symlink_to(source / "a.csv")
    (source / "hollow").mkdir()
    fs.pipe({f"{DEST}/link/x": b"x", f"{DEST}/pipe": b"p"})
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # what urllib adds
    url = owner.url("backup/hollow/", headers=form)
    urlopen(Request(url, data=b"", method="PUT")).close()
    events = []
    result = sync(source, DEST, filesystem=fs, delete=True, on_event=events.append)
    left = {"link": "link to a directory", "pipe": "pipe, socket or device"}
    assert result.left_out == left
    assert {e.name: e.why for e in events if e.kind == "left_out"} == left
    assert (result.deleted, exit_code(result)) == ([], 0)
    stored = owner.stored()
    assert stored["backup/alias"] == FILES["a.csv"]
    assert {"backup/link/x", "backup/pipe", "backup/hollow/"} < set(stored)


# -- where nobody may list ---------------------------------------------------------------


@pytest.fixture
def state(tmp_path):
    """The path of the state file."""
    return tmp_path / "state.jsonl"


def test_blind_without_state_is_refused(only, owner, source):
    """Without listing and state file, each run would send everything, so it is refused."""
    blind = only()
    with pytest.raises(ConfigurationError, match="state=FILE"):
        sync(source, DEST, filesystem=blind)
    assert owner.stored() == {}
    result = sync(source, DEST, filesystem=blind, ignore_times=True)
    assert (result.sent, owner.stored()) == (5, OBJECTS)


def test_state_makes_the_second_run_send_nothing(only, owner, source, state):
    """Only a changed file is sent again, even if its time is older."""
    blind = only()
    assert sync(source, DEST, filesystem=blind, state=state).sent == 5
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    owner.oss.clear()
    assert sync(source, DEST, filesystem=blind, state=state).same == 5
    assert owner.actions() == []
    (source / "a.csv").write_bytes(b"x,y\n1,2\n")
    os.utime(source / "a.csv", (1, 1))
    result = sync(source, DEST, filesystem=blind, state=str(state))
    assert [item.why for item in result.plan.send] == ["newer"]
    again = sync(source, DEST, filesystem=blind, state=state, ignore_times=True)
    assert {item.why for item in again.plan.send} == {"always"}
    assert sync(source, f"{BUCKET}/other", filesystem=blind, state=state).sent == 5


def test_checksum_from_the_state(only, owner, source, state):
    """No object is checked."""
    blind = only()
    sync(source, DEST, filesystem=blind, state=state)
    for name in FILES:
        os.utime(source / name)
    write(source, {"a.csv": b"x,y\n1,2\n"})
    options = {"filesystem": blind, "state": state}
    result = sync(source, DEST, compare="checksum", dry_run=True, **options)
    assert {i.entry.name: i.why for i in result.plan.send} == {"a.csv": "other content"}
    owner.oss.clear()
    sync(source, DEST, compare="checksum", **options)
    assert puts(owner) == 1
    # A file with equal bytes is recorded with its new time.
    assert sync(source, DEST, **options).same == 5


def test_state_beside_a_listing(fs, owner, source, state):
    """An object that another program has replaced is sent again."""
    options = {"filesystem": fs, "state": state}
    sync(source, DEST, **options)
    os.utime(source / "a.csv", (1, 1))
    assert sync(source, DEST, **options).sent == 1  # older, and changed anyway
    fs.pipe_file(f"{DEST}/a.csv", b"y,x\n1,2\n")
    assert sync(source, DEST, **options).sent == 0  # by time: the source is older
    fs.rm_file(f"{DEST}/empty")
    assert sync(source, DEST, **options).sent == 1
    (source / "empty").unlink()
    assert sync(source, DEST, delete=True, **options).deleted == ["empty"]
    with SyncState(state) as found:
        assert f"{DEST}/empty" not in found.rows


def test_state_is_written_as_files_finish(only, owner, source, state):
    """Files that were sent before a failure are not sent again."""
    blind = only(max_concurrency=1)
    owner.oss.faults.add(Fault(key="backup/logs/two.log", status=403, code="X"))
    options = {"filesystem": blind, "state": state}
    result = sync(source, DEST, fail_fast=True, on_error="return", **options)
    assert (list(result.failed), exit_code(result)) == (["logs/two.log"], 1)
    assert result.sent + result.not_tried == 4
    assert sync(source, DEST, **options).sent == 1 + result.not_tried
    assert owner.stored() == OBJECTS


@pytest.mark.parametrize("through", ["source", "link"])
def test_state_in_the_source_is_not_sent(only, owner, source, through):
    """The state file and its lock are not uploaded."""
    (source.parent / "link").symlink_to(source)
    place = source.parent / through
    options = {"filesystem": only(), "state": place / "logs" / "s[t]{a}*?\\te"}
    assert sync(place, DEST, **options).sent == 5
    assert sync(place, DEST, **options).same == 5
    assert owner.stored() == OBJECTS


def test_object_that_its_owner_completes_is_not_remembered(only, source, state):
    """An upload that its owner must complete is not recorded as sent."""
    from fsspec_osspresigned.model import Receipt  # noqa: PLC0415 - one test
    from fsspec_osspresigned.tools.sync.directions import Upward  # noqa: PLC0415
    from fsspec_osspresigned.tools.sync.plan import Entry  # noqa: PLC0415
    from fsspec_osspresigned.tools.sync.source import LocalSource  # noqa: PLC0415
    from fsspec_osspresigned.tools.sync.sync import SyncRun  # noqa: PLC0415

    up = Upward(filesystem=only(), source=LocalSource(str(source)), root=f"{DEST}/")
    with SyncState(state) as held:
        whole = SyncRun(direction=up, held=held)
        pending = Receipt(path="b/a", size=1, status="pending")
        run(whole.stored, Entry("a", 1), pending)
    assert whole.result.sent == 1
    with SyncState(state) as held:
        assert held.rows == {}


# -- URL maps ----------------------------------------------------------------------------


def test_map_sends_what_it_covers_and_lists_the_rest(owner, source, state):
    """With every file that is not in it, and exit code 1."""
    place = owner.map_file("backup/a.csv", "backup/empty")
    fs = OSSPresignedFileSystem(url_map=place)
    dry = sync(
        source, DEST, filesystem=fs, state=state, dry_run=True, on_error="return"
    )
    events = []
    result = sync(
        source,
        DEST,
        filesystem=fs,
        state=state,
        on_error="return",
        on_event=events.append,
    )
    assert set(owner.stored()) == {"backup/a.csv", "backup/empty"}
    assert set(result.uncovered) == set(FILES) - {"a.csv", "empty"}
    assert (result.sent, exit_code(result), result.failed) == (2, 1, {})
    assert dry.uncovered.keys() == result.uncovered.keys()
    assert {e.name for e in events if e.kind == "uncovered"} == set(result.uncovered)
    with pytest.raises(UploadErrors, match="0 of 3 files sent"):
        sync(source, DEST, filesystem=fs, state=state)
    result = sync(
        source, DEST, filesystem=fs, state=state, fail_fast=True, ignore_times=True, on_error="return"
    )  # fmt: skip
    assert (result.sent, result.not_tried, exit_code(result)) == (0, 2, 3)


# -- failures ----------------------------------------------------------------------------


def test_names_that_cannot_be_keys_are_refused(fs, owner, source):
    """They fail alone, and nothing is deleted."""
    name = os.fsdecode(b"\xff")
    (source / name).write_bytes(b"x")
    long = source / ("d" * 200)
    for _ in range(5):
        long = long / ("d" * 200)
    fs.pipe_file(f"{DEST}/old", b"old")
    write(long, {"f": b"x"})
    result = sync(source, DEST, filesystem=fs, delete=True, on_error="return")
    assert result.sent == 5
    assert len(result.failed) == 2
    assert all(isinstance(e, ConfigurationError) for e in result.failed.values())
    assert result.kept == 1


def test_file_that_cannot_be_read_for_comparison_fails_alone(fs, source, monkeypatch):
    """A file that cannot be compared counts as failed; the others are compared."""
    from fsspec_osspresigned.tools.sync.source import LocalSource  # noqa: PLC0415

    sync(source, DEST, filesystem=fs)
    opened = LocalSource.open

    def refuse(self, name):
        if name == "a.csv":
            raise PermissionError(13, "Permission denied", name)
        return opened(self, name)

    monkeypatch.setattr(LocalSource, "open", refuse)
    result = sync(source, DEST, filesystem=fs, compare="checksum", on_error="return")
    assert (list(result.failed), result.same) == (["a.csv"], 4)


def test_store_that_denies_head_with_a_mistake_stops_all(fs, owner, source):
    """An invalid signature raises an error, instead of a run without listing."""
    sync(source, DEST, filesystem=fs)
    fault = Fault(action="HeadObject", status=403, code="SignatureDoesNotMatch", times=None)  # fmt: skip
    owner.oss.faults.add(fault)
    # One failure is raised as itself, and others may have been under way.
    with pytest.raises(OSError, match="SignatureDoesNotMatch"):
        sync(source, DEST, filesystem=fs, compare="checksum")


def test_ctrl_c_ends_it_and_keeps_what_was_done(only, owner, source, state):
    """Nothing runs any more, and the next run sends the rest."""
    blind = only(max_concurrency=1)
    done = []

    def on_event(event):
        if event.kind == "sent":
            done.append(event.name)
            if len(done) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync(source, DEST, filesystem=blind, state=state, on_event=on_event)
    assert sync(source, DEST, filesystem=blind, state=state).sent == 3
    assert owner.stored() == OBJECTS


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"compare": "mood"}, "compare must be one of time, size, checksum"),
        ({"on_error": "cry"}, "on_error must be"),
        ({"filters": ["*.csv"]}, "is not a rule"),
        ({"filters": "*.csv"}, "a list of rules"),
        ({"storage_class": "Gold"}, "storage_class"),
    ],
)
def test_what_is_said_wrong_is_refused(fs, source, wrong, why):
    """A wrong option is refused before any request."""
    with pytest.raises(ValueError, match=why):
        sync(source, DEST, filesystem=fs, **wrong)


@pytest.mark.parametrize(
    "destination", ["", "/", "osspresigned://", "s3://b/k", "b/../k", "./b"]
)
def test_destination_must_name_a_bucket(fs, source, destination):
    """There is no default."""
    with pytest.raises(ConfigurationError, match=r"write (BUCKET/PREFIX|bucket/key)"):
        sync(source, destination, filesystem=fs)
