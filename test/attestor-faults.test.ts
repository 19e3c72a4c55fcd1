/** The attestor's device against the simulated platform's files: each refusal of the kernel, and the error that it becomes. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type AttestationDevice, attestationDevice } from '../guest/attestor/device.ts';
import { kernelFiles } from '../guest/attestor/platform-files.ts';
import { type QuotingService, startQuotingService } from '../host/vm/quoting.ts';
import { FaultPlan } from '../host/vm/simulated-tsm/faults.ts';
import { encodeFirmwareLog } from '../lib/attestation/registers/firmware-log.ts';
import { simulatedMeasurement } from '../lib/attestation/simulated/measurement.ts';
import { utf8 } from '../lib/protocol/encoding.ts';
import { ninepFiles } from './support/ninep-files.ts';
import { perform } from './support/platform-act.ts';
import { faultCases } from './support/platform-faults.ts';

const { registers, events } = simulatedMeasurement({
  firmware: utf8('firmware'),
  kernel: utf8('kernel'),
  initramfs: utf8('initramfs'),
  commandLine: 'quiet',
  shape: { cpus: 1, memoryMiB: 1024 },
});
const folder = mkdtempSync(join(tmpdir(), 'dstack-faults-'));
const socketPath = join(folder, 'platform.sock');
const faults = new FaultPlan();
const limits = { callWithin: 60_000, quoteWithin: 0 };
const impatient = { ...limits, callWithin: 1_000 };
let service: QuotingService;
let device: AttestationDevice;

beforeAll(async () => {
  service = await startQuotingService({
    socketPath,
    registers,
    firmwareLog: encodeFirmwareLog(events),
    platformStateFile: join(folder, 'platform.json'),
    faults,
  });
  device = attestationDevice('sim', ninepFiles(socketPath), limits);
});
afterAll(async () => await service.close());
afterEach(() => faults.clear());

test.each(faultCases)('$act, $name: $code', async ({ arm, act, code }) => {
  arm(faults);
  const silent = code === 'PLATFORM_SILENT';
  const used = silent ? attestationDevice('sim', ninepFiles(socketPath), impatient) : device;
  expect(await perform(used, act)).toBe(code);
});

test('while a call hangs, others are refused; on another connection all is well, an entry left behind or not', async () => {
  const hung = attestationDevice('sim', ninepFiles(socketPath), impatient);
  faults.add('outblob', { silent: true });
  expect(await perform(hung, 'quote')).toBe('PLATFORM_SILENT');
  await expect(hung.readRtmr3()).rejects.toThrow('an earlier call has not returned yet');
  // The entry of the daemon that hangs is still there.
  const files = ninepFiles(socketPath);
  await expect(files.makeFolder('/sys/kernel/config/tsm/report/dstack-attestor')).rejects.toMatchObject({
    code: 'EEXIST',
  });
  expect(await perform(attestationDevice('sim', files, limits), 'quote')).toBe(null);
});

test('quotes asked for at once are each of their own report data', async () => {
  const fresh = attestationDevice('sim', ninepFiles(socketPath), limits);
  const done = await Promise.all(Array.from({ length: 5 }, () => perform(fresh, 'quote')));
  expect(done).toEqual([null, null, null, null, null]);
});

test('report data of another length never reaches the kernel', async () => {
  const fresh = attestationDevice('sim', ninepFiles(socketPath), limits);
  await expect(fresh.quote(new Uint8Array(63))).rejects.toMatchObject({ code: 'TSM_REFUSED' });
  await expect(fresh.extendRtmr3(new Uint8Array(47))).rejects.toMatchObject({ code: 'REGISTER_LENGTH' });
});

test('a machine without the files: what is missing is said, and a firmware log need not be there', async () => {
  const none = attestationDevice('production', kernelFiles(folder), limits);
  await expect(none.quote(new Uint8Array(64))).rejects.toMatchObject({ code: 'TSM_MISSING' });
  await expect(none.readRtmr3()).rejects.toMatchObject({ code: 'RTMR_MISSING' });
  expect(await none.firmwareLog()).toBeUndefined();
});
