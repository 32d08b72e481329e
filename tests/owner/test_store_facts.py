"""The table of facts, as docs/service-facts.md shows it.

``WRITE_FACTS_TABLE=1`` in the environment writes the page anew. The reports of
``osspresigned check store --report`` in docs/service-facts/ fill its last column.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from fsspec_osspresigned.owner.store_facts import FACTS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "service-facts.md"
TEXT = """\
# Facts about OSS

This page lists every fact about OSS that the program relies on. The tests check each fact on the [emulator](emulator.md). An owner can check these facts on a real bucket:

```sh
osspresigned check store BUCKET --region cn-hangzhou --report facts.json
```

The command `check store` reads the owner's keys from the environment and asks for confirmation. The check sends about 160 requests, 230 in a bucket with versioning, below a [directory of its own](cli.md#check-store), stores 2 MiB for a few seconds, and removes all objects at the end; OSS charges for the requests. If the endpoint is the own domain of a bucket in mainland China, one presigned GET of an object of the check goes to the public host of the region.

The check begins with a control: the keys must sign, the bucket must exist, and one PutObject and its HeadObject must succeed. Otherwise, the command ends with one line and sends nothing else. A refusal proves a fact only if the same request without the refused property succeeds. Therefore, each refusal has a counter-case, the fact named in the third column; if the counter-case did not succeed, the refusal is `not asked`.

The report lists each fact with its outcome, and with status, code, EC and headers of the reply. The report contains no key, no signature and no bucket name, so you can attach it to an issue.

| outcome | meaning |
|---|---|
| `as expected` | the store does what the source says |
| `different` | the store does something else: the exit code is 1 |
| `recorded` | no source says for certain what to expect; the reply is in the report |
| `not asked` | another request that the fact needs failed: the exit code is 1 |
| `skipped` | the fact is about another kind of bucket, endpoint or key, named in the fourth column |

The check omits facts that need a large object, a second account or a setting of the bucket other than versioning. No source states the following facts with certainty:

* whether a copy above 1 GB is refused
* whether the reply to an expired STS token is `SecurityTokenExpired` or `InvalidAccessKeyId`; the program treats both codes alike
* whether `x-oss-object-acl` in a PutObject needs the permission `oss:PutObjectAcl`
* the hosts of access points
* the error code of a bucket with a rule against overwriting

| fact | source | counter-case | needs | emulator | live |
|---|---|---|---|---|---|
{rows}
"""


def page() -> str:
    """Return docs/service-facts.md."""
    live: dict[str, str] = {}
    for report in sorted((DOCS / "service-facts").glob("*.json")):
        document = json.loads(report.read_text(encoding="utf-8"))
        for fact in document["facts"]:
            live[fact["name"]] = f"{fact['outcome']}, {document['taken'][:10]}"
    rows = (
        f"| `{fact.name}`: {fact.says} | {fact.source} "
        f"| {f'`{fact.counter}`' if fact.counter else ''} "
        f"| {fact.needs.value if fact.needs else ''} "
        f"| {'as expected' if fact.expected else 'recorded'} "
        f"| {live.get(fact.name, 'not yet')} |"
        for fact in FACTS
    )
    return TEXT.format(rows="\n".join(rows))


def test_names_are_one_each():
    """A report is read by the names."""
    assert len({fact.name for fact in FACTS}) == len(FACTS)


def test_page_shows_the_table():
    """docs/service-facts.md is what this module would write."""
    if os.environ.get("WRITE_FACTS_TABLE"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()
