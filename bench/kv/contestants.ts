/** etcd alone, and the store in front of its own etcd: started, measured, killed, with their data below one folder of this disk. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { BareEtcd, type Subject } from '../../test/kv/support/etcd.ts';
import { Store } from '../../test/kv/support/store.ts';

export const names = ['etcd', 'kv'] as const;
export type Name = (typeof names)[number];

export interface Contestant {
  readonly subject: Subject;
  readonly folder: string;
  pids(): readonly number[];
}

export async function startContestant(
  name: Name,
  folder: string,
  execArgv: readonly string[] = [],
): Promise<Contestant> {
  if (name === 'etcd') {
    const subject = await BareEtcd.start(folder, {});
    return { subject, folder, pids: () => [subject.pid] };
  }
  const subject = await Store.start(folder, { execArgv });
  return { subject, folder, pids: () => subject.pids };
}

export interface Resources {
  readonly megabytes: number;
  readonly diskMegabytes: number;
}

export function resourcesOf({ pids, folder }: Contestant): Resources {
  const resident = pids().map((pid) => Number(/VmRSS:\s+(\d+)/.exec(read(`/proc/${pid}/status`))?.[1] ?? 0));
  const [used] = execFileSync('du', ['-sk', folder]).toString().split('\t');
  return {
    megabytes: resident.reduce((sum, kilobytes) => sum + kilobytes, 0) / 1024,
    diskMegabytes: Number(used) / 1024,
  };
}

/** A process may have ended meanwhile. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
