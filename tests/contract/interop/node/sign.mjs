// ali-oss signs a list of requests, in V1 or V4.
import { readFileSync } from 'node:fs'
import OSS from 'ali-oss'

const { options, wanted } = JSON.parse(readFileSync(0))
const store = new OSS(options)
const one = async ({ method, key, headers, query }) => {
  if (!options.authorizationV4) {
    return store.signatureUrl(key, { method, expires: 600, subResource: { ...query }, ...headers })
  }
  const queries = Object.fromEntries(Object.entries(query).map(([name, value]) => [name, value || null]))
  return store.signatureUrlV4(method, 600, { headers, queries }, key)
}
console.log(JSON.stringify(await Promise.all(wanted.map(one))))
process.exit(0)
