"""Grants, and the checks of results, of all signers."""

import pytest
from attrs import evolve

from fsspec_osspresigned.errors import ConfigurationError, NotCoveredError, SignerError
from fsspec_osspresigned.model import Action, Operation, SignedForm, SignedRequest
from fsspec_osspresigned.secret import FormValue
from fsspec_osspresigned.signers.base import (
    AdaptedSigner,
    Grant,
    Signer,
    form_fields,
    sign_checked,
)

PUT = Operation(action=Action.PutObject, bucket="b", key="k")
GOOD = SignedRequest(method="PUT", url="https://b.oss-cn-hangzhou.aliyuncs.com/k")


class Fixed(Signer):
    """A signer that answers what it was given."""

    def __init__(self, *answers):
        self.answers = answers

    def sign(self, operations):
        return list(self.answers)


def test_a_preflight_of_ones_own_is_asked_for_each_object():
    """A subclass that refuses objects need not say so a second time."""

    class Refusing(Fixed):
        def preflight(self, operation):
            raise NotCoveredError("no", path=operation.path)

    class Below(Refusing):
        pass

    found = [kind.grants_by_prefix for kind in (Fixed, Refusing, Below)]
    assert found == [True, False, False]


def test_objects_of_the_user_keep_their_members():
    """An object that is no subclass is asked for all that it offers."""

    class Own:
        remote = True
        invalidated = None

        def sign(self, operations):
            return [GOOD for _ in operations]

        def sign_each(self, operations):
            return [NotCoveredError("no") for _ in operations]

        def grant(self, path):
            return Grant(single=path == "b/k", multipart=None)

        def invalidate(self, refused):
            self.invalidated = refused

    own = Own()
    signer = AdaptedSigner(own)
    assert signer.remote
    assert signer.sign([PUT]) == [GOOD]
    assert isinstance(signer.sign_each([PUT])[0], NotCoveredError)
    assert signer.grant("b/k") == Grant(multipart=None)
    assert not signer.grant("b/other").single
    signer.preflight(PUT)
    signer.invalidate(GOOD)
    assert own.invalidated is GOOD


@pytest.mark.parametrize("answers", [(), (GOOD, GOOD)])
def test_wrong_number_of_answers(answers):
    """A signer that answers more or fewer requests is refused with both numbers."""
    with pytest.raises(SignerError, match=rf"answered {len(answers)} requests to 1"):
        sign_checked(Fixed(*answers), [PUT])


def test_answer_with_another_method():
    """A request that was signed for GET is never sent as the PUT that was asked."""
    with pytest.raises(SignerError, match="needs PUT, the signer signed GET"):
        sign_checked(Fixed(SignedRequest(method="GET", url="https://h/k")), [PUT])


def posted(**fields):
    """Return the answer of a signer that made a form of *fields*."""
    named = {n.replace("_", "-"): FormValue(value) for n, value in fields.items()}
    form = SignedForm(fields=named)
    return SignedRequest(method="POST", url="https://b.h/", form=form)


POST = Operation(
    action=Action.PostObject,
    bucket="b",
    key="k",
    headers={"Content-Type": "text/csv", "x-oss-meta-a": "1"},
)


@pytest.mark.parametrize("name", ["Content_Type", "x_oss_content_type"])
def test_demanded_headers_are_fields_of_a_form(name):
    """A form has no headers of its own: the fields carry them, the type by two names."""
    answer = posted(key="k", X_Oss_Meta_A="1", **{name: "text/csv"})
    assert sign_checked(Fixed(answer), [POST]) == [answer]
    with pytest.raises(NotCoveredError, match="required header x-oss-meta-a for Post"):
        sign_checked(Fixed(posted(key="k", **{name: "text/csv"})), [POST])


@pytest.mark.parametrize("value", ["!", "e30", "W10=", "eyJ4OmEiOjF9"])
def test_variables_that_are_none(value):
    """A callback that is no base64, no JSON object, or has numbers is refused."""
    with pytest.raises(ConfigurationError, match="x-oss-callback-var is not"):
        form_fields({"X-Oss-Callback-Var": value})


@pytest.mark.parametrize(
    ("operation", "answer", "text"),
    [
        (PUT, evolve(posted(key="k"), method="PUT"), "needs no form"),
        (evolve(POST, headers={}), evolve(posted(), form=None), "needs a form"),
        (evolve(POST, headers={}), posted(key="other"), "a form for another key"),
        (evolve(POST, headers={}), posted(), "a form for another key"),
    ],
)
def test_form_of_another_call_or_key(operation, answer, text):
    """A form is sent for the call and the key that were asked, and for no other."""
    with pytest.raises(SignerError, match=text):
        sign_checked(Fixed(answer), [operation])


@pytest.mark.parametrize("sent", [{}, {"X-Oss-Meta-A": "2"}, {"x-oss-meta-b": "1"}])
def test_demanded_header_must_come_back(sent):
    """A demanded header that is dropped or changed is an error naming it."""
    operation = Operation(action=Action.PutObject, headers={"x-oss-meta-a": "1"})
    answer = SignedRequest(method="PUT", url="https://h/k", headers=sent)
    with pytest.raises(NotCoveredError, match="x-oss-meta-a"):
        sign_checked(Fixed(answer), [operation])
