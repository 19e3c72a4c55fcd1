import { once } from 'node:events';
import { mkdtemp, readFile, stat, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, expect, test } from 'vitest';
import { eventDigest, expectedRequestLog, replay } from '../../lib/attestation/event-log.ts';
import { judgeQuote } from '../../lib/attestation/judge.ts';
import type { SimulatedSetting } from '../../lib/attestation/simulated-conditions.ts';
import { measurementOf, simulatedRegisters } from '../../lib/attestation/simulated-measurement.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated-published.ts';
import { SIMULATED_ROOT } from '../../lib/attestation/trust-roots.ts';
import { verifyQuote } from '../../lib/attestation/verify.ts';
import { fromHex, sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { type QuotingService, startQuotingService } from './quoting.ts';

const registers = simulatedRegisters({
  firmware: utf8('firmware'),
  kernel: utf8('kernel'),
  initramfs: utf8('initramfs'),
  commandLine: 'quiet',
  shape: { cpus: 1, memoryMiB: 1024 },
});
const ID = '0123456789abcdef';
const running: QuotingService[] = [];
const sockets: Socket[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const service of running.splice(0)) await service.close();
});

async function start(directory?: string, simulated?: SimulatedSetting) {
  const at = directory ?? (await mkdtemp(join(tmpdir(), 'dstack-quoting-')));
  const options = {
    socketPath: join(at, 'quoting.sock'),
    registers,
    platformStateFile: join(at, 'state/platform.json'),
    simulated,
  };
  const service = await startQuotingService(options);
  running.push(service);
  return { at, service, ...options };
}

async function dial(socketPath: string) {
  const socket = connect(socketPath);
  sockets.push(socket);
  await once(socket, 'connect');
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  return {
    socket,
    async raw(text: string | Uint8Array): Promise<unknown> {
      socket.write(text);
      const line = await lines.next();
      return JSON.parse(line.done === true ? 'null' : line.value);
    },
    ask(request: Record<string, unknown>): Promise<unknown> {
      return this.raw(`${JSON.stringify({ id: ID, ...request })}\n`);
    },
  };
}

test('a machine starts with the registers of its image and RTMR3 at zero, extends it, and quotes what it holds', async () => {
  const { socketPath, service } = await start();
  const guest = await dial(socketPath);
  expect(await guest.ask({ op: 'read' })).toEqual({
    id: ID,
    registers: {
      mrtd: toHex(registers.mrtd),
      rtmr0: toHex(registers.rtmr0),
      rtmr1: toHex(registers.rtmr1),
      rtmr2: toHex(registers.rtmr2),
      rtmr3: '00'.repeat(48),
    },
  });
  const log = expectedRequestLog('sim', sha256(utf8('network.json')));
  for (const event of log) await guest.ask({ op: 'extend', register: 3, digest: toHex(eventDigest(event)) });
  const reportData = new Uint8Array(64).fill(7);
  const reply = (await guest.ask({ op: 'quote', reportData: toHex(reportData) })) as { quote: string };
  const { evidence } = verifyQuote(fromHex(reply.quote), {
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
  const guest = await dial(socketPath);
  const reportData = new Uint8Array(64).fill(7);
  const reply = (await guest.ask({ op: 'quote', reportData: toHex(reportData) })) as { quote: string };
  const bytes = fromHex(reply.quote);
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
  const first = await dial(socketPath);
  await first.ask({ op: 'extend', register: 3, digest: '11'.repeat(48) });
  first.socket.destroy();
  const second = await dial(socketPath);
  const before = (await second.ask({ op: 'read' })) as { registers: { rtmr3: string } };
  expect(before.registers.rtmr3).not.toBe('00'.repeat(48));
  await running.pop()?.close();

  const again = await start(at);
  expect(again.service.platformId).toBe(service.platformId);
  const third = await dial(again.socketPath);
  const after = (await third.ask({ op: 'read' })) as { registers: { rtmr3: string } };
  expect(after.registers.rtmr3).toBe('00'.repeat(48));
});

test.each([
  ['not JSON', 'hello\n'],
  ['no request', '{}\n'],
  ['null', 'null\n'],
  ['an unknown operation', `{"id":"${ID}","op":"reset"}\n`],
  ['another register', `{"id":"${ID}","op":"extend","register":2,"digest":"${'00'.repeat(48)}"}\n`],
  ['a short digest', `{"id":"${ID}","op":"extend","register":3,"digest":"00"}\n`],
  ['upper-case hex', `{"id":"${ID}","op":"extend","register":3,"digest":"${'AA'.repeat(48)}"}\n`],
  ['short report data', `{"id":"${ID}","op":"quote","reportData":"${'00'.repeat(63)}"}\n`],
  ['a further field', `{"id":"${ID}","op":"read","more":1}\n`],
  ['an id of another form', '{"id":"../../etc","op":"read"}\n'],
  ['bytes that are no text', new Uint8Array([0xff, 0xfe, 0x00, 0x0a])],
])('%s gets an error line and changes nothing', async (_, text) => {
  const { socketPath } = await start();
  const guest = await dial(socketPath);
  expect(await guest.raw(text)).toMatchObject({ id: null, error: { code: 'REQUEST_INVALID' } });
  const reply = (await guest.ask({ op: 'read' })) as { registers: { rtmr3: string } };
  expect(reply.registers.rtmr3).toBe('00'.repeat(48));
});

test('an endless line gets one error line, and the next request its answer', async () => {
  const { socketPath } = await start();
  const guest = await dial(socketPath);
  const refusal = guest.raw(`${'x'.repeat(300_000)}\n`);
  expect(await refusal).toMatchObject({ id: null, error: { code: 'REQUEST_TOO_LONG' } });
  expect(await guest.ask({ op: 'read' })).toMatchObject({ id: ID });
});

test('a guest that writes and never reads stops being read', async () => {
  const { socketPath } = await start();
  const guest = await dial(socketPath);
  guest.socket.pause();
  const line = `{"id":"${ID}","op":"quote","reportData":"${'00'.repeat(64)}"}\n`;
  const block = line.repeat(500);
  let accepted = 0;
  // Each request costs an answer of some 10,000 bytes: once those are not taken, requests must not be either.
  for (let round = 0; round < 40; round++) {
    const flushed = await Promise.race([
      new Promise<boolean>((resolve) => guest.socket.write(block, () => resolve(true))),
      new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 1_000)),
    ]);
    if (!flushed) break;
    accepted++;
  }
  expect(accepted).toBeLessThan(40);
  const other = await dial(socketPath);
  expect(await other.ask({ op: 'read' })).toMatchObject({ id: ID });
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
