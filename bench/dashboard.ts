/**
 * `npm run bench -- dashboard [--seconds N] [--streams N]`: what open dashboards cost a relay. One relay as its own process, on a chain of one
 * block a second with rollouts that go on, is measured with nobody who looks, with one, and with 64; each reader takes all that it is
 * sent. The last line is JSON.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type ClientRequest, get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startAnvil } from '../contracts/local-node.ts';
import { print, printJson } from '../lib/daemon/terminal.ts';
import { to0x } from '../lib/protocol/encoding.ts';
import { appId } from '../lib/protocol/manifest.ts';
import { encodeRollout } from '../lib/protocol/network-contract.ts';
import { newPrivateKey } from '../lib/protocol/secp256k1.ts';
import { bootstrappedNetwork, Chain, TestGuest, type TestNetwork } from '../test/support/guest.ts';
import { type RelayProcess, startRelay } from '../test/support/relay.ts';
import { cpuOf } from './processes.ts';

interface Cost {
  readonly streams: number;
  /** Of one processor, percent. */
  readonly cpu: number;
  /** Resident memory at the end, MiB. */
  readonly memory: number;
  /** What each reader was sent, kB a second. */
  readonly sent: number;
}

export async function benchDashboard(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: { seconds: { type: 'string', default: '30' }, streams: { type: 'string', default: '64' } },
  });
  const [seconds, most] = [Number(values.seconds), Number(values.streams)];
  const stateDir = mkdtempSync(join(tmpdir(), 'dstack-bench-dashboard-'));
  const anvil = await startAnvil({ args: ['--block-time', '1', '--slots-in-an-epoch', '1'] });
  const chain = new Chain(anvil.url);
  const network = await bootstrappedNetwork(chain, 50);
  const guest = await TestGuest.start(network, 'joined');
  guest.apps = { apps: [], more: 0, rollouts: [] };
  const relay = await startRelay({ chain, rpcUrl: anvil.url, network, guest, stateDir });
  try {
    print('| open dashboards | CPU, % of one | memory, MiB | sent to each, kB/s |', '|---|---|---|---|');
    const costs: Cost[] = [];
    for (const streams of [0, 1, most]) {
      const cost = await measure(relay, network, streams, seconds);
      print(
        `| ${cost.streams} | ${cost.cpu.toFixed(1)} | ${cost.memory.toFixed(0)} | ${cost.sent.toFixed(1)} |`,
      );
      costs.push(cost);
    }
    printJson({ bench: 'dashboard', seconds, costs });
  } finally {
    await relay.kill();
    await guest.stop();
    await anvil.stop();
    rmSync(stateDir, { recursive: true, force: true });
  }
}

async function measure(
  relay: RelayProcess,
  network: TestNetwork,
  streams: number,
  seconds: number,
): Promise<Cost> {
  const readers = await Promise.all(
    Array.from({ length: streams }, () => Reader.open(`${relay.adminUrl}/dashboard/events`)),
  );
  const changes = setInterval(() => {
    const manifestHash = to0x(newPrivateKey());
    network.asOwner(encodeRollout({ app: to0x(appId('bench')), manifestHash })).catch(() => undefined);
  }, 2_000);
  const pid = relay.process.pid!;
  const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  // What opening costs is over then.
  await pause(3_000);
  const [cpu, bytes, begun] = [cpuOf([pid]), bytesOf(readers), performance.now()];
  await pause(seconds * 1000);
  const took = performance.now() - begun;
  clearInterval(changes);
  const cost = {
    streams,
    cpu: (cpuOf([pid]) - cpu) / took / 10,
    memory: residentMebibytes(pid),
    sent: streams === 0 ? 0 : (bytesOf(readers) - bytes) / streams / took,
  };
  const lost = readers.filter(({ ended }) => ended).length;
  if (lost > 0) throw new Error(`${lost} of ${streams} readers were cut off`);
  for (const reader of readers) reader.close();
  return cost;
}

/** Takes what it is sent, and counts it. */
class Reader {
  bytes = 0;
  ended = false;
  readonly #request: ClientRequest;

  private constructor(request: ClientRequest) {
    this.#request = request;
  }

  static open(url: string): Promise<Reader> {
    return new Promise((resolve, reject) => {
      const request = get(url, { agent: false }, (reply) => {
        if (reply.statusCode !== 200) reject(new Error(`HTTP ${reply.statusCode}`));
        const reader = new Reader(request);
        reply.on('data', ({ length }: Buffer) => {
          reader.bytes += length;
        });
        const end = (): void => {
          reader.ended = true;
        };
        reply.on('error', end);
        reply.on('close', end);
        resolve(reader);
      });
      request.on('error', reject);
    });
  }

  close(): void {
    this.#request.destroy();
  }
}

const bytesOf = (readers: readonly Reader[]): number => readers.reduce((sum, { bytes }) => sum + bytes, 0);

function residentMebibytes(pid: number): number {
  const [, kibibytes] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kibibytes) / 1024;
}
