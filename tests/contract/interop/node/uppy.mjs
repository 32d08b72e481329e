// The Uppy of a page, unchanged, in jsdom: it sends from the page's origin, by the rules of CORS.
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { JSDOM } from 'jsdom'

const { origin, page, files, cancels, retries } = JSON.parse(readFileSync(0))
const { window } = new JSDOM('', { url: `${origin}/` })
for (const name of ['Blob', 'File', 'FormData', 'XMLHttpRequest', 'document']) globalThis[name] = window[name]
globalThis.window = window

// The fetch of a browser, which Node's is not: with an origin, preflights and refusals.
globalThis.fetch = (url, { method = 'GET', headers = {}, body = null, signal } = {}) =>
  new Promise((resolve, reject) => {
    const request = new window.XMLHttpRequest()
    request.open(method, url)
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value)
    request.onload = () => {
      const { responseText, status, statusText } = request
      resolve(new Response(responseText, { status, statusText }))
    }
    request.onerror = () => reject(new TypeError('Failed to fetch'))
    signal?.addEventListener('abort', () => request.abort())
    request.send(body)
  })

const module = new URL('page.mjs', import.meta.url)
writeFileSync(module, `${page}\nexport { uppy }\n`)
const { uppy } = await import(module)
const plugin = uppy.getPlugin('AwsS3')
const chunk = 5 * 1024 * 1024
plugin.setOptions({ shouldUseMultipart: file => file.size > chunk, getChunkSize: () => chunk })

const digests = {}
for (const { name, type, size } of files) {
  const bytes = randomBytes(size)
  digests[name] = createHash('sha256').update(bytes).digest('hex')
  uppy.addFile({ name, type, data: new window.File([bytes], name, { type }) })
}
uppy.on('s3-multipart:part-uploaded', () => cancels && uppy.cancelAll())
const outcome = ({ successful, failed }) => ({
  stored: successful.map(({ name, response }) => ({ name, key: response.body.key, sha256: digests[name] })),
  failed: Object.fromEntries(failed.map(({ name, error }) => [name, error]))
})
const outcomes = [outcome(await uppy.upload())]
if (retries) outcomes.push(outcome(await uppy.retryAll()))
console.log(JSON.stringify(outcomes))
