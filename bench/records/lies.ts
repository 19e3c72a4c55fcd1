/** What a peer can do that does harm: each is one connection, from its first byte to its end, and comes again with a new key as soon as that is over. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { connected, frame, Liar, optionsOf, rawInitiator } from '../../host/records/wire/sockets.fixture.ts';
import { toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import { FOUNDER, genesisRecord, idOf, SECOND, write } from '../../lib/protocol/records/network.fixture.ts';
import { NOON } from '../../lib/protocol/records/records.fixture.ts';
import { MAX_IDS } from '../../lib/protocol/records/sync/messages.ts';
import { END } from '../../lib/protocol/records/sync/places.ts';
import { RangeWriter } from '../../lib/protocol/records/sync/ranges.ts';

export interface Place {
  readonly port: number;
  readonly network: string;
  /** Of this connection alone. */
  readonly label: string;
}

const MEMBERS = 1_000;
const OFFERED = 256;
const genesis = genesisRecord();
const made = (label: string, count: number, links: readonly Uint8Array[]): DagRecord[] =>
  Array.from({ length: count }, (_, i) =>
    write(FOUNDER, { links, timestamp: NOON + (i + 1) * SECOND, value: utf8(`${label} ${i}`) }),
  );

/** What the node has. */
export const membersOfLiars = (): DagRecord[] => made('member', MEMBERS, [recordId(genesis)]);

const randomIds = (count: number): string[] => Array.from({ length: count }, () => toHex(randomBytes(32)));
const spoiled = (record: DagRecord): Uint8Array =>
  encodeRecord({ ...record, signature: record.signature.with(3, record.signature[3]! ^ 1) });
const hearForEver = async (liar: Liar): Promise<never> => {
  for (;;) await liar.hear();
};

/** Gives, of what it offered, this for each record that it is asked for. */
async function give(liar: Liar, records: readonly DagRecord[], bytesOf: (record: DagRecord) => Uint8Array[]) {
  const byId = new Map(records.map((record) => [idOf(record), record]));
  liar.say({ kind: 'announce', ids: [...byId.keys()] });
  for (;;) {
    const { ids } = await liar.hearUntil('want');
    for (const id of ids)
      for (const bytes of bytesOf(byId.get(id)!)) {
        liar.say({ kind: 'records', records: [bytes] });
        await liar.socket.taken();
      }
  }
}

const over =
  (lie: (liar: Liar) => Promise<unknown>) =>
  async ({ port, network, label }: Place): Promise<void> => {
    const liar = await Liar.at(port, network, label);
    await lie(liar).finally(() => liar.reset());
  };

export const LIES: Readonly<Record<string, readonly [what: string, lie: (place: Place) => Promise<void>]>> = {
  honest: ['says nothing wrong: what a connection costs', over(hearForEver)],
  bad: [
    'offers records, and gives them with a spoiled signature',
    over((liar) => give(liar, made('bad', OFFERED, [recordId(genesis)]), (record) => [spoiled(record)])),
  ],
  withheld: [
    'offers as many records as it may, and gives none',
    over(async (liar) => {
      for (let i = 0; i < 64; i++) liar.say({ kind: 'announce', ids: randomIds(MAX_IDS) });
      await hearForEver(liar);
    }),
  ],
  orphans: [
    'gives records, signed and paid for, that stand on what nobody has',
    over(async (liar) => {
      for (;;) {
        const records = made(`orphan ${toHex(randomBytes(8))}`, OFFERED, [randomBytes(32)]);
        await Promise.race([give(liar, records, (record) => [encodeRecord(record)]), sleep(2_000)]);
      }
    }),
  ],
  replayed: [
    'gives each record twice, and what the node has',
    over((liar) =>
      give(liar, made('twice', OFFERED, [randomBytes(32)]), (record) => {
        const bytes = encodeRecord(record);
        return [bytes, bytes];
      }),
    ),
  ],
  flood: [
    'announces without end, as fast as it is read',
    over(async (liar) => {
      const ids = randomIds(MAX_IDS);
      for (;;) {
        liar.say({ kind: 'announce', ids });
        await liar.socket.taken();
      }
    }),
  ],
  questions: [
    'compares without end, so that it is answered at length',
    over(async (liar) => {
      void hearForEver(liar).catch(() => {});
      for (let session = 1; ; session++) {
        const ranges = new RangeWriter();
        ranges.range(END, { kind: 'ids', ids: [] });
        liar.say({ kind: 'question', session, ranges: ranges.finish() });
        await liar.socket.taken();
        await sleep(0);
      }
    }),
  ],
  wants: [
    'asks for all there is, again and again, and reads nothing',
    over(async (liar) => {
      const ids = membersOfLiars().map(idOf);
      for (;;) {
        liar.say({ kind: 'want', ids });
        await liar.socket.taken();
      }
    }),
  ],
  oversized: [
    'sends a message that never ends',
    async ({ port, network, label }) => {
      const socket = await connected(port);
      const { send } = await rawInitiator(socket, optionsOf(network, label, true));
      const part = new Uint8Array(65_519).fill(1);
      while (!socket.destroyed && socket.writable)
        if (!socket.write(frame(send.seal(part))))
          await Promise.race([once(socket, 'drain'), once(socket, 'close')]);
    },
  ],
  slow: [
    'shakes hands, and sends a byte of a message each second',
    async ({ port, network, label }) => {
      const socket = await connected(port);
      await rawInitiator(socket, optionsOf(network, label, true));
      while (!socket.destroyed && socket.writable) {
        socket.write(Uint8Array.of(1));
        await sleep(1_000);
      }
    },
  ],
  handshakes: [
    'shakes hands and leaves, as often as it can',
    async ({ port, network, label }) => {
      const socket = await connected(port);
      await rawInitiator(socket, optionsOf(network, label, true)).finally(() => socket.destroy());
    },
  ],
};
