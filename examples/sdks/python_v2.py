"""One entry of a URL map, with alibabacloud-oss-v2."""
import datetime as dt, json
import alibabacloud_oss_v2 as oss

config = oss.config.load_default()
config.credentials_provider = oss.credentials.EnvironmentVariableCredentialsProvider()
config.region = "cn-hangzhou"
request = oss.PutObjectRequest(
    bucket="examplebucket", key="in/a b.csv",
    content_type="text/csv", forbid_overwrite=True,
)
signed = oss.Client(config).presign(request, expires=dt.timedelta(hours=1))
print(json.dumps({
    "path": f"{request.bucket}/{request.key}",
    "method": signed.method,
    "url": signed.url,
    "expiration": signed.expiration.isoformat(),
    "signed_headers": dict(signed.signed_headers),
}))
