import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import published from '../../testdata/ledger/log.json' with { type: 'json' };
import { fromHex, sha256, toHex, utf8 } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import { signCheckpoint } from './checkpoint.ts';
import { openCurrent, signCurrent } from './current.ts';
import { MemoryLog, origin, put, remove, signer } from './log.fixture.ts';
import { leafHash } from './merkle.ts';
import { base64, noteSigner, parseVerifierKey, verifierKey } from './note.ts';
import { policyValue } from './policy.ts';
import { hasValue, parseReceipt, verifyReceipt } from './receipt.ts';

const refusal = (code: string) => expect.objectContaining({ code });
const log = new MemoryLog([
  [put('o/greeting', 'hello')],
  [remove('o/greeting')],
  [put('o/a', '1'), put('o/b', '2'), remove('o/c')],
  ...Array.from({ length: 30 }, (_, at) => [put(`o/${at}`, `${at}`)]),
]);
const verify = (receipt: string) => verifyReceipt(receipt, origin, [signer]);

test('the published log is what these events make, for ever', () => {
  const { revisions, seed, policy } = published;
  const events = revisions.map((revision) =>
    revision.map(({ type, key, value, lease, version, createRevision }) => ({
      type: type as 'put' | 'delete',
      key: fromHex(key),
      value: fromHex(value),
      lease: BigInt(lease),
      version: BigInt(version),
      createRevision: BigInt(createRevision),
    })),
  );
  const made = new MemoryLog(events);
  expect(toHex(signer.seed)).toBe(seed);
  expect(verifierKey(signer)).toBe(published.verifierKey);
  expect(Buffer.from(policyValue({ publicPrefixes: [utf8('o/public/')], leases: true })).toString()).toBe(
    policy,
  );
  expect(made.leaves.map(({ entry }) => toHex(entry))).toEqual(published.entries);
  expect(made.checkpoint()).toBe(published.checkpoint);
  expect(published.receipts.map(({ index }) => made.receipt(index))).toEqual(
    published.receipts.map(({ text }) => text),
  );
  const key = parseVerifierKey(published.verifierKey);
  for (const { text, index } of published.receipts)
    expect(verifyReceipt(text, origin, [key]).revision).toBe(BigInt(index + 2));
});

describe('what a receipt proves', () => {
  test('of a put: the key as its owner has it, and the value', () => {
    const { revision, basis, events, size, time } = verify(log.receipt(0));
    expect([revision, basis, size, time]).toEqual([2n, 'put', log.size, 1_764_421_380]);
    expect(Buffer.from(events[0]!.ownKey).toString()).toBe('greeting');
    expect(hasValue(events[0]!, utf8('hello'))).toBe(true);
    expect(hasValue(events[0]!, utf8('hallo'))).toBe(false);
  });

  test('of a delete, and of a transaction: its events', () => {
    expect(verify(log.receipt(1)).basis).toBe('delete');
    expect(hasValue(verify(log.receipt(1)).events[0]!, utf8(''))).toBe(false);
    const { basis, events, leaf } = verify(log.receipt(2));
    expect([basis, events.length, leaf.count]).toEqual(['events', 3, 3]);
    // One event of three is not taken for the whole.
    expect(verify(log.receipt(2, [1])).basis).toBe('events');
    expect(verify(log.receipt(0, [])).basis).toBe('events');
  });

  test('of every leaf of a log', () => {
    for (let index = 0; index < log.size; index += 1)
      expect(verify(log.receipt(index)).revision).toBe(BigInt(index + 2));
  });
});

