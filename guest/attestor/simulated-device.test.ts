import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { toHex } from '../../lib/protocol/encoding.ts';
import { openPort, openSocket } from './channel.ts';
import { openDevice } from './device.ts';
import { simulatedDevice } from './simulated-device.ts';

const RTMR3 = new Uint8Array(48).fill(9);
const registers = {
  mrtd: '00'.repeat(48),
  rtmr0: '00'.repeat(48),
  rtmr1: '00'.repeat(48),
  rtmr2: '00'.repeat(48),
};

/** A quoting service whose every reply `reply` decides; undefined is silence. */
async function against(reply: (id: string, socket: Socket) => string | undefined, replyWithin = 2_000) {
  const path = join(mkdtempSync(join(tmpdir(), 'dstack-device-')), 'sock');
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.on('data', (data) => {
      for (const line of data
        .toString()
        .split('\n')
        .filter((text) => text !== '')) {
        const text = reply(JSON.parse(line).id, socket);
        if (text !== undefined) socket.write(text);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  server.unref();
  return simulatedDevice(await openSocket(path), replyWithin);
}

const good = (id: string) => `${JSON.stringify({ id, registers: { ...registers, rtmr3: toHex(RTMR3) } })}\n`;

test('a reply counts only with the id of the question; what lay in the port is skipped', async () => {
  const left = `half a line of an earlier daemon"}\n\n{"id":"ffffffffffffffff","rtmr3":"${'00'.repeat(48)}"}\n`;
  const device = await against((id) => left + good(id));
  expect(await device.readRtmr3()).toEqual(RTMR3);
  expect(await device.readRtmr3()).toEqual(RTMR3);
});

test('questions asked at once are put one after the other', async () => {
  let open = 0;
  const device = await against((id, socket) => {
    expect(++open).toBe(1);
    setTimeout(() => {
      open--;
      socket.write(good(id));
    }, 5);
    return undefined;
  });
  const answers = await Promise.all([device.readRtmr3(), device.readRtmr3(), device.readRtmr3()]);
  expect(answers).toEqual([RTMR3, RTMR3, RTMR3]);
});

test.each<[string, string, (id: string, socket: Socket) => string | undefined]>([
  ['silence', 'QUOTING_TIMEOUT', () => undefined],
  ['a line without end', 'QUOTING_TIMEOUT', () => 'x'.repeat(100_000)],
  ['another shape', 'QUOTING_TIMEOUT', (id) => `{"id":"${id}","registers":{}}\n`],
  ['a short register', 'QUOTING_TIMEOUT', (id) => good(id).replace(toHex(RTMR3), '09')],
  ['the answer to another question', 'QUOTING_REPLY', (id) => `{"id":"${id}","quote":"00"}\n`],
  ['only strays', 'QUOTING_REPLY', () => good('ffffffffffffffff').repeat(100)],
  ['an error', 'QUOTING_REFUSED', (id) => `{"id":"${id}","error":{"code":"NO","message":"no"}}\n`],
  ['a closed connection', 'QUOTING_UNREACHABLE', (_, socket) => void socket.destroy()],
])('%s from the service is %s', async (_, code, reply) => {
  const device = await against(reply, 200);
  await expect(device.readRtmr3()).rejects.toMatchObject({ code });
});

test('after a timeout the next question gets its own answer', async () => {
  let asked = 0;
  let late = '';
  const device = await against((id) => {
    if (asked++ === 0) {
      late = good(id).replaceAll('09', '08');
      return undefined;
    }
    return late + good(id);
  }, 200);
  await expect(device.readRtmr3()).rejects.toMatchObject({ code: 'QUOTING_TIMEOUT' });
  expect(await device.readRtmr3()).toEqual(RTMR3);
});

test('the port is found by its name, waited for, and polled without blocking', async () => {
  const root = mkdtempSync(join(tmpdir(), 'dstack-port-'));
  const [ports, dev] = [join(root, 'ports'), join(root, 'dev')];
  await expect(openPort(ports, dev, 0)).rejects.toMatchObject({ code: 'PORT_MISSING' });
  for (const [port, name] of [
    ['vport1p1', 'org.qemu.guest_agent.0'],
    ['vport2p7', 'dstack.quote'],
  ] as const) {
    setTimeout(() => {
      mkdirSync(join(ports, port), { recursive: true });
      writeFileSync(join(ports, port, 'name'), `${name}\n`);
    }, 60);
  }
  mkdirSync(dev);
  // A FIFO opened for both directions is the nearest thing to a character device: what is written comes back.
  execFileSync('mkfifo', [join(dev, 'vport2p7')]);
  const channel = await openPort(ports, dev, 5_000);
  await expect(channel.read(performance.now() + 50)).rejects.toMatchObject({ code: 'QUOTING_TIMEOUT' });
  await channel.write(Buffer.from('hello'), performance.now() + 1_000);
  expect(Buffer.from(await channel.read(performance.now() + 1_000)).toString()).toBe('hello');
  const full = channel.write(new Uint8Array(1_000_000), performance.now() + 50);
  await expect(full).rejects.toMatchObject({ code: 'QUOTING_TIMEOUT' });
});

test('a production image takes no simulated quotes', async () => {
  const nowhere = { portsDirectory: '/nowhere', devDirectory: '/nowhere', quoteSocket: '/nowhere' };
  await expect(openDevice({ flavour: 'production', ...nowhere })).rejects.toMatchObject({
    code: 'DEVICE_UNSUPPORTED',
  });
  await expect(openDevice({ flavour: 'sim', ...nowhere })).rejects.toMatchObject({
    code: 'QUOTING_UNREACHABLE',
  });
});
