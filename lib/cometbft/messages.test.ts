import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fromHex, sha256, toHex, utf8 } from '../protocol/encoding.ts';
import { codeOf } from '../protocol/errors.ts';
import { encodeProposal, encodeVote, PROTOCOL_VERSIONS, type ProtocolVersion } from './consensus.ts';
import { ed25519Key } from './ed25519.ts';
import { Deframer, decodeRequest, encodeReply, MAX_REPLY_BYTES, type Reply } from './messages.ts';
import { EXAMPLE_PROPOSAL, EXAMPLE_VOTE, privvalVectors } from './vectors.fixture.ts';
import { delimited, undelimited, Writer } from './wire.ts';

const vector = (name: string): string => privvalVectors.get(name)!;
const error = { code: 1, description: "it's a error" };
const replies: Readonly<Record<string, Reply>> = {
  'ping response': { kind: 'ping' },
  'pubKey response': { kind: 'pubKey', ed25519: ed25519Key(sha256(utf8("it's a secret"))).publicKey },
  'pubKey response with error': { kind: 'pubKey', error },
  'Vote Response': { kind: 'vote', vote: EXAMPLE_VOTE },
  'Vote Response with error': { kind: 'vote', error },
  'Proposal Response': { kind: 'proposal', proposal: EXAMPLE_PROPOSAL },
  'Proposal Response with error': { kind: 'proposal', error },
};

test.each(Object.entries(replies))('%s', (name, reply) => {
  expect(toHex(undelimited(encodeReply(reply, 'v0.38')))).toBe(vector(name));
});

test('requests', () => {
  const read = (name: string) => decodeRequest(fromHex(vector(name)), 'v0.38');
  expect(read('ping request')).toEqual({ kind: 'ping' });
  expect(read('pubKey request')).toEqual({ kind: 'pubKey', chainId: '' });
  expect(read('Vote Request')).toEqual({
    kind: 'vote',
    chainId: '',
    vote: EXAMPLE_VOTE,
    skipExtension: false,
  });
  expect(read('Proposal Request')).toEqual({ kind: 'proposal', chainId: '', proposal: EXAMPLE_PROPOSAL });
});

test('the public key of 1.x is bytes and a type', () => {
  const { publicKey } = ed25519Key(sha256(utf8("it's a secret")));
  expect(toHex(undelimited(encodeReply({ kind: 'pubKey', ed25519: publicKey }, 'v1')))).toBe(
    `122b1a20${toHex(publicKey)}220765643235353139`,
  );
  const refused = toHex(undelimited(encodeReply({ kind: 'pubKey', error }, 'v1')));
  expect(refused).toBe(`121212100801120c${toHex(utf8("it's a error"))}`);
});

test.each<[ProtocolVersion, string]>([
  ['v0.34', 'COMETBFT_FIELD_UNKNOWN'],
  ['v0.37', 'COMETBFT_FIELD_UNKNOWN'],
])('%s knows no extension', (version, code) => {
  const misfit = decodeRequest(fromHex(vector('Vote Request')), version);
  expect(misfit).toMatchObject({ kind: 'vote' });
  expect(codeOf((misfit as { problem: unknown }).problem)).toBe(code);
});

test.each(PROTOCOL_VERSIONS)('%s: what is under number 9', (version) => {
  const raw = new Writer().text(1, 'chain').bytes(2, utf8('raw')).text(3, 'id').finish();
  const message = new Writer()
    .message(9, version === 'v1' ? new Writer().bytes(1, utf8('x')).finish() : raw)
    .finish();
  if (version === 'v1') expect(decodeRequest(message, version)).toEqual({ kind: 'bytes', value: utf8('x') });
  else if (version === 'celestia')
    expect(decodeRequest(message, version)).toEqual({
      kind: 'rawBytes',
      chainId: 'chain',
      raw: utf8('raw'),
      uniqueId: 'id',
    });
  else expect(() => decodeRequest(message, version)).toThrow(/field 9/);
});

test('1.x may ask to leave the signature of the extension out; others know no such field', () => {
  const message = new Writer()
    .message(3, new Writer().message(1, encodeVote(EXAMPLE_VOTE)).text(2, 'c').integer(3, 1).finish())
    .finish();
  expect(decodeRequest(message, 'v1')).toMatchObject({ skipExtension: true });
  expect(decodeRequest(message, 'v0.38')).toMatchObject({
    kind: 'vote',
    problem: { code: 'COMETBFT_FIELD_UNKNOWN' },
  });
});

