/**
 * A network namespace for QEMU alone, so that the operator's loopback is not behind the guest's 10.0.2.2: what an app may make of the
 * guest, or the guest of the emulator, finds an empty loopback there, and the few ports that the operator named.
 *
 * pasta (Debian's and Ubuntu's package passt) joins it to the machine's network, without a right that its caller has not: whom the guest
 * calls, pasta calls from outside; what is forwarded from 127.0.0.1 outside arrives at 127.0.0.1 inside. QEMU's own user network stays as
 * it is, one namespace further in, so that the guest sees no difference.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { DstackError } from '../../lib/protocol/errors.ts';

const run = promisify(execFile);

/** Asked inside; pasta hands what comes to its port 53 to the machine's own resolver, which may be on the loopback. */
const RESOLVER = '10.0.2.3';
const TUN = '/dev/net/tun';
const READY_WITHIN_MS = 10_000;
const AGAIN_AFTER_MS = 1_000;

export interface OwnNetworkOptions {
  /** Holds pasta's pid and the guest's resolv.conf. */
  readonly folder: string;
  /** Ports of 127.0.0.1 that lead to the same ports inside: the guest's. */
  readonly inward: readonly number[];
  /** TCP ports of this machine's loopback that may be reached from inside, at 127.0.0.1: an own chain node, a validator. */
  readonly outward: readonly number[];
  readonly log: (message: string) => void;
}

export interface OwnNetwork {
  close(): void;
}

/** A program with its arguments. */
export interface Command {
  readonly command: string;
  readonly args: readonly string[];
}

/** What keeps this machine from it, as far as that can be tried: a sentence that says what to do; undefined if nothing does. */
export function ownNetworkReason(path = process.env.PATH ?? '', tun = TUN): string | undefined {
  const isThere = path.split(delimiter).some((folder) => existsSync(join(folder, 'pasta')));
  if (!isThere) return 'pasta is missing: install the package passt';
  try {
    closeSync(openSync(tun, 'r+'));
  } catch (error) {
    return `${tun} does not open (${(error as NodeJS.ErrnoException).code}): load the module tun, and let this user open it`;
  }
  const [command, ...args] = newNamespaces();
  const { status, stderr } = spawnSync(command, [...args, 'true'], { encoding: 'utf8' });
  // In a chroot, or where user namespaces are kept for some programs.
  return status === 0 ? undefined : `new namespaces are refused here: ${(stderr ?? '').trim() || command}`;
}

/** The command that runs `program` in new namespaces: a network without any interface that is up. Its pid is the program's; it ends with this process. */
export function inOwnNetwork(program: Command): Command {
  const [command, ...args] = newNamespaces();
  return {
    command,
    args: [...args, 'setpriv', '--pdeathsig', 'KILL', '--', program.command, ...program.args],
  };
}

/** A command, to be followed by what is to run there. */
function newNamespaces(): [string, ...string[]] {
  return ['unshare', ...(isRoot() ? [] : ['--user', '--map-root-user']), '--net', '--mount', '--'];
}

/**
 * Joins the namespace of a process that `inOwnNetwork` started to the machine's network; until then it has none. If pasta ends before
 * `close`, it is started again: meanwhile the guest is without a network.
 * @throws DstackError VM_NETWORK with what pasta said
 */
export async function joinOwnNetwork(pid: number, options: OwnNetworkOptions): Promise<OwnNetwork> {
  await hasOwnNetwork(pid);
  await nameResolver(pid, options.folder);
  // By its descriptor: pasta gives up the rights by which root could open another process's.
  const namespace = openSync(`/proc/${pid}/ns/net`, 'r');
  let closed = false;
  let current = await startPasta(pid, namespace, options).catch((error: unknown) => {
    closeSync(namespace);
    throw error;
  });
  const keep = async () => {
    for (;;) {
      await once(current, 'exit');
      if (closed) return;
      options.log("pasta ended: the VM has no network until it is back; it's started again");
      await sleep(AGAIN_AFTER_MS);
      if (closed) return;
      current = spawnPasta(pid, namespace, options);
      // A pipe that nobody reads would hold it up some day.
      current.stderr?.resume();
    }
  };
  void keep()
    .catch((error: Error) => options.log(`the VM has no network any more: ${error.message}`))
    .finally(() => closeSync(namespace));
  return {
    close: () => {
      closed = true;
      current.kill('SIGKILL');
    },
  };
}

