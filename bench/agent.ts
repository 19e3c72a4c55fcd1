/**
 * What one app's calls to its agent take while another app does its worst, next to what they take without it. Agent, replicator and attestor are
 * the daemons themselves, their platform is simulated. Calm and attack take turns, round by round, and a round's ratio is of its own two
 * measurements, so that a machine that is busy in some rounds and idle in others does not decide it; the median of the rounds counts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { print } from '../lib/daemon/terminal.ts';
import { AGENT_API } from '../lib/protocol/manifest.ts';
import { startAgent } from '../test/support/agent.ts';
import { startTestNetwork } from '../test/support/network.ts';

const ROUNDS = 5;
const SECONDS = 5;
const AIM = 2;
const ATTACKS = [
  ...['keys', 'signatures', 'verifying', 'certificates', 'quotes', 'rubbish'],
  ...['pipelining', 'chunks', 'connections'],
];
const CALLS: readonly (readonly [path: string, body?: object])[] = [
  ['/v1/key', { tag: 'a', type: 'secp256k1' }],
  ['/getkey/x'],
  ['/v1/sign', { tag: 'a', algorithm: 'ed25519', data: '00' }],
  ['/v1/status'],
  ['/v1/quote', { data: '00' }],
  ['/v1/attest', { tag: 'a', data: '00' }],
];

export async function benchAgent(): Promise<void> {
  const network = await startTestNetwork();
  let attacker: ChildProcess | undefined;
  try {
    const node = await network.start({ role: 'bootstrap' });
    await network.allow(node);
    await network.bootstrap(node);
    const hostile = { app: 'hostile', address: '127.0.0.2', api: AGENT_API };
    // Apps are told apart by their gateways.
    const victim = { app: 'victim', address: '127.0.0.3', api: AGENT_API, gateway: '127.0.0.9' };
    const agent = await startAgent(node, [hostile, victim]);
    try {
      const socketOf = async (app: string) => join(await agent.folderOf(app), 'dstack.sock');
      const mine = await socketOf(victim.app);
      const ways = {
        bridge: { host: '127.0.0.1', port: agent.port, localAddress: hostile.address },
        socket: { path: await socketOf(hostile.app) },
      };
      await timesOf(mine);
      print(
        `${cpus().length} processors; ${ROUNDS} rounds of ${SECONDS} s each; p99 in ms, ratio aimed at ${AIM}`,
      );
      for (const attack of ATTACKS) {
        for (const [by, way] of Object.entries(ways)) {
          const rounds: Round[] = [];
          for (let round = 0; round < ROUNDS; round += 1) {
            const calm = p99(await timesOf(mine));
            const program = join(import.meta.dirname, 'agent-attacks.ts');
            attacker = spawn(process.execPath, [program, attack, JSON.stringify(way)], { stdio: 'inherit' });
            await new Promise((resolve) => setTimeout(resolve, 1_000));
            const attacked = p99(await timesOf(mine));
            attacker.kill('SIGKILL');
            await once(attacker, 'exit');
            rounds.push({ calm, attacked });
          }
          print(line(`${attack} by ${by}`, rounds));
        }
      }
    } finally {
      agent.stop();
    }
  } finally {
    attacker?.kill('SIGKILL');
    await network.stop();
  }
}

interface Round {
  readonly calm: number;
  readonly attacked: number;
}

function line(name: string, rounds: readonly Round[]): string {
  const by = [...rounds].sort((a, b) => a.attacked / a.calm - b.attacked / b.calm);
  const { calm, attacked } = by[by.length >> 1]!;
  const ratio = attacked / calm;
  return `${name.padEnd(24)} ${calm.toFixed(1)} → ${attacked.toFixed(1)}, ${ratio.toFixed(2)}${ratio > AIM ? ': too much' : ''}`;
}

const p99 = (times: readonly number[]): number =>
  [...times].sort((a, b) => a - b)[Math.floor(times.length * 0.99)]!;

/** Of calls one after the other, milliseconds. */
async function timesOf(socketPath: string): Promise<number[]> {
  const times: number[] = [];
  const until = performance.now() + SECONDS * 1_000;
  for (let at = 0; performance.now() < until; at += 1) {
    const began = performance.now();
    const [path, body] = CALLS[at % CALLS.length]!;
    await call(socketPath, path, body);
    times.push(performance.now() - began);
  }
  return times;
}

function call(socketPath: string, path: string, body?: object): Promise<void> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const length =
    text === undefined ? {} : { 'content-length': text.length, 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const headers = { host: 'dstack-guest', ...length };
    const method = body === undefined ? 'GET' : 'POST';
    request({ socketPath, method, path, headers, agent: false }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`${path} was answered ${response.statusCode}`));
      response.resume().on('end', resolve);
    })
      .on('error', reject)
      .end(text);
  });
}
