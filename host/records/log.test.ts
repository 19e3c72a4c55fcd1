import { readFileSync, statSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { bytesOf } from '../../lib/protocol/records/records.fixture.ts';
import { crc32c } from './crc32c.ts';
import { GroupCommit } from './group-commit.ts';
import { createLog, entryBytes, GROUP_BYTES, type LogFile, RecordLog } from './log.ts';
import { BEGINS_GROUP, ENTRY_HEAD_BYTES, EntryFormat, HEADER_BYTES, parseHeader } from './log-format.ts';
import { freshFolder } from './records.fixture.ts';

const NETWORK = bytesOf('network');
const texts = (entries: Iterable<{ record: Buffer }>) => [...entries].map(({ record }) => `${record}`);
const entry = (text: string) => ({ flags: 0, record: utf8(text) });

/** A log of a genesis and these groups. */
async function logOf(...groups: string[][]): Promise<string> {
  const path = join(freshFolder(), 'log');
  createLog(path, NETWORK, utf8('genesis'));
  const log = await RecordLog.open(path);
  for (const group of groups) await log.append(group.map(entry));
  await log.close();
  return path;
}

async function reading(path: string, known?: { salt: string; end: number }) {
  const log = await RecordLog.open(path, known && { known });
  const found = { texts: texts(log.entries()), cut: log.cut };
  await log.close();
  return found;
}
const codeOfReading = (path: string, known?: { salt: string; end: number }) =>
  reading(path, known).then(() => 'read', codeOf);

test('sums are those of RFC 3720, and go on', () => {
  const sumOf = (bytes: Uint8Array) => crc32c(bytes).toString(16);
  expect(sumOf(new Uint8Array(32))).toBe('8a9136aa');
  expect(sumOf(new Uint8Array(32).fill(0xff))).toBe('62a8ab43');
  expect(sumOf(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe('46dd794e');
  expect(crc32c(utf8('6789'), crc32c(utf8('12345'))).toString(16)).toBe('e3069283');
});

test('what was written is read, each by its place, also after a start', async () => {
  const path = await logOf(['one', 'two'], ['three']);
  expect(await reading(path)).toEqual({ texts: ['genesis', 'one', 'two', 'three'], cut: 0 });
  const log = await RecordLog.open(path);
  const places = await log.append(['four', 'five'].map(entry));
  expect(places.map((place) => `${Buffer.from(log.read(place))}`)).toEqual(['four', 'five']);
  expect(codeOf(catching(() => log.read({ ...places[0]!, length: 5 })))).toBe('RECORDS_LOG_DAMAGED');
  await log.close();
});

test('a log is its owner’s alone, and never made in the place of another file or through a link', async () => {
  const path = await logOf();
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const before = readFileSync(path);
  expect(codeOf(catching(() => createLog(path, NETWORK, utf8('other'))))).toBe('RECORDS_EXISTS');
  expect(readFileSync(path)).toEqual(before);
  const link = join(freshFolder(), 'link');
  symlinkSync(path, link);
  await expect(RecordLog.open(link)).rejects.toMatchObject({ code: 'ELOOP' });
});

describe('of another version', () => {
  const withMagic = (path: string, magic: string) => {
    const bytes = readFileSync(path);
    bytes.write(magic, 'latin1');
    bytes.writeUInt32BE(crc32c(bytes.subarray(0, HEADER_BYTES - 4)), HEADER_BYTES - 4);
    writeFileSync(path, bytes);
    return bytes;
  };

  test('a log is refused and left as it is, by its number; the one before this is read', async () => {
    const path = await logOf(['one']);
    const later = withMagic(path, 'dstack-records-3');
    expect(await codeOfReading(path)).toBe('RECORDS_LOG_VERSION');
    expect(readFileSync(path)).toEqual(later);
    withMagic(path, 'another-program1');
    expect(await codeOfReading(path)).toBe('RECORDS_LOG_FORM');
    withMagic(path, 'dstack-records-1');
    expect((await reading(path)).texts).toEqual(['genesis', 'one']);
  });

  test('a log with an entry that says what is not known here is refused, and not cut off there', async () => {
    const path = await logOf(['one']);
    const whole = readFileSync(path);
    const format = new EntryFormat(parseHeader(whole)!.salt);
    for (const flags of [8, 0x80, BEGINS_GROUP | 8]) {
      const later = Buffer.concat([whole, format.encode(whole.length, flags, utf8('two'))]);
      writeFileSync(path, later);
      expect(await codeOfReading(path)).toBe('RECORDS_LOG_VERSION');
      expect(readFileSync(path)).toEqual(later);
    }
    // An entry that was not finished is none, whatever it would have said.
    writeFileSync(path, Buffer.concat([whole, format.encode(whole.length, 8, utf8('two')).subarray(0, -1)]));
    expect((await reading(path)).texts).toEqual(['genesis', 'one']);
  });
});

describe('an unfinished end', () => {
  test('at any byte of the last entry, is cut off, and what follows is written in its place', async () => {
    const path = await logOf(['one'], ['two', 'three']);
    const whole = readFileSync(path);
    const last = whole.length - ENTRY_HEAD_BYTES - 'three'.length;
    for (let length = last; length < whole.length; length++) {
      truncateSync(path, length);
      expect(await reading(path)).toEqual({ texts: ['genesis', 'one', 'two'], cut: length - last });
      expect(statSync(path).size).toBe(last);
      writeFileSync(path, whole);
    }
    for (let at = last; at < whole.length; at++) {
      writeFileSync(path, whole.with(at, whole[at]! ^ 0x40));
      expect((await reading(path)).texts).toEqual(['genesis', 'one', 'two']);
      writeFileSync(path, whole);
    }
  });

  test('of zeros, or of a group whose first part never came to the disk, is cut off', async () => {
    const path = await logOf(['one'], ['two', 'three', 'four']);
    const whole = readFileSync(path);
    const group = whole.indexOf('two') - ENTRY_HEAD_BYTES;
    writeFileSync(path, Buffer.concat([whole, Buffer.alloc(4096)]));
    expect(await reading(path)).toEqual({ texts: ['genesis', 'one', 'two', 'three', 'four'], cut: 4096 });
    writeFileSync(path, Buffer.from(whole).fill(0, group, group + ENTRY_HEAD_BYTES));
    expect(await reading(path)).toEqual({ texts: ['genesis', 'one'], cut: whole.length - group });
  });

  test('bytes in a record that look like an entry are none', async () => {
    // Whoever makes a record does not know the salt.
    const guess = new EntryFormat(new Uint8Array(16));
    const path = await logOf(['one']);
    const at = statSync(path).size + ENTRY_HEAD_BYTES;
    const log = await RecordLog.open(path);
    await log.append([{ flags: 0, record: guess.encode(at, BEGINS_GROUP, utf8('forged')) }]);
    await log.close();
    const whole = readFileSync(path);
    writeFileSync(path, whole.with(at - 1, whole[at - 1]! ^ 1));
    expect(await codeOfReading(path)).toBe('read');
    expect((await reading(path)).texts).toEqual(['genesis', 'one']);
  });
});

describe('a damaged middle', () => {
  test('at any byte, is refused, and nothing is changed', async () => {
    const path = await logOf(['one', 'two'], ['three']);
    const whole = readFileSync(path);
    const three = whole.indexOf('three') - ENTRY_HEAD_BYTES;
    for (let at = HEADER_BYTES; at < three; at++) {
      const spoiled = whole.with(at, whole[at]! ^ 0x10);
      writeFileSync(path, spoiled);
      expect(await codeOfReading(path)).toBe('RECORDS_LOG_DAMAGED');
      expect(readFileSync(path).equals(spoiled)).toBe(true);
    }
    await expect(reading(path)).rejects.toThrow('`records rebuild`');
  });

  test('longer than what is written at once, is refused', async () => {
    const path = await logOf(['one']);
    writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.alloc(3 << 20)]));
    expect(await codeOfReading(path)).toBe('RECORDS_LOG_DAMAGED');
  });

  test('in the largest group, of the smallest records, is of an unfinished group', async () => {
    const path = await logOf(['one']);
    const groups: Uint8Array[][] = [];
    const gathered = new GroupCommit<Uint8Array>(async (group) => void groups.push([...group]), GROUP_BYTES);
    // A record has no fewer bytes than its head, one link, a signature and what lies between.
    const smallest = new Uint8Array(145);
    for (let n = 0; n < 8_000; n++) gathered.push(smallest, entryBytes(smallest));
    await gathered.settled();
    const log = await RecordLog.open(path);
    const begin = log.end;
    await log.append(groups[0]!.map((record) => ({ flags: 0, record })));
    await log.close();
    const bytes = readFileSync(path);
    bytes[begin] = bytes[begin]! ^ 1;
    writeFileSync(path, bytes);
    expect(await codeOfReading(path)).toBe('read');
    expect(await reading(path)).toMatchObject({ texts: ['genesis', 'one'] });
  });

  test('or an end that is missing is refused where the index had it', async () => {
    const path = await logOf(['one']);
    const salt = toHex(parseHeader(readFileSync(path))!.salt);
    const end = statSync(path).size;
    expect(await codeOfReading(path, { salt, end })).toBe('read');
    truncateSync(path, end - 1);
    expect(await codeOfReading(path, { salt, end })).toBe('RECORDS_LOG_DAMAGED');
    // An index of another log knows nothing of this one.
    expect(await codeOfReading(path, { salt: '00', end })).toBe('read');
  });

  test('in the header, is no log', async () => {
    const path = await logOf(['one']);
    const whole = readFileSync(path);
    for (let at = 0; at < HEADER_BYTES; at++) {
      writeFileSync(path, whole.with(at, whole[at]! ^ 1));
      expect(await codeOfReading(path)).toBe('RECORDS_LOG_FORM');
    }
  });

  test('an entry that is where it was not written is none', async () => {
    const path = await logOf(['one'], ['two']);
    const whole = readFileSync(path);
    const [one, two] = ['one', 'two'].map((text) => whole.indexOf(text) - ENTRY_HEAD_BYTES) as [
      number,
      number,
    ];
    const moved = Buffer.from(whole);
    whole.copy(moved, one, two);
    writeFileSync(path, moved);
    expect(await codeOfReading(path)).toBe('RECORDS_LOG_DAMAGED');
  });
});

