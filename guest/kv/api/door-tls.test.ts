/** Clients that the door does not take for their TLS: each is refused, and whoever looks into the log finds out why. */
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, connect as connectTcp, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { devCertificates, namesOf, serviceTls } from '../dev/certificates.ts';
import { Door } from './door.ts';
import { Metrics } from './metrics.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-door-tls-'));
const made = devCertificates(join(folder, 'certs'), namesOf('127.0.0.1'));
const other = devCertificates(join(folder, 'other'), namesOf('127.0.0.1'));
let door: Door;
let port: number;
let told: string[] = [];
let callers = 0;
let hour = 0;

beforeAll(async () => {
  door = new Door({
    methods: [],
    metrics: new Metrics([]),
    condition: { problem: async () => undefined, version: async () => '3.5.16' },
    callerOf: () => {
      callers += 1;
      return { prefix: Buffer.from('o/'), name: 'owner', owner: true };
    },
    tls: serviceTls(made.service, made.authority),
    log: { warn: (fields) => told.push((fields as { code: string }).code) },
  });
  door.server.listen(0, '127.0.0.1');
  await once(door.server, 'listening');
  port = (door.server.address() as AddressInfo).port;
});
beforeEach(() => {
  told = [];
  callers = 0;
});
afterAll(async () => {
  await door.close(0);
  rmSync(folder, { recursive: true });
});

const ended = (socket: Socket) => new Promise((resolve) => socket.on('close', resolve));

/** Resolves once the connection has ended. */
async function comes(user?: typeof made.user): Promise<void> {
  const shown = user && { cert: readFileSync(user.certificate), key: readFileSync(user.key) };
  const socket = connect({ host: '127.0.0.1', port, ca: readFileSync(made.authority), ...shown });
  socket.on('error', () => {}).resume();
  socket.write('GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
  await ended(socket);
}

async function speaksPlainly(text: string): Promise<void> {
  const socket = connectTcp(port, '127.0.0.1').on('error', () => {});
  socket.resume().end(text);
  await ended(socket);
}

test.each<[string, () => Promise<void>, RegExp]>([
  ['a certificate of another authority', () => comes(other.user), /SELF_SIGNED|UNABLE_TO_VERIFY|SIGNATURE/],
  ['a certificate that is for services', () => comes(made.service), /INVALID_PURPOSE/],
  ['no certificate', () => comes(), /PEER_DID_NOT_RETURN_A_CERTIFICATE/],
  ['no TLS', () => speaksPlainly('GET / HTTP/1.1\r\n\r\n'), /ERR_SSL/],
  ["etcdctl's http://", () => speaksPlainly('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), /ERR_SSL/],
])('%s: refused before who calls is asked, and said once', async (_, attempt, why) => {
  // Another one of before may have had the same code.
  hour += 1;
  const now = performance.now() + hour * 3_600_000;
  const clock = vi.spyOn(performance, 'now').mockReturnValue(now);
  await attempt();
  await attempt();
  await vi.waitFor(() => expect(told).toEqual([expect.stringMatching(why)]));
  expect(callers).toBe(0);
  clock.mockRestore();
});

test('who is taken, and who says nothing at all, are not spoken of', async () => {
  await comes(made.user);
  expect(callers).toBe(1);
  await speaksPlainly('');
  expect(told).toEqual([]);
});
