"""Faults as text of the command line."""

from __future__ import annotations

import io
import re
import threading

import pytest
import requests

from fsspec_osspresigned.emulator import Emulator, Fault, parse_faults, serve
from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.tools import cli


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("UploadPart:status=503:rate=0.3:seed=7",
         Fault(action="UploadPart", status=503, rate=0.3, seed=7)),
        ("*:reset", Fault(reset=True)),
        (":reused=yes:reset:times=always", Fault(reused=True, reset=True, times=None)),
        ("PutObject:reused=no:drop-reply=true:hang_up=no",
         Fault(action="PutObject", reused=False, drop_reply=True)),
        ("Get*:cut-reply-after=-1KiB:key=a/*",
         Fault(action="Get*", cut_reply_after=-1024, key="a/*")),
        ("PutObject : slow=64KiB : part=2 : stall-for=0.5",
         Fault(action="PutObject", bytes_per_second=65536.0, part_number=2,
               stall_for=0.5)),
        (r"*:status=403:message=a\: b:extra.Endpoint=c.d:extra.Bucket=e",
         Fault(status=403, message="a: b", extras={"Endpoint": "c.d", "Bucket": "e"})),
        ("*:interim=100+103:retry-after=3", Fault(interim=(100, 103), retry_after="3")),
        ("*:clock-jump=-3600.5", Fault(clock_jump=-3600.5)),
        ("*:refuse=skewed:early", Fault(refuse="skewed", early=True)),
    ],
)  # fmt: skip
def test_a_text_is_a_fault(text, fault):
    """An action and its members read as the same fault in Python."""
    assert parse_faults([text]) == [fault]


def test_all_mistakes_are_told_at_once():
    """Every wrong member of every text is named, and nothing starts."""
    texts = [
        "UplodPart:stauts=503",
        "*:status=x:rate=much:early=maybe:cut-after=big:cut-after",
        "*:status=500:status=501:extras=1:slow=1:bytes_per_second=2",
        "PutObject:key=k:times=2",
        "*:status=700:rate=2",
        "*:reset",
    ]
    with pytest.raises(ConfigurationError) as caught:
        parse_faults(texts)
    wanted = [
        (0, "'UplodPart' is not an action"), (0, "'stauts' is not a member"),
        (1, "status: 'x' is not a whole number"), (1, "rate: 'much' is not a number"),
        (1, "early: 'maybe' is neither"), (1, "cut-after: 'big' is not a size"),
        (1, "'cut-after' needs a value"),
        (2, "'status' is given twice"), (2, "'extras' is not a member"),
        (2, "'bytes_per_second' is given twice"),
        (3, "nothing goes wrong"),
        (4, "rate=2 must be above 0, at most 1"), (4, "status=700 ends no request"),
    ]  # fmt: skip
    assert len(caught.value.problems) == len(wanted)
    for line, (text, piece) in zip(caught.value.problems, wanted, strict=True):
        assert line.startswith(f"fault {texts[text]!r}: ")
        assert piece in line


def test_the_command_refuses_mistakes(capsys):
    """Wrong rules end the command, and each of them is shown."""
    assert cli.main(["emulator", "--fault", "x", "--fault", "*:y"]) == 2
    shown = capsys.readouterr().err
    assert "'x' is not an action" in shown
    assert "'y' is not a member" in shown


def test_the_examples_of_the_help_can_be_read(capsys):
    """Each rule that the help shows is one that it takes."""
    assert cli.main(["emulator", "--help"]) == 0
    rules = capsys.readouterr().out.partition("A RULE is")[2]
    rules = re.findall(r"^ +([*A-Z][A-Za-z]*:\S+)", rules, re.MULTILINE)
    assert len(parse_faults(rules)) == 8


def test_an_emulator_begins_with_its_faults():
    """Rules and clock of the command line are in force from the first request."""
    out, stop = io.StringIO(), threading.Event()
    options = {"faults": parse_faults(["*:status=503"]), "clock_offset": 3600.0}
    thread = threading.Thread(
        target=serve, kwargs={"port": 0, "out": out, "stop": stop, **options}
    )
    thread.start()
    while "Ctrl-C" not in out.getvalue():
        thread.join(0.01)
    url = out.getvalue().split()[3]
    assert "503" not in requests.get(url, timeout=5).text
    stop.set()
    thread.join()
    with Emulator(**options) as oss:
        assert [fault.status for fault in oss.faults.pending] == [503]
        assert oss.clock.offset == 3600
