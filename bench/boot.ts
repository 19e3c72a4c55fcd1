/**
 * From power-on to joined, next to a plain Debian 13 on the same kernel from power-on to its multi-user.target: same QEMU, same
 * accelerator, same machine, in one run. Our two VMs join a network as they do in the demo, the first alone and by
 * bootstrap, the second beside the first, which answers it. The plain one boots alone, before and after.
 *
 * Needs root and an image that was built here (./build_vm.sh).
 */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join, resolve } from 'node:path';
import { startVm } from '../host/vm/vm.ts';
import { print, printError, printJson } from '../lib/daemon/terminal.ts';
import { DemoHost } from '../scripts/demo/host.ts';
import {
  bootstrapFirst,
  buildApps,
  deployNetwork,
  joinSecond,
  prepareNetwork,
  relayKeys,
} from '../scripts/demo/network.ts';
import { stopAll } from '../scripts/demo/processes.ts';
import { buildPlainDebian, plainIsUp } from './plain-debian.ts';

const repository = resolve(import.meta.dirname, '..');
const image = join(repository, 'build/image-sim');
const plain = join(repository, 'build/plain-debian');
const state = join(repository, '.state/bench-boot');
const PATIENCE_MS = 300_000;
const AIM = 1.5;

export async function benchBoot(): Promise<void> {
  await rm(state, { recursive: true, force: true });
  await mkdir(state, { recursive: true });
  printError('making a plain Debian of the same packages and kernel');
  await buildPlainDebian(image, join(repository, '.cache'), plain);
  const before = await bootPlain('before');
  const joined = await bootOurs();
  const after = await bootPlain('after');

  const yardstick = (before.seconds + after.seconds) / 2;
  print('', `${cpus().length} × ${cpus()[0]?.model.trim()}, ${before.accelerator}`, '');
  print('| from power-on | seconds | to plain Debian |', '|---|---:|---:|');
  const row = (what: string, seconds: number) =>
    print(`| ${what} | ${seconds.toFixed(1)} | ${(seconds / yardstick).toFixed(2)}x |`);
  row('plain Debian 13 at multi-user.target, before', before.seconds);
  row('plain Debian 13 at multi-user.target, after', after.seconds);
  row('first node joined (bootstrap, alone)', joined.first);
  row('second node joined (onboarded by the first, beside it)', joined.second);
  print('', `aim: ${AIM}x; both nodes open an encrypted disk, which is not in these times`, '');
  const toPlain = { first: joined.first / yardstick, second: joined.second / yardstick };
  printJson({ bench: 'boot', accelerator: before.accelerator, plainSeconds: yardstick, toPlain });
}

async function bootPlain(name: string): Promise<{ seconds: number; accelerator: string }> {
  const folder = join(state, `plain-${name}`);
  const volume = join(folder, 'volume');
  await mkdir(volume, { recursive: true });
  const vm = await startVm({
    imageFolder: plain,
    hostVolume: volume,
    stateFolder: folder,
    platformStateFile: join(state, 'platform'),
    log: (line) => printError(`plain Debian (${name}): ${line}`),
  });
  const start = performance.now();
  try {
    for (;;) {
      const text = existsSync(vm.consoleLog) ? readFileSync(vm.consoleLog, 'utf8') : '';
      const seconds = (performance.now() - start) / 1000;
      if (plainIsUp.test(text)) {
        printError(`plain Debian (${name}): up ${seconds.toFixed(1)} s after power-on`);
        return { seconds, accelerator: vm.accelerator };
      }
      if (seconds * 1000 > PATIENCE_MS) throw new Error(`plain Debian did not come up: ${text.slice(-2000)}`);
      await new Promise((done) => setTimeout(done, 100));
    }
  } finally {
    await vm.kill();
  }
}

async function bootOurs(): Promise<{ first: number; second: number }> {
  try {
    const versions = await buildApps();
    const network = await deployNetwork(join(state, 'network'));
    const a = new DemoHost({ name: 'a', network, gasKey: relayKeys[0], peers: [], disk: true });
    await prepareNetwork(network, a, versions);
    const first = await bootstrapFirst(network, a);
    const b = new DemoHost({ name: 'b', network, gasKey: relayKeys[1], peers: [a.gossipUrl], disk: true });
    const second = await joinSecond(network, a, b);
    return { first, second };
  } finally {
    await stopAll();
  }
}
