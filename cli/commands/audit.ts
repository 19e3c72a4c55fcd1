/** `audit`: replays a network's life from its chain and its public files, and says who could hold the secret today. */
import { print, printError, printJson } from '../../lib/daemon/terminal.ts';
import { requireUsable } from '../audit/checkpoint.ts';
import { isFolder, readPublication } from '../audit/publication.ts';
import type { AuditReport, CheckpointReport } from '../audit/report.ts';
import { auditPublication, type Run, type RunOptions, runAudit } from '../audit/run.ts';
import { instant } from '../audit/words.ts';
import {
  type Arguments,
  type Command,
  narrationOptions,
  type Option,
  typed,
  UsageError,
} from '../command.ts';
import { flavourOf, flavourOption } from '../flavour.ts';
import { requireAddress } from '../owner/connection.ts';
import { recordsAddressOf } from '../records-archive.ts';

/** How an audit reads a chain and archives; of whoever publishes one, too. */
export const readingOptions = {
  rpc: {
    value: 'URL',
    help: "JSON-RPC endpoint with the contract's logs; give several and all must agree. A folder of network publish may do without",
    env: 'DSTACK_RPC_URL',
    multiple: true,
  },
  archive: {
    value: 'DIR|URL',
    help: "a relay's archive: its folder, or the relay to read it from, by http(s) or records://KEY@HOST:PORT; give several",
    multiple: true,
    formerly: 'records',
  },
  from: {
    value: 'BLOCK',
    help: "the first block to read; not after the deployment (default 0, or the folder's)",
  },
  depth: {
    value: 'BLOCKS',
    help: 'read up to this many blocks below the newest; without it, the finalized one',
  },
  at: {
    value: 'BLOCK',
    help: 'audit the past, as of this block; without it, an old head fails the audit',
  },
  wait: {
    value: 'SECONDS',
    help: 'how long endpoints that lag behind the newest block are waited for',
    default: '60',
  },
  flavour: flavourOption,
} satisfies Record<string, Option>;

const command: Command = {
  name: 'audit',
  summary:
    "replays a network's life, verifies each quote as of its time, says who could hold the secret today",
  positionals: ['CONTRACT|FOLDER'],
  options: {
    ...readingOptions,
    'block-hash': {
      value: 'HASH',
      help: 'for a folder without --rpc: of its block, by a source of your own',
    },
    checkpoint: {
      value: 'FILE',
      help: 'what is known is read from it and what is new is added, so that the next audit pays only for that',
    },
    pin: {
      value: 'HASH',
      help: 'the hash of the checkpoint that the audit before printed: any other file is refused',
    },
    json: { help: 'prints one JSON object' },
    quiet: narrationOptions.quiet,
  },
  async run(args) {
    const { report, save } = await auditOf(args);
    const saved = await save().then(
      (checkpoint) => ({ checkpoint }),
      (error: unknown) => ({ error }),
    );
    const full =
      'checkpoint' in saved && saved.checkpoint ? { ...report, checkpoint: saved.checkpoint } : report;
    if (args.flag('json')) printJson(full);
    else print(...asText(full));
    // Whatever became of the file, the report was paid for.
    if ('error' in saved) throw saved.error;
    if (report.verdict === 'unproven' || report.verdict === 'failed') process.exitCode = 1;
  },
};

