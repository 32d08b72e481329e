"""Rows beyond the targets: bad input to speed, growth, and the sweep for defaults."""

from __future__ import annotations

from itertools import product

from attrs import evolve

from .work import GIB, KIB, MAP, MB, MIB, OURS, Row, Target, Work

_LINK = {"rate": 50.0 * MB, "latency": 0.020}
DASK = "osspresigned:dask"
# Of the sweep: parts in MiB, and how many of them one object may have; connections.
_PARTS, _MOST = (1, 2, 4, 8, 16, 32, 64), 256
_WIDTH, _WIDTHS, _SIZE_OF_WIDTHS = 16, (4, 8, 32), 256
_STREAM_RSS = 8 * MIB * 9 + 16 * MIB


def _rough(
    work: Work, title: str, seconds: float, rss: int | None, reference: str | None
) -> Row:
    """Return a row of ours, and of the reference if that can do it, too."""
    only = (OURS, reference) if reference else (OURS,)
    target = Target(seconds=seconds, rss=rss)
    return Row(
        evolve(work, name=f"rough-{work.name}"), title, reference, (target,), only
    )


def rough(stop: float = 10.0) -> tuple[Row, ...]:
    """Return what may make a client collapse; `stop`: seconds that a writer rests.

    Each has the seconds that it may take: what its link and producer alone take, and
    something for the rest, which is generous where the processor decides. The limit of
    memory is one of address space (RLIMIT_AS, as by `ulimit -v`): the interpreter, all
    libraries and the stacks of threads, 8 MiB each, count whether they are used or not.
    """
    slow = Work("slow-producer", "stream", 64 * MIB, pause=0.030, **_LINK)
    link = Work("slow-link", "multipart", 48 * MIB, part_size=MIB, rate=1.0 * MB)
    one = Work("one-slow-of-eight", "multipart", 512 * MIB, slow=8, **_LINK)
    stopping = Work("writer-stops", "stream", 64 * MIB, stop=stop)
    # Two parts may have to pass through the slow one: that is what "no collapse" allows.
    by_one = one.ideal + 2 * one.part_size * one.slow_by / (50 * MB)
    tight = 256 * MIB
    return (
        _rough(slow, "30 ms a MiB between writes", slow.ideal * 1.1 + 0.3,
               _STREAM_RSS, "hand:overlap"),
        _rough(link, "eight connections of 1 MB/s", link.ideal * 1.1 + 0.5,
               32 * MIB, "hand:mmap"),
        _rough(one, "one connection of eight ten times slower", by_one * 1.1 + 0.3,
               32 * MIB, "hand:mmap"),
        _rough(Work("one-byte-writes", "stream", 4 * MIB, block=1),
               "4,194,304 writes of one byte", 10.0, _STREAM_RSS, "hand:overlap"),
        _rough(stopping, f"a writer that stops for {stop:.0f} s", stop + 2.0,
               _STREAM_RSS, "hand:overlap"),
        _rough(Work("10000-parts", "multipart", 10_000 * 100 * KIB, part_size=100 * KIB),
               "10,000 parts of 100 KiB", 60.0, 48 * MIB, "hand:mmap"),
        _rough(Work("pool-of-64", "multipart", GIB, concurrency=64),
               "64 connections", 10.0, 64 * MIB, "hand:mmap"),
        _rough(Work("memory-put", "multipart", GIB, memory=tight),
               "put_file in 256 MiB of address space", 20.0, 64 * MIB, None),
        _rough(Work("memory-stream", "stream", 512 * MIB, memory=tight),
               "stream in 256 MiB of address space", 20.0, _STREAM_RSS, None),
    )  # fmt: skip


def _point(series: str, work: Work, title: str, candidate: str = OURS) -> Row:
    named = evolve(work, name=f"grow-{series}-{work.name}")
    return Row(named, title, only=(candidate,), series=series)


def growth() -> tuple[Row, ...]:
    """Return the points of each curve, in order."""
    files = [
        _point("files", Work(f"{n}", "small", KIB, n, concurrency=32), f"{n:,} files")
        for n in (10, 100, 1000, 10_000, 100_000)
    ]
    sizes = [
        _point("size", Work(f"{n}m", "multipart", n * MIB, sparse=True), f"{n:,} MiB")
        for n in (1, 10, 100, 1024, 10_240)
    ]
    threads = [
        _point("threads", Work(f"{n}", "multipart", GIB, concurrency=n), f"{n} threads")
        for n in (1, 2, 4, 8, 16, 32, 64)
    ]
    workers = [
        _point(
            "dask",
            Work(f"{n}", "dask", 64 * MIB, 16, concurrency=n, **_LINK),
            f"{n} dask workers",
            DASK,
        )
        for n in (1, 2)
    ]
    maps = [
        _point("map", Work(f"{n}", "map", KIB, n), f"{n:,} entries", MAP)
        for n in (10, 100, 1000, 10_000, 100_000, 1_000_000)
    ]
    return (*files, *sizes, *threads, *workers, *maps)


def sweep(limit: float) -> tuple[list[Row], list[dict[str, object]]]:
    """Return the cells of the sweep for defaults, and those that are left out.

    Each size goes over each link in parts of several sizes, and as one body, over as
    many connections as there are by default; one size over fewer and more of them, too.
    A cell that takes more than `limit` seconds on its link alone is left out.
    """
    rows: list[Row] = []
    skipped: list[dict[str, object]] = []
    links = product((0, 5, 20, 100), (10, 50, 200, 0))
    for (latency, rate), size in product(links, (1, 4, 8, 16, 64, 256, 1024, 10_240)):
        parts = [part for part in _PARTS if part < size]
        cells = [(part, _WIDTH) for part in (*parts, size) if size // part <= _MOST]
        if size == _SIZE_OF_WIDTHS:
            cells += [(8, width) for width in _WIDTHS]
        for part, width in cells:
            work = Work(
                f"sweep-{latency}ms-{rate or 'no'}mbs-{size}m-{part}x{width}",
                "multipart",
                size * MIB,
                part_size=part * MIB,
                concurrency=width,
                latency=latency / 1000,
                rate=rate * float(MB) or None,
                sparse=True,
            )
            if work.ideal > limit:
                skipped.append({"name": work.name, "ideal": round(work.ideal, 2)})
                continue
            rows.append(Row(work, work.name, only=(OURS,), series="sweep"))
    return rows, skipped
