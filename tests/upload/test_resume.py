"""An interrupted upload goes on: only what is missing is sent, and never a wrong byte."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.client.operations import OSSCalls, StoredParts
from fsspec_osspresigned.client.retry import RetryPolicy
from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    IntegrityError,
    InvalidRequestError,
    NetworkError,
    NotCoveredError,
    UploadInProgressError,
    UploadNotFoundError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.http.body import FileBody, MemoryBody
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import MIN_PART, Action, Operation, PartReceipt
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.options.target import Target
from fsspec_osspresigned.signers.presigned_urls import URLMapSigner
from fsspec_osspresigned.upload import resume as module
from fsspec_osspresigned.upload.journal import (
    HeldJournal,
    JournalPart,
    ResumeDirectory,
    head_line,
    parse,
)
from fsspec_osspresigned.upload.resume import agreed
from fsspec_osspresigned.url_map.source import load
from tests.power_cut import PowerCut
from tests.uploading import OwnerSigner, put

BUCKET, KEY = "examplebucket", "a b/k"
PATH = f"{BUCKET}/{KEY}"
DATA = os.urandom(7 * MIN_PART + 11)
REFUSED = {"action": "UploadPart", "status": 403, "code": "AccessDenied", "times": None}


class World:
    """A store, a local file, and a directory of journals."""

    def __init__(self, oss: Emulator, place: Path) -> None:
        self.oss = oss
        self.file = place / "local.bin"
        self.file.write_bytes(DATA)
        self.directory = ResumeDirectory(place / "journals")
        self.signer = OwnerSigner(oss)
        self.progress = 0

    def client(self, **options) -> Client:
        """Return the engine of a new process."""
        facts = {
            "part_size": MIN_PART,
            "multipart_threshold": MIN_PART,
            "resume_dir": self.directory.directory,
            **options,
        }
        return Client(
            Options.from_storage_options(
                {"signer": "keys", "max_concurrency": 1, **facts}
            ),
            self.signer,
            Transport(connect_timeout=5.0, progress_timeout=5.0),
            policy=RetryPolicy(retries=1, base=0.0),
        )

    def put(self, *, path=PATH, headers=None, tell=None, **options):
        """Store the file as one process would, which remembers nothing."""
        self.progress = 0

        def count(size):
            self.progress += size
            if tell is not None:
                tell()

        return put(
            self.client(**options),
            Target.of(path=path, headers=headers),
            FileBody.of(str(self.file)),
            count,
        )

    def interrupt(self, part: int = 5, **more):
        """Let an upload fail at *part*, one part after the other; return its error."""
        self.oss.faults.add(Fault(part_number=part, **REFUSED))
        with pytest.raises(AccessDeniedError) as caught:
            self.put(**more)
        self.oss.clear()
        return caught.value

    def sent(self) -> list[int]:
        """Return the numbers of the parts that were sent."""
        return sorted(
            one.part_number for one in self.oss.requests if one.action == "UploadPart"
        )

    def abort_all(self) -> None:
        """Abort all multipart uploads, as another process or a rule of the bucket does."""
        ours, self.signer = self.signer, OwnerSigner(self.oss)
        for one in self.oss.uploads(BUCKET):
            run(OSSCalls(self.client(), Target(path=PATH)).abort, one.upload_id)
        self.signer = ours

    def actions(self) -> set[str]:
        return {one.action for one in self.oss.requests}

    def stored(self) -> bytes:
        return self.oss.objects(BUCKET)[KEY]

    def journals(self) -> list[Path]:
        return sorted(self.directory.directory.iterdir())


@pytest.fixture
def world(tmp_path):
    """A world of its own; its second bucket keeps versions."""
    with Emulator(versioned=["versioned"]) as oss:
        yield World(oss, tmp_path)


def test_only_what_is_missing_is_sent(world):
    """The second run sends the rest; object and receipt are complete."""
    error = world.interrupt()
    (note,) = error.__notes__[-1:]
    assert note.startswith("4 of 8 parts, 400 KiB of 700 KiB, are stored; ")
    (upload,) = world.oss.uploads(BUCKET)
    receipt = world.put()
    assert world.sent() == [5, 6, 7, 8]
    assert "InitiateMultipartUpload" not in world.actions()
    assert world.stored() == DATA
    assert receipt.upload_id == upload.upload_id
    assert receipt.crc64 == crc64(DATA)
    assert receipt.verified == "crc64"
    assert [part.part_number for part in receipt.parts] == list(range(1, 9))
    assert world.progress == len(DATA)
    assert world.journals() == []
    assert world.oss.uploads(BUCKET) == []


def test_a_journal_is_private_and_holds_no_permission(world):
    """The resume file holds no URL, signature, key or header."""
    world.interrupt(headers={"x-oss-meta-a": "confidential"})
    (journal,) = world.journals()
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    text = journal.read_text()
    key = world.oss.credentials
    for word in ("ignature", "http", "Credential", "confidential", "?"):
        assert word not in text
    for secret in (key.access_key_id, key.access_key_secret.reveal()):
        assert secret not in text
    assert parse(text.encode()).head.path == PATH


def change_size(world):
    world.file.write_bytes(DATA + b"x")


def change_time(world):
    os.utime(world.file, ns=(1, 1))


def replace(world):
    status = world.file.stat()
    new = world.file.with_name("new")
    new.write_bytes(DATA)
    os.utime(new, ns=(status.st_mtime_ns, status.st_mtime_ns))
    new.rename(world.file)


@pytest.mark.parametrize("change", [change_size, change_time, replace])
def test_a_changed_file_starts_over(world, change, caplog):
    """Nothing of the old upload is used, and it is removed."""
    world.interrupt()
    change(world)
    world.put()
    assert world.sent() == list(range(1, 9))
    assert world.stored() == world.file.read_bytes()
    assert world.oss.uploads(BUCKET) == []
    assert world.journals() == []
    assert "starting over: the file has" in caplog.text


@pytest.mark.parametrize(
    "change", [{"headers": {"x-oss-meta-a": "b"}}, {"part_size": 2 * MIN_PART}]
)
def test_other_wishes_start_over(world, change):
    """Headers belong to the beginning of an upload, and parts keep their size."""
    world.interrupt()
    world.put(**change)
    assert "InitiateMultipartUpload" in world.actions()
    assert world.stored() == DATA
    assert world.oss.uploads(BUCKET) == []


def test_bytes_that_changed_unseen_are_sent_again(world, caplog):
    """Same size, time and inode prove nothing: the bytes of sent parts are compared."""
    world.interrupt()
    status = world.file.stat()
    with world.file.open("r+b") as file:
        file.seek(MIN_PART)
        file.write(b"other")
    os.utime(world.file, ns=(status.st_atime_ns, status.st_mtime_ns))
    world.put()
    assert world.sent() == [2, 5, 6, 7, 8]
    assert world.stored() == world.file.read_bytes()
    assert "part 2 of" in caplog.text


def test_parts_that_the_store_has_otherwise_are_sent_again(world):
    """A part that was replaced in the store is sent again."""
    world.interrupt()
    (upload,) = world.oss.uploads(BUCKET)
    upload.parts[3] = upload.parts[1]
    world.put()
    assert world.sent() == [3, 5, 6, 7, 8]
    assert world.stored() == DATA


def test_a_part_that_was_not_written_down_is_found_at_the_store(world):
    """A process that dies between the reply and the journal loses nothing."""
    world.interrupt()
    (journal,) = world.journals()
    journal.write_bytes(head_line(parse(journal.read_bytes()).head))
    receipt = world.put()
    assert world.sent() == [5, 6, 7, 8]
    assert world.stored() == DATA
    assert receipt.crc64 == crc64(DATA)


def test_a_power_cut_takes_no_line_of_a_journal(world, monkeypatch):
    """Each recorded part is on the disk, in a new resume file and a resumed one."""
    disk = PowerCut(monkeypatch)
    for part, stored in ((3, 2), (6, 5)):
        world.interrupt(part=part)
        (journal,) = world.journals()
        disk.check(journal)
        assert len(parse(journal.read_bytes()).parts) == stored
    world.put()
    assert world.stored() == DATA


def test_an_upload_that_is_gone_starts_over(world, caplog):
    """Somebody has aborted it, or a rule of the bucket."""
    world.interrupt()
    world.abort_all()
    world.put()
    assert world.sent() == list(range(1, 9))
    assert world.stored() == DATA
    assert "its upload no longer exists" in caplog.text


@pytest.fixture
def elsewhere(world, tmp_path):
    """Another store, to which the same file goes, with the same journals."""
    with Emulator() as oss:
        other = World(oss, tmp_path)
        world.file.write_bytes(DATA)
        os.utime(world.file, (1_790_000_000, 1_790_000_000))
        yield other


@pytest.mark.parametrize("lists", [True, False])
def test_the_journal_of_another_store_is_kept(world, elsewhere, lists, caplog):
    """The upload to the other store leaves it, and the first store continues with it."""
    world.interrupt()
    if lists:
        elsewhere.put()
        assert f"kept for its upload to {world.oss.url.split('/')[2]}" in caplog.text
        assert elsewhere.stored() == DATA
    else:  # the parts go out, and are refused
        elsewhere.signer.refuses = [Action.ListParts]
        with pytest.raises(UploadNotFoundError):
            elsewhere.put()
    assert len(world.journals()) == 1
    world.put()
    assert world.sent() == [5, 6, 7, 8]
    assert world.stored() == DATA
    assert world.journals() == []


def test_a_file_that_changed_for_another_store_leaves_the_journal(world, elsewhere, caplog):  # fmt: skip
    """Only the first store can abort its upload, so the resume file is kept."""
    world.interrupt()
    world.file.write_bytes(DATA[::-1])
    elsewhere.put()
    assert elsewhere.stored() == DATA[::-1]
    assert "kept for its upload to" in caplog.text
    assert len(world.journals()) == 1
    world.put()
    assert world.oss.uploads(BUCKET) == world.journals() == []


def test_a_replaced_part_that_nobody_can_see_fails_once(world):
    """Complete refuses a wrong ETag; then the next run starts over."""
    world.signer.refuses = [Action.ListParts]
    world.interrupt()
    (upload,) = world.oss.uploads(BUCKET)
    upload.parts[3] = upload.parts[1]
    with pytest.raises(InvalidRequestError, match="InvalidPart"):
        world.put()
    assert world.journals() == []
    assert world.oss.uploads(BUCKET) == []
    world.put()
    assert world.stored() == DATA


def test_when_only_the_end_failed_no_byte_is_sent_again(world):
    """If all parts are stored, only the last step is repeated."""
    refused = {**REFUSED, "action": "CompleteMultipartUpload"}
    world.oss.faults.add(Fault(**refused))
    with pytest.raises(AccessDeniedError):
        world.put()
    world.oss.clear()
    world.put()
    assert world.sent() == []
    assert world.stored() == DATA


@pytest.fixture
def completed(world, monkeypatch):
    """A world whose process died between Complete and the end of its journal."""
    with monkeypatch.context() as patch:
        patch.setattr(HeldJournal, "remove", lambda _: None)
        world.put()
    world.oss.clear()
    assert len(world.journals()) == 1
    return world


def test_what_was_completed_already_is_seen(completed):
    """HEAD shows size and CRC-64: nothing is sent again."""
    receipt = completed.put()
    assert completed.sent() == []
    assert receipt.crc64 == crc64(DATA)
    assert receipt.verified == "crc64"
    assert completed.journals() == []


def test_what_was_completed_and_replaced_is_stored_again(completed):
    """An object that was replaced after its upload is uploaded again."""
    other = MemoryBody(bytes(len(DATA)))
    client = Client(
        Options.from_storage_options({"signer": "keys"}), completed.signer, Transport()
    )
    put(client, Target(path=PATH), other)
    completed.oss.clear()
    with pytest.raises(UploadNotFoundError):
        completed.put()
    completed.put()
    assert completed.stored() == DATA


def test_another_process_is_at_it(world):
    """The second one sends nothing and says who has it."""
    held = world.directory.hold(PATH, str(world.file))
    with pytest.raises(UploadInProgressError, match=f"process {os.getpid()}"):
        world.put()
    assert world.oss.requests == []
    held.release()
    world.put()
    assert world.stored() == DATA


def test_a_wrong_object_is_not_gone_on_with(world):
    """Complete has used the upload up, and its parts gave something else."""
    fault = Fault(action="CompleteMultipartUpload", wrong_crc=True)
    world.oss.faults.add(fault)
    with pytest.raises(IntegrityError):
        world.put()
    assert world.journals() == []


def test_a_file_that_shrank_to_one_put_ends_its_upload(world, caplog):
    """An upload in parts is aborted if one PUT is enough now, and nothing is left."""
    world.interrupt()
    assert len(world.oss.uploads(BUCKET)) == 1
    world.file.write_bytes(b"small")
    receipt = world.put()
    assert (world.stored(), receipt.parts) == (b"small", ())
    assert world.journals() == []
    assert world.oss.uploads(BUCKET) == []
    assert "the file is now sent in a single PUT" in caplog.text


# -- an owner's upload -----------------------------------------------------------------


def owners(oss: Emulator, *, lists: bool = True) -> URLMapSigner:
    """Return a map with the parts of an upload that its owner has begun."""
    keys = OwnerSigner(oss).keys
    client = Client(
        Options.from_storage_options({"signer": "keys"}), OwnerSigner(oss), Transport()
    )
    upload_id, _ = run(OSSCalls(client, Target(path=PATH)).initiate)

    def url(action: Action, **more) -> str:
        one = Operation(
            action=action, bucket=BUCKET, key=KEY, upload_id=upload_id, **more
        )
        return keys.sign([one])[0].url.reveal()

    entry = {
        "upload_id": upload_id,
        "part_size": MIN_PART,
        "parts": [url(Action.UploadPart, part_number=n) for n in range(1, 11)],
        "complete": url(Action.CompleteMultipartUpload),
        **({"list": url(Action.ListParts)} if lists else {}),
    }
    return URLMapSigner(load({PATH: entry}))


@pytest.mark.parametrize("lists", [True, False])
def test_an_owners_upload_goes_on(world, lists):
    """The parts that were sent are not sent again with the same map."""
    world.signer = owners(world.oss, lists=lists)
    world.interrupt()
    assert len(world.oss.uploads(BUCKET)) == 1
    world.put()
    assert world.sent() == [5, 6, 7, 8]
    assert world.stored() == DATA
    assert world.journals() == []


def test_an_owners_upload_that_is_gone_is_said_before_the_first_byte(world):
    """If the owner's upload is gone, only the owner can begin another one."""
    world.signer = owners(world.oss)
    world.interrupt()
    world.abort_all()
    with pytest.raises(UploadNotFoundError):
        world.put()
    assert world.sent() == []
    assert world.journals() == []


