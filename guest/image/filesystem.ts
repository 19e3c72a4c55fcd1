/** The root file system: erofs, then the dm-verity tree over it in the same file. */
import { appendFile, readFile, rm, stat, truncate } from 'node:fs/promises';
import { toolCommand } from '../../lib/daemon/tool-root.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { run } from './run.ts';

const blockSize = 4096;
/** Constants, because random values would make two builds differ. A salt only distinguishes trees over equal blocks. */
const fileSystemUuid = 'd57ac000-0000-4000-8000-000000000001';
const veritySalt = '00'.repeat(32);

/** `blocks`: data blocks of 4096 bytes; the hash tree begins right after them. */
export interface RootImage {
  readonly rootHash: string;
  readonly salt: string;
  readonly blocks: number;
}

/** Writes `folder` as a file system with its hash tree to `output`. `sourceDateEpoch`: seconds since 1970. */
export async function buildRootImage(
  folder: string,
  output: string,
  sourceDateEpoch: number,
): Promise<RootImage> {
  await rm(output, { force: true });
  const erofs = toolCommand('mkfs.erofs', [
    '--quiet',
    '-zlz4hc,9',
    '-C32768',
    `-T${sourceDateEpoch}`,
    `-U${fileSystemUuid}`,
    '--all-root',
    '-x-1',
    '-L',
    'dstack-root',
    output,
    folder,
  ]);
  await run(erofs.command, erofs.args, { env: erofs.env });
  const blocks = Math.ceil((await stat(output)).size / blockSize);
  await truncate(output, blocks * blockSize);
  const tree = `${output}.tree`;
  await rm(tree, { force: true });
  const verity = toolCommand('veritysetup', [
    'format',
    '--no-superblock',
    '--hash=sha256',
    `--data-block-size=${blockSize}`,
    `--hash-block-size=${blockSize}`,
    `--salt=${veritySalt}`,
    output,
    tree,
  ]);
  const said = await run(verity.command, verity.args, { env: verity.env });
  const rootHash = /^Root hash:\s+([0-9a-f]{64})$/m.exec(said)?.[1];
  if (rootHash === undefined)
    throw new DstackError('VERITY_OUTPUT', `veritysetup printed no root hash: ${said}`);
  await appendFile(output, await readFile(tree));
  await rm(tree);
  return { rootHash, salt: veritySalt, blocks };
}
