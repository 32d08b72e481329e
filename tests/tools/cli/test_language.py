"""The command line in Chinese: one catalogue, which has the texts of the program."""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import fsspec_osspresigned
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.tools.cli.app import osspresigned
from fsspec_osspresigned.tools.failures import in_flags
from fsspec_osspresigned.tools.language import catalogue, is_chinese, translated
from tests.tools.cli.conftest import BUCKET, KEYS

ROOT = Path(fsspec_osspresigned.__file__).parent
TO = f"{BUCKET}/in/"
# Texts of click, and titles.
OF_CLICK = {"Usage: ", "Commands", "Options", "Show this message and exit."}
OF_EXAMPLES = re.compile("^osspresigned |^pg_dump |^UploadPart:")


def joined(text: str) -> str:
    return " ".join(text.split())


def helps(command: click.Command) -> Iterator[str]:
    """Yield the texts of the help of *command* and of those below it."""
    texts = [command.help, command.short_help, command.epilog]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from helps(below)
    for text in filter(None, texts):
        for paragraph in re.split(r"\n\s*\n", text.strip()):
            # A paragraph that begins so shows commands; its first line is a title.
            is_shown = paragraph.startswith("\b")
            yield joined(paragraph.split("\n")[1]) if is_shown else joined(paragraph)
    for option in command.params:
        if isinstance(option, click.Option) and option.help and not option.hidden:
            yield joined(option.help)
            yield getattr(option, "group", "Options")


def constant(node: ast.AST, names: dict[str, str]) -> str | None:
    """Return the text of *node*, with ``{}`` for what it computes; None if it is none."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if not isinstance(node, ast.JoinedStr):
        return None
    pieces = []
    for value in node.values:
        if isinstance(value, ast.FormattedValue):
            pieces.append(constant(value.value, names) or "{}")
        else:
            pieces.append(constant(value, names) or "")
    return "".join(pieces)


def names_in(tree: ast.Module) -> dict[str, str]:
    """Return the texts that the module names."""
    return {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def texts_below(folder: Path) -> str:
    """Return the texts of the modules in *folder*, in the words of the command line."""
    texts: set[str] = set()
    for path in folder.rglob("*.py"):
        tree = parsed(path)
        names = names_in(tree)
        found = (constant(node, names) for node in ast.walk(tree))
        texts |= {joined(text) for text in found if text is not None}
    return in_flags("\n".join(texts))


def check_pieces(text: str, whole: str) -> None:
    for piece in text.split("{}"):
        # Marks and blanks may be those of the sentence around it.
        assert piece.strip(" :;,.()[]'") in whole, text


def test_each_help_text_is_translated():
    """None is missing, and none is left of a text that has changed."""
    shown = {text for text in helps(osspresigned) if not OF_EXAMPLES.search(text)}
    known = catalogue()["help"].keys()
    assert shown - known == set()
    assert known - shown - OF_CLICK == set()


def test_each_cause_is_translated():
    """The table of causes and the catalogue have the same texts."""
    tree = parsed(ROOT / "client" / "causes.py")
    names = names_in(tree)
    calls = [
        [constant(each, names) or "" for each in node.args[1:]]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("_Row", "Cause")
    ]
    fixed = {
        in_flags(joined(text))
        for call in calls
        for text in call
        if text and "{" not in text
    }
    known = catalogue()["causes"]
    assert fixed - known.keys() == set()
    found = (constant(node, names) for node in ast.walk(tree))
    whole = in_flags(" ".join(joined(text) for text in found if text is not None))
    assert [
        text for text in known if text.partition("{}")[0].strip() not in whole
    ] == []


def test_each_message_is_one_of_the_program():
    """What was changed there is not forgotten here: its fixed pieces stand in the source."""
    whole = texts_below(ROOT)
    for text in catalogue()["messages"]:
        pieces = text.removeprefix("{} ").removeprefix("unknown whether ")
        check_pieces(pieces.removeprefix("not "), whole)


def test_each_text_from_elsewhere_is_one_of_click_or_the_system():
    """A release of click with other words is noticed."""
    errors = map(os.strerror, errno.errorcode)
    whole = "\n".join([texts_below(Path(click.__file__).parent), *errors])
    for text in catalogue()["elsewhere"]:
        check_pieces(text, whole)


def test_places_are_kept():
    """A translation has as many of them as its original, and is Chinese."""
    for rows in catalogue().values():
        for english, chinese in rows.items():
            assert chinese.count("{}") == english.count("{}"), english
            assert re.search("[\u4e00-\u9fff，；]", chinese) or ":" in english, english


@pytest.mark.parametrize(
    ("variables", "is_so"),
    [
        ({"OSSPRESIGNED_LANG": "zh"}, True),
        ({"OSSPRESIGNED_LANG": "", "LANG": "zh_CN.UTF-8"}, True),
        ({"OSSPRESIGNED_LANG": "", "LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, False),
        ({"OSSPRESIGNED_LANG": "en", "LC_ALL": "zh_CN.UTF-8"}, False),
        ({"OSSPRESIGNED_LANG": "", "LANG": ""}, False),
    ],
)
def test_language(monkeypatch, variables, is_so):
    """Our own variable decides, then those of the locale in their order."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_chinese() == is_so
    assert (translated("error: not found") == "错误：不存在") == is_so


