import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { fromHex, sha256, toHex, utf8 } from '../protocol/encoding.ts';
import { codeOf } from '../protocol/errors.ts';
import { CipherState } from './cipher-state.ts';
import { HANDSHAKE_LENGTHS, Handshake, type HandshakeOptions, type Session } from './handshake.ts';
import { agree, freshKeyPair, keyPairOf } from './x25519.ts';

const vector = JSON.parse(
  readFileSync(new URL('../../testdata/noise/xxpsk0.json', import.meta.url), 'utf8'),
) as Record<
  'init_static' | 'resp_static' | 'gen_init_ephemeral' | 'gen_resp_ephemeral' | 'preshared_key',
  string
> & {
  messages: { payload: string; ciphertext: string }[];
};
const keyOf = (label: string) => keyPairOf(sha256(utf8(label)));
const PSK = sha256(utf8('network'));
const PROLOGUE = utf8('a prologue');

const side = (isInitiator: boolean, change: Partial<HandshakeOptions> = {}): Handshake =>
  new Handshake({
    isInitiator,
    staticKey: keyOf(isInitiator ? 'initiator' : 'responder'),
    psk: PSK,
    prologue: PROLOGUE,
    ...change,
  });
const between = (initiator: Handshake, responder: Handshake): [Session, Session] => {
  responder.read(initiator.write());
  initiator.read(responder.write());
  responder.read(initiator.write());
  return [initiator.finish(), responder.finish()];
};
const refusal = (act: () => unknown): string => {
  try {
    act();
    return 'none';
  } catch (error) {
    return codeOf(error);
  }
};

test('a public vector: the handshake and the first message of each side', () => {
  const initiator = side(true, {
    staticKey: keyPairOf(fromHex(vector.init_static)),
    ephemeralKey: keyPairOf(fromHex(vector.gen_init_ephemeral)),
    psk: fromHex(vector.preshared_key),
    prologue: new Uint8Array(),
  });
  const responder = side(false, {
    staticKey: keyPairOf(fromHex(vector.resp_static)),
    ephemeralKey: keyPairOf(fromHex(vector.gen_resp_ephemeral)),
    psk: fromHex(vector.preshared_key),
    prologue: new Uint8Array(),
  });
  const said: string[] = [];
  for (const [from, to] of [
    [initiator, responder],
    [responder, initiator],
    [initiator, responder],
  ] as const) {
    expect([from.isOurTurn, to.isOurTurn]).toEqual([true, false]);
    const message = from.write();
    expect(message).toHaveLength(HANDSHAKE_LENGTHS[said.length]!);
    said.push(toHex(message));
    to.read(message);
  }
  const [ours, theirs] = [initiator.finish(), responder.finish()];
  expect(toHex(ours.hash)).toBe(toHex(theirs.hash));
  expect(toHex(ours.remoteStatic)).toBe(toHex(keyPairOf(fromHex(vector.resp_static)).publicKey));
  const [, , , third, fourth] = vector.messages;
  said.push(
    toHex(ours.send.seal(fromHex(third!.payload))),
    toHex(theirs.send.seal(fromHex(fourth!.payload))),
  );
  expect(said).toEqual(vector.messages.map(({ ciphertext }) => ciphertext));
  expect(toHex(theirs.receive.open(fromHex(third!.ciphertext)))).toBe(third!.payload);
  expect(toHex(ours.receive.open(fromHex(fourth!.ciphertext)))).toBe(fourth!.payload);
});

