/** The server against clients that are no Linux: whatever they send, it answers, or ends the stream; and it keeps nothing. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  type Frame,
  FrameReader,
  FrameSplitter,
  FrameWriter,
  MAX_FRAME,
  NO_FID,
  R_ERROR,
  T,
} from './messages.ts';
import { serveTree } from './server.ts';
import { Errno, type Folder, fixedFolder, readOnlyFile } from './tree.ts';

let server: Server;
let path: string;
let closed: number;
const clients: Socket[] = [];

/** A tree with one of everything. */
function tree(): Folder {
  return fixedFolder({
    folder: fixedFolder({ inner: readOnlyFile(0o444, () => Buffer.from('inner')) }),
    text: readOnlyFile(0o444, () => Buffer.from('hello')),
    large: readOnlyFile(0o444, () => Buffer.alloc(200_000, 1)),
    broken: readOnlyFile(0o444, () => {
      throw new Errno('EIO');
    }),
    bug: readOnlyFile(0o444, () => {
      throw new TypeError('a mistake of ours');
    }),
    input: {
      kind: 'file',
      mode: 0o200,
      size: 0,
      open: () => ({
        read: () => new Uint8Array(0),
        write: (_, bytes) => bytes.length,
        close: () => {
          closed++;
        },
      }),
    },
  });
}

beforeEach(async () => {
  closed = 0;
  path = join(tmpdir(), `dstack-ninep-${process.pid}-${Math.random().toString(36).slice(2)}`);
  const root = tree();
  server = createServer((socket) => {
    socket.on('error', () => {});
    void serveTree(root, socket).catch(() => {});
  });
  server.listen(path);
  await once(server, 'listening');
});
afterEach(() => {
  for (const client of clients.splice(0)) client.destroy();
  server.close();
});

type Write = (writer: FrameWriter) => FrameWriter;

interface Client {
  readonly socket: Socket;
  /** Resolves when the stream has ended. */
  readonly ended: Promise<void>;
  next(): Promise<Frame>;
  /** The reply's fields, or the errno as a number. */
  call(type: number, write: Write): Promise<FrameReader | number>;
  attach(): Promise<Client>;
  walk(fid: number, ...names: string[]): Promise<FrameReader | number>;
}

