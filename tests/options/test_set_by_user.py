"""Options that others may have written do not import, and send no secret anywhere."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.options import set_by_user
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.options.set_by_user import VARIABLE, check_trust, trust

SIGN = "https://sign.example.com"
EVIL = {
    "import": {"signer": "os.path:join"},
    "bad name": {"signer": "no name"},
    "token": {"signer": SIGN, "signer_token": "file:/run/secrets/token"},
    "way out": {"signer": SIGN, "signer_token": "file:/osspresigned/../etc/shadow"},
    "below": {"signer": SIGN, "signer_token": "file:/home/osspresigned/.ssh/id"},
    "endpoint": {"signer": "keys", "endpoint": "https://evil.example.com:8443"},
    "alike": {
        "signer": "keys",
        "endpoint": "oss-cn-hangzhou.aliyuncs.com.evil.example",
    },
    "customer": {"signer": "keys", "endpoint": "https://evil.aliyuncs.com"},
    "address": {"signer": "keys", "endpoint": "http://10.0.0.7:9000"},
}
FINE = {
    "function": {"signer": print},
    "service": {"signer": SIGN, "signer_token": "env:OSSPRESIGNED_T"},
    "named": {"signer": SIGN, "signer_token": "file:/run/secrets/osspresigned-token"},
    "directory": {"signer": SIGN, "signer_token": "file:/run/OSSPresigned/token"},
    "called": {"signer": SIGN, "signer_token": str},
    "region": {"signer": "keys", "region": "cn-hangzhou"},
    "public": {"signer": "keys", "endpoint": "oss-cn-hangzhou.aliyuncs.com"},
    "internal": {"signer": "keys", "endpoint": "oss-cn-hangzhou-internal.aliyuncs.com"},
    "dual": {"signer": "keys", "endpoint": "https://cn-hangzhou.oss.aliyuncs.com"},
    "fast": {"signer": "keys", "endpoint": "https://oss-accelerate.aliyuncs.com"},
    "bucket": {"signer": "keys", "endpoint": "my-1.oss-cn-hangzhou.aliyuncs.com"},
    "loopback": {"signer": "keys", "endpoint": "http://[::1]:9000"},
    "localhost": {"signer": "keys", "endpoint": "http://localhost:9000"},
    "no host": {"signer": "keys", "endpoint": "://"},  # its own error comes later
}


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch):
    """What other tests trust in is forgotten."""
    monkeypatch.setattr(set_by_user, "_trusted", set())


def check(given, **configured):
    """Check the options *given*."""
    check_trust(Options.from_storage_options(given), configured)


def text_of(given):
    """Return the guarded text of *given*."""
    names = ("signer_token", "endpoint", "signer")
    return next(given[name] for name in names if name in given)


@pytest.mark.parametrize("name", EVIL)
def test_options_of_others(name):
    """They are refused by name, with what to do."""
    with pytest.raises(ConfigurationError, match=f"those of others.*{VARIABLE}="):
        check(EVIL[name])


@pytest.mark.parametrize("name", FINE)
def test_options_that_need_no_trust(name):
    """Functions, hosts of OSS, this machine and files of ours are taken."""
    check(FINE[name])


@pytest.mark.parametrize("name", EVIL)
def test_own_hand(name, monkeypatch):
    """The variable, fsspec's configuration, a command line and a pickle are believed."""
    given = EVIL[name]
    check(given, **given)
    with pytest.raises(ConfigurationError):
        check(given, signer="another:function", endpoint="another.example")
    with monkeypatch.context() as patch:
        patch.setenv(VARIABLE, f"else, {text_of(given)} ")
        check(given)
    trust(given)
    check(given)


def test_wide_trust(monkeypatch):
    """A module stands for its functions, a host for its scheme, a variable for both."""
    monkeypatch.setenv(VARIABLE, "os.path,evil.example.com:8443")
    check(EVIL["import"])
    check(EVIL["endpoint"])
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("OSS_ENDPOINT", "evil.example.com:8443")
    check(EVIL["endpoint"])
    with pytest.raises(ConfigurationError):
        check(EVIL["import"])


def test_no_secret_in_the_message():
    """A URL in the wrong place is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        check({"signer": "keys:https//b/k?Signature=TOPSECRET"})
    assert "TOPSECRET" not in str(caught.value)
