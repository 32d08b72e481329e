"""A journal says what was stored, whatever happened to its writer and to its file."""

from __future__ import annotations

import errno
import json
import os
import stat

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fsspec_osspresigned.files import LineFile
from fsspec_osspresigned.http.body import Fingerprint
from fsspec_osspresigned.model import PartReceipt
from fsspec_osspresigned.upload.journal import (
    JournalHead,
    JournalPart,
    head_line,
    line_of,
    parse,
    part_line,
    read,
)

MARK = Fingerprint(device=1, inode=2, size=2_050, mtime_ns=3, ctime_ns=4)
HEAD = JournalHead(
    path="examplebucket/a b/\u00fc",
    source="/data/\udcff.bin",
    fingerprint=MARK,
    part_size=1_000,
    parts=3,
    demands="0" * 64,
    upload_id="0004B9895DBBB6EC98E36",
    owners=False,
    created=1_764_000_000.5,
    host="oss-cn-hangzhou.aliyuncs.com",
)


def kept(number: int, crc: int = 5, verified: str = "crc64") -> JournalPart:
    """Return one stored part of HEAD."""
    part = PartReceipt(
        part_number=number, size=HEAD.size_of(number), etag=f'"E{number}"', crc64=crc
    )
    return JournalPart(part, verified)


PARTS = [kept(2), kept(1, 2**64 - 1), kept(3, 0, "md5")]
WHOLE = head_line(HEAD) + b"".join(map(part_line, PARTS))


@pytest.fixture
def place(tmp_path):
    """A path for the journal."""
    return str(tmp_path / "one.upload.jsonl")


def test_what_was_written_is_read(place):
    """JournalHead and parts come back as they were, odd names included."""
    one = LineFile.create(place, [head_line(HEAD)], sync=True)
    for part in PARTS:
        one.append(part_line(part))
    one.close()
    data = read(place)
    assert data == WHOLE
    record = parse(data)
    assert record.head == HEAD
    assert record.head.size == 2_050
    assert record.parts == {part.part.part_number: part for part in PARTS}
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o600
    assert os.listdir(os.path.dirname(place)) == ["one.upload.jsonl"]


def test_cut_at_every_byte_it_says_an_earlier_state_or_nothing():
    """Parts whose lines are whole count; without a whole head nothing does."""
    lines = WHOLE.splitlines(keepends=True)
    ends = [sum(map(len, lines[:n])) for n in range(1, len(lines) + 1)]
    for length in range(len(WHOLE) + 1):
        record = parse(WHOLE[:length])
        if length < ends[0] - 1:
            assert record is None
            continue
        # Only its line end may be missing of a line that counts.
        count = sum(length >= end - 1 for end in ends[1:])
        assert list(record.parts.values()) == PARTS[:count]
        assert record.head == HEAD


def test_every_flipped_bit_is_noticed():
    """A damaged part is none, a damaged head is no journal; nothing else changes."""
    clean = parse(WHOLE)
    for at in range(len(WHOLE)):
        for bit in range(8):
            data = bytearray(WHOLE)
            data[at] ^= 1 << bit
            record = parse(bytes(data))
            if record is not None:
                assert record.head == clean.head
                assert record.parts.items() <= clean.parts.items()
                assert len(record.parts) >= 1


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_PART_MEMBERS = list(json.loads(part_line(PARTS[0])))


@given(st.sampled_from(_PART_MEMBERS), _JSON)
def test_a_part_of_other_types_is_none(name, value):
    """A wrong number, size or checksum of a part makes it be sent again."""
    members = json.loads(part_line(PARTS[0]))
    del members["check"]
    members[name] = value
    for one in parse(head_line(HEAD) + line_of(members)).parts.values():
        assert 1 <= one.part.part_number <= 3
        assert one.part.size == HEAD.size_of(one.part.part_number)


@pytest.mark.parametrize(
    "line",
    [
        line_of({}),
        line_of({**json.loads(head_line(HEAD)), "version": 3}),
        line_of({**json.loads(head_line(HEAD)), "fingerprint": {"size": 1}}),
        line_of({**json.loads(head_line(HEAD)), "parts": 10_001}),
        line_of({"a": 1})[:-1] + b"\r\n",
    ],
)
def test_another_version_or_an_impossible_head_is_no_journal(line):
    """A journal with such a first line is ignored."""
    assert parse(line) is None


def test_no_journal_is_none_and_a_huge_file_is_an_error(place):
    """A file that cannot be a journal is not read into memory."""
    assert read(place) is None
    with open(place, "wb") as file:
        file.write(b"x" * 11)
    with pytest.raises(OSError, match="too large"):
        read(place, limit=10)


def test_a_link_is_not_followed(place, tmp_path):
    """A link in place of the journal is neither read nor replaced."""
    victim = tmp_path / "victim"
    victim.write_bytes(WHOLE)
    os.symlink(victim, place)
    os.symlink(victim, place + ".new")
    with pytest.raises(OSError):
        read(place)
    with pytest.raises(OSError):
        LineFile.reopen(place)
    LineFile.create(place, [head_line(HEAD)], sync=True).close()
    assert victim.read_bytes() == WHOLE
    assert not os.path.islink(place)


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_a_head_that_cannot_be_written_leaves_what_was_there(place, step, monkeypatch):
    """A full disk at any step of the beginning changes nothing and leaves no file."""
    with open(place, "wb") as file:
        file.write(WHOLE)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(OSError, match="No space"):
            LineFile.create(place, [head_line(HEAD)], sync=True)
    assert read(place) == WHOLE
    assert os.listdir(os.path.dirname(place)) == ["one.upload.jsonl"]


def test_a_disk_that_fills_up_at_any_byte_loses_one_line(place, monkeypatch):
    """Lines before and after the disk was full count."""
    for fits in range(len(part_line(kept(1)))):
        one = LineFile.create(place, [head_line(HEAD)], sync=True)
        one.append(part_line(PARTS[0]))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", _nearly_full(fits))
            with pytest.raises(OSError, match="No space"):
                one.append(part_line(kept(1)))
        found = set(parse(read(place)).parts)
        assert found - {1} == {2}
        one.append(part_line(PARTS[2]))
        one.close()
        assert set(parse(read(place)).parts) == found | {3}


def _nearly_full(room):
    """Return an ``os.write`` that takes *room* bytes."""
    write, left = os.write, [room]

    def limited(descriptor, data):
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(descriptor, data[: left[0]])
        left[0] -= done
        return done

    return limited
