/** A VM of the dev flavour with a shell and a scratch disk: what a test runs inside it, and what that prints. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { build } from 'esbuild';
import { startVm, type Vm } from '../../host/vm/vm.ts';
import { repository } from '../../scripts/demo/processes.ts';

/** Makes the host volume with these guest programs, `name.guest.ts` becoming `/mnt/host_volume/name.mjs`. */
export async function guestPrograms(directory: string, ...names: readonly string[]): Promise<void> {
  const volume = join(directory, 'volume');
  mkdirSync(volume);
  for (const name of names) {
    await build({
      entryPoints: [join(import.meta.dirname, `${name}.guest.ts`)],
      outfile: join(volume, `${name}.mjs`),
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'node24',
      logLevel: 'error',
      banner: {
        js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
      },
    });
  }
  // No network to join: the node waits for a chain that does not answer, so only the test uses the scratch disk.
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
}

/** Boots on the disk `data.img` of that directory, made if it is not there. */
export function startDevVm(directory: string): Promise<Vm> {
  return startVm({
    imageFolder: join(repository, 'build/image-dev'),
    hostVolume: join(directory, 'volume'),
    stateFolder: join(directory, 'vm'),
    platformStateFile: join(directory, 'platform'),
    dataDisk: { path: join(directory, 'data.img'), createMiB: 48 },
  });
}

/**
 * Types a line into the VM's root shell once that is up; resolves with its output as soon as `enough` accepts it.
 * @throws Error with the end of it when that takes too long
 */
export async function inShell(
  vm: Vm,
  line: string,
  enough: (output: string) => boolean,
  withinMs: number,
): Promise<string> {
  const socket = connect(vm.shellSocket!);
  let output = '';
  socket.on('data', (chunk) => {
    output += chunk.toString('utf8');
  });
  const waitFor = async (what: () => boolean, limit: number) => {
    const deadline = Date.now() + limit;
    while (!what()) {
      if (Date.now() > deadline) throw new Error(`the VM's shell said only: ${output.slice(-2000)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };
  // The shell comes up some time after the machine: ask until it answers.
  const asking = setInterval(() => socket.write('echo shell-$((1+1))\n'), 1000);
  try {
    await waitFor(() => output.includes('shell-2'), 120_000);
  } finally {
    clearInterval(asking);
  }
  try {
    socket.write(`${line}\n`);
    await waitFor(() => enough(output), withinMs);
    return output;
  } finally {
    socket.destroy();
  }
}

/** The JSON lines `{"case": …}` that a guest program printed, by their case. */
export function casesOf(output: string): Map<string, Record<string, unknown>> {
  return new Map(
    [...output.matchAll(/^\{"case":.*\}\r?$/gm)].map(([line]) => {
      const parsed = JSON.parse(line) as Record<string, unknown>;
      return [parsed.case as string, parsed];
    }),
  );
}
