"""One entry of a URL map, with oss2."""
import json, oss2
from oss2.credentials import EnvironmentVariableCredentialsProvider

auth = oss2.ProviderAuthV4(EnvironmentVariableCredentialsProvider())
place = "https://oss-cn-hangzhou.aliyuncs.com"
bucket = oss2.Bucket(auth, place, "examplebucket", region="cn-hangzhou")
key = "in/a b.csv"
headers = {"Content-Type": "text/csv", "x-oss-forbid-overwrite": "true"}
url = bucket.sign_url("PUT", key, 3600, headers=dict(headers), slash_safe=True)
print(json.dumps({"path": f"examplebucket/{key}", "url": url, "headers": headers}))
