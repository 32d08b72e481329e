// One entry of a URL map in a browser. `oss` is a client with a temporary (STS) key:
// new OSS({ region, bucket, secure: true, accessKeyId, accessKeySecret, stsToken })
export async function entryFor(oss, file, key) {
  const headers = { 'Content-Type': file.type || 'application/octet-stream' }
  const url = await oss.signatureUrlV4('PUT', 900, { headers }, key)
  return { path: `${oss.options.bucket}/${key}`, url, headers }
}
