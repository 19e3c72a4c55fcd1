/** An owner says that what it wrote still holds, without writing it again. */
import { setTimeout as pause } from 'node:timers/promises';
import { stopSignal } from '../../lib/daemon/stop-signal.ts';
import { bytesEqual } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { NameSpace } from '../../lib/protocol/records/names.ts';
import { isListOf } from '../../lib/protocol/records/part-list.ts';
import { makePulse, minuteOf } from '../../lib/protocol/records/pulse.ts';
import type { Client } from './client.ts';
import type { Owner } from './owners.ts';
import { findRecords, type Seen } from './read.ts';
import type { Selection } from './selectors.ts';

export interface Own {
  readonly selections: readonly Selection[];
  readonly space: NameSpace;
  readonly maskKey?: Uint8Array;
}

/** The newest that an owner wrote under exactly these names. */
export async function ownRecord(client: Client, own: Own, owner: Owner): Promise<Seen | undefined> {
  const { sets } = await findRecords(client, { ...own, oracles: [], isOpen: false });
  return sets.flat().find((seen) => seen.owner === owner.key);
}

/** @throws RECORDS_NO_RECORD */
export async function requireOwnRecord(client: Client, own: Own, owner: Owner): Promise<Seen> {
  const seen = await ownRecord(client, own, owner);
  if (seen !== undefined) return seen;
  throw new DstackError(
    'RECORDS_NO_RECORD',
    `${owner.name} has written nothing under these names; write it first (\`records set\`)`,
  );
}

export const isUnchanged = (seen: Seen | undefined, value: Uint8Array): seen is Seen =>
  seen?.value !== undefined && (bytesEqual(seen.value, value) || isListOf(seen.value, value));

/** Of this minute. @returns whether it is news to the node, and when it says to be of, in milliseconds since 1970 */
export async function sendPulse(
  client: Client,
  id: string,
  owner: Owner,
): Promise<{ isNew: boolean; minute: number }> {
  const minute = minuteOf(Date.now());
  return { isNew: await client.pulse(makePulse(id, minute, owner.seed)), minute };
}

/** Until Ctrl-C. A node that does not answer is asked again the next time. @param every seconds */
export async function keepPulsing(
  client: Client,
  id: string,
  owner: Owner,
  { every, say }: { every: number; say: (line: string) => void },
): Promise<void> {
  const stopped = new AbortController();
  void stopSignal().then(() => stopped.abort());
  for (;;) {
    const isOver = await pause(1_000 * every, false, { signal: stopped.signal }).catch(() => true);
    if (isOver) return;
    try {
      await sendPulse(client, id, owner);
    } catch (error) {
      if (!(error instanceof DstackError)) throw error;
      say(`no pulse: ${error.message}`);
    }
  }
}