# -- pieces ----------------------------------------------------------------------------


def part(number: int, size: int = 100, etag: str = '"E"', crc: int | None = 1):
    """Return one part."""
    return PartReceipt(part_number=number, size=size, etag=etag, crc64=crc)


@pytest.fixture
def head(world):
    """Three parts of 100 bytes, the last of 50."""
    world.interrupt()
    (journal,) = world.journals()
    found = parse(journal.read_bytes()).head
    mark = module.evolve(found.fingerprint, size=250)
    return module.evolve(found, fingerprint=mark, part_size=100, parts=3)


@pytest.mark.parametrize(
    ("kept", "listed", "whole", "numbers"),
    [
        ([part(1), part(2)], [part(1), part(2)], True, {1, 2}),
        ([part(1), part(2)], [part(1)], True, {1}),
        ([part(1), part(2)], [part(1)], False, {1, 2}),
        ([part(1), part(2)], [part(2)], False, {2}),
        ([part(1)], [part(1, etag='"F"', crc=None)], True, set()),
        ([part(1)], [part(1, etag="e", crc=None)], True, {1}),
        ([part(1)], [part(1, size=99)], True, set()),
        ([], [part(1), part(3), part(4)], True, {1}),
        ([], [part(1, crc=None), part(3, size=50)], True, {3}),
    ],
)
def test_what_counts_by_journal_and_store(head, kept, listed, whole, numbers):
    """Both say so, or the store cannot show it, or it alone has it with a checksum."""
    record = {one.part_number: JournalPart(one, "md5") for one in kept}
    listing = StoredParts({one.part_number: one for one in listed}, whole=whole)
    found = agreed(record, listing, head)
    assert set(found) == numbers


