import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { sha256, utf8 } from '../../../lib/protocol/encoding.ts';
import { MAX_MESSAGE_BYTES } from '../../../lib/protocol/records/sync/messages.ts';
import type { WireLimits } from './limits.ts';
import { SecureSocket } from './secure-socket.ts';
import {
  codeIn,
  connected,
  frame,
  limitsOf,
  listening,
  optionsOf,
  rawInitiator,
  socketPair,
} from './sockets.fixture.ts';

const NETWORK = 'ab'.repeat(32);
const open: { destroy(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.destroy();
});

async function pair(change: Partial<WireLimits> = {}): Promise<[SecureSocket, SecureSocket, Socket]> {
  const limits = limitsOf(change);
  const [dialled, accepted] = await socketPair();
  const both = await Promise.all([
    SecureSocket.over(dialled, optionsOf(NETWORK, 'one', true), limits),
    SecureSocket.over(accepted, optionsOf(NETWORK, 'two', false), limits),
  ]);
  open.push(...both);
  return [...both, dialled];
}

/** A listener's side, and an end that says what it likes. */
async function against(
  change: Partial<WireLimits> = {},
): Promise<{ raw: Socket; over: Promise<SecureSocket> }> {
  const [raw, accepted] = await socketPair();
  open.push(raw, accepted);
  const over = SecureSocket.over(accepted, optionsOf(NETWORK, 'two', false), limitsOf(change));
  over.catch(() => {});
  return { raw, over };
}

test('messages of any size arrive whole, in both directions, under key after key', async () => {
  const [one, two] = await pair({ rekeyFrames: 3 });
  expect([one.key === two.key, one.key.length]).toEqual([false, 64]);
  const sizes = [0, 1, 65_518, 65_519, 65_520, MAX_MESSAGE_BYTES, 7];
  for (const [from, to] of [
    [one, two],
    [two, one],
  ] as const) {
    for (const size of sizes) {
      const message = new Uint8Array(size).fill(size % 251);
      from.send(message);
      expect(Buffer.compare(await to.receive(), message)).toBe(0);
    }
  }
});

test('what is sent before an end is received, and then the end', async () => {
  const [one, two] = await pair();
  one.send(utf8('last words'));
  one.end();
  expect(await two.receive()).toEqual(utf8('last words'));
  expect(await codeIn(two.receive())).toBe('WIRE_CLOSED');
});