def test_upload_in_chinese(run, oss, tree, monkeypatch):
    """Summary, reason and question are Chinese; names and codes are as they were."""
    monkeypatch.setenv("OSSPRESIGNED_LANG", "zh")
    ended = run("put", "data", TO, *KEYS)
    assert ended.code == 0
    assert ended.err.startswith("已上传 3 个文件，6 B，用时 0.")
    assert ended.err.endswith(f" s，位置：{TO}data/\n")
    oss.faults.add(Fault(action="PutObject", refuse="expired", times=None))
    ended = run("put", "data/a.csv", TO, *KEYS)
    assert ended.code == 3
    first, last = ended.err.splitlines()
    assert first.startswith(f"{TO}a.csv: 未上传：")
    assert "URL 已过期" in first
    assert "请检查本机的时钟，然后再运行一次" in first
    assert last == "已上传 0 个文件，共 1 个；1 个失败"
    ended = run("put", "missing.csv", TO, *KEYS)
    assert "本地没有这个文件" in ended.err


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        (
            "error: b/in/: 2 objects would be deleted, the limit is 0: nothing was changed",
            "错误：b/in/: 2 个 Object 将被删除，上限是 0：没有做任何更改",
        ),
        (
            "- OSS_ACCESS_KEY_ID is not set: the key signer reads it from the environment",
            "- OSS_ACCESS_KEY_ID 没有设置：keys 从环境变量读取它",
        ),
        ("error: 'a' and 'b' would both be 'c'", "错误：'a' and 'b' 的目标都是 'c'"),
        ("2 not copied: not found", "2 个未拷贝：不存在"),
        ("[default: PUT]  [required]", "[默认：PUT]  [必填]"),
    ],
)
def test_a_phrase_swallows_nothing_around_it(monkeypatch, english, chinese):
    """Names and what stands before a phrase stay; marks after it become Chinese."""
    monkeypatch.setenv("OSSPRESIGNED_LANG", "zh")
    assert translated(english) == chinese


def test_errors_in_the_words_of_the_command_line(run, oss, tree, monkeypatch):
    """Advice on storage options names flags in Chinese, too, and so do those of click."""
    monkeypatch.setenv("OSSPRESIGNED_LANG", "zh")
    ended = run("put", "data/a.csv", "otherbucket/a.csv", *KEYS)
    assert "Bucket 不存在：请检查名称，以及 --region 或 OSS_REGION" in ended.err
    ended = run("put", "data/a.csv", TO, *KEYS, "--region", "cn-beijing")
    assert "URL 按地域 cn-beijing 签名，而 Bucket 在另一个地域：请把" in ended.err
    ended = run("put", "data/a.csv", TO, "--signer", "http://sign.example.com")
    assert ended.err.endswith("是 http：请改用 https，或 --allow-http\n")
    ended = run("put", "data", "--urls", "map.json")
    # Click names the longest or the first of the flags, by its version.
    assert re.search("运行 'osspresigned put (--help|-h)' 查看帮助。", ended.err)
    # Before 8.4, it had another sentence, which stays English.
    assert re.search("错误：(没有选项 '--urls'。|No such option: --urls)", ended.err)


