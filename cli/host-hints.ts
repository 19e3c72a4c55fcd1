/** host.json, from what the operator asked for. The guest takes it for a hint and no more. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { utf8 } from '../lib/protocol/encoding.ts';
import { parseHostHints } from '../lib/protocol/network-config.ts';

/** @throws HOST_HINTS for a role that does not exist */
export async function writeHints(hostVolume: string, role: string, createDisk: boolean): Promise<void> {
  const text = `${JSON.stringify({ role, ...(createDisk ? { disk: 'create' } : {}) })}\n`;
  parseHostHints(utf8(text));
  await mkdir(hostVolume, { recursive: true });
  await writeFile(join(hostVolume, 'host.json'), text, { mode: 0o644 });
}
