import { once } from 'node:events';
import { type AddressInfo, connect, Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { fromHex, toHex, utf8 } from '../../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../../lib/protocol/errors.ts';
import { encodeRecord } from '../../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../../lib/protocol/records/format.ts';
import { recordId, withoutValue } from '../../../lib/protocol/records/identity.ts';
import { FOUNDER, genesisRecord, networkOf, write } from '../../../lib/protocol/records/network.fixture.ts';
import { NOON } from '../../../lib/protocol/records/records.fixture.ts';
import { END, placeOf } from '../../../lib/protocol/records/sync/places.ts';
import { RangeWriter } from '../../../lib/protocol/records/sync/ranges.ts';
import type { WireLimits } from './limits.ts';
import { codeIn, connected, keyOf, Liar, listening } from './sockets.fixture.ts';
import { chain, first, history, idOf, MemoryStore } from './store.fixture.ts';
import { type Address, RecordWire, type WireEvent, type WireOptions } from './wire.ts';

const LOOPBACK = '127.0.0.1';
/** Comparisons follow each other quickly; nothing else is shorter than in a network. */
const QUICK: Partial<WireLimits> = { interval: 300, again: 50, redial: [50, 300], connectionsPerAddress: 32 };
const NETWORK = new MemoryStore().network;
/** Milliseconds in which a busy machine answers what it should not. */
const LONG = 8_000;

interface Node {
  readonly store: MemoryStore;
  readonly wire: RecordWire;
  readonly port: number;
  readonly events: WireEvent[];
  readonly key: string;
}
const nodes: Node[] = [];
const servers: Server[] = [];
afterEach(async () => {
  await Promise.all(nodes.splice(0).map(({ wire }) => wire.stop()));
  for (const server of servers.splice(0)) server.close();
});

async function start(
  label: string,
  records: readonly DagRecord[] = [first],
  limits: Partial<WireLimits> = {},
  options: Partial<WireOptions> & { readonly of?: MemoryStore } = {},
): Promise<Node> {
  const store = options.of ?? new MemoryStore(records);
  const events: WireEvent[] = [];
  const wire = new RecordWire({
    store,
    staticKey: keyOf(label),
    limits: { ...QUICK, ...limits },
    onEvent: (event) => events.push(event),
    ...options,
  });
  const node = {
    store,
    wire,
    port: await wire.listen(LOOPBACK, 0),
    events,
    key: toHex(keyOf(label).publicKey),
  };
  nodes.push(node);
  return node;
}

const dial = (from: Node, { port }: { port: number }): void => from.wire.dial({ host: LOOPBACK, port });
const idsOf = (...records: DagRecord[][]): string[] => [...new Set(records.flat().map(idOf))].toSorted();
const until = (node: Node, ids: string[]): Promise<void> =>
  expect
    .poll(() => node.store.ids.length, { timeout: 60_000 })
    .toBe(ids.length)
    .then(() => expect(node.store.ids).toEqual(ids));
/** That a peer is gone, and why. */
const expectEnd = (node: Node, key: string, code: string): Promise<void> =>
  expect
    .poll(() => node.events.find((event) => event.kind === 'ended' && event.key === key)?.code, {
      timeout: 30_000,
    })
    .toBe(code);
const liarKey = toHex(keyOf('liar').publicKey);
const codeOfCall = (call: () => void): string => {
  try {
    call();
    return 'none';
  } catch (error) {
    return codeOf(error);
  }
};
const receivedBy = (node: Node): number =>
  node.wire.peers.reduce((sum, { received }) => sum + received.records, 0);

/** A network between two nodes that can be cut. */
async function cable(port: number): Promise<{ port: number; cut(): void; mend(): void }> {
  let isCut = false;
  const sockets = new Set<Socket>();
  const { server, port: own } = await listening((socket) => {
    const onward = connect(port, LOOPBACK);
    for (const one of [socket, onward]) {
      sockets.add(one);
      one.on('error', () => {});
    }
    if (isCut) for (const one of [socket, onward]) one.destroy();
    socket.pipe(onward).pipe(socket);
  });
  servers.push(server);
  return {
    port: own,
    cut: () => {
      isCut = true;
      for (const socket of sockets) socket.destroy();
    },
    mend: () => {
      isCut = false;
    },
  };
}

describe('nodes of one network', () => {
  test('have the same members in the end, and each record travelled once to each', async () => {
    const [common, ones, twos, threes] = [
      history(30, 'c'),
      chain(20, 'one'),
      chain(20, 'two'),
      history(5, 'three'),
    ];
    const one = await start('one', [...common, ...ones]);
    const two = await start('two', [...common, ...twos]);
    const three = await start('three', threes);
    // In a line, and in a circle after that.
    dial(two, one);
    dial(three, two);
    const all = idsOf(common, ones, twos, threes);
    await Promise.all([one, two, three].map((node) => until(node, all)));
    dial(one, three);
    const before = [one, two, three].map(receivedBy);
    expect(before).toEqual([25, 25, 70]);
    await expect
      .poll(() => [one, two, three].map(({ wire }) => wire.isSynchronised(2, 60_000)))
      .toEqual([true, true, true]);
    expect([one, two, three].map(receivedBy)).toEqual(before);
  });

  test('tell each other of new members, however far they are', async () => {
    // Comparisons are hours apart: what travels was announced.
    const limits = { interval: 3_600_000, again: 50 };
    const five = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((label) => start(label, [first], limits)));
    for (let i = 1; i < 5; i++) dial(five[i]!, five[i - 1]!);
    await expect
      .poll(() => five.map(({ wire }) => wire.isSynchronised(1, 60_000)))
      .toEqual(Array(5).fill(true));
    const records = chain(3, 'news');
    for (const record of records) await five[0]!.store.add(encodeRecord(record), 'self');
    const all = idsOf([first], records);
    await Promise.all(five.map((node) => until(node, all)));
    expect(five.slice(1).map(receivedBy)).toEqual([3, 3, 3, 3]);
  });

  test('find what each had while they were apart', async () => {
    const common = history(10, 'common');
    const [one, two, far] = [
      await start('one', common),
      await start('two', common),
      await start('far', common),
    ];
    const between = await cable(two.port);
    dial(two, one);
    dial(far, between);
    await expect.poll(() => two.wire.isSynchronised(2, 60_000)).toBe(true);
    between.cut();
    await expect.poll(() => far.wire.peers.length).toBe(0);
    const [here, there] = [chain(15, 'here'), chain(15, 'there')];
    for (const record of here) await one.store.add(encodeRecord(record), 'self');
    for (const record of there) await far.store.add(encodeRecord(record), 'self');
    await until(two, idsOf(common, here));
    // It remembers that they were the same, and says nothing of now by that.
    expect(far.wire.isSynchronised(1, 3_600_000)).toBe(false);
    between.mend();
    await Promise.all([one, two, far].map((node) => until(node, idsOf(common, here, there))));
    await expect.poll(() => far.wire.isSynchronised(1, 60_000)).toBe(true);
  });

  test('give a latecomer all there is, in portions, whatever stands on what', async () => {
    const [wide, long] = [history(120, 'wide'), chain(120, 'long')];
    const [one, two] = [await start('one', [...wide, ...long]), await start('two', [...wide, ...long])];
    dial(two, one);
    const late = await start('late', [], {
      reconcile: { messageBytes: 4096, rounds: 64, difference: 70 },
      asked: 20,
    });
    dial(late, one);
    dial(late, two);
    await until(late, idsOf(wide, long));
    expect([late.store.waiting, late.wire.lacking]).toEqual([0, 0]);
    await expect.poll(() => late.wire.isSynchronised(2, 60_000)).toBe(true);
  });

  test('give to each other at the same time, however much that is', async () => {
    const rules = { maxValue: 65_536 };
    const genesis = genesisRecord(rules);
    // 12 MB on each side: more than lies in the buffers between them.
    const large = (label: string): DagRecord[] =>
      Array.from({ length: 200 }, (_, i) => {
        const value = new Uint8Array(60_000).fill(i).with(0, label.charCodeAt(0));
        return write(FOUNDER, { links: [recordId(genesis)], timestamp: NOON + i, value });
      });
    const [here, there] = [large('here'), large('there')];
    const one = await start('one', [], {}, { of: new MemoryStore([genesis, ...here], networkOf(rules)) });
    const two = await start('two', [], {}, { of: new MemoryStore([genesis, ...there], networkOf(rules)) });
    dial(one, two);
    await Promise.all([one, two].map((node) => until(node, idsOf([genesis], here, there))));
    expect([one, two].flatMap(({ events }) => events).filter(({ kind }) => kind === 'ended')).toEqual([]);
  });

  describe.each([
    ['of times that go back', (i: number) => NOON + 30_000 - 50 * i],
    ['of one time', () => NOON + 1000],
  ])(
    'give a latecomer a chain %s, longer than what it has room for and than what one comparison finds',
    (_, timeOf) => {
      const records: DagRecord[] = [];
      for (let i = 0; i < 600; i++) {
        const links = [recordId(records.at(-1) ?? first)];
        records.push(write(FOUNDER, { links, timestamp: timeOf(i), value: utf8(`${i}`) }));
      }

      /** How often a record came. */
      async function fetching(change: (giver: Node) => void): Promise<number> {
        const [one, two] = [await start('one', [first, ...records]), await start('two', [first, ...records])];
        for (const giver of [one, two]) change(giver);
        const of = new MemoryStore([first], networkOf(), { records: 20, bytes: 1 << 20 });
        const reconcile = { messageBytes: 4096, rounds: 64, difference: 100 };
        const late = await start('late', [], { reconcile, asked: 16 }, { of });
        const add = vi.spyOn(of, 'add');
        dial(late, one);
        dial(late, two);
        await until(late, idsOf([first], records));
        return add.mock.calls.length;
      }

      test('in the order in which it can be taken', async () => {
        expect(await fetching(() => {})).toBeLessThan(8 * records.length);
      });

      test('also where peers announce it in the order of time', async () => {
        const count = await fetching(({ store }) =>
          vi.spyOn(store, 'inOrder').mockImplementation((ids) => [...ids]),
        );
        expect(count).toBeLessThan(12 * records.length);
      });
    },
  );

  test('go on with giving while a disk is full, and with taking once there is room', async () => {
    const [ours, theirs] = [chain(10, 'ours'), chain(10, 'theirs')];
    const [full, other] = [await start('full', [first, ...ours]), await start('other', [first, ...theirs])];
    // The disk is full when the first of them comes.
    const add = vi.spyOn(full.store, 'add').mockImplementation(async () => {
      full.store.stopped = new DstackError('RECORDS_STOPPED', 'make room');
      throw full.store.stopped;
    });
    dial(full, other);
    await until(other, idsOf([first], ours, theirs));
    await expect.poll(() => add.mock.calls.length).toBeGreaterThan(0);
    const news = chain(3, 'news');
    for (const record of news) await other.store.add(encodeRecord(record), 'self');
    await new Promise((resolve) => setTimeout(resolve, 300));
    const asked = add.mock.calls.length;
    expect(asked).toBeLessThanOrEqual(theirs.length);
    expect(full.store.ids).toEqual(idsOf([first], ours));
    expect([full, other].flatMap(({ events }) => events.filter(({ kind }) => kind === 'ended'))).toEqual([]);
    add.mockRestore();
    full.store.stopped = undefined;
    await until(full, idsOf([first], ours, theirs, news));
    expect([full, other].flatMap(({ events }) => events.filter(({ kind }) => kind === 'ended'))).toEqual([]);
  });

  test('have one connection where both dialled, and none to themselves', async () => {
    const [one, two] = [await start('one'), await start('two')];
    dial(one, two);
    dial(two, one);
    dial(one, one);
    await expect.poll(() => one.events.some(({ code }) => code === 'NOISE_REFLECTED')).toBe(true);
    await expect
      .poll(() => [one, two].map(({ wire }) => wire.isSynchronised(1, 60_000)))
      .toEqual([true, true]);
    expect([one, two].map(({ wire }) => wire.peers.length)).toEqual([1, 1]);
    expect(one.wire.peers[0]!.isDialled).toBe(!two.wire.peers[0]!.isDialled);
  });

  test('do not speak with another network, nor with another node than they dial', async () => {
    const secret = new Uint8Array(32).fill(7);
    const [open, keyed] = [await start('open'), await start('keyed', [first], {}, { secret })];
    dial(open, keyed);
    await expect.poll(() => keyed.events.map(({ code }) => code)).toContain('NOISE_REFUSED');
    const other = await start('other');
    other.wire.dial({ host: LOOPBACK, port: open.port, key: keyed.key });
    await expect.poll(() => other.events.map(({ code }) => code)).toContain('WIRE_KEY');
    expect([keyed, other].flatMap(({ wire }) => wire.peers)).toEqual([]);
  });
});

