"""A pytest plugin for the suite of ossfs: its module ``ossfs`` is our ``oss://``.

The suite runs unedited. It fills and reads its bucket by oss2, in the emulator. The
service that gives temporary keys is no part of the emulator, so its reply is made here.
"""

from __future__ import annotations

import json
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from aliyunsdkcore.client import AcsClient

import fsspec_osspresigned
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.filesystem.oss import OSSFileSystem
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials

BUCKETS = ("examplebucket", "second")
OWNER = Credentials("LTAI5tOssfsSuite", Secret("secret-of-the-owner"))
TEMPORARY = Credentials("STS.OssfsSuite", Secret("another-one"), Secret("its+token=="))


class AioOSSFileSystem(OSSFileSystem):
    """Their filesystem that can be awaited; each one of ours can."""


def _module(name: str, **names: Any) -> None:
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(names)


def _temporary_key(*_: object) -> bytes:
    key = {
        "AccessKeyId": TEMPORARY.access_key_id,
        "AccessKeySecret": TEMPORARY.access_key_secret.reveal(),
        "SecurityToken": TEMPORARY.security_token.reveal(),
    }
    return json.dumps({"Credentials": key}).encode()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Start the store before their modules read the environment."""
    store = Emulator(credentials=[OWNER, TEMPORARY], buckets=BUCKETS)
    store.__enter__()
    early_config.add_cleanup(lambda: store.__exit__(None, None, None))
    os.environ |= {
        "OSS_ENDPOINT": store.url,
        "OSS_REGION": "cn-hangzhou",
        "OSS_ACCESS_KEY_ID": OWNER.access_key_id,
        "OSS_SECRET_ACCESS_KEY": OWNER.access_key_secret.reveal(),
        "OSS_TEST_BUCKET_NAME": BUCKETS[0],
        "OSS_TEST_ANONYMOUS_BUCKET_NAME": BUCKETS[1],
    }
    fsspec_osspresigned.register_oss()
    _module("ossfs", OSSFileSystem=OSSFileSystem, AioOSSFileSystem=AioOSSFileSystem)
    _module("ossfs.base", BaseOSSFileSystem=OSSFileSystem)
    request = SimpleNamespace(set_accept_format=id, set_RoleArn=id)
    request.set_RoleSessionName = id
    kind = SimpleNamespace(AssumeRoleRequest=lambda: request)
    _module("aliyunsdksts")
    _module("aliyunsdksts.request")
    _module("aliyunsdksts.request.v20150401", AssumeRoleRequest=kind)
    AcsClient.do_action_with_exception = _temporary_key
