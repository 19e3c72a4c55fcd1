/**
 * `npm run bench -- agent [--only ATTACK,…|rubbish-each] [--rounds N] [--seconds N]`: what one app's calls to its agent take while another app does its
 * worst, next to what they take without it. Agent, replicator and attestor are the daemons themselves, their platform is simulated. Calm and
 * attack take turns, round by round, and a round's ratio is of its own two measurements, so that a machine that is busy in some rounds and
 * idle in others does not decide it; the median of the rounds counts.
 *
 * `rubbish` is all kinds of what is refused at once (bench/agent-rubbish.ts); each by itself is `rubbish-KIND`, and `rubbish-each` is all of
 * them one after the other, which takes an hour unless rounds and seconds are few.
 *
 * `nothing` is a process that computes and asks the agent for nothing: what it costs the calls is the machine's, and no fault of the agent's.
 * The agent's share of a processor is beside each; that includes what it does for the calls. The last line is JSON.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { print, printJson } from '../lib/daemon/terminal.ts';
import { AGENT_API } from '../lib/protocol/manifest.ts';
import { startAgent } from '../test/support/agent.ts';
import { startTestNetwork } from '../test/support/network.ts';
import { RUBBISH } from './agent-rubbish.ts';
import { cpuOf } from './processes.ts';

const AIM = 2;
const ATTACKS = [
  ...['nothing', 'keys', 'signatures', 'verifying', 'certificates', 'quotes', 'rubbish'],
  ...['pipelining', 'chunks', 'connections', 'resets'],
];
const EACH = 'rubbish-each';
const KINDS = Object.keys(RUBBISH).map((kind) => `rubbish-${kind}`);
const CALLS: readonly (readonly [path: string, body?: object])[] = [
  ['/v1/key', { tag: 'a', type: 'secp256k1' }],
  ['/getkey/x'],
  ['/v1/sign', { tag: 'a', algorithm: 'ed25519', data: '00' }],
  ['/v1/status'],
  ['/v1/quote', { data: '00' }],
  ['/v1/attest', { tag: 'a', data: '00' }],
];

export async function benchAgent(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string', default: ATTACKS.join(',') },
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '5' },
    },
  });
  const [count, seconds] = [Number(values.rounds), Number(values.seconds)];
  const attacks = values.only.split(',').flatMap((attack) => (attack === EACH ? KINDS : [attack]));
  const known = [...ATTACKS, ...KINDS];
  const unknown = attacks.find((attack) => !known.includes(attack));
  if (unknown !== undefined) throw new Error(`no attack ${unknown}: there are ${known.join(', ')}`);
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
      const measure = async (): Promise<Measured> => {
        const [cpu, began] = [cpuOf([agent.pid()]), performance.now()];
        const times = await timesOf(mine, seconds);
        const took = performance.now() - began;
        return { p99: p99(times), cpu: (cpuOf([agent.pid()]) - cpu) / took / 10 };
      };
      await measure();
      print(
        `${cpus().length} processors; ${count} rounds of ${seconds} s each; p99 in ms, ratio aimed at ${AIM}`,
      );
      const rows: object[] = [];
      for (const attack of attacks) {
        for (const [by, way] of Object.entries(ways)) {
          const rounds: Round[] = [];
          for (let round = 0; round < count; round += 1) {
            const calm = await measure();
            const program = join(import.meta.dirname, 'agent-attacks.ts');
            attacker = spawn(process.execPath, [program, attack, JSON.stringify(way)], { stdio: 'inherit' });
            await new Promise((resolve) => setTimeout(resolve, 1_000));
            const attacked = await measure();
            attacker.kill('SIGKILL');
            await once(attacker, 'exit');
            rounds.push({ calm, attacked });
          }
          const row = medianOf(rounds);
          print(line(`${attack} by ${by}`, row));
          rows.push({ attack, by, ...row });
        }
      }
      printJson({ bench: 'agent', rounds: count, seconds, rows });
    } finally {
      agent.stop();
    }
  } finally {
    attacker?.kill('SIGKILL');
    await network.stop();
  }
}

interface Measured {
  readonly p99: number;
  /** The agent's, percent of one processor. */
  readonly cpu: number;
}

interface Round {
  readonly calm: Measured;
  readonly attacked: Measured;
}

interface Row extends Round {
  readonly ratio: number;
}

function medianOf(rounds: readonly Round[]): Row {
  const rows = rounds.map((round) => ({ ...round, ratio: round.attacked.p99 / round.calm.p99 }));
  return rows.sort((a, b) => a.ratio - b.ratio)[rows.length >> 1]!;
}

const line = (name: string, { calm, attacked, ratio }: Row): string =>
  `${name.padEnd(24)} ${calm.p99.toFixed(1)} → ${attacked.p99.toFixed(1)}, ${ratio.toFixed(2)}; the agent's processor ${calm.cpu.toFixed(0)} → ${attacked.cpu.toFixed(0)} %${ratio > AIM ? ': too much' : ''}`;

const p99 = (times: readonly number[]): number =>
  [...times].sort((a, b) => a - b)[Math.floor(times.length * 0.99)]!;

/** Of calls one after the other, milliseconds. */
async function timesOf(socketPath: string, seconds: number): Promise<number[]> {
  const times: number[] = [];
  const until = performance.now() + seconds * 1_000;
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