describe('an address', () => {
  const good: Address = { host: LOOPBACK, port: 4711 };
  test.each<[string, Address]>([
    ['a port above all', { ...good, port: 65_536 }],
    ['a port that is no whole number', { ...good, port: 1.5 }],
    ['no port', { ...good, port: 0 }],
    ['no host', { ...good, host: '' }],
    ['a host with a byte that ends names', { ...good, host: 'node\0.example' }],
    ['four numbers that are no address', { ...good, host: '999.1.1.1' }],
    ['a name that is too long', { ...good, host: `${'a'.repeat(64)}.example` }],
    ['an address in brackets', { ...good, host: '[::1]' }],
    ['a key that is none', { ...good, key: 'ab' }],
  ])('is refused before anything is dialled: %s', async (_, address) => {
    const node = await start('node');
    expect(codeOfCall(() => node.wire.dial(address))).toBe('WIRE_ADDRESS');
  });

  test.each(['127.0.0.1', '::1', 'fe80::1%lo', 'localhost', 'node-1.example.org.', 'a_b.example'])(
    'is taken: %s',
    async (host) => {
      const node = await start('node');
      expect(codeOfCall(() => node.wire.dial({ host, port: node.port }))).toBe('none');
    },
  );

  test('on which nothing can listen is refused by a code', async () => {
    const node = await start('node');
    const listen = (host: string, port: number) =>
      codeIn(start('other').then(({ wire }) => wire.listen(host, port)));
    expect(await listen(LOOPBACK, node.port)).toBe('WIRE_LISTEN');
    expect(await listen(LOOPBACK, 65_536)).toBe('WIRE_ADDRESS');
  });

  test('is listened on however often the system can accept nobody', async () => {
    const node = await start('node');
    const handles: readonly unknown[] = Reflect.get(process, '_getActiveHandles').call(process);
    const server = handles.find(
      (handle): handle is Server =>
        handle instanceof Server && (handle.address() as AddressInfo | null)?.port === node.port,
    )!;
    const cause = Object.assign(new Error('accept EMFILE'), { code: 'EMFILE' });
    for (let i = 0; i < 3; i++) expect(() => server.emit('error', cause)).not.toThrow();
    const address = `${LOOPBACK}:0`;
    expect(node.events).toEqual(Array(3).fill({ kind: 'turned away', address, code: 'WIRE_FULL', cause }));
    await Liar.at(node.port, NETWORK);
    await expect.poll(() => node.wire.peers).toHaveLength(1);
  });
});

