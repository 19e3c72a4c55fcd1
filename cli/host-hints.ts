/** host.json, from what the operator asked for. The guest takes it for a hint and no more. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { utf8 } from '../lib/protocol/encoding.ts';
import { parseHostHints, type Validators } from '../lib/protocol/network-config.ts';

/** @throws HOST_HINTS for a role that does not exist */
export async function writeHints(
  hostVolume: string,
  role: string,
  createDisk: boolean,
  validators: Validators = [],
): Promise<void> {
  const hints = {
    role,
    ...(createDisk && { disk: 'create' }),
    ...(validators.length > 0 && { validators }),
  };
  const text = `${JSON.stringify(hints)}\n`;
  parseHostHints(utf8(text));
  await mkdir(hostVolume, { recursive: true });
  await writeFile(join(hostVolume, 'host.json'), text, { mode: 0o644 });
}
