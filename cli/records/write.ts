/** Making a record on its owner's machine: neither its names nor the key get to the node that takes it. */
import { permitFor } from '../../host/records/service/permits.ts';
import { doWork } from '../../host/records/service/work.ts';
import { stopSignal } from '../../lib/daemon/stop-signal.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import { type Draft, draftRecord, signRecord } from '../../lib/protocol/records/make.ts';
import { publicKeyOfSeed } from '../../lib/protocol/records/strict-ed25519.ts';
import type { WorkPermit } from '../../lib/protocol/records/work.ts';
import type { Client } from './client.ts';

/** Milliseconds between two lines. */
const PROGRESS = 2_000;

export interface WriteOptions {
  readonly noWork: boolean;
  /** Told how far the work is. */
  readonly say: (line: string) => void;
}

/**
 * @returns the identity of the record, which the node has on its disk
 * @throws RECORDS_LINKS, RECORDS_PERMIT, RECORD_WORK_CANCELLED (Ctrl-C), what the record is refused for
 */
export async function writeRecord(
  client: Client,
  draft: Omit<Draft, 'timestamp' | 'links'>,
  ownerSeed: Uint8Array,
  { noWork, say }: WriteOptions,
): Promise<string> {
  const owner = publicKeyOfSeed(ownerSeed);
  const key = toHex(owner);
  const { rules, owner: founder } = client.genesis;
  const { links } = await client.links();
  const isPrivileged = key === toHex(founder) || rules.authorities.includes(key);
  const least = isPrivileged ? 1 : rules.minLinks;
  if (links.length < least) {
    throw new DstackError(
      'RECORDS_LINKS',
      `${client.url} has ${links.length} records to link to, and ${least} are needed; wait until it has the network's records`,
    );
  }
  const drafted = draftRecord(
    { ...draft, timestamp: Date.now(), links: links.map((id) => fromHex(id)) },
    owner,
  );
  const permit = await permitFor(drafted, client.genesis, {
    certificates: (await client.owner(key)).certificates.map(({ id }) => id),
    work: noWork ? undefined : (seed, difficulty) => cancellableWork(seed, difficulty, say),
  });
  const record = signRecord(drafted, permit, ownerSeed);
  const id = await client.post(record);
  if (id === toHex(recordId(record))) return id;
  throw new DstackError(
    'RECORDS_ANSWER',
    `${client.url} says that it took another record, ${id}; ask another node`,
  );
}

async function cancellableWork(
  seed: Uint8Array,
  difficulty: number,
  say: (line: string) => void,
): Promise<WorkPermit> {
  const cancelled = new AbortController();
  void stopSignal().then(() => cancelled.abort());
  let told = performance.now();
  return await doWork(seed, difficulty, {
    signal: cancelled.signal,
    onProgress(solutions) {
      if (performance.now() - told < PROGRESS) return;
      told = performance.now();
      say(`work: ${solutions} solutions seen, of about ${difficulty} that it takes; Ctrl-C ends it`);
    },
  });
}
