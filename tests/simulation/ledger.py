"""The ledger: records writes and their reported outcomes, and checks them.

Each write has unique content, so the content of an object identifies its write.
"""

from __future__ import annotations

import asyncio
import math
import pickle
import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from attrs import define, field

from fsspec_osspresigned.errors import (
    IntegrityError,
    OSSPresignedError,
    Outcome,
    StoreError,
    UploadErrors,
)
from fsspec_osspresigned.model import Receipt

from .causes import FAULTS, Circumstances, unexplained
from .network import LATE, Event, Network
from .signers import TOKEN
from .store import BUCKETS, KEY, Commit
from .verbs import operation_of_caller
from .world import EPOCH, Broken, World

_NOTICED = 1.1  # seconds until a transfer notices that it was cancelled
_FAMILIES = {kind for kind in OSError.__subclasses__() if kind.__module__ == "builtins"}
_FORBIDDEN = 403
_OF_TLS = ("TLS", "private authority")  # words of advice about failures of TLS
_is_odd = re.compile(r"\bNone\b|\bnan\b|\(\)|\[\]|:\s*$|<\w+ object").search
NAMED = 8  # minimum bytes of a content that identifies the call which wrote it
# Writes of the call that the current task makes. The call may be cancelled.
writes_of_call: ContextVar[list[Write] | None] = ContextVar("writes", default=None)


@define(eq=False, repr=False)
class Write:
    """One object that a call writes: one of *contents* as a whole, or nothing."""

    number: int
    path: str
    contents: list[bytes]
    began: float
    asked: float = (
        0.0  # time of the call; an earlier call may have written the same bytes
    )
    ended: float = math.inf
    # outcome: also "stored", "not stored", "unknown" or "interrupted"
    said: str = "nothing"
    why: BaseException | None = None
    cancelled: float = math.inf  # time when the call was cancelled
    is_abandoned: bool = False  # True once the call was cancelled a second time
    is_discarded: bool = False  # True if another thread discards the file

    def __repr__(self) -> str:
        sizes = [len(content) for content in self.contents]
        return (
            f"write {self.number} of {self.path} ({sizes} bytes, from {self.began:.3f} to "
            f"{self.ended:.3f}, said {self.said})"
        )

    def say(self, said: str, why: BaseException | None = None) -> None:
        self.said, self.why, self.ended = said, why, World.current.now  # type: ignore[union-attr]


def _is_doubtful(event: Event) -> bool:
    """Return whether the client cannot know if an exchange has stored an object."""
    publishes = event.method in ("PUT", "POST") and not event.is_part
    is_doubtful = FAULTS[event.fate].is_doubtful and event.is_taken
    return publishes and not event.is_initiate and is_doubtful


