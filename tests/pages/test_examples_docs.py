"""Commands, policies and the lifecycle rule of the pages for owners."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.tools import cli
from fsspec_osspresigned.url_map import parser as url_map_text

DOCS = Path(__file__).parents[2] / "docs"
OWNERS = (DOCS / "owners.md").read_text(encoding="utf-8")
SERVE = (DOCS / "serve.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the code of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def permissions() -> dict[str, set[str]]:
    """Return call -> permissions, as the table of the page says."""
    found = {}
    for line in OWNERS.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 5 and "`oss:" in cells[2]:
            needed = set(re.findall(r"`(oss:\w+)`", cells[2]))
            found.update(dict.fromkeys(cells[1].split(", "), needed))
    return found


def test_every_call_of_the_protocol_has_its_permission():
    """The table names all calls that a signer can be asked for."""
    found = permissions()
    assert set(Action) <= found.keys()
    assert found["UploadPart"] == {"oss:PutObject"}
    assert all(row.startswith("with ") for row in found.keys() - set(Action))


@pytest.mark.parametrize(
    "policy", [b for b in blocks(OWNERS + SERVE, "json") if '"Statement"' in b]
)
def test_policies_grant_only_what_a_signer_signs(policy):
    """Each is valid JSON, below one prefix, and names no action but the table's."""
    document = json.loads(policy)
    known = set().union(*permissions().values())
    assert document.keys() == {"Version", "Statement"}
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        assert set(statement["Action"]) <= known
        (resource,) = statement["Resource"]
        whole = resource == "acs:oss:*:*:examplebucket"
        assert whole == (statement["Action"] == ["oss:ListObjects"])
        assert whole or re.fullmatch(r"acs:oss:\*:\*:examplebucket/\w+/\*", resource)


def test_call_and_reply_on_the_page_are_what_the_schema_says():
    """The two documents of "The protocol in short" are valid."""
    page = (DOCS / "write-a-signer.md").read_text(encoding="utf-8")
    schema = json.loads((DOCS / "signer-protocol.schema.json").read_text("utf-8"))
    call, reply = map(json.loads, blocks(page, "json"))
    for name, document in (("call", call), ("reply", reply)):
        definition = {**schema, "$ref": f"#/$defs/{name}"}
        jsonschema.Draft202012Validator(definition).validate(document)


def test_shape_on_the_page_is_a_map():
    """It is read as it is printed, but for the URLs that are left out."""
    page = (DOCS / "url-map.md").read_text(encoding="utf-8")
    (text,) = blocks(page, "json")
    where = "https://examplebucket.oss-cn-hangzhou.aliyuncs.com/k?uploadId=0004B9895DBBB6EC98E3"
    found = url_map_text.parse(text.replace("https://...", where))
    assert list(found) == [f"examplebucket/{k}" for k in ("a.csv", "b.json", "big.bin")]
    assert found["examplebucket/big.bin"].part_size == 8 * 2**20


def test_lifecycle_rule_spares_what_can_still_be_finished():
    """It is XML as OSS takes it, and waits longer than a V4 signature lives."""
    (text,) = blocks(OWNERS, "xml")
    rule = ET.fromstring(text).find("Rule")  # noqa: S314 - our own page
    assert [child.tag for child in rule] == [
        "ID",
        "Prefix",
        "Status",
        "AbortMultipartUpload",
    ]
    assert int(rule.findtext("AbortMultipartUpload/Days")) == 8


VARYING = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r"\d+ (d|h|min|s)( \d+ (h|min|s))? left", "LEFT"),
    (r"upload [0-9A-F]{32}", "UPLOAD"),
    (r"\S*/(exports/)", r"HOME/\1"),
    (r" +", " "),
]


def steady(text: str) -> str:
    """Return *text* without what differs from one run to the next."""
    for pattern, instead in VARYING:
        text = re.sub(pattern, instead, text)
    return text.strip()


def test_commands_print_what_the_page_shows(monkeypatch, tmp_path, capsys):
    """They are run one after the other, as an owner would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSS_REGION", "cn-hangzhou")
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "exports" / "2026").mkdir(parents=True)
    for name in ("a.csv", "2026/b.csv"):
        (tmp_path / "exports" / name).touch()
    shown = [block for block in blocks(OWNERS, "text") if block.startswith("$ ")]
    assert len(shown) == 8
    with Emulator() as oss:
        key = oss.credentials
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", key.access_key_id)
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", key.access_key_secret.reveal())
        for block in shown:
            command, _, printed = block.removeprefix("$ osspresigned ").partition("\n")
            words = shlex.split(command)
            prepare(words, tmp_path, oss, monkeypatch, capsys)
            code = cli.main(words)
            said = capsys.readouterr()
            assert steady(said.out + said.err) == steady(printed), command
            assert code == (1 if " problem" in printed else 0)


def prepare(words, directory, oss, monkeypatch, capsys):
    """Make the world as it is when the owner calls the command."""
    monkeypatch.delenv("OSS_ENDPOINT", raising=False)
    if words[0] == "check":
        (directory / "exports" / "new.csv").touch()
    elif "--part-size" in words:
        monkeypatch.setenv("OSS_ENDPOINT", oss.url)
    elif "file:report.url" in words:
        cli.main(["sign", "examplebucket/report.csv", "--print"])
        file = directory / "report.url"
        file.touch(0o600)
        file.write_text(capsys.readouterr().out, encoding="utf-8")
