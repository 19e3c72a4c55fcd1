import { expect, test } from 'vitest';
import { EVIDENCE_PATH } from '../../lib/protocol/site-evidence.ts';
import { nodePaths } from './node-paths.ts';
import { isNodePath, reply } from './node-reply.ts';

const read = async () => new Uint8Array();
const withNonce = (value: string) => `${EVIDENCE_PATH}?nonce=${value}`;
const nonce = 'ab'.repeat(32);

test('each path has its handler, and what none has is refused by the node', async () => {
  const node = nodePaths({ [EVIDENCE_PATH]: async () => reply(200, { evidence: true }) });
  const get = async (target: string) => {
    const { status, body } = await node({ method: 'GET', target, read });
    return { status, body: JSON.parse(body) as Record<string, unknown> };
  };
  expect(await get(withNonce(nonce))).toMatchObject({ status: 200, body: { evidence: true } });
  expect(await get(`https://site.example${EVIDENCE_PATH}`)).toMatchObject({ status: 200 });
  for (const rest of ['/', 'x', '%00']) {
    expect(await get(EVIDENCE_PATH + rest)).toMatchObject({ status: 404, body: { code: 'NO_ROUTE' } });
  }
  expect(await get('/.well-known/dstack/constructor')).toMatchObject({ status: 404 });
});

test("no app answers under the node's folder, however the target is written", () => {
  for (const target of [
    EVIDENCE_PATH,
    withNonce(nonce),
    '/.well-known/dstack/',
    '/.well-known/dstack/other?x',
    `https://example.com${EVIDENCE_PATH}`,
    `HTTP://example.com:443${EVIDENCE_PATH}`,
  ]) {
    expect(isNodePath(target), target).toBe(true);
  }
  for (const target of ['/', '/.well-known/dstack', '/.well-known/acme-challenge/x', `/x${EVIDENCE_PATH}`]) {
    expect(isNodePath(target), target).toBe(false);
  }
});
