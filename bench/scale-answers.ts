/**
 * What a relay does for each request that its node answers while so many are open. Rows of its store that it reads are counted, in a model.
 * What its processor does for each request that its node answers is measured: the relay is a process as it is run, with
 * its store on disk. It gets requests from a peer over HTTP and judges their quotes; its node, the peer and the chain are in this
 * process, and their time does not count.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { someKinds } from '../host/gossip/gossip.fixture.ts';
import { type MeshHost, newMesh } from '../host/gossip/mesh.fixture.ts';
import { answerKind } from '../host/relay/kinds/answer.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../lib/attestation/simulated/published.ts';
import { printError } from '../lib/daemon/terminal.ts';
import { fromHex, to0x, toHex } from '../lib/protocol/encoding.ts';
import { networkKey } from '../lib/protocol/keys.ts';
import { nodePaths, type RequestMessage, requestOf } from '../lib/protocol/onboarding-messages.ts';
import { newKemKeyPair } from '../lib/protocol/sealing.ts';
import type { Domain } from '../lib/protocol/typed-data.ts';
import { newAnswer, requestOver, SECRET } from '../test/support/guest.ts';
import { BLOCK_MS, type ModelledHost, ModelledHosts } from '../test/support/modelled-hosts.ts';
import { type ChainEvent, PacedChain, word } from '../test/support/paced-chain.ts';
import { RelayHost } from '../test/support/relay.ts';
import { serveChain } from '../test/support/served-chain.ts';
import type { Row } from './growth.ts';
import { cpuOf } from './processes.ts';

const OPEN = [100, 1_000];
/** The model, in which time is made to pass, is slow: what is counted shows how it grows at smaller sizes too. */
const COUNTED = [25, 100];
/** Before the measurement, until code is compiled. */
const WARM = 150;
const BLOCK_SECONDS = 4;
/** How long nothing may come of what is waited for: so long a machine with much other work may take for one of them. */
const STALLED_MS = 120_000;
/** Milliseconds between two lines about how far it is. */
const SAID_EVERY = 10_000;

export async function answerRows(tell: (row: Row) => void): Promise<void> {
  for (const open of OPEN) {
    const { cpuMs, calls } = await answersAmong(open);
    tell({ what: 'relay: processor for an answered request', size: open, figure: cpuMs, unit: 'ms of CPU' });
    tell({ what: 'relay: calls for an answered request', size: open, figure: calls, unit: 'calls' });
  }
  for (const open of COUNTED) {
    tell({
      what: 'relay: rows of its store that it reads for an answered request',
      size: open,
      figure: await rowsPerAnswer(open),
      unit: 'rows',
    });
  }
}

/** Rows that a relay reads of its store for each of so many open requests, all of which its node answers. */
export async function rowsPerAnswer(open: number): Promise<number> {
  const model = await ModelledHosts.open({ hosts: 1, joiners: open, guestMs: 50 });
  try {
    const [host] = model.hosts as [ModelledHost];
    for (const joiner of model.joiners) model.register(joiner);
    await model.pass(4 * BLOCK_MS);
    const before = host.rowsRead;
    for (const { request } of model.joiners) host.air.receive({ ...request });
    for (let waited = 0; model.onboards.size < open; waited += 1) {
      if (waited > 3_600) throw new Error('a request is not answered in an hour');
      await model.pass(1_000);
    }
    return (host.rowsRead - before) / open;
  } finally {
    await model.close();
  }
}

