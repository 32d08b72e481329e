"""A signer of one's own: filesystem("osspresigned", signer=my_signing.sign).

The library's own signer stands here for whatever signs where you are: a vault, a gateway.
"""
from fsspec_osspresigned import Action, NotCoveredError
from fsspec_osspresigned.signers.keys import KeySigner

KEYS = KeySigner.from_options()  # OSS_ACCESS_KEY_ID and so on


def sign(operations):
    """Sign uploads below in/: one answer each, in the order of *operations*."""
    for one in operations:
        if one.action is not Action.PutObject or not one.key.startswith("in/"):
            raise NotCoveredError(f"{one.action} of {one.path} is not granted")
    return [
        {
            "url": signed.url.reveal(),
            "headers": dict(signed.headers),  # exactly those will be sent
            "expires_in": 900,
        }
        for signed in KEYS.sign(operations)
    ]


if __name__ == "__main__":
    import fsspec

    fs = fsspec.filesystem("osspresigned", signer=sign)
    print(fs.pipe_file("examplebucket/in/hello.txt", b"hello").path, "stored")
