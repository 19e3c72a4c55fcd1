/** With the machine's own pasta; where QEMU would be there is a process that says what it reaches. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createHttp, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { freePort } from '../../test/support/free-port.ts';
import { inOwnNetwork, joinOwnNetwork, type OwnNetwork, ownNetworkReason } from './own-network.ts';

/**
 * Serves at PORT of the environment, as QEMU does what it forwards. `/resolver`: which name server it has; `/gateway`: the default route's,
 * as an address; `/HOST:PORT`: what answers there.
 */
const INSIDE = `
  const { createServer, get } = require('node:http');
  const { readFileSync } = require('node:fs');
  createServer((asked, reply) => {
    if (asked.url === '/resolver') return reply.end(readFileSync('/etc/resolv.conf'));
    if (asked.url === '/gateway') {
      const route = readFileSync('/proc/net/route', 'utf8').split('\\n').map((line) => line.split('\\t'));
      const bytes = Buffer.from(route.find((words) => words[1] === '00000000')?.[2] ?? '0100007f', 'hex');
      return reply.end([...bytes.reverse()].join('.'));
    }
    get('http:/' + asked.url, { signal: AbortSignal.timeout(3_000) }, (answer) => answer.pipe(reply))
      .on('error', ({ code }) => reply.end(code));
  }).listen(Number(process.env.PORT), '0.0.0.0');
`;

const reason = ownNetworkReason();

describe.skipIf(reason !== undefined)(`a network of its own${reason ? ` (not here: ${reason})` : ''}`, () => {
  let folder: string;
  let port: number;
  let inside: ChildProcess;
  let network: OwnNetwork | undefined;
  let services: Server[];

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'dstack-own-network-'));
    port = await freePort();
    services = [];
    const { command, args } = inOwnNetwork({ command: process.execPath, args: ['-e', INSIDE] });
    inside = spawn(command, args, { env: { ...process.env, PORT: String(port) }, stdio: 'inherit' });
  });
  afterEach(async () => {
    network?.close();
    network = undefined;
    if (inside.exitCode === null && inside.signalCode === null) {
      inside.kill('SIGKILL');
      await once(inside, 'exit');
    }
    for (const service of services) service.close();
    rmSync(folder, { recursive: true });
  });

  const joined = async (outward: readonly number[]) => {
    const lines: string[] = [];
    const log = (line: string) => void lines.push(line);
    network = await joinOwnNetwork(inside.pid!, { folder, inward: [port], outward, log });
    return lines;
  };
  /** A service on the operator's loopback; its port. */
  const serve = async (word: string) => {
    const service = createHttp((_, reply) => reply.end(word)).listen(0, '127.0.0.1');
    await once(service, 'listening');
    services.push(service);
    return (service.address() as AddressInfo).port;
  };
  const ask = async (path: string) => {
    const asked = request({ host: '127.0.0.1', port, path, agent: false }).end();
    const [reply] = await once(asked, 'response');
    return await text(reply);
  };
  /** The process inside takes a moment until it listens. */
  const isUp = () => expect.poll(() => ask('/resolver').catch(() => ''), { timeout: 30_000 }).not.toBe('');

  it('reaches of the loopback outside what is named, and nothing else', async () => {
    const [named, other] = [await serve('named'), await serve('other')];
    await joined([named]);
    await isUp();
    expect(await ask(`/127.0.0.1:${named}`)).toBe('named');
    expect(await ask(`/127.0.0.1:${other}`)).toBe('ECONNREFUSED');
    // The gateway is another machine, or nobody: not this one's loopback.
    const gateway = await ask('/gateway');
    expect(await ask(`/${gateway}:${other}`)).not.toBe('other');
    expect(await ask('/resolver')).toBe('nameserver 10.0.2.3\n');
    // The machine's own file is as it was.
    expect(readFileSync('/etc/resolv.conf', 'utf8')).not.toBe('nameserver 10.0.2.3\n');
  });

  it('is joined again when pasta ends', async () => {
    const lines = await joined([]);
    await isUp();
    process.kill(Number(readFileSync(join(folder, 'pasta.pid'), 'utf8')), 'SIGKILL');
    await expect.poll(() => lines.length, { timeout: 30_000 }).toBe(1);
    await isUp();
  });

  it('ends with what it was for', async () => {
    await joined([]);
    await isUp();
    const pasta = readFileSync(join(folder, 'pasta.pid'), 'utf8').trim();
    network!.close();
    await expect.poll(() => existsSync(`/proc/${pasta}`), { timeout: 30_000 }).toBe(false);
    await expect(ask('/resolver')).rejects.toThrow(/ECONNREFUSED/);
  });

  it('says what pasta says when it cannot be: a port that another has', async () => {
    const taken = await serve('mine');
    const log = () => {};
    await expect(
      joinOwnNetwork(inside.pid!, { folder, inward: [taken], outward: [], log }),
    ).rejects.toMatchObject({ code: 'VM_NETWORK', message: expect.stringContaining(String(taken)) });
  });

  it('is refused to a process that shares the network', async () => {
    const sleeper = spawn('sleep', ['60']);
    try {
      const options = { folder, inward: [], outward: [], log: () => {} };
      const joining = joinOwnNetwork(sleeper.pid!, options);
      sleeper.kill('SIGKILL');
      await expect(joining).rejects.toMatchObject({ code: 'VM_NETWORK' });
    } finally {
      sleeper.kill('SIGKILL');
    }
  });
});

it('says what is missing', () => {
  expect(ownNetworkReason('/nowhere')).toMatch(/install the package passt/);
  expect(ownNetworkReason(undefined, '/nowhere/tun')).toMatch(
    /passt|\/nowhere\/tun does not open \(ENOENT\)/,
  );
});
