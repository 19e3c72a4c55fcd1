/** Where the agent can be reached: at the gateways of apps' bridges, with the image's kernel settings, in network namespaces. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { serveUnix } from '../lib/daemon/unix-http.ts';
import { parseHex } from '../lib/protocol/hex.ts';
import { APP, BRIDGE, GuestNetwork, missing } from './support/guest-network.ts';

const ADDRESS = '10.0.2.15';
const KEY = 'ab'.repeat(32);
/** What curl would do; prints the status, or an error's code. */
const VISIT = `
const [host] = process.argv.slice(1);
require('node:http').get({ host, port: 80, path: '/getkey/x', headers: { host: 'dstack-guest' }, timeout: 10_000 }, (response) => {
  let text = '';
  response.on('data', (chunk) => { text += chunk; }).on('end', () => console.log(response.statusCode, text));
}).on('timeout', function () { this.destroy(Object.assign(new Error(), { code: 'silence' })); })
  .on('error', ({ code }) => console.log(code));
`;

describe.skipIf(missing !== undefined)(`the agent${missing === undefined ? '' : ` (${missing})`}`, () => {
  const root = mkdtempSync(join(tmpdir(), 'dstack-agent-'));
  let net: GuestNetwork;
  let agent: ChildProcess;
  const siblings: Server[] = [];

  beforeAll(async () => {
    const run = join(root, 'run/dstack');
    for (const folder of ['replicator', 'kubernethes']) mkdirSync(join(run, folder), { recursive: true });
    const hash = parseHex('aa'.repeat(32));
    const containers = [
      {
        ...{ app: 'greeting', container: 'web', manifestHash: hash, address: APP, gateway: BRIDGE },
        api: ['info', 'key'],
      },
    ];
    const serve = async (socket: string, routes: Parameters<typeof serveUnix>[0]['routes']) =>
      siblings.push(await serveUnix({ path: join(run, socket), routes }));
    await serve('kubernethes/agent.sock', {
      'GET /v1/containers': () => ({ containers, manifests: [hash] }),
    });
    await serve('replicator/agent.sock', { 'POST /v1/app-key': () => ({ key: KEY }) });
    net = new GuestNetwork();
    net.harden();
    net.run('guest', 'ip', 'address', 'add', `${ADDRESS}/24`, 'dev', 'eth0');
    net.run('guest', 'ip', 'link', 'set', 'eth0', 'up');
    // With no bridge there yet.
    const main = join(import.meta.dirname, '../guest/agent/main.ts');
    agent = spawn('ip', ['netns', 'exec', net.name('guest'), process.execPath, main, '--root', root]);
    await once(agent.stdout!, 'data');
    net.startApp();
  });
  afterAll(async () => {
    agent?.kill('SIGKILL');
    await net?.stop();
    for (const server of siblings) server.close();
    rmSync(root, { recursive: true, force: true });
  });
  /** The siblings answer in this process meanwhile. */
  const visit = async (from: 'app' | 'host' | 'guest', address: string): Promise<string> => {
    const args = ['netns', 'exec', net.name(from), process.execPath, '-e', VISIT, address];
    return (await promisify(execFile)('ip', args)).stdout.trim();
  };

  test('answers an app at its gateway, also one whose bridge came later', async () => {
    expect(await visit('app', BRIDGE)).toBe(`200 ${KEY}`);
  });

  test('listens on no other address, with a filter or without', async () => {
    const listening = net
      .run('guest', 'cat', '/proc/net/tcp', '/proc/net/tcp6')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter((row) => row[3] === '0A')
      .map((row) => row[1]!);
    expect(listening).toHaveLength(250);
    // 10.90.N.1, in this machine's order of bytes, port 80.
    for (const one of listening) expect(one).toMatch(/^01[0-9A-F]{2}5A0A:0050$/);
    net.nft('guest', 'delete table inet dstack');
    expect(await visit('host', ADDRESS)).toBe('ECONNREFUSED');
    expect(await visit('guest', '127.0.0.1')).toBe('ECONNREFUSED');
  });
});
