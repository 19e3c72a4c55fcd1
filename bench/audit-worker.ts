/** One audit in a process of its own, for `bench -- scale`: what it takes of time and memory is nobody else's. Arguments: JSON. */
import { type RunOptions, runAudit } from '../cli/audit/run.ts';
import { printJson } from '../lib/daemon/terminal.ts';

const { now, ...options } = JSON.parse(process.argv[2]!) as RunOptions & { now: number };
const begun = performance.now();
const run = await runAudit({ ...options, clock: () => now });
const saved = await run.save();
const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage();
printJson({
  seconds: (performance.now() - begun) / 1000,
  cpu: (userCPUTime + systemCPUTime) / 1e6,
  megabytes: maxRSS / 1024,
  faults: run.report.findings.filter(({ severity }) => severity !== 'warning'),
  added: saved?.added,
});
