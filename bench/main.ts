/**
 * `npm run bench -- NAME`: measures one part of the product, next to its peers where there are any. Start reading here;
 * each benchmark is a file that says what it compares.
 */

import { printError } from '../lib/daemon/terminal.ts';
import { benchAgent } from './agent.ts';
import { benchArchives } from './archives.ts';
import { benchAttestation } from './attestation.ts';
import { benchBoot } from './boot.ts';
import { benchDashboard } from './dashboard.ts';
import { benchGossip } from './gossip.ts';
import { benchKv } from './kv.ts';
import { benchPages } from './pages.ts';
import { benchRecords } from './records.ts';
import { benchScale } from './scale.ts';
import { benchSigner } from './signer.ts';
import { benchTls } from './tls.ts';

const benchmarks: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = {
  agent: benchAgent,
  archives: benchArchives,
  attestation: benchAttestation,
  boot: benchBoot,
  dashboard: benchDashboard,
  gossip: benchGossip,
  pages: benchPages,
  records: benchRecords,
  scale: benchScale,
  signer: benchSigner,
  kv: benchKv,
  tls: benchTls,
};

const name = process.argv[2] ?? '';
const run = Object.hasOwn(benchmarks, name) ? benchmarks[name] : undefined;
if (run === undefined) {
  printError(`usage: npm run bench -- ${Object.keys(benchmarks).join(' | ')}`);
  process.exitCode = 2;
} else {
  await run(process.argv.slice(3));
  // Peers that lied are left in the middle of what they did, with sockets that nobody reads any more.
  process.exit();
}