/** Waits until the program runs in namespaces that are not this process's. @throws VM_NETWORK for one that ended, or that stays where it was started */
async function hasOwnNetwork(pid: number): Promise<void> {
  const outside = readlinkSync('/proc/self/ns/net');
  for (const deadline = Date.now() + READY_WITHIN_MS; Date.now() < deadline; await sleep(5)) {
    try {
      const isThere = readlinkSync(`/proc/${pid}/ns/net`) !== outside;
      // Before it makes way for the program, what is mounted in there may be mounted outside too.
      if (isThere && !readlinkSync(`/proc/${pid}/exe`).endsWith('/unshare')) return;
    } catch {
      break;
    }
  }
  throw new DstackError(
    'VM_NETWORK',
    'QEMU got no network namespace of its own: unshare is refused here. Allow user namespaces, run as root, or set DSTACK_VM_NETWORK=shared',
  );
}

/** Puts a file that names pasta over the program's /etc/resolv.conf: QEMU reads that when the guest first asks for a name. @throws VM_NETWORK */
async function nameResolver(pid: number, folder: string): Promise<void> {
  const file = join(folder, 'resolv.conf');
  writeFileSync(file, `nameserver ${RESOLVER}\n`, { mode: 0o644 });
  const namespaces = [...(isRoot() ? [] : ['--user', '--preserve-credentials']), '--mount'];
  const mount = ['mount', '--bind', file, '/etc/resolv.conf'];
  await run('nsenter', ['--target', String(pid), ...namespaces, ...mount]).catch((error: Error) => {
    throw new DstackError('VM_NETWORK', `the VM gets no name server: ${error.message}`, { cause: error });
  });
}

/** Resolves once pasta has taken the forwarded ports: it writes its pid then. */
async function startPasta(pid: number, namespace: number, options: OwnNetworkOptions): Promise<ChildProcess> {
  const pidFile = pidFileIn(options.folder);
  await rm(pidFile, { force: true });
  const pasta = spawnPasta(pid, namespace, options);
  let said = '';
  pasta.stderr?.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString('utf8')).slice(-2048);
  });
  let ended = false;
  pasta.on('error', (error) => {
    said += error.message;
  });
  pasta.on('close', () => {
    ended = true;
  });
  for (const deadline = Date.now() + READY_WITHIN_MS; Date.now() < deadline; await sleep(10)) {
    if (ended) break;
    if (existsSync(pidFile) && readFileSync(pidFile, 'utf8') !== '') return pasta;
  }
  pasta.kill('SIGKILL');
  throw new DstackError('VM_NETWORK', `pasta did not start: ${said.trim() || 'it said nothing'}`);
}

function spawnPasta(pid: number, namespace: number, options: OwnNetworkOptions): ChildProcess {
  const list = (ports: readonly number[]) => (ports.length === 0 ? 'none' : ports.join(','));
  const target = isRoot() ? ['--runas', '0', '--netns-only', '--netns', '/proc/self/fd/3'] : [String(pid)];
  return spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', '--', 'pasta', '--foreground', '--quiet', '--config-net'],
      // Else the gateway's address inside would be the loopback outside.
      '--no-map-gw',
      ...['--tcp-ports', options.inward.length === 0 ? 'none' : `127.0.0.1/${list(options.inward)}`],
      ...['--tcp-ns', list(options.outward), '--udp-ports', 'none', '--udp-ns', 'none'],
      ...['--dns-forward', RESOLVER, '--pid', pidFileIn(options.folder)],
      ...target,
    ],
    { stdio: ['ignore', 'ignore', 'pipe', namespace] },
  );
}

function pidFileIn(folder: string): string {
  return join(folder, 'pasta.pid');
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}
