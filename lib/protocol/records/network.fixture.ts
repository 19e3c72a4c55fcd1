/** A small network for tests: who is who, its genesis, and a store of its members in memory. */
import { toHex, utf8 } from '../encoding.ts';
import { encodeRecord } from './codec.ts';
import type { DagRecord } from './format.ts';
import { type Genesis, type GenesisRules, genesisOf, genesisValue } from './genesis.ts';
import { recordId } from './identity.ts';
import type { Member, Members } from './intake.ts';
import { type Draft, makeRecord, type Permitter, withoutPermit } from './make.ts';
import type { MemberFacts } from './membership.ts';
import { bytesOf, NOON } from './records.fixture.ts';
import { type Certificate, encodeCertificate } from './statements.ts';
import { publicKeyOfSeed } from './strict-ed25519.ts';

/** Seeds. */
export const FOUNDER = bytesOf('founder');
export const AUTHORITY = bytesOf('authority');
export const ALICE = bytesOf('alice');
export const MALLORY = bytesOf('mallory');

export const SECOND = 1000;
export const DRIFT = 60 * SECOND;
export const NOW = NOON + 3600 * SECOND;

export const rulesOf = (change: Partial<GenesisRules> = {}): GenesisRules => ({
  version: 1,
  name: 'test',
  contact: '',
  comment: '',
  amendable: ['contact'],
  minLinks: 2,
  maxValue: 1024,
  drift: DRIFT,
  bytesPerSolution: 4096,
  authorities: [toHex(publicKeyOfSeed(AUTHORITY))],
  certificateRequired: false,
  ...change,
});

export const write = (
  owner: Uint8Array,
  change: Partial<Draft>,
  permitter: Permitter = withoutPermit,
): DagRecord =>
  makeRecord(
    { type: 'datum', timestamp: NOON, links: [], names: [], value: utf8('x'), ...change },
    owner,
    permitter,
  );

export const genesisRecord = (change: Partial<GenesisRules> = {}): DagRecord =>
  write(FOUNDER, { type: 'genesis', value: genesisValue(rulesOf(change)) });

export const networkOf = (change: Partial<GenesisRules> = {}): Genesis => genesisOf(genesisRecord(change));

export const certify = (links: readonly Uint8Array[], change: Partial<Certificate> = {}): DagRecord =>
  write(AUTHORITY, {
    type: 'certificate',
    links,
    timestamp: NOON + 2 * SECOND,
    value: encodeCertificate({
      subject: publicKeyOfSeed(ALICE),
      serial: 1n,
      notBefore: NOON,
      notAfter: NOON + 1800 * SECOND,
      ...change,
    }),
  });

export const idOf = (record: DagRecord): string => toHex(recordId(record));
export const bytesIn = encodeRecord;

export class MemoryMembers implements Members {
  readonly all = new Map<string, Member>();
  factsOf = (id: string): MemberFacts | undefined => this.all.get(id)?.facts;
  add(member: Member): void {
    if (this.all.has(member.id)) throw new Error(`${member.id} twice`);
    this.all.set(member.id, member);
  }
  lacksValue(id: string): boolean {
    return this.all.get(id)!.record.value.kind === 'pruned';
  }
  restore(id: string, record: DagRecord, bytes: Uint8Array): void {
    this.all.set(id, { ...this.all.get(id)!, record, bytes });
  }
  get ids(): string[] {
    return [...this.all.keys()].toSorted();
  }
}
