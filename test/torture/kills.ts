/** Relays of both sides, and the owner's commands, killed at the points where they act on the outside. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { to0x } from '../../lib/protocol/encoding.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import { decodeAppOf, encodeAppOf, networkTopics } from '../../lib/protocol/network-contract.ts';
import { node24, OWNER_KEY } from '../support/network.ts';
import type { Arena, Host } from './arena.ts';
import { judge, type Verdict } from './verdict.ts';

const CLI = join(import.meta.dirname, '../../cli/main.ts');
const KILL_POINT = join(import.meta.dirname, 'kill-point.ts');
const APP = 'greeting';

export async function kills(arena: Arena): Promise<Verdict> {
  const { network } = arena;
  const ownerKey = join(network.directory, 'owner.key');
  writeFileSync(ownerKey, OWNER_KEY, { mode: 0o600 });
  const problems: string[] = [];

  const first = await arena.host({ role: 'bootstrap' });
  await network.allow(first.node);
  await arena.startBlocks();
  const packageFile = () => bootstrapFile(network.directory);
  await dying(arena, first, arena.some(3), async () => packageFile() !== undefined);
  if (!first.relay.running) arena.start(first);
  await arena.until('a bootstrap package', async () => packageFile() !== undefined);
  await command(arena, ['network', 'bootstrap', packageFile()!, '--flavour', 'sim'], ownerKey, () =>
    arena.isJoined(first),
  );

  const second = await arena.host({ peers: [first] });
  const joined = () => arena.isJoined(second);
  await Promise.all([
    dying(arena, second, arena.some(9), joined),
    dying(arena, first, arena.some(5), joined),
  ]);
  for (const host of [first, second]) if (!host.relay.running) arena.start(host);

  const manifestHash = to0x(new Uint8Array(32).fill(arena.random.between(1, 255)));
  await command(arena, ['app', 'rollout', APP, manifestHash], ownerKey, async () => {
    const answer = await arena.network.rpc.call({
      to: network.contract,
      data: encodeAppOf({ app: to0x(appId(APP)) }),
    });
    return decodeAppOf(answer).manifestHash === manifestHash;
  });
  const rollouts = await rolledOut(arena);
  if (rollouts !== 1) problems.push(`rolled out ${rollouts} times`);

  await arena.calm();
  const verdict = await judge(arena);
  return {
    ...verdict,
    doublePurposes: verdict.doublePurposes + Math.max(0, rollouts - 1),
    problems: [...verdict.problems, ...problems],
  };
}

/**
 * Starts a relay that many times, each time killed at a point: at consecutive points from a random one on, so that neighbouring
 * crashes combine, or at random ones. Leaves it dead, or running when it is done.
 */
async function dying(arena: Arena, host: Host, lives: number, done: () => Promise<boolean>): Promise<void> {
  const { random } = arena;
  const ladder = random.chance(0.5);
  const step = random.between(1, 9);
  let at = random.between(1, 60);
  for (let life = 0; life < lives; life += 1) {
    if (!(await arena.life(host, at, done))) {
      // It got through. Its kill point may be minutes away, so it is started later without one.
      await host.relay.kill();
      arena.counts.kills += 1;
      if (await done().catch(() => false)) return;
    }
    at = ladder ? at + step : random.between(1, 60 + 30 * life);
  }
}

/** Runs an owner's command, killed at random points, until its job is done. */
async function command(
  arena: Arena,
  args: readonly string[],
  ownerKey: string,
  done: () => Promise<boolean>,
): Promise<void> {
  for (let tries = 0; tries < 3; tries += 1) {
    // The last attempt is not killed.
    const at = tries < 2 ? arena.random.between(1, 40) : Number.MAX_SAFE_INTEGER;
    const child = startCommand(arena, args, ownerKey, at);
    await once(child, 'exit');
    if (child.signalCode === 'SIGKILL') arena.counts.kills += 1;
    else if (child.exitCode === 0) break;
  }
  await arena.until(`${args.slice(0, 2).join(' ')} to be done`, done);
}

function startCommand(arena: Arena, args: readonly string[], ownerKey: string, killAt: number): ChildProcess {
  const { network } = arena;
  return spawn(node24, ['--import', KILL_POINT, '--', CLI, ...args, '--yes'], {
    env: {
      PATH: process.env.PATH ?? '',
      ...(process.env.NODE_COMPILE_CACHE && { NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE }),
      TORTURE_KILL_AT: String(killAt),
      DSTACK_RPC_URL: network.anvil.url,
      DSTACK_CHAIN_ID: String(network.domain.chainId),
      DSTACK_CONTRACT: network.contract,
      DSTACK_OWNER_KEY_FILE: ownerKey,
    },
    stdio: process.env.TORTURE_LOG === undefined ? 'ignore' : ['ignore', 2, 2],
  });
}

/** The newest bootstrap package, once the relay has stored it whole. */
function bootstrapFile(directory: string): string | undefined {
  const archive = join(directory, 'relay-A', 'archive');
  if (!existsSync(archive)) return undefined;
  const name = readdirSync(archive).find((file) => /^bootstrap-0x[0-9a-f]{40}\.json$/.test(file));
  if (name === undefined) return undefined;
  // A torn file would throw here, and it must not exist under this name.
  JSON.parse(readFileSync(join(archive, name), 'utf8'));
  return join(archive, name);
}

async function rolledOut(arena: Arena): Promise<number> {
  const filter = { address: arena.network.contract, fromBlock: '0x0', topics: [networkTopics.RolledOut] };
  return (await arena.rpc<unknown[]>('eth_getLogs', filter)).length;
}
