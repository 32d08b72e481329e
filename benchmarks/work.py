"""The works that are measured, one for each row of the tables."""

from __future__ import annotations

from attrs import evolve, frozen

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
BEFORE = "before"  # this package in another checkout
FEWER = "100 open"  # this package again, with fewer streams
LESS = {"boto3": 5, FEWER: 10}  # of many objects these do each nth; boto3 is slow


@frozen
class Work:
    """One row.

    Attributes:
        name: What it is asked for by.
        title: The cell of the table.
        verb: The method of a client that does it.
        size: Bytes of an object.
        count: Objects.
        flight: Requests in flight. None: the default of each client.
        latency: Seconds before each reply.
        rate: Bytes a second of each connection. None: no limit.
        tls: Whether the store speaks TLS.
        clients: Those that take part, besides this package.
        calls: Whether the Python calls of an object are counted.
    """

    name: str
    title: str
    verb: str
    size: int
    count: int = 1
    flight: int | None = None
    latency: float = 0.0
    rate: float | None = None
    tls: bool = False
    clients: tuple[str, ...] = ("obstore", "boto3")
    calls: bool = False

    @property
    def reads(self) -> bool:
        """True if the verb reads; its objects must be stored before the measurement."""
        return self.verb in ("cat", "get", "info")

    def of(self, client: str) -> Work:
        """Return what a client does of it: some do less."""
        return evolve(self, count=max(1, self.count // LESS.get(client, 1)))

    def quick(self) -> Work:
        """Return the same work with few bytes: still in parts, still several."""
        count = min(self.count, 20)
        return evolve(self, size=min(self.size, 20 * MIB + 1), count=count, rate=None)


def _small(name: str, title: str, verb: str, **more: object) -> Work:
    options = {"count": 5000, "flight": 32, **more}
    return Work(name, title, verb, 4 * KIB, **options)  # type: ignore[arg-type]


_FAR = {"latency": 0.02, "flight": 128}
_CURL = ("obstore", "curl", "boto3")

WORKS = (
    _small("pipe", "`pipe` of 5,000 x 4 KiB", "pipe", calls=True),
    _small("put", "`put` of 5,000 files of 4 KiB", "put", clients=_CURL, calls=True),
    _small("pipe-20ms", "`pipe`, 20 ms, 128 in flight", "pipe", **_FAR),
    _small("put-20ms", "`put`, 20 ms, 128 in flight", "put", clients=_CURL, **_FAR),
    _small("pipe-tls", "`pipe`, TLS", "pipe", tls=True),
    _small("put-tls", "`put`, TLS", "put", clients=_CURL, tls=True),
    _small(
        "pipe-file", "1,000 x `pipe_file`, one by one", "one", count=1000, calls=True
    ),
    _small("cat", "`cat` of 5,000 x 4 KiB", "cat", calls=True),
    _small("get", "`get` of 5,000 files of 4 KiB", "get", clients=_CURL, calls=True),
    _small("info", "`info` of 5,000 objects", "info", calls=True),
    Work("parts", "1 GiB in parts, defaults", "file", GIB),
    Work(
        *("parts-capped", "1 GiB in parts, 20 ms, 50 MB/s a connection", "file", GIB),
        latency=0.02,
        rate=50e6,
    ),
    Work("stream", "stream of 1 GiB, writes of 1 MiB", "stream", GIB),
    Work("body", "one PUT of 1 GiB", "body", GIB, clients=("curl", "obstore", "boto3")),
    Work(
        *("open", "first write of a stream, 1,000 open", "first", KIB, 1000),
        clients=(FEWER,),
    ),
)
