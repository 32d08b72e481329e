"""Copying, moving and removing inside the store, and that nothing is lost by it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.engine import abort_at_exit
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    ConfigurationError,
    ExistenceNotVerifiedWarning,
    IntegrityError,
    InvalidRequestError,
    NotCoveredError,
    ObjectExistsError,
    ObjectNotVisibleError,
    SourceChangedError,
    UploadDiscardedError,
    UploadErrors,
    URLExpiredError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.objects import copy as copying
from fsspec_osspresigned.options.target import Target

ROOT = "examplebucket"
PATH = f"{ROOT}/a"
COPY = f"{ROOT}/c"
PART = 100 * 1024
LARGE = os.urandom(PART * 5 + 1)


@pytest.fixture
def in_parts(monkeypatch):
    """Let a few hundred KiB be too large for one CopyObject."""
    monkeypatch.setattr(copying, "MAX_SINGLE_COPY", PART)
    monkeypatch.setattr(copying, "COPY_PART", PART)


@pytest.mark.usefixtures("in_parts")
def test_a_large_object_is_copied_in_parts(full, owner):
    """Bytes, Content-Type and metadata are those of the source, as with one request."""
    full.pipe_file(
        PATH,
        LARGE,
        content_type="a/b",
        metadata={"k": "v"},
        headers={"Cache-Control": "no-cache"},
    )
    owner.oss.clear()
    full.cp_file(PATH, COPY, storage_class="IA")
    copy = owner.oss.get(ROOT, "c")
    assert copy.data() == LARGE
    assert copy.headers["content-type"] == "a/b"
    assert copy.headers["x-oss-meta-k"] == "v"
    assert copy.headers["cache-control"] == "no-cache"
    assert copy.headers["x-oss-storage-class"] == "IA"
    assert owner.actions().count("UploadPartCopy") == 6
    parts = [r for r in owner.oss.requests if r.action == "UploadPartCopy"]
    etag = f'"{owner.oss.get(ROOT, "a").etag}"'
    pins = {r.request_headers["x-oss-copy-source-if-match"] for r in parts}
    assert pins == {etag}
    full.cp_file(PATH, COPY, content_type="c/d")
    assert "x-oss-meta-k" not in owner.oss.get(ROOT, "c").headers
    assert owner.oss.get(ROOT, "c").headers["content-type"] == "c/d"
    with pytest.raises(FileExistsError):
        full.cp_file(PATH, COPY, overwrite=False)
    assert not owner.oss.uploads(ROOT)


@pytest.mark.usefixtures("in_parts")
def test_a_copy_does_not_outlive_its_process(fs, owner):
    """At the end of the interpreter, an unfinished copy is aborted and waited for."""
    fs.pipe_file(PATH, LARGE)
    owner.oss.faults.add(Fault(action="UploadPartCopy", status=503, times=None))
    owner.oss.faults.add(Fault(action="AbortMultipartUpload", delay=0.5))

    def copy():
        with contextlib.suppress(OSError):
            fs.cp_file(PATH, COPY)

    thread = threading.Thread(target=copy)
    thread.start()
    while "UploadPartCopy" not in owner.actions():
        time.sleep(0.01)
    abort_at_exit.end_all()
    assert not owner.oss.uploads(ROOT)
    owner.oss.faults.clear()
    thread.join()
    assert COPY not in owner.stored()


@pytest.mark.usefixtures("in_parts")
def test_tags_that_cannot_be_copied_are_told(fs, owner, caplog):
    """HEAD counts them and does not name them."""
    fs.pipe_file(PATH, LARGE, headers={"x-oss-tagging": "a=b"})
    with caplog.at_level(logging.WARNING):
        fs.cp_file(PATH, COPY)
    assert "they are not copied" in caplog.text


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(action="UploadPartCopy", part_number=3, status=400, code="BadThing"),
        Fault(action="UploadPartCopy", status=400, code="BadThing", times=None),
        Fault(action="CompleteMultipartUpload", status=400, code="BadThing"),
    ],
    ids=("one part", "all parts", "complete"),
)
def test_a_copy_in_parts_that_fails_is_aborted(fs, owner, fault):
    """The first failure is raised, and no parts are left to be paid for."""
    fs.pipe_file(PATH, LARGE)
    owner.oss.faults.add(fault)
    with pytest.raises(InvalidRequestError, match="BadThing"):
        fs.cp_file(PATH, COPY)
    assert not owner.oss.uploads(ROOT)
    assert set(owner.stored()) == {"a"}


@pytest.mark.usefixtures("in_parts")
def test_parts_that_are_not_the_source_are_not_published(fs, owner):
    """Their CRC-64s are compared before the end; without them, an ETag is necessary."""
    fs.pipe_file(PATH, LARGE)
    owner.oss.faults.add(Fault(action="UploadPartCopy", part_number=2, wrong_crc=True))
    with pytest.raises(IntegrityError, match="its source"):
        fs.cp_file(PATH, COPY)
    assert set(owner.stored()) == {"a"}
    assert not owner.oss.uploads(ROOT)
    owner.oss.faults.add(Fault(action="UploadPartCopy", no_crc=True, times=None))
    fs.cp_file(PATH, COPY)
    owner.oss.faults.add(
        Fault(action="HeadObject", no_crc=True, no_etag=True, times=None)
    )
    with pytest.raises(IntegrityError, match="two versions"):
        fs.cp_file(PATH, f"{ROOT}/d")
    assert not owner.oss.uploads(ROOT)
    owner.oss.faults.clear()
    owner.oss.faults.add(Fault(action="HeadObject", no_etag=True, times=None))
    fs.cp_file(PATH, f"{ROOT}/d")
    assert owner.stored() == {"a": LARGE, "c": LARGE, "d": LARGE}


@pytest.mark.usefixtures("in_parts")
def test_a_large_source_that_is_replaced_meanwhile(fs, owner):
    """No object is made of two versions."""
    fs.pipe_file(PATH, LARGE)
    source = copying.SourceHead(len(LARGE), '"0"', "0", {})
    copy = copying.Copying(fs.client, PATH, Target(path=COPY), source)
    with pytest.raises(SourceChangedError):
        run(copy.run)
    assert set(owner.stored()) == {"a"}
    assert not owner.oss.uploads(ROOT)


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("action", ["InitiateMultipartUpload", "UploadPartCopy"])
def test_a_cancelled_copy_is_aborted(fs, owner, action):
    """Requests in flight are waited for, and no part is left."""
    fs.pipe_file(PATH, LARGE)
    owner.oss.clear()
    owner.oss.faults.add(Fault(action=action, delay=0.3))

    async def main():
        task = asyncio.create_task(fs._cp_file(PATH, COPY))
        await asyncio.to_thread(owner.wait_for_faults)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return owner.oss.uploads(ROOT)

    assert not asyncio.run(main())
    assert set(owner.stored()) == {"a"}


def test_a_copy_is_of_one_version_and_compared(full, owner):
    """The source's ETag goes along, and the reply's CRC-64 is that of the source."""
    full.pipe_file(PATH, b"1")
    owner.oss.clear()
    full.cp_file(PATH, COPY)
    assert owner.actions() == ["HeadObject", "CopyObject"]
    etag = f'"{owner.oss.get(ROOT, "a").etag}"'
    sent = owner.oss.requests[-1].request_headers
    assert sent["x-oss-copy-source-if-match"] == etag
    owner.oss.faults.add(Fault(action="CopyObject", wrong_crc=True))
    with pytest.raises(IntegrityError, match="its source"):
        full.cp_file(PATH, COPY)


def test_an_exclusive_copy_onto_an_equal_object_fails(fs, owner):
    """The object existed before, so this copy has not stored it."""
    fs.pipe_file(PATH, b"1")
    fs.pipe_file(COPY, b"1")
    with pytest.raises(ObjectExistsError):
        fs.cp_file(PATH, COPY, overwrite=False)
    # Another process stores it after the look.
    owner.oss.faults.add(Fault(action="HeadObject", key="c", status=404))
    with pytest.raises(ObjectExistsError):
        fs.cp_file(PATH, COPY, overwrite=False)
    assert owner.actions()[-1] == "CopyObject"


@pytest.mark.usefixtures("in_parts")
def test_a_copy_has_no_more_parts_than_the_store_takes(fs, owner, monkeypatch):
    """Its parts get larger instead, also where the size is no multiple of them."""
    monkeypatch.setattr(copying, "MAX_PARTS", 5)
    fs.pipe_file(PATH, LARGE)
    fs.cp_file(PATH, COPY)
    assert owner.actions().count("UploadPartCopy") == 5
    assert owner.stored()["c"] == LARGE


@pytest.mark.usefixtures("in_parts")
def test_no_copy_in_parts_begins_after_sigterm(fs, owner, monkeypatch):
    """Its parts would outlive the process."""
    fs.pipe_file(PATH, LARGE)
    owner.oss.clear()
    monkeypatch.setattr(abort_at_exit, "is_terminating", True)
    with pytest.raises(UploadDiscardedError, match="no new transfer begins"):
        fs.cp_file(PATH, COPY)
    assert "InitiateMultipartUpload" not in owner.actions()


def test_a_source_that_is_replaced_meanwhile(fs, owner):
    """The store refuses to copy another version than the one that HEAD saw."""
    fs.pipe_file(PATH, b"1")
    owner.oss.faults.add(Fault(action="HeadObject", wrong_etag=True))
    with pytest.raises(SourceChangedError):
        fs.cp_file(PATH, COPY)
    owner.oss.faults.add(Fault(action="CopyObject", status=400, code="BadThing"))
    with pytest.raises(InvalidRequestError, match="BadThing"):
        fs.cp_file(PATH, COPY)
    assert set(owner.stored()) == {"a"}


def test_a_copy_whose_reply_tells_no_checksum_is_looked_at(fs, owner):
    """HEAD decides then; without permission for it, the store's reply counts."""
    fs.pipe_file(PATH, b"1")
    owner.oss.faults.add(Fault(action="CopyObject", no_crc=True, times=None))
    owner.oss.clear()
    owner.oss.faults.add(Fault(action="CopyObject", no_crc=True, times=None))
    fs.cp_file(PATH, COPY)
    assert owner.actions() == ["HeadObject", "CopyObject", "HeadObject"]
    owner.oss.faults.add(Fault(action="HeadObject", key="c", wrong_crc=True))
    with pytest.raises(IntegrityError):
        fs.cp_file(PATH, COPY)
    owner.oss.faults.add(Fault(action="HeadObject", key="c", refuse="denied"))
    fs.cp_file(PATH, COPY)
    owner.oss.faults.add(Fault(action="HeadObject", key="c", status=404))
    with pytest.raises(IntegrityError, match="does not exist"):
        fs.cp_file(PATH, COPY)
    owner.oss.faults.add(Fault(action="HeadObject", key="a", no_crc=True))
    fs.cp_file(PATH, COPY)


