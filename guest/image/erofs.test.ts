import { describe, expect, it } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { type ErofsInode, readErofs } from './erofs.ts';

interface Node {
  readonly mode: number;
  readonly user?: number;
  readonly group?: number;
  readonly attributes?: string;
  readonly extended?: boolean;
  /** Names and node numbers, of a folder. */
  readonly entries?: readonly (readonly [string, number])[];
}

const FOLDER = 0o040755;
const FILE = 0o100644;
const SLOTS = 16;

/** An image with blocks of 512 bytes, as the format's description defines it: node N is at slot N * SLOTS, data behind it. */
function imageOf(nodes: readonly Node[]): Buffer {
  const meta = 4096;
  const image = Buffer.alloc(meta + nodes.length * SLOTS * 32);
  image.writeUInt32LE(0xe0f5e1e2, 1024);
  image.writeUInt8(9, 1024 + 12);
  image.writeUInt16LE(0, 1024 + 14);
  image.writeUInt32LE(meta / 512, 1024 + 40);
  nodes.forEach(({ mode, user = 0, group = 0, attributes = '', extended = false, entries }, number) => {
    const at = meta + number * SLOTS * 32;
    const folder = folderOf(entries ?? []);
    image.writeUInt16LE((2 << 1) | (extended ? 1 : 0), at);
    image.writeUInt16LE(attributes === '' ? 0 : (attributes.length / 2 - 12) / 4 + 1, at + 2);
    image.writeUInt16LE(mode, at + 4);
    image.writeUInt32LE(entries === undefined ? 0 : folder.length, at + 8);
    if (extended) {
      image.writeUInt32LE(user, at + 24);
      image.writeUInt32LE(group, at + 28);
    } else {
      image.writeUInt16LE(user, at + 24);
      image.writeUInt16LE(group, at + 26);
    }
    const behind = at + (extended ? 64 : 32);
    image.write(attributes, behind, 'hex');
    if (entries !== undefined) folder.copy(image, behind + attributes.length / 2);
  });
  return image;
}

function folderOf(entries: readonly (readonly [string, number])[]): Buffer {
  const names = entries.map(([name]) => Buffer.from(name));
  const head = Buffer.alloc(entries.length * 12);
  let nameAt = head.length;
  entries.forEach(([, node], index) => {
    head.writeBigUInt64LE(BigInt(node * SLOTS), index * 12);
    head.writeUInt16LE(nameAt, index * 12 + 8);
    nameAt += names[index]!.length;
  });
  return Buffer.concat([head, ...names]);
}

const tree = (tool: Node): Buffer =>
  imageOf([
    {
      mode: FOLDER,
      entries: [
        ['.', 0],
        ['..', 0],
        ['bin', 1],
      ],
    },
    {
      mode: FOLDER,
      extended: true,
      entries: [
        ['.', 1],
        ['..', 0],
        ['tool', 2],
      ],
    },
    tool,
  ]);

describe('an erofs image', () => {
  it.each<[string, Partial<Node>, Partial<ErofsInode>]>([
    ["root's", {}, { user: 0, group: 0, attributes: '' }],
    ["another user's", { user: 800, group: 6 }, { user: 800, group: 6 }],
    [
      "a user's with a large number",
      { user: 70_000, group: 80_000, extended: true },
      { user: 70_000, group: 80_000 },
    ],
    ['setuid', { mode: 0o104755 }, { mode: 0o104755 }],
    [
      'one with capabilities',
      { attributes: `${'00'.repeat(12)}0000061401000002` },
      { attributes: `${'00'.repeat(12)}0000061401000002` },
    ],
  ])('shows that a file is %s', (_, node, shown) => {
    const inodes = readErofs(tree({ mode: FILE, ...node }));
    expect([...inodes.keys()]).toEqual(['/bin', '/bin/tool']);
    expect(inodes.get('/bin/tool')).toMatchObject(shown);
  });

  it('is refused when it names attributes that are elsewhere, holds a folder in itself, or is cut off', () => {
    const code = (image: Buffer) => {
      try {
        return readErofs(image).size;
      } catch (error) {
        return codeOf(error);
      }
    };
    expect(code(tree({ mode: FILE, attributes: `0000000001${'00'.repeat(7)}00000000` }))).toBe(
      'IMAGE_INVALID',
    );
    expect(code(tree({ mode: FOLDER, entries: [['bin', 1]] }))).toBe('IMAGE_INVALID');
    const good = tree({ mode: FILE });
    expect(code(good)).toBe(2);
    for (const length of [0, 1024, 1100, 4096, 4100, 4700])
      expect(code(good.subarray(0, length))).toBe('IMAGE_INVALID');
    expect(code(Buffer.alloc(8192))).toBe('IMAGE_INVALID');
  });
});
