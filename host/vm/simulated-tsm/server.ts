/**
 * A 9P2000.L server for one tree: what Linux's v9fs needs to mount it, and nothing else.
 *
 * Client and server do not trust each other: frames, fids and names are bounded, a request that this server does not know or
 * cannot do gets an errno, and replies are written only as fast as they are read. A stream that is not 9P is closed.
 */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { DstackError } from '../../../lib/protocol/errors.ts';
import {
  AT_REMOVEDIR,
  type Frame,
  FrameReader,
  FrameSplitter,
  FrameWriter,
  HEADER_BYTES,
  MAX_FRAME,
  MAX_WALK,
  PROTOCOL,
  QID_FILE,
  QID_FOLDER,
  type Qid,
  R_ERROR,
  T,
} from './messages.ts';
import { Errno, type Folder, type OpenFile, Silence, type TreeNode } from './tree.ts';

const MAX_FIDS = 256;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const O_ACCMODE = 3;
/** The fields that Rgetattr fills in. */
const GETATTR_BASIC = 0x7ff;
const V9FS_MAGIC = 0x01021997;

interface Fid {
  readonly path: readonly TreeNode[];
  open?: OpenFile;
  /** Readdir gives what the folder held when it was read from the start. */
  listing?: readonly string[];
}

/** Serves `root` on `stream` until the stream ends. Requests are answered one after the other. */
export async function serveTree(root: Folder, stream: Duplex): Promise<void> {
  const splitter = new FrameSplitter();
  const session = new Session(root);
  try {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      for (const frame of splitter.push(chunk)) {
        const reply = session.answer(frame);
        // Waiting for the client to read keeps one that only writes from filling our memory.
        if (reply !== undefined && !stream.write(reply)) await once(stream, 'drain');
      }
    }
  } finally {
    session.end();
    stream.destroy();
  }
}

/** What one client has open. */
class Session {
  readonly #root: Folder;
  readonly #fids = new Map<number, Fid>();
  readonly #ids = new WeakMap<TreeNode, number>();
  #nextId = 1;
  #maxFrame = MAX_FRAME;

  constructor(root: Folder) {
    this.#root = root;
  }

  /** The reply's frame, or undefined for none. */
  answer({ type, tag, body }: Frame): Buffer | undefined {
    try {
      const handler = this.#handlers[type];
      if (handler === undefined) throw new Errno('EOPNOTSUPP');
      return handler(new FrameReader(body), new FrameWriter()).frame(type + 1, tag);
    } catch (error) {
      if (error instanceof Silence) return undefined;
      return new FrameWriter().uint32(errnoOf(error).number).frame(R_ERROR, tag);
    }
  }

