import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkMachine, checkTdx, type HostPlaces } from './host-check.ts';

let folder: string;
let host: HostPlaces;
const put = (name: string, text: string) => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const statesOf = (findings: Awaited<ReturnType<typeof checkTdx>>) => findings.map(({ state }) => state);

/** A host that has everything. */
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-check-'));
  host = {
    kvmDevice: put('kvm', ''),
    kvmParameter: put('tdx', 'Y\n'),
    hostQemu: '/usr/bin/qemu-system-x86_64',
    objectsOf: async () => 'objects:\n  tdx-guest\n',
    processors: put('cpuinfo', 'model name\t: A Xeon\nflags\t\t: fpu tdx_host_platform vmx\n\n'),
    memory: put('meminfo', 'MemTotal: 99999999 kB\nMemAvailable:   8388608 kB\n'),
    sgx: [put('sgx_enclave', ''), put('sgx_provision', '')],
    vsock: put('vsock', ''),
    disks: folder,
    networkReason: () => undefined,
    kernel: () => '6.16.0-1-amd64',
  };
});
afterEach(() => rmSync(folder, { recursive: true }));

test('a host that has all it takes: only who answers for quotes cannot be seen', async () => {
  expect(statesOf(await checkTdx(host))).toEqual(['ok', 'ok', 'ok', 'ok', 'ok', 'ok', 'unknown']);
  expect(statesOf(checkMachine(host)).filter((state) => state !== 'ok')).toEqual([]);
});

test.each<[string, () => Partial<HostPlaces>, string, RegExp]>([
  [
    'another processor',
    () => ({ processors: put('cpuinfo', 'model name\t: An EPYC\nflags\t\t: fpu svm\n') }),
    'missing',
    /An EPYC: no flag tdx_host_platform/,
  ],
  [
    'a flag that only contains the word',
    () => ({ processors: put('cpuinfo', 'flags : not_tdx_host_platform_x\n') }),
    'missing',
    /an unknown processor/,
  ],
  ['a file without flags', () => ({ processors: put('cpuinfo', '') }), 'missing', /no flag/],
  [
    'an older kernel, which may have it all the same',
    () => ({ kernel: () => '6.12.41+deb13-amd64' }),
    'unknown',
    /^6\.12\.41/,
  ],
  ['a kernel of 5.20', () => ({ kernel: () => '5.20.1' }), 'unknown', /^5\.20/],
  ['a version that is none', () => ({ kernel: () => 'nightly' }), 'unknown', /^nightly$/],
  ['TDX switched off', () => ({ kvmParameter: put('tdx', 'N\n') }), 'missing', /tdx is N/],
  [
    'an older QEMU',
    () => ({ objectsOf: async () => 'objects:\n  sev-guest\n' }),
    'missing',
    /knows tdx-guest/,
  ],
  ['no SGX', () => ({ sgx: ['/nowhere/sgx_enclave'] }), 'missing', /no \/nowhere\/sgx_enclave/],
  ['no vsock', () => ({ vsock: '/nowhere/vsock' }), 'missing', /no \/nowhere\/vsock/],
])('%s is said, and what to do', async (_, changes, state, seen) => {
  const findings = (await checkTdx({ ...host, ...changes() })).filter(
    ({ what, state }) => state !== 'ok' && !(what.includes('quote generation') && state === 'unknown'),
  );
  expect(findings).toHaveLength(1);
  expect(findings[0]).toMatchObject({ state, seen: expect.stringMatching(seen) });
});

test('kernels after 6.16 have it, whatever their numbers look like', async () => {
  for (const version of ['6.16.0', '6.17.3', '7.0.0', '10.1'])
    expect((await checkTdx({ ...host, kernel: () => version }))[1]!.state).toBe('ok');
});

test('memory, and KVM', () => {
  const few = { ...host, memory: put('meminfo', 'MemAvailable:  1048576 kB\n'), kvmDevice: '/nowhere/kvm' };
  const [memory, , kvm] = checkMachine(few);
  expect(memory).toMatchObject({
    state: 'missing',
    seen: '1024 MiB available',
    advice: expect.stringContaining('1280 MiB'),
  });
  expect(kvm).toMatchObject({
    state: 'missing',
    seen: expect.stringContaining('/nowhere/kvm does not open'),
  });
  expect(checkMachine({ ...host, memory: put('meminfo', '') })[0]!.state).toBe('unknown');
});

test('a network of its own is advice: a VM runs without it', () => {
  const findings = checkMachine({ ...host, networkReason: () => 'pasta is missing' });
  expect(findings.at(-1)).toMatchObject({ state: 'unknown', seen: 'pasta is missing' });
});