def test_a_copy_where_nobody_may_look(only, owner):
    """CopyObject alone is enough; own objects stay known under their new name.

    If the source does not exist, the error names the source.
    """
    fs = only("CopyObject")
    fs.pipe_file(PATH, b"1")
    owner.oss.clear()
    fs.cp_file(PATH, COPY)
    assert owner.actions() == ["CopyObject"]
    assert fs.info(COPY)["size"] == 1
    assert fs.cat_file(COPY) == b"1"
    with pytest.raises(FileNotFoundError) as missing:
        fs.cp_file(f"{ROOT}/none", COPY)
    assert missing.value.filename == missing.value.path == f"{ROOT}/none"
    assert fs.cat_file(COPY) == b"1"


def test_a_copy_of_what_another_process_wrote_is_not_read_from_memory(only, owner):
    """If the source was replaced, the copy is not recorded as our object."""
    fs = only("CopyObject")
    fs.pipe_file(PATH, b"own")
    OSSPresignedFileSystem(signer="keys").pipe_file(PATH, b"of another")
    fs.cp_file(PATH, COPY)
    assert owner.stored()["c"] == b"of another"
    for ask in (fs.cat_file, fs.exists):
        with pytest.raises(PermissionError, match="unknown"):
            ask(COPY)


def test_a_source_that_the_store_lets_nobody_look_at(fs, owner):
    """A denied HEAD does not stop a copy; an expired URL does."""
    fs.pipe_file(PATH, b"1")
    owner.oss.faults.add(Fault(action="HeadObject", refuse="denied"))
    fs.cp_file(PATH, COPY)
    owner.oss.faults.add(Fault(action="HeadObject", refuse="expired", times=None))
    with pytest.raises(URLExpiredError):
        fs.cp_file(PATH, COPY)


