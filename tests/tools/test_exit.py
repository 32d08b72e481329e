"""Exit codes, reasons, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from fsspec_osspresigned import errors
from fsspec_osspresigned.tools.failures import ExitCode, code_of, code_of_all, told, why
from fsspec_osspresigned.tools.interrupts import interruptible


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotCoveredError("x"), 3),
        (errors.AccessDeniedError("x"), 3),
        (errors.WrongRequestSignedError("x"), 3),
        (errors.SignerError("x", status=401), 3),
        (errors.SignerError("x", status=400), 1),
        (errors.ConfigurationError("x"), 2),
        (errors.NetworkTimeoutError("x"), 4),
        (errors.SignerUnavailableError("x"), 4),
        (errors.StoreUnavailableError("x"), 4),
        (errors.OutcomeUnknownError("x"), 5),
        (errors.ObjectNotFoundError("x"), 1),
        (PermissionError(13, "local"), 1),
        (RuntimeError("x"), 1),
        (errors.UploadErrors("x", failures={"a": errors.NotCoveredError("y")}), 3),
    ],
)
def test_every_error_has_its_code(error, code):
    """The page lists them; programs rely on them."""
    assert code_of(error) == code


def test_code_of_several():
    """One kind has its code if nothing went well."""
    denied, network = errors.NotCoveredError("x"), errors.NetworkError("x")
    assert code_of_all([], went_well=0) is ExitCode.OK
    assert code_of_all([denied, denied], went_well=0) is ExitCode.DENIED
    assert code_of_all([denied, denied], went_well=1) is ExitCode.FAILED
    assert code_of_all([denied, network], went_well=0) is ExitCode.FAILED


def test_reasons_hold_no_secret():
    """Reasons have no secret and no control character; lists keep their lines."""
    assert why(errors.ConfigurationError(["a", "b"])) == "2 problems:\n- a\n- b"
    assert why(FileNotFoundError(2, "No such file", "x")) == "No such file"
    assert "c2VjcmV0" not in why(ValueError("https://h/k?Signature=c2VjcmV0"))
    assert why(OSError("odd")) == "OSError: odd"
    assert why(OSError(24, "Too many open files")).endswith("or lower max_concurrency")
    assert why(OSError(5, "a\x1b[2J")) == "a\\x1b[2J"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.ConfigurationError("presigned_url= alone: no signer='keys', allow_http=True"), "--url-file alone: no --signer keys, --allow-http"),
        (errors.ConfigurationError("say max_delete=4, or resume_dir=/a b"), "say --max-delete 4, or --resume-dir /a b"),
        (errors.ConfigurationError("memory_limit=1 and curl=2"), "memory_limit=1 and curl=2"),
        (errors.NotCoveredError("leave the path empty"), "leave DEST out"),
        (errors.WrongRequestSignedError("give allow_path_mismatch=True"), "set FSSPEC_OSSPRESIGNED_ALLOW_PATH_MISMATCH=true"),
        (errors.WrongRequestSignedError("give overwrite=True"), "set FSSPEC_OSSPRESIGNED_OVERWRITE=true"),
        (errors.NotCoveredError("h (of overwrite=False) is not"), "h (of --no-overwrite) is not"),
        (errors.ObjectNotFoundError("x", code="NoSuchKey"), "not found"),
        (errors.ObjectNotFoundError("x", code="NoSuchBucket"), "x"),
        (errors.StoreUnavailableError("x", tries=2), "x, after 2 tries"),
    ],
)  # fmt: skip
def test_reasons_speak_the_command_line(error, text):
    """Options are named by their flags, and what has no flag keeps its name."""
    assert told(error) == text


@pytest.fixture
def default_sigint():
    """Install Python's own handler, and restore the earlier one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_no_handler_of_others_is_replaced(default_sigint):
    """Programs that handle SIGINT keep it; other threads may set none."""

    def own(*_):
        pass

    signal.signal(signal.SIGINT, own)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is own
    done = []

    def elsewhere():
        with interruptible():
            done.append(1)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert done == [1]


@pytest.fixture
def default_sigterm(monkeypatch):
    """Put the system's own handler in place; return the signals that end the process."""
    ends = []
    monkeypatch.setattr(os, "kill", lambda _, number: ends.append(number))
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield ends
    signal.signal(signal.SIGTERM, before)


def test_handlers_of_sigterm_are_kept(default_sigint, default_sigterm):
    """A program that handles SIGTERM keeps its handler, in the block and after it."""
    calls = []

    def own(number, _):
        calls.append(number)

    signal.signal(signal.SIGTERM, own)
    with interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert calls == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is own
    assert not default_sigterm
