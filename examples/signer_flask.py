"""A signer in Flask: the token permits uploads to examplebucket/in/ only."""
import contextlib, hmac, json, os, jsonschema
from flask import Flask, request
from fsspec_osspresigned import Action, Operation, parsing
from fsspec_osspresigned.signers.keys import KeySigner

KEYS = KeySigner.from_options(region="cn-hangzhou")  # OSS_ACCESS_KEY_ID, ..._SECRET
SCHEMA = json.load(open(os.environ["SIGNER_SCHEMA"]))  # signer-protocol.schema.json
VALID = jsonschema.Draft202012Validator({**SCHEMA, "$ref": "#/$defs/request"}).is_valid
GRANTED = "PutObject InitiateMultipartUpload UploadPart CompleteMultipartUpload".split()
MEMBERS = set("bucket key upload_id part_number content_length headers query".split())
app, AUTH = Flask(__name__), f"Bearer {os.environ['SIGNER_TOKEN']}".encode()

def sign(item):
    if not VALID(item) or len(item.get("key", "").encode()) > 1023:
        return {"error": {"status": 400, "code": "invalid_request"}}
    if item["action"] not in GRANTED:
        return {"error": {"status": 403, "code": "action_not_granted"}}
    if item["bucket"] != "examplebucket" or not item["key"].startswith("in/"):
        return {"error": {"status": 403, "code": "forbidden"}}
    if {n.lower() for n in item.get("headers", {})} - {"content-type", "content-md5"}:
        return {"error": {"status": 403, "code": "header_refused"}}
    action, life = Action(item["action"]), min(item.get("expires_in", 900), 900)
    asked = {name: item[name] for name in MEMBERS & item.keys()}
    [signed] = KEYS.sign([Operation(**asked, action=action, expires_in=life)])
    url, headers = signed.url.reveal(), dict(signed.headers)
    return {"method": signed.method, "url": url, "headers": headers, "expires_in": life}

def refuse(status, code, media_type="application/problem+json"):
    return {"status": status, "code": code}, status, {"Content-Type": media_type}

@app.post("/v1/sign")
def answer():
    if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), AUTH):
        return refuse(401, "unauthorized")
    with contextlib.suppress(ValueError, TypeError, KeyError):
        items = parsing.loads(body := request.stream.read(2**20 + 1))["requests"]
        if type(items) is list and 0 < len(items) <= 100 and len(body) <= 2**20:
            return {"results": list(map(sign, items))}
    return refuse(400, "invalid_request")
