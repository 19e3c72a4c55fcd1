/** Group ids of sibling daemons, from the image's own /etc/group: a socket's group decides which sibling may connect. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Undefined for a group that does not exist: its socket then stays closed to all but the daemon that serves it.
 * @param root prefix of every path, empty in the guest
 */
export function groupId(root: string, name: string): number | undefined {
  let text: string;
  try {
    text = readFileSync(join(root, '/etc/group'), 'utf8');
  } catch {
    return undefined;
  }
  const line = text.split('\n').find((entry) => entry.startsWith(`${name}:`));
  return line === undefined ? undefined : Number(line.split(':')[2]);
}
