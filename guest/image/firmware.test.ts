import { expect, it } from 'vitest';
import { mrtdOf } from '../../lib/attestation/tdx/mrtd.ts';
import { parseTdvf } from '../../lib/attestation/tdx/tdvf.ts';
import { testFirmware, testVolume, usualSections } from '../../lib/attestation/tdx/testing.ts';
import { GLOBAL_VARIABLE, readVariables, secureBootOf } from '../../lib/attestation/tdx/variables.ts';
import { withoutVariables } from './firmware.ts';

it('the firmware without its variables is an empty store with the same code', () => {
  const enrolled = testFirmware(usualSections(testVolume([[GLOBAL_VARIABLE, 'PK', new Uint8Array(9)]])));
  const erased = withoutVariables(enrolled);
  const volume = (firmware: Uint8Array) => parseTdvf(firmware).find(({ kind }) => kind === 'cfv')!.data;
  expect([...secureBootOf(readVariables(volume(enrolled)))]).toEqual([1]);
  expect([...secureBootOf(readVariables(volume(erased)))]).toEqual([0]);
  expect(readVariables(volume(erased)).size).toBe(0);
  expect([...volume(erased)]).toEqual([...testVolume([])]);
  expect(mrtdOf(parseTdvf(erased))).toEqual(mrtdOf(parseTdvf(enrolled)));
  expect(erased).not.toEqual(new Uint8Array(enrolled));
});
