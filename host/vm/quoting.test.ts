import { mkdtemp, readFile, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { SIMULATED_ROOT } from '../../lib/attestation/certificates/trust-roots.ts';
import { judgeQuote } from '../../lib/attestation/judge.ts';
import { eventDigest, expectedRequestLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { measurementOf } from '../../lib/attestation/registers/measurement.ts';
import type { SimulatedSetting } from '../../lib/attestation/simulated/conditions.ts';
import { simulatedRegisters } from '../../lib/attestation/simulated/measurement.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import { verify } from '../../lib/attestation/verify.ts';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { ninepFiles } from '../../test/support/ninep-files.ts';
import { type QuotingService, startQuotingService } from './quoting.ts';

const registers = simulatedRegisters({
  firmware: utf8('firmware'),
  kernel: utf8('kernel'),
  initramfs: utf8('initramfs'),
  commandLine: 'quiet',
  shape: { cpus: 1, memoryMiB: 1024 },
});
const MEASUREMENTS = '/sys/devices/virtual/misc/tdx_guest/measurements';
const RTMR3 = `${MEASUREMENTS}/rtmr3:sha384`;
const REPORT = '/sys/kernel/config/tsm/report/test';
const running: QuotingService[] = [];

afterEach(async () => {
  for (const service of running.splice(0)) await service.close();
});

async function start(directory?: string, simulated?: SimulatedSetting) {
  const at = directory ?? (await mkdtemp(join(tmpdir(), 'dstack-quoting-')));
  const options = {
    socketPath: join(at, 'platform.sock'),
    registers,
    platformStateFile: join(at, 'state/platform.json'),
    simulated,
  };
  const service = await startQuotingService(options);
  running.push(service);
  return { at, service, ...options };
}

test('a machine starts with the registers of its image and RTMR3 at zero, extends it, and quotes what it holds', async () => {
  const { socketPath, service } = await start();
  const files = ninepFiles(socketPath);
  for (const [name, value] of Object.entries({ ...registers, rtmr3: new Uint8Array(48) })) {
    expect(toHex(await files.read(`${MEASUREMENTS}/${name}:sha384`, 48))).toBe(toHex(value));
  }
  const log = expectedRequestLog('sim', sha256(utf8('network.json')));
  for (const event of log) await files.write(RTMR3, eventDigest(event));
  const reportData = new Uint8Array(64).fill(7);
  await files.makeFolder(REPORT);
  await files.write(`${REPORT}/inblob`, reportData);
  const { evidence } = verify(await files.read(`${REPORT}/outblob`, 16_384), {
    trustRoot: SIMULATED_ROOT,
    collateral: PUBLISHED_SIMULATED_COLLATERAL,
    now: new Date('2026-01-01T00:00:00Z'),
    reportData,
    rtmr3: replay(log),
    measurement: measurementOf(registers),
  });
  expect(toHex(evidence.platform)).toBe(service.platformId);
});

test.each<[SimulatedSetting, number, string]>([
  [{}, 4, 'ACCEPTED'],
  [{ quoteVersion: 5 }, 5, 'ACCEPTED'],
  [{ condition: 'revoked' }, 4, 'PCK_REVOKED'],
  [{ condition: 'out-of-date', quoteVersion: 5 }, 5, 'TCB_STATUS_NOT_ACCEPTED'],
  [{ condition: 'debug' }, 4, 'TD_DEBUG'],
])('a platform of the setting %j quotes in version %d: %s', async (simulated, version, expected) => {
  const { socketPath } = await start(undefined, simulated);
  const files = ninepFiles(socketPath);
  await files.makeFolder(REPORT);
  await files.write(`${REPORT}/inblob`, new Uint8Array(64).fill(7));
  const bytes = await files.read(`${REPORT}/outblob`, 16_384);
  expect(bytes[0]).toBe(version);
  const inputs = {
    trustRoot: SIMULATED_ROOT,
    collateral: PUBLISHED_SIMULATED_COLLATERAL,
    now: new Date('2026-01-01T00:00:00Z'),
  };
  expect(judgeQuote(bytes, inputs, {}).code ?? 'ACCEPTED').toBe(expected);
});

test('RTMR3 outlives a connection and not the service; the platform outlives both', async () => {
  const { at, socketPath, service } = await start();
  await ninepFiles(socketPath).write(RTMR3, new Uint8Array(48).fill(0x11));
  expect(await ninepFiles(socketPath).read(RTMR3, 48)).not.toEqual(new Uint8Array(48));
  await running.pop()?.close();

  const again = await start(at);
  expect(again.service.platformId).toBe(service.platformId);
  expect(await ninepFiles(again.socketPath).read(RTMR3, 48)).toEqual(new Uint8Array(48));
});

test('the state file is private, made once by whoever comes first, and never guessed at', async () => {
  const at = await mkdtemp(join(tmpdir(), 'dstack-quoting-'));
  const platformStateFile = join(at, 'platform.json');
  const services = await Promise.all(
    ['a', 'b', 'c'].map((name) =>
      startQuotingService({ socketPath: join(at, name), registers, platformStateFile }),
    ),
  );
  running.push(...services);
  expect(new Set(services.map(({ platformId }) => platformId)).size).toBe(1);
  expect((await stat(platformStateFile)).mode & 0o777).toBe(0o600);
  expect(await readFile(platformStateFile, 'utf8')).toMatch(/^\{"version":1,"ppid":"[0-9a-f]{32}"\}\n$/);

  const broken = join(at, 'broken.json');
  await writeFile(broken, '{"version":1,"ppid":"00"}');
  await expect(
    startQuotingService({ socketPath: join(at, 'd'), registers, platformStateFile: broken }),
  ).rejects.toMatchObject({ code: 'PLATFORM_STATE' });
});
