/**
 * The simulated platform's files without a mount: a 9P2000.L client that gives an attestor outside a VM the same files that Linux's
 * v9fs gives it inside one. It uses the server's wire format; the tests in test/vm show that Linux speaks the same.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { constants } from 'node:os';
import { type PlatformFiles, tooLong } from '../../guest/attestor/platform-files.ts';
import {
  AT_REMOVEDIR,
  type Frame,
  FrameReader,
  FrameSplitter,
  FrameWriter,
  NO_FID,
  PROTOCOL,
  R_ERROR,
  T,
} from '../../host/vm/simulated-tsm/messages.ts';
import { DstackError } from '../../lib/protocol/errors.ts';

const ROOT_FID = 0;
const MSIZE = 32_768;
const READ_BYTES = 4096;

/** The files at the socket. It is dialled when the first of them is used. */
export function ninepFiles(socketPath: string): PlatformFiles {
  let session: Promise<Session> | undefined;
  const open = () => (session ??= Session.dial(socketPath));
  return {
    async makeFolder(path) {
      const { parent, name } = split(path);
      await (await open()).with(parent, async (call, fid) => {
        await call(T.mkdir, (w) => w.uint32(fid).string(name).uint32(0o700).uint32(0));
      });
    },
    async removeFolder(path) {
      const { parent, name } = split(path);
      await (await open()).with(parent, async (call, fid) => {
        await call(T.unlinkat, (w) => w.uint32(fid).string(name).uint32(AT_REMOVEDIR));
      });
    },
    async read(path, maxBytes) {
      return await (await open()).with(path, async (call, fid) => {
        await call(T.lopen, (w) => w.uint32(fid).uint32(0));
        const chunks: Uint8Array[] = [];
        for (let length = 0; ; ) {
          const offset = length;
          const reply = await call(T.read, (w) => w.uint32(fid).uint64(offset).uint32(READ_BYTES));
          const bytes = reply.bytes(reply.uint32());
          if (bytes.length === 0) return new Uint8Array(Buffer.concat(chunks));
          length += bytes.length;
          if (length > maxBytes) throw tooLong(path, maxBytes);
          chunks.push(bytes);
        }
      });
    },
    async write(path, bytes) {
      await (await open()).with(path, async (call, fid) => {
        await call(T.lopen, (w) => w.uint32(fid).uint32(1));
        const reply = await call(T.write, (w) => w.uint32(fid).uint64(0).uint32(bytes.length).bytes(bytes));
        const written = reply.uint32();
        if (written !== bytes.length) {
          throw new DstackError('PLATFORM_FILE', `${path} took ${written} of ${bytes.length} bytes`);
        }
      });
    },
  };
}

type Call = (type: number, write: (writer: FrameWriter) => FrameWriter) => Promise<FrameReader>;

/** One connection, attached. */
class Session {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, { resolve: (frame: Frame) => void; reject: (error: Error) => void }>();
  #nextTag = 0;
  #nextFid = ROOT_FID + 1;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const splitter = new FrameSplitter();
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const frame of splitter.push(chunk)) {
          this.#waiting.get(frame.tag)?.resolve(frame);
          this.#waiting.delete(frame.tag);
        }
      } catch {
        // No 9P: there is nothing to wait for.
        socket.destroy();
      }
    });
    // Like a mount whose server went away: every call is an I/O error.
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      for (const { reject } of this.#waiting.values()) reject(errno('EIO'));
      this.#waiting.clear();
    });
  }

  static async dial(path: string): Promise<Session> {
    const socket = connect(path);
    // Without a platform there is no mount, and so no file.
    await once(socket, 'connect').catch(() => {
      throw errno('ENOENT');
    });
    socket.unref();
    const session = new Session(socket);
    const version = await session.#call(T.version, (w) => w.uint32(MSIZE).string(PROTOCOL));
    version.uint32();
    if (version.string() !== PROTOCOL) throw errno('EPROTO');
    await session.#call(T.attach, (w) =>
      w.uint32(ROOT_FID).uint32(NO_FID).string('root').string('').uint32(0),
    );
    return session;
  }

  /** Walks to `path`, does `work` there, and closes. */
  async with<Result>(path: string, work: (call: Call, fid: number) => Promise<Result>): Promise<Result> {
    const names = path.split('/').filter((name) => name !== '');
    const fid = this.#nextFid++;
    const walked = await this.#call(T.walk, (w) => {
      w.uint32(ROOT_FID).uint32(fid).uint16(names.length);
      for (const name of names) w.string(name);
      return w;
    });
    if (walked.uint16() !== names.length) throw errno('ENOENT');
    try {
      return await work((type, write) => this.#call(type, write), fid);
    } finally {
      await this.#call(T.clunk, (w) => w.uint32(fid));
    }
  }

  async #call(type: number, write: (writer: FrameWriter) => FrameWriter): Promise<FrameReader> {
    if (this.#socket.destroyed) throw errno('EIO');
    const tag = this.#nextTag++ & 0xffff;
    const { promise, resolve, reject } = Promise.withResolvers<Frame>();
    this.#waiting.set(tag, { resolve, reject });
    this.#socket.ref();
    this.#socket.write(write(new FrameWriter()).frame(type, tag));
    const reply = await promise.finally(() => {
      if (this.#waiting.size === 0) this.#socket.unref();
    });
    const body = new FrameReader(reply.body);
    if (reply.type === R_ERROR) throw errno(body.uint32());
    if (reply.type !== type + 1) throw errno('EPROTO');
    return body;
  }
}

function split(path: string): { parent: string; name: string } {
  const at = path.lastIndexOf('/');
  return { parent: path.slice(0, at), name: path.slice(at + 1) };
}

/** As Node's own file functions throw it. */
function errno(which: number | string): Error {
  const name =
    typeof which === 'string'
      ? which
      : (Object.entries(constants.errno).find(([, value]) => value === which)?.[0] ?? `E${which}`);
  return Object.assign(new Error(name), { code: name });
}