test('a reply that would be too long for a node leaves out the extension, and nothing else', () => {
  const vote = { ...EXAMPLE_VOTE, extension: new Uint8Array(20_000), signature: new Uint8Array(64).fill(1) };
  const bytes = encodeReply({ kind: 'vote', vote }, 'v0.38');
  expect(bytes.length).toBeLessThan(MAX_REPLY_BYTES);
  const body = new Writer().message(1, encodeVote({ ...vote, extension: new Uint8Array() })).finish();
  expect(toHex(undelimited(bytes))).toBe(toHex(new Writer().message(4, body).finish()));
});

test('two fields of one number, a cut message, a wrong type and two requests in one are refused', () => {
  const vote = encodeVote(EXAMPLE_VOTE);
  const twice = Buffer.concat([vote, new Writer().integer(2, 4).finish()]);
  for (const bytes of [twice, vote.subarray(0, -1), Uint8Array.of(0x12, 1, 1), Uint8Array.of(0x0b)]) {
    const request = new Writer().message(3, new Writer().message(1, bytes).finish()).finish();
    expect(decodeRequest(request, 'v0.38')).toMatchObject({ problem: { code: 'COMETBFT_MALFORMED' } });
  }
  const two = new Writer().message(7, new Uint8Array()).message(1, new Uint8Array()).finish();
  expect(() => decodeRequest(two, 'v0.38')).toThrow('exactly one request');
  expect(() => decodeRequest(new Uint8Array(), 'v0.38')).toThrow('exactly one request');
});

test('a mebibyte of tiny fields is refused at the first ones, since it would hold up every other chain', () => {
  const tiny = Array.from({ length: 200_000 }, (_, n) => new Writer().integer(n + 1, 1).finish());
  const vote = new Uint8Array(Buffer.concat(tiny));
  const bytes = new Writer().message(3, new Writer().message(1, vote).finish()).finish();
  expect(decodeRequest(bytes, 'v0.38')).toMatchObject({
    problem: { message: expect.stringContaining('more than 16') },
  });
  expect(() => decodeRequest(vote, 'v0.38')).toThrow('more than 16 fields');
});

test('whatever bytes come, a request is read, is a misfit, or is refused with a code', () => {
  const bases = [...privvalVectors.values()].map((hex) => fromHex(hex));
  fc.assert(
    fc.property(
      fc.constantFrom(...bases),
      fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
      fc.constantFrom(...PROTOCOL_VERSIONS),
      (base, changes, version) => {
        const bytes = base.slice();
        for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
        try {
          const request = decodeRequest(bytes, version);
          if ('problem' in request) expect(codeOf(request.problem)).toMatch(/^COMETBFT_/);
        } catch (thrown) {
          expect(codeOf(thrown)).toMatch(/^COMETBFT_/);
        }
      },
    ),
    { numRuns: 3000 },
  );
});

test('messages come out of a stream as they went in, however it is cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1 }),
      (messages, cuts) => {
        const stream = new Uint8Array(Buffer.concat(messages.map(delimited)));
        const deframer = new Deframer(300);
        const found: Uint8Array[] = [];
        for (let at = 0, n = 0; at < stream.length; n += 1) {
          const end = at + cuts[n % cuts.length]!;
          found.push(...deframer.push(stream.subarray(at, end)));
          at = end;
        }
        expect(found.map(toHex)).toEqual(messages.map(toHex));
        expect(deframer.isWithin).toBe(false);
      },
    ),
  );
});

test('a message that is announced too large is refused before it comes', () => {
  const deframer = new Deframer(100);
  expect(() => deframer.push(Uint8Array.of(0xff, 0xff, 0xff, 0x7f))).toThrow(/100 are the most/);
  expect(() => new Deframer(100).push(new Uint8Array(20).fill(0xff))).toThrow(/64 bits/);
  expect(new Deframer(100).push(delimited(encodeProposal(EXAMPLE_PROPOSAL).subarray(0, 90)))).toHaveLength(1);
});
