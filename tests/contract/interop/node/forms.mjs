// ali-oss signs a policy, and fetch sends the form that a page would send.
import { readFileSync } from 'node:fs'
import OSS from 'ali-oss'

const { options, url, key, text, conditions } = JSON.parse(readFileSync(0))
const store = new OSS(options)
const date = new Date()
const expiration = new Date(date.getTime() + 60_000).toISOString()
let fields
if (options.authorizationV4) {
  const stamp = date.toISOString().replace(/[-:]|\.\d+/g, '')
  const region = options.region.replace('oss-', '')
  const own = {
    'x-oss-signature-version': 'OSS4-HMAC-SHA256',
    'x-oss-credential': `${options.accessKeyId}/${stamp.slice(0, 8)}/${region}/oss/aliyun_v4_request`,
    'x-oss-date': stamp,
    ...(options.stsToken && { 'x-oss-security-token': options.stsToken })
  }
  const named = Object.entries(own).map(([name, value]) => ({ [name]: value }))
  const policy = { expiration, conditions: [...conditions, ...named] }
  fields = {
    ...own,
    policy: Buffer.from(JSON.stringify(policy)).toString('base64'),
    'x-oss-signature': store.signPostObjectPolicyV4(policy, date)
  }
} else {
  fields = { ...store.calculatePostSignature({ expiration, conditions }), ...(options.stsToken && { 'x-oss-security-token': options.stsToken }) }
}

const send = async more => {
  const form = new FormData()
  for (const [name, value] of Object.entries({ ...fields, key, ...more })) form.append(name, value)
  form.append('file', new Blob([text], { type: 'text/csv' }), 'ü 1.csv')
  const reply = await fetch(url, { method: 'POST', body: form })
  return [reply.status, await reply.text()]
}
const stored = await send({ success_action_status: '200' })
const created = (await send({ success_action_status: '201' }))[1]
const refused = await send({ key: 'elsewhere', success_action_status: '200' })
console.log(JSON.stringify({ stored, created, refused: [refused[0], refused[1].match(/<EC>(.*)<\/EC>/)[1]] }))
process.exit(0)
