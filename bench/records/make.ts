/**
 * Makes a network's records for the benchmark: `node bench/records/make.ts FOLDER COUNT WORKED` writes `genesis`, `records` and `worked` and `apart` into the folder,
 * each record behind its length in 4 bytes, in an order in which each comes after what it stands on.
 */
import { openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { sha256, toHex, uint64, utf8 } from '../../lib/protocol/encoding.ts';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { genesisValue } from '../../lib/protocol/records/genesis.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import {
  makeRecord,
  type Permitter,
  withCertificate,
  withoutPermit,
} from '../../lib/protocol/records/make.ts';
import { type NameKeys, nameKeys } from '../../lib/protocol/records/names.ts';
import { encodeCertificate } from '../../lib/protocol/records/statements.ts';
import { publicKeyOfSeed } from '../../lib/protocol/records/strict-ed25519.ts';
import { solveWork } from '../../lib/protocol/records/work.ts';

/** Records that each of two nodes has half of. */
export const APART = 10;
export const OWNERS = 100;
export const PER_NAME = 300;
const BEGIN = Date.UTC(2026, 0, 1);
const seedOf = (label: string) => sha256(utf8(label));
const AUTHORITY = seedOf('authority');

/** Keyed, so that names take no time. */
export const keysOf = (network: Uint8Array, n: number): NameKeys =>
  nameKeys(utf8(`name ${n}`), { network, secret: seedOf('secret') });

function genesisRecord(): DagRecord {
  const rules = {
    ...{ version: 1 as const, name: 'bench', contact: '', comment: '', amendable: [], minLinks: 2 },
    ...{ maxValue: 1024, drift: 60_000, bytesPerSolution: 4096, certificateRequired: false },
    authorities: [toHex(publicKeyOfSeed(AUTHORITY))],
  };
  const draft = {
    type: 'genesis' as const,
    timestamp: BEGIN,
    links: [],
    names: [],
    value: genesisValue(rules),
  };
  return makeRecord(draft, seedOf('founder'), withoutPermit);
}

function main(): void {
  const [folder, count, worked] = process.argv.slice(2) as [string, string, string];
  const genesis = genesisRecord();
  const network = recordId(genesis);
  writeFileSync(join(folder, 'genesis'), encodeRecord(genesis));
  const tail = [network];
  const writer = (name: string) => {
    const file = openSync(join(folder, name), 'w');
    return (record: DagRecord): Uint8Array => {
      const bytes = encodeRecord(record);
      writeSync(file, Buffer.concat([uint64(bytes.length).subarray(4), bytes]));
      const id = recordId(record);
      if (tail.push(id) > 2) tail.shift();
      return id;
    };
  };
  let time = BEGIN;
  const write = writer('records');
  const certificates = Array.from({ length: OWNERS }, (_, n) => {
    const subject = publicKeyOfSeed(seedOf(`owner ${n}`));
    const value = encodeCertificate({ subject, serial: BigInt(n), notBefore: 0, notAfter: 2 ** 47 });
    const draft = { type: 'certificate' as const, timestamp: ++time, links: tail, names: [], value };
    return write(makeRecord(draft, AUTHORITY, withoutPermit));
  });
  let keys = keysOf(network, 0);
  const draftOf = (n: number) => {
    if (n % PER_NAME === 0) keys = keysOf(network, n / PER_NAME);
    const names = [{ keys, ordinal: BigInt(n % PER_NAME) }];
    const value = Buffer.concat([seedOf(`value ${n}`), seedOf(`more ${n}`)]);
    time += 1000;
    return { type: 'datum' as const, timestamp: time, links: tail, names, value };
  };
  const rest = Number(count) - OWNERS;
  for (let n = 0; n < rest; n++) {
    const permit = withCertificate(certificates[n % OWNERS]!);
    write(makeRecord(draftOf(n), seedOf(`owner ${n % OWNERS}`), permit));
  }
  const writeWorked = writer('worked');
  const work: Permitter = (seedFor) => solveWork(seedFor(1), 1);
  for (let n = rest; n < rest + Number(worked); n++)
    writeWorked(makeRecord(draftOf(n), seedOf('worker'), work));
  const writeApart = writer('apart');
  for (let n = 0; n < APART; n++) {
    // Each stands on what all have.
    const draft = { ...draftOf(rest + Number(worked) + n), links: certificates.slice(0, 2) };
    writeApart(makeRecord(draft, seedOf(`owner ${n}`), withCertificate(certificates[n]!)));
  }
}

if (import.meta.main) main();
