"""A signer in FastAPI: whoever has the token uploads to examplebucket/in/, no more."""
import hmac, json, os, jsonschema
from fastapi import FastAPI, Request, Response
from fsspec_osspresigned import jsondoc
from fsspec_osspresigned.model import Action, Operation
from fsspec_osspresigned.signers.keys import KeySigner

KEYS = KeySigner.from_options(region="cn-hangzhou")  # OSS_ACCESS_KEY_ID, ..._SECRET
SCHEMA = json.load(open(os.environ["SIGNER_SCHEMA"]))  # signer-protocol.schema.json
VALID = jsonschema.Draft202012Validator({**SCHEMA, "$ref": "#/$defs/request"}).is_valid
GRANTED = "PutObject InitiateMultipartUpload UploadPart CompleteMultipartUpload".split()
MEMBERS = set("bucket key upload_id part_number content_length headers query".split())
app, TOKEN = FastAPI(), f"Bearer {os.environ['SIGNER_TOKEN']}".encode()

def sign(item):
    if not VALID(item):
        return {"error": {"status": 400, "code": "invalid_request"}}
    if item["action"] not in GRANTED:
        return {"error": {"status": 403, "code": "action_not_granted"}}
    if item["bucket"] != "examplebucket" or not item["key"].startswith("in/"):
        return {"error": {"status": 403, "code": "forbidden"}}
    if {n.lower() for n in item.get("headers", {})} - {"content-type", "content-md5"}:
        return {"error": {"status": 403, "code": "header_refused"}}
    asked = {name: item[name] for name in MEMBERS & item.keys()}
    life = min(item.get("expires_in", 900), 900)
    operation = Operation(**asked, action=Action(item["action"]), expires_in=life)
    [signed] = KEYS.sign([operation])
    found = {"url": signed.url.reveal(), "headers": dict(signed.headers)}
    return {"method": signed.method, **found, "expires_in": life}

def refuse(status, code):
    problem = json.dumps({"status": status, "code": code})
    return Response(problem, status, media_type="application/problem+json")

@app.post("/v1/sign")
async def answer(request: Request):
    if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), TOKEN):
        return refuse(401, "unauthorized")
    try:
        items = jsondoc.loads(body := await request.body())["requests"]
        fits = type(items) is list and 0 < len(items) <= 100 and len(body) <= 2**20
    except (ValueError, TypeError, KeyError):
        fits = False
    return {"results": list(map(sign, items))} if fits else refuse(400, "invalid_request")
