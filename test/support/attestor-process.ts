/**
 * attestor-process.ts ROOT SOCKET: the attestor without a VM. Its own paths are below ROOT; the simulated platform's files are at
 * SOCKET instead of mounted; the end of the process stands for that of the machine. A production image looks for TDX, below ROOT.
 */
import { join } from 'node:path';
import { kernelFiles, platformRoot } from '../../guest/attestor/platform-files.ts';
import { runAttestor } from '../../guest/attestor/run.ts';
import { ninepFiles } from './ninep-files.ts';

const [root, socket] = process.argv.slice(2);
if (root === undefined || socket === undefined) throw new Error('usage: attestor-process.ts ROOT SOCKET');

await runAttestor({
  root,
  platformFiles: (flavour) =>
    flavour === 'production' ? kernelFiles(join(root, platformRoot(flavour))) : ninepFiles(socket),
  powerOff: () => {},
});
