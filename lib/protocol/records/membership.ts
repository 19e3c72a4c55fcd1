/**
 * What belongs to a network: a function of the record, of what it stands on (links and certificate, and theirs) and of genesis, and
 * of nothing else. No clock, no order of arrival, no revocation: so nodes that have the same records have the same members. A node's own
 * clock only defers what says that it is of the future (`isEarly`); an expired certificate is judged at the record's own
 * timestamp; a revocation changes trust.
 *
 * The checks are in two parts, in the order of what they cost: of the record alone (`verifyAlone`: rules, work, signatures), then of what it
 * stands on (`verifyAncestry`), which may have to be waited for.
 */
import { toHex } from '../encoding.ts';
import { DstackError } from '../errors.ts';
import { type DagRecord, valueLength } from './format.ts';
import { amendmentOf, type Genesis, isFirst } from './genesis.ts';
import { recordId } from './identity.ts';
import { verifySignatures } from './signatures.ts';
import { type Certificate, decodeCertificate, decodeCommentary, decodeRevocation } from './statements.ts';
import { billableBytes, priceOf, verifyWork, type WorkPermit } from './work.ts';

/** What of a member its successors are judged by. A store has to keep no more for this. */
export interface MemberFacts {
  /** The latest timestamp of it and of all that it stands on, in milliseconds since 1970. */
  readonly newest: number;
  /** Of a certificate only. */
  readonly certificate?: Certificate;
}

/** The facts of a member, by its identity in hex; undefined for what is no member, or not yet. */
export type FactsOf = (id: string) => MemberFacts | undefined;

/**
 * Checks all that the record alone shows; returns its identity.
 * @throws RECORD_GENESIS, RECORD_AMENDMENT, RECORD_LINKS, RECORD_VALUE, RECORD_PERMIT, RECORD_PRICE, RECORD_WORK, RECORD_AUTHORITY, those of
 *   statements.ts and of signatures.ts
 */
export function verifyAlone(record: DagRecord, genesis: Genesis): Uint8Array {
  if (isFirst(record)) return requireThisGenesis(record, genesis);
  requireLinks(record, genesis);
  if (valueLength(record.value) > genesis.rules.maxValue) {
    throw new DstackError(
      'RECORD_VALUE',
      `values of this network have up to ${genesis.rules.maxValue} bytes, not ${valueLength(record.value)}; split it`,
    );
  }
  requireStatement(record, genesis);
  requirePermit(record, genesis);
  return verifySignatures(record);
}

/** What a record stands on: links and, if it names one, its certificate. Each once, in hex. */
export function dependenciesOf({ links, permit }: Pick<DagRecord, 'links' | 'permit'>): string[] {
  const certificate = permit.kind === 'certificate' ? [permit.certificate] : [];
  return [...new Set([...links, ...certificate].map(toHex))];
}

/**
 * Which of its dependencies are no members (yet); with none, the record is judged by them, and is a member unless this throws.
 * @throws RECORD_BACKDATED; RECORD_CERTIFICATE when what it names certifies no such record
 */
export function verifyAncestry(record: DagRecord, genesis: Genesis, factsOf: FactsOf): string[] {
  const found = dependenciesOf(record).map((id) => ({ id, facts: factsOf(id) }));
  const missing = found.filter(({ facts }) => facts === undefined).map(({ id }) => id);
  if (missing.length > 0) return missing;
  // Of all ancestors and not of the links alone: else a chain of records could go back by the drift with each.
  const newest = Math.max(...found.map(({ facts }) => facts!.newest));
  if (record.timestamp < newest - genesis.rules.drift) {
    throw new DstackError(
      'RECORD_BACKDATED',
      `it says ${record.timestamp}, but stands on a record of ${newest}; its maker has to set its clock`,
    );
  }
  if (record.permit.kind === 'certificate') {
    requireCertified(record, factsOf(toHex(record.permit.certificate))!.certificate);
  }
  return [];
}

