/** `kv start`: the store on a laptop, in the foreground. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { engineTools } from '../../guest/image/engine-tools.ts';
import { print } from '../../lib/daemon/terminal.ts';
import { type Command, UsageError } from '../command.ts';
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
    const child = spawn(process.execPath, [join(repository, 'guest/kv/dev/main.ts'), ...options], {
      stdio: 'inherit',
    });
    // Ctrl-C reaches both; what is sent to this process alone goes on to the store, which takes no harm of hearing it twice.
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(signal, () => child.kill(signal));
    const [code] = (await once(child, 'exit')) as [number | null];
    process.exitCode = code ?? 1;
  },
};

export const kvCommands: readonly Command[] = [start, ...kvLedgerCommands];
