// An application server that signs policies with ali-oss, as OSS's samples for browsers do.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import OSS from 'ali-oss'

const { options, host, dir } = JSON.parse(readFileSync(0))
const client = new OSS(options)

const v4 = () => {
  const date = new Date()
  const expiration = new Date(date.getTime() + 600_000).toISOString()
  const stamp = date.toISOString().replace(/[-:]|\.\d+/g, '')
  const region = options.region.replace('oss-', '')
  const credential = `${options.accessKeyId}/${stamp.slice(0, 8)}/${region}/oss/aliyun_v4_request`
  const policy = {
    expiration,
    conditions: [
      { bucket: options.bucket },
      { 'x-oss-credential': credential },
      { 'x-oss-signature-version': 'OSS4-HMAC-SHA256' },
      { 'x-oss-date': stamp },
      ...(options.stsToken ? [{ 'x-oss-security-token': options.stsToken }] : []),
      ['starts-with', '$key', dir]
    ]
  }
  return {
    host,
    dir,
    policy: Buffer.from(JSON.stringify(policy), 'utf8').toString('base64'),
    x_oss_signature_version: 'OSS4-HMAC-SHA256',
    x_oss_credential: credential,
    x_oss_date: stamp,
    signature: client.signPostObjectPolicyV4(policy, date),
    security_token: options.stsToken ?? ''
  }
}

const v1 = () => {
  const expiration = new Date(Date.now() + 600_000).toISOString()
  const conditions = [{ bucket: options.bucket }, ['starts-with', '$key', dir]]
  const formData = client.calculatePostSignature({ expiration, conditions })
  if (options.stsToken) formData['x-oss-security-token'] = options.stsToken
  return { formData, url: host }
}

const server = createServer((request, response) => {
  const found = { '/v4': v4, '/v1': v1 }[request.url]
  response.writeHead(found ? 200 : 404, { 'Content-Type': 'application/json' })
  response.end(JSON.stringify(found ? found() : {}))
})
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
