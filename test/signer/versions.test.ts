import { createPublicKey, verify } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { SignerDaemon } from '../../guest/signer/daemon.ts';
import { PROTOCOL_VERSIONS, type ProtocolVersion } from '../../lib/cometbft/consensus.ts';
import {
  canonicalExtension,
  canonicalProposal,
  canonicalVote,
  delimit,
  encode,
  type Plain,
} from './support/definition.ts';
import { TestEtcd } from './support/etcd.ts';
import { TestNode } from './support/node.ts';
import { freshRecord, publicKeyOf, startSigner, testSecret } from './support/signer.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-signer-'));
const secret = testSecret();
let etcd: TestEtcd;
let signer: SignerDaemon;
const nodes = new Map<ProtocolVersion, TestNode>();
const chainOf = (version: ProtocolVersion): string => `chain-${version}`;

beforeAll(async () => {
  etcd = await TestEtcd.start();
  const chains = [];
  for (const [n, version] of PROTOCOL_VERSIONS.entries()) {
    // Both kinds of connection.
    const node = await TestNode.listen(n % 2 === 0 ? undefined : join(folder, `${version}.sock`));
    nodes.set(version, node);
    await freshRecord(etcd.endpoints, secret, chainOf(version));
    const more = version === 'v1' ? 'sign_bytes = true' : '';
    chains.push({ id: chainOf(version), protocol: version, nodes: [node.address], more });
  }
  signer = await startSigner(etcd.endpoints, secret, chains);
});

afterAll(async () => {
  await signer?.stop();
  for (const node of nodes.values()) await node.close();
  await etcd?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const hash = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);
const BLOCK = { hash: hash(1), parts: { total: 2, hash: hash(3) } };
const OTHER = { hash: hash(4), parts: { total: 2, hash: hash(3) } };
const time = (seconds: number): Plain => ({ seconds: BigInt(seconds), nanos: 5 });
const PREVOTE = 1;
const PRECOMMIT = 2;

function isSigned(version: ProtocolVersion, message: Uint8Array, signature: unknown): boolean {
  const raw = publicKeyOf(secret, chainOf(version));
  const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), raw]);
  const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
  return verify(null, message, key, signature as Uint8Array);
}

interface Asked {
  readonly type: number;
  readonly height: bigint;
  readonly round: number;
  readonly block?: Plain;
  readonly timestamp: Plain;
  readonly extension?: Uint8Array;
}

async function vote(
  version: ProtocolVersion,
  asked: Asked,
  more: Plain = {},
): Promise<{ vote: Plain; error: Plain }> {
  // A node writes an empty block id for nil.
  const block = asked.block ?? { parts: {} };
  const request = { vote: { vote: { ...asked, block }, chain: chainOf(version), ...more } };
  return (await nodes.get(version)!.ask(request)).vote as { vote: Plain; error: Plain };
}

test.each(PROTOCOL_VERSIONS)('%s: ping and public key', async (version) => {
  const node = nodes.get(version)!;
  expect(await node.ask({ ping: {} })).toHaveProperty('ping');
  const { pubKey } = (await node.ask({ pubKey: { chain: chainOf(version) } })) as { pubKey: Plain };
  const key = publicKeyOf(secret, chainOf(version));
  if (version === 'v1') expect(pubKey).toMatchObject({ type: 'ed25519', bytes: key });
  else expect(pubKey).toMatchObject({ key: { ed25519: key }, bytes: new Uint8Array(), type: '' });
  const wrong = (await node.ask({ pubKey: { chain: 'other' } })) as { pubKey: { error: Plain } };
  expect(wrong.pubKey.error.description).toMatch(/^WRONG_CHAIN: .*chain-.*"other"/);
  expect(await node.ask({ ping: {} }), 'the connection stays').toHaveProperty('ping');
});

test.each(PROTOCOL_VERSIONS)('%s: a height, step by step, and its extensions', async (version) => {
  const node = nodes.get(version)!;
  const chain = chainOf(version);
  const place = { height: 10n, round: 0, block: BLOCK, timestamp: time(100) };
  const { proposal } = (await node.ask({
    proposal: { chain, proposal: { ...place, type: 32, pol: -1 } },
  })) as { proposal: { proposal: Plain } };
  expect(
    isSigned(version, canonicalProposal(chain, { ...place, pol: -1 }), proposal.proposal.signature),
  ).toBe(true);

  const prevote = await vote(version, { ...place, type: PREVOTE });
  expect(isSigned(version, canonicalVote(chain, { ...place, type: PREVOTE }), prevote.vote.signature)).toBe(
    true,
  );
  expect(prevote.vote.extsig, 'a prevote has no extension').toHaveLength(0);

  const precommit = await vote(version, { ...place, type: PRECOMMIT });
  expect(
    isSigned(version, canonicalVote(chain, { ...place, type: PRECOMMIT }), precommit.vote.signature),
  ).toBe(true);
  const hasExtension = ['v0.38', 'v1', 'celestia'].includes(version);
  const empty = canonicalExtension(chain, place, new Uint8Array());
  if (hasExtension)
    expect(isSigned(version, empty, precommit.vote.extsig), 'an empty one is signed').toBe(true);
  else expect(precommit.vote.extsig).toHaveLength(0);

  const nil = { type: PRECOMMIT, height: 10n, round: 1, timestamp: time(101) };
  const none = await vote(version, nil);
  expect(isSigned(version, canonicalVote(chain, nil), none.vote.signature)).toBe(true);
  expect(none.vote.extsig, 'a vote for nothing has no extension').toHaveLength(0);
});

