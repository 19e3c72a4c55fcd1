/**
 * Gossip among relays that all know each other, over real HTTP on loopback, with the relay's own checks of real (simulated)
 * quotes: how often a message's body travels, how many bytes travel and what it costs, for one relay and one message.
 *
 *   npm run bench -- gossip [--relays 8,16,32] [--messages 6]
 *
 * All relays are in one process, so the processor's time is that of all of them, client and server, divided. Times to spread say
 * more about this machine than about gossip. The last line is JSON, which bench/simulate-network.ts can take its costs from.
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { newMesh, spread } from '../host/gossip/mesh.fixture.ts';
import type { MessageKind } from '../host/gossip/message-kind.ts';
import { requestKind } from '../host/relay/kinds/request.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../lib/attestation/simulated/published.ts';
import { print, printJson } from '../lib/daemon/terminal.ts';
import { parseAddress } from '../lib/protocol/hex.ts';
import type { RequestMessage } from '../lib/protocol/onboarding-messages.ts';
import { newKemKeyPair } from '../lib/protocol/sealing.ts';
import { newAnswer, newSealed, requestOver } from '../test/support/guest.ts';

export interface GossipRow {
  relays: number;
  /** Bodies sent to each relay, and checks by each, for one message. */
  bodies: number;
  checks: number;
  /** HTTP bodies in both directions for each relay and message, bytes; and requests. */
  bytes: number;
  requests: number;
  /** The processor's time for each relay and message, milliseconds. */
  cpuMs: number;
  /** From publishing to the last relay, milliseconds, the median. */
  spreadMs: number;
}

export interface GossipFigures {
  rows: GossipRow[];
  /** JSON of a message, bytes. */
  sizes: { request: number; withoutCollateral: number; answer: number; sealed: number };
  /** A check of a request that was not seen before, milliseconds. */
  checkMs: number;
}

const domain = { chainId: 7, contract: parseAddress(`0x${'11'.repeat(20)}`) };
const view = { epoch: 1, requestWindow: 50, networkKey: domain.contract };
const context = () => ({ network: { domain, recent: async () => ({ view, head: 1000 }) }, flavour: 'sim' });
const kem = await newKemKeyPair();
const newRequest = (): RequestMessage => ({
  ...requestOver(domain, { number: 990, hash: new Uint8Array(32).fill(0x33) }, kem.publicKey),
  collateral: { ...PUBLISHED_SIMULATED_COLLATERAL },
});

export async function benchGossip(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: { relays: { type: 'string', default: '8,16,32' }, messages: { type: 'string', default: '6' } },
  });
  print(`${cpus().length} processors, ${cpus()[0]?.model}, Node ${process.version}`, '');
  print('relays  bodies  checks   bytes  requests  cpu ms  spread ms   (for each relay and message)');
  const relays = values.relays.split(',').map(Number);
  const figures = await gossipFigures(relays, Number(values.messages), (row) => print(lineOf(row)));
  print(
    '',
    `a check of a new request: ${figures.checkMs.toFixed(2)} ms; sizes: ${JSON.stringify(figures.sizes)}`,
  );
  printJson({ bench: 'gossip', ...figures });
}

/** @param onRow called with each row as soon as it is measured */
export async function gossipFigures(
  relays: readonly number[],
  messages: number,
  onRow: (row: GossipRow) => void = () => {},
): Promise<GossipFigures> {
  const rows: GossipRow[] = [];
  for (const count of relays) {
    const row = await meshRow(count, messages);
    rows.push(row);
    onRow(row);
  }
  return { rows, sizes: await sizes(), checkMs: await checkCost() };
}

const lineOf = (row: GossipRow): string =>
  [
    String(row.relays).padStart(6),
    row.bodies.toFixed(2).padStart(8),
    row.checks.toFixed(2).padStart(8),
    String(Math.round(row.bytes)).padStart(8),
    row.requests.toFixed(1).padStart(10),
    row.cpuMs.toFixed(2).padStart(8),
    String(Math.round(row.spreadMs)).padStart(11),
  ].join('');

async function meshRow(relays: number, messages: number): Promise<GossipRow> {
  const kinds = [requestKind] as unknown as readonly MessageKind[];
  const mesh = await newMesh({ relays, kinds, context, carrier: { askMs: 60_000 } });
  try {
    for (const { gossip } of mesh.hosts) gossip.start();
    // Until they know each other: positions, keys, connections, compiled code.
    const warm = 3;
    for (let n = 1; n <= warm; n += 1) await publish(mesh.hosts[n % relays]!.gossip, mesh.hosts, n);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    const made = Array.from({ length: messages }, newRequest);
    const [before, cpu] = [{ ...mesh.counts }, process.cpuUsage()];
    const times: number[] = [];
    for (const [n, message] of made.entries()) {
      const started = performance.now();
      await publish(mesh.hosts[(n * 7) % relays]!.gossip, mesh.hosts, warm + n + 1, message);
      times.push(performance.now() - started);
      // What is said of a message after it has arrived everywhere belongs to it too.
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
    const { user, system } = process.cpuUsage(cpu);
    const per = (field: keyof typeof before) => (mesh.counts[field] - before[field]) / messages / relays;
    return {
      relays,
      bodies: (per('bodies') * relays) / (relays - 1),
      checks: per('checks'),
      bytes: per('bytes'),
      requests: per('requests'),
      cpuMs: (user + system) / 1000 / messages / relays,
      spreadMs: times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)]!,
    };
  } finally {
    await mesh.close();
  }
}

type Hosts = Awaited<ReturnType<typeof newMesh>>['hosts'];
async function publish(
  from: Hosts[number]['gossip'],
  hosts: Hosts,
  count: number,
  message = newRequest(),
): Promise<void> {
  await from.publish(message);
  await spread(hosts, count, 300_000);
}

async function sizes(): Promise<GossipFigures['sizes']> {
  const request = newRequest();
  const { collateral: _, ...bare } = request;
  const size = (message: unknown) => Buffer.byteLength(JSON.stringify(message));
  return {
    request: size(request),
    withoutCollateral: size(bare),
    answer: size(await newAnswer(domain, request)),
    sealed: size(await newSealed(domain, request)),
  };
}

async function checkCost(): Promise<number> {
  const made = Array.from({ length: 40 }, newRequest);
  const admission = context() as unknown as Parameters<typeof requestKind.admit>[1];
  const cpu = process.cpuUsage();
  for (const message of made) await requestKind.admit(message, admission);
  const { user, system } = process.cpuUsage(cpu);
  return (user + system) / 1000 / made.length;
}