/** What successors need of a record that is a member, as are its dependencies. */
export function factsOfMember(record: DagRecord, factsOf: FactsOf): MemberFacts {
  const { timestamp, type, value } = record;
  const newest = Math.max(timestamp, ...dependenciesOf(record).map((id) => factsOf(id)!.newest));
  if (type !== 'certificate' || value.kind !== 'whole') return { newest };
  return { newest, certificate: decodeCertificate(value.bytes) };
}

/** Whether it says that it is of the future, so has to wait, but is not refused. @param now milliseconds since 1970 */
export function isEarly(record: DagRecord, genesis: Genesis, now: number): boolean {
  return record.timestamp > now + genesis.rules.drift;
}

function requireThisGenesis(record: DagRecord, genesis: Genesis): Uint8Array {
  if (toHex(recordId(record)) !== toHex(genesis.id)) {
    throw new DstackError(
      'RECORD_GENESIS',
      'this record begins another network; send it to nodes of that one',
    );
  }
  return verifySignatures(record);
}

function requireLinks(record: DagRecord, genesis: Genesis): void {
  const least = isPrivileged(record, genesis) ? 1 : genesis.rules.minLinks;
  if (record.links.length < least) {
    throw new DstackError(
      'RECORD_LINKS',
      `it links to ${record.links.length} records; this network asks for ${least}`,
    );
  }
}

/** Genesis' owner and the authorities: who could let anybody in needs no permit itself. */
function isPrivileged({ owner }: DagRecord, genesis: Genesis): boolean {
  return isAuthority(owner, genesis) || toHex(owner) === toHex(genesis.owner);
}

function isAuthority(owner: Uint8Array, { rules }: Genesis): boolean {
  const key = toHex(owner);
  return rules.authorities.includes(key);
}

/** That whoever says it may, in a form that nodes read. */
function requireStatement(record: DagRecord, genesis: Genesis): void {
  const { type, value, owner } = record;
  // A datum is for its readers only; the others are always whole (format.ts).
  if (type === 'datum' || value.kind !== 'whole') return;
  if (type === 'commentary') {
    decodeCommentary(value.bytes);
  } else if (type === 'genesis') {
    if (toHex(owner) !== toHex(genesis.owner)) {
      throw new DstackError('RECORD_AUTHORITY', 'only the owner of genesis amends what it says');
    }
    amendmentOf(record, genesis.rules);
  } else {
    if (!isAuthority(owner, genesis)) {
      throw new DstackError('RECORD_AUTHORITY', `a ${type} is by one of the authorities that genesis names`);
    }
    if (type === 'certificate') decodeCertificate(value.bytes);
    else decodeRevocation(value.bytes);
  }
}

function requirePermit(record: DagRecord, genesis: Genesis): void {
  const { permit } = record;
  if (permit.kind === 'none' && !isPrivileged(record, genesis)) {
    throw new DstackError(
      'RECORD_PERMIT',
      'it has neither work nor a certificate; do the work, or get certified',
    );
  }
  if (permit.kind === 'work') requireWork(record, permit, genesis);
}

function requireWork(record: DagRecord, permit: WorkPermit, { rules }: Genesis): void {
  if (rules.certificateRequired) {
    throw new DstackError(
      'RECORD_PERMIT',
      'work lets nobody into this network; get certified by an authority',
    );
  }
  const price = priceOf(billableBytes(record), rules.bytesPerSolution);
  if (permit.difficulty < price) {
    throw new DstackError(
      'RECORD_PRICE',
      `its size costs work of difficulty ${price}, not ${permit.difficulty}`,
    );
  }
  verifyWork(record, permit);
}

function requireCertified({ owner, timestamp }: DagRecord, certificate: Certificate | undefined): void {
  if (certificate === undefined) {
    throw new DstackError(
      'RECORD_CERTIFICATE',
      'what it names as its certificate is a record of another type',
    );
  }
  if (toHex(certificate.subject) !== toHex(owner)) {
    throw new DstackError('RECORD_CERTIFICATE', 'its certificate is another owner’s; name your own');
  }
  const { notBefore, notAfter } = certificate;
  if (timestamp < notBefore || timestamp > notAfter) {
    throw new DstackError(
      'RECORD_CERTIFICATE',
      `it is of ${timestamp}, its certificate of ${notBefore} to ${notAfter}; ask for a new one`,
    );
  }
}
