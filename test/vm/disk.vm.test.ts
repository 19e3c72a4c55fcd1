/** The data disk in a host's hands, in a VM: every fault in one boot of the dev flavour, judged by what the guest prints. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startVm, type Vm } from '../../host/vm/vm.ts';
import { repository } from '../../scripts/demo/processes.ts';

const directory = mkdtempSync(join(tmpdir(), 'dstack-disk-'));
let vm: Vm | undefined;
let cases: Map<string, Record<string, unknown>>;

beforeAll(async () => {
  const volume = join(directory, 'volume');
  mkdirSync(volume);
  await build({
    entryPoints: [join(import.meta.dirname, 'disk-faults.guest.ts')],
    outfile: join(volume, 'faults.mjs'),
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    logLevel: 'error',
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
  });
  // No network to join: the node waits for a chain that does not answer, and the scratch disk is left to the test.
  const network = {
    version: 1,
    chainId: 1,
    contract: `0x${'11'.repeat(20)}`,
    confirmation: { depth: 0 },
    endpoints: ['http://10.0.2.2:1'],
    quorum: 1,
  };
  writeFileSync(join(volume, 'network.json'), JSON.stringify(network));
  writeFileSync(join(volume, 'host.json'), '{"role":"join"}');
  vm = await startVm({
    imageFolder: join(repository, 'build/image-dev'),
    hostVolume: volume,
    stateFolder: join(directory, 'vm'),
    platformStateFile: join(directory, 'platform'),
    dataDisk: { path: join(directory, 'data.img'), createMiB: 48 },
  });
  const output = await inShell(
    vm.shellSocket!,
    'modprobe loop; node /mnt/host_volume/faults.mjs',
    '{"case":"end"}',
    400_000,
  );
  cases = new Map(
    [...output.matchAll(/^\{"case":.*\}\r?$/gm)].map(([line]) => {
      const parsed = JSON.parse(line) as Record<string, unknown>;
      return [parsed.case as string, parsed];
    }),
  );
}, 500_000);

afterAll(async () => {
  await vm?.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** Types a line into the VM's root shell once it is there; resolves with what it printed up to `until`. */
async function inShell(path: string, line: string, until: string, withinMs: number): Promise<string> {
  const socket = connect(path);
  let output = '';
  socket.on('data', (chunk) => {
    output += chunk.toString('utf8');
  });
  const waitFor = async (what: () => boolean, limit: number) => {
    const deadline = Date.now() + limit;
    while (!what()) {
      if (Date.now() > deadline) throw new Error(`the VM's shell said only: ${output.slice(-2000)}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  };
  // The shell comes up some time after the machine: ask until it answers.
  const asking = setInterval(() => socket.write('echo shell-$((1+1))\n'), 1000);
  try {
    await waitFor(() => output.includes('shell-2'), 120_000);
  } finally {
    clearInterval(asking);
  }
  socket.write(`${line}\n`);
  await waitFor(() => output.includes(`\n${until}`), withinMs);
  socket.destroy();
  return output;
}

test.each<[string, Record<string, unknown>]>([
  ['blank, no create', { state: 'failed', code: 'DISK_NO_SUPERBLOCK' }],
  ['blank, create', { state: 'ready' }],
  ['opened again', { state: 'ready', whole: true }],
  ['create on a disk that is ours', { state: 'ready', whole: true }],
  ['another network’s', { state: 'failed', code: 'DISK_UNAUTHENTIC' }],
  ['superblock, byte 20', { state: 'failed', code: 'DISK_UNAUTHENTIC' }],
  ['superblock, byte 44', { state: 'failed', code: 'DISK_UNAUTHENTIC' }],
  ['superblock, byte 5000', { state: 'failed', code: 'DISK_UNAUTHENTIC' }],
  ['superblock zeroed', { state: 'failed', code: 'DISK_NO_SUPERBLOCK' }],
  ['another kind of disk, create', { state: 'failed', code: 'DISK_NO_SUPERBLOCK' }],
  ['superblock put back', { state: 'ready', whole: true }],
  ['bits put back', { state: 'ready', whole: true }],
  ['full', { full: 'ENOSPC', whole: true }],
])('%s', (name, expected) => {
  expect(cases.get(name)).toMatchObject(expected);
});

test('bits flipped all over: an error, never other text', () => {
  const found = cases.get('bits flipped all over');
  expect(found?.flips).toBeGreaterThan(1000);
  expect(['EIO', 'EILSEQ', 'EBADMSG', 'EUCLEAN', 'ENOENT', 'DISK_COMMAND']).toContain(found?.read);
});

// The limit that docs/threat-model.md names: each block is authentic, its age is not.
test('an old state of the whole disk is not noticed', () => {
  expect(cases.get('an old state of the disk put back')).toMatchObject({ state: 'ready', whole: true });
});
