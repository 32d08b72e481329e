// ali-oss puts an object and gets it again.
import { readFileSync } from 'node:fs'
import OSS from 'ali-oss'

const { options, key, text } = JSON.parse(readFileSync(0))
const store = new OSS(options)
const { status } = (await store.put(key, Buffer.from(text))).res
const got = (await store.get(key)).content.toString()
console.log(JSON.stringify({ status, text: got }))
process.exit(0)
