/** Files of apps that come by records: from several relays, part by part, with liars among them and with restarts. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findImage } from '../../lib/archives/archive.ts';
import { imageOf, layerOf, tar } from '../../lib/archives/images.fixture.ts';
import { sha256, to0x, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { appId, formatManifest, manifestHash } from '../../lib/protocol/manifest.ts';
import type { AppView } from '../../lib/protocol/network-contract.ts';
import {
  decodePart,
  decodeQuestion,
  encodePart,
  LAST_PART,
  type PartAnswer,
  type RelayQuestion,
} from '../../lib/protocol/relay-questions.ts';
import { FIRST_STATE, PART_BYTES, partsOf, stateAfter } from '../../lib/protocol/sha256-parts.ts';
import type { AskablePeer } from '../gossip/carrier.ts';
import { AppCourier, type CourierBounds } from './app-courier.ts';
import { AppFiles } from './app-files.ts';
import { RelayDesk } from './desk.ts';
import { Pieces } from './pieces.ts';

const layers = [layerOf('a'.repeat(2_200_000)), layerOf('b'), layerOf('b'), layerOf('c'.repeat(80_000))];
const { digest, items, config } = imageOf(layers);
// Tools write equal layers once.
const archive = await tar(items.filter(([name], i) => items.findIndex(([other]) => other === name) === i));
const envelope = utf8('{"sealed":"to the network"}');
const manifest = formatManifest({
  version: 2,
  app: 'greeting',
  secrets: [{ name: 'token', envelope: toHex(sha256(envelope)) }],
  containers: [{ name: 'web', image: `sha256:${digest}`, secrets: ['token'] }],
});
const hash = toHex(manifestHash(manifest));
const whole = {
  [`manifests/${hash}.json`]: manifest,
  [`secrets/${toHex(sha256(envelope))}.json`]: envelope,
  [`archives/${digest}.tar`]: archive,
};
/** Parts of all its files: a manifest, secrets, a config, and each layer once. */
const PARTS = 3 + [0, 1, 3].reduce((sum, i) => sum + partsOf(layers[i]!.length), 0);

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'dstack-by-records-'));
});
afterEach(() => rmSync(root, { recursive: true }));

function volume(name: string, files: Record<string, Uint8Array> = {}): string {
  const folder = join(root, name);
  for (const kind of ['manifests', 'archives', 'secrets']) mkdirSync(join(folder, kind), { recursive: true });
  for (const [path, bytes] of Object.entries(files)) writeFileSync(join(folder, path), bytes);
  return folder;
}

interface TestPeer extends AskablePeer {
  readonly asked: RelayQuestion[];
}

/** A relay with this volume, whose answers a test may change. */
function relay(
  name: string,
  from: string,
  change: (answer: Uint8Array, question: RelayQuestion) => Uint8Array | Promise<Uint8Array> = (answer) =>
    answer,
): TestPeer {
  const desk = new RelayDesk({
    archive: { list: () => [], part: () => undefined },
    files: new AppFiles(from),
  });
  const asked: RelayQuestion[] = [];
  return {
    peer: `records://${name}`,
    asked,
    async ask(what) {
      const question = decodeQuestion(what);
      asked.push(question);
      return await change((await desk.answer(what)) ?? new Uint8Array(), question);
    },
  };
}

function courier(
  to: string,
  peers: readonly AskablePeer[],
  bounds: Partial<CourierBounds> = {},
  named: string = hash,
) {
  const outcomes: string[] = [];
  const view: AppView = {
    app: to0x(appId('greeting')),
    manifestHash: parseHex(`0x${named}`),
    latest: parseHex(`0x${'0'.repeat(64)}`),
    from: 0n,
  };
  const one = new AppCourier({
    files: new AppFiles(to),
    peers: [],
    askable: () => peers,
    apps: async () => [view],
    metrics: { count: (_, __, labels) => outcomes.push(labels!.outcome!) },
    log: { info() {}, warn() {} },
    bounds: { spare: 0, ...bounds },
  });
  return { look: () => one.look(), stop: () => one.stop(), outcomes };
}

async function expectWhole(to: string): Promise<void> {
  for (const [path, bytes] of Object.entries(whole).slice(0, 2))
    expect(readFileSync(join(to, path)).equals(bytes)).toBe(true);
  const file = await open(join(to, `archives/${digest}.tar`));
  const { size } = await file.stat();
  const image = await findImage(file, size, digest);
  expect(Buffer.from(image.config).toString()).toBe(config);
  for (const [i, { entry }] of image.layers.entries()) {
    const bytes = Buffer.alloc(entry.size);
    await file.read(bytes, 0, entry.size, entry.offset);
    expect(bytes.equals(layers[i]!)).toBe(true);
  }
  await file.close();
  // No drafts are left.
  expect(['manifests', 'secrets', 'archives'].map((kind) => readdirSync(join(to, kind)).length)).toEqual([
    1, 1, 1,
  ]);
}