@pytest.mark.parametrize(("page_size", "pages"), [(1, 4), (2, 2), (3, 2), (4, 1)])
def test_long_lists_come_in_pages(world, page_size, pages):
    """Each page begins after the end of the one before."""
    world.interrupt()
    (upload,) = world.oss.uploads(BUCKET)
    calls = OSSCalls(world.client(), Target(path=PATH))
    listing = run(calls.list_parts, upload.upload_id, page_size=page_size)
    assert (set(listing.parts), listing.whole) == ({1, 2, 3, 4}, True)
    lists = [one for one in world.oss.requests if one.action == "ListParts"]
    assert len(lists) == pages


def test_of_a_presigned_list_only_the_first_page_is_seen():
    """Parts beyond the listed page count as stored."""
    client = FakeClient([page_of([1, 2], more=True), NotCoveredError("no second page")])
    listing = run(OSSCalls(client, Target(path=PATH)).list_parts, "U")
    assert set(listing.parts) == {1, 2}
    assert not listing.whole


class FakeReply:
    """A reply with a body."""

    def __init__(self, body: bytes) -> None:
        self.body = body


class FakeClient:
    """Answers what it was given."""

    def __init__(self, answers) -> None:
        self.answers = list(answers)

    async def call(self, operation, *_):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return FakeReply(answer)


