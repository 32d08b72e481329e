"""The arithmetic of profiles by layer, on made-up timings."""

from __future__ import annotations

import sys

import pytest

from benchmarks import profiles
from fsspec_osspresigned import OSSPresignedFileSystem

_HERE = "/lib/fsspec_osspresigned"
_WIRE = (f"{_HERE}/http/transfer.py", 10, "send")
_SIGN = (f"{_HERE}/signers/keys.py", 10, "sign")
_SEND = ("~", 0, "<method 'send' of '_socket.socket' objects>")
_JOIN = ("~", 0, "<method 'join' of 'str' objects>")
_HELPER = ("/lib/python3.11/queue.py", 10, "get")


@pytest.mark.parametrize(
    ("function", "layer"),
    [
        (_WIRE, profiles.EXCHANGE),
        (_SIGN, profiles.SIGNING),
        (_SEND, profiles.SOCKETS),
        (("~", 0, "<built-in method fastcrc.crc64.xz>"), profiles.CRC),
        (("~", 0, "<built-in method posix.pwrite>"), profiles.FILES),
        (("/lib/urllib3/poolmanager.py", 9, "f"), profiles.LIBRARIES),
        ((f"{_HERE}/upload/upload.py", 9, "add"), profiles.PLANNING),
        ((f"{_HERE}/http/body.py", 9, "blocks"), profiles.FILES),
        ((f"{_HERE}/dialects/s3.py", 9, "with_checksums"), profiles.SIGNING),
        (_JOIN, None),
        (_HELPER, None),
    ],
)
def test_each_function_is_of_one_layer(function, layer):
    """Ours go by module, those of C by what they touch; helpers are of their callers."""
    assert profiles.layer_of(function) == layer


def test_helpers_count_for_their_callers():
    """What no layer owns is shared out among those who called it; nothing is lost."""
    timings = {
        _WIRE: (1, 1, 1.0, 5.0, {}),
        _SIGN: (1, 1, 2.0, 3.0, {}),
        _SEND: (1, 1, 0.5, 0.5, {_WIRE: (1, 1, 0.5, 0.5)}),
        _HELPER: (4, 4, 0.4, 0.8, {_WIRE: (3, 3, 0.3, 0.6), _SIGN: (1, 1, 0.1, 0.2)}),
        _JOIN: (4, 4, 0.4, 0.4, {_HELPER: (4, 4, 0.4, 0.4)}),
    }
    found = profiles.by_layer(timings)
    assert found == {
        profiles.EXCHANGE: pytest.approx(1.0 + 0.3 + 0.3),
        profiles.SIGNING: pytest.approx(2.0 + 0.1 + 0.1),
        profiles.SOCKETS: pytest.approx(0.5),
    }
    assert sum(found.values()) == pytest.approx(sum(one[2] for one in timings.values()))


def test_helpers_that_call_each_other_end():
    """A circle of helpers is not walked for ever."""
    other = ("/lib/python3.11/queue.py", 20, "put")
    timings = {
        _WIRE: (1, 1, 0.0, 1.0, {}),
        _HELPER: (2, 1, 0.5, 1.0, {other: (1, 1, 0.2, 0.4), _WIRE: (1, 1, 0.3, 0.6)}),
        other: (1, 1, 0.5, 1.0, {_HELPER: (1, 1, 0.5, 1.0)}),
    }
    assert sum(profiles.by_layer(timings).values()) == pytest.approx(1.0)


def test_table_of_strace_is_read_with_errors_and_without():
    """Its fifth column is there only where calls failed."""
    table = (
        "% time     seconds  usecs/call     calls    errors syscall\n"
        "------ ----------- ----------- --------- --------- ----------------\n"
        " 60.00    0.000600           6       100           sendto\n"
        " 40.00    0.000400           4        90         3 futex\n"
        "------ ----------- ----------- --------- --------- ----------------\n"
        "100.00    0.001000          10       190         3 total\n"
    )
    assert dict(profiles.counted(table)) == {"sendto": 100, "futex": 90}


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="cProfile is of one thread at a time there"
)
def test_threads_of_the_engine_are_profiled(oss, tmp_path):
    """What the loop and the workers do for a call counts, too."""
    fs = OSSPresignedFileSystem(signer="keys")
    file = tmp_path / "large"
    file.write_bytes(bytes(1 << 20))
    found = profiles.Profiles()
    with found.of_engine():
        found.run(fs.put_file, str(file), "examplebucket/large")
    names = {name for _, _, name in found.timings()}
    assert {"put_file", "upload_source", "perform"} <= names
