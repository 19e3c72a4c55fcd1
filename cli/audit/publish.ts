/**
 * Writes a network's public files: an audit is made, and what the chain answered to it is kept, with every record of relays' that it made
 * use of. Then the folder is audited by itself, which is what its readers will do.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Archive } from '../../host/relay/archive.ts';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { makeFolder } from '../../lib/daemon/folder.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { chainHex, parseHex, sameAddress } from '../../lib/protocol/hex.ts';
import { type Recorder, recordChain, type Tape } from './chain-tape.ts';
import { CHAIN, PUBLISHED, type Published, readPublication } from './publication.ts';
import type { FoundRecord } from './record.ts';
import type { AuditReport } from './report.ts';
import { auditPublication, type Run, type RunOptions, runAudit } from './run.ts';

export type PublishOptions = Omit<RunOptions, 'checkpoint' | 'onRecord' | 'tape'> & {
  /** Made; it must not be there, or be empty. */
  readonly out: string;
};

/**
 * @returns the report of an audit of the folder alone
 * @throws PUBLISH_FOLDER, and what an audit throws
 */
export async function publish(options: PublishOptions): Promise<AuditReport> {
  const { out } = options;
  if (existsSync(out) && readdirSync(out).length > 0)
    throw new DstackError('PUBLISH_FOLDER', `${out} is there already: name a new folder, or remove it`);
  const found: FoundRecord[] = [];
  const { run, tape } = await recorded(options, (record) => found.push(record));
  makeFolder(out);
  keepRecords(out, found);
  keepBootstrapQuote(out, found, run.report);
  writeJson(join(out, CHAIN), tape);
  const published = publishedOf(options, run);
  writeJson(join(out, PUBLISHED), published);
  writeDurably(join(out, 'README.md'), readmeOf(published, run.report));
  const { report } = await auditPublication(readPublication(out), {
    archives: [out],
    blockHash: published.block.hash,
  });
  return report;
}

/** An audit whose endpoints' answers are kept; they all agree, so those of the first stand for all. */
async function recorded(
  options: PublishOptions,
  onRecord: (record: FoundRecord) => void,
): Promise<{ run: Run; tape: Tape }> {
  const recorders: Recorder[] = [];
  try {
    for (const url of options.endpoints) recorders.push(await recordChain(url));
    const endpoints = recorders.map(({ url }) => url);
    const run = await runAudit({ ...options, endpoints, onRecord, checkpoint: undefined });
    return { run, tape: recorders[0]!.tape() };
  } finally {
    for (const recorder of recorders) recorder.close();
  }
}

/** Under the names that a relay's archive gives them: a copy of one may be thrown in, and the other way round. */
function keepRecords(out: string, found: readonly FoundRecord[]): void {
  const archive = new Archive(out);
  for (const record of found) {
    if (record.kind === 'config') archive.keepConfig(record.bytes);
    // Sealed bytes are what no archive has; an audit of the chain would not have asked for these.
    else if (record.kind !== 'sealed') archive.keep(record.message);
  }
}

/** What `quote verify` takes: the quote of the first node of the present epoch, and the collateral that it is judged by. */
function keepBootstrapQuote(out: string, found: readonly FoundRecord[], { holders }: AuditReport): void {
  const first = holders.find(({ role }) => role === 'bootstrap');
  const record = found.find(
    (one) =>
      one.kind === 'bootstrap' &&
      first !== undefined &&
      first.node !== 'unknown' &&
      sameAddress(one.message.networkKey, first.node),
  );
  if (record?.kind !== 'bootstrap') return;
  const { quote, collateral } = record.message;
  writeDurably(join(out, 'bootstrap.quote'), fromHex(quote));
  if (collateral !== undefined) writeJson(join(out, 'bootstrap.collateral.json'), collateral);
}

function publishedOf(
  { flavour, from, depth }: PublishOptions,
  { report: { chainId, contract, head }, allowed }: Run,
): Published {
  const { number, hash, timestamp } = head;
  return {
    version: 1,
    chainId,
    contract,
    flavour,
    block: { number, hash: chainHex(parseHex(hash, 32)), timestamp },
    from,
    depth: depth ?? null,
    allowed,
  };
}

const writeJson = (path: string, value: unknown): void =>
  writeDurably(path, `${JSON.stringify(value, null, 1)}\n`);

function readmeOf({ contract, chainId, flavour, block }: Published, { verdict }: AuditReport): string {
  const flavoured = flavour === 'production' ? '' : ` --flavour ${flavour}`;
  return `# ${contract} on chain ${chainId}

The public files of a network of ${flavour} images, as of block ${block.number} (${new Date(block.timestamp * 1000).toISOString()}),
\`${block.hash}\`. When they were written an audit said: ${verdict}.${flavour === 'production' ? '' : ' Its evidence is simulated and proves nothing.'}

| file | what |
|---|---|
| \`published.json\` | the contract, the block, and what is allowed as of it |
| \`chain.json\` | what the chain answered to the audit |
| \`bootstrap.quote\`, \`bootstrap.collateral.json\` | the first node's quote, and what it is judged by |
| \`bootstrap-….json\`, \`request-….json\`, \`answer-….json\` | the evidence on which each node was let in, as relays keep it |
| \`config-….json\` | each network.json by its hash |

Everything here is its publisher's word until it is checked:

\`\`\`sh
npx dstack audit .${flavoured}                          # by this folder alone
npx dstack audit .${flavoured} --block-hash HASH        # HASH: of block ${block.number}, by a source of your own
npx dstack audit .${flavoured} --rpc URL                # by the chain as it is today; of the folder the records only
\`\`\`
`;
}