@define(eq=False)
class Ledger:
    """All writes, deletions and reads of a world."""

    network: Network
    writes: list[Write] = field(factory=list)
    # Path -> periods [began, ended] of calls that may delete the object.
    deletions: dict[str, list[list[float]]] = field(factory=dict)
    # Destination -> sources and periods of copies.
    copies: dict[str, list[tuple[str, list[float]]]] = field(factory=dict)
    texts: list[str] = field(factory=list)  # texts that a person could see
    warned: list[str] = field(factory=list)  # texts of warnings
    warned_at: tuple[str, int] = ("", 0)  # file and line of the last warning
    keeps_uploads: bool = False  # True if resume_dir is in use
    may_refuse: bool = False  # True if the signer may refuse to sign an abort
    unchecked: bool = False  # ``checksum="none"``: the client does not notice damage
    is_single: bool = False  # True if no two calls overlap
    # True after a second interrupt of a call, which then waits for no reply
    is_impatient: bool = False
    may_look: bool = False  # True if the signer signs HeadObject and does not fail
    # True if the signer may refuse a read, and several callers or clients write the same
    # objects. Then the record of a client may answer. It knows nothing of other clients,
    # and of its own calls only the order in which they ended.
    is_unsure: bool = False
    # True if the program cannot read objects. Then the order in which calls ended
    # decides which object exists.
    is_blind: bool = False
    # True if every failure is worth a retry, and the program has many retries
    must_succeed: bool = False
    checked: int = 0
    # counts of what happened; see ``reached``
    seen: Counter[str] = field(factory=Counter)
    options: Mapping[str, Any] = field(factory=dict)
    # Causes of errors that no exchange shows; see ``causes``.
    other_faults: set[str] = field(factory=set)
    # numbers of the writes in each transaction
    transactions: list[list[int]] = field(factory=list)
    downloads: dict[str, str] = field(factory=dict)  # name of a local file -> path
    resumes: dict[int, str] = field(factory=dict)  # number of a write -> its local file

    def content(self, size: int) -> bytes:
        """Return unique bytes for a write."""
        number = len(self.writes)
        head = f"<{number}>".encode()
        body = random.Random(number).randbytes(max(0, size - len(head)))
        return (head + body)[:size]

    def write(self, path: str, content: bytes) -> Write:
        entry = Write(len(self.writes), path, [content], self._now(), self._now())
        self.writes.append(entry)
        if (mine := writes_of_call.get()) is not None:
            mine.append(entry)
        return entry

    def _now(self) -> float:
        return self.network.world.now

    def deletes(self, path: str) -> list[float]:
        span = [self._now(), math.inf]
        self.deletions.setdefault(path, []).append(span)
        return span

    def copying(self, source: str, target: str) -> list[float]:
        span = [self._now(), math.inf]
        self.copies.setdefault(target, []).append((source, span))
        return span

    def spans(self) -> Iterator[list[float]]:
        """Yield the period of each deletion and each copy."""
        for spans in self.deletions.values():
            yield from spans
        for copies in self.copies.values():
            yield from (span for _, span in copies)

    # -- reported outcomes -----------------------------------------------------------------

    def note_error(self, error: BaseException) -> None:
        if self.must_succeed and not isinstance(error, FileNotFoundError):
            raise Broken(f"a call failed, but a retry was possible: {error!r}")
        self.texts += [str(error), repr(error), *getattr(error, "__notes__", ())]
        self.seen[f"{operation_of_caller.get()[2]} raised"] += 1
        failures = getattr(error, "failures", None) or {"": error}
        is_group = isinstance(error, UploadErrors)
        # a single failure is raised itself, unless other objects are published
        if is_group and len(failures) == 1 and not (error.receipts or error.discarded):
            raise Broken(f"{error!r} has a single failure")
        for each in failures.values():
            if why := unexplained(each, self._circumstances(each)):
                raise Broken(f"{each!r} was raised, but {why}")
            if isinstance(each, OSSPresignedError):
                self._check_facts(each)

    def _check_facts(self, error: OSSPresignedError) -> None:
        """Check that errno and path of *error* fit its class, and survive a pickle."""
        families = _FAMILIES & {*type(error).__mro__}
        if families and not families & {*type(OSError(error.errno, "")).__mro__}:
            raise Broken(f"{error!r} has the errno {error.errno}")
        if error.filename != error.path or error.tries < 1:
            raise Broken(f"{error!r} is of {error.filename}, tries: {error.tries}")
        if not error.message or _is_odd(error.message):
            raise Broken(f"{error!r} has a message with a gap")
        is_http = "HTTP/0.9" in error.message  # a reply that no version of HTTP has
        if not is_http and any(map(error.message.__contains__, _OF_TLS)):
            raise Broken(f"{error!r} gives advice about TLS, which never fails")
        copy = pickle.loads(pickle.dumps(error))
        if (str(copy), repr(vars(copy))) != (str(error), repr(vars(error))):
            raise Broken(f"a pickle of {error!r} is {copy!r}")
        if not isinstance(error, StoreError):
            return
        for fact in (error.code, error.request_id, error.ec):
            if fact and fact not in str(error):
                raise Broken(f"{error!r} does not name {fact}")
        found = error.explanation
        if error.status == _FORBIDDEN and not (found and found.cause and found.remedy):
            raise Broken(f"{error!r} does not say why")
        if found and found.clock_offset is not None:
            ahead = time.time() - self.network.server.clock()
            if min(abs(found.clock_offset - ahead + late) for late in (0, LATE)) > 2:
                raise Broken(f"{error!r} has a clock that is {found.clock_offset} off")

    def _circumstances(self, error: BaseException) -> Circumstances:
        began, paths, verb, replaces = operation_of_caller.get()
        faults = set(self.other_faults)
        keys = [path.partition("/")[2] for path in paths]
        for event in self.network.events:
            is_own = not keys or event.path.endswith(("/", *keys))
            if event.fate != "ok" and event.ended >= began and is_own:
                faults.add(event.fate)
        named = getattr(error, "path", None) or getattr(error, "filename", None)
        names = [named] if isinstance(named, str) else [*paths]
        if any(self._goes_on(name, began) for name in names):
            faults.add("rival")
        there = {v is not None for name in names for v in self.versions(name, began)}
        options = {**self.options, "overwrite": replaces}
        return Circumstances(faults, self._now() - began, options, there, verb)

    def _goes_on(self, path: str, began: float) -> bool:
        """Return whether a write of before *began* goes on, as it was interrupted twice."""
        return any(
            write.path == path and write.began < began and write.ended == math.inf
            for write in self.writes
        )

    def failed(self, writes: Iterable[Write], error: BaseException) -> None:
        """Record the outcomes of *writes* according to *error*."""
        self.note_error(error)
        failures = getattr(error, "failures", None) or {}
        for write in writes:
            if write.said != "nothing":
                continue
            named = getattr(error, "path", None) in (None, write.path)
            own = failures.get(write.path, error if named and not failures else None)
            ends = (KeyboardInterrupt, asyncio.CancelledError)
            if own is None or isinstance(own, ends):
                write.say("interrupted", error)
                self._check_notes(write, error)
            else:
                outcome = getattr(own, "outcome", Outcome.NOT_STORED)
                is_damaged = isinstance(own, IntegrityError) and outcome == "stored"
                write.say("damaged" if is_damaged else str(outcome), own)

    def _check_notes(self, write: Write, error: BaseException) -> None:
        """Check that the error of an interrupted call tells what it has stored.

        A call for one object names it. A call for many names some of those in flight.
        """
        notes = "\n".join(getattr(error, "__notes__", ()))
        is_one = operation_of_caller.get()[2] in ("pipe", "put_file")
        since = write.asked if is_one else write.cancelled
        is_sure = min(map(len, write.contents)) >= NAMED
        is_named = write.path in notes if is_one else notes
        if is_named or not is_sure or self.is_impatient or write.is_abandoned:
            return
        for commit in self._commits(write.path, write.asked):
            if commit and commit.data in write.contents and commit.at >= since:
                raise Broken(f"{write} is stored, but the notes only say {notes!r}")

    # -- invariants ----------------------------------------------------------------------

    def check_commits(self) -> None:
        """Each new commit of the store is the whole content of one write."""
        history = self.network.server.store.history
        while self.checked < len(history):
            commit = history[self.checked]
            path = f"{commit.bucket}/{commit.key}"
            if commit.data is None:
                self._check_deletion(path, commit.at)
            elif not commit.is_damaged and len(commit.data) >= NAMED:
                self._check_content(path, commit.data, commit.at, commit.sent_at)
            self.checked += 1

    def _check_deletion(self, path: str, at: float) -> None:
        spans = self.deletions.get(path, [])
        if not any(began <= at <= ended for began, ended in spans):
            raise Broken(f"{path} was deleted at {at:.3f}, and no call was to")

    def _check_content(self, path: str, data: bytes, at: float, sent_at: float) -> None:
        owner = self.owner(path, data)
        is_in_time = owner is not None and owner.began <= at <= owner.ended
        if is_in_time and sent_at <= owner.cancelled + _NOTICED:
            return
        for source, (began, ended) in self.copies.get(path, []):
            if began <= at <= ended and data in self.contents(source):
                return
        if is_in_time:
            when = f"{owner.cancelled:.3f}"
            raise Broken(
                f"{owner}, cancelled at {when}, continued to send at {sent_at:.3f}"
            )
        if owner is not None:
            raise Broken(f"{path} was written at {at:.3f}, after {owner} had ended")
        raise Broken(f"{path} got {len(data)} bytes that no call was to write")

    def owner(self, path: str, data: bytes) -> Write | None:
        owners = [w for w in self.writes if w.path == path and data in w.contents]
        return owners[-1] if owners else None

    def contents(self, path: str) -> set[bytes]:
        return {
            commit.data
            for commit in self.network.server.store.commits(path)
            if commit.data is not None
        }

    def believes(self, write: Write) -> bool:
        """Return whether a good reply that came too early explains that *write* succeeded.

        Without a checksum, the client believes it. A form has no MD5.
        """
        paths = {"/"}  # of a form
        if self.unchecked:
            paths.add("/" + write.path.partition("/")[2])
        return any(
            event.fate == "early_good"
            and event.path in paths
            and write.began <= event.at <= write.ended
            for event in self.network.events
        )

    def check_said(self, write: Write) -> None:
        """Check that the outcome that a call has just reported is true."""
        is_sure = min(map(len, write.contents)) >= NAMED
        # Another call may have replaced the object before this call could check it.
        bucket, _, key = write.path.partition("/")
        is_there = self.network.server.store.at(bucket, key) in write.contents
        commits = [
            c
            for c in self.network.server.store.commits(write.path)
            if c.data in write.contents and write.began <= c.at <= write.ended
        ]
        damaged = [
            c
            for c in self.network.server.store.commits(write.path)
            if c.is_damaged and write.began <= c.at <= write.ended
        ]
        events = [
            e
            for e in self.network.events
            if e.path.endswith(("/", write.path.partition("/")[2]))
            and write.began <= e.at <= write.ended
        ]
        fates = {e.fate for e in events}
        is_lied = fates & {"false_proof", "early_good"}
        if not getattr(write.why, "differs", True):
            # the client had nothing to compare the bytes with
            is_lied = fates & {"no_crc", "no_proof", "early_good"}
        if write.said == "damaged" and not (damaged or is_lied):
            raise Broken(
                f"{write} was reported as damaged, but nothing was damaged: {write.why!r}"
            )
        was_there = any(
            c and c.data in write.contents
            for c in self._commits(write.path, write.began)
        )
        is_found = commits or (was_there and not is_sure)
        is_found = is_found or (self.unchecked and damaged) or self.believes(write)
        if write.said == "stored" and not is_found:
            raise Broken(f"{write} was reported as stored, but is not")
        own = [commit for commit in commits if commit.at >= write.asked]
        if write.said == "not stored" and own and is_sure and is_there:
            raise Broken(
                f"{write} was reported as not stored, but is stored: {write.why!r}"
            )
        is_lost = (
            damaged
            or any(map(_is_doubtful, events))
            or "was interrupted" in str(write.why)
        )
        if write.said == "unknown" and not is_lost:
            raise Broken(
                f"{write} was reported as unknown, but nothing was lost: {write.why!r}"
            )
        if write.said == "unknown" and self.is_single:
            self._check_look(write)

    def _check_look(self, write: Write) -> None:
        """After a lost reply, the call checked the object and reported what it found."""
        if "was interrupted" in str(write.why):
            return
        if getattr(write.why, "is_late", False) or "may still" in str(write.why):
            return  # a late server may store the object after the check
        key = write.path.partition("/")[2]
        events = [
            e
            for e in self.network.events
            if write.asked <= e.at <= write.ended and e.path.endswith(f"/{key}")
        ]
        sent = [e.at for e in events if e.method in ("PUT", "POST")]
        # The form of an object has its name in the body, so its path does not match.
        last = max(sent, default=write.asked)
        looks = [e for e in events if e.method == "HEAD" and e.at >= last]
        # If several objects are written, the first failure cancels the others.
        others = [w for w in self.writes if w.began == write.began and w is not write]
        is_first = all(w.said in ("nothing", "stored", "interrupted") for w in others)
        if not looks and not (self.may_look and is_first):
            return
        if not looks:
            raise Broken(
                f"{write} was reported as unknown, but the call did not check it: {write.why!r}"
            )
        look = looks[-1]
        if look.fate != "ok" or look.status not in (200, 404):
            return
        there = self.network.server.store.at(write.path.partition("/")[0], key)
        if there is None or len(there) not in map(len, write.contents):
            raise Broken(
                f"{write} was reported as unknown, but the check showed that it is missing"
            )

    def check_quiet(self, key: str, began: float) -> None:
        """No request of an ended call is still under way for *key*, nor its reply.

        The call began at *began*.
        """
        events, opened = self.network.events, self.network.server.store.opened
        # A cancelled earlier call may have left an upload to be aborted.
        is_left = any(e.is_initiate and e.at < began < e.ended for e in events)
        for event in events:
            is_abort = event.method == "DELETE" and event.upload_id
            is_older = opened.get(event.upload_id, began) < began
            if event.at < began or (is_abort and (is_left or is_older)):
                continue
            # The call waits for the replies to Initiate and to a part, but not forever.
            # It aborts the upload when the first one arrives, and does not wait for the
            # second one.
            is_harmless = event.method == "POST" or event.is_part
            is_late = is_harmless and event.fate.startswith("stall")
            # A full disk may have ended the call, so the cancellation was its second one.
            is_read = event.method == "GET" and "disk" in self.other_faults
            if is_late or event.is_initiate or is_read:
                continue
            if event.ended == math.inf and event.path.endswith(f"/{key}"):
                raise Broken(
                    f"a call of {key} has ended, and its {event.method} of "
                    f"{event.at:.3f} goes on"
                )

    def check_order(self, writes: list[Write]) -> None:
        """No object of a transaction is published before all their parts are stored."""
        keys = {write.path.partition("/")[2] for write in writes}
        events = [e for e in self.network.events if e.path[1:] in keys]
        parts = [e.ended for e in events if e.action == "UploadPart"]
        published = [
            e.at
            for e in events
            if e.action in ("PutObject", "CompleteMultipartUpload", "PostObject")
        ]
        if parts and published and min(published) < max(parts):
            raise Broken(f"{writes} were published before all their parts had arrived")

    def check_read(
        self,
        path: str,
        data: bytes | None,
        began: float,
        start: int = 0,
        end: int | None = None,
    ) -> None:
        """*data* is one version that existed since *began*; None means no object."""
        versions = self.versions(path, began)
        cut = {None if v is None else v[start:end] for v in versions}
        if data not in cut:
            size = None if data is None else len(data)
            sizes = [None if v is None else len(v) for v in versions]
            raise Broken(
                f"a read of {path} [{start}:{end}] gave {size} bytes, which belong to none of {sizes}"
            )

    def versions(self, path: str, began: float) -> list[bytes | None]:
        """Return the contents that an object has had since *began*."""
        found: list[bytes | None] = []
        for commit in self._commits(path, began):
            found.append(None if commit is None else commit.data)
            # The client remembers what it sent, because it did not notice the damage.
            if commit is not None and commit.is_damaged and self.unchecked:
                found += [c for w in self.writes if w.path == path for c in w.contents]
        for write in self.writes:
            if write.path == path and self.believes(write):
                found += write.contents
        return found

    def _commits(self, path: str, began: float) -> list[Commit | None]:
        """Return the commits that were current since *began*; None means no object yet."""
        found: list[Commit | None] = [None]
        for commit in self.network.server.store.commits(path):
            if commit.at < began and not (self.is_blind or self.is_unsure):
                found = []
            found.append(commit)
        return found

    def check_info(self, info: Mapping[str, Any], began: float) -> None:
        """*info* describes one version that existed since *began*.

        Facts may be missing, except in a reply to HeadObject, which has a CRC-64.
        """
        # True if the facts come from the client's record
        path, is_own = info["name"], "status" in info
        if info["mtime"] != info["LastModified"]:
            raise Broken(f"{path} has two times of modification: {info}")
        said = {n: v for n, v in info.items() if v not in (None, "")}
        commits = [c for c in self._commits(path, began) if c is not None and c.facts]
        is_wrong = any(c.is_damaged for c in commits)
        if is_own:  # the record believes what a reply has said
            lies = ("false_proof", "early_good")
            is_wrong |= any(event.fate in lies for event in self.network.events)
        if self.unchecked and is_wrong:
            return
        for commit in commits:
            wrong = {n for n, v in commit.facts.items() if said.get(n, v) != v}
            # the record has the client's time
            wrong -= {"LastModified"} if is_own else set()
            is_whole = is_own or "crc64" not in said or commit.facts.keys() <= {*said}
            if not wrong and is_whole:
                return
        known = [c.facts for c in commits]
        raise Broken(f"info of {path} is {info}, but should be one of {known}")

    def check_receipt(self, write: Write, receipt: Receipt) -> None:
        """*receipt* states the bytes that *write* stored, and the number of requests."""
        commits = [
            commit
            for commit in self.network.server.store.commits(receipt.path)
            if receipt.path == write.path
            and write.began <= commit.at <= self._now()
            and (commit.data in write.contents or commit.is_damaged)
        ]
        is_named = min(map(len, write.contents)) >= NAMED
        if any(commit.is_damaged for commit in commits) or not (commits or is_named):
            return
        if self.believes(write):
            return
        is_right = any(
            receipt.size == commit.facts["size"]
            and (receipt.etag in ("", commit.facts["ETag"]) or self.unchecked)
            and receipt.crc64 in (None, commit.facts["crc64"])
            and receipt.content_type in (None, commit.facts["ContentType"])
            for commit in commits
        )
        parts = [part.part_number for part in receipt.parts]
        sized = sum(part.size for part in receipt.parts) in (0, receipt.size)
        is_whole = parts == [*range(1, len(parts) + 1)] and sized
        lasted = self._now() - write.asked
        is_in_time = 0 <= EPOCH + self._now() - receipt.stored_at <= lasted
        is_in_time &= 0 <= receipt.seconds <= lasted
        is_known = (receipt.status, bool(receipt.upload_id)) == ("stored", bool(parts))
        if not (is_right and is_whole and is_in_time and is_known):
            raise Broken(f"{write} has the receipt {receipt.as_dict()}")
        fates = {e.fate for e in self.network.events if e.ended >= write.asked}
        is_even = fates <= {"ok", "hints", "unread"} and not self.other_faults
        if is_even and (receipt.retries or receipt.resigns):
            raise Broken(f"{write} was not retried, but its receipt says so: {receipt}")

    def lasting(self, prefix: str, began: float) -> list[str]:
        """Return the names below *prefix* that existed at all times since *began*."""
        paths = {f"{c.bucket}/{c.key}" for c in self.network.server.store.history}
        return [
            path.removeprefix(prefix)
            for path in sorted(paths)
            if path.startswith(prefix) and None not in self.versions(path, began)
        ]

    def check_listing(self, root: str, found: Mapping[str, Any], began: float) -> None:
        """*found* is path -> ``info``, the result of a listing of *root* since *began*."""
        if self.may_refuse:
            # the record may answer; it learns of a write when the write ends
            began = 0.0
        for info in found.values():
            self.check_info(info, began)
        for name in self.lasting(f"{root}/", began):
            if f"{root}/{name}" not in found:
                raise Broken(f"a listing of {root} has no {name}")

    def check_end(self) -> None:
        """After all callers: every reported outcome was true, and no upload is open."""
        self.check_commits()
        self.check_uploads()
        self._check_texts()

    def check_uploads(self, key: str | None = None, began: float = 0.0) -> None:
        """No upload is left open that a call could have ended; optionally only of *key*."""
        store, events = self.network.server.store, self.network.events
        for name in BUCKETS:
            for upload_id, upload in store.buckets[name].uploads.items():
                if self.keeps_uploads:
                    continue
                # -1 for an upload of an earlier life
                opened = store.opened.get(upload_id, -1.0)
                if opened < began or key not in (None, upload.key):
                    continue
                begins = [
                    e
                    for e in events
                    if e.action == "InitiateMultipartUpload"
                    and e.at <= opened <= e.ended
                    and upload.key in e.path
                ]
                told = any(FAULTS[e.fate].is_doubtful for e in begins)
                # an earlier call, which was interrupted twice, may begin it
                told |= any(e.at < began for e in begins)
                told |= self._goes_on(f"{name}/{upload.key}", began)
                tried = any(
                    e.method == "DELETE" and upload.key in e.path and e.fate != "ok"
                    for e in events
                    if e.at >= opened
                )
                # a request that stalls may hold the only place of the client
                waits = any(e.fate.startswith("stall") for e in events)
                named = waits and any(upload_id in text for text in self.texts)
                if not (told or tried or named or self.may_refuse):
                    raise Broken(f"upload {upload_id} of {upload.key} is left open")

    def _check_texts(self) -> None:
        signatures = {s for s in self.network.server.signatures if len(s) > 8}
        text = "\n".join(self.texts)
        for secret in (*sorted(signatures), KEY.access_key_secret.reveal(), TOKEN):
            if secret in text:
                at = text.index(secret)
                raise Broken(f"a secret is shown: {text[max(0, at - 200) : at + 60]!r}")
        if found := re.search(r"proxy or \S+\.\S+", text):
            raise Broken(f"a text names a proxy, but there is none: {found[0]}")
