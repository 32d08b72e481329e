"""The policy is read again when its file changes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.owner.service import policy_file as reload
from fsspec_osspresigned.owner.service.limits import RateLimits
from fsspec_osspresigned.owner.service.policy import hash_token
from fsspec_osspresigned.tools.cli.app import run
from tests.owner.service.conftest import TOKEN, policy_text


def keeper_of(file: Path):
    """Return a keeper and the list of what it says."""
    said = []
    keeper = reload.PolicyFile(
        path=file, say=lambda event, **facts: said.append((event, facts))
    )
    return keeper, said


def follow(keeper):
    """Look at the file as often as it takes to see that it rests."""
    keeper.refresh()
    keeper.refresh()


def test_keeper_follows_the_file(keys, policy_file):
    """A change takes effect, a mistake does not, and each is logged once."""
    keeper, said = keeper_of(policy_file)
    keeper.load()
    first = keeper.rules
    follow(keeper)
    assert not said
    policy_file.write_text(policy_text("max_expires = 1", "typo = 1", "acls = [3]"))
    follow(keeper)
    follow(keeper)
    assert keeper.rules is first
    ((event, facts),) = said
    assert event == "policy_refused"
    typo, acls = facts["problems"]
    assert acls.startswith("token 'writer': acls[0] must be one of")
    assert typo == "token 'writer': typo is not known"
    policy_file.write_text(policy_text("max_expires = 1"))
    follow(keeper)
    assert said[1:] == [("policy_reloaded", {"tokens": 1})]
    assert keeper.rules.tokens[hash_token(TOKEN)].max_expires_in == 1
    assert keeper.rules.signer is first.signer
    policy_file.write_text(f'signer.region = "cn-beijing"\n{policy_text()}')
    follow(keeper)
    assert keeper.rules.signer.region == "cn-beijing"
    keeper.refresh(force=True)
    assert len(said) == 4


def test_settings_that_cannot_sign_change_nothing(keys, policy_file):
    """The old signer and the old tokens stay together."""
    keeper, said = keeper_of(policy_file)
    keeper.load()
    first = keeper.rules
    policy_file.write_text(
        'signer.endpoint = "https://oss-cn-beijing.aliyuncs.com"\n'
        + policy_text("max_expires = 1")
    )
    follow(keeper)
    assert keeper.rules is first
    assert "does not fit" in said[0][1]["problems"][0]


def test_keeper_survives_a_file_that_cannot_be_read(keys, policy_file):
    """Gone, or no text: the old policy stays."""
    keeper, said = keeper_of(policy_file)
    keeper.load()
    first = keeper.rules
    policy_file.unlink()
    follow(keeper)
    follow(keeper)
    policy_file.write_bytes(b"\xff")
    follow(keeper)
    assert keeper.rules is first
    found = [facts["problems"][0] for _, facts in said]
    for text, part in zip(found, ("cannot read", "not UTF-8"), strict=True):
        assert part in text


def test_file_that_is_being_written_is_left_alone(keys, policy_file):
    """The first half of a policy may be one that grants more."""
    keeper, said = keeper_of(policy_file)
    keeper.load()
    first = keeper.rules
    for text in (policy_text(), policy_text("max_size = 1"), policy_text()):
        policy_file.write_text(f"{text}\n# more")
        keeper.refresh()
    assert (keeper.rules, said) == (first, [])
    keeper.refresh()
    assert said == [("policy_reloaded", {"tokens": 1})]


def test_file_that_could_not_be_read_is_tried_again(keys, policy_file):
    """A policy that takes a token away holds as soon as it can be read."""
    keeper, said = keeper_of(policy_file)
    keeper.load()
    good = keeper.path
    keeper.path = policy_file.parent  # a directory cannot be read
    follow(keeper)
    follow(keeper)
    assert [event for event, _ in said] == ["policy_refused"]
    policy_file.write_text(policy_text(token="another-token-00"))
    keeper.path = good
    follow(keeper)
    assert [event for event, _ in said] == ["policy_refused", "policy_reloaded"]
    assert hash_token(TOKEN) not in keeper.rules.tokens


def test_broken_database_stops_no_revocation(keys, policy_file):
    """The policy file is obeyed, and the tokens that were added last stay."""
    keeper, said = keeper_of(policy_file)
    place = ("--prefix", "examplebucket/partner/", "--policy", str(policy_file))
    assert run(["serve", "token", "add", "bob", *place]) == 0
    keeper.load()
    keeper.store.path.write_bytes(b"no database" * 100)
    with pytest.raises(ConfigurationError, match="cannot use the tokens in"):
        keeper.store.entries()
    policy_file.write_text(policy_text(token="another-token-00"))
    follow(keeper)
    follow(keeper)
    assert {policy.name for policy in keeper.rules.tokens.values()} == {"bob", "writer"}
    assert hash_token(TOKEN) not in keeper.rules.tokens
    assert [event for event, _ in said] == ["policy_refused", "policy_reloaded"]
    assert "cannot use the tokens in" in said[0][1]["problems"][0]


def test_fault_does_not_end_the_reading(keys, policy_file):
    """An unforeseen exception is logged by its class, and the file is read again."""

    class Faulty(RateLimits):
        faults: ClassVar = [KeyError("secret")]

        def keep(self, names):
            if self.faults:
                raise self.faults.pop()

    keeper, said = keeper_of(policy_file)
    keeper.limits = Faulty()
    follow(keeper)
    keeper.refresh()
    assert said == [
        ("policy_refused", {"problems": ["KeyError"]}),
        ("policy_reloaded", {"tokens": 1}),
    ]
