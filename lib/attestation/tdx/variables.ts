/**
 * UEFI's variables as the firmware's configuration volume (CFV) holds them. Source: edk2,
 * MdeModulePkg/Include/Guid/VariableFormat.h (VARIABLE_STORE_HEADER, AUTHENTICATED_VARIABLE_HEADER); the volume's header is
 * in the UEFI Platform Initialization specification, volume 3.
 */
import { alignUp } from '../../protocol/encoding.ts';
import { DstackError } from '../../protocol/errors.ts';
import { guidBytes } from './tdvf.ts';

export const GLOBAL_VARIABLE = '8be4df61-93ca-11d2-aa0d-00e098032b8c';
export const IMAGE_SECURITY_DATABASE = 'd719b2cb-3d3a-4596-a3bc-dad00e67656f';
const SECURE_BOOT_ENABLE = 'f0a30bc7-af08-4556-99c4-001009c93a44';
const AUTHENTICATED_STORE = 'aaf32c78-947b-439a-a180-2e144ec37792';
const STORE_HEADER_BYTES = 28;
const VARIABLE_HEADER_BYTES = 60;
const VARIABLE_START = 0x55aa;
/** Written whole, and not deleted since. */
const STATE_ADDED = 0x3f;

/** One variable's value by `guid/name`. */
export type Variables = ReadonlyMap<string, Uint8Array>;

/** Where in the volume the store's variables are: from, to. */
export function variableArea(volume: Uint8Array): readonly [number, number] {
  const view = new DataView(volume.buffer, volume.byteOffset, volume.byteLength);
  if (volume.length < 0x60 || Buffer.from(volume.subarray(40, 44)).toString('latin1') !== '_FVH') {
    throw invalid('it does not begin with a volume header');
  }
  const store = view.getUint16(48, true);
  if (store + STORE_HEADER_BYTES > volume.length) throw invalid('its store lies outside of it');
  if (!Buffer.from(volume.subarray(store, store + 16)).equals(guidBytes(AUTHENTICATED_STORE))) {
    throw invalid('its store is not of authenticated variables');
  }
  const end = store + view.getUint32(store + 16, true);
  if (end > volume.length || end < store + STORE_HEADER_BYTES) throw invalid('its store is longer than it');
  return [store + STORE_HEADER_BYTES, end];
}

/** @throws DstackError TDVF_INVALID when the volume is not well-formed. */
export function readVariables(volume: Uint8Array): Variables {
  const [start, end] = variableArea(volume);
  const view = new DataView(volume.buffer, volume.byteOffset, volume.byteLength);
  const variables = new Map<string, Uint8Array>();
  let at = start;
  while (at + VARIABLE_HEADER_BYTES <= end && view.getUint16(at, true) === VARIABLE_START) {
    const nameBytes = view.getUint32(at + 36, true);
    const dataBytes = view.getUint32(at + 40, true);
    const name = at + VARIABLE_HEADER_BYTES;
    if (name + nameBytes + dataBytes > end) throw invalid('a variable is longer than its store');
    if (volume[at + 2] === STATE_ADDED) {
      const vendor = Buffer.from(volume.subarray(at + 44, at + 60)).toString('hex');
      const text = Buffer.from(volume.subarray(name, name + nameBytes))
        .toString('utf16le')
        .replace(/\0$/, '');
      variables.set(`${vendor}/${text}`, volume.subarray(name + nameBytes, name + nameBytes + dataBytes));
    }
    at = alignUp(name + nameBytes + dataBytes, 4);
  }
  return variables;
}

export function variableOf(variables: Variables, vendor: string, name: string): Uint8Array | undefined {
  return variables.get(`${Buffer.from(guidBytes(vendor)).toString('hex')}/${name}`);
}

/**
 * The value of `SecureBoot`, which the firmware itself sets at each start: 1 when there is a platform key and secure boot
 * was not switched off (edk2, SecurityPkg/Library/AuthVariableLib).
 */
export function secureBootOf(variables: Variables): Uint8Array {
  const hasKey = (variableOf(variables, GLOBAL_VARIABLE, 'PK')?.length ?? 0) > 0;
  const enabled = variableOf(variables, SECURE_BOOT_ENABLE, 'SecureBootEnable')?.[0] !== 0;
  return new Uint8Array([hasKey && enabled ? 1 : 0]);
}

function invalid(why: string): DstackError {
  return new DstackError('TDVF_INVALID', `the firmware's configuration volume cannot be read: ${why}`);
}
