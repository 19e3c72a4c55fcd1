/** What `kv restore` refuses of what was typed, before it has tools or makes anything. */
import { expect, test } from 'vitest';
import { readArguments } from '../command.ts';
import { kvCommands } from './kv.ts';

const restore = kvCommands.find(({ name }) => name === 'kv restore')!;
const here = import.meta.filename;
const folder = import.meta.dirname;

test.each([
  ['a backup that is not there', `${here}.none`, here, 'kv.test.ts.none is not there'],
  ['a folder as the backup', folder, here, 'is a folder, not a file'],
  ['a folder as the key of age', here, folder, 'is a folder, not a file'],
])('%s is a mistake', async (_, file, identity, message) => {
  const argv = [file, '--data', `${here}.data`, '--identity', identity, '--secret', here];
  await expect(restore.run(readArguments(restore, argv))).rejects.toMatchObject({
    code: 'USAGE',
    message: expect.stringContaining(message),
  });
});
