/** The apps that have a manifest, by as many calls of the contract as it takes. */
import { DstackError } from './errors.ts';
import { type AppView, decodeAppsAfter, encodeAppsAfter } from './network-contract.ts';

/** Apps in one answer: some 64 KB, which every reader takes. */
const PAGE = 250n;
/** Names in one answer at most: what the contract looks at. A network of more names than this times the pages has other worries. */
const MAX_PAGES = 500;
/** Apps that are live. Every one of them is run by every node; who says that there are more would have each reader read for ever. */
const MAX_APPS = 10_000;

/**
 * In the contract's order; apps that were withdrawn are not among them, and cost the contract alone.
 *
 * @param call one call of the network's contract; those of one list should be of one block
 * @throws what `call` throws, CONTRACT_DATA_INVALID
 */
export async function appList(call: (data: string) => Promise<string>): Promise<readonly AppView[]> {
  const apps: AppView[] = [];
  let skipped = 0n;
  for (let pages = 0; pages < MAX_PAGES; pages += 1) {
    const { list, next } = decodeAppsAfter(await call(encodeAppsAfter({ skipped, most: PAGE })));
    if (list.length > PAGE || (next !== 0n && next <= skipped)) break;
    apps.push(...list);
    if (apps.length > MAX_APPS) break;
    if (next === 0n) return apps;
    skipped = next;
  }
  throw new DstackError(
    'CONTRACT_DATA_INVALID',
    "the contract's list of apps does not end: is this the address of a network?",
  );
}
