import { describe, expect, it } from 'vitest';
import { type CpioEntry, cpioArchive, readCpio } from './cpio.ts';

const entries: CpioEntry[] = [
  { path: 'bin', kind: 'folder' },
  { path: 'bin/tool', kind: 'file', bytes: Buffer.from('12345'), executable: true },
  { path: 'bin/alias', kind: 'link', target: 'tool' },
  { path: 'note', kind: 'file', bytes: Buffer.from('x'), executable: false },
];

/** Reads the archive by the format's own rules: 13 fields of 8 hex digits after the magic, padded to 4 bytes. */
function read(
  archive: Buffer,
): { name: string; mode: number; content: string; owner: number[]; time: number }[] {
  const found = [];
  let at = 0;
  for (;;) {
    expect(archive.toString('latin1', at, at + 6)).toBe('070701');
    const field = (index: number) =>
      Number.parseInt(archive.toString('latin1', at + 6 + index * 8, at + 14 + index * 8), 16);
    const name = archive.toString('latin1', at + 110, at + 110 + field(11) - 1);
    const start = (at + 110 + field(11) + 3) & ~3;
    if (name === 'TRAILER!!!') return found;
    const content = archive.toString('latin1', start, start + field(6));
    found.push({ name, mode: field(1), content, owner: [field(2), field(3)], time: field(5) });
    at = (start + field(6) + 3) & ~3;
  }
}

describe('a cpio archive', () => {
  it('holds what was put in, owned by root and without a time', () => {
    const common = { owner: [0, 0], time: 0 };
    expect(read(cpioArchive(entries))).toEqual([
      { name: 'bin', mode: 0o040755, content: '', ...common },
      { name: 'bin/tool', mode: 0o100755, content: '12345', ...common },
      { name: 'bin/alias', mode: 0o120777, content: 'tool', ...common },
      { name: 'note', mode: 0o100644, content: 'x', ...common },
    ]);
  });

  it('is the same every time', () => {
    expect(cpioArchive(entries).equals(cpioArchive(entries))).toBe(true);
  });

  it.each([
    ['a file', 6],
    ['a name', 11],
  ])('with %s of nearly 4 GiB is cut off, not read again from another place', (_, field) => {
    const archive = cpioArchive(entries);
    for (const length of ['ffffffff', 'fffffffd', '80000000', '7fffffff']) {
      const huge = Buffer.from(archive);
      huge.write(length, 6 + 8 * field, 'latin1');
      expect(() => readCpio(huge)).toThrow(expect.objectContaining({ code: 'CPIO_INVALID' }));
    }
  });
});
