/** The folder of an agent on a laptop: its secret, and the folders with its sockets. Nobody else's, and one agent's at a time. */
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { makeFolder } from '../../lib/daemon/folder.ts';
import { holdFolder } from '../../lib/daemon/sole-holder.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';

/** Of a unix socket's path, on Linux. */
const LONGEST_PATH = 107;
/** The longest below the folder: a container's socket while it is being made. */
const LONGEST_BELOW = `apps/${'0'.repeat(32)}/dstack.sock.new`;

/**
 * What the keys follow from, 32 bytes; made at the first start, and kept, so that an app finds its keys again.
 * @throws AGENT_PATH_TOO_LONG, AGENT_RUNNING, AGENT_DATA, AGENT_SECRET, FOLDER, the file system's own errors
 */
export async function openFolder(data: string): Promise<Uint8Array> {
  const socket = join(data, LONGEST_BELOW);
  if (Buffer.byteLength(socket) > LONGEST_PATH)
    throw new DstackError(
      'AGENT_PATH_TOO_LONG',
      `${socket} is too long for a socket (${LONGEST_PATH} bytes): choose a shorter --data`,
    );
  makeFolder(data, 0o700);
  if (!(await holdFolder(data, 'agent')))
    throw new DstackError(
      'AGENT_RUNNING',
      `an agent runs on ${data} already: stop it first, or choose another folder with --data`,
    );
  // Whose it is may put another socket into it; so may whoever can write there.
  if (statSync(data).uid !== process.geteuid!())
    throw new DstackError('AGENT_DATA', `${data} is another user's: choose a folder of your own with --data`);
  const path = join(data, 'secret');
  if (!existsSync(path)) {
    if (readdirSync(data).length > 0)
      throw new DstackError(
        'AGENT_DATA',
        `${data} holds other things and no agent: choose a new folder with --data`,
      );
    chmodSync(data, 0o700);
    writeDurably(path, toHex(randomBytes(32)), 0o600);
  }
  const text = readFileSync(path, 'utf8').trim();
  if (!/^[\da-f]{64}$/.test(text))
    throw new DstackError(
      'AGENT_SECRET',
      `${path} is not the secret of an agent: put back what it was, or remove it`,
    );
  chmodSync(data, 0o700);
  return fromHex(text, 32);
}