def test_an_exclusive_copy_whose_first_reply_was_lost(only, owner):
    """An object at the destination may be our own copy, from a lost reply."""
    fs = only("CopyObject", "HeadObject")
    fs.pipe_file(PATH, b"1")
    target = Target.of(path=COPY, headers={"x-oss-forbid-overwrite": "true"})
    owner.oss.faults.add(Fault(action="CopyObject", drop_reply=True))
    run(copying.Copying(fs.client, PATH, target).run)
    fs.pipe_file(PATH, b"2")
    owner.oss.faults.add(Fault(action="CopyObject", reset=True))
    with pytest.raises(ObjectExistsError):
        run(copying.Copying(fs.client, PATH, target).run)
    with pytest.raises(ObjectExistsError):
        run(copying.Copying(fs.client, PATH, target).run)


def test_trees_are_copied_at_once(full):
    """Odd names are unchanged; what would be lost is refused."""
    bodies = {f"{ROOT}/t/{n % 3}/ä {n}%": bytes([n]) for n in range(12)}
    full.pipe(bodies)
    full.copy(f"{ROOT}/t", f"osspresigned://{ROOT}/u/", recursive=True)
    for path, body in bodies.items():
        assert full.cat_file(path.replace(f"{ROOT}/t", f"{ROOT}/u/t")) == body
    full.copy(f"{ROOT}/t", f"{ROOT}/v")
    assert not full.exists(f"{ROOT}/v")
    with pytest.raises(ConfigurationError, match="would both be"):
        full.copy([f"{ROOT}/t/0/ä 0%", f"{ROOT}/u/t/0/ä 0%"], f"{ROOT}/flat/")
    with pytest.raises(ValueError, match="2 sources for 1"):
        full.copy([PATH, COPY], [COPY])
    with pytest.raises(ValueError, match="on_error"):
        full.copy(PATH, COPY, on_error="omit")


