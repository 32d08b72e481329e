"""Refusals from public threads: the text as it came there, its cause and its remedy.

Hosts, buckets, names, keys, signatures and tokens are made up.
"""

from __future__ import annotations

import base64
import json
from typing import NamedTuple
from xml.sax.saxutils import escape

V1_SIGNATURE = base64.b64encode(b"a made-up signature1").decode()
V4_SIGNATURE = "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592"
OSS_KEY, S3_KEY, STS_KEY = (
    "LTAI5tExampleKeyId0",
    "AKIAIOSFODNN7EXAMPLE",
    "STS.NExampleKeyOfSts",
)
TOKEN = "CAISowJ1q6Ft5B2yfSjIr5bgIOz31blR9oWmWBfCs3kDR"
SECRETS = (V1_SIGNATURE, V4_SIGNATURE, OSS_KEY, S3_KEY, STS_KEY, TOKEN)
MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your key and signing method."
)
OSS = "https://examplebucket.oss-cn-beijing.aliyuncs.com"
S3 = "https://examplebucket.s3.amazonaws.com"


class Thread(NamedTuple):
    """A refusal of one thread, and words of the best cause and its remedy."""

    where: str
    text: str
    cause: str
    remedy: str
    code: str = "SignatureDoesNotMatch"


def oss(code: str, message: str, **members: str) -> str:
    """Return an error document of OSS."""
    rows = {"Code": code, "Message": message, "RequestId": "5FE2B07E50ED1C3034C9258B",
            "HostId": "examplebucket.oss-cn-beijing.aliyuncs.com", **members}  # fmt: skip
    inner = "".join(
        f"  <{name}>{escape(text)}</{name}>\n" for name, text in rows.items()
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n{inner}</Error>\n'


def s3(code: str, message: str, **members: str) -> str:
    """Return an error document of S3, in one line."""
    rows = {"Code": code, "Message": message, **members, "RequestId": "6E624EC66091A099",
            "HostId": "9HnUUZpa9zUWfyzuNrZtRkoN2CYxH8V6="}  # fmt: skip
    inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in rows.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'


def v1(text: str, *, key: str = "OSSAccessKeyId") -> dict[str, str]:
    """Return what a store adds to a mismatch of version 1: *text* is the string to sign."""
    octets = " ".join(f"{octet:02X}" for octet in text.encode()) + " "
    key_id = OSS_KEY if key == "OSSAccessKeyId" else S3_KEY
    return {key: key_id, "SignatureProvided": V1_SIGNATURE, "StringToSign": text,
            "StringToSignBytes": octets}  # fmt: skip


def v4(request: str) -> dict[str, str]:
    """Return what S3 adds to a mismatch of version 4: *request* is the canonical one."""
    text = f"AWS4-HMAC-SHA256\n20260101T000000Z\n20260101/us-east-1/s3/aws4_request\n{V4_SIGNATURE}"
    return {"AWSAccessKeyId": S3_KEY, "StringToSign": text, "SignatureProvided": V4_SIGNATURE,
            "CanonicalRequest": request}  # fmt: skip


def query_v1(expires: int, *, key: str = "OSSAccessKeyId") -> str:
    """Return the query of a presigned URL of version 1."""
    key_id = OSS_KEY if key == "OSSAccessKeyId" else S3_KEY
    signature = V1_SIGNATURE.replace("=", "%3D").replace("+", "%2B").replace("/", "%2F")
    return f"{key}={key_id}&Expires={expires}&Signature={signature}"


def query_v4(more: str = "", signed: str = "host", region: str = "us-east-1") -> str:
    """Return the query of a presigned URL of S3, version 4."""
    return (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={S3_KEY}%2F20260101%2F{region}"
        f"%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600{more}"
        f"&X-Amz-SignedHeaders={signed}&X-Amz-Signature={V4_SIGNATURE}"
    )


def canonical(host: str) -> str:
    """Return the canonical request of a PUT that arrived at *host*."""
    query = query_v4().rpartition("&")[0]
    return f"PUT\n/a.csv\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"


_PHP = f"{OSS}/20201222_1.jpg?{query_v1(1608695222)}"
_SKEWED = oss(
    "RequestTimeTooSkewed",
    "The difference between the request time and the current time is too large.",
    MaxAllowedSkewMilliseconds="900000",
    RequestTime="2024-09-22T06:32:38.000Z",
    ServerTime="2024-09-23T06:32:40.000Z",
    EC="0002-00000504",
)
_ELSEWHERE = (
    "The bucket you are attempting to access must be addressed using the specified "
    "endpoint. Please send all future requests to this endpoint."
)
_NOT_KNOWN = "The OSS Access Key Id you provided does not exist in our records."
_UNSIGNED = "There were headers present in the request which were not signed"
_CHUNKED = "aws-chunked encoding is not supported with the specified x-amz-content-sha256 value."

THREADS = (
    # The sent request differs from the signed one.
    Thread(
        "aliyun/aliyun-oss-php-sdk#158: Postman",
        f"{_PHP}\n\n" + oss("SignatureDoesNotMatch", MISMATCH, **v1("PUT\n\nimage/jpeg\n1608695222\n/examplebucket/20201222_1.jpg")),
        "Content-Type 'image/jpeg' was sent, but the URL is probably signed without one",
        "send no Content-Type if none was signed",
    ),
    Thread(
        "aws/aws-sdk-js#557: AngularJS and FormData",
        f"{S3}/1_myfile?{query_v1(1427993282, key='AWSAccessKeyId')}\n"
        + s3("SignatureDoesNotMatch", MISMATCH, **v1("PUT\n\nmultipart/form-data\n1427993282\n/examplebucket/1_myfile", key="AWSAccessKeyId")),
        "the body is a form, and would be stored with its boundaries",
        "send the file itself as the body, not FormData",
    ),
    Thread(
        "ali-sdk/ali-oss#485: axios and curl --data",
        "HTTP/1.1 403 Forbidden\nServer: AliyunOSS\n\n"
        + oss("SignatureDoesNotMatch", MISMATCH, EC="0002-00000040", **v1("PUT\n\napplication/x-www-form-urlencoded\n1531461600\n/examplebucket/k2j3h4")),
        "curl --data and HTTP libraries add it",
        "curl: -T FILE; axios: headers {'Content-Type': false}",
    ),
    Thread(
        "dart-lang/http#459: Google Cloud Storage, the text indented by a logger",
        "<?xml version='1.0' encoding='UTF-8'?>\n<Error>\n    <Code>SignatureDoesNotMatch</Code>\n"
        "    <Message>The request signature we calculated does not match the signature you provided. "
        "Check your Google secret key and signing method.</Message>\n    <StringToSign>PUT\n"
        "        text/html; charset=UTF-8\n        1597091875\n        /examplebucket/a.html\n"
        "    </StringToSign>\n</Error>",
        "Content-Type 'text/html; charset=UTF-8' was sent",
        "send no Content-Type if none was signed",
    ),
    Thread(
        "aliyun/aliyun-oss-python-sdk#186: an exception of oss2, json of put_object",
        "oss2.exceptions.SignatureDoesNotMatch: {'status': 403, 'x-oss-request-id': '5D031A3CA4DF8D178D3D499B', "
        f"'details': {{'Code': 'SignatureDoesNotMatch', 'Message': '{MISMATCH}', 'RequestId': '5D031A3CA4DF8D178D3D499B', "
        f"'HostId': '', 'OSSAccessKeyId': '{OSS_KEY}', 'SignatureProvided': '{V1_SIGNATURE}', "
        "'StringToSign': 'PUT\\n\\napplication/json\\nFri, 14 Jun 2019 03:53:30 GMT\\n/examplebucket/locations.json'}}",
        "axios and other libraries add it to a body of JSON",
        "or ask the owner to sign 'application/json'",
    ),
    Thread(
        "aws/aws-sdk-js#948: the URL of an upload, opened in a browser",
        f"{S3}/profiles.csv?{query_v1(1459297656, key='AWSAccessKeyId')}\n\n"
         f"<Error>\n<Code>SignatureDoesNotMatch</Code>\n<Message>\n{MISMATCH}\n</Message>\n"
        f"<AWSAccessKeyId>{S3_KEY}</AWSAccessKeyId>\n<StringToSign>\nGET 1459297656 /examplebucket/profiles.csv\n</StringToSign>\n</Error>",
        "the store received GET, and an upload is signed for PUT",
        "a browser that opens the URL sends GET",
    ),
    Thread(
        "minio/minio#6853: the URL was rewritten for a proxy",
        f"https://files.example.com/a.csv?{query_v4()}\n\n" + s3("SignatureDoesNotMatch", MISMATCH, **v4(canonical("minio:9000"))),
        "host arrived with another value",
        "look for a proxy or gateway",
    ),
    Thread(
        "aliyun/alibabacloud-oss-python-sdk-v2#133: a URL that was cut by a terminal",
        f"curl -SO {OSS}/exampleobject.txt?x-oss-date=20241112T092756Z&x-oss-expires=3599"
        f"&x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-credential={OSS_KEY}/20241112/cn-beijing/oss/\n"
        f"<Error>\n<Code>SignatureDoesNotMatch</Code>\n<Message>{MISMATCH}</Message>\n",
        "the URL has no signature",
        "copy the whole URL again",
    ),
    # Causes that only a part of the reply shows.
    Thread(
        "boto/boto3#4400: only the exception of boto3",
        f"botocore.exceptions.ClientError: An error occurred (SignatureDoesNotMatch) when calling the PutObject operation: {MISMATCH}",
        "it is signed for another method or other headers than those sent",
        "with exactly the headers that were signed",
    ),
    Thread(
        "odysseyscience/react-s3-uploader#106: an ACL that the URL does not sign",
        f"<Error>\n  <Code>\n    AccessDenied\n  </Code>\n  <Message>\n    {_UNSIGNED}\n  </Message>\n"
        "  <HeadersNotSigned>\n    x-amz-acl\n  </HeadersNotSigned>\n  <RequestId>\n    MyRequestId\n  </RequestId>\n</Error>",
        "headers that the URL does not sign: x-amz-acl",
        "do not send them, or ask the owner for a URL that signs them",
        "AccessDenied",
    ),
    Thread(
        "aws/aws-sdk-java#1680: a URL that was encoded twice",
        f"{S3}/a.csv?{query_v4(signed='content-type%253Bhost')}\n" + s3("AccessDenied", _UNSIGNED, HeadersNotSigned="host"),
        "the URL was percent-encoded twice",
        "use the URL untouched",
        "AccessDenied",
    ),
    Thread(
        "aliyun/aliyun-oss-go-sdk#244: an Authorization beside the signature",
        oss("InvalidArgument", "Either the Signature query string parameter or the Authorization header should be specified, not both.", Authorization=f"OSS {STS_KEY}:{V1_SIGNATURE}"),
        "the request has an Authorization header in addition to",
        "send no Authorization",
        "InvalidArgument",
    ),
    # Checksums of SDKs.
    Thread(
        "karakeep-app/karakeep#2191: the SDK of S3 for JavaScript at OSS",
        f"[InvalidArgument: {_CHUNKED}] {{\n  '$fault': 'client',\n  '$metadata': [Object],\n  Code: 'InvalidArgument',\n"
        "  RequestId: '692BA0000000000333852C6A',\n  HostId: 'examplebucket.oss-cn-hangzhou.aliyuncs.com',\n"
        "  ArgumentName: 'Content-Encoding',\n  ArgumentValue: 'aws-chunked',\n  EC: '00xx-xxxx0804',\n}",
        "the SDK sent the body in chunks, followed by a checksum",
        "AWS_REQUEST_CHECKSUM_CALCULATION=when_required",
        "InvalidArgument",
    ),
    Thread(
        "seaweedfs/seaweedfs#10216: the checksum of an empty body is signed",
        f"PUT {S3}/a.csv?{query_v4('&x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32')}\n"
        + s3("BadDigest", "The CRC32 you specified did not match the calculated checksum."),
        "the checksum of an empty body",
        "WHEN_REQUIRED",
        "BadDigest",
    ),
    # Time.
    Thread(
        "johnlui/AliyunOSS#20: an old link, without the root of the document",
        "<Code>AccessDenied</Code>\n<Message>Request has expired.</Message>\n<RequestId>589A7A90CDF4741F7D36F2F4</RequestId>\n"
        "<HostId>examplebucket.oss-cn-hangzhou.aliyuncs.com</HostId>\n<Expires>2017-02-07T01:30:29.000Z</Expires>\n<ServerTime>2017-02-08T01:55:28.000Z</ServerTime>",
        "the URL has expired 1 d 24 min ago",
        "ask for a new one",
        "AccessDenied",
    ),
    Thread(
        "Molunerfinn/PicGo#759: a document in the string of an exception",
        f"StatusCodeError: 403 - {json.dumps(_SKEWED)}\n    at new StatusCodeError (C:\\Users\\a\\errors.js:32:15)",
        "86402 s behind the store's clock",
        "set the clock",
        "RequestTimeTooSkewed",
    ),
    # Keys and tokens.
    Thread(
        "lucky1213/aliyun_oss#19: an STS key without its token",
        "I/flutter ( 3569): <Error>\nI/flutter ( 3569):   <Code>InvalidAccessKeyId</Code>\n"
        f"I/flutter ( 3569):   <Message>{_NOT_KNOWN} The Security Token may be lost to specify that it is a STS Access Id.</Message>\n"
        f"I/flutter ( 3569):   <OSSAccessKeyId>{STS_KEY}</OSSAccessKeyId>\nI/flutter ( 3569):   <EC>0002-00000003</EC>\nI/flutter ( 3569): </Error>",
        "its token is missing in the request",
        "sign with the token, too",
        "InvalidAccessKeyId",
    ),
    Thread(
        "Molunerfinn/PicGo#466: a blank before the key ID",
        f"StatusCodeError: 403 - {json.dumps(oss('InvalidAccessKeyId', _NOT_KNOWN, OSSAccessKeyId=f' {OSS_KEY}'))}\n    at new StatusCodeError (errors.js:32:15)",
        "the access key ID has a blank",
        "enter the key again",
        "InvalidAccessKeyId",
    ),
    # Regions, hosts and versions.
    Thread(
        "CQHui/oss_upload#2: an exception of oss2",
        f"oss2.exceptions.AccessDenied: {{'status': 403, 'request-id': '63E03DBE1B08F731365BE4DE', 'details': {{'Code': 'AccessDenied', 'Message': '{_ELSEWHERE}', "
        "'RequestId': '63E03DBE1B08F731365BE4DE', 'HostId': 'examplebucket.oss-cn-hangzhou.aliyuncs.com', 'Bucket': 'examplebucket', 'Endpoint': 'oss-cn-beijing.aliyuncs.com'}}",
        "the bucket is in another region (oss-cn-beijing.aliyuncs.com)",
        "who must sign for the region of the bucket",
        "AccessDenied",
    ),
    Thread(
        "aliyun/alibabacloud-oss-go-sdk-v2#29: the region is called cn-beijing",
        "panic: operation error ListObjects: Error returned by Service. \nHttp Status Code: 400. \nError Code: InvalidArgument. \nRequest Id: 66B5E7110AD071373715AB36. \n"
        "Message: Invalid signing region in Authorization header..\nEC: 0002-00000226.\nTimestamp: 2024-08-09 09:53:21 +0000 UTC.\nRequest Endpoint: GET https://examplebucket.oss-cn-beijing.aliyuncs.com/?encoding-type=url.",
        "the URL is signed for the region, the store is in another",
        "sign for the region of the bucket",
        "InvalidArgument",
    ),
    Thread(
        "aws/aws-cli#4338: the default region of a machine",
        f"{S3}/cfg.zip?{query_v4(region='us-east-2')}\n"
        "<Error>\n<Code>AuthorizationQueryParametersError</Code>\n<Message>\nError parsing the X-Amz-Credential parameter; the region 'us-east-2' is wrong; expecting 'ap-south-1'\n</Message>\n<Region>ap-south-1</Region>\n</Error>",
        "signed for the region us-east-2, the store is in another (ap-south-1)",
        "sign for the region of the bucket",
        "AuthorizationQueryParametersError",
    ),
    Thread(
        "vectordotdev/vector#20746: the reply as Rust shows it",
        'Response { status: StatusCode(403), headers: Headers { headers: {"server": HeaderValue { _private: H0("AliyunOSS") }, "x-oss-ec": HeaderValue { _private: H0("0003-00001401") }} }, '
        r'body: SdkBody { inner: Once(Some(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>\n  <Code>SecondLevelDomainForbidden</Code>\n',
        "the bucket must be in the host of the URL",
        "sign a virtual-hosted URL",
        "SecondLevelDomainForbidden",
    ),
    Thread(
        "s3tools/s3cmd#1376: a region that knows version 4 only",
        s3("InvalidRequest", "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."),
        "this region accepts version 4 only",
        "signature_version='s3v4'",
        "InvalidRequest",
    ),
    # Permissions, policies and the rest.
    Thread(
        "Molunerfinn/PicGo#1250: a JSON report with the document in it",
        json.dumps({"method": "PUT", "url": f"{OSS}/a.png", "statusCode": 403, "message": "Request failed with status code 403", "response": {"status": 403, "statusCode": 403, "body": oss("AccessDenied", "You have no right to access this object because of bucket acl.", EC="0003-00000001")}}, indent=2),
        "the signing key lacks the permission",
        "grants it in a RAM or bucket policy",
        "AccessDenied",
    ),
    Thread(
        "awsdocs/aws-doc-sdk-examples#5490: a field of a form is missing",
        s3("AccessDenied", 'Invalid according to Policy: Policy Condition failed: ["eq", "$acl", "public-read"]'),
        "the policy of the grant does not allow it",
        "change the value that it names",
        "AccessDenied",
    ),
    Thread(
        "infinitered/apisauce#245: a form with too large a file",
        "<Error>\n<Code>EntityTooLarge</Code>\n<Message>Your proposed upload exceeds the maximum allowed size</Message>\n<ProposedSize>710336</ProposedSize>\n<MaxSizeAllowed>709960</MaxSizeAllowed>\n</Error>",
        "one PUT or form can have at most 5 GiB, and a grant can allow less",
        "use a signer or part URLs",
        "EntityTooLarge",
    ),
    Thread(
        "aliyun/ossfs#81: a query that got lost",
        oss("AccessDenied", "Anonymous access is forbidden for this operation."),
        "the request arrived without a signature",
        "in a shell, quote it",
        "AccessDenied",
    ),
    Thread(
        "cloudreve/cloudreve#1786: an upload that has ended",
        'Failed to cancel upload session for "1.jpg": oss: service returned error: StatusCode=404, ErrorCode=NoSuchUpload, ErrorMessage="The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.", RequestId=64BA4C51216A4F373606D8A4',
        "the upload was completed or aborted",
        "ask its owner for a new one",
        "NoSuchUpload",
    ),
)  # fmt: skip
