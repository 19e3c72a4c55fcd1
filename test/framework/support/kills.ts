/** An app's host or enclave, killed wherever it acts on the outside. */
import { join } from 'node:path';
import { expect } from 'vitest';
import type { App } from './app.ts';
import { startToll, type Toll } from './toll.ts';

export interface Point {
  readonly toll: Toll;
  readonly label: string;
}

/** Has a process's calls pass a toll, each of which it makes for every request. @param tolls to be stopped at the end */
export async function callsOf(app: App, which: 'enclave' | 'host', tolls: Toll[]): Promise<Point[]> {
  const rpc = await startToll(app.anvil.url);
  tolls.push(rpc);
  const at = (toll: Toll, ...labels: string[]) => labels.map((label) => ({ toll, label }));
  if (which === 'host') {
    const enclave = await startToll(app.enclaveUrl);
    tolls.push(enclave);
    Object.assign(app.env, { RPC_URL: rpc.at, ENCLAVE_URL: enclave.at });
    return [
      ...at(rpc, 'eth_getLogs', 'eth_call'),
      ...at(enclave, '/v1/answer'),
      ...at(rpc, 'eth_estimateGas', 'eth_sendRawTransaction', 'eth_getTransactionReceipt'),
    ];
  }
  const agent = await startToll(app.agent.socket, join(app.folder, 'toll.sock'));
  tolls.push(agent);
  Object.assign(app.env, { RPC_URLS: rpc.at, DSTACK_SIMULATOR_ENDPOINT: agent.at });
  return [...at(rpc, 'eth_getBlockByNumber', 'eth_call'), ...at(agent, '/v1/key', '/v1/attest')];
}

/**
 * One request for each point; the process is killed when it passes there, and started again, and the request settled.
 * @param options.ask makes one request. @param options.settled before the first, if there were some
 * @returns how many are settled
 */
export async function expectKilledAt(
  app: App,
  which: 'enclave' | 'host',
  points: readonly Point[],
  options: { ask: (text: string) => Promise<void>; settled?: number },
): Promise<number> {
  let process = app.start(which);
  let { settled = 0 } = options;
  if (settled > 0) await expect.poll(async () => (await app.progress()).settled).toBe(settled);
  for (const { toll, label } of points) {
    for (const when of ['before', 'after'] as const) {
      const message = `${label} ${when}`;
      let kills = 0;
      await options.ask(message);
      settled += 1;
      toll.watch = async (passing, now) => {
        if (passing !== label || now !== when || kills > 0) return;
        kills += 1;
        await process.kill();
        process = app.start(which);
      };
      await expect.poll(async () => (await app.progress()).settled, { message }).toBe(settled);
      await expect.poll(() => kills, { message }).toBe(1);
    }
  }
  return settled;
}

/** While one request is on its way, the process is killed at each point, once. @returns resolves when it was */
export function killedAtAll(
  app: App,
  which: 'enclave' | 'host',
  points: readonly Point[],
): () => Promise<void> {
  let process = app.start(which);
  const open = new Set(points.flatMap(({ label }) => [`${label} before`, `${label} after`]));
  for (const { toll } of points)
    toll.watch = async (passing, now) => {
      if (!open.delete(`${passing} ${now}`)) return;
      await process.kill();
      process = app.start(which);
    };
  return async () => {
    await expect.poll(() => [...open]).toEqual([]);
  };
}
