"""Run pytest, and again what failed: a test that passes then depends on chance.

Such a test is red, unless it stands in ``quarantine.txt``; an entry whose day is over is
red, too. A run has some 40,000 tests with real sockets, threads and processes, so one
test of a command may fail once if it then passes ``REPEATS`` times in a row; with
``CHANCE=red`` in the environment, none may. The directory ``$WORK`` gets the names of all
these tests, and the reasons of all skipped tests, for the summary of ``run``.
"""

import datetime as dt
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

REPEATS = 20
LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def quarantine(place: Path) -> dict[str, str]:
    """Return test -> last day of the entries; exit if one is wrong or over."""
    found, wrong = {}, []
    for line in place.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        try:
            test, day, reason = (part.strip() for part in line.split(" | "))
            over = dt.date.fromisoformat(day) < dt.date.today()  # noqa: DTZ011
        except ValueError:
            wrong.append(f"no 'test | YYYY-MM-DD | reason': {line}")
            continue
        if over or not reason:
            wrong.append(f"{'its day is over' if over else 'no reason'}: {line}")
        found[test] = day
    if wrong:
        sys.exit("\n".join([f"{place}:", *wrong]))
    return found


def failed_tests() -> set[str]:
    """Return the tests that pytest remembers as failed."""
    if not LAST_FAILED.exists():
        return set()
    return set(json.loads(LAST_FAILED.read_text(encoding="utf-8")))


def skipped_tests(report: Path) -> Counter[str]:
    """Return reason -> tests; those that fail as expected are none."""
    reasons: Counter[str] = Counter()
    for skip in ET.parse(report).iter("skipped") if report.exists() else ():  # noqa: S314
        if skip.get("type") != "pytest.xfail":
            text = (skip.text or "").strip().rstrip("')")
            of_module = skip.get("message") == "collection skipped"
            reasons[
                text.rpartition("Skipped: ")[2]
                if of_module
                else skip.get("message", "")
            ] += 1
    return reasons


def note(name: str, lines: list[str]) -> None:
    """Append lines to a file of the summary."""
    if lines:
        with (Path(os.environ["WORK"]) / name).open("a", encoding="utf-8") as file:
            file.writelines(f"{os.environ['STEP']}: {line}\n" for line in lines)


def passes_always(command: list[str], test: str) -> bool:
    """Return whether *test*, alone, passes in each of ``REPEATS`` runs."""
    LAST_FAILED.parent.mkdir(parents=True, exist_ok=True)
    once = [*command, "--last-failed", "--last-failed-no-failures=none"]
    for _ in range(REPEATS):
        LAST_FAILED.write_text(json.dumps({test: True}), encoding="utf-8")
        run = subprocess.run(once, check=False, stdout=subprocess.DEVNULL)
        if run.returncode:
            return False
    return True


def verdict(command: list[str], lucky: list[str], test: str, day: str | None) -> str:
    """Return what the summary says of *test*, one of those that passed at last."""
    if day is not None:
        return f"in quarantine until {day}"
    if len(lucky) > 1 or os.environ.get("CHANCE") == "red":
        return "red"
    if passes_always(command, test):
        return f"then passed {REPEATS} times"
    return "red"


def main(command: list[str]) -> int:
    """Return the exit status for the step."""
    excused = quarantine(Path(__file__).with_name("quarantine.txt"))
    report = Path(os.environ["WORK"]) / f"{os.environ['STEP']}-{os.getpid()}.xml"
    status = subprocess.run([*command, f"--junitxml={report}"], check=False).returncode
    skips = sorted(skipped_tests(report).items())
    note("skipped", [f"{count} x {reason}" for reason, count in skips])
    if status != 1:  # a leak, which the canary finds, is never forgiven
        return status
    before = failed_tests()
    print("\n!!! These failed. One that passes now depends on chance:", flush=True)
    again = [*command, "--last-failed", "--last-failed-no-failures=none"]
    status = subprocess.run(again, check=False).returncode
    lucky = sorted(before - failed_tests())
    said = {t: verdict(command, lucky, t, excused.get(t)) for t in lucky}
    note("chance", [f"{test} ({what})" for test, what in said.items()])
    return status or int(not lucky or "red" in said.values())


sys.exit(main(sys.argv[1:]))