const flipped = (answer: Uint8Array, change: (part: PartAnswer) => PartAnswer): Uint8Array =>
  answer.length === 0 ? answer : encodePart(change(decodePart(answer)));
const isPart = (question: RelayQuestion): question is Extract<RelayQuestion, { kind: 'part' }> =>
  question.kind === 'part';
const bigLayer = toHex(sha256(layers[0]!));

test('all that a manifest names comes from a relay, each part once, and from that one to a third', async () => {
  const [b, c] = [volume('b'), volume('c')];
  const a = relay('a', volume('a', whole));
  const one = courier(b, [a]);
  await one.look();
  expect(one.outcomes).toEqual(['taken', 'taken', 'taken']);
  await expectWhole(b);
  expect(a.asked).toHaveLength(PARTS);
  await courier(c, [relay('b', b)]).look();
  await expectWhole(c);
  await one.look();
  expect(a.asked).toHaveLength(PARTS);
});

test('nothing is asked for but what the contract names', async () => {
  const a = relay('a', volume('a', whole));
  await courier(volume('b'), [a], {}, '0'.repeat(64)).look();
  expect(a.asked).toEqual([]);
});

test.each<[string, (part: PartAnswer) => PartAnswer]>([
  ['a byte', (part) => ({ ...part, bytes: part.bytes.map((byte, i) => (i === 7 ? byte ^ 1 : byte)) })],
  ['a state', (part) => ({ ...part, state: part.state.map((byte) => byte ^ 1) })],
  ['less', (part) => ({ ...part, bytes: part.bytes.subarray(0, 64) })],
])(
  'a liar that gives another part, by %s, costs that part: the next relay gives the rest',
  async (_, change) => {
    const a = relay('a', volume('a', whole));
    const liar = relay('liar', volume('liar', whole), (answer, question) =>
      isPart(question) && question.piece === bigLayer && question.part === 16
        ? flipped(answer, change)
        : answer,
    );
    const b = volume('b');
    const { look, outcomes } = courier(b, [liar, a]);
    await look();
    expect(outcomes).toEqual(['taken', 'taken', 'PART_MISMATCH', 'taken']);
    await expectWhole(b);
    const last = partsOf(layers[0]!.length) - 1;
    const ofLiar = liar.asked.filter(isPart).filter(({ piece }) => piece === bigLayer);
    const ofOther = a.asked.filter(isPart).filter(({ piece }) => piece === bigLayer);
    // What it gave before it lied counts; it was asked for no more than were on their way.
    expect(ofLiar.length).toBeLessThanOrEqual(last - 16 + 8);
    expect(ofOther.map(({ part }) => part)).toEqual(Array.from({ length: 17 }, (_, i) => 16 - i));
    // For an hour it is asked for nothing.
    const before = liar.asked.length;
    rmSync(join(b, `archives/${digest}.tar`));
    await look();
    expect(liar.asked).toHaveLength(before);
    await expectWhole(b);
  },
);

test('a liar about the last part, the length or what an answer is gains nothing', async () => {
  const from = volume('a', whole);
  const lies: ((answer: Uint8Array) => Uint8Array)[] = [
    (answer) => flipped(answer, (part) => ({ ...part, length: part.length + PART_BYTES })),
    (answer) => flipped(answer, (part) => ({ ...part, state: new Uint8Array(32) })),
    () => Uint8Array.of(1, 2, 3),
  ];
  const liars = lies.map((lie, i) => relay(`liar ${i}`, from, (answer) => lie(answer)));
  const b = volume('b');
  const { look, outcomes } = courier(b, [...liars, relay('a', from)]);
  await look();
  expect(outcomes.slice(0, 4)).toEqual(['PART_MISMATCH', 'PART_MISMATCH', 'RELAY_ANSWER', 'taken']);
  expect(liars.map(({ asked }) => asked.length)).toEqual([1, 1, 1]);
  await expectWhole(b);
});

test('a relay that says nothing, one that has nothing and one that goes: another is asked', async () => {
  const mute: AskablePeer = {
    peer: 'records://mute',
    ask: () => Promise.reject(new DstackError('WIRE_LATE', 'no answer')),
  };
  const gone: AskablePeer = {
    peer: 'records://gone',
    ask: () => Promise.reject(new Error('the connection')),
  };
  const b = volume('b');
  const others = [mute, relay('empty', volume('empty')), gone, relay('a', volume('a', whole))];
  const { look, outcomes } = courier(b, others);
  await look();
  expect(outcomes.filter((outcome) => outcome === 'taken')).toHaveLength(3);
  expect(outcomes).toContain('WIRE_LATE');
  await expectWhole(b);
});