def test_what_vanishes_while_a_tree_is_copied(fs, owner):
    """It is passed over, unless that is not wanted; other failures count."""
    fs.pipe({f"{ROOT}/t/{n}": b"x" for n in "abc"})
    gone = Fault(action="HeadObject", key="t/b", status=404, times=None)
    owner.oss.faults.add(gone)
    fs.copy(f"{ROOT}/t", f"{ROOT}/u", recursive=True)
    assert fs.find(f"{ROOT}/u") == [f"{ROOT}/u/a", f"{ROOT}/u/c"]
    with pytest.raises(FileNotFoundError):
        fs.copy(f"{ROOT}/t", f"{ROOT}/u", recursive=True, on_error="raise")
    with pytest.raises(FileNotFoundError):
        fs.copy(f"{ROOT}/none", f"{ROOT}/u")
    owner.oss.clear()
    owner.oss.faults.add(
        Fault(action="CopyObject", status=400, code="BadThing", delay=0.1, times=None)
    )
    with pytest.raises(UploadErrors):
        fs.copy(f"{ROOT}/t", f"{ROOT}/u", recursive=True)


@pytest.mark.usefixtures("in_parts")
def test_a_copy_that_fails_is_not_a_missing_source(fs, owner):
    """A recursive copy skips a missing source, and raises every other 404."""
    fs.pipe({f"{ROOT}/t/{n}": LARGE for n in "ab"})
    with pytest.raises(UploadErrors, match="the bucket does not exist"):
        fs.copy(f"{ROOT}/t", "no-such-bucket/u", recursive=True)
    for action in ("UploadPartCopy", "CompleteMultipartUpload"):
        owner.oss.faults.add(Fault(action=action, code="NoSuchUpload", times=None))
        with pytest.raises(UploadErrors, match="NoSuchUpload"):
            fs.copy(f"{ROOT}/t", f"{ROOT}/u", recursive=True)
    assert not fs.find(f"{ROOT}/u")