  /** As if the client closed all it has open. */
  end(): void {
    for (const fid of this.#fids.values()) fid.open?.close();
    this.#fids.clear();
  }

  readonly #handlers: Readonly<Record<number, (request: FrameReader, reply: FrameWriter) => FrameWriter>> = {
    [T.version]: (request, reply) => {
      this.end();
      this.#maxFrame = Math.min(request.uint32(), MAX_FRAME);
      const spoken = request.string() === PROTOCOL && this.#maxFrame >= 1024;
      return reply.uint32(this.#maxFrame).string(spoken ? PROTOCOL : 'unknown');
    },
    [T.attach]: (request, reply) => {
      this.#set(request.uint32(), { path: [this.#root] });
      return reply.qid(this.#qid(this.#root));
    },
    // Requests are answered in order: whatever is to be given up was answered before.
    [T.flush]: (_, reply) => reply,
    [T.walk]: (request, reply) => this.#walk(request, reply),
    [T.lopen]: (request, reply) => {
      const fid = this.#fid(request.uint32());
      const node = nodeOf(fid);
      const access = request.uint32() & O_ACCMODE;
      if (fid.open !== undefined) throw new Errno('EBADF');
      if (node.kind === 'file') {
        if (access !== 1 && (node.mode & 0o444) === 0) throw new Errno('EACCES');
        if (access !== 0 && (node.mode & 0o222) === 0) throw new Errno('EACCES');
        fid.open = node.open();
      } else if (access !== 0) throw new Errno('EISDIR');
      return reply.qid(this.#qid(node)).uint32(0);
    },
    [T.read]: (request, reply) => {
      const { open } = this.#fid(request.uint32());
      if (open === undefined) throw new Errno('EBADF');
      const offset = request.uint64();
      const bytes = open.read(offset, Math.min(request.uint32(), this.#room()));
      return reply.uint32(bytes.length).bytes(bytes);
    },
    [T.write]: (request, reply) => {
      const { open } = this.#fid(request.uint32());
      if (open === undefined) throw new Errno('EBADF');
      const offset = request.uint64();
      return reply.uint32(open.write(offset, request.bytes(request.uint32())));
    },
    [T.clunk]: (request, reply) => {
      const number = request.uint32();
      const fid = this.#fid(number);
      this.#fids.delete(number);
      fid.open?.close();
      return reply;
    },
    [T.getattr]: (request, reply) => this.#getattr(this.#fid(request.uint32()), reply),
    // open(2) with O_TRUNC, and times that nobody keeps: neither configfs nor sysfs minds.
    [T.setattr]: (request, reply) => {
      this.#fid(request.uint32());
      return reply;
    },
    [T.fsync]: (request, reply) => {
      this.#fid(request.uint32());
      return reply;
    },
    [T.readdir]: (request, reply) => this.#readdir(request, reply),
    [T.mkdir]: (request, reply) => {
      const folder = folderOf(this.#fid(request.uint32()));
      const name = nameIn(request);
      if (folder.get(name) !== undefined) throw new Errno('EEXIST');
      return reply.qid(this.#qid(folder.makeFolder(name)));
    },
    [T.unlinkat]: (request, reply) => {
      const folder = folderOf(this.#fid(request.uint32()));
      const name = nameIn(request);
      const node = folder.get(name);
      if (node === undefined) throw new Errno('ENOENT');
      if ((request.uint32() & AT_REMOVEDIR) === 0) throw new Errno('EPERM');
      if (node.kind !== 'folder') throw new Errno('ENOTDIR');
      folder.removeFolder(name);
      return reply;
    },
    [T.statfs]: (request, reply) => {
      this.#fid(request.uint32());
      reply.uint32(V9FS_MAGIC).uint32(4096);
      for (let field = 0; field < 6; field++) reply.uint64(0);
      return reply.uint32(255);
    },
  };

  /** Walks all names, or as many as there are; in that case the new fid stays unset. */
  #walk(request: FrameReader, reply: FrameWriter): FrameWriter {
    const from = this.#fid(request.uint32());
    const newFid = request.uint32();
    const count = request.uint16();
    if (count > MAX_WALK) throw new Errno('EINVAL');
    let path = from.path;
    const qids: Qid[] = [];
    for (let index = 0; index < count; index++) {
      const name = request.string();
      const next = step(path, name);
      if (next === undefined) {
        if (index === 0) throw new Errno('ENOENT');
        break;
      }
      path = next;
      qids.push(this.#qid(path.at(-1)!));
    }
    if (qids.length === count) this.#set(newFid, { path }, from);
    reply.uint16(qids.length);
    for (const qid of qids) reply.qid(qid);
    return reply;
  }

  #getattr(fid: Fid, reply: FrameWriter): FrameWriter {
    const node = nodeOf(fid);
    const folder = node.kind === 'folder';
    reply
      .uint64(GETATTR_BASIC)
      .qid(this.#qid(node))
      .uint32(node.mode | (folder ? S_IFDIR : S_IFREG))
      .uint32(0) // uid
      .uint32(0) // gid
      .uint64(folder ? 2 : 1) // links
      .uint64(0) // rdev
      .uint64(folder ? 0 : node.size)
      .uint64(4096) // block size
      .uint64(0); // blocks
    // Four times (seconds and nanoseconds), generation, data version: all unknown.
    for (let field = 0; field < 10; field++) reply.uint64(0);
    return reply;
  }

  #readdir(request: FrameReader, reply: FrameWriter): FrameWriter {
    const fid = this.#fid(request.uint32());
    const folder = folderOf(fid);
    const offset = request.uint64();
    const room = Math.min(request.uint32(), this.#room());
    if (offset === 0 || fid.listing === undefined) fid.listing = ['.', '..', ...folder.names()];
    const entries = new FrameWriter();
    let length = 0;
    for (let at = offset; at < fid.listing.length; at++) {
      const name = fid.listing[at]!;
      const node = step(fid.path, name)?.at(-1);
      if (node === undefined) continue;
      length += 24 + Buffer.byteLength(name);
      if (length > room) break;
      const qid = this.#qid(node);
      entries
        .qid(qid)
        .uint64(at + 1)
        .uint8(node.kind === 'folder' ? 4 : 8)
        .string(name);
    }
    const bytes = entries.body();
    return reply.uint32(bytes.length).bytes(bytes);
  }

  /** Bytes that a reply may carry: Linux wants a frame to be smaller than what was agreed. */
  #room(): number {
    return this.#maxFrame - HEADER_BYTES - 5;
  }

  #fid(number: number): Fid {
    const fid = this.#fids.get(number);
    if (fid === undefined) throw new Errno('EBADF');
    return fid;
  }

  /** @param replaces a fid that may be set again in place, as Twalk allows */
  #set(number: number, fid: Fid, replaces?: Fid): void {
    const existing = this.#fids.get(number);
    if (existing !== undefined && existing !== replaces) throw new Errno('EBADF');
    if (existing?.open !== undefined) throw new Errno('EBADF');
    if (existing === undefined && this.#fids.size >= MAX_FIDS) throw new Errno('EMFILE');
    this.#fids.set(number, fid);
  }

  #qid(node: TreeNode): Qid {
    let path = this.#ids.get(node);
    if (path === undefined) {
      path = this.#nextId++;
      this.#ids.set(node, path);
    }
    return { type: node.kind === 'folder' ? QID_FOLDER : QID_FILE, path };
  }
}

/** The path one name further, or undefined where there is no such name. */
function step(path: readonly TreeNode[], name: string): readonly TreeNode[] | undefined {
  const at = path.at(-1)!;
  if (name === '.') return path;
  if (name === '..') return path.length === 1 ? path : path.slice(0, -1);
  const next = at.kind === 'folder' ? at.get(name) : undefined;
  return next === undefined ? undefined : [...path, next];
}

function nodeOf(fid: Fid): TreeNode {
  return fid.path.at(-1)!;
}

function folderOf(fid: Fid): Folder {
  const node = nodeOf(fid);
  if (node.kind !== 'folder') throw new Errno('ENOTDIR');
  return node;
}

function nameIn(request: FrameReader): string {
  const name = request.string();
  if (name === '' || name === '.' || name === '..' || name.includes('/')) throw new Errno('EINVAL');
  if (Buffer.byteLength(name) > 255) throw new Errno('ENAMETOOLONG');
  return name;
}

/** A frame that is cut short is the client's fault; anything unforeseen is an I/O error to it. */
function errnoOf(error: unknown): Errno {
  if (error instanceof Errno) return error;
  return new Errno(error instanceof DstackError && error.code === 'NINEP_FORMAT' ? 'EINVAL' : 'EIO');
}