test('however many ask at once for a piece that nobody has asked for, it is read once for that', async () => {
  const files = new AppFiles(volume('from', whole));
  let read = 0;
  const openFile = files.open.bind(files);
  files.open = async (kind, name) => {
    const opened = await openFile(kind, name);
    if (opened === undefined) return undefined;
    const { file } = opened;
    const counting = {
      async read(buffer: Buffer, offset: number, length: number, position: number) {
        const found = await file.read(buffer, offset, length, position);
        read += found.bytesRead;
        return found;
      },
      close: () => file.close(),
    };
    return { ...opened, file: counting as unknown as typeof file };
  };
  const pieces = new Pieces(files);
  const piece = toHex(sha256(layers[0]!));
  const asking = Array.from({ length: 16 }, () =>
    pieces.part({ of: 'archives', name: digest, piece, part: 0 }),
  );
  const parts = await Promise.all(asking);
  expect(parts.every((part) => part?.length === layers[0]!.length)).toBe(true);
  // With the part itself and the archive's index for each.
  expect(read).toBeLessThan(layers[0]!.length + 16 * (PART_BYTES + 20_000));
});

test('an answer that does not come is waited for no longer than a peer over HTTP is', async () => {
  const mute: AskablePeer = { peer: 'records://mute', ask: () => new Promise(() => {}) };
  const { look, outcomes } = courier(volume('b'), [mute], { stalledAfter: 50 });
  await look();
  expect(outcomes).toEqual(['APP_FILE_SLOW']);
});

test('after a restart it goes on with the part that it had come to, at whichever relay', async () => {
  const b = volume('b');
  let left = 20;
  const flaky = relay('flaky', volume('a', whole), (answer, question) => {
    if (isPart(question) && question.piece === bigLayer && --left < 0) throw new Error('the power');
    return answer;
  });
  await courier(b, [flaky]).look();
  expect(existsSync(join(b, `archives/${digest}.tar`))).toBe(false);
  // Another process, and another relay.
  const other = relay('other', join(root, 'a'));
  const second = courier(b, [other]);
  await second.look();
  expect(second.outcomes).toEqual(['taken']);
  await expectWhole(b);
  const asked = other.asked.filter(isPart).filter(({ piece }) => piece === bigLayer);
  expect(asked).toHaveLength(partsOf(layers[0]!.length) - 20);
  expect(asked.some(({ part }) => part === LAST_PART)).toBe(false);
});

test('what a disk lost of a draft is found in the whole, nobody is blamed, and all of it comes again', async () => {
  const b = volume('b');
  let left = 20;
  const a = relay('a', volume('a', whole), (answer, question) => {
    if (isPart(question) && question.piece === bigLayer && --left === -1) throw new Error('the power');
    return answer;
  });
  await courier(b, [a]).look();
  const name = readdirSync(join(b, 'archives')).find((one) => one.endsWith('.part'))!;
  const file = openSync(join(b, 'archives', name), 'r+');
  writeSync(file, 'lost', 2_100_000);
  const second = courier(b, [a, relay('second', join(root, 'a'))]);
  await second.look();
  expect(second.outcomes).toEqual(['APP_FILE_DRAFT', 'taken']);
  await expectWhole(b);
});

test('an image that is larger than any may be is refused at its first part, whoever has it', async () => {
  const large = utf8(JSON.stringify({ comment: 'x'.repeat(1_200_000) }));
  const name = toHex(sha256(large));
  const named = formatManifest({
    version: 1,
    app: 'greeting',
    containers: [{ name: 'web', image: `sha256:${name}` }],
  });
  const from = volume('a', { [`manifests/${toHex(manifestHash(named))}.json`]: named });
  const last = partsOf(large.length) - 1;
  let state: Uint8Array = FIRST_STATE;
  for (let i = 0; i < last; i += 1)
    state = stateAfter(state, large.subarray(i * PART_BYTES, (i + 1) * PART_BYTES));
  const bytes = large.subarray(last * PART_BYTES);
  const peers = ['one', 'other'].map((label) =>
    relay(label, from, (answer, question) =>
      isPart(question) && question.piece === name
        ? encodePart({ length: large.length, state, bytes })
        : answer,
    ),
  );
  const { look, outcomes } = courier(volume('b'), peers, {}, toHex(manifestHash(named)));
  await look();
  await look();
  expect(outcomes).toEqual(['taken', 'APP_FILE_TOO_LARGE']);
  expect(peers.flatMap(({ asked }) => asked)).toHaveLength(2);
});
