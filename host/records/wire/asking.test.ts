/** What nodes ask each other beside records, over real connections on the loopback. */
import { once } from 'node:events';
import { expect, onTestFinished, test } from 'vitest';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { codeOf } from '../../../lib/protocol/errors.ts';
import { MAX_ASKS } from '../../../lib/protocol/records/sync/messages.ts';
import type { Desk } from './asking.ts';
import { keyOf, Liar } from './sockets.fixture.ts';
import { first, MemoryStore } from './store.fixture.ts';
import { RecordWire, type WireEvent, type WireOptions } from './wire.ts';

const echo: Desk = { answer: async (what) => Uint8Array.from([...utf8('you said '), ...what]) };

interface Node {
  wire: RecordWire;
  port: number;
  key: string;
  /** Codes with which connections ended. */
  ends: string[];
  next(kind: WireEvent['kind']): Promise<WireEvent>;
}

async function node(label: string, options: Partial<WireOptions> = {}): Promise<Node> {
  const events = new EventTarget();
  const ends: string[] = [];
  const wire = new RecordWire({
    store: new MemoryStore([first]),
    staticKey: keyOf(label),
    onEvent: (event) => {
      if (event.kind === 'ended') ends.push(event.code ?? 'none');
      events.dispatchEvent(new CustomEvent(event.kind, { detail: event }));
    },
    ...options,
  });
  onTestFinished(() => wire.stop());
  const port = await wire.listen('127.0.0.1', 0);
  const next = async (kind: WireEvent['kind']) =>
    ((await once(events, kind)) as [CustomEvent<WireEvent>])[0].detail;
  return { wire, port, key: Buffer.from(keyOf(label).publicKey).toString('hex'), ends, next };
}

async function pair(asked: Partial<WireOptions>, asking: Partial<WireOptions> = {}) {
  const [there, here] = [await node('asked', asked), await node('asking', asking)];
  const connected = here.next('connected');
  here.wire.dial({ host: '127.0.0.1', port: there.port });
  await connected;
  return { there, here, ask: (what: string) => here.wire.ask(there.key, utf8(what)) };
}

const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

test('a question is answered, as soon as the two are connected', async () => {
  const { ask } = await pair({ desk: echo });
  const answers = await Promise.all(Array.from({ length: MAX_ASKS }, (_, i) => ask(`${i}`)));
  expect(answers.map(textOf)).toEqual(Array.from({ length: MAX_ASKS }, (_, i) => `you said ${i}`));
});

test('what is not here, or can’t be read, is an empty answer, and the next question is answered', async () => {
  const desk: Desk = {
    async answer(what) {
      if (textOf(what) === 'broken') throw new Error('the disk');
      return textOf(what) === 'missing' ? undefined : what;
    },
  };
  const { ask } = await pair({ desk });
  expect(await Promise.all(['missing', 'broken', 'here'].map(async (one) => textOf(await ask(one))))).toEqual(
    ['', '', 'here'],
  );
});

test('who answers nothing says so in its hello, and is asked nothing', async () => {
  const { here, ask } = await pair({});
  await expect(ask('anything')).rejects.toThrow(expect.objectContaining({ code: 'WIRE_NO_ANSWERS' }));
  expect(here.wire.peers).toHaveLength(1);
  await expect(here.wire.ask('00'.repeat(32), utf8('anyone'))).rejects.toThrow(
    expect.objectContaining({ code: 'WIRE_CLOSED' }),
  );
});

test('an answer that does not come is given up; who asks has no more than so many on their way', async () => {
  const held = Promise.withResolvers<Uint8Array>();
  const { ask, there } = await pair(
    { desk: { answer: () => held.promise } },
    { limits: { answeredWithin: 200 } },
  );
  const asked = await Promise.allSettled(Array.from({ length: MAX_ASKS + 1 }, (_, i) => ask(`${i}`)));
  const codes = asked.map((one) => (one.status === 'rejected' ? codeOf(one.reason) : 'answered'));
  expect(codes).toEqual([...Array.from({ length: MAX_ASKS }, () => 'WIRE_LATE'), 'WIRE_ASKS']);
  // The peer may still have them all to answer: to ask more would break its rules.
  await expect(ask('more')).rejects.toThrow(expect.objectContaining({ code: 'WIRE_ASKS' }));
  expect(there.wire.peers).toHaveLength(1);
  held.resolve(utf8('late'));
  await expect.poll(async () => ask('again').then(textOf, codeOf)).toBe('late');
});

test('who stops fails what it was asked', async () => {
  const { ask, there } = await pair({ desk: { answer: () => new Promise(() => {}) } });
  const asked = ask('anything');
  await expect.poll(() => there.wire.peers.length).toBe(1);
  await Promise.all([
    expect(asked).rejects.toThrow(expect.objectContaining({ code: 'WIRE_CLOSED' })),
    there.wire.stop(),
  ]);
});

test('who asks more than may wait, and who asks where nobody answers, is gone', async () => {
  const full = await node('full', { desk: { answer: () => new Promise(() => {}) } });
  const flooder = await Liar.at(full.port, new MemoryStore([first]).network, 'flooder');
  for (let number = 0; number <= MAX_ASKS; number += 1) flooder.say({ kind: 'ask', number, what: utf8('x') });
  // Whoever is still heard is told of this.
  flooder.say({ kind: 'hello', network: new MemoryStore([first]).network, features: 0 });
  expect(await flooder.hearUntil('refuse')).toEqual({ kind: 'refuse', code: 'SYNC_ASKS' });
  const none = await node('none');
  const lost = await Liar.at(none.port, new MemoryStore([first]).network, 'lost');
  lost.say({ kind: 'ask', number: 1, what: utf8('x') });
  lost.say({ kind: 'hello', network: new MemoryStore([first]).network, features: 0 });
  expect(await lost.hearUntil('refuse')).toEqual({ kind: 'refuse', code: 'SYNC_ASKS' });
});

test('who answers what it was not asked is gone', async () => {
  const one = await node('one');
  const liar = await Liar.at(one.port, new MemoryStore([first]).network, 'liar');
  liar.say({ kind: 'tell', number: 7, what: utf8('x') });
  liar.say({ kind: 'hello', network: new MemoryStore([first]).network, features: 0 });
  expect(await liar.hearUntil('refuse')).toEqual({ kind: 'refuse', code: 'SYNC_UNASKED' });
});
