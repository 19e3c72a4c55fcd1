/** TDATTRIBUTES: what the host may do to this TD. Source: Intel TDX Module ABI specification, ATTRIBUTES definition. */
import { toHex } from '../protocol/encoding.ts';
import { AttestationError } from './errors.ts';

/** The bits of the 64 that have a name, and which refusal they lead to. */
const BITS = {
  septVeDisable: 28,
  migratable: 29,
  pks: 30,
  keyLocker: 31,
  perfmon: 63,
} as const;

/** ICSSD, LASS and TPA: they change what the guest may do for itself, not what the host may do to it. */
const HARMLESS_BITS = [16, 27, 62] as const;

/** What a relying party puts up with. All false is the strict reading. */
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
}

export const STRICT_TD_ATTRIBUTES: AllowedTdAttributes = {
  debug: false,
  septVeEnabled: false,
  migratable: false,
  pks: false,
  keyLocker: false,
  perfmon: false,
};

/** True when any bit of the TUD group (byte 0) is set: such a TD is not protected. `attributes` are 8 bytes. */
export function isDebug(attributes: Uint8Array): boolean {
  return attributes[0] !== 0;
}

/**
 * Refuses a TD whose attributes are not among the allowed ones. Reserved bits are refused always.
 * @throws AttestationError TD_DEBUG, TD_SEPT_VE, TD_MIGRATABLE, TD_PKS, TD_KEY_LOCKER, TD_PERFMON or TD_RESERVED
 */
export function requireTdAttributes(attributes: Uint8Array, allowed: AllowedTdAttributes): void {
  const shown = `(TDATTRIBUTES ${toHex(attributes)})`;
  const refuse = (code: ConstructorParameters<typeof AttestationError>[0], what: string) => {
    throw new AttestationError(code, `the TD ${what} ${shown}`);
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
  const known: readonly number[] = [...Object.values(BITS), ...HARMLESS_BITS];
  for (let index = 8; index < 64; index++) {
    if (bit(attributes, index) && !known.includes(index))
      refuse('TD_RESERVED', `has attribute ${index}, which nobody knows`);
  }
}

/** The names of what is set, for people. */
export function tdAttributeNames(attributes: Uint8Array): string[] {
  const named = Object.entries(BITS).filter(([, index]) => bit(attributes, index));
  return [...(isDebug(attributes) ? ['debug'] : []), ...named.map(([name]) => name)];
}

function bit(attributes: Uint8Array, index: number): boolean {
  return (((attributes[index >> 3] ?? 0xff) >> (index & 7)) & 1) === 1;
}
