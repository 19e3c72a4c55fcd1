import { beforeEach, describe, expect, test } from 'vitest';
import { DstackError } from '../../lib/protocol/errors.ts';
import { EVIDENCE_PATH, type SiteEvidence } from '../../lib/protocol/site-evidence.ts';
import { evidenceHandler } from './evidence.ts';

const nonce = 'ab'.repeat(32);
const other = 'cd'.repeat(32);
const withNonce = (value: string) => `${EVIDENCE_PATH}?nonce=${value}`;

let clock: number;
let asked: (string | undefined)[];
let logged: string[];
/** What the replicator does. */
let answers: (asked: string | undefined) => Promise<SiteEvidence>;
let handle: ReturnType<typeof evidenceHandler>;
beforeEach(() => {
  clock = 5_000;
  asked = [];
  logged = [];
  answers = async (given) => ({ nonce: given ?? 'none', made: clock }) as unknown as SiteEvidence;
  handle = evidenceHandler({
    ask: (given) => {
      asked.push(given);
      return answers(given);
    },
    log: { warn: (fields) => logged.push(JSON.stringify(fields)) },
    monotonic: () => clock,
  });
});
const get = async (target: string, method = 'GET') => {
  const { status, headers, body } = await handle({ method, target, read: async () => new Uint8Array() });
  return { status, headers, body: JSON.parse(body) as Record<string, unknown> };
};

test("a nonce's own evidence, never kept by anybody", async () => {
  expect(await get(withNonce(nonce))).toMatchObject({
    status: 200,
    headers: { 'cache-control': 'no-store', 'content-type': 'application/json' },
    body: { nonce },
  });
  clock += 1_000;
  expect((await get(withNonce(other))).body).toMatchObject({ nonce: other });
  expect(asked).toEqual([nonce, other]);
});

describe('however many strangers ask', () => {
  test('one nonce a second has its quote, the others are told when to come back', async () => {
    await get(withNonce(nonce));
    clock += 999;
    expect(await get(withNonce(other))).toMatchObject({
      status: 429,
      headers: { 'retry-after': '1' },
      body: { code: 'BUSY' },
    });
    clock += 1;
    expect((await get(withNonce(other))).status).toBe(200);
    expect(asked).toEqual([nonce, other]);
  });

  test('one quote at a time, however long it takes', async () => {
    const { promise, resolve } = Promise.withResolvers<SiteEvidence>();
    answers = () => promise;
    const first = get(withNonce(nonce));
    clock += 30_000;
    const second = get(withNonce(other));
    resolve({} as SiteEvidence);
    expect([(await first).status, (await second).status]).toEqual([200, 429]);
    expect((await get(withNonce(other))).status).toBe(200);
  });

  test('without a nonce all get one, for ten minutes', async () => {
    const all = await Promise.all([1, 2, 3].map(() => get(EVIDENCE_PATH)));
    expect(all.map(({ body }) => body)).toEqual(Array(3).fill({ nonce: 'none', made: 5_000 }));
    clock += 599_999;
    expect((await get(EVIDENCE_PATH)).body).toMatchObject({ made: 5_000 });
    expect(asked).toHaveLength(1);
    clock += 1;
    expect((await get(EVIDENCE_PATH)).body).toMatchObject({ made: 605_000 });
    // Neither takes the other's turn.
    expect((await get(withNonce(nonce))).status).toBe(200);
    expect(asked).toEqual([undefined, undefined, nonce]);
  });

  test('a replicator that refuses is asked once a second, and quoted to nobody', async () => {
    answers = async () => {
      throw new DstackError('CHAIN_STALE', 'http://10.1.2.3/key says nothing');
    };
    const refused = await get(EVIDENCE_PATH);
    expect(refused).toMatchObject({
      status: 503,
      headers: { 'retry-after': '5' },
      body: { code: 'CHAIN_STALE' },
    });
    expect(JSON.stringify(refused)).not.toContain('10.1.2.3');
    expect((await get(EVIDENCE_PATH)).status).toBe(429);
    expect((await get(withNonce(nonce))).status).toBe(503);
    expect((await get(withNonce(nonce))).status).toBe(429);
    clock += 1_000;
    expect((await get(EVIDENCE_PATH)).status).toBe(503);
    expect(asked).toHaveLength(3);
    expect(logged).toHaveLength(1);
  });
});

test.each([
  ['?nonce=', 400, 'NONCE'],
  [`?nonce=${nonce.toUpperCase()}`, 400, 'NONCE'],
  [`?nonce=${nonce}00`, 400, 'NONCE'],
  [`?nonce=${nonce}&nonce=${other}`, 400, 'NONCE'],
  [`?x=1&nonce=${nonce}`, 400, 'NONCE'],
  [`?nonce=${nonce}&`, 400, 'NONCE'],
  ['?', 400, 'NONCE'],
])('asked for %s it costs no quote: %i %s', async (rest, status, code) => {
  expect(await get(EVIDENCE_PATH + rest)).toMatchObject({ status, body: { code } });
  expect(asked).toEqual([]);
});

test('nothing but reading', async () => {
  expect(await get(withNonce(nonce), 'POST')).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } });
  expect(asked).toEqual([]);
  expect((await get(EVIDENCE_PATH, 'HEAD')).status).toBe(200);
});