def test_moving_proves_each_copy_before_a_source_goes(full, owner):
    """The calls are a copy, two HeadObject calls and a delete, in this order."""
    full.pipe_file(PATH, b"1", metadata={"k": "v"})
    owner.oss.clear()
    full.mv(f"osspresigned://{PATH}", COPY)
    assert owner.actions() == [
        "ListObjectsV2",  # is the target a directory?
        "HeadObject",
        "CopyObject",
        "HeadObject",
        "HeadObject",
        "DeleteObject",
    ]
    assert owner.stored() == {"c": b"1"}
    assert owner.oss.get(ROOT, "c").headers["x-oss-meta-k"] == "v"
    full.mv_file(COPY, PATH)
    full.rename(PATH, COPY)
    assert owner.stored() == {"c": b"1"}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(action="CopyObject", wrong_crc=True),
        Fault(action="CopyObject", no_crc=True, times=None),
        Fault(action="HeadObject", key="c", wrong_crc=True, times=None),
        Fault(action="HeadObject", key="c", status=404, times=None),
        Fault(action="HeadObject", key="c", refuse="denied", times=None),
        Fault(action="HeadObject", key="a", after=1, wrong_etag=True, times=None),
        Fault(action="DeleteObject", refuse="denied"),
    ],
)
def test_a_source_stays_unless_its_copy_is_proved(fs, owner, fault):
    """A failure leaves a copy too many, never one too few."""
    fs.pipe_file(PATH, b"1")
    owner.oss.faults.add(fault)
    if fault.action == "CopyObject" and fault.no_crc:
        owner.oss.faults.add(
            Fault(action="HeadObject", key="c", no_crc=True, wrong_etag=True)
        )
    with pytest.raises((IntegrityError, AccessDeniedError, SourceChangedError)):
        fs.mv_file(PATH, COPY)
    assert owner.stored()["a"] == b"1"


def test_a_copy_without_checksums_is_proved_by_its_etag(fs, owner):
    """S3-compatible stores have no CRC-64."""
    fs.pipe_file(PATH, b"1")
    owner.oss.faults.add(Fault(action="HeadObject", no_crc=True, times=None))
    fs.mv(PATH, COPY)
    assert owner.stored() == {"c": b"1"}
    owner.oss.faults.clear()
    owner.oss.faults.add(
        Fault(action="HeadObject", no_crc=True, no_etag=True, times=None)
    )
    with pytest.raises(IntegrityError, match="cannot be verified"):
        fs.mv(COPY, PATH)
    assert owner.stored()["c"] == b"1"


def test_moving_needs_a_look(only, owner):
    """Without HEAD nothing is copied and nothing is deleted."""
    fs = only("CopyObject", "DeleteObject")
    fs.pipe_file(PATH, b"1")
    owner.oss.clear()
    with pytest.raises(NotCoveredError, match="HeadObject"):
        fs.mv(PATH, COPY)
    assert not owner.actions()
    with (
        pytest.warns(ExistenceNotVerifiedWarning),
        pytest.raises(FileNotFoundError),
    ):
        fs.mv(f"{ROOT}/none", COPY)


def test_trees_are_moved_and_never_onto_themselves(fs, owner):
    """A tree is moved; a move onto one of its own sources is refused at once."""
    bodies = {f"{ROOT}/t/{n}": bytes([n]) for n in range(5)}
    fs.pipe(bodies)
    fs.mv(f"{ROOT}/t", f"{ROOT}/u", recursive=True)
    assert owner.stored() == {f"u/{n}": bytes([n]) for n in range(5)}
    ones = [f"{ROOT}/u/{n}" for n in range(3)]
    owner.oss.clear()
    with pytest.raises(ConfigurationError, match="is moved, too"):
        fs.mv(ones[:2], ones[1:])
    with pytest.raises(ConfigurationError, match="cannot be moved into itself"):
        fs.mv(f"{ROOT}/u", f"{ROOT}/u/inner", recursive=True)
    assert not owner.actions()
    with pytest.raises(FileNotFoundError):
        fs.mv(f"{ROOT}/u", f"{ROOT}/v")


def test_a_move_to_where_it_is_does_nothing(fs, owner):
    """As fsspec has it: no request, also where the tree is a directory of its target."""
    bodies = {f"{ROOT}/d/{n}": bytes([n]) for n in range(3)}
    fs.pipe(bodies)
    owner.oss.clear()
    for path in (f"{ROOT}/d", f"{ROOT}/d/"):
        fs.mv(path, f"{ROOT}/d", recursive=True)
        fs.mv(f"{ROOT}/d", path, recursive=True)
    fs.mv(f"{ROOT}/d/1", f"{ROOT}/d/1")
    fs.mv_file(f"{ROOT}/d/1", f"{ROOT}/d/1")
    fs.mv(list(bodies), list(bodies))
    assert not owner.actions()
    fs.mv(f"{ROOT}/d/*", f"{ROOT}/d/")
    assert {*owner.actions()} == {"HeadObject", "ListObjectsV2"}
    assert {f"{ROOT}/{key}": data for key, data in owner.stored().items()} == bodies