/** Of a contract, or of a folder: by the chain, or by what the folder has of it. @throws USAGE and what an audit throws */
async function auditOf(args: Arguments): Promise<Run> {
  const [what] = args.positionals as [string];
  const flavour = flavourOf(args);
  const blockHash = args.optional('block-hash');
  if (blockHash !== undefined && !/^0x[0-9a-f]{64}$/.test(blockHash))
    throw new UsageError(
      `--block-hash takes 0x and 64 lower-case hex digits, not ${blockHash.slice(0, 100)}`,
    );
  if (/^(0x)?[0-9a-fA-F]{40}$/.test(what)) {
    const contract = requireAddress('CONTRACT', what);
    if (blockHash !== undefined)
      throw new UsageError('--block-hash is for a folder that is audited without --rpc');
    return runAudit({ ...auditOptions(args), checkpoint: checkpointOf(args), contract, flavour });
  }
  if (!isFolder(what))
    throw new UsageError(
      `CONTRACT is 0x and 40 hex digits, and FOLDER one that network publish wrote; ${what} is neither`,
    );
  const publication = typed(() => readPublication(what));
  const { published } = publication;
  // Simulated evidence is accepted by who says so, and not by who would like it to be.
  if (published.flavour !== flavour)
    throw new UsageError(
      `${what} is of a network of ${published.flavour} images, and is audited as ${flavour}: --flavour ${published.flavour} says that you mean it`,
    );
  if (args.optional('rpc') !== undefined) {
    if (blockHash !== undefined)
      throw new UsageError('with --rpc the chain is asked: leave out --block-hash');
    const options = { ...auditOptions(args, published.from), checkpoint: checkpointOf(args) };
    return runAudit({
      ...options,
      archives: [what, ...options.archives],
      contract: published.contract,
      flavour,
      published,
    });
  }
  for (const name of ['at', 'depth', 'checkpoint', 'pin'])
    if (args.optional(name) !== undefined)
      throw new UsageError(`--${name} is about a chain: give --rpc, too`);
  const archives = args.list('archive');
  for (const archive of archives) requireArchive(archive);
  return auditPublication(publication, { archives: [what, ...archives], blockHash });
}

/** All of what was typed is looked at before anything is asked of anybody. @throws USAGE */
export function auditOptions(
  args: Arguments,
  from = 0,
): Omit<RunOptions, 'contract' | 'flavour' | 'checkpoint'> {
  const endpoints = args.list('rpc').length > 0 ? args.list('rpc') : [args.text('rpc')];
  for (const url of endpoints) {
    if (!/^https?:\/\/[^\s]+$/.test(url) || !URL.canParse(url)) {
      throw new UsageError(`--rpc takes an http(s) URL, not ${JSON.stringify(url.slice(0, 100))}`);
    }
  }
  const archives = args.list('archive');
  for (const archive of archives) requireArchive(archive);
  const number = (name: string) => {
    const text = args.optional(name);
    return text === undefined ? undefined : wholeNumber(name, text);
  };
  return {
    endpoints,
    archives,
    from: number('from') ?? from,
    depth: number('depth'),
    at: number('at'),
    waitMs: wholeNumber('wait', args.text('wait')) * 1000,
    onWait: (who) => printError(`waiting for ${who} to get to the newest block`),
    onProgress: progress(),
  };
}

function checkpointOf(args: Arguments): RunOptions['checkpoint'] {
  const [path, pin] = [args.optional('checkpoint'), args.optional('pin')];
  if (pin !== undefined && !/^[0-9a-f]{64}$/.test(pin)) {
    throw new UsageError(`--pin takes 64 lower-case hex digits, not ${JSON.stringify(pin.slice(0, 100))}`);
  }
  if (path === undefined) {
    if (pin !== undefined) throw new UsageError('--pin is about a checkpoint: give --checkpoint FILE too');
    return undefined;
  }
  typed(() => requireUsable(path));
  return { path, pin };
}

/** Mistyped, a folder would be a source with a fault, and every record missing. */
function requireArchive(archive: string): void {
  if (typed(() => recordsAddressOf(archive)) !== undefined) return;
  const isUrl = /^[a-z][a-z0-9+.-]*:\/\//i.test(archive);
  if (isUrl && /^https?:\/\/[^\s]+$/.test(archive) && URL.canParse(archive)) return;
  if (!isUrl && isFolder(archive)) return;
  throw new UsageError(
    `--archive takes a folder that is there, an http(s) URL or records://KEY@HOST:PORT, not ${JSON.stringify(archive.slice(0, 200))}`,
  );
}

/** Prints a line now and then, once it takes longer than a few seconds. */
function progress(): (block: number, last: number) => void {
  let said = Date.now();
  return (block, last) => {
    if (Date.now() - said < 2_000) return;
    said = Date.now();
    printError(`read up to block ${block} of ${last}`);
  };
}

