import { describe, expect, it } from 'vitest';
import type { Image } from './image.ts';
import { probeKvm, verdict } from './probe.ts';

describe('the probe for KVM', () => {
  it('takes TCG and says why when there is no device', async () => {
    const image = {} as Image;
    const probe = await probeKvm(image, '/nonexistent/kvm');
    expect(probe.accelerator).toBe('tcg');
    expect(probe.why).toMatch(/\/nonexistent\/kvm does not open .*ENOENT/);
  });

  it('is content only with a kernel that reached the initramfs', () => {
    expect(verdict('dstack: no dstack.roothash on the command line: powering off\r\n')).toBeUndefined();
    expect(verdict('')).toBe('undecided');
    expect(verdict('SeaBIOS\r\n')).toBe('undecided');
  });

  it.each([
    'KVM internal error. Suberror: 1',
    'qemu-system-x86_64: failed to initialize kvm: Permission denied',
    '[    1.0] Kernel panic - not syncing: VFS',
  ])('reads "%s" as a failure', (said) => {
    expect(verdict(`${said}\nextra data[0]: 0x1`)).toMatch(/kvm|panic/i);
  });
});
