"""Filter options --include, --exclude and --filter-from, in typed order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from glob import has_magic

import click
from attrs import frozen

from ...errors import ConfigurationError
from ...syncing.filter import Filter, Rule
from ..options import PLACE, option

_RULES = "fsspec_osspresigned.filter_rules"
_COMMENTS = ("#", ";")


def _read(place: str) -> Iterator[Rule]:
    """Yield the rules in a file, one ``+ GLOB`` or ``- GLOB`` per line."""
    try:
        with click.open_file(place, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no text"
        raise click.UsageError(f"--filter-from {place}: {why}") from None
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith(_COMMENTS):
            continue
        try:
            yield Rule.of(line)
        except ConfigurationError as error:
            said = f"--filter-from {place}, line {number}: {error.message}"
            raise click.UsageError(said) from None


_READERS: dict[str, Callable[[str], Iterable[Rule]]] = {
    "include": lambda glob: [Rule(takes=True, glob=glob)],
    "exclude": lambda glob: [Rule(takes=False, glob=glob)],
    "filter_from": _read,
}


class FilteringCommand(click.Command):
    """Command that preserves the order in which filter options were typed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse *args*, and store the filter rules in the context, in the order given."""
        given, _, order = self.make_parser(ctx).parse_args(args=list(args))
        values = {name: iter(given.get(name) or ()) for name in _READERS}
        ctx.meta[_RULES] = [
            rule
            for name in (str(one.name) for one in order)
            if name in _READERS
            for rule in _READERS[name](next(values[name]))
        ]
        return super().parse_args(ctx, args)


@frozen(kw_only=True)
class FilterOptions:
    """Filter options; the rules come from the command that is running."""

    # fmt: off
    include: Sequence[str] = option("--include GLOB",
        "Include files that match. If this is the first rule, exclude all others. May be "
        "repeated.",
        multiple=True)
    exclude: Sequence[str] = option("--exclude GLOB",
        "Exclude files that match. May be repeated; the last rule that matches decides.",
        multiple=True)
    filter_from: Sequence[str] = option("--filter-from FILE",
        "Read rules from a file: + GLOB or - GLOB per line.", multiple=True, type=PLACE)
    # fmt: on

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The filter rules of the running command, in typed order."""
        return tuple(click.get_current_context().meta[_RULES])

    @property
    def filter(self) -> Filter:
        """The rules of the running command as one filter."""
        return Filter(self.rules)


def name_below(arguments: Iterable[str], path: str) -> str:
    """Return the name by which filters match *path*, which is in one of *arguments*.

    The name is relative to that argument, or to the directory before its first
    wildcard.
    """
    for one in arguments:
        plain = _before_pattern(one) if has_magic(one) else one.rstrip("/")
        if path.startswith(f"{plain}/") and len(path) > len(plain) + 1:
            return path[len(plain) + 1 :]
    return path.rpartition("/")[2]


def _before_pattern(text: str) -> str:
    """Return the leading directories of a glob pattern, before the first wildcard."""
    steps = text.split("/")
    return "/".join(itertools.takewhile(lambda step: not has_magic(step), steps))
