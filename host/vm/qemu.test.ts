import { describe, expect, it } from 'vitest';
import { type QemuOptions, qemuArguments } from './qemu.ts';

const options: QemuOptions = {
  image: {
    manifest: {
      version: 1,
      flavour: 'sim',
      builtAt: 1,
      commandLine: 'console=ttyS0 dstack.roothash=00',
      rootHash: '00'.repeat(32),
      kernelRelease: '6.18-amd64',
      packages: 1,
      lockHash: '00'.repeat(32),
      files: {
        vmlinuz: { sha256: '00'.repeat(32), size: 1 },
        'initramfs.cpio.zst': { sha256: '00'.repeat(32), size: 1 },
        'root.img': { sha256: '00'.repeat(32), size: 1 },
        'firmware.bin': { sha256: '00'.repeat(32), size: 1 },
      },
      defaultShape: { cpus: 2, memoryMiB: 2048 },
      measurement: `0x${'00'.repeat(32)}`,
    },
    kernel: '/image/vmlinuz',
    initramfs: '/image/initramfs.cpio.zst',
    root: '/image/root.img',
    firmware: '/image/firmware.bin',
  },
  shape: { cpus: 2, memoryMiB: 2048 },
  accelerator: 'tcg',
  hostVolume: '/vm/volume',
  dataDisk: '/vm/data.img',
  ports: [{ host: 20443, guest: 443 }],
  quotingSocket: '/vm/quote.sock',
  qmpSocket: '/vm/qmp.sock',
  consoleLog: '/vm/console.log',
};

const valuesOf = (args: readonly string[], name: string) =>
  args.flatMap((arg, index) => (arg === name ? [args[index + 1]!] : []));

describe("QEMU's command line", () => {
  it('boots what is measured: firmware, kernel, initramfs, the command line and the shape', () => {
    const args = qemuArguments(options);
    expect(valuesOf(args, '-bios')).toEqual(['/image/firmware.bin']);
    expect(valuesOf(args, '-kernel')).toEqual(['/image/vmlinuz']);
    expect(valuesOf(args, '-initrd')).toEqual(['/image/initramfs.cpio.zst']);
    expect(valuesOf(args, '-append')).toEqual(['console=ttyS0 dstack.roothash=00']);
    expect(valuesOf(args, '-smp')).toEqual(['2']);
    expect(valuesOf(args, '-m')).toEqual(['2048M']);
  });

  it('never reboots: a reboot would keep the registers', () => {
    expect(qemuArguments(options)).toContain('-no-reboot');
  });

  it('names the disks by serial; the root is read-only', () => {
    const args = qemuArguments(options);
    expect(valuesOf(args, '-drive')).toEqual([
      'file=/image/root.img,if=none,id=root,format=raw,readonly=on',
      'file=/vm/data.img,if=none,id=data,format=raw,cache=writeback,discard=unmap',
    ]);
    expect(valuesOf(args, '-device')).toContain('virtio-blk-pci,drive=root,serial=dstack-root');
    expect(valuesOf(args, '-device')).toContain('virtio-blk-pci,drive=data,serial=dstack-data');
    const { dataDisk: _, ...without } = options;
    expect(qemuArguments(without).join(' ')).not.toContain('dstack-data');
  });

  it('shares the host volume read-only', () => {
    expect(valuesOf(qemuArguments(options), '-fsdev')).toEqual([
      'local,id=host_volume,path=/vm/volume,security_model=none,readonly=on',
    ]);
  });

  it('forwards ports from loopback only', () => {
    expect(valuesOf(qemuArguments(options), '-netdev')).toEqual([
      'user,id=net,hostfwd=tcp:127.0.0.1:20443-:443',
    ]);
  });

  it('connects the quoting port to the service, and leaves it out without one', () => {
    expect(valuesOf(qemuArguments(options), '-chardev')).toContain(
      'socket,id=quote,path=/vm/quote.sock,server=off',
    );
    expect(valuesOf(qemuArguments(options), '-device')).toContain(
      'virtserialport,chardev=quote,name=dstack.quote',
    );
    const { quotingSocket: _, ...without } = options;
    expect(qemuArguments(without).join(' ')).not.toContain('dstack.quote');
  });

  it('takes the accelerator that was found', () => {
    expect(valuesOf(qemuArguments(options), '-cpu')).toEqual(['max']);
    expect(valuesOf(qemuArguments({ ...options, accelerator: 'kvm' }), '-cpu')).toEqual(['host']);
    expect(valuesOf(qemuArguments({ ...options, accelerator: 'kvm' }), '-accel')).toEqual(['kvm']);
  });

  it('lets no path add an option', () => {
    const args = qemuArguments({ ...options, hostVolume: '/vm/a,readonly=off' });
    expect(valuesOf(args, '-fsdev')[0]).toContain('path=/vm/a,,readonly=off,security_model=none,readonly=on');
    expect(() => qemuArguments({ ...options, hostVolume: 'relative' })).toThrow(/absolute path/);
    expect(() => qemuArguments({ ...options, qmpSocket: '/vm/a\nb' })).toThrow(/absolute path/);
  });

  it.each([0, 65536, 1.5, Number.NaN])('has no port %s', (host) => {
    expect(() => qemuArguments({ ...options, ports: [{ host, guest: 443 }] })).toThrow(/from 1 to 65535/);
  });
});
