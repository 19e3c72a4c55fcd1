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
  platformSocket: '/vm/platform.sock',
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

  it('keeps a guest that breaks out of the emulator from starting anything', () => {
    expect(valuesOf(qemuArguments(options), '-sandbox')).toEqual([
      'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
    ]);
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

  it('forwards from any address where QEMU is alone in its network, whose loopback is not up yet', () => {
    expect(valuesOf(qemuArguments({ ...options, ownNetwork: true }), '-netdev')).toEqual([
      'user,id=net,hostfwd=tcp:0.0.0.0:20443-:443',
    ]);
  });

  it('connects the simulated platform to the first console, and leaves it out without one', () => {
    expect(valuesOf(qemuArguments(options), '-chardev')).toContain(
      'socket,id=platform,path=/vm/platform.sock,server=off',
    );
    expect(valuesOf(qemuArguments(options), '-device')).toContain(
      'virtconsole,chardev=platform,name=dstack.platform',
    );
    const { platformSocket: _, ...without } = options;
    expect(qemuArguments(without).join(' ')).not.toContain('dstack.platform');
  });

  describe('of a TD', () => {
    const { platformSocket: _, ...without } = options;
    const td = { ...without, accelerator: 'tdx' as const };

    it('has the tdx-guest object, its quotes from the quote generation service, and the firmware by -bios', () => {
      const args = qemuArguments(td);
      expect(valuesOf(args, '-object').map((text) => JSON.parse(text))).toEqual([
        {
          'qom-type': 'tdx-guest',
          id: 'tdx0',
          'sept-ve-disable': true,
          'quote-generation-socket': { type: 'vsock', cid: '2', port: '4050' },
        },
      ]);
      expect(valuesOf(args, '-machine')).toEqual([
        'q35,usb=off,smbus=off,sata=off,vmport=off,hpet=off,kernel-irqchip=split,confidential-guest-support=tdx0',
      ]);
      expect(valuesOf(args, '-accel')).toEqual(['kvm']);
      expect(valuesOf(args, '-cpu')).toEqual(['host']);
      expect(valuesOf(args, '-bios')).toEqual(['/image/firmware.bin']);
      expect(args.join(' ')).not.toMatch(/pflash|debug/);
    });

    it('reaches a quote generation service that listens elsewhere, whatever its path', () => {
      const path = '/run/qgs/a,b "c".socket';
      const [object] = valuesOf(qemuArguments({ ...td, quoteGeneration: { type: 'unix', path } }), '-object');
      expect(JSON.parse(object!)['quote-generation-socket']).toEqual({ type: 'unix', path });
    });

    it('has no simulated platform', () => {
      expect(qemuArguments(td).join(' ')).not.toContain('virtio-serial');
      expect(() => qemuArguments({ ...options, accelerator: 'tdx' })).toThrow(
        expect.objectContaining({ code: 'PLATFORM_TWICE' }),
      );
    });

    it('differs from another machine in nothing else', () => {
      const own = (args: readonly string[]) =>
        args.filter((_, index) => !['-object', '-machine', '-accel', '-cpu'].includes(args[index - 1] ?? ''));
      expect(own(qemuArguments(td)).filter((arg) => arg !== '-object')).toEqual(
        own(qemuArguments({ ...without, accelerator: 'kvm' })),
      );
    });
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