describe('synchronised', () => {
  test('is what was compared just now, with so many peers of those that count', async () => {
    let now = 1_000_000;
    const limits = { interval: 3_600_000 };
    const one = await start('one', [first], limits, { uptime: () => now });
    const two = await start('two', history(3, 'x'), limits);
    expect([one.wire.isSynchronised(0, 1000), one.wire.isSynchronised(1, 1000)]).toEqual([true, false]);
    dial(one, two);
    await expect.poll(() => one.wire.isSynchronised(1, 1000)).toBe(true);
    expect(one.wire.isSynchronised(2, 1000)).toBe(false);
    expect(one.wire.isSynchronised(1, 1000, new Set([one.key]))).toBe(false);
    expect(one.wire.isSynchronised(1, 1000, new Set([two.key]))).toBe(true);
    now += 5_000;
    expect(one.wire.isSynchronised(1, 1000)).toBe(false);
    one.wire.reconcile();
    await expect.poll(() => one.wire.isSynchronised(1, 1000)).toBe(true);
    await two.wire.stop();
    await expect.poll(() => one.wire.isSynchronised(1, 3_600_000)).toBe(false);
  });

  test('is nobody with whom a peer says to differ, even by what it never gives', async () => {
    const node = await start('node');
    const liar = await Liar.at(node.port, NETWORK);
    const { session } = await liar.hearUntil('question');
    const ranges = new RangeWriter();
    ranges.range(END, { kind: 'ids', ids: [new Uint8Array(32).fill(1), fromHex(idOf(first))] });
    liar.say({ kind: 'answer', session, ranges: ranges.finish() });
    await liar.hearUntil('end');
    expect(node.wire.peers[0]!.last).toMatchObject({ missingHere: 1, missingThere: 0 });
    expect(node.wire.isSynchronised(1, 60_000)).toBe(false);
  });
});

