/**
 * The firmware as the image ships it: for production the TDX build of OVMF (TDVF), for the other flavours SeaBIOS.
 *
 * Debian's TDVF has Microsoft's secure boot keys enrolled, and would therefore refuse Debian's kernel without a shim. Here the
 * measurement decides what may run, not these keys: the image's copy has an empty variable store, as OVMF has before any
 * keys are enrolled. The store is measured (RTMR0); the code is Debian's, byte for byte (MRTD).
 */
import { existsSync } from 'node:fs';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseTdvf } from '../../lib/attestation/tdx/tdvf.ts';
import { variableArea } from '../../lib/attestation/tdx/variables.ts';
import { seabiosPath } from '../../lib/daemon/tool-root.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';

const tdvfPath = 'usr/share/ovmf/OVMF.inteltdx.ms.fd';
const ERASED = 0xff;

/** Puts the firmware of `flavour` at `output`; `firmwareRoot` is the unpacked root of that name. */
export async function installFirmware(firmwareRoot: string, flavour: Flavour, output: string): Promise<void> {
  if (flavour !== 'production') {
    await copyFile(seabiosPath(), output);
    return;
  }
  const file = join(firmwareRoot, tdvfPath);
  if (!existsSync(file)) throw new DstackError('FILE_MISSING', `no locked package holds ${tdvfPath}`);
  await writeFile(output, withoutVariables(await readFile(file)));
}

/**
 * The same firmware with an erased variable store.
 * @throws DstackError TDVF_INVALID when it is not a TDVF with a configuration volume.
 */
export function withoutVariables(firmware: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(firmware);
  const volume = parseTdvf(copy).find(({ kind }) => kind === 'cfv')?.data;
  if (volume === undefined) throw new DstackError('TDVF_INVALID', 'the firmware has no configuration volume');
  const [start, end] = variableArea(volume);
  volume.fill(ERASED, start, end);
  return copy;
}
