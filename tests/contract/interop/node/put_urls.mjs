// Puts files to presigned URLs: with fetch, undici, axios, or the HTTP client of ali-oss.
import { createReadStream, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const { client, puts } = JSON.parse(readFileSync(0))
const senders = {
  async fetch({ url, file, headers }) {
    // A Buffer brings no Content-Type along; a string or a Blob does.
    return (await fetch(url, { method: 'PUT', body: readFileSync(file), headers })).status
  },
  async 'fetch, streamed'({ url, file, headers }) {
    const body = createReadStream(file)
    return (await fetch(url, { method: 'PUT', body, headers, duplex: 'half' })).status
  },
  async undici({ url, file, headers }) {
    const { request } = await import('undici')
    const reply = await request(url, { method: 'PUT', body: readFileSync(file), headers })
    await reply.body.dump()
    return reply.statusCode
  },
  async axios({ url, file, headers }) {
    // Its module for import() fails once a pipe was read.
    const axios = createRequire(import.meta.url)('axios')
    return (await axios.put(url, readFileSync(file), { headers, validateStatus: null })).status
  },
  async 'ali-oss'({ url, file, headers }) {
    const { default: OSS } = await import('ali-oss')
    const { urllib } = new OSS({ region: 'oss-cn-hangzhou', accessKeyId: 'none', accessKeySecret: 'none' })
    return (await urllib.request(url, { method: 'PUT', content: readFileSync(file), headers })).status
  }
}
const statuses = []
for (const put of puts) statuses.push(await senders[client](put))
console.log(JSON.stringify(statuses))
process.exit(0)