describe('a handshake is refused', () => {
  test('with another secret, before anything is agreed on', () => {
    expect(refusal(() => side(false, { psk: sha256(PSK) }).read(side(true).write()))).toBe('NOISE_REFUSED');
  });

  test('with another prologue', () => {
    expect(refusal(() => side(false, { prologue: utf8('other') }).read(side(true).write()))).toBe(
      'NOISE_REFUSED',
    );
  });

  test('with a secret of another length', () => {
    expect(refusal(() => side(true, { psk: PSK.subarray(1) }))).toBe('NOISE_KEY');
  });

  test.each([0, 1, 2])('when any byte of message %d is changed, or it is cut or longer', (which) => {
    for (const at of [0, 31, 40, -1]) {
      const [initiator, responder] = [side(true), side(false)];
      const run = [initiator, responder, initiator] as const;
      for (const [i, from] of run.entries()) {
        const to = from === initiator ? responder : initiator;
        const message = from.write();
        if (i < which) {
          to.read(message);
          continue;
        }
        const index = at < 0 ? message.length + at : at;
        expect(refusal(() => to.read(message.with(index, message[index]! ^ 1)))).toBe('NOISE_REFUSED');
        // And there is no second try.
        expect(refusal(() => to.read(message))).toMatch(/NOISE_(ORDER|LENGTH)/);
        break;
      }
    }
    const lengths = HANDSHAKE_LENGTHS[which]!;
    const [initiator, responder] = [side(true), side(false)];
    if (which > 0) responder.read(initiator.write());
    if (which > 1) initiator.read(responder.write());
    const reader = which === 1 ? initiator : responder;
    expect(reader.nextLength).toBe(lengths);
    expect(refusal(() => reader.read(new Uint8Array(lengths - 1 + 2 * (which % 2))))).toBe('NOISE_LENGTH');
  });

  test('when our own messages come back', () => {
    const self = keyOf('one');
    const out = side(true, { staticKey: self });
    const listening = side(false, { staticKey: self });
    listening.read(out.write());
    expect(refusal(() => out.read(listening.write()))).toBe('NOISE_REFLECTED');
    const ephemeralKey = freshKeyPair();
    const echo = side(false, { ephemeralKey });
    expect(refusal(() => echo.read(side(true, { ephemeralKey }).write()))).toBe('NOISE_REFLECTED');
  });

  test('when an old first message is sent again: it can’t be finished', () => {
    const recorded = side(true);
    const first = recorded.write();
    const before = side(false);
    before.read(first);
    recorded.read(before.write());
    const last = recorded.write();
    const again = side(false);
    again.read(first);
    again.write();
    expect(refusal(() => again.read(last))).toBe('NOISE_REFUSED');
    expect(refusal(() => again.finish())).toBe('NOISE_ORDER');
  });

  test('when a side speaks out of turn', () => {
    expect(refusal(() => side(false).write())).toBe('NOISE_ORDER');
    expect(refusal(() => side(true).read(new Uint8Array(48)))).toBe('NOISE_ORDER');
    expect(refusal(() => side(true).finish())).toBe('NOISE_ORDER');
  });

  test.each([
    '00'.repeat(32),
    `01${'00'.repeat(31)}`,
    'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
    '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
    `ec${'ff'.repeat(30)}7f`,
    `ed${'ff'.repeat(30)}7f`,
    `ee${'ff'.repeat(30)}7f`,
  ])('with the point of small order %s', (point) => {
    expect(refusal(() => agree(keyOf('any'), fromHex(point)))).toBe('NOISE_KEY');
  });
});

describe('messages after it', () => {
  const sessions = (): [Session, Session] => between(side(true), side(false));

  test('are opened once, in their order, by the other side', () => {
    const [ours, theirs] = sessions();
    const [one, two] = [ours.send.seal(utf8('one')), ours.send.seal(utf8('two'))];
    expect(refusal(() => theirs.receive.open(two))).toBe('NOISE_REFUSED');
    expect(theirs.receive.open(one)).toEqual(utf8('one'));
    expect(refusal(() => theirs.receive.open(one))).toBe('NOISE_REFUSED');
    expect(theirs.receive.open(two)).toEqual(utf8('two'));
    // Back to whom they came from: each direction has its key.
    expect(refusal(() => ours.receive.open(one))).toBe('NOISE_REFUSED');
    expect(refusal(() => theirs.receive.open(new Uint8Array(15)))).toBe('NOISE_REFUSED');
  });

  test('of two handshakes of the same sides have nothing in common', () => {
    const [[one], [, other]] = [sessions(), sessions()];
    expect(refusal(() => other.receive.open(one.send.seal(utf8('x'))))).toBe('NOISE_REFUSED');
    expect(toHex(one.hash)).not.toBe(toHex(other.hash));
  });

  test('are numbered: each number is opened once', () => {
    const key = sha256(utf8('key'));
    const [sealing, opening] = [new CipherState(key), new CipherState(key)];
    const one = sealing.seal(utf8('one'));
    expect(opening.open(one)).toEqual(utf8('one'));
    expect(refusal(() => opening.open(one))).toBe('NOISE_REFUSED');
  });

  test('go on under a key that the old one does not follow from', () => {
    const key = sha256(utf8('key'));
    const [sealing, opening, old] = [new CipherState(key), new CipherState(key), new CipherState(key)];
    sealing.rekey();
    const sealed = sealing.seal(utf8('x'));
    expect(refusal(() => old.open(sealed))).toBe('NOISE_REFUSED');
    opening.rekey();
    expect(opening.open(sealed)).toEqual(utf8('x'));
    expect([sealing.count, old.count]).toEqual([1n, 0n]);
  });
});
