/**
 * What a request makes etcd read, in bytes: etcd holds all of it in memory at once, several times over, before the first byte is answered.
 * That is more than its answer: a comparison of a range reads the range's values, and one that is sorted reads all of it. And whatever is
 * read, counted or deleted of a range, etcd visits every key there, while a transaction that writes holds up the writes of all.
 */
import { RangeRequest_SortOrder } from '../../../lib/etcd/gen/kv_pb.js';
import { MAX_REQUEST_BYTES } from './check.ts';
import type { Operation } from './growth.ts';
import type { KeyRange } from './keyspace.ts';

/** A read of a request's. */
export interface Read extends KeyRange {
  /** 0 for now. */
  readonly revision: bigint;
  /** Keys whose values etcd reads at most; 0 for all. */
  readonly limit: bigint;
  /** How often their values are read; 0 where keys are only counted or deleted. */
  readonly times: number;
}

/** What is known of the namespace that is read. */
export interface Known {
  /** Of all its keys and values. */
  readonly all: number;
  /** The same, at any revision. */
  readonly ever: number;
  /** How many keys are visited where a range is. */
  readonly keys: number;
  sizeOf(key: Uint8Array): number;
}

/** What a read costs that finds nothing. */
const FOUND_NOTHING = 1024;
/** What a key costs that etcd looks at, whatever it does with it. */
export const OF_A_VISIT = 64;
const NONE = new Uint8Array();

export const isWide = ({ rangeEnd }: KeyRange): boolean => rangeEnd.length > 0;

/** All reads of a request, which is etcd's already. Of a transaction those of both branches: only etcd knows which it will be. */
export function readsOf(request: Operation, found: Read[] = []): Read[] {
  const add = ({ key = NONE, rangeEnd = NONE }: Partial<KeyRange>, times = 1, revision = 0n, limit = 0n) => {
    const read = { key, rangeEnd, revision, limit, times };
    // Below 0 is what etcd is asked for where the namespace has compacted: it refuses that.
    if (revision >= 0n && (times > 0 || isWide(read))) found.push(read);
  };
  switch (request.case) {
    case 'requestRange': {
      const { value } = request;
      // It reads one more than it answers with, to see whether there is more.
      const limit = isLimited(value) ? (value.limit ?? 0n) + 1n : 0n;
      add(value, value.countOnly ? 0 : 1, value.revision, limit);
      break;
    }
    case 'requestDeleteRange':
      add(request.value, request.value.prevKv ? 1 : 0);
      break;
    case 'requestPut':
      if (request.value.prevKv || request.value.ignoreValue) add({ key: request.value.key ?? NONE });
      break;
    case 'requestTxn': {
      const { compare = [], success = [], failure = [] } = request.value;
      for (const one of compare) add(one);
      for (const { request: one } of [...success, ...failure]) if (one?.case) readsOf(one, found);
      break;
    }
    default:
  }
  return found;
}

type Range = Extract<Operation, { case: 'requestRange' }>['value'];

/** Whether etcd reads no more than is asked for: what is sorted or chosen by revisions it reads as a whole first. */
function isLimited({ limit = 0n, sortOrder, ...by }: Range): boolean {
  const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = by;
  const isChosen = [minModRevision, maxModRevision, minCreateRevision, maxCreateRevision].some(
    (revision = 0n) => revision !== 0n,
  );
  return (
    limit > 0n && (sortOrder ?? RangeRequest_SortOrder.NONE) === RangeRequest_SortOrder.NONE && !isChosen
  );
}

const largest = (keys: number): number => keys * MAX_REQUEST_BYTES;

/** What is read because of a request by those who watch and want to know what was before: of each key that it puts or deletes. */
export function shownOf(request: Operation, times: number, found: Read[] = []): Read[] {
  if (request.case === 'requestPut' || request.case === 'requestDeleteRange') {
    const { key = NONE, rangeEnd = NONE }: Partial<KeyRange> = request.value;
    found.push({ key, rangeEnd, revision: 0n, limit: 0n, times });
  } else if (request.case === 'requestTxn') {
    const { success = [], failure = [] } = request.value;
    for (const { request: one } of [...success, ...failure]) if (one?.case) shownOf(one, times, found);
  }
  return found;
}

/** At most, as the namespace is now. */
export function costOf(reads: readonly Read[], { all, ever, keys, sizeOf }: Known): number {
  const visits = OF_A_VISIT * keys;
  return reads.reduce((sum, read) => {
    const whole = read.revision === 0n ? all : ever;
    const most = isWide(read)
      ? Math.min(whole, read.limit === 0n ? whole : largest(Number(read.limit)))
      : read.revision === 0n
        ? sizeOf(read.key)
        : Math.min(whole, largest(1));
    return sum + FOUND_NOTHING + read.times * most + (isWide(read) ? visits : 0);
  }, 0);
}

export const rangesOf = (reads: readonly Read[]): number => reads.filter(isWide).length;

/** At most, whatever is written before etcd comes to it: several reads of the same are several times as much. */
export function ceilingOf(reads: readonly Read[], ever: number): number {
  const wide = reads
    .filter(isWide)
    .reduce(
      (sum, { limit, times }) => sum + times * (limit === 0n ? ever : Math.min(ever, largest(Number(limit)))),
      0,
    );
  const times = new Map<string, number>();
  for (const { key } of reads.filter((read) => !isWide(read))) {
    const name = Buffer.from(key).toString('latin1');
    times.set(name, (times.get(name) ?? 0) + 1);
  }
  const most = Math.max(0, ...times.values());
  return wide + most * Math.min(ever, largest(times.size));
}
