"""A signer in FastAPI: the token permits uploads to examplebucket/in/ only."""
import contextlib, hmac, json, os, jsonschema
from fastapi import FastAPI, Request, responses
from fsspec_osspresigned import Action, Operation, parsing
from fsspec_osspresigned.signers.keys import KeySigner

KEYS = KeySigner.from_options(region="cn-hangzhou")  # OSS_ACCESS_KEY_ID, ..._SECRET
SCHEMA = json.load(open(os.environ["SIGNER_SCHEMA"]))  # signer-protocol.schema.json
VALID = jsonschema.Draft202012Validator({**SCHEMA, "$ref": "#/$defs/request"}).is_valid
GRANTED = "PutObject InitiateMultipartUpload UploadPart CompleteMultipartUpload".split()
MEMBERS = set("bucket key upload_id part_number content_length headers query".split())
app, AUTH = FastAPI(), f"Bearer {os.environ['SIGNER_TOKEN']}".encode()

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

class Problem(responses.JSONResponse):
    media_type = "application/problem+json"

@app.post("/v1/sign")
async def answer(request: Request):
    if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), AUTH):
        return Problem({"status": 401, "code": "unauthorized"}, 401)
    with contextlib.suppress(ValueError, TypeError, KeyError):
        items = parsing.loads(body := await request.body())["requests"]
        if type(items) is list and 0 < len(items) <= 100 and len(body) <= 2**20:
            return {"results": list(map(sign, items))}
    return Problem({"status": 400, "code": "invalid_request"}, 400)
