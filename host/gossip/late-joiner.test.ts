/** A relay that joins while much is going on gets all that is live, whichever it hears of first: the messages, or the chain. */
import { afterEach, expect, test } from 'vitest';
import { parseHex } from '../../lib/protocol/hex.ts';
import { requestKind } from '../relay/kinds/request.ts';
import { someAnswer, someKinds, someRequest } from './gossip.fixture.ts';
import { type MeshHost, newMesh, spread } from './mesh.fixture.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const LIVE = 200;
const requests = Array.from({ length: LIVE }, (_, n) => someRequest(n + 1));
const subjects = requests.map(requestKind.subjectOf);

/** A relay that has been there all along, and one that has not been started. */
async function pair(): Promise<[MeshHost, MeshHost]> {
  const mesh = await newMesh({
    relays: 2,
    kinds: someKinds(),
    peersOf: (nth) => (nth === 0 ? [] : [0]),
    carrier: { askMs: 60_000 },
  });
  cleanups.push(() => mesh.close());
  const [old, late] = mesh.hosts as [MeshHost, MeshHost];
  for (const [n, request] of requests.entries()) {
    await old.gossip.publish(request);
    old.gossip.messages.keep(subjects[n]!, 1000);
  }
  old.gossip.start();
  return [old, late];
}

const heldBy = ({ gossip }: MeshHost): number => gossip.messages.subjects(requestKind).size;

async function until(holds: () => boolean, seen: () => unknown): Promise<void> {
  for (const deadline = Date.now() + 60_000; !holds(); ) {
    if (Date.now() > deadline)
      throw new Error(`waited 60000 ms in vain for more than ${JSON.stringify(seen())}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('it knows from the chain what to keep before the messages come', async () => {
  const [, late] = await pair();
  for (const subject of subjects) late.gossip.messages.keep(subject, 1000);
  late.gossip.start();
  await until(
    () => heldBy(late) === LIVE,
    () => heldBy(late),
  );
  expect(late.gossip.messages.count()).toEqual({ loose: 0, kept: LIVE });
}, 120_000);

test('the messages come first and most make room: what the chain then names is fetched again, by id', async () => {
  const [, late] = await pair();
  late.gossip.start();
  await spread([late], LIVE, 100_000);
  expect(heldBy(late)).toBe(64);
  for (const subject of subjects) {
    late.gossip.messages.keep(subject, 1000);
    if (late.gossip.messages.about(requestKind, subject).length === 0)
      late.gossip.messages.seek(subject, 1000);
  }
  await until(
    () => heldBy(late) === LIVE,
    () => heldBy(late),
  );
  expect(late.gossip.messages.sought.all()).toEqual([]);
}, 120_000);

test('what was announced when it was away, or too much to hear, is found by its subject too', async () => {
  const [old, late] = await pair();
  late.gossip.start();
  await spread([late], LIVE, 100_000);
  const subject = 'ab'.repeat(32);
  // Not heard of in any other way: its place in the old one's log is one that was read.
  late.gossip.messages.keep(subject, 1000);
  const answer = someAnswer(parseHex(subject));
  await old.gossip.publish(answer);
  await spread([late], LIVE + 1, 100_000);
  late.gossip.messages.forget(subject);
  late.gossip.messages.seek(subject, 1000);
  await until(
    () => late.gossip.idsAbout(subject).length === 1,
    () => late.gossip.messages.sought.all(),
  );
}, 120_000);
