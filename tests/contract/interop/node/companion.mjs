// Uppy's own server, unchanged, behind a proxy that can lose or delay replies.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { app } from '@uppy/companion'

const { folder, s3, lost = 0, late = 0 } = JSON.parse(readFileSync(0))
console.log = console.error = console.warn = () => {}
const faults = { complete: lost, batch: late ? 1 : 0 }

let companion
const server = createServer((request, response) => {
  const name = new URL(request.url, 'http://x').pathname.split('/').at(-1)
  if (faults[name]-- > 0) {
    const end = response.end.bind(response)
    response.end = (...body) => (name === 'complete' ? request.socket.destroy() : setTimeout(end, late, ...body))
  }
  companion(request, response)
})
server.listen(0, '127.0.0.1', () => {
  const host = `127.0.0.1:${server.address().port}`
  const options = { secret: 'a-made-up-secret', filePath: folder, server: { host }, corsOrigins: true, metrics: false }
  companion = app({ ...options, s3 }).app
  process.stdout.write(`http://${host}\n`)
})