describe('a handshake ends with', () => {
  test.each([
    ['WIRE_FRAME', 'a frame of another length', Buffer.from([0xff, 0xff])],
    ['WIRE_FRAME', 'an empty frame', Buffer.from([0, 0])],
    ['NOISE_REFUSED', 'noise', frame(new Uint8Array(48).fill(9))],
    ['WIRE_FRAME', 'another protocol', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
  ])('%s for %s', async (code, _, bytes) => {
    const { raw, over } = await against();
    raw.write(bytes);
    expect(await codeIn(over)).toBe(code);
    await once(raw, 'close');
  });

  test('NOISE_REFUSED for a peer of another network, or with another secret', async () => {
    for (const options of [
      optionsOf('cd'.repeat(32), 'one', true),
      { ...optionsOf(NETWORK, 'one', true), psk: sha256(utf8('guessed')) },
    ]) {
      const { raw, over } = await against();
      const dialled = SecureSocket.over(raw, options, limitsOf({}));
      expect([await codeIn(over), await codeIn(dialled)]).toEqual(['NOISE_REFUSED', 'WIRE_CLOSED']);
    }
  });

  test('NOISE_REFLECTED where a node meets itself, WIRE_FRAME where its words come back', async () => {
    const [dialled, accepted] = await socketPair();
    const self = [true, false].map((isInitiator) => optionsOf(NETWORK, 'one', isInitiator));
    const both = [
      SecureSocket.over(dialled, self[0]!, limitsOf({})),
      SecureSocket.over(accepted, self[1]!, limitsOf({})),
    ];
    expect(await codeIn(both[0]!)).toBe('NOISE_REFLECTED');
    expect(await codeIn(both[1]!)).toBe('WIRE_CLOSED');

    const { server, port } = await listening((socket) => socket.pipe(socket));
    const echoed = SecureSocket.over(await connected(port), self[0]!, limitsOf({}));
    expect(await codeIn(echoed)).toBe('WIRE_FRAME');
    server.close();
  });

  test('NOISE_REFUSED for what was recorded of another connection', async () => {
    const first = await against();
    const recorded: Buffer[] = [];
    const write = first.raw.write.bind(first.raw);
    first.raw.write = ((bytes: Buffer) => {
      recorded.push(Buffer.from(bytes));
      return write(bytes);
    }) as typeof first.raw.write;
    const session = await rawInitiator(first.raw, optionsOf(NETWORK, 'one', true));
    first.raw.write(frame(session.send.seal(Uint8Array.of(0, 1))));
    expect(await (await first.over).receive()).toEqual(Uint8Array.of(1));

    const again = await against();
    again.raw.write(Buffer.concat(recorded));
    expect(await codeIn(again.over)).toBe('NOISE_REFUSED');
  });

  test('WIRE_HANDSHAKE_SLOW for a peer that says one byte now and then', async () => {
    const { raw, over } = await against({ handshakeWithin: 300 });
    raw.write(Uint8Array.of(0, 48));
    const drip = setInterval(() => raw.write(Uint8Array.of(0)), 50);
    expect(await codeIn(over)).toBe('WIRE_HANDSHAKE_SLOW');
    clearInterval(drip);
  });

  test('WIRE_CLOSED for a peer that goes away', async () => {
    const { raw, over } = await against();
    raw.write(Uint8Array.of(0));
    raw.end();
    expect(await codeIn(over)).toBe('WIRE_CLOSED');
  });
});

describe('a connection ends with', () => {
  /** A peer of the network that has its keys, and its own ideas. */
  async function hostile(change: Partial<WireLimits> = {}) {
    const { raw, over } = await against(change);
    const session = await rawInitiator(raw, optionsOf(NETWORK, 'one', true));
    const say = (flag: number, part: Uint8Array): Buffer =>
      frame(session.send.seal(Buffer.concat([Uint8Array.of(flag), part])));
    return { raw, socket: await over, say };
  }

  test('WIRE_FRAME for a frame that is too short', async () => {
    const { raw, socket } = await hostile();
    raw.write(frame(new Uint8Array(16)));
    expect(await codeIn(socket.receive())).toBe('WIRE_FRAME');
  });

  test('NOISE_REFUSED for a frame that is changed, or sent twice', async () => {
    const changed = await hostile();
    const bytes = changed.say(0, utf8('x'));
    changed.raw.write(bytes.fill(bytes[9]! ^ 1, 9, 10));
    expect(await codeIn(changed.socket.receive())).toBe('NOISE_REFUSED');
    const twice = await hostile();
    const once = twice.say(0, utf8('x'));
    twice.raw.write(Buffer.concat([once, once]));
    expect(await twice.socket.receive()).toEqual(utf8('x'));
    expect(await codeIn(twice.socket.receive())).toBe('NOISE_REFUSED');
  });

  test.each([
    ['parts that go on and are not full', 1, 100],
    ['a part that neither goes on nor ends', 2, 65_518],
  ])('WIRE_MESSAGE for %s', async (_, flag, size) => {
    const { raw, socket, say } = await hostile();
    raw.write(say(flag, new Uint8Array(size)));
    expect(await codeIn(socket.receive())).toBe('WIRE_MESSAGE');
  });

  test('WIRE_MESSAGE for a message that does not end', async () => {
    const { raw, socket, say } = await hostile();
    for (let i = 0; i < 3; i++) raw.write(say(1, new Uint8Array(65_518)));
    expect(await codeIn(socket.receive())).toBe('WIRE_MESSAGE');
    expect(socket.receivedBytes).toBeLessThan(3 * 65_540);
  });

  test('WIRE_IDLE for a peer that never ends its message', async () => {
    const { raw, socket, say } = await hostile({ idle: 300 });
    const bytes = say(0, new Uint8Array(1000));
    let at = 0;
    const drip = setInterval(() => raw.write(bytes.subarray(at, ++at)), 50);
    expect(await codeIn(socket.receive())).toBe('WIRE_IDLE');
    clearInterval(drip);
  });

  test('WIRE_SLOW for a peer that takes nothing', async () => {
    const { raw, socket } = await hostile({ takenWithin: 300, backlog: 1 << 16 });
    raw.pause();
    while (socket.backlog < 1 << 16) {
      socket.send(new Uint8Array(65_518));
      await new Promise(setImmediate);
    }
    expect(await codeIn(socket.taken())).toBe('WIRE_SLOW');
    expect(socket.isClosed).toBe(true);
  });
});
