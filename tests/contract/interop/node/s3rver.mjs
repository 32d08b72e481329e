// s3rver on a free port, until standard input ends; prints its address.
import S3rver from 's3rver'

const server = new S3rver({
  address: '127.0.0.1',
  port: 0,
  silent: true,
  directory: process.argv[2],
  vhostBuckets: false,
  configureBuckets: [{ name: process.argv[3] }]
})
const { address, port } = await server.run()
console.log(`http://${address}:${port}`)
process.stdin.on('end', () => process.exit(0)).resume()
