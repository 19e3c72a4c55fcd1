/** TDATTRIBUTES: what the host may do to this TD. Source: Intel TDX Module ABI specification, ATTRIBUTES definition. */
import { toHex } from '../../protocol/encoding.ts';
import { type AttestationCode, AttestationError } from '../errors.ts';

/** The bits of the 64 that have a name, and which refusal they lead to. */
const BITS = {
  septVeDisable: 28,
  migratable: 29,
  pks: 30,
  keyLocker: 31,
  perfmon: 63,
} as const;

/** DEBUG, HGS_PLUS_PROF, PERF_PROF and PMT_PROF: the TUD group's bits that have a name. */
const TUD_BITS = [0, 4, 5, 6] as const;
/** ICSSD, LASS and TPA: they change what the guest may do for itself, not what the host may do to it. */
const HARMLESS_BITS = [16, 27, 62] as const;
const KNOWN_BITS: ReadonlySet<number> = new Set([...Object.values(BITS), ...TUD_BITS, ...HARMLESS_BITS]);

/** What a relying party accepts. All false is the strictest. */
export interface AllowedTdAttributes {
  /** The TUD group, DEBUG first: the host reads and writes the TD's memory, or profiles it. */
  readonly debug: boolean;
  /** A TD whose guest can be made to take #VE on a page that the host took away: unsafe for Linux. */
  readonly septVeEnabled: boolean;
  /** The memory of such a TD can go wherever a migration TD sends it, and that one is not in our measurement. */
  readonly migratable: boolean;
  readonly pks: boolean;
  readonly keyLocker: boolean;
  readonly perfmon: boolean;
  /** 8 bytes, as TDATTRIBUTES: bits without a name, of any group, that are accepted anyway. */
  readonly reserved: Uint8Array;
}

export const NO_TD_ATTRIBUTES: Uint8Array = new Uint8Array(8);

export const STRICT_TD_ATTRIBUTES: AllowedTdAttributes = {
  debug: false,
  septVeEnabled: false,
  migratable: false,
  pks: false,
  keyLocker: false,
  perfmon: false,
  reserved: NO_TD_ATTRIBUTES,
};

/** True when any bit of the TUD group (byte 0) is set: such a TD is not protected. `attributes` are 8 bytes. */
export function isDebug(attributes: Uint8Array): boolean {
  return attributes[0] !== 0;
}

/**
 * Refuses a TD whose attributes are not among the allowed ones.
 * @throws AttestationError TD_RESERVED, TD_DEBUG, TD_SEPT_VE, TD_MIGRATABLE, TD_PKS, TD_KEY_LOCKER or TD_PERFMON
 */
export function requireTdAttributes(attributes: Uint8Array, allowed: AllowedTdAttributes): void {
  requireNoReserved(attributes, allowed.reserved);
  const refuse = (code: AttestationCode, what: string) => {
    throw refusal(code, what, attributes);
  };
  if (isDebug(attributes) && !allowed.debug) refuse('TD_DEBUG', 'runs in debug or profiling mode');
  if (!bit(attributes, BITS.septVeDisable) && !allowed.septVeEnabled) {
    refuse('TD_SEPT_VE', 'runs without SEPT_VE_DISABLE');
  }
  if (bit(attributes, BITS.migratable) && !allowed.migratable)
    refuse('TD_MIGRATABLE', 'may be migrated by its host');
  if (bit(attributes, BITS.pks) && !allowed.pks) refuse('TD_PKS', 'uses supervisor protection keys');
  if (bit(attributes, BITS.keyLocker) && !allowed.keyLocker) refuse('TD_KEY_LOCKER', 'uses Key Locker');
  if (bit(attributes, BITS.perfmon) && !allowed.perfmon) refuse('TD_PERFMON', 'uses performance monitoring');
}

/**
 * Refuses a bit that has no name and is not in the mask `allowed` (8 bytes). In all three groups such bits are zero on every
 * module of today: one that is set means something that this verifier cannot judge. In the TUD group the mask is not
 * enough: there `debug` has to be allowed too.
 * @throws AttestationError TD_RESERVED
 */
export function requireNoReserved(attributes: Uint8Array, allowed: Uint8Array = NO_TD_ATTRIBUTES): void {
  const open = reservedBits(attributes).find((index) => !bit(allowed, index));
  if (open !== undefined)
    throw refusal('TD_RESERVED', `has attribute bit ${open}, which has no name`, attributes);
}

/** The names of what is set, for people. */
export function tdAttributeNames(attributes: Uint8Array): string[] {
  const named = Object.entries(BITS).filter(([, index]) => bit(attributes, index));
  const reserved = reservedBits(attributes).map((index) => `reserved ${index}`);
  return [...(isDebug(attributes) ? ['debug'] : []), ...named.map(([name]) => name), ...reserved];
}

/** The bits that are set and have no name. */
function reservedBits(attributes: Uint8Array): number[] {
  return Array.from({ length: 64 }, (_, index) => index).filter(
    (index) => bit(attributes, index) && !KNOWN_BITS.has(index),
  );
}

function refusal(code: AttestationCode, what: string, attributes: Uint8Array): AttestationError {
  return new AttestationError(code, `the TD ${what} (TDATTRIBUTES ${toHex(attributes)})`);
}

function bit(attributes: Uint8Array, index: number): boolean {
  return (((attributes[index >> 3] ?? 0xff) >> (index & 7)) & 1) === 1;
}
