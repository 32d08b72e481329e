// A signer in Node.js: whoever has the token uploads to examplebucket/in/, no more.
import { createHash, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import Ajv from 'ajv/dist/2020.js'
import OSS from 'ali-oss'

const { OSS_ACCESS_KEY_ID: accessKeyId, OSS_ACCESS_KEY_SECRET: accessKeySecret } = process.env
const { SIGNER_SCHEMA, SIGNER_TOKEN, PORT = 8080 } = process.env
if (!SIGNER_TOKEN) throw new Error('SIGNER_TOKEN is not set')
const oss = new OSS({ region: 'oss-cn-hangzhou', bucket: 'examplebucket', secure: true, accessKeyId, accessKeySecret })
const schema = JSON.parse(readFileSync(SIGNER_SCHEMA)) // signer-protocol.schema.json
const valid = new Ajv({ strict: false }).compile({ ...schema, $ref: '#/$defs/request' })
const GRANTED = { PutObject: 'PUT', InitiateMultipartUpload: 'POST', UploadPart: 'PUT', CompleteMultipartUpload: 'POST' }
const digest = text => createHash('sha256').update(text).digest()

async function sign(item) {
  const refuse = (status, code) => ({ error: { status, code } })
  if (!valid(item) || Buffer.byteLength(item.key ?? '') > 1023) return refuse(400, 'invalid_request')
  const { action, bucket, key, upload_id: uploadId, part_number: partNumber, headers = {} } = item
  if (!Object.hasOwn(GRANTED, action)) return refuse(403, 'action_not_granted')
  if (bucket !== 'examplebucket' || !key.startsWith('in/')) return refuse(403, 'forbidden')
  if (!Object.keys(headers).every(name => /^content-(type|md5)$/i.test(name))) return refuse(403, 'header_refused')
  const [method, life] = [GRANTED[action], Math.min(item.expires_in ?? 900, 900)]
  const sent = method === 'PUT' ? { ...headers, 'Content-Length': `${item.content_length}` } : headers
  const queries = { ...item.query, ...(uploadId && { uploadId }), ...(partNumber && { partNumber }) }
  if (action === 'InitiateMultipartUpload') queries.uploads = null // ali-oss signs '' as "uploads="
  const url = await oss.signatureUrlV4(method, life, { headers: sent, queries }, key, Object.keys(sent))
  return { method, url, headers: sent, expires_in: life }
}

function requestsOf(text) { // JSON.parse keeps the last of two equal names: they are counted
  let names = -1
  const { requests } = JSON.parse(text, function (_, value) { names += !Array.isArray(this); return value })
  const found = text.match(/"[^"\\]*(\\.[^"\\]*)*"(\s*:)?/g).filter(string => string.endsWith(':'))
  return found.length === names && Array.isArray(requests) && requests.length <= 100 ? requests : []
}

createServer(async (request, response) => {
  const reply = (status, body, type) => response.writeHead(status, { 'Content-Type': type }).end(JSON.stringify(body))
  const refuse = (status, code) => reply(status, { status, code }, 'application/problem+json')
  const given = digest(request.headers.authorization ?? '')
  if (!timingSafeEqual(given, digest(`Bearer ${SIGNER_TOKEN}`))) return refuse(401, 'unauthorized')
  if (`${request.method} ${request.url}` !== 'POST /v1/sign') return refuse(404, 'not_found')
  let body = Buffer.alloc(0)
  try {
    for await (const block of request) if (body.length <= 2 ** 20) body = Buffer.concat([body, block])
    const items = requestsOf(new TextDecoder('utf-8', { fatal: true }).decode(body))
    if (!items.length || body.length > 2 ** 20) return refuse(400, 'invalid_request')
    reply(200, { results: await Promise.all(items.map(sign)) }, 'application/json')
  } catch { refuse(400, 'invalid_request') }
}).listen(PORT, '127.0.0.1', function () { console.log(`http://127.0.0.1:${this.address().port}`) })
