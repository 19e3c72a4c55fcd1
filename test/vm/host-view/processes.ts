/** The host's processes of a network, as the kernel shows them in /proc (proc(5)): their arguments and environment, and what they have open. */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';

export interface HostProcess {
  readonly pid: number;
  /** Arguments, by spaces: for people. */
  readonly title: string;
}

export interface Listener {
  readonly kind: 'tcp' | 'udp' | 'unix';
  readonly owner: HostProcess;
  /** `address:port`, or the socket's path. */
  readonly at: string;
}

/** All running descendants of this process. */
export function descendants(of: number = process.pid): HostProcess[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    const parent = parentOf(name);
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const found: HostProcess[] = [];
  const walk = (pid: number): void => {
    for (const child of children.get(pid) ?? []) {
      const title = argumentsOf(child);
      // A thread that is being spawned has none yet; a zombie has none any more.
      if (title !== '') found.push({ pid: child, title });
      walk(child);
    }
  };
  walk(of);
  return found;
}

export function isQemu({ title }: HostProcess): boolean {
  return title.includes('qemu-system-') && title.includes('-machine');
}

/** /proc/PID/cmdline and environ, verbatim. */
export function wordsOf({ pid }: HostProcess): { cmdline: Buffer; environ: Buffer } {
  return { cmdline: readFileSync(`/proc/${pid}/cmdline`), environ: readFileSync(`/proc/${pid}/environ`) };
}

/** Regular files that it has open, deleted and nameless ones by their path in /proc. */
export function openFiles({ pid }: HostProcess): string[] {
  return fileDescriptors(pid).flatMap(({ path, target }) => {
    const isFile = statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
    if (!isFile) return [];
    return [
      target.startsWith('/') && !target.endsWith(' (deleted)') && !target.startsWith('/memfd:')
        ? target
        : path,
    ];
  });
}

/** Sockets on which it waits for others. UDP sockets count unless they are connected to one peer. */
export function listeners(owner: HostProcess): Listener[] {
  const own = new Set(
    fileDescriptors(owner.pid).flatMap(({ target }) => /^socket:\[(\d+)\]$/.exec(target)?.[1] ?? []),
  );
  const table = (name: string) =>
    readFileSync(`/proc/${owner.pid}/net/${name}`, 'utf8')
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/));
  const inet = (kind: 'tcp' | 'udp', name: string, state: string) =>
    table(name)
      .filter((row) => row[3] === state && own.has(row[9]!))
      .map((row): Listener => ({ kind, owner, at: addressOf(row[1]!) }));
  return [
    ...inet('tcp', 'tcp', '0A'),
    ...inet('tcp', 'tcp6', '0A'),
    ...inet('udp', 'udp', '07'),
    ...inet('udp', 'udp6', '07'),
    ...table('unix')
      // __SO_ACCEPTCON
      .filter((row) => row[3] === '00010000' && own.has(row[6]!) && row[7] !== undefined)
      .map((row): Listener => ({ kind: 'unix', owner, at: row[7]! })),
  ];
}

function fileDescriptors(pid: number): { path: string; target: string }[] {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).flatMap((name) => {
    try {
      return [{ path: `${folder}/${name}`, target: readlinkSync(`${folder}/${name}`) }];
    } catch {
      // Closed in the meantime.
      return [];
    }
  });
}

/** @param hex as in /proc/net: the address in 32-bit words of this machine's byte order, then the port */
function addressOf(hex: string): string {
  const [words, port] = hex.split(':') as [string, string];
  const bytes = Buffer.from(words, 'hex').swap32();
  const address =
    bytes.length === 4 ? [...bytes].join('.') : `[${bytes.toString('hex').replace(/(.{4})(?=.)/g, '$1:')}]`;
  return `${address}:${Number.parseInt(port, 16)}`;
}

function parentOf(pid: string): number | undefined {
  try {
    // The second field is a name in parentheses, which may hold anything.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ');
    return Number(fields[1]);
  } catch {
    return undefined;
  }
}

function argumentsOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}