def page_of(numbers, *, more: bool) -> bytes:
    """Return a page of ListParts."""
    rows = "".join(
        f"<Part><PartNumber>{n}</PartNumber><Size>1</Size><ETag>E</ETag></Part>"
        for n in numbers
    )
    end = str(more).lower()
    return (
        f"<ListPartsResult>{rows}<IsTruncated>{end}</IsTruncated></ListPartsResult>"
    ).encode()


@pytest.mark.parametrize(
    "pages", [[[1], [1]], [[], []], [[10_000], [1]], [[20_000], [1]]]
)
def test_a_list_that_does_not_move_on_ends(pages):
    """A journal with invalid part numbers is not used."""
    client = FakeClient([page_of(numbers, more=True) for numbers in pages])
    listing = run(OSSCalls(client, Target(path=PATH)).list_parts, "U")
    assert not listing.whole


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Other/>",
        b"<ListPartsResult><Part><PartNumber>x</PartNumber></Part></ListPartsResult>",
        b"<ListPartsResult><Part/></ListPartsResult>",
    ],
)
def test_a_list_that_is_none_is_an_error(body):
    """Numbers are numbers."""
    with pytest.raises(NetworkError, match="ListParts is bad"):
        run(OSSCalls(FakeClient([body]), Target(path=PATH)).list_parts, "U")


