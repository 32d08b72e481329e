"""A web service that OSS notifies of each object that a token has uploaded.

The signature says only that OSS sent the call, for whichever customer and at whatever
time: look at the object (HEAD) before you rely on it.
"""
import base64, requests
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from flask import Flask, abort, request

app, KEYS = Flask(__name__), {}

def public_key(address):
    if not address.startswith("https://gosspublic.alicdn.com/"):
        abort(403)  # everybody can sign with a key of their own
    if address not in KEYS:
        (reply := requests.get(address, timeout=3)).raise_for_status()
        KEYS[address] = serialization.load_pem_public_key(reply.content)
    return KEYS[address]

def verify():
    signed = request.path.encode()
    if request.query_string:
        signed += b"?" + request.query_string
    signed += b"\n" + request.get_data()
    try:
        sent = ("x-oss-pub-key-url", "Authorization")
        address, signature = (base64.b64decode(request.headers.get(n, "")) for n in sent)
        key = public_key(address.decode())
        key.verify(signature, signed, padding.PKCS1v15(), hashes.MD5())
    except (OSError, ValueError, InvalidSignature):  # OSError: no key at the address
        abort(403)

@app.post("/uploaded")
def uploaded():
    verify()
    print(request.form.to_dict())  # bucket, object, size, etag, crc64, mimeType, token
    return {"Status": "OK"}  # OSS waits for 5 seconds, and takes only JSON