async function dial(): Promise<Client> {
  const socket = connect(path);
  clients.push(socket);
  socket.on('error', () => {});
  await once(socket, 'connect');
  const splitter = new FrameSplitter();
  const frames: Frame[] = [];
  let wake = () => {};
  const ended = once(socket, 'close').then(() => wake());
  socket.on('data', (chunk: Buffer) => {
    frames.push(...splitter.push(chunk));
    wake();
  });
  const client: Client = {
    socket,
    ended,
    async next() {
      while (frames.length === 0) {
        if (socket.destroyed) throw new Error('the stream has ended');
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      return frames.shift()!;
    },
    async call(type, write) {
      socket.write(write(new FrameWriter()).frame(type, 7));
      const reply = await client.next();
      expect(reply.tag).toBe(7);
      const body = new FrameReader(reply.body);
      if (reply.type === R_ERROR) return body.uint32();
      expect(reply.type).toBe(type + 1);
      return body;
    },
    async attach() {
      await client.call(T.version, (w) => w.uint32(8192).string('9P2000.L'));
      await client.call(T.attach, (w) => w.uint32(0).uint32(NO_FID).string('').string('').uint32(0));
      return client;
    },
    walk: (fid, ...names) =>
      client.call(T.walk, (w) => {
        w.uint32(0).uint32(fid).uint16(names.length);
        for (const name of names) w.string(name);
        return w;
      }),
  };
  return client;
}

const [ENOENT, EIO, EBADF, EACCES, EEXIST, ENOTDIR, EISDIR, EINVAL, EMFILE, EOPNOTSUPP, EPERM] = [
  2, 5, 9, 13, 17, 20, 21, 22, 24, 95, 1,
];

test('another version is unknown; another attach of a fid is refused', async () => {
  const client = await dial();
  for (const [size, version, spoken] of [
    [8192, '9P2000', 'unknown'],
    [100, '9P2000.L', 'unknown'],
    [2 ** 31, '9P2000.L', '9P2000.L'],
  ] as const) {
    const reply = await client.call(T.version, (w) => w.uint32(size).string(version));
    if (typeof reply === 'number') throw new Error('refused');
    expect(reply.uint32()).toBe(Math.min(size, MAX_FRAME));
    expect(reply.string()).toBe(spoken);
  }
  await client.attach();
  const again: Write = (w) => w.uint32(0).uint32(NO_FID).string('').string('').uint32(0);
  expect(await client.call(T.attach, again)).toBe(EBADF);
});

test('every refusal is an errno', async () => {
  const client = await (await dial()).attach();
  await client.walk(1, 'text');
  await client.walk(2, 'folder');
  await client.walk(3, 'input');
  await client.walk(4, 'broken');
  await client.walk(5, 'bug');
  const open = (fid: number, flags: number) => client.call(T.lopen, (w) => w.uint32(fid).uint32(flags));
  const read = (fid: number) => client.call(T.read, (w) => w.uint32(fid).uint64(0).uint32(10));
  expect(await client.walk(9, 'nothing')).toBe(ENOENT);
  expect(await client.walk(9, 'text', 'inside')).toBeInstanceOf(FrameReader);
  expect(await read(9)).toBe(EBADF);
  expect(await client.walk(9, '__proto__')).toBe(ENOENT);
  expect(await read(1)).toBe(EBADF);
  expect(await open(1, 1)).toBe(EACCES);
  expect(await open(1, 2)).toBe(EACCES);
  expect(await open(3, 0)).toBe(EACCES);
  expect(await open(2, 1)).toBe(EISDIR);
  expect(await open(4, 0)).toBeInstanceOf(FrameReader);
  expect(await open(4, 0)).toBe(EBADF);
  expect(await read(4)).toBe(EIO);
  await open(5, 0);
  expect(await read(5)).toBe(EIO);
  const mkdir = (fid: number, name: string) =>
    client.call(T.mkdir, (w) => w.uint32(fid).string(name).uint32(0).uint32(0));
  expect(await mkdir(1, 'a')).toBe(ENOTDIR);
  expect(await mkdir(0, 'text')).toBe(EEXIST);
  expect(await mkdir(0, 'a')).toBe(EPERM);
  for (const name of ['', '.', '..', 'a/b']) expect(await mkdir(0, name)).toBe(EINVAL);
  const unlink = (name: string, flags: number) =>
    client.call(T.unlinkat, (w) => w.uint32(0).string(name).uint32(flags));
  expect(await unlink('text', 0)).toBe(EPERM);
  expect(await unlink('text', 0x200)).toBe(ENOTDIR);
  expect(await unlink('nothing', 0x200)).toBe(ENOENT);
  expect(await client.call(T.clunk, (w) => w.uint32(77))).toBe(EBADF);
  expect(await client.call(T.getattr, (w) => w)).toBe(EINVAL);
  expect(await client.call(T.walk, (w) => w.uint32(0).uint32(9).uint16(17))).toBe(EINVAL);
  for (const type of [14, 16, 18, 20, 30, 70, 122, 255 - 1]) {
    expect(await client.call(type, (w) => w)).toBe(EOPNOTSUPP);
  }
  // And `..` of the root is the root.
  await client.walk(20, '..', '..', 'text');
  await open(20, 0);
  const hello = await read(20);
  expect(typeof hello !== 'number' && hello.bytes(hello.uint32()).toString()).toBe('hello');
});

test('fids are bounded, and what is open is closed when the stream ends', async () => {
  const client = await (await dial()).attach();
  await client.walk(1, 'input');
  await client.call(T.lopen, (w) => w.uint32(1).uint32(1));
  for (let fid = 2; fid < 256; fid++) expect(await client.walk(fid)).toBeInstanceOf(FrameReader);
  expect(await client.walk(256)).toBe(EMFILE);
  client.socket.destroy();
  await client.ended;
  await expect.poll(() => closed).toBe(1);
});

test('a folder is listed in pieces of the size asked for', async () => {
  const client = await (await dial()).attach();
  await client.walk(1);
  await client.call(T.lopen, (w) => w.uint32(1).uint32(0));
  const names: string[] = [];
  for (let offset = 0; ; ) {
    const at = offset;
    const reply = await client.call(T.readdir, (w) => w.uint32(1).uint64(at).uint32(60));
    if (typeof reply === 'number') throw new Error(`errno ${reply}`);
    const entries = new FrameReader(reply.bytes(reply.uint32()));
    if (entries.left === 0) break;
    while (entries.left > 0) {
      entries.qid();
      offset = entries.uint64();
      entries.uint8();
      names.push(entries.string());
    }
  }
  expect(names).toEqual(['.', '..', 'folder', 'text', 'large', 'broken', 'bug', 'input']);
});

test('a reply is never larger than what was agreed', async () => {
  const client = await (await dial()).attach();
  await client.walk(1, 'large');
  await client.call(T.lopen, (w) => w.uint32(1).uint32(0));
  const reply = await client.call(T.read, (w) => w.uint32(1).uint64(0).uint32(0xffff_ffff));
  expect(typeof reply !== 'number' && reply.left).toBeLessThan(8192 - 7);
});

test.each([
  ['a frame shorter than its header', Buffer.from('06000000640100', 'hex')],
  ['a frame of 4 GiB', Buffer.from('ffffffff640100', 'hex')],
  ['text', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
])('%s ends the stream', async (_, bytes) => {
  const client = await dial();
  client.socket.write(bytes);
  await client.ended;
  expect(await (await dial()).attach()).toBeDefined();
});

test('a client that writes and never reads stops being read', async () => {
  const client = await (await dial()).attach();
  await client.walk(1, 'large');
  await client.call(T.lopen, (w) => w.uint32(1).uint32(0));
  client.socket.pause();
  const question = new FrameWriter().uint32(1).uint64(0).uint32(8000).frame(T.read, 1);
  const block = Buffer.concat(Array.from({ length: 2_000 }, () => question));
  let accepted = 0;
  for (let round = 0; round < 40; round++) {
    const flushed = await Promise.race([
      new Promise<boolean>((resolve) => client.socket.write(block, () => resolve(true))),
      new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 500)),
    ]);
    if (!flushed) break;
    accepted++;
  }
  expect(accepted).toBeLessThan(40);
  expect(await (await dial()).attach()).toBeDefined();
});

test('whatever the fields hold, each request gets one reply, of its type or an errno', async () => {
  const types = Object.values(T).filter((type) => type !== T.version);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.constantFrom(...types), fc.uint8Array({ maxLength: 60 })), { maxLength: 20 }),
      async (requests) => {
        const client = await (await dial()).attach();
        for (const [type, body] of requests) {
          client.socket.write(new FrameWriter().bytes(body).frame(type, 9));
          const reply = await client.next();
          expect([type + 1, R_ERROR]).toContain(reply.type);
          expect(reply.tag).toBe(9);
        }
        client.socket.destroy();
      },
    ),
    { numRuns: 60 },
  );
});