# -- through the filesystem ------------------------------------------------------------


def test_the_option_reaches_every_verb_that_puts_files(world, tmp_path, monkeypatch):
    """``put`` of a directory continues with each of its files."""
    key = world.oss.credentials
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", key.access_key_id)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", key.access_key_secret.reveal())
    options = {
        "signer": "keys",
        "endpoint": world.oss.url,
        "region": "cn-hangzhou",
        "part_size": MIN_PART,
        "multipart_threshold": MIN_PART,
        "max_concurrency": 2,
        "retries": 0,
        "resume_dir": str(world.directory.directory),
    }
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("a", "b"):
        (tree / name).write_bytes(DATA)
    fs = OSSPresignedFileSystem(**options, skip_instance_cache=True)
    world.oss.faults.add(Fault(part_number=6, **REFUSED))
    with pytest.raises(OSError):
        fs.put(f"{tree}/", f"{BUCKET}/t/", recursive=True)
    world.oss.clear()
    before = len(world.journals())
    assert before >= 1
    fs.put(f"{tree}/", f"{BUCKET}/t/", recursive=True)
    assert len(world.sent()) <= 16 - 4
    assert world.oss.objects(BUCKET)["t/a"] == world.oss.objects(BUCKET)["t/b"] == DATA
    assert world.journals() == []
    assert world.oss.uploads(BUCKET) == []
