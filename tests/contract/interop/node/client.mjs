// ali-oss as a client: does all it is asked for, and tells what it saw.
import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import OSS from 'ali-oss'

const { options, key, file, target } = JSON.parse(readFileSync(0))
const store = new OSS(options)
const data = readFileSync(file)
const seen = {}

// put, get, range, head
const headers = { 'Content-Type': 'text/csv', 'x-oss-meta-owner': 'me' }
seen.put = (await store.put(key, data, { headers })).res.status
const got = await store.get(key)
seen.same = got.content.equals(data)
seen.type = got.res.headers['content-type']
const range = await store.get(key, { headers: { Range: 'bytes=10-19' } })
seen.range = [...range.content]
const head = await store.head(key)
seen.head = [head.meta, Number(head.res.headers['content-length'])]
seen.meta = Number((await store.getObjectMeta(key)).res.headers['content-length'])
await store.get(key, target)
await store.putStream('stream', Readable.from([data.subarray(0, 1000), data.subarray(1000)]))
seen.absent = await store.head('absent').catch(error => [error.status, error.code])

// multipart; broken off after two parts, and taken up again
let checkpoint
const parts = { partSize: 100 * 1024, parallel: 1 }
const progress = (done, point) => { if (done >= 0.5) { checkpoint ??= point; throw new Error('stop') } }
seen.broken = await store.multipartUpload('big', file, { ...parts, progress }).catch(error => error.message)
seen.open = (await store.listUploads({ 'max-uploads': 10 })).uploads.map(upload => upload.name)
seen.stored = (await store.listParts('big', checkpoint.uploadId)).parts.length
seen.completed = (await store.multipartUpload('big', file, { ...parts, checkpoint })).res.status
const aborted = await store.initMultipartUpload('aborted')
await store.abortMultipartUpload('aborted', aborted.uploadId)

// append
const first = await store.append('log', Buffer.from('abc'))
seen.next = Number((await store.append('log', Buffer.from('def'), { position: first.nextAppendPosition })).nextAppendPosition)
seen.misplaced = await store.append('log', Buffer.from('x'), { position: 1 }).catch(error => [error.status, error.code])

// copy
seen.copy = (await store.copy('copy', key)).res.status
await store.multipartUploadCopy('copied in parts', { sourceKey: key, sourceBucketName: options.bucket }, parts)

// list and delete
for (let n = 0; n < 6; n++) await store.put(`list/d${n % 3}/ü ${n}`, Buffer.from('x'))
const all = async (method, from, next) => {
  const names = []
  for (let marker; ;) {
    const page = await store[method]({ prefix: 'list/', 'max-keys': 2, ...(marker && { [from]: marker }) })
    names.push(...(page.objects ?? []).map(object => object.name))
    marker = page[next]
    if (!marker) return names
  }
}
seen.list = await all('list', 'marker', 'nextMarker')
seen.listV2 = await all('listV2', 'continuation-token', 'nextContinuationToken')
seen.folders = (await store.list({ delimiter: '/', prefix: 'list/' })).prefixes
await store.delete('log')
await store.deleteMulti(seen.list)
seen.left = (await store.list({ 'max-keys': 100 })).objects.map(object => object.name)

// buckets
seen.buckets = (await store.listBuckets()).buckets.map(bucket => bucket.name)
seen.info = (await store.getBucketInfo(options.bucket)).bucket.Name
seen.acl = (await store.getBucketACL(options.bucket)).acl

// refusals
const wrong = new OSS({ ...options, accessKeySecret: 'another' })
seen.refused = await wrong.put('refused', data).catch(error => [error.status, error.code])
console.log(JSON.stringify(seen))
process.exit(0)
