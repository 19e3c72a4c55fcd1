import { describe, expect, it } from 'vitest';
import { moduleClosure } from './kernel.ts';
import { packedKernel } from './kernel-image.ts';

const dep = `kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz
kernel/net/9p/9pnet.ko.xz:
kernel/fs/netfs/netfs.ko.xz:
kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz
kernel/drivers/md/dm-verity.ko.xz: kernel/drivers/md/dm-bufio.ko.xz kernel/drivers/md/dm-mod.ko.xz
`;

describe('the modules of the image', () => {
  it('come after what they need, once each, and by either spelling', () => {
    expect(moduleClosure(dep, '', ['9p', '9pnet_virtio', 'dm_verity'])).toEqual([
      'kernel/fs/netfs/netfs.ko',
      'kernel/net/9p/9pnet.ko',
      'kernel/fs/9p/9p.ko',
      'kernel/net/9p/9pnet_virtio.ko',
      'kernel/drivers/md/dm-mod.ko',
      'kernel/drivers/md/dm-bufio.ko',
      'kernel/drivers/md/dm-verity.ko',
    ]);
  });

  it('need no file when built in, and are an error when nowhere', () => {
    expect(moduleClosure(dep, 'kernel/drivers/virtio/virtio_pci.ko\n', ['virtio-pci'])).toEqual([]);
    expect(() => moduleClosure(dep, '', ['virtio_pci'])).toThrow(/no module virtio_pci/);
  });
});

describe('the kernel inside a bzImage', () => {
  const payload = Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), Buffer.from('packed')]);

  function bzImage(content: Buffer): Buffer {
    const image = Buffer.alloc(2 * 512 + 16);
    image[0x1f1] = 1;
    image.write('HdrS', 0x202, 'latin1');
    image.writeUInt32LE(16, 0x248);
    image.writeUInt32LE(content.length + 4, 0x24c);
    return Buffer.concat([image, content, Buffer.alloc(4)]);
  }

  it('is found by the header', () => {
    expect(packedKernel(bzImage(payload)).equals(payload)).toBe(true);
  });

  it.each([
    ['another compression', bzImage(Buffer.from('\x1f\x8b gzip  '))],
    ['a cut file', bzImage(payload).subarray(0, -6)],
    ['no bzImage', Buffer.alloc(2000)],
    ['nothing', Buffer.alloc(0)],
  ])('is refused for %s', (_, image) => {
    expect(() => packedKernel(image)).toThrow(/not a bzImage/);
  });
});
