import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { probeAccelerator } from './probe.ts';
import { findTdx, type TdxHost, thisHost } from './tdx.ts';

let folder: string;
let host: TdxHost;
let firmware: string;
const objects = 'List of user creatable objects:\n  sev-guest\n  tdx-guest\n  thread-context\n';
const older = objects.replace('  tdx-guest\n', '');

/** A host that has everything it needs. */
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-tdx-'));
  const put = (name: string, content: string | Uint8Array) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  firmware = put(
    'OVMF.fd',
    Buffer.concat([Buffer.alloc(4096), guid('e47a6535-984a-4798-865e-4685a7bf8ec2'), Buffer.alloc(48)]),
  );
  host = {
    kvmDevice: put('kvm', ''),
    kvmParameter: put('tdx', 'Y\n'),
    hostQemu: '/usr/bin/qemu-system-x86_64',
    objectsOf: async (qemu) => (qemu === 'tool root' ? older : objects),
  };
});

/** A GUID as UEFI lays it out: the first three fields little-endian. */
function guid(text: string): Buffer {
  const [a, b, c, d, e] = text.split('-').map((part) => Buffer.from(part, 'hex'));
  return Buffer.concat([a!.reverse(), b!.reverse(), c!.reverse(), d!, e!]);
}

const refusal = async (changes: Partial<TdxHost>, file = firmware) =>
  await findTdx(file, { ...host, ...changes }).then(
    () => 'no refusal',
    (error: Error) => `${codeOf(error)} ${error.message}`,
  );

test('a host that has all it takes: its own QEMU, where the tool root has an older one', async () => {
  expect(await findTdx(firmware, host)).toEqual({ qemu: '/usr/bin/qemu-system-x86_64' });
  expect(await findTdx(firmware, { ...host, objectsOf: async () => objects })).toEqual({ qemu: 'tool root' });
});

test.each<[string, RegExp, () => [Partial<TdxHost>, string?]]>([
  ['no KVM', /kvm does not open \(ENOENT/, () => [{ kvmDevice: '/nowhere/kvm' }]],
  [
    'KVM without TDX',
    /parameters\/tdx is absent.*BIOS.*tdx=1/,
    () => [{ kvmParameter: '/nowhere/parameters/tdx' }],
  ],
  [
    'TDX switched off',
    /tdx is N:/,
    () => {
      writeFileSync(join(folder, 'tdx'), 'N\n');
      return [{}];
    },
  ],
  ['an older QEMU', /knows the object tdx-guest: QEMU 10\.1/, () => [{ objectsOf: async () => older }]],
  ['no QEMU', /knows the object tdx-guest/, () => [{ objectsOf: async () => undefined }]],
  [
    'a firmware that is no TDVF',
    /bios\.bin is not a TDVF/,
    () => {
      writeFileSync(join(folder, 'bios.bin'), Buffer.alloc(65_536, 0x90));
      return [{}, join(folder, 'bios.bin')];
    },
  ],
])('%s: TDX_UNAVAILABLE, and why', async (_, why, change) => {
  const [changes, file] = change();
  const said = await refusal(changes, file);
  expect(said).toMatch(/^TDX_UNAVAILABLE /);
  expect(said).toMatch(why);
  expect(said).not.toContain(';');
});

test('all reasons are named at once', async () => {
  const said = await refusal({ kvmDevice: '/nowhere/kvm', objectsOf: async () => undefined });
  expect(said).toMatch(/\/nowhere\/kvm does not open .*; .*tdx-guest/);
});

test('a production image is started on TDX or not at all', async () => {
  // Real TDX here would be a surprise; then there is nothing to refuse.
  const image = { manifest: { flavour: 'production' }, firmware } as Parameters<typeof probeAccelerator>[0];
  const possible = await findTdx(firmware, thisHost).then(
    () => true,
    () => false,
  );
  if (possible) expect((await probeAccelerator(image)).accelerator).toBe('tdx');
  else await expect(probeAccelerator(image)).rejects.toMatchObject({ code: 'TDX_UNAVAILABLE' });
});
