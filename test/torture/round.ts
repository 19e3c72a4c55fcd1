/**
 * One round of one section, as a process: `node test/torture/round.ts SECTION SEED`. The last line is its verdict as JSON;
 * the exit code says only whether there is one. With TORTURE_LOG set the relays' logs are shown too.
 */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Arena } from './arena.ts';
import { sections } from './sections.ts';
import type { Verdict } from './verdict.ts';

export async function playRound(section: string, seed: number, scale = 1): Promise<Verdict> {
  const play = sections[section];
  if (play === undefined)
    throw new Error(`there is no section ${section}: ${Object.keys(sections).join(', ')}`);
  // Every process of a round compiles the same files.
  process.env.NODE_COMPILE_CACHE ??= join(tmpdir(), 'dstack-compile-cache');
  const arena = await Arena.open(seed, scale);
  try {
    return await play(arena);
  } finally {
    if (process.env.TORTURE_LOG !== undefined)
      for (const { relay } of arena.hosts) console.error(relay.log());
    await arena.close();
  }
}

if (import.meta.main) {
  const [section = '', seed = ''] = process.argv.slice(2);
  console.log(JSON.stringify(await playRound(section, Number(seed))));
}
