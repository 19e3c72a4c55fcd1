/**
 * Against what others computed: event logs of TDs on hardware, and of edk2 2026.08 with the EFI stub of Linux 7.2 (its log
 * is a TPM's; the hashed bytes are the same). testdata/measurement/README.md says where each comes from.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { sha384, toHex, utf8 } from '../../protocol/encoding.ts';
import { codeOf } from '../../protocol/errors.ts';
import { parseQuote } from '../quote/quote.ts';
import { parseFirmwareLog, replayFirmwareLog } from '../registers/firmware-log.ts';
import { extendRegister, zeroRegister } from '../registers/rtmr.ts';
import { type BootEvent, loadOptions, machineEvents, stubEvents } from './boot-events.ts';
import { tablesFromEventLog } from './machine-tables.ts';
import { tdHob } from './td-hob.ts';
import { parseTdvf } from './tdvf.ts';
import { testFirmware } from './testing.ts';
import { readVariables } from './variables.ts';

const root = join(import.meta.dirname, '../../../testdata');
const data = (name: string) => readFileSync(join(root, 'measurement', name));

interface Recorded {
  readonly events: readonly {
    readonly register: string;
    readonly pcr: number;
    readonly type: number;
    readonly digest: string;
    readonly data: string;
  }[];
  readonly registers: Readonly<Record<string, string>>;
  readonly memoryMiB: number;
  readonly commandLine: string;
}
const hardware = JSON.parse(data('hardware-64gib.json').toString()) as Recorded;
const vtpm = JSON.parse(data('ovmf-2026.08-vtpm.json').toString()) as Recorded;

/** OVMF's TDX builds all have these sections of memory; their sizes are in the test's firmware. */
const sections = parseTdvf(testFirmware());

const log = (name: string) => parseFirmwareLog(new Uint8Array(data(name)));

function digestOf(events: readonly BootEvent[], name: string): string {
  const found = events.find((event) => event.name === name)?.digest;
  return found === undefined ? `no event ${name}` : toHex(found);
}

describe('event logs of hardware', () => {
  it('replay to the registers of their quotes', () => {
    for (const register of ['rtmr0', 'rtmr1', 'rtmr2']) {
      const value = hardware.events
        .filter((event) => event.register === register)
        .reduce((before, { digest }) => extendRegister(before, Buffer.from(digest, 'hex')), zeroRegister());
      expect(toHex(value)).toBe(hardware.registers[register]);
    }
    const quote = parseQuote(
      new Uint8Array(readFileSync(join(root, 'attestation/quotes/tdx-v4-00806f050000-c6291192-teepot.bin'))),
    );
    expect(quote.body.kind).not.toBe('sgx');
    if (quote.body.kind === 'sgx') return;
    expect(toHex(replayFirmwareLog(log('ccel-gcp.bin')).rtmr0)).toBe(toHex(quote.body.rtmr0));
  });

  it('replay to the registers that another implementation computes', () => {
    // confidential-containers/trustee, deps/eventlog, for the same log.
    expect(toHex(replayFirmwareLog(log('ccel-2gib.bin')).rtmr0).slice(0, 32)).toBe(
      '8566f998798db09443b244c62de9a304',
    );
    expect(toHex(replayFirmwareLog(log('ccel-2gib.bin')).rtmr2).slice(0, 32)).toBe(
      '94eaf7a7bf398ed8d888c91057ae0261',
    );
  });

  it('hold our TD HOB: of 64 GiB on one machine, of 2 GiB on another', () => {
    expect(toHex(sha384(tdHob(sections, hardware.memoryMiB)))).toBe(hardware.events[0]?.digest);
    expect(toHex(sha384(tdHob(sections, 2048)))).toBe(toHex(log('ccel-2gib.bin')[0]!.digest));
  });

  it("hold the hash of a configuration volume without variables, as the image's firmware has it", () => {
    const volume = gunzipSync(data('empty-variables.gz'));
    expect(readVariables(volume).size).toBe(0);
    expect(toHex(sha384(volume))).toBe(hardware.events[1]?.digest);
    expect(toHex(sha384(volume))).toBe(toHex(log('ccel-2gib.bin')[1]!.digest));
  });

  it('hold our separator, actions and secure boot variables', () => {
    const ours = machineEvents(sections, 2048, undefined);
    const theirs = new Set(hardware.events.map(({ digest }) => digest));
    for (const name of ['variable PK', 'variable KEK', 'variable db', 'variable dbx', 'separator']) {
      expect(theirs).toContain(digestOf(ours, name));
    }
    for (const action of [
      'Calling EFI Application from Boot Option',
      'Exit Boot Services Invocation',
      'Exit Boot Services Returned with Success',
    ]) {
      expect(theirs).toContain(toHex(sha384(utf8(action))));
    }
  });

  it('of an older firmware give no tables for ours', () => {
    try {
      tablesFromEventLog(log('ccel-2gib.bin'));
      expect.unreachable();
    } catch (error) {
      expect(codeOf(error)).toBe('EVENT_LOG_INVALID');
    }
  });
});

describe('edk2 2026.08 and the EFI stub', () => {
  const logged = (pcr: number) =>
    vtpm.events.filter((event) => event.pcr === pcr).map(({ digest }) => digest);

  it('hash our variables of an empty store, boot options and separator, in this order', () => {
    const ours = machineEvents(sections, 2048, undefined);
    expect(
      ['SecureBoot', 'PK', 'KEK', 'db', 'dbx'].map((name) => digestOf(ours, `variable ${name}`)),
    ).toEqual(logged(7).slice(0, 5));
    const bootVariables = vtpm.events.filter(({ type }) => type === 0x8000_0002).map(({ digest }) => digest);
    expect(['BootOrder', 'Boot0000', 'Boot0001'].map((name) => digestOf(ours, `variable ${name}`))).toEqual(
      bootVariables,
    );
    expect(logged(7)[5]).toBe(digestOf(ours, 'separator'));
  });

  it('measure ACPI, SMBIOS and the boot options in our order, where variables need no SMM as in a TD', () => {
    const withoutSmm = JSON.parse(data('ovmf-2026.08-vtpm-without-smm.json').toString()) as Recorded;
    const theirs = withoutSmm.events
      .filter(({ pcr, type }) => pcr === 1 && type !== 4)
      .map(({ type }) => (type === 0xa ? 'ACPI' : type === 0x8000_0009 ? 'SMBIOS' : 'variable'));
    const ours = machineEvents(sections, 2048, undefined)
      .slice(machineEvents(sections, 2048, undefined).findIndex(({ name }) => name === 'ACPI loader'))
      .map(({ name }) => name.split(' ')[0]);
    // The log of the TPM itself is a fourth blob of ACPI's.
    expect(theirs).toEqual(['ACPI', ...ours]);
  });

  it('hash the command line as we do, with what the firmware puts before it', () => {
    expect(logged(9)[0]).toBe(digestOf(stubEvents(vtpm.commandLine, new Uint8Array(0)), 'command line'));
    expect(Buffer.from(loadOptions('x')).toString('utf16le')).toBe('initrd=initrd x\0');
  });
});