describe('a peer that', () => {
  const records = chain(20, 'good');
  const all = idsOf([first], records);
  /** One that has no records, and one that has them all and is reached later. */
  async function victim(limits: Partial<WireLimits> = {}): Promise<{ node: Node; honest: Node; liar: Liar }> {
    const node = await start('victim', [first], limits);
    const honest = await start('honest', [first, ...records]);
    return { node, honest, liar: await Liar.at(node.port, NETWORK) };
  }
  const ids = records.map(idOf);

  test('sends a spoiled record is gone, and does not keep the good one out', async () => {
    const { node, honest, liar } = await victim();
    liar.say({ kind: 'announce', ids });
    const wanted = await liar.hearUntil('want');
    const record = records[0]!;
    expect(wanted.ids).toContain(idOf(record));
    const spoiled = encodeRecord({
      ...record,
      signature: record.signature.with(3, record.signature[3]! ^ 1),
    });
    liar.say({ kind: 'records', records: [spoiled] });
    await expectEnd(node, liarKey, 'SYNC_RECORD');
    expect((await liar.hearUntil('refuse')).code).toBe('SYNC_RECORD');
    dial(node, honest);
    await until(node, all);
    // And its key is not welcome for a while.
    await Liar.at(node.port, NETWORK);
    await expect.poll(() => node.events.map(({ code }) => code)).toContain('WIRE_PENALTY');
  });

  describe('keeps values back', () => {
    const stripped = (wanted: readonly string[]): Uint8Array[] =>
      wanted.map((id) => encodeRecord(withoutValue(records[ids.indexOf(id)]!)));
    const expectValues = async ({ store }: Node): Promise<void> => {
      await expect.poll(() => store.lackingValues(100), { timeout: 60_000 }).toEqual([]);
      for (const record of records) expect(toHex(store.get(idOf(record))!)).toBe(toHex(encodeRecord(record)));
    };

    test('does not keep them from who asks others, nor from who asks that one', async () => {
      const { node, honest, liar } = await victim();
      const next = await start('next', [first], { interval: 3_600_000 });
      dial(next, node);
      liar.say({ kind: 'announce', ids });
      liar.say({ kind: 'records', records: stripped((await liar.hearUntil('want')).ids) });
      await Promise.all([node, next].map((one) => until(one, all)));
      expect([node, next].map(({ store }) => store.lackingValues(100).length)).toEqual([20, 20]);
      // It compares and finds the same identities; values are asked for all the same.
      dial(node, honest);
      await Promise.all([node, next].map(expectValues));
    });

    test('leaves the others who offered the records, who are asked at once', async () => {
      const { node, honest, liar } = await victim({ again: 3_600_000 });
      liar.say({ kind: 'announce', ids });
      const wanted = await liar.hearUntil('want');
      dial(node, honest);
      await expect.poll(() => node.wire.peers.some(({ last }) => last?.missingHere === 20)).toBe(true);
      liar.say({ kind: 'records', records: stripped(wanted.ids) });
      await until(node, all);
      await expectValues(node);
    });

    test('and has them no more itself may say so', async () => {
      const { node, liar } = await victim({ lacking: 0 });
      const { session } = await liar.hearUntil('question');
      liar.say({ kind: 'announce', ids });
      liar.say({ kind: 'records', records: stripped((await liar.hearUntil('want')).ids) });
      await until(node, all);
      const ranges = new RangeWriter();
      ranges.range(END, { kind: 'ids', ids: node.store.ids.map((id) => fromHex(id)) });
      liar.say({ kind: 'answer', session, ranges: ranges.finish() });
      liar.say({ kind: 'lack', ids: (await liar.hearUntil('want')).ids });
      await until(node, all);
      expect(node.wire.peers).toHaveLength(1);
    });
  });

  test('sends what it was not asked for is gone before that is looked at', async () => {
    const { node, liar } = await victim();
    const add = vi.spyOn(node.store, 'add');
    liar.say({ kind: 'records', records: records.map(encodeRecord) });
    await expectEnd(node, liarKey, 'SYNC_UNASKED');
    expect(add).not.toHaveBeenCalled();
  });

  test('sends a record twice is gone', async () => {
    const { node, liar } = await victim();
    liar.say({ kind: 'announce', ids: ids.slice(0, 1) });
    await liar.hearUntil('want');
    for (let i = 0; i < 2; i++) liar.say({ kind: 'records', records: [encodeRecord(records[0]!)] });
    await expectEnd(node, liarKey, 'SYNC_UNASKED');
    expect(node.store.ids).toHaveLength(2);
  });

  test('sends noise as a record is gone', async () => {
    const { node, liar } = await victim();
    liar.say({ kind: 'records', records: [new Uint8Array(100)] });
    await expectEnd(node, liarKey, 'SYNC_RECORD');
  });

  test('withholds what it offered is not waited for long, and others are asked', async () => {
    const { node, honest, liar } = await victim({ deliveredWithin: 1_000 });
    liar.say({ kind: 'announce', ids });
    await liar.hearUntil('want');
    dial(node, honest);
    await expectEnd(node, liarKey, 'SYNC_WITHHELD');
    await until(node, all);
  });

  test('comes again before the connection it had has ended is asked again', async () => {
    const { node, liar } = await victim();
    liar.say({ kind: 'announce', ids });
    const { ids: wanted } = await liar.hearUntil('want');
    const again = await Liar.at(node.port, NETWORK);
    expect((await liar.hearUntil('refuse')).code).toBe('WIRE_DUPLICATE');
    again.say({ kind: 'announce', ids });
    await expect.poll(() => node.wire.lacking).toBe(ids.length);
    const heard = again.hearUntil('want').then((want) => want.ids);
    expect(await Promise.race([heard, new Promise((resolve) => setTimeout(resolve, 20_000))])).toEqual(
      wanted,
    );
  });

  test('gives some of it and not the rest is waited for no longer', async () => {
    const { node, liar } = await victim({ deliveredWithin: 1_000 });
    liar.say({ kind: 'announce', ids: [...ids.slice(1), ids[0]!] });
    const { ids: wanted } = await liar.hearUntil('want');
    let next = wanted.length - 1;
    const drip = setInterval(() => {
      if (next > 0)
        liar.say({ kind: 'records', records: [encodeRecord(records[ids.indexOf(wanted[next--]!)]!)] });
    }, 200);
    await expectEnd(node, liarKey, 'SYNC_WITHHELD');
    clearInterval(drip);
  });

  test('says that it lacks what it offered is gone after a few, and others are asked at once', async () => {
    const { node, honest, liar } = await victim();
    liar.say({ kind: 'announce', ids });
    const { ids: wanted } = await liar.hearUntil('want');
    dial(node, honest);
    liar.say({ kind: 'lack', ids: wanted });
    await expectEnd(node, liarKey, 'SYNC_WITHHELD');
    await until(node, all);
  });

  test('floods with made-up identities takes a bounded place', async () => {
    const { node, honest, liar } = await victim({
      offered: 500,
      asked: 10,
      bytesIn: { perSecond: 1 << 30, burst: 1 << 30 },
    });
    for (let i = 0; i < 10; i++) {
      const made = Array.from({ length: 1000 }, (_, j) =>
        toHex(
          new Uint8Array(32)
            .fill(i)
            .with(0, j & 255)
            .with(1, j >> 8),
        ),
      );
      liar.say({ kind: 'announce', ids: made });
    }
    await liar.hearUntil('want');
    dial(node, honest);
    await until(node, all);
    expect(node.wire.lacking).toBeLessThanOrEqual(510);
    expect(node.wire.peers.map(({ key }) => key)).toContain(liarKey);
  });

  test('invents what it stands on takes its own room in limbo, which goes with it', async () => {
    const { node, honest, liar } = await victim();
    // Each stands on one that never comes.
    const orphans = chain(40, 'orphans', chain(1, 'never')[0]!).slice(0, 40);
    liar.say({ kind: 'announce', ids: orphans.map(idOf) });
    await liar.hearUntil('want');
    liar.say({ kind: 'records', records: orphans.map(encodeRecord) });
    await expect.poll(() => node.store.waiting).toBe(40);
    dial(node, honest);
    await until(node, all);
    liar.socket.destroy();
    await expect.poll(() => node.store.waiting).toBe(0);
  });

  test('asks without end is answered so many times', async () => {
    const { node, liar } = await victim({ reconcile: { messageBytes: 4096, rounds: 5, difference: 100 } });
    const ranges = new RangeWriter();
    ranges.range(END, { kind: 'fingerprint', fingerprint: new Uint8Array(16) });
    for (let i = 0; i < 6; i++) liar.say({ kind: 'question', session: 1, ranges: ranges.finish() });
    await expectEnd(node, liarKey, 'SYNC_ROUNDS');
  });

  test('answers without end learns that nothing is whole, and is not counted', async () => {
    const node = await start('victim', [first, ...records], {
      reconcile: { messageBytes: 4096, rounds: 5, difference: 100 },
    });
    const liar = await Liar.at(node.port, NETWORK);
    const ranges = new RangeWriter();
    ranges.range(END, { kind: 'fingerprint', fingerprint: new Uint8Array(16) });
    for (let asked = 1; ; asked++) {
      const message = await liar.hear();
      if (message.kind === 'end') break;
      if (message.kind === 'question')
        liar.say({ kind: 'answer', session: message.session, ranges: ranges.finish() });
      expect(asked).toBeLessThan(10);
    }
    expect(node.wire.peers[0]!.last).toBeUndefined();
    expect(node.wire.isSynchronised(1, 60_000)).toBe(false);
  });

  test.each([
    [
      'SYNC_SESSION',
      'answers what was not asked',
      { kind: 'answer', session: 99, ranges: Uint8Array.of(0x61) },
    ],
    [
      'SYNC_BOUND',
      'asks with ranges out of order',
      { kind: 'question', session: 1, ranges: Uint8Array.of(0x61, 1, 0, 0) },
    ],
    [
      'SYNC_VERSION',
      'compares in another version',
      { kind: 'question', session: 1, ranges: Uint8Array.of(0x62) },
    ],
    ['SYNC_HELLO', 'says hello twice', { kind: 'hello', network: NETWORK, features: 0 }],
    ['SYNC_UNASKED', 'lacks what it was not asked for', { kind: 'lack', ids: ['00'.repeat(32)] }],
  ] as const)('%s: %s is gone', async (code, _, message) => {
    const { node, liar } = await victim();
    liar.say(message);
    await expectEnd(node, liarKey, code);
  });

  test('asks for the same again and again gets no more bytes than it may', async () => {
    const rate = { perSecond: 100, burst: 20_000 };
    const node = await start('victim', [first, ...records], { bytesOut: rate });
    const began = performance.now();
    const liar = await Liar.at(node.port, NETWORK);
    for (let i = 0; i < 200; i++) liar.say({ kind: 'want', ids });
    // What it may have at once, and the message that went beyond that.
    while (liar.socket.receivedBytes < rate.burst) await liar.hear();
    const one = records.map(encodeRecord).reduce((sum, { length }) => sum + length + 4, 0);
    const most = (): number =>
      rate.burst + ((performance.now() - began) * rate.perSecond) / 1000 + 2 * one + 5_000;
    const timer = setTimeout(() => liar.socket.destroy(), LONG);
    while (liar.socket.receivedBytes < most() && (await liar.hear().catch(() => undefined)) !== undefined);
    clearTimeout(timer);
    expect(liar.socket.receivedBytes).toBeLessThan(most());
  });

  test('asks little for long answers gets no more bytes than it may', async () => {
    const rate = { perSecond: 100, burst: 2_000 };
    const node = await start('victim', [first, ...records], { bytesOut: rate });
    const began = performance.now();
    const liar = await Liar.at(node.port, NETWORK);
    const ranges = new RangeWriter();
    ranges.range(END, { kind: 'fingerprint', fingerprint: new Uint8Array(16) });
    for (let i = 1; i <= 1_000; i++) liar.say({ kind: 'question', session: i, ranges: ranges.finish() });
    const most = (): number => rate.burst + ((performance.now() - began) * rate.perSecond) / 1000 + 2_000;
    const timer = setTimeout(() => liar.socket.destroy(), LONG);
    while (liar.socket.receivedBytes < most() && (await liar.hear().catch(() => undefined)) !== undefined);
    clearTimeout(timer);
    expect(liar.socket.receivedBytes).toBeLessThan(most());
  });

  test('asks what is dear to answer is answered as far as its share of the processor goes', async () => {
    const node = await start('victim', [first, ...records], { cpu: { perSecond: 0.1, burst: 1 } });
    const liar = await Liar.at(node.port, NETWORK);
    const ranges = new RangeWriter();
    for (let i = 0; ranges.length < 55_000; i++) {
      ranges.range(placeOf(NOON + i, new Uint8Array()), {
        kind: 'fingerprint',
        fingerprint: new Uint8Array(16),
      });
    }
    for (let i = 0; i < 50; i++) liar.say({ kind: 'question', session: 1, ranges: ranges.finish() });
    let answers = 0;
    const timer = setTimeout(() => liar.socket.destroy(), LONG);
    while (answers < 6 && (await liar.hearUntil('answer').catch(() => undefined)) !== undefined) answers += 1;
    clearTimeout(timer);
    expect(answers).toBeLessThan(6);
  });

  test('sends what brings nothing is read as far as its share of bytes goes', async () => {
    const rate = { perSecond: 1_000, burst: 1_000 };
    const node = await start('victim', [first, ...records], { bytesIn: rate });
    const began = performance.now();
    const liar = await Liar.at(node.port, NETWORK);
    const known = Array.from({ length: 1_000 }, () => ids[0]!);
    for (let i = 0; i < 20; i++) liar.say({ kind: 'announce', ids: known });
    const received = (): number => node.wire.peers[0]?.received.bytes ?? 0;
    await vi.waitUntil(() => received() > 300_000 || performance.now() - began > 2_000, { timeout: 60_000 });
    // The message that went beyond its share, and what it was owed meanwhile.
    const allowed = rate.burst + ((performance.now() - began) * rate.perSecond) / 1000;
    expect(received()).toBeLessThan(allowed + 33_000);
  });

  test('comes back under another key has no more to spend than before', async () => {
    const rate = { perSecond: 100, burst: 1_000 };
    const node = await start('victim', [first, ...records], { bytesIn: rate });
    const began = performance.now();
    const known = Array.from({ length: 1_000 }, () => ids[0]!);
    let received = 0;
    for (let i = 0; i < 10; i++) {
      const liar = await Liar.at(node.port, NETWORK, `liar ${i}`);
      liar.say({ kind: 'announce', ids: known });
      // Long enough for what is read at once.
      await new Promise((resolve) => setTimeout(resolve, 200));
      received += node.wire.peers.reduce((sum, peer) => sum + peer.received.bytes, 0);
      liar.reset();
      await expect.poll(() => node.wire.peers).toEqual([]);
    }
    const allowed = rate.burst + ((performance.now() - began) * rate.perSecond) / 1000;
    expect(received).toBeLessThan(allowed + 2 * 33_000);
  });

  test('opens connections and says nothing has a few of them, for a while', async () => {
    const node = await start('victim', [first], { handshakesPerAddress: 3, handshakeWithin: 2_000 });
    const silent = await Promise.all(Array.from({ length: 10 }, () => connected(node.port)));
    const closes = silent.map((socket) => {
      socket.resume();
      return once(socket, 'close');
    });
    await expect.poll(() => node.events.filter(({ code }) => code === 'WIRE_FULL')).toHaveLength(7);
    await Promise.all(closes);
    await expect.poll(() => node.events.filter(({ code }) => code === 'WIRE_HANDSHAKE_SLOW')).toHaveLength(3);
    await Liar.at(node.port, NETWORK);
    await expect.poll(() => node.wire.peers).toHaveLength(1);
  });
});
