/** etcdctl of the locked Debian, unmodified, as a process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { toolCommand } from '../../lib/daemon/tool-root.ts';

export interface Said {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface EtcdctlOptions {
  readonly input?: string;
  readonly user?: string;
  readonly program?: 'etcdctl' | 'etcdutl';
  /** By https. */
  readonly secure?: boolean;
  /** Seconds for a command and, half of it, for a connection; 120 when left out. */
  readonly patience?: number;
}

function start(
  address: string,
  args: readonly string[],
  { user, program = 'etcdctl', secure = false, patience = 120 }: EtcdctlOptions,
): ChildProcess {
  const flags = [
    `--endpoints=${secure ? 'https' : 'http'}://${address}`,
    `--command-timeout=${patience}s`,
    `--dial-timeout=${patience / 2}s`,
    ...(user === undefined ? [] : [`--user=${user}`]),
  ];
  const command = toolCommand(program, [...args, ...(program === 'etcdctl' ? flags : [])]);
  return spawn(command.command, command.args, { env: { ...process.env, ETCDCTL_API: '3' } });
}

/** Runs it to its end. */
export async function etcdctl(
  address: string,
  args: readonly string[],
  options: EtcdctlOptions = {},
): Promise<Said> {
  const child = start(address, args, options);
  const said = collect(child);
  child.stdin!.end(options.input ?? '');
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...said() };
}

/** Runs it until it has said what is waited for, then interrupts it. */
export async function etcdctlUntil(
  address: string,
  args: readonly string[],
  wanted: RegExp,
  meanwhile: () => Promise<unknown> = async () => {},
): Promise<Said> {
  const child = start(address, args, {});
  const said = collect(child);
  const closed = once(child, 'close');
  const deadline = Date.now() + 120_000;
  // It has to be there before what it waits for happens.
  await new Promise((resolve) => setTimeout(resolve, 500));
  await meanwhile();
  while (!wanted.test(said().out) && child.exitCode === null && Date.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 20));
  child.kill('SIGINT');
  const [code] = (await closed) as [number | null];
  return { code, ...said() };
}

function collect(child: ChildProcess): () => { out: string; err: string } {
  let [out, err] = ['', ''];
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  return () => ({ out, err });
}
