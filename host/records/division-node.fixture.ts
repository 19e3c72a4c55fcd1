/**
 * One node of a network that is divided (division.fixture.ts), as a process in a network namespace of its own. It says a line of JSON for each line that it
 * is told: `write N`, so many records a second from now on, under names that all nodes write to; `state`.
 *
 *     node division-node.fixture.ts FOLDER NTH PORT PEER[,PEER]
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { printJson } from '../../lib/daemon/terminal.ts';
import { utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import { certify, genesisRecord } from '../../lib/protocol/records/network.fixture.ts';
import { MAX_ORDINAL, ordinalRanges } from '../../lib/protocol/records/ordinals.ts';
import { bytesOf, keysFor, NOON } from '../../lib/protocol/records/records.fixture.ts';
import { publicKeyOfSeed } from '../../lib/protocol/records/strict-ed25519.ts';
import { createRecords, LOG_FILE } from './folder.ts';
import { RecordsNode } from './node.ts';
import { Shown } from './shown.fixture.ts';
import { keyOf } from './wire/sockets.fixture.ts';
import { RecordWire } from './wire/wire.ts';

/** What a node says of itself. */
export interface NodeState {
  count: number;
  /** SHA-256 of all members' identities, in their order. */
  fingerprint: string;
  /** The same of the record that it shows first of each conflict. */
  winners: string;
  /** Conflicts of more than one owner. */
  conflicts: number;
  peers: number;
  isSynchronised: boolean;
  /** How often another record came first of a conflict, from one look to the next, and how often an older one. */
  changes: number;
  older: number;
  /** The first codes with which writing failed, and what was shown that should not be. */
  problems: string[];
}

const GENESIS = genesisRecord();
/** So many nodes are certified. */
const OWNERS = 8;
const NAMES = 8;
const OTHERS_TO_COMPARE_WITH = 4;
/** On a busy machine a comparison of five nodes takes seconds. */
const COMPARED_WITHIN_MS = 10_000;

const seedOf = (nth: number): Uint8Array => bytesOf(`owner ${nth}`);

async function main(): Promise<void> {
  const [folder, number, port, peers] = process.argv.slice(2) as [string, string, string, string];
  const nth = Number(number);
  if (!existsSync(join(folder, LOG_FILE))) createRecords(folder, encodeRecord(GENESIS));
  let wire: RecordWire | undefined;
  const node = await RecordsNode.open(folder, {
    isSynchronised: () => wire?.isSynchronised(OTHERS_TO_COMPARE_WITH, COMPARED_WITHIN_MS) ?? false,
  });
  for (let other = 0; other < OWNERS; other++) {
    const subject = publicKeyOfSeed(seedOf(other));
    const period = { notBefore: NOON, notAfter: NOON + 100 * 365 * 86_400_000 };
    const record = certify([recordId(GENESIS)], { subject, serial: BigInt(other), ...period });
    await node.add(encodeRecord(record), 'authority');
  }
  wire = new RecordWire({
    store: node,
    staticKey: keyOf(`node ${nth}`),
    limits: { interval: 700, again: 100, idle: 8_000, redial: [200, 1_000], handshakeWithin: 8_000 },
  });
  await wire.listen('0.0.0.0', Number(port));
  for (const peer of peers.split(',')) wire.dial({ host: peer, port: Number(port) });

  const problems: string[] = [];
  let written = 0;
  let writing: NodeJS.Timeout | undefined;
  const write = () => {
    written += 1;
    // Each twice: the second is the owner's newer value.
    const ordinal = Math.floor(written / 2);
    const names = [{ keys: keysFor(`name ${ordinal % NAMES}`), ordinal: BigInt(ordinal) }];
    const value = utf8(`${nth} wrote ${written}`);
    node.make({ type: 'datum', names, value }, seedOf(nth)).catch((error: unknown) => {
      if (problems.length < 5) problems.push(codeOf(error));
    });
  };
  const shown = new Shown();
  const state = (): NodeState => {
    const ids = createHash('sha256');
    for (const { id } of node.items()) ids.update(id);
    const winners = createHash('sha256');
    let conflicts = 0;
    for (let name = 0; name < NAMES; name++) {
      const { claimKey, ordinalKey } = keysFor(`name ${name}`);
      const { sets, isCut } = node.query({
        names: [{ claimKey, tags: ordinalRanges(ordinalKey, 0n, MAX_ORDINAL) }],
      });
      if (isCut) problems.push('cut');
      conflicts += sets.filter((set) => set.length > 1).length;
      shown.look(sets);
      winners.update(
        sets
          .map((set) => set[0]!.id)
          .toSorted()
          .join('\n'),
      );
    }
    return {
      count: node.count,
      fingerprint: ids.digest('hex'),
      winners: winners.digest('hex'),
      conflicts,
      peers: wire.peers.length,
      isSynchronised: wire.isSynchronised(OTHERS_TO_COMPARE_WITH, COMPARED_WITHIN_MS),
      ...shown.counts,
      problems: [...problems, ...shown.problems],
    };
  };
  printJson({ isOpen: true });
  for await (const line of createInterface({ input: process.stdin })) {
    const [what, rate] = line.split(' ');
    if (what === 'write') {
      clearInterval(writing);
      if (Number(rate) > 0) writing = setInterval(write, 1000 / Number(rate));
      printJson({ writes: Number(rate) });
    } else printJson(state());
  }
  clearInterval(writing);
  await wire.stop();
  await node.close();
}

// Its types are division.fixture.ts's too.
if (import.meta.main) await main();
