"""Options that others may have written do not import, and send no secret anywhere."""

from __future__ import annotations

import fsspec
import pytest

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.options import trust as module
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.options.trust import VARIABLE, check_trust, trust

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
OSS = "oss-cn-hangzhou.aliyuncs.com"
BUCKET = f"evil-bucket.{OSS}"
# Endpoints that would get what the user's keys sign for examplebucket/in/private.csv.
LEADING_AWAY = {
    "bucket": {
        "endpoint": f"http://{BUCKET}",
        "addressing_style": "path",
        "allow_http": True,
        "expires_in": 604_800,
    },
    "bucket by https": {"endpoint": f"https://{BUCKET}", "addressing_style": "path"},
    "bucket as a domain": {"endpoint": BUCKET, "addressing_style": "cname"},
    "bucket by dual stack": {
        "endpoint": "https://evil-bucket.cn-hangzhou.oss.aliyuncs.com",
        "addressing_style": "cname",
    },
    "bucket at the endpoint of old": {
        "endpoint": "https://cn-evil.oss.aliyuncs.com",
        "addressing_style": "path",
    },
    "bucket before the bucket": {"endpoint": BUCKET},
    "port": {"endpoint": f"https://{OSS}:8443"},
    "usual port": {"endpoint": f"https://{OSS}:443"},
    "cloud box": {
        "endpoint": "https://cb-f8z7yvzgwfkl9q0h.cn-hangzhou.oss-cloudbox.aliyuncs.com"
    },
    "plain http": {"endpoint": f"http://{OSS}", "allow_http": True},
    "S3": {"endpoint": f"https://s3.{OSS}"},
}
LEADING_AWAY = {
    name: {"signer": "keys", **given} for name, given in LEADING_AWAY.items()
}
EVIL |= {f"away to a {name}": given for name, given in LEADING_AWAY.items()}
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
    "inner dual": {
        "signer": "keys",
        "endpoint": "cn-hangzhou.oss-internal.aliyuncs.com",
    },
    "fast": {"signer": "keys", "endpoint": "https://oss-accelerate.aliyuncs.com"},
    "fast from abroad": {
        "signer": "keys",
        "endpoint": "oss-accelerate-overseas.aliyuncs.com",
        "addressing_style": "virtual",
    },
    "http not in use": {"signer": "keys", "endpoint": OSS, "allow_http": True},
    "loopback": {"signer": "keys", "endpoint": "http://[::1]:9000"},
    "localhost": {"signer": "keys", "endpoint": "http://localhost:9000"},
    "no host": {"signer": "keys", "endpoint": "://"},  # its own error comes later
}


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch):
    """Clear what other tests have trusted."""
    monkeypatch.setattr(module, "_trusted", set())


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
        patch.setenv(VARIABLE, f"else, {text_of(given)} ,allow_http=True")
        check(given)
    trust(given)
    check(given)


@pytest.mark.parametrize("name", LEADING_AWAY)
def test_no_signature_leads_away(name, monkeypatch):
    """The filesystem is refused before anything is signed, also after other options."""
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "LTAI5tExample")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "secret")
    fsspec.filesystem("osspresigned", signer="keys", region="cn-hangzhou")
    with pytest.raises(
        ConfigurationError, match=r"endpoint=.*would get what your keys sign"
    ):
        fsspec.open(
            "osspresigned://examplebucket/in/private.csv", **LEADING_AWAY[name]
        ).open()


@pytest.mark.parametrize(
    "own",
    [
        {"OSS_REGION": "cn-hangzhou"},
        {"OSS_ENDPOINT": f"https://{OSS}"},
        {"OSS_ENDPOINT": "oss-accelerate.aliyuncs.com", "OSS_REGION": "cn-hangzhou"},
        {"OSS_ENDPOINT": f"s3.{OSS}"},
    ],
)
@pytest.mark.parametrize("given", [{}, {"endpoint": OSS, "region": "cn-hangzhou"}])
def test_no_directory_is_taken_for_a_bucket(monkeypatch, own, given):
    """No style makes ``evilbucket`` in a path the bucket of a request.

    OSS would read a key without its own bucket so at each host that many buckets share.
    """
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "LTAI5tExample")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "secret")
    options = {"signer": "keys", "addressing_style": "cname", **given}
    with pytest.raises(ConfigurationError, match=r"domain of one bucket|keys sign"):
        fsspec.filesystem("osspresigned", **options).sign("examplebucket/evilbucket/x")


def test_clear_text_is_for_the_user_to_allow(monkeypatch):
    """Options do not make what keys sign readable on the way to the user's endpoint."""
    given = {"signer": "keys", "allow_http": True}
    monkeypatch.setenv("OSS_ENDPOINT", "http://10.0.0.7:9000")
    check({**given, "allow_http": False})  # what is sent is refused later
    with pytest.raises(ConfigurationError, match=r"allow_http=True.*in clear text"):
        check(given)
    check(given, allow_http="true")
    monkeypatch.setenv("OSS_ENDPOINT", "https://files.example.com")
    check(given)
    with pytest.raises(ConfigurationError, match="OSS_ENDPOINT=http://files"):
        check({**given, "endpoint": "http://files.example.com"}, allow_http=True)


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