function wholeNumber(name: string, text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new UsageError(`--${name} takes a whole number, not ${text}`);
  return Number(text);
}

export function asText(report: AuditReport): readonly string[] {
  const { head, holders, findings, pending, apps, timeline } = report;
  return [
    `network  ${report.contract} on chain ${report.chainId}, as of block ${head.number} (${instant(head.timestamp)}), ${head.hash}`,
    `storage  ${storageOf(report.storage)}`,
    ...(report.checkpoint === undefined ? [] : [`known    ${knownOf(report.checkpoint)}`]),
    `owner    ${report.owner}; loosening takes ${report.delay} s`,
    '',
    'history',
    ...timeline.map(({ block, time, text }) => `  ${String(block).padStart(9)}  ${instant(time)}  ${text}`),
    '',
    `who could hold the secret of epoch ${report.epoch} today`,
    ...holders.flatMap((holder) => [
      `  ${holder.role} ${holder.node}, block ${holder.block} (${instant(holder.time)}): evidence ${holder.proof.is}`,
      ...(['measurement', 'platform', 'config'] as const).map(
        (kind) => `    ${kind.padEnd(12)} ${holder[kind] ?? 'unknown'} ${standingOf(holder.standing[kind])}`,
      ),
    ]),
    ...(holders.length === 0 ? ['  nobody: there is none'] : []),
    '',
    ...(report.unanswered.length === 0 ? [] : ['registered, and not answered']),
    ...report.unanswered.map(
      ({ requestHash, node, block, standing }) =>
        `  request ${requestHash} of ${node}, block ${block}: ${standing}`,
    ),
    ...(report.unanswered.length === 0 ? [] : ['']),
    ...(report.unposted.length === 0 ? [] : ["signed by the network's key, and not on chain"]),
    ...report.unposted.map(
      ({ requestHash, node, standing, sealedFound }) =>
        `  answer to request ${requestHash} of ${node}: the request reads ${standing}, the sealed secret was ${sealedFound ? 'FOUND' : 'not found'} among the records`,
    ),
    ...(report.unposted.length === 0 ? [] : ['']),
    'apps',
    ...apps.map(({ app, manifest }) => `  ${app}: ${manifest ?? 'none'}`),
    ...(pending.length === 0 ? [] : ['', 'to come']),
    ...pending.map(({ what, from }) => `  ${instant(from)}  ${what}`),
    '',
    ...findings.map(
      ({ severity, code, where, message }) => `${severity.toUpperCase()}  ${code} (${where}): ${message}`,
    ),
    `verdict  ${report.verdict}, as of block ${head.number} (${head.hash}), which was ${head.age} s old when this machine's clock said ${instant(head.seenAt)}`,
  ];
}

function knownOf({ hash, from, known, added }: CheckpointReport): string {
  const before =
    from === undefined ? 'nothing before' : `up to block ${from}, with ${known} quotes accepted before`;
  return `${before}; ${added} accepted now; checkpoint ${hash ?? 'not written'}`;
}

function storageOf(storage: AuditReport['storage']): string {
  if (!storage.proven) return 'NOT PROVEN: the events may leave something out';
  const of = `proven under the ${storage.under}`;
  if (!storage.explained && !storage.canonical) return `${of}, in a trie unlike Ethereum's: NOT COMPARED`;
  return storage.explained
    ? `${of}, and fully explained by the events`
    : `${of}, and NOT what the events add up to`;
}

function standingOf(standing: AuditReport['holders'][number]['standing']['config']): string {
  if (standing === undefined) return '';
  if (standing.is === 'allowed') return `(allowed since ${instant(standing.since)})`;
  if (standing.is === 'pending') return `(allowed from ${instant(standing.from)})`;
  return standing.is === 'revoked' ? `(REVOKED at ${instant(standing.at)})` : '(not listed)';
}

export const auditCommands: readonly Command[] = [command];