def test_plans_in_chinese(run, oss, tree, monkeypatch):
    """Dry runs, --check and skipped files are Chinese."""
    monkeypatch.setenv("OSSPRESIGNED_LANG", "zh")
    ended = run("put", "data/a.csv", TO, *KEYS, "-n")
    assert ended.out == f"上传 {TO}a.csv，来自 data/a.csv，1 B\n"
    assert ended.err == "1 个文件要上传，共 1 B\n"
    run("sync", "data", TO, *KEYS)
    ended = run("put", "data/", TO, *KEYS, "--ignore-existing")
    assert ended.err == "已上传 0 个文件；跳过 3 个已存在的\n"
    # A name is printed as it is, also if it is a text of the command line.
    (tree / "not found").write_text("x")
    ended = run("put", "data/not found", TO, *KEYS, "-n")
    assert ended.out == f"上传 {TO}not found，来自 data/not found，1 B\n"
    (tree / "not found").unlink()
    (tree / "new; 1.csv").write_text("new")
    ended = run("sync", "data", TO, *KEYS, "-n")
    assert ended.out == "上传 new; 1.csv（新增，3 B）\n"
    assert ended.err == "1 个要上传，3 个相同\n"
    ended = run("sync", "data", TO, *KEYS, "--check")
    assert ended.out == "new; 1.csv：只在 SRC 中，3 B\n"
    assert ended.err == "1 个不同，3 个相同\n"
    ended = run("get", f"{TO}b/", "out", "-r", "-n", *KEYS)
    assert re.fullmatch(f"(下载 {TO}b/.+ 到 .+\n){{2}}", ended.out)
    assert ended.err == "2 个文件要下载\n"


def test_json_is_not_translated(run, oss, tree, monkeypatch):
    """A program reads the same events and codes in each language."""
    oss.faults.add(Fault(action="PutObject", refuse="expired", times=None))
    said = []
    for language in ("en", "zh"):
        monkeypatch.setenv("OSSPRESIGNED_LANG", language)
        ended = run("put", "data/a.csv", TO, *KEYS, "--json")
        events = [event for event in ended.events if event["event"] != "progress"]
        for event in events:
            for name in ("seconds", "request_id", "message"):
                event.pop(name, None)
        said.append((ended.code, json.dumps(events)))
    assert said[0] == said[1]
    assert not re.search("[\u4e00-\u9fff]", ended.out)


def test_help_in_chinese(run, monkeypatch):
    """No line of the help of a command is English but for names and values."""
    monkeypatch.setenv("OSSPRESIGNED_LANG", "zh")
    for command in osspresigned.commands:
        text = run(command, "--help").out
        assert text.startswith("用法：")
        prose = text.partition("示例：")[0]
        left = re.findall(r"(?m)(?:\b[a-z]{3,}\b ){3}", prose)
        assert not [each for each in left if "osspresigned" not in each], command


def test_help_is_wrapped_between_words(run, monkeypatch):
    """No line is wider than the terminal, and no English word is cut."""
    monkeypatch.setenv("OSSPRESIGNED_LANG", "zh")
    monkeypatch.setenv("COLUMNS", "80")
    text = run("put", "--help").out
    assert "FILE.toml+https://..." in text
    assert "（path）" in text
    for line in text.partition("示例：")[0].splitlines():
        wide = sum(unicodedata.east_asian_width(c) in "WF" for c in line)
        assert len(line) + wide <= 80
