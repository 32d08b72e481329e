// ali-oss reads objects: whole into files, a range, and their headers.
import { readFileSync } from 'node:fs'
import OSS from 'ali-oss'

const { options, keys, folder } = JSON.parse(readFileSync(0))
const store = new OSS(options)
const seen = []
for (const [number, key] of keys.entries()) {
  await store.get(key, `${folder}/${number}`)
  const head = await store.head(key)
  const part = (await store.get(key, { headers: { Range: 'bytes=10-19' } })).content
  seen.push({ meta: head.meta, crc: head.res.headers['x-oss-hash-crc64ecma'], part: [...part] })
}
console.log(JSON.stringify(seen))
process.exit(0)
