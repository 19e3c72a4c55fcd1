/**
 * A round of `npm run torture -- --only store` or `alike`, as a process: `node test/kv/rounds.ts SECTION SEED`. The last line is its verdict
 * as JSON. `store`: kv, etcd or both are killed twenty times under concurrent clients. `alike`: random requests of two hostile
 * namespaces are compared with two bare etcds.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { print, printJson } from '../../lib/daemon/terminal.ts';
import { compareRandomly, type Differential } from './differential/run.ts';
import { BareEtcd, QUICK } from './support/etcd.ts';
import { playRound, type RoundResult } from './support/kills.ts';
import { compareLedger, compareLedgerNow } from './support/ledger.ts';
import { Store } from './support/store.ts';

const PREFIXES = ['a/left/', 'a/right/'];
const KILLS = 20;
const OPERATIONS = 1_500;

/** A fresh store in a folder that is removed afterwards, with a namespace for each prefix. */
export async function withStore<T>(play: (store: Store, folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-kv-'));
  const etcdArgs = Object.entries(QUICK).map(([name, value]) => `--${name}=${value}`);
  const store = await Store.start(join(folder, 'store'), { prefixes: PREFIXES, etcdArgs });
  try {
    return await play(store, folder);
  } finally {
    await store.stop();
    rmSync(folder, { recursive: true });
  }
}

export const killed = (seed: number, kills: number): Promise<RoundResult> =>
  withStore(async (store) => {
    const look = () => compareLedgerNow(store.socket, store.address);
    const options = { seed, kills, clients: 6, keys: 6, pauseMs: 15, lifeMs: 400, look };
    const { problems, ...result } = await playRound(store, options);
    return { ...result, problems: [...problems, ...(await compareLedger(store.socket, store.address))] };
  });

/** Every namespace beside a bare etcd of its own. */
export const alike = (seed: number, operations: number): Promise<Differential> =>
  withStore(async (store, folder) => {
    const bare = await Promise.all(PREFIXES.map((_, n) => BareEtcd.start(join(folder, `etcd-${n}`))));
    try {
      const pairs = bare.map(({ address }, n) => ({ store: store.addressOf(n), bare: address }));
      return await compareRandomly(pairs, seed, operations);
    } finally {
      for (const etcd of bare) await etcd.stop();
    }
  });

interface Verdict {
  readonly kills: number;
  readonly lostWrites: number;
  readonly converged: boolean;
  readonly problems: readonly string[];
}

async function play(section: string, seed: number): Promise<Verdict> {
  if (section === 'store') {
    const { kills, lost, problems, ...counts } = await killed(seed, KILLS);
    print(...Object.entries(counts).map(([name, count]) => `${name}: ${count}`));
    return { kills, lostWrites: lost, converged: true, problems };
  }
  if (section !== 'alike') throw new Error(`there is no section ${section}: store, alike`);
  const { differences, explained, ...counts } = await alike(seed, OPERATIONS);
  print(...Object.entries({ ...counts, ...explained }).map(([name, count]) => `${name}: ${count}`));
  return { kills: 0, lostWrites: 0, converged: true, problems: differences };
}

if (import.meta.main) {
  const [section = '', seed = ''] = process.argv.slice(2);
  printJson(await play(section, Number(seed)));
}