describe('each part forged is refused', () => {
  const good = log.receipt(2);
  const lines = good.split('\n');
  const extra = JSON.parse(Buffer.from(lines[1]!.slice(6), 'base64').toString());
  const withExtra = (changed: object) =>
    [lines[0], `extra ${base64(utf8(JSON.stringify({ ...extra, ...changed })))}`, ...lines.slice(2)].join(
      '\n',
    );
  const other = (index: number) => parseReceipt(log.receipt(index));
  const flipped = (text: string) => {
    const bytes = Buffer.from(text, 'base64');
    bytes[bytes.length - 1]! ^= 1;
    return base64(bytes);
  };
  const elsewhere = noteSigner(origin, new Uint8Array(32).fill(9));
  const head = (root: Uint8Array, key = signer, of = origin) =>
    log.receipt(2, undefined, { checkpoint: signCheckpoint({ origin: of, size: log.size, root }, [key]) });

  test.each([
    ['another leaf', withExtra({ entry: base64(other(3).entry), openings: [] }), 'RECEIPT_LEAF'],
    ['a leaf with another event', withExtra({ entry: flipped(extra.entry), openings: [] }), 'LEAF_INVALID'],
    ['another place', good.replace('index 2', 'index 3'), 'RECEIPT_LEAF'],
    ['another proof', good.replace(lines[3]!, flipped(lines[3]!)), 'RECEIPT_PROOF'],
    ['a proof cut short', good.replace(`${lines[3]}\n`, ''), 'RECEIPT_PROOF'],
    ['another root', head(sha256(utf8('root'))), 'RECEIPT_PROOF'],
    ['a head by another key', head(log.root(), elsewhere), 'NOTE_UNSIGNED'],
    ['a head of another log', head(log.root(), signer, 'dstack/kv/1/0x00'), 'CHECKPOINT_ORIGIN'],
    ['a head changed', good.replace(`\n${log.size}\n`, `\n${log.size + 1}\n`), 'NOTE_SIGNATURE'],
    [
      'an opening of another event',
      withExtra({ openings: [{ ...extra.openings[0], index: 1 }] }),
      'OPENING_INVALID',
    ],
    ['an event of another namespace', withExtra({ namespace: base64(utf8('a/one/')) }), 'RECEIPT_NAMESPACE'],
    ['a namespace that is a part of one', withExtra({ namespace: base64(utf8('o')) }), 'RECEIPT_NAMESPACE'],
    ['a namespace that is none', withExtra({ namespace: '' }), 'RECEIPT_NAMESPACE'],
    ['a field more', withExtra({ more: 1 }), 'RECEIPT_INVALID'],
    ['no extra data', good.replace(/extra .*\n/, ''), 'RECEIPT_INVALID'],
    ['another format', good.replace('@v1', '@v2'), 'RECEIPT_INVALID'],
    ['nothing', '', 'RECEIPT_INVALID'],
  ])('%s', (_, receipt, code) => {
    expect(() => verify(receipt)).toThrowError(refusal(code));
  });

  test('whatever bit is changed: refused with a code, or it proves the same', () => {
    const before = verify(good);
    fc.assert(
      fc.property(fc.nat({ max: good.length - 1 }), fc.integer({ min: 32, max: 126 }), (at, byte) => {
        const forged = good.slice(0, at) + String.fromCharCode(byte) + good.slice(at + 1);
        try {
          const after = verify(forged);
          expect(toHex(after.root)).toBe(toHex(before.root));
          expect(after.events.map(({ key }) => toHex(key))).toEqual(
            before.events.map(({ key }) => toHex(key)),
          );
        } catch (error) {
          expect(error).toBeInstanceOf(DstackError);
        }
      }),
      { numRuns: 400 },
    );
  });
});

describe('that a value was current', () => {
  const said = { keyHash: sha256(utf8('o/greeting')), revision: 9n, modRevision: 2n };
  const current = signCurrent(said, signer);

  test('is said by the store for the key and the revision of the receipt', () => {
    const proven = verify(log.receipt(0, undefined, { current }));
    expect(proven.current).toEqual(expect.objectContaining({ revision: 9n, modRevision: 2n }));
    expect(openCurrent(signCurrent({ ...said, modRevision: 0n }, signer), origin, [signer]).modRevision).toBe(
      0n,
    );
  });

  test.each([
    ['of another key', signCurrent({ ...said, keyHash: sha256(utf8('o/a')) }, signer), 'CURRENT_OTHER'],
    ['of another revision', signCurrent({ ...said, modRevision: 3n }, signer), 'CURRENT_OTHER'],
    ['by another key', signCurrent(said, noteSigner(origin, new Uint8Array(32))), 'NOTE_UNSIGNED'],
    ['a head instead', log.checkpoint(), 'NOTE_UNSIGNED'],
    ['written after it was read', signCurrent({ ...said, revision: 1n }, signer), 'CURRENT_INVALID'],
  ])('not %s', (_, statement, code) => {
    expect(() => verify(log.receipt(0, undefined, { current: statement }))).toThrowError(refusal(code));
  });

  test('is never taken for a head', () => {
    expect(() => verify(log.receipt(0, undefined, { checkpoint: current }))).toThrowError(
      refusal('NOTE_UNSIGNED'),
    );
    expect(leafHash(utf8(current))).toHaveLength(32);
  });
});
