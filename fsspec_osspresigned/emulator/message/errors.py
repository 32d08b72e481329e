"""Error codes of OSS, with their status, message and EC (API reference, "Error codes")."""

from __future__ import annotations

from collections.abc import Mapping

from ...signing.verifying import Refusal

INTERNAL = "InternalError"

# Status, code, EC and message. A fault that names only a status answers the first code of
# that status. NotImplemented is what OSS answers to conditions on a PutObject.
_TABLE = """
203 CallbackFailed 0007-00000203 Error status : 502.
304 NotModified - Not Modified
400 InvalidArgument - The request is not valid.
400 EntityTooLarge - Your proposed upload exceeds the maximum allowed object size.
400 FieldItemTooLong 0006-00000110 Your post message's field name or value is too long.
400 EntityTooSmall 0042-00000213 Your proposed upload smaller than the minimum allowed size.
400 IncompleteBody - The request body terminated unexpectedly.
400 IncorrectNumberOfFilesInPOSTRequest - POST requires exactly one file upload per request.
400 InvalidCRC64 - The CRC64 checksum of the data does not match the one you specified.
400 InvalidDigest - The Content-MD5 you specified was invalid.
400 InvalidEncryptionAlgorithmError - The Encryption request you specified is not valid.
400 InvalidObjectName - The specified object is not valid.
400 InvalidPart - One or more of the specified parts could not be found or the specified entity tag might not have matched the part's entity tag.
400 InvalidPartOrder - The list of parts was not in ascending order. Parts list must be specified in order by part number.
400 InvalidPolicyDocument - The policy document is not valid.
400 InvalidStorageClass - The storage class you specified is not valid.
400 InvalidTargetType - The target of a symbolic link may not be one itself.
400 InvalidTag - The tag you specified is not valid.
400 MalformedPOSTRequest 0006-00000104 The body of your POST request is not well-formed multipart/form-data.
400 MalformedXML - The XML you provided was not well-formed.
400 MaxPOSTPreDataLengthExceededError 0006-00000112 Your POST request fields preceding the upload file were too large.
400 MetadataTooLarge 0011-00000002 Your metadata headers exceed the maximum allowed metadata size.
400 MissingArgument - Missing Some Required Arguments: Content-MD5.
400 NotImplemented - A header you provided implies functionality that is not implemented.
400 NotSymlink - The object is not a symbolic link.
400 OperationNotSupported - The operation is not supported for this resource.
400 PartNotSequential - Part number of sequential multipart upload must be sequential.
400 PublicEndpointForbidden 0048-00000401 Not allowed using the OSS public endpoint, please use CNAME instead.
400 RequestIsNotMultiPartContent - Bucket POST must be of the enclosure-type multipart/form-data.
400 RequestTimeout - Your socket connection to the server was not read from or written to within the timeout period.
403 AccessDenied - You have no right to access this object.
403 AccessForbidden - CORSResponse: This CORS request is not allowed.
403 InvalidAccessKeyId - The OSS Access Key Id you provided is not valid.
403 InvalidObjectState - The operation is not valid for the object's state
403 InvalidSecurityToken 0002-00000006 The security token is invalid.
403 RequestTimeTooSkewed 0002-00000504 The difference between the request time and the current time is too large.
403 SecurityTokenExpired 0002-00000007 The security token has expired.
403 SignatureDoesNotMatch - The request signature does not match.
403 UserDisable - UserDisable
404 NoSuchKey 0026-00000001 The specified key does not exist.
404 NoSuchBucket - The specified bucket does not exist.
404 NoSuchVersion - The specified version does not exist.
404 NoSuchUpload - The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.
404 SymlinkTargetNotExist - The symlink target object does not exist
405 MethodNotAllowed - The specified method is not allowed against this resource.
409 FileAlreadyExists 0026-00000002 The object you specified already exists and can not be overwritten.
409 ObjectNotAppendable 0026-00000208 The object is not appendable
409 PositionNotEqualToLength 0026-00000016 Position is not equal to file length
411 MissingContentLength - You must provide the Content-Length HTTP header.
412 PreconditionFailed - At least one of the pre-conditions you specified did not hold.
416 InvalidRange - The requested range cannot be satisfied
429 QpsLimitExceeded - The request rate exceeds the limit.
500 InternalError - Please contact the server administrator.
503 ServiceUnavailable - Please reduce your request rate.
503 TotalQpsLimitExceeded - Please reduce your total request rate.
503 UploadTrafficRateLimitExceeded - Please reduce your upload traffic.
"""


_ROWS = (line.split(maxsplit=3) for line in _TABLE.strip().split("\n"))

# Code -> status, message and EC.
ERRORS: Mapping[str, tuple[int, str, str]] = {
    code: (int(status), message, ec.strip("-")) for status, code, ec, message in _ROWS
}
USUAL_CODES = {ERRORS[code][0]: code for code in reversed(list(ERRORS))}


class RefusedError(Exception):
    """Control-flow exception: ends a call with an error reply."""

    def __init__(
        self, refusal: Refusal, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(refusal.code)
        self.refusal, self.headers = refusal, headers or {}


def refused(
    code: str,
    message: str = "",
    *,
    ec: str = "",
    headers: Mapping[str, str] | None = None,
    **extras: str,
) -> RefusedError:
    """Return the error *code* of :data:`ERRORS`; *extras* are further XML elements."""
    status, usual, usual_ec = ERRORS[code]
    refusal = Refusal(
        status=status,
        code=code,
        message=message or usual,
        # The EC of the table belongs to the message of the table.
        ec=ec or ("" if message else usual_ec),
        extras=extras,
    )
    return RefusedError(refusal, headers)
