"""Uploads that break off, and are resumed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from attrs import evolve

from fsspec_osspresigned.emulator.store import Piece, Segment
from fsspec_osspresigned.errors import UploadErrors
from fsspec_osspresigned.http.checksums import crc64

from ..network import Faults
from ..verbs import Counted
from ..world import Broken
from .steps import LARGE, SMALL, NamedStep, Steps, set_file


class ResumeSteps(Steps):
    """Uploads that break off, and are resumed."""

    @property
    def of_resumed(self) -> tuple[NamedStep, ...]:
        return (("resume", self._broken_off),)

    def _broken_off(self) -> None:
        self._unanswered(self._like(retries=0, timeout=3, checksum="auto"))
        self._aborted(self._like(retries=0))
        self._resumed(self._like(retries=0, resume_dir=str(self.place / "journals")))

    def _unanswered(self, fs: Any) -> None:
        """If a reply is lost with all connections, a new connection checks the object.

        The object is compared by its MD5 if the store computes no CRC-64.
        """
        for size, share in ((SMALL, 0.0), (LARGE, 0.0), (SMALL, 1.0)):
            self.network.faults = Faults(no_crc=share)
            self.network.breaks, self.network.dead = True, 0
            path, data = self._data(f"unanswered{size}-{share}", size)
            fs.pipe_file(path, data)
            self._is(path, data)
        self.network.dead, self.network.faults = 0, Faults()

    def _aborted(self, fs: Any) -> None:
        """A failed transaction publishes nothing, and leaves no upload open."""
        for parts in (4, 1000):
            # with 4, not all parts arrive; with 1000, all arrive, but the object is not
            # published
            self._lost(fs, parts)

    def _lost(self, fs: Any, parts: int) -> None:
        objects = [self._data(f"lost{number}", LARGE) for number in range(2)]
        self.network.parts_left = parts
        try:
            with fs.transaction:
                for path, data in objects:
                    with fs.open(path, "wb") as file:
                        file.write(data)
        except (ConnectionError, UploadErrors):
            pass
        else:
            raise Broken("a transaction without its requests succeeds")
        finally:
            self.network.parts_left = None
        for path, _ in objects:
            self._is(path, None)
        if self._uploads("lost"):
            raise Broken("uploads of a failed transaction are left open")

    def _resumed(self, fs: Any) -> None:
        """After a failed upload, the next call sends no part twice.

        If the file has changed, the next call sends it as a whole. If a stored part has
        other bytes, this part is sent again.
        """
        (self.place / "journals").mkdir(exist_ok=True)
        (self.place / "journals").chmod(0o770)  # the group has no other user
        for changed in ("nothing", "file", "part"):
            path, data = self._data("resumed", LARGE)
            local = self._local("resumed", data)
            self._interrupted(fs, local, path)
            (upload,) = self._uploads("resumed")
            missing = 3 - len(upload.parts)
            if changed == "file":
                path, data = self._data("resumed", LARGE)
                set_file(Path(local), data)
                missing = 3
            elif changed == "part":
                for number, part in upload.parts.items():
                    upload.parts[number] = _with_other_bytes(part)
                missing = 3
            before = self.network.server.calls["UploadPart"]
            counted, warned = Counted(), self.ledger.warned
            first = len(warned)
            fs.put_file(local, path, callback=counted, overwrite=True)
            told = ["has changed" in text for text in warned[first:]]
            if told != [True] * (changed != "nothing"):
                raise Broken(f"a resumed upload warns: {warned[first:]}")
            del warned[first:]
            self._is(path, data)
            counted.check(LARGE, is_even=True)
            sent = self.network.server.calls["UploadPart"] - before
            if sent != missing:
                raise Broken(f"a resumed upload sent {sent} of {missing} missing parts")

    def _interrupted(self, fs: Any, local: str, path: str) -> None:
        """Lose all requests of an upload after its first part."""
        self.network.parts_left = 1
        try:
            fs.put_file(local, path, overwrite=True)
        except ConnectionError as error:
            notes = getattr(error, "__notes__", ())
            if not any("run the same again to resume" in note for note in notes):
                raise Broken(f"{error!r} only has the notes {notes}") from error
        else:
            raise Broken("an upload without its parts succeeds")
        finally:
            self.network.parts_left = None


def _with_other_bytes(part: Piece) -> Piece:
    data = bytes(part.size)
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return evolve(part, body=Segment(part.size, data), md5=digest, crc64=crc64(data))
