/** Group ids of the sibling daemons, from the image's own /etc/group. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SiblingGroups } from './siblings.ts';

/** A group that does not exist is left out: its socket then stays closed to all but the replicator itself. */
export function siblingGroups(root: string): SiblingGroups {
  const groups: SiblingGroups = {};
  let text: string;
  try {
    text = readFileSync(join(root, '/etc/group'), 'utf8');
  } catch {
    return groups;
  }
  for (const line of text.split('\n')) {
    const [name, , gid] = line.split(':');
    if (name === 'dstack-tls') groups.tls = Number(gid);
    if (name === 'dstack-agent') groups.agent = Number(gid);
    if (name === 'dstack-kubernethes') groups.kubernethes = Number(gid);
  }
  return groups;
}