/** So many requests are registered, published at once, and answered. */
async function answersAmong(open: number): Promise<{ cpuMs: number; calls: number }> {
  const waiting: ChainEvent[] = [];
  const chain = new PacedChain({
    now: Date.now,
    blockTime: BLOCK_SECONDS,
    events: () => waiting.splice(0),
    networkKey: networkKey(SECRET, 1).address,
  });
  const domain = { chainId: 1, contract: chain.address };
  const endpoint = await serveChain(chain);
  const guest = await startGuest(domain);
  const mesh = await newMesh({ relays: 1, kinds: someKinds(), carrier: { rate: UNBOUNDED, askMs: 60_000 } });
  const [peer] = mesh.hosts as [MeshHost];
  const stateDir = mkdtempSync(join(tmpdir(), 'dstack-bench-'));
  const relay = await RelayHost.create({
    rpcUrl: endpoint.url,
    domain,
    nodeUrl: guest.url,
    stateDir,
    peers: [peer.url],
    settings: { DSTACK_PCS_URL: 'none', DSTACK_POLL_MS: '1000', DSTACK_LOG_LEVEL: 'warn' },
  });
  try {
    relay.start();
    await relay.serves();
    const kem = await newKemKeyPair();
    const answered = async (count: number) => {
      // About the newest block: on a slow machine those of the chain's beginning would be too old before they are answered, and so never would be.
      const about = { number: chain.height, hash: fromHex(word(1_000_000 + chain.height).slice(2)) };
      const some = Array.from({ length: count }, () => ({
        ...requestOver(domain, about, kem.publicKey),
        collateral: { ...PUBLISHED_SIMULATED_COLLATERAL },
      }));
      for (const request of some) waiting.push({ name: 'Registered', requestHash: to0x(hashOf(request)) });
      await reaches('known of', count, () => metric(relay, 'dstack_relay_requests_parked'));
      const [cpu, calls] = [cpuOf([relay.process.pid!]), chain.calls];
      const before = peer.gossip.messages.subjects(answerKind).size;
      for (const request of some) {
        peer.gossip.messages.keep(toHex(hashOf(request)));
        await peer.gossip.publish(request as never);
      }
      await reaches('answered', count, async () => peer.gossip.messages.subjects(answerKind).size - before);
      return {
        cpuMs: (cpuOf([relay.process.pid!]) - cpu) / 1000 / some.length,
        calls: (chain.calls - calls) / some.length,
      };
    };
    await answered(WARM);
    return await answered(open);
  } finally {
    await relay.kill();
    await mesh.close();
    guest.server.closeAllConnections();
    guest.server.close();
    endpoint.close();
    rmSync(stateDir, { recursive: true, force: true });
  }
}

/** The peer takes what the relay has to say, however much it is. */
const UNBOUNDED = { burst: 1e9, perSecond: 1e9 };
const hashOf = (request: RequestMessage): Uint8Array => requestOf(request).hash;

/** A node that has joined, and answers whatever it is asked. */
async function startGuest(domain: Domain): Promise<{ url: string; server: Server }> {
  const status = { state: 'joined', flavour: 'sim', ...domain, config: '11'.repeat(32), epoch: 1 };
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const known = request.url === nodePaths.status || request.url === nodePaths.onboard;
    const reply =
      request.url === nodePaths.onboard
        ? await newAnswer(domain, JSON.parse(body) as RequestMessage)
        : status;
    response.writeHead(known ? 200 : 404, { 'content-type': 'application/json' });
    response.end(JSON.stringify(known ? reply : { code: 'NO_ROUTE', message: 'not here' }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

async function metric({ adminUrl }: RelayHost, name: string): Promise<number> {
  const text = await (await fetch(`${adminUrl}/metrics`)).text();
  return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(text)?.[1] ?? 0);
}

/** @throws Error when nothing comes any more */
async function reaches(what: string, goal: number, reached: () => Promise<number>): Promise<void> {
  let [most, last, said] = [-1, Date.now(), Date.now()];
  for (;;) {
    const now = await reached();
    if (now >= goal) return;
    if (now > most) [most, last] = [now, Date.now()];
    const where = `${now} of ${goal} requests are ${what}`;
    if (Date.now() - last > STALLED_MS) throw new Error(`${where}, for ${STALLED_MS} ms`);
    if (Date.now() - said > SAID_EVERY) {
      printError(where);
      said = Date.now();
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
