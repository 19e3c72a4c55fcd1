/**
 * Runs in a VM as its first process, instead of systemd: the attestor's device on the files that the image's own initramfs has mounted.
 * Reads acts from standard input, one per line, and answers each with a line of JSON.
 */
import { mkdirSync, openSync, readFileSync, rmdirSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { attestationDevice } from '../../guest/attestor/device.ts';
import { errnoOf, kernelFiles, platformRoot } from '../../guest/attestor/platform-files.ts';
import { type Act, perform } from '../support/platform-act.ts';

const root = platformRoot('sim');
const entry = `${root}/sys/kernel/config/tsm/report/abi`;
const registers = `${root}/sys/devices/virtual/misc/tdx_guest/measurements`;
const write = (path: string, length: number): number =>
  writeSync(openSync(path, 'r+'), new Uint8Array(length));
const writeOnly = (path: string, length: number): number =>
  writeSync(openSync(path, 'w'), new Uint8Array(length));

/** The results of Linux's own system calls, in the order in which they change something. */
const calls: Record<string, () => unknown> = {
  'mkdir of an entry': () => mkdirSync(entry),
  'mkdir of it again': () => mkdirSync(entry),
  'mkdir beside the registers': () => mkdirSync(`${registers}/x`),
  'outblob before inblob': () => readFileSync(`${entry}/outblob`),
  'inblob of 65 bytes': () => writeOnly(`${entry}/inblob`, 65),
  'inblob opened for reading': () => readFileSync(`${entry}/inblob`),
  'outblob opened for writing': () => writeOnly(`${entry}/outblob`, 1),
  generation: () => readFileSync(`${entry}/generation`, 'utf8'),
  provider: () => readFileSync(`${entry}/provider`, 'utf8'),
  'a register, 47 bytes': () => write(`${registers}/rtmr3:sha384`, 47),
  'MRTD opened for writing': () => write(`${registers}/mrtd:sha384`, 48),
  'a register that is none': () => readFileSync(`${registers}/rtmr4:sha384`),
  'rmdir of the entry': () => rmdirSync(entry),
  'rmdir of it again': () => rmdirSync(entry),
};

function abi(): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(calls).map(([name, call]) => {
      try {
        return [name, call() ?? 'done'];
      } catch (error) {
        return [name, errnoOf(error) ?? String(error)];
      }
    }),
  );
}

/** What the host's loopback answers at each port, or why it does not. */
function loopback(ports: readonly number[]): Promise<string[]> {
  return Promise.all(
    ports.map((port) =>
      fetch(`http://10.0.2.2:${port}/`, { signal: AbortSignal.timeout(30_000) }).then(
        (answer) => answer.text(),
        ({ cause, name }: Error) => errnoOf(cause) ?? name,
      ),
    ),
  );
}

console.log('"ready"');
for await (const line of createInterface({ input: process.stdin })) {
  const began = performance.now();
  const { act, callWithin, ports } = JSON.parse(line) as {
    act: Act | 'abi' | 'loopback';
    callWithin: number;
    ports: readonly number[];
  };
  const device = attestationDevice('sim', kernelFiles(root), { callWithin, quoteWithin: 0 });
  const result =
    act === 'abi' ? abi() : act === 'loopback' ? await loopback(ports) : await perform(device, act);
  console.log(JSON.stringify({ result, ms: Math.round(performance.now() - began) }));
}