def test_removing_trees_lists_and_patterns(full, owner):
    """One DELETE each, and nothing else goes."""
    keys = [f"t/{n}/{m}" for n in "ab" for m in "12"] + ["t-x", "u1", "u2", "w"]
    full.pipe({f"{ROOT}/{key}": b"x" for key in keys})
    owner.oss.clear()
    full.rm(f"{ROOT}/t", recursive=True, maxdepth=1)
    full.rm(f"{ROOT}/t", recursive=True)
    full.rm([f"{ROOT}/u*", f"osspresigned://{ROOT}/w"])
    full.pipe({f"{ROOT}/{key}": b"x" for key in ("g", "g1/2/3", "g1/4")})
    full.rm(f"{ROOT}/g?", recursive=True, maxdepth=1)
    full.rm(f"{ROOT}/g?", recursive=True, maxdepth=2)
    assert set(owner.stored()) == {"t-x", "g", "g1/2/3"}
    full.rm(f"{ROOT}/g*", recursive=True)
    assert set(owner.stored()) == {"t-x"}
    assert owner.actions().count("DeleteObject") == 10
    with pytest.raises(FileNotFoundError):
        full.rm(f"{ROOT}/t", recursive=True)
    with pytest.raises(FileNotFoundError):
        full.rm(f"{ROOT}/none*")
    full.rm_file(ROOT)  # a bucket is no object
    full.pipe({f"{ROOT}/t-x/{n}": b"x" for n in range(2)})
    full.rm(ROOT, recursive=True)
    assert not owner.stored()


def test_removals_that_fail(fs, owner):
    """All failures are reported. The first one stops the rest, unless asked otherwise."""
    fs.pipe({f"{ROOT}/t/{n}": b"x" for n in "abcdef"})
    # So slow that both are under way when the first of them fails.
    slow = {"refuse": "denied", "delay": 0.2, "times": None}
    owner.oss.faults.add(Fault(action="DeleteObject", key="t/[ab]", **slow))
    fs.rm(f"{ROOT}/t", recursive=True, on_error="omit")
    assert set(owner.stored()) == {"t/a", "t/b"}
    with pytest.raises(UploadErrors) as caught:
        fs.rm(f"{ROOT}/t", recursive=True)
    assert set(caught.value.failures) == {f"{ROOT}/t/a", f"{ROOT}/t/b"}
    with pytest.raises(ValueError, match="on_error"):
        fs.rm(f"{ROOT}/t", on_error="ignore")


def test_a_name_like_a_pattern_is_itself_without_head(fs, only, owner):
    """A listing shows the object; without listing too, no other object is touched."""
    fs.pipe({f"{ROOT}/d[1].csv": b"itself", f"{ROOT}/d1.csv": b"other"})
    lists = only("CopyObject", "DeleteObject", "ListObjectsV2")
    lists.cp(f"{ROOT}/d[1].csv", f"{ROOT}/copy")
    assert owner.stored()["copy"] == b"itself"
    blind = only("CopyObject", "DeleteObject")
    blind.pipe_file(f"{ROOT}/d1.csv", b"own")
    with pytest.warns(ExistenceNotVerifiedWarning):
        for act in (blind.rm, blind.cat, lambda path: blind.cp(path, f"{ROOT}/copy")):
            with pytest.raises(ObjectNotVisibleError):
                act(f"{ROOT}/d[1].csv")
    lists.rm(f"{ROOT}/d[1].csv")
    assert owner.stored() == {"copy": b"itself", "d1.csv": b"own"}


def test_a_directory_that_was_made_is_forgotten(fs):
    """Removing a tree takes remembered directories along."""
    fs.pipe_file(f"{ROOT}/t/a", b"x")
    fs.mkdir(f"{ROOT}/t")
    fs.rm(f"{ROOT}/t", recursive=True)
    assert not fs.client.written.is_directory(f"{ROOT}/t")
