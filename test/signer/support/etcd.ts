/** etcd of the locked Debian on the loopback, of one member or three, that can be frozen, killed and started again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toolCommand } from '../../../lib/daemon/tool-root.ts';
import { EtcdClient } from '../../../lib/etcd/client.ts';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import { pause, resume } from '../../support/faults.ts';
import { freePort } from '../../support/free-port.ts';
import type { Links } from './links.ts';

interface Member {
  readonly name: string;
  readonly client: string;
  /** What the others know it by, and where it listens for them: the same, or a link is between. */
  readonly peer: string;
  readonly peerListens: string;
  process?: ChildProcess;
}

export class TestEtcd {
  readonly folder = mkdtempSync(join(tmpdir(), 'dstack-signer-etcd-'));
  readonly members: readonly Member[];

  private constructor(members: readonly Member[]) {
    this.members = members;
  }

  /** @param links what is between the members */
  static async start(count = 1, links?: Links): Promise<TestEtcd> {
    const members: Member[] = [];
    for (let n = 0; n < count; n += 1) {
      const port = await freePort();
      const peerListens = `http://127.0.0.1:${port}`;
      members.push({
        name: `m${n}`,
        client: `http://127.0.0.1:${await freePort()}`,
        peer: links === undefined ? peerListens : `http://127.0.0.1:${await links.to(n, port)}`,
        peerListens,
      });
    }
    const etcd = new TestEtcd(members);
    for (const at of members.keys()) etcd.run(at);
    await Promise.all(members.map(({ client }) => answers(client)));
    return etcd;
  }

  get endpoints(): readonly string[] {
    return this.members.map(({ client }) => client);
  }

  run(at: number): void {
    const member = this.members[at]!;
    const options = {
      name: member.name,
      'data-dir': join(this.folder, member.name),
      'listen-client-urls': member.client,
      'advertise-client-urls': member.client,
      'listen-peer-urls': member.peerListens,
      'initial-advertise-peer-urls': member.peer,
      'initial-cluster': this.members.map(({ name, peer }) => `${name}=${peer}`).join(','),
      'heartbeat-interval': '50',
      'election-timeout': '500',
      'log-level': 'error',
    };
    const tool = toolCommand(
      'etcd',
      Object.entries(options).map(([name, value]) => `--${name}=${value}`),
    );
    const log = openSync(join(this.folder, `${member.name}.log`), 'a');
    member.process = spawn(tool.command, [...tool.args], {
      env: { ...process.env, ...tool.env },
      stdio: ['ignore', log, log],
    });
  }

  /** Resolves when it stands still. */
  freeze(at: number): Promise<void> {
    return pause(this.members[at]!.process!.pid!);
  }

  thaw(at: number): void {
    resume(this.members[at]!.process!.pid!);
  }

  async stop(): Promise<void> {
    for (const { process: child } of this.members) {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) continue;
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function answers(endpoint: string): Promise<void> {
  const client = new EtcdClient({ endpoints: [endpoint] });
  try {
    for (const until = Date.now() + 120_000; ; ) {
      try {
        await client.call(KV.method.range, { key: Buffer.from('?') });
        return;
      } catch (cause) {
        if (Date.now() > until) throw new Error(`waited in vain for ${endpoint} to start`, { cause });
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  } finally {
    client.close();
  }
}
