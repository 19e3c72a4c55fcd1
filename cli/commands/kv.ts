/** `kv start`: the store on a laptop, in the foreground. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { engineTools } from '../../guest/image/engine-tools.ts';
import { print } from '../../lib/daemon/terminal.ts';
import { type Command, narration, narrationOptions, UsageError } from '../command.ts';
import { repository } from '../repository.ts';
import { kvLedgerCommands } from './kv-ledger.ts';

/** What is handed on as it was given. */
const passed = ['data', 'listen', 'cert-file', 'key-file', 'etcd'] as const;

const start: Command = {
  name: 'kv start',
  summary: 'runs the store on this machine, for development: etcd and what stands before it',
  options: {
    dev: { help: 'has to be given: the secret is made on the spot and lies on the disk' },
    data: {
      value: 'DIR',
      help: "where the store's data, its secret and its certificates are",
      default: join(repository, '.state/kv'),
    },
    listen: { value: 'HOST:PORT', help: 'for gRPC and JSON, with TLS', default: '127.0.0.1:2379' },
    'cert-file': { value: 'FILE', help: "the service's certificate instead of one that is made" },
    'key-file': { value: 'FILE', help: 'its key' },
    plain: { help: 'without TLS, on the loopback alone: whoever reaches the port is the owner' },
    etcd: { value: 'FILE', help: "the program of etcd instead of the locked package's" },
  },
  async run(args) {
    if (!args.flag('dev'))
      throw new UsageError('a store outside of a VM is for development: say so with --dev (docs/kv.md)');
    const options = passed.flatMap((name) => {
      const value = args.optional(name);
      return value === undefined ? [] : [`--${name}=${value}`];
    });
    if (args.flag('plain')) options.push('--plain');
    if (args.optional('etcd') === undefined)
      options.push(`--tools=${await engineTools(join(repository, '.cache'), print)}`);
    await runHere('main', options);
  },
};

const backup: Command = {
  name: 'kv backup',
  summary:
    'writes the store that runs on a folder of this machine into one file, encrypted to recipients of age',
  options: {
    data: { value: 'DIR', help: 'where the store is', default: join(repository, '.state/kv') },
    out: { value: 'FILE', help: 'where to write it: a new file', required: true },
    recipient: { value: 'RECIPIENT', help: 'age1…; may be given more than once', multiple: true },
    json: narrationOptions.json,
  },
  async run(args) {
    const recipients = args.list('recipient');
    if (recipients.length === 0)
      throw new UsageError('--recipient is missing: the key of age that will open it (age1…)');
    await runHere('backup', [
      `--data=${args.text('data')}`,
      `--out=${args.text('out')}`,
      ...recipients.map((recipient) => `--recipient=${recipient}`),
      ...(args.flag('json') ? ['--json'] : []),
    ]);
  },
};

const restore: Command = {
  name: 'kv restore',
  summary:
    'makes a store of a backup, in a new folder, once all of it was checked; its log continues the one of the backup under a name of its own',
  positionals: ['FILE'],
  options: {
    data: { value: 'DIR', help: 'where to make it: a new folder', required: true },
    identity: { value: 'FILE', help: 'the key of age that opens it (AGE-SECRET-KEY-1…)', required: true },
    secret: {
      value: 'FILE',
      help: 'the secret of the store that the backup is of, as it was in its folder',
      required: true,
    },
    json: narrationOptions.json,
  },
  async run(args) {
    const [file] = args.positionals as [string];
    const given = ['data', 'identity', 'secret'].map((name) => `--${name}=${args.text(name)}`);
    for (const path of [file, args.text('identity'), args.text('secret')]) {
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat === undefined || stat.isDirectory())
        throw new UsageError(`${path} is ${stat === undefined ? 'not there' : 'a folder, not a file'}`);
    }
    const tools = await engineTools(join(repository, '.cache'), narration(args));
    const json = args.flag('json') ? ['--json'] : [];
    await runHere('restore', [`--file=${file}`, ...given, `--tools=${tools}`, ...json]);
  },
};

/** A program of the store's on a laptop, in the foreground; its end is this one's. */
async function runHere(program: string, options: readonly string[]): Promise<void> {
  const path = join(repository, `guest/kv/dev/${program}.ts`);
  const child = spawn(process.execPath, [path, ...options], { stdio: 'inherit' });
  // Ctrl-C reaches both; what is sent to this process alone goes on to the store, which takes no harm of hearing it twice.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
  const [code] = (await once(child, 'exit')) as [number | null];
  process.exitCode = code ?? 1;
}

export const kvCommands: readonly Command[] = [start, backup, restore, ...kvLedgerCommands];
