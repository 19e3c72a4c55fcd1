/** The attestor as a process, against the simulated platform's files: start, restart, joined, and what makes it end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { extend } from '../guest/attestor/measurements.ts';
import { type QuotingService, startQuotingService } from '../host/vm/quoting.ts';
import { SIMULATED_ROOT } from '../lib/attestation/certificates/trust-roots.ts';
import { expectedJoinedLog, expectedRequestLog, replay } from '../lib/attestation/registers/event-log.ts';
import { measurementOf } from '../lib/attestation/registers/measurement.ts';
import { simulatedRegisters } from '../lib/attestation/simulated/measurement.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../lib/attestation/simulated/published.ts';
import { verify } from '../lib/attestation/verify.ts';
import { callUnix } from '../lib/daemon/unix-http.ts';
import { fromHex, sha256, toHex, utf8 } from '../lib/protocol/encoding.ts';
import { Strict } from '../lib/protocol/schema.ts';
import { AttestorStatusReply, QuoteReply, sockets } from '../lib/protocol/sockets.ts';
import { ninepFiles } from './support/ninep-files.ts';

const NETWORK = '{"version":1}';
const REPORT_DATA = new Uint8Array(64).fill(5);
const registers = simulatedRegisters({
  firmware: utf8('firmware'),
  kernel: utf8('kernel'),
  initramfs: utf8('initramfs'),
  commandLine: 'quiet',
  shape: { cpus: 1, memoryMiB: 1024 },
});

const services: QuotingService[] = [];
const processes: ChildProcess[] = [];

afterEach(async () => {
  for (const child of processes.splice(0)) await stop(child);
  for (const service of services.splice(0)) await service.close();
});

async function machine(flavour: 'production' | 'sim' | 'dev' = 'sim') {
  const root = mkdtempSync(join(tmpdir(), 'dstack-attestor-'));
  for (const path of ['mnt/host_volume', 'usr/lib/dstack']) mkdirSync(join(root, path), { recursive: true });
  writeFileSync(join(root, 'mnt/host_volume/network.json'), NETWORK);
  writeFileSync(
    join(root, 'usr/lib/dstack/flavour.json'),
    JSON.stringify({ version: 1, flavour, builtAt: 1 }),
  );
  const quoteSocket = join(root, 'quoting.sock');
  const service = await startQuotingService({
    socketPath: quoteSocket,
    registers,
    platformStateFile: join(root, 'platform.json'),
  });
  services.push(service);
  return {
    root,
    quoteSocket,
    path: join(root, 'run/dstack', sockets.attestor),
    platformId: service.platformId,
  };
}

type Machine = Awaited<ReturnType<typeof machine>>;

function run({ root, quoteSocket }: Machine): ChildProcess {
  const child = spawn(process.execPath, ['test/support/attestor-process.ts', root, quoteSocket], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  processes.push(child);
  return child;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}

async function exitOf(child: ChildProcess): Promise<{ code: unknown; log: string }> {
  let log = '';
  child.stdout?.on('data', (chunk) => {
    log += chunk;
  });
  const [code] = await once(child, 'close');
  return { code, log };
}

const status = ({ path }: Machine) =>
  callUnix({
    path,
    method: 'GET',
    route: '/v1/status',
    reply: AttestorStatusReply,
    connectWithin: 20_000,
    timeout: 60_000,
  });
const markJoined = ({ path }: Machine) =>
  callUnix({ path, method: 'POST', route: '/v1/joined', body: {}, reply: Strict({}), timeout: 60_000 });
const quote = async ({ path }: Machine, reportData: string = toHex(REPORT_DATA)) =>
  fromHex(
    (
      await callUnix({
        path,
        method: 'POST',
        route: '/v1/quote',
        body: { reportData },
        reply: QuoteReply,
        timeout: 60_000,
      })
    ).quote,
  );

const expectations = (rtmr3: Uint8Array) => ({
  trustRoot: SIMULATED_ROOT,
  collateral: PUBLISHED_SIMULATED_COLLATERAL,
  now: new Date('2026-01-01T00:00:00Z'),
  reportData: REPORT_DATA,
  rtmr3,
  measurement: measurementOf(registers),
});

test('from boot to joined, over a crash of the daemon: the quotes say exactly where the machine stands', async () => {
  const vm = await machine();
  const config = sha256(utf8(NETWORK));
  const requesting = replay(expectedRequestLog('sim', config));
  const joined = replay(expectedJoinedLog('sim', config));

  const first = run(vm);
  expect(await status(vm)).toEqual({
    device: 'simulated',
    flavour: 'sim',
    config: toHex(config),
    joined: false,
  });
  expect(statSync(vm.path).mode & 0o777).toBe(0o660);
  expect(readFileSync(join(vm.root, 'run/dstack/host.json'), 'utf8')).toBe('{}');
  const { evidence } = verify(await quote(vm), expectations(requesting));
  expect(toHex(evidence.platform)).toBe(vm.platformId);

  await stop(first);
  writeFileSync(join(vm.root, 'mnt/host_volume/network.json'), '{"version":1,"contract":"the host\'s own"}');
  const second = run(vm);
  expect(await status(vm)).toMatchObject({ config: toHex(config), joined: false });
  verify(await quote(vm), expectations(requesting));

  await Promise.all([markJoined(vm), markJoined(vm)]);
  await markJoined(vm);
  expect(await status(vm)).toMatchObject({ joined: true });
  const after = await quote(vm);
  verify(after, expectations(joined));
  expect(() => verify(after, expectations(requesting))).toThrow('RTMR3');

  await stop(second);
  run(vm);
  expect(await status(vm)).toMatchObject({ joined: true });
});

test('bad requests are refused and the daemon goes on', async () => {
  const vm = await machine('dev');
  run(vm);
  await status(vm);
  for (const bad of ['', '00', `${'00'.repeat(63)}zz`, '00'.repeat(65)]) {
    await expect(quote(vm, bad)).rejects.toMatchObject({ code: 'QUOTE_REQUEST' });
  }
  await expect(quote(vm, '00'.repeat(5_000))).rejects.toMatchObject({ code: 'BODY_TOO_LARGE' });
  expect(await status(vm)).toMatchObject({ joined: false, flavour: 'dev' });
});

test('a register that somebody else extended ends the machine, at start and later', async () => {
  const vm = await machine();
  const child = run(vm);
  await status(vm);
  await extend(ninepFiles(vm.quoteSocket), 'rtmr3', new Uint8Array(48));
  const ended = exitOf(child);
  await markJoined(vm).catch(() => undefined);
  expect(await ended).toMatchObject({ code: 70, log: expect.stringContaining('RTMR3_UNEXPECTED') });
  expect(await exitOf(run(vm))).toMatchObject({ code: 70, log: expect.stringContaining('RTMR3_UNEXPECTED') });
});

test.each<[string, string, (vm: Machine) => void | Promise<void>]>([
  ['no network.json', 'BOOT_FILE_MISSING', ({ root }) => rmSync(join(root, 'mnt/host_volume/network.json'))],
  [
    'an image that does not say what it is',
    'IMAGE_INFO',
    ({ root }) =>
      writeFileSync(join(root, 'usr/lib/dstack/flavour.json'), '{"version":1,"flavour":"debug","builtAt":1}'),
  ],
  [
    'no platform',
    'RTMR_MISSING',
    async () => {
      await services.pop()?.close();
    },
  ],
])('%s ends the machine: %s', async (_, code, spoil) => {
  const vm = await machine();
  await spoil(vm);
  expect(await exitOf(run(vm))).toMatchObject({ code: 70, log: expect.stringContaining(code) });
});

test('a production image refuses the simulated platform and extends nothing', async () => {
  const vm = await machine('production');
  expect(await exitOf(run(vm))).toMatchObject({
    code: 70,
    log: expect.stringContaining('RTMR_MISSING'),
  });
});
