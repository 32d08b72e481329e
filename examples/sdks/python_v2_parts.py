"""An entry of a URL map in up to 20 parts of 8 MiB, with alibabacloud-oss-v2."""
import datetime as dt, json
import alibabacloud_oss_v2 as oss

config = oss.config.load_default()
config.credentials_provider = oss.credentials.EnvironmentVariableCredentialsProvider()
config.region = "cn-hangzhou"
client, life = oss.Client(config), dt.timedelta(hours=12)
big = {"bucket": "examplebucket", "key": "in/big.bin"}
begun = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(**big))

def sign(request):
    signed = client.presign(request, expires=life)
    return {
        "method": signed.method, "url": signed.url,
        "signed_headers": dict(signed.signed_headers),
    }

big["upload_id"] = begun.upload_id
print(json.dumps({
    "path": "examplebucket/in/big.bin",
    "part_size": 8 * 2**20,
    "parts": [sign(oss.UploadPartRequest(part_number=n, **big)) for n in range(1, 21)],
    "complete": sign(oss.CompleteMultipartUploadRequest(**big)),
    "abort": sign(oss.AbortMultipartUploadRequest(**big)),
}))
