// A verifier of access tokens made of the npm package jose: it knows where the
// key set is, whose it is and for which service, and nothing else of Parley.
// One question a line, as JSON, and one answer a line.
import { createInterface } from 'node:readline'
import { webcrypto } from 'node:crypto'

globalThis.crypto ??= webcrypto // Node.js 18 hides it
const { createRemoteJWKSet, jwtVerify } = await import('jose')

const [url, issuer, audience, searches] = process.argv.slice(2)
const keys = createRemoteJWKSet(new URL(url), {
  cacheMaxAge: 60_000, // what Cache-Control says
  cooldownDuration: searches === 'searches' ? 0 : Infinity, // reads for every unknown key id, or for none
})
const expected = { issuer, audience, algorithms: ['EdDSA'], typ: 'parley+jwt', clockTolerance: '1 minute', maxTokenAge: '15 minutes' }

async function answer({ token, reload }) {
  try {
    if (reload) {
      await keys.reload()
      return {}
    }
    const { payload } = await jwtVerify(token, keys, expected)
    return { claims: payload }
  } catch (err) {
    return { refusal: err.code ?? String(err) }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const said = await answer(JSON.parse(line))
  const known = (keys.jwks()?.keys ?? []).map((key) => key.kid)
  console.log(JSON.stringify({ ...said, known }))
}
