// The page follows the rules for grants that the Python client follows too:
// tests/signers/test_post_grant_cases.py reads the same cases.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { grantSigner, readGrant } from "./page/grant.js";

const ALL = JSON.parse(readFileSync(process.env.GRANT_CASES, "utf-8"));

function documentOf({ grant, fields, without = [], ...testCase }) {
  const { every = ALL.conditions, v4 = ALL.v4, conditions = [], expiration = ALL.expiration } = testCase;
  const policy = JSON.stringify({ expiration, conditions: [...every, ...v4, ...conditions] });
  const all = { policy: Buffer.from(policy).toString("base64"), ...ALL.fields, ...fields };
  without.forEach((name) => delete all[name]);
  return JSON.stringify({ ...ALL.grant, ...grant, fields: all });
}

async function sign(testCase) {
  const now = Date.parse(testCase.now ?? ALL.now);
  const { bucket, key, size, type } = { ...ALL.file, ...testCase.file };
  const grant = readGrant(documentOf(testCase), { now });
  const signer = grantSigner(grant, { now: () => now, mayPublish: () => "public" in testCase });
  const signed = await signer({
    action: "PutObject",
    bucket,
    key,
    content_length: size,
    optional_headers: { "Content-Type": type },
  });
  return { ...signed, ends: grant.ends };
}

for (const testCase of ALL.cases) {
  test(testCase.name, async () => {
    if (testCase.refused) {
      await assert.rejects(sign(testCase), { name: "Error", kind: /final|refused/u });
      return;
    }
    const { url, ends, form } = await sign(testCase);
    const data = form("");
    for (const [name, value] of Object.entries(testCase.sent ?? {})) {
      assert.equal(data.get(name), value, name);
    }
    assert.equal(new Set([...data.keys()].map((name) => name.toLowerCase())).size, [...data.keys()].length);
    assert.equal(url, testCase.url ?? url);
    assert.equal(ends, testCase.ends ? Date.parse(testCase.ends) : ends);
  });
}
