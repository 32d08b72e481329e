"""What is measured, as values: pieces of work, and rows of them with their targets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from attrs import asdict, evolve, frozen

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MB = 1_000_000
OURS, MAP, SERVE = "osspresigned", "osspresigned:map", "osspresigned:serve"
GRANT = "osspresigned:grant"
VERBS = (
    *("put", "multipart", "stream", "small", "gather", "get", "ranges"),
    *("start", "import", "sign", "map", "dask", "heads", "record", "recall"),
)
# Verbs that send many files, each as one object.
MANY = ("small", "gather", "dask")
QUICK_PART = 5 * MIB  # the least that S3 clients take


@frozen
class Work:
    """One piece of work, the same for every candidate.

    Attributes:
        name: Of the row.
        verb: put, multipart, stream, small, gather (`count` values by coroutines at
            once, as zarr writes chunks), get, ranges, start (a new interpreter imports
            and sends one object of `size`), import, sign, map (open a URL map of
            `count` entries and send one object), dask (`count` files of `size` from
            `concurrency` worker processes), heads (of `count` objects), record (a
            process remembers `count` objects that it wrote) or recall (`count` questions
            about them, which no store answers).
        size: Of one object, bytes.
        count: Objects, ranges, signatures, entries, or interpreters one after another.
        part_size: Bytes of a part, or of a range of a download.
        concurrency: Requests in flight at once.
        latency: Seconds that the sink waits before each answer.
        rate: Bytes a second of each connection. None: no cap.
        block: Bytes of one write (stream), or of one range (ranges).
        pause: Seconds that the producer of a stream rests after each MiB.
        tls: The sink speaks https.
        stop: Seconds that the producer of a stream stops, once, half-way.
        version: Of signatures (sign): v4 or v1.
        slow: Of every so many connections one is `slow_by` times slower. 0: none.
        slow_by: Its factor.
        memory: Address space of the process, bytes. None: no limit.
        sparse: The file is a hole: zeros that take no disk.
        fresh: The producer of a stream makes each block anew.
        known: Objects that the process has written before (recall).
    """

    name: str
    verb: str
    size: int
    count: int = 1
    part_size: int = 8 << 20
    concurrency: int = 8
    latency: float = 0.0
    rate: float | None = None
    block: int = 1 << 20
    pause: float = 0.0
    tls: bool = False
    stop: float = 0.0
    version: str = "v4"
    slow: int = 0
    slow_by: float = 10.0
    memory: int | None = None
    sparse: bool = False
    fresh: bool = False
    known: int = 0

    @property
    def total(self) -> int:
        """Bytes of bodies that arrive, or leave, in one run."""
        if self.verb in ("sign", "import", "record", "recall"):
            return 0
        if self.verb == "ranges":
            return self.count * self.block
        return self.size if self.verb == "map" else self.count * self.size

    @property
    def parts(self) -> int:
        """Parts of the one object; 0 if it is sent otherwise."""
        if self.verb not in ("multipart", "stream"):
            return 0
        return max(1, -(-self.size // self.part_size))

    @property
    def ideal(self) -> float:
        """Seconds that the link and the producer alone take."""
        rests = self.pause * (self.size / MIB) + self.stop
        if self.verb in ("small", "gather"):
            rounds = math.ceil(self.count / self.concurrency)
            spent = self.size / self.rate if self.rate else 0.0
            return rounds * (self.latency + spent)
        if self.verb not in ("put", "multipart", "stream", "get", "ranges"):
            return 0.0
        pieces = self.count if self.verb == "ranges" else max(1, self.parts)
        if self.verb == "get":
            pieces = -(-self.size // self.part_size)
        width = min(self.concurrency, pieces)
        rounds = math.ceil(pieces / width) + 2 * (self.parts > 0)
        sent = self.total / (self.rate * width) if self.rate else 0.0
        return max(rests, sent + rounds * self.latency)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Work:
        """Read what `as_dict` gave."""
        return cls(**given)


@frozen
class Target:
    """What one candidate must reach in a row.

    Attributes:
        candidate: Who.
        ratio: Wall time over that of the reference, at most.
        rss: Growth of memory, bytes, at most.
        seconds: Wall time, at most.
        micros: Wall time over `count`, microseconds, at most.
    """

    candidate: str = OURS
    ratio: float | None = None
    rss: int | None = None
    seconds: float | None = None
    micros: float | None = None


def references(named: str | None) -> tuple[str, ...]:
    """Return the names of the candidates in *named*; none for "bound" and None."""
    return () if named in (None, "bound") else tuple(str(named).split("|"))


@frozen
class Row:
    """A line of the table.

    Attributes:
        work: What is done.
        title: For readers.
        reference: A candidate, or several with | between them: the quickest of them
            in each round; "bound": the time of latency alone; None: no reference.
        targets: What must be reached.
        only: Names of the candidates that take part. Empty: all that can.
        less: A candidate whose time of the same round is taken off all others first.
        series: Rows of one series are points of one curve.
        linear: Seconds an item, over those of the first point of the series, at most.
    """

    work: Work
    title: str
    reference: str | None = None
    targets: tuple[Target, ...] = ()
    only: tuple[str, ...] = ()
    less: str | None = None
    series: str | None = None
    linear: float | None = None

    @property
    def name(self) -> str:
        """The row's name, which is its work's."""
        return self.work.name

    @property
    def references(self) -> tuple[str, ...]:
        """The candidates of the reference."""
        return references(self.reference)

    def takes(self, candidate: str) -> bool:
        """Return whether *candidate* takes part, by name alone."""
        return not self.only or candidate in self.only


_LINK = {"rate": 50.0 * MB, "latency": 0.020}


def _multipart(
    name: str,
    title: str,
    ratio: float,
    only: tuple[str, ...] = (),
    reference: str = "hand:mmap",
    **more: Any,
) -> Row:
    return Row(
        Work(name, "multipart", GIB, **more),
        title,
        reference,
        (Target(ratio=ratio, rss=32 * MIB),),
        only,
    )


def _stream(name: str, title: str, ratio: float, rss: int | None, **more: Any) -> Row:
    work = Work(name, "stream", more.pop("size", GIB), **more)
    return Row(work, title, "hand:overlap", (Target(ratio=ratio, rss=rss),))


_STREAM_RSS = 8 * MIB * 9 + 16 * MIB
_BOTH = (OURS, MAP, "hand:prepared")
_NO_PEERS = (OURS, "hand:mmap")  # a row before has them all, at nearly the same work


def _many(count: int) -> Row:
    grown = (Target(OURS, rss=64 * MIB), Target(MAP, rss=64 * MIB))
    return Row(
        Work(f"many-{count // 1000}k", "small", KIB, count, concurrency=32),
        f"{count:,} files of 1 KiB, 0 ms",
        "hand:prepared",
        grown,
        _BOTH,
        series="many",
        linear=1.15,
    )


def _recall(name: str, known: int) -> Row:
    return Row(
        Work(name, "recall", KIB, 4000, known=known),
        "1,000 isdir, ls, exists of a known and of an unknown object, "
        f"after {known:,} written objects",
        None,
        (Target(GRANT),),
        (GRANT,),
        series="recall",
        linear=1.5,
    )


def _by_grant(work: Work, title: str) -> Row:
    return Row(work, title, OURS, (Target(GRANT, ratio=1.05),), (OURS, GRANT))


def _small(name: str, latency: float, **more: Any) -> Row:
    work = Work(name, "small", 4 * KIB, 5000, concurrency=32, latency=latency)
    return Row(work, f"5,000 files of 4 KiB, {latency * 1000:.0f} ms, {name}", **more)


def _wide(name: str, title: str, ratio: float, **more: Any) -> Row:
    """Return a row beside the quickest peers, which are compiled."""
    work = Work(name, "small", 4 * KIB, 5000, **more)
    only = (OURS, "obstore", "pycurl")
    return Row(work, title, "obstore", (Target(ratio=ratio),), only)


ROWS: tuple[Row, ...] = (
    Row(
        Work("put-1g", "put", GIB, concurrency=1),
        "one PUT of 1 GiB",
        "curl",
        (Target(ratio=0.85, rss=16 * MIB),),
    ),
    _multipart(
        "multipart-capped", "1 GiB in parts, 8 MiB x 8, 50 MB/s, 20 ms", 1.03, **_LINK
    ),
    _multipart(
        "multipart-capped-16x8",
        "the same, 16 MiB x 8",
        1.03,
        _NO_PEERS,
        part_size=16 * MIB,
        **_LINK,
    ),
    _multipart(
        "multipart-capped-8x16",
        "the same, 8 MiB x 16",
        1.03,
        _NO_PEERS,
        concurrency=16,
        **_LINK,
    ),
    _multipart(
        "multipart-uncapped",
        "1 GiB in parts, 8 MiB x 8, no cap",
        1.15,
        reference="hand:mmap|hand:preadv",
    ),
    _stream(
        "stream-capped",
        "stream of 256 MiB, 8 x 50 MB/s, 20 ms",
        1.03,
        _STREAM_RSS,
        size=256 * MIB,
        **_LINK,
    ),
    _stream(
        "stream-paced",
        "the same, 10 ms a MiB between writes",
        1.02,
        _STREAM_RSS,
        size=256 * MIB,
        pause=0.010,
        **_LINK,
    ),
    _stream("stream-1m", "stream of 1 GiB, writes of 1 MiB", 1.15, None),
    _stream("stream-64k", "the same, 64 KiB", 1.0, None, block=64 * KIB),
    _stream("stream-4k", "the same, 4 KiB", 1.25, None, block=4 * KIB),
    _small("small-20ms", 0.020, reference="bound", targets=(Target(ratio=1.06),)),
    _small("small-0ms", 0.0, reference="hand:prepared", targets=(Target(ratio=0.35),)),
    _wide(
        "small-0ms-32",
        "5,000 files of 4 KiB, 0 ms, 32 in flight",
        1.0,
        concurrency=32,
    ),
    _wide(
        "small-20ms-128",
        "5,000 files of 4 KiB, 20 ms, 128 in flight",
        1.0,
        latency=0.020,
        concurrency=128,
    ),
    _wide(
        "small-20ms-256",
        "5,000 files of 4 KiB, 20 ms, 256 in flight",
        1.0,
        latency=0.020,
        concurrency=256,
    ),
    _wide("tls-small", "5,000 files of 4 KiB, TLS", 1.1, concurrency=32, tls=True),
    Row(
        Work("gather", "gather", 64 * KIB, 1000, concurrency=16, latency=0.020),
        "1,000 chunks of 64 KiB by coroutines, as zarr writes them, 20 ms",
        "bound",
        (Target(ratio=1.1),),
        (OURS,),
    ),
    Row(
        Work("heads", "heads", 4 * KIB, 20_000, concurrency=32),
        "20,000 HEADs, 32 in flight, 0 ms",
        "hand:heads",
        (Target(ratio=1.0),),
        (OURS,),
    ),
    Row(
        Work("record-1m", "record", KIB, 1_000_000),
        "what a process remembers of 1,000,000 objects",
        None,
        (Target(GRANT, rss=64 * MIB),),
        (GRANT,),
    ),
    _recall("recall-100", 100),
    _recall("recall-1m", 1_000_000),
    _many(25_000),
    _many(50_000),
    _many(100_000),
    Row(
        Work("tls-put", "put", GIB, concurrency=1, tls=True),
        "one PUT of 1 GiB, TLS",
        "curl",
        (Target(ratio=1.0),),
    ),
    Row(
        Work("tls-multipart", "multipart", GIB, tls=True),
        "1 GiB in parts, 8 MiB x 8, TLS",
        "hand:mmap",
        (Target(ratio=1.05),),
    ),
    Row(
        Work("get-1g", "get", GIB, **_LINK),
        "download of 1 GiB in ranges, 8 x 50 MB/s, 20 ms",
        "hand:ranges",
        (Target(ratio=1.05, rss=32 * MIB),),
    ),
    Row(
        Work("ranges-1000", "ranges", GIB, 1000, block=16 * KIB, **_LINK),
        "cat_ranges of 1,000 x 16 KiB, 8 x 50 MB/s, 20 ms",
        "hand:ranges",
        (Target(ratio=1.05, rss=32 * MIB),),
    ),
    Row(
        Work("sign-v4", "sign", 0, 5000),
        "sign one V4 URL",
        targets=(Target(micros=25.0),),
    ),
    Row(
        Work("sign-v1", "sign", 0, 5000, version="v1"),
        "sign one V1 URL",
        targets=(Target(micros=9.0),),
    ),
    Row(
        Work("start", "start", 4 * KIB, 5),
        "import and one small PUT, above bare Python",
        "hand:start",
        (Target(ratio=1.15),),
        less="hand:bare",
    ),
    Row(
        Work("import-fsspec", "import", 0, 10),
        "import fsspec, with the entry point and without",
        "hand:import-hidden",
        (Target("hand:import", ratio=1.03),),
    ),
    _small(
        "small-serve",
        0.0,
        reference=OURS,
        targets=(Target(SERVE, ratio=1.10),),
        only=(OURS, SERVE),
    ),
    _small(
        "small-serve-20ms",
        0.020,
        reference=OURS,
        targets=(Target(SERVE, ratio=1.10),),
        only=(OURS, SERVE),
    ),
    _by_grant(
        Work("small-grant", "small", 4 * KIB, 5000, concurrency=32),
        "5,000 files of 4 KiB, 0 ms, by a grant",
    ),
    _by_grant(
        Work("put-1g-grant", "put", GIB, concurrency=1),
        "one form of 1 GiB, by a grant",
    ),
)


def quick(row: Row) -> Row:
    """Return *row* so small that only its correctness can be seen."""
    work = row.work
    in_parts = work.verb in ("multipart", "stream", "get")
    size = min(work.size, 4 * QUICK_PART if in_parts else MIB)
    count = {"ranges": 20, "sign": 200, "start": 1, "import": 1}.get(work.verb, 20)
    return evolve(
        row,
        work=evolve(
            work,
            size=size,
            count=min(work.count, count),
            known=min(work.known, 100),
            part_size=QUICK_PART if in_parts else work.part_size,
            latency=min(work.latency, 0.001),
            rate=None,
            pause=min(work.pause, 0.001),
            stop=min(work.stop, 0.1),
            slow=0,  # nothing is slower than what has no cap
        ),
        targets=tuple(Target(target.candidate) for target in row.targets),
        linear=None,
    )
