/**
 * What an audit takes as a network grows: the first one, and the next one from a checkpoint with ten more nodes. The chain is a model in
 * memory; quotes, signatures, records, the relay's archive over HTTP and the auditor's process are real.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fastify from 'fastify';
import type { RunOptions } from '../cli/audit/run.ts';
import { Archive } from '../host/relay/archive.ts';
import { archiveRoutes } from '../host/relay/archive-routes.ts';
import { ModelledChain } from '../test/support/modelled-chain.ts';
import type { Row } from './growth.ts';

const SIZES = [100, 1_000];
const NEW = 10;

interface Outcome {
  readonly seconds: number;
  readonly cpu: number;
  readonly megabytes: number;
  readonly faults: readonly { readonly code: string }[];
  readonly added: number;
}

export async function auditRows(tell: (row: Row) => void): Promise<void> {
  for (const size of SIZES) {
    const folder = mkdtempSync(join(tmpdir(), 'dstack-bench-'));
    const chain = await ModelledChain.start(join(folder, 'archive'));
    chain.grow(size - NEW);
    const app = fastify();
    let asked = 0;
    app.addHook('onRequest', async () => {
      asked += 1;
    });
    archiveRoutes(app, new Archive(chain.folder));
    const relay = await app.listen({ host: '127.0.0.1', port: 0 });
    const audit = async (which: string, expected: number) => {
      const [calls, requests] = [chain.calls, asked];
      const { seconds, cpu, megabytes, faults, added } = await auditOnce(
        chain,
        relay,
        join(folder, 'checkpoint'),
      );
      if (faults.length > 0 || added !== expected) {
        throw new Error(`the audit accepted ${added} of ${expected}: ${faults.map(({ code }) => code)}`);
      }
      const row = (what: string, figure: number, unit: string) =>
        tell({ what: `audit, ${which}: ${what}`, size, figure, unit });
      row('calls to the endpoint', chain.calls - calls, 'calls');
      row('requests to the archive', asked - requests, 'requests');
      row('processor', cpu, 's');
      row('as long as', seconds, 's');
      row('peak memory', megabytes, 'MB');
    };
    try {
      await audit('the first', size - NEW + 1);
      chain.grow(NEW);
      await audit('the next, ten new', NEW);
    } finally {
      await app.close();
      chain.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  }
}

async function auditOnce(chain: ModelledChain, relay: string, path: string): Promise<Outcome> {
  const { contract } = chain.domain;
  const options: RunOptions = {
    ...{ endpoints: [chain.url], contract, flavour: 'sim', archives: [relay], from: 0, depth: 0 },
    ...{ at: undefined, waitMs: 60_000, checkpoint: { path, pin: undefined } },
  };
  const worker = join(import.meta.dirname, 'audit-worker.ts');
  const argument = JSON.stringify({ ...options, now: chain.timeOf(chain.head) });
  const { stdout } = await promisify(execFile)(process.execPath, [worker, argument]);
  return JSON.parse(stdout) as Outcome;
}
