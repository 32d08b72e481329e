// One entry of a URL map, with ali-oss.
import OSS from 'ali-oss'

const { OSS_ACCESS_KEY_ID: accessKeyId, OSS_ACCESS_KEY_SECRET: accessKeySecret } = process.env
const oss = new OSS({ region: 'oss-cn-hangzhou', bucket: 'examplebucket', secure: true, accessKeyId, accessKeySecret })
const key = 'in/b+c.csv'
const headers = { 'Content-Type': 'text/csv', 'x-oss-forbid-overwrite': 'true' }
const url = await oss.signatureUrlV4('PUT', 3600, { headers }, key)
console.log(JSON.stringify({ path: `examplebucket/${key}`, url, headers }))
