/** What a 9P server serves: folders and files whose bytes are made when they are asked for. */
import { constants } from 'node:os';

export type ErrnoName = keyof typeof constants.errno;

/** A refusal, as the kernel would answer the same system call. */
export class Errno extends Error {
  readonly code: ErrnoName;

  constructor(code: ErrnoName) {
    super(code);
    this.name = 'Errno';
    this.code = code;
  }

  get number(): number {
    return constants.errno[this.code];
  }
}

/** Thrown in place of an answer: there is none, ever, as from a host that went silent. */
export class Silence extends Error {}

export type TreeNode = Folder | File;

export interface Folder {
  readonly kind: 'folder';
  /** Permission bits. */
  readonly mode: number;
  names(): readonly string[];
  get(name: string): TreeNode | undefined;
  /** mkdir(2) of a name that is not there. @throws Errno */
  makeFolder(name: string): Folder;
  /** rmdir(2) of a name that is there. @throws Errno */
  removeFolder(name: string): void;
}

export interface File {
  readonly kind: 'file';
  /** Permission bits: what is not in them cannot be opened for. */
  readonly mode: number;
  /** As stat(2) shows it. 0 where it is only known once the file is read. */
  readonly size: number;
  open(): OpenFile;
}

/** One open(2) of a file. Its methods throw Errno. */
export interface OpenFile {
  read(offset: number, count: number): Uint8Array;
  /** How many bytes were taken. */
  write(offset: number, bytes: Uint8Array): number;
  /** The last close: what the kernel calls release. */
  close(): void;
}

/** A folder whose names never change. */
export function fixedFolder(children: Readonly<Record<string, TreeNode>>): Folder {
  return {
    kind: 'folder',
    mode: 0o755,
    names: () => Object.keys(children),
    get: (name) => (Object.hasOwn(children, name) ? children[name] : undefined),
    makeFolder: () => {
      throw new Errno('EPERM');
    },
    removeFolder: () => {
      throw new Errno('EPERM');
    },
  };
}

/** A file that can only be read. `content` is asked once for each open(2), when it is first read. */
export function readOnlyFile(mode: number, content: () => Uint8Array, size = 0): File {
  return {
    kind: 'file',
    mode,
    size,
    open() {
      let bytes: Uint8Array | undefined;
      return {
        read(offset, count) {
          bytes ??= content();
          return bytes.subarray(offset, offset + count);
        },
        write() {
          throw new Errno('EBADF');
        },
        close() {},
      };
    },
  };
}