test.each(PROTOCOL_VERSIONS)('%s: nothing is signed twice', async (version) => {
  const chain = chainOf(version);
  const place = { type: PRECOMMIT, height: 20n, round: 2, block: BLOCK, timestamp: time(200) };
  const first = await vote(version, place);
  const again = await vote(version, { ...place, timestamp: time(205) });
  expect(again.vote).toMatchObject({ timestamp: time(200), signature: first.vote.signature });
  const conflict = await vote(version, { ...place, block: OTHER });
  expect(conflict.error.description).toMatch(/^SIGN_CONFLICT: conflicting data/);
  expect(conflict.vote.signature).toHaveLength(0);
  for (const [before, words] of [
    [{ height: 19n }, /^SIGN_REGRESSION: height regression/],
    [{ round: 1 }, /^SIGN_REGRESSION: round regression/],
    [{ type: PREVOTE }, /^SIGN_REGRESSION: step regression/],
  ] as const) {
    expect((await vote(version, { ...place, ...before })).error.description).toMatch(words);
  }
  expect((await vote(version, { ...place, height: 21n })).error, chain).toBeUndefined();
});

test('an extension is signed anew each time, and a long one is left out of the answer', async () => {
  for (const version of ['v0.38', 'v1', 'celestia'] as const) {
    const place = { type: PRECOMMIT, height: 30n, round: 0, block: BLOCK, timestamp: time(300) };
    const signatures = new Set<string>();
    for (const extension of [Buffer.from('one'), Buffer.alloc(300_000, 7)]) {
      const answer = await vote(version, { ...place, extension });
      const bytes = canonicalExtension(chainOf(version), place, extension);
      expect(isSigned(version, bytes, answer.vote.extsig)).toBe(true);
      expect(answer.vote.extension).toHaveLength(extension.length > 10_000 ? 0 : extension.length);
      signatures.add(Buffer.from(answer.vote.signature as Uint8Array).toString('hex'));
    }
    expect(signatures.size).toBe(1);
    const nil = await vote(version, {
      type: PRECOMMIT,
      height: 31n,
      round: 0,
      timestamp: time(1),
      extension: Buffer.from('x'),
    });
    expect(nil.error.description).toMatch(/^VOTE_EXTENSION/);
  }
});

test('1.x: the signature of an extension may be left out, and plain bytes are signed where that is set', async () => {
  const place = { type: PRECOMMIT, height: 40n, round: 0, block: BLOCK, timestamp: time(400) };
  const answer = await vote('v1', place, { skip: true });
  expect(answer.vote.signature).toHaveLength(64);
  expect(answer.vote.extsig).toHaveLength(0);
  const node = nodes.get('v1')!;
  const { bytes } = (await node.ask({ bytes: { value: Buffer.from('challenge') } })) as { bytes: Plain };
  expect(isSigned('v1', Buffer.from('challenge'), bytes.signature)).toBe(true);
  const vote_ = canonicalVote(chainOf('v1'), { ...place, height: 41n });
  const trick = (await node.ask({ bytes: { value: vote_ } })) as {
    bytes: { error: Plain; signature: Uint8Array };
  };
  expect(trick.bytes.error.description).toMatch(/^SIGN_BYTES_FORM/);
  expect(trick.bytes.signature).toHaveLength(0);
});

test('Celestia: raw bytes are signed behind their prefix', async () => {
  const request = { chain: chainOf('celestia'), raw: Buffer.from('raw'), id: 'id-1' };
  const { bytes } = (await nodes.get('celestia')!.ask({ raw: request }, 'CelestiaRequest')) as {
    bytes: Plain;
  };
  const message = delimit(encode('SignRawBytesRequest', request));
  const signed = Buffer.concat([Buffer.from('COMET::RAW_BYTES::SIGN'), message]);
  expect(isSigned('celestia', signed, bytes.signature)).toBe(true);
});

test('what cannot be signed is answered with an error, and the connection stays', async () => {
  const place = { type: PREVOTE, height: 50n, round: 0, block: BLOCK, timestamp: time(1) };
  for (const [change, code] of [
    [{ type: 32 }, 'VOTE_TYPE'],
    [{ type: 0 }, 'VOTE_TYPE'],
    [{ height: 0n }, 'HEIGHT'],
    [{ round: -1 }, 'HEIGHT'],
    [{ block: { hash: hash(1), parts: {} } }, 'BLOCK_ID'],
    [{ block: { hash: Buffer.from('short'), parts: { total: 1, hash: hash(1) } } }, 'BLOCK_ID'],
    [{ timestamp: { seconds: 1n, nanos: -1 } }, 'COMETBFT_MALFORMED'],
  ] as const) {
    expect((await vote('v0.38', { ...place, ...change })).error.description, code).toMatch(
      new RegExp(`^${code}: `),
    );
  }
  expect((await vote('v0.37', { ...place, extension: Buffer.from('x') })).error.description).toMatch(
    /^COMETBFT_FIELD_UNKNOWN/,
  );
  expect(signer.status().connections.every(({ state }) => state === 'serving')).toBe(true);
});

test('status and metrics say what was signed and refused', () => {
  const status = signer.status();
  expect(status.rollbackProtected).toBe(false);
  expect(status.chains.find(({ id }) => id === 'chain-v0.34')).toMatchObject({
    height: '21',
    round: 2,
    step: 3,
  });
  const text = signer.metrics();
  expect(text).toContain('dstack_signer_last_height{chain="chain-v0.34"} 21');
  expect(text).toMatch(/dstack_signer_refusals_total\{chain="chain-v0.34",reason="SIGN_CONFLICT"\} 1/);
  expect(text).toMatch(
    /dstack_signer_answer_seconds_bucket\{chain="chain-v1",request="vote",le="\+Inf"\} \d+/,
  );
});