describe('a disk that fails', () => {
  const failing = (when: 'write' | 'sync'): LogFile => {
    const fail = (name: string) =>
      name === when
        ? Promise.reject(Object.assign(new Error('EIO: i/o error'), { code: 'EIO' }))
        : Promise.resolve();
    return { write: () => fail('write'), sync: () => fail('sync') };
  };

  test.each(['write', 'sync'] as const)('at a %s: nothing is written any more', async (when) => {
    const path = await logOf(['one']);
    let isBad = true;
    const log = await RecordLog.open(path, {
      fileOf: () => ({
        write: (bytes, at) => (isBad ? failing(when).write(bytes, at) : Promise.resolve()),
        sync: () => (isBad ? failing(when).sync() : Promise.resolve()),
      }),
    });
    const end = log.end;
    const refused = { code: 'RECORDS_STOPPED', message: expect.stringContaining('check the disk') };
    await expect(log.append([entry('two')])).rejects.toMatchObject(refused);
    // A sync that works the next time says nothing of what the last one lost.
    isBad = false;
    await expect(log.append([entry('three')])).rejects.toMatchObject(refused);
    expect(log.end).toBe(end);
    await log.close();
  });

  test('a group that was written and not synced is written once more at the next start', async () => {
    const path = await logOf(['one']);
    const log = await RecordLog.open(path, {
      fileOf: (handle) => ({
        write: async (bytes, at) => void (await handle.write(bytes, 0, bytes.length, at)),
        sync: () => Promise.reject(new Error('EIO')),
      }),
    });
    await expect(log.append([entry('two')])).rejects.toMatchObject({ code: 'RECORDS_STOPPED' });
    await log.close();
    const before = readFileSync(path);
    utimesSync(path, 0, 0);
    expect((await reading(path)).texts).toEqual(['genesis', 'one', 'two']);
    expect(readFileSync(path)).toEqual(before);
    expect(statSync(path).mtimeMs).toBeGreaterThan(0);
  });
});

function catching(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    return error;
  }
}
