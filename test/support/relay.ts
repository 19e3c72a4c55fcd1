/** A relay as a process of its own, so that it can be killed, and seen to die. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromHex, to0x } from '../../lib/protocol/encoding.ts';
import { addressOf, newPrivateKey } from '../../lib/protocol/secp256k1.ts';
import { eventually, freePort, node24 } from './network.ts';

export interface RelayProcess {
  readonly gossipUrl: string;
  readonly adminUrl: string;
  readonly process: ChildProcess;
  /** What it printed. */
  log(): string;
  kill(): Promise<void>;
}

/** Starts a relay with a funded gas key, the one in its state directory if there is one; resolves once it serves. */
export async function startRelay(options: {
  /** Where its gas key gets its balance: an anvil. */
  chain: { rpc(method: string, ...params: unknown[]): Promise<unknown> };
  rpcUrl: string;
  network: { domain: { chainId: number }; address: string };
  guest: { url: string };
  stateDir: string;
  peers?: readonly string[];
}): Promise<RelayProcess> {
  mkdirSync(options.stateDir, { recursive: true });
  const keyFile = join(options.stateDir, 'gas.key');
  const key = existsSync(keyFile) ? fromHex(readFileSync(keyFile, 'utf8'), 32) : newPrivateKey();
  writeFileSync(keyFile, to0x(key), { mode: 0o600 });
  await options.chain.rpc('anvil_setBalance', addressOf(key), '0x8ac7230489e80000');
  const [gossip, admin] = [await freePort(), await freePort()];
  const said: string[] = [];
  const child = spawn(
    node24,
    [join(import.meta.dirname, '../../host/relay/main.ts'), '--key-file', keyFile],
    {
      env: {
        DSTACK_RPC_URL: options.rpcUrl,
        DSTACK_CHAIN_ID: String(options.network.domain.chainId),
        DSTACK_CONTRACT: options.network.address,
        DSTACK_NODE_URL: options.guest.url,
        DSTACK_STATE_DIR: options.stateDir,
        DSTACK_GOSSIP_LISTEN: `127.0.0.1:${gossip}`,
        DSTACK_GOSSIP_PEERS: options.peers?.join(',') ?? '',
        DSTACK_ADMIN_LISTEN: `127.0.0.1:${admin}`,
        DSTACK_CONFIRMATIONS: '0',
        DSTACK_POLL_MS: '100',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => said.push(String(chunk)));
  const adminUrl = `http://127.0.0.1:${admin}`;
  await eventually(async () => {
    if (child.exitCode !== null) throw new Error(`the relay ended: ${said.join('')}`);
    return (await fetch(`${adminUrl}/v1/status`)).ok;
  }, 'the relay to serve');
  return {
    gossipUrl: `http://127.0.0.1:${gossip}`,
    adminUrl,
    process: child,
    log: () => said.join(''),
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    },
  };
}
