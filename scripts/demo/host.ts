/** One host of the demo: a VM, its relay, and the folder that the VM may read. Each has settings of its own. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nodePaths } from '../../lib/protocol/onboarding-messages.ts';
import { type Daemon, jsonLines, repository, startDstack } from './processes.ts';
import { fetchPage, type Page } from './site.ts';
import { say, seconds, waitFor } from './steps.ts';

export const DISK_MIB = 256;
/** Generous, for a slow machine under emulation: anything that takes longer is a failure. */
const PATIENCE_SECONDS = 900;
/** The same, for what a process of the host does by itself. */
const HOST_PATIENCE_SECONDS = 300;
/** For an answer of a node, which may be the only one of two busy processors that are emulated. Milliseconds. */
const ANSWER_MS = 60_000;

export interface DemoNetwork {
  folder: string;
  rpcUrl: string;
  chainId: number;
  contract: string;
}

export const gossips = ['http', 'records'] as const;
export type Gossip = (typeof gossips)[number];

export interface HostOptions {
  name: string;
  network: DemoNetwork;
  gasKey: string;
  /** What its relay is told of others: their `peerAddress`, by the same carrier as its own. */
  peers: readonly string[];
  /** The one carrier by which its relay exchanges messages; `http` by default. */
  gossip?: Gossip;
  /** A shape other than the image's default has another measurement. */
  memoryMiB?: number;
  disk: boolean;
  /** Version of the simulated platform's quotes, when the VM is booted by `vm run`; 4 by default. */
  quoteVersion?: 4 | 5;
  /** What its relay does with files of apps: by default nothing, so that a step which takes one away finds it gone. */
  appFiles?: 'share' | 'serve' | 'none';
  /** The flavour of the image; `sim` by default. */
  flavour?: 'sim' | 'dev';
  /** Size of the data disk; formatting takes time in proportion. */
  diskMiB?: number;
  /** Where validators listen for its signer: DSTACK_VM_VALIDATORS. */
  validators?: string;
  /** A port of the host leads to the store: DSTACK_VM_STORE_PORT. */
  leadsToStore?: boolean;
  /** A command that starts `vm run` in its own place, such as `unshare`. */
  under?: readonly string[];
}

interface RelaySaid {
  /** Those of every carrier: `records://ADDRESS`, or a URL. */
  peers: { peer: string; reachable: boolean }[];
  recordsAddress?: string;
}

export class DemoHost {
  readonly name: string;
  readonly folder: string;
  readonly volume: string;
  readonly disk: string;
  gossipUrl = '';
  adminUrl = '';
  #recordsAddress = '';
  platform = '';
  readonly tlsPort = nextPort();
  readonly httpPort = nextPort();
  readonly storePort = nextPort();
  readonly #nodePort = nextPort();
  readonly #recordsPort = nextPort();
  #consoleLog = '';
  #poweredOnAt = 0;
  #vm: Daemon | undefined;
  #relay: Daemon | undefined;
  #relayPorts: [number, number] | undefined;
  #progress = () => '';
  readonly #options: HostOptions;

  constructor(options: HostOptions) {
    this.#options = options;
    this.name = options.name;
    this.folder = join(options.network.folder, options.name);
    this.volume = join(this.folder, 'volume');
    this.disk = join(this.folder, 'data.img');
    mkdirSync(this.volume, { recursive: true });
    writeFileSync(join(this.folder, 'gas.key'), options.gasKey, { mode: 0o600 });
  }

  get archive(): string {
    return join(this.folder, 'relay', 'archive');
  }

  /** Boots the VM. Resolves when QEMU is running. */
  async powerOn(role: 'bootstrap' | 'join', { createDisk = false } = {}): Promise<void> {
    const version = String(this.#options.quoteVersion ?? 4);
    const args = ['vm', 'run', '--role', role, '--quote-version', version];
    const { network, disk, under } = this.#options;
    if (createDisk && disk) args.push('--create-disk');
    this.#vm = startDstack(`vm-${this.name}`, network.folder, args, this.#vmEnvironment(), under);
    const line = await this.#vm.line('VM runs', HOST_PATIENCE_SECONDS);
    // The time at which QEMU was running: choosing the accelerator comes before power-on.
    this.#poweredOnAt = performance.now() - (Date.now() - Number(line.time));
    this.#consoleLog = line.consoleLog as string;
    this.platform = line.platform as string;
    say(`VM ${this.name} runs under ${line.accelerator}; console: ${this.#consoleLog}`);
  }

  async powerOff(): Promise<void> {
    await this.#vm?.stop();
  }

  async startRelay(): Promise<void> {
    this.#relay = startDstack(`relay-${this.name}`, this.#options.network.folder, ['relay', 'run'], {
      ...this.#relayEnvironment(),
      DSTACK_NODE_URL: this.nodeUrl,
    });
    const line = await this.#relay.line('relay runs', HOST_PATIENCE_SECONDS);
    this.gossipUrl = line.gossip as string;
    this.adminUrl = line.admin as string;
    if (this.#options.gossip === 'records') this.#recordsAddress = (await this.relayStatus()).recordsAddress!;
  }

  /** What the relay of another host is told, to exchange messages with this one's. */
  get peerAddress(): string {
    return this.#options.gossip === 'records' ? this.#recordsAddress : this.gossipUrl;
  }

  /** What the relay says to its operator. */
  async relayStatus(): Promise<RelaySaid> {
    const response = await fetch(`${this.adminUrl}/v1/status`, { signal: AbortSignal.timeout(ANSWER_MS) });
    return (await response.json()) as RelaySaid;
  }

  /**
   * VM and relay in one, as an operator with only a host.env starts them: `npx dstack node join`. Resolves when
   * QEMU runs; what the command says is in `progress()`.
   */
  async join({ createDisk = false } = {}): Promise<void> {
    const { network } = this.#options;
    this.#relayPorts ??= [nextPort(), nextPort()];
    const [gossip, admin] = this.#relayPorts.map((port) => `127.0.0.1:${port}`) as [string, string];
    this.gossipUrl = `http://${gossip}`;
    this.adminUrl = `http://${admin}`;
    const settings = {
      ...this.#relayEnvironment(),
      ...this.#vmEnvironment(),
      DSTACK_GOSSIP_LISTEN: gossip,
      DSTACK_ADMIN_LISTEN: admin,
    };
    const hostEnv = this.#writeHostEnv(settings);
    const args = ['node', 'join', '--network', network.contract, '--env-file', hostEnv];
    const name = `join-${this.name}`;
    const command = startDstack(
      name,
      network.folder,
      [...args, ...(createDisk ? ['--create-disk'] : [])],
      {},
    );
    this.#vm = command;
    this.#relay = command;
    const before = command.text().length;
    this.#progress = () => command.text().slice(before);
    const [, accelerator, consoleLog] = await waitFor(
      `${name} to start its VM`,
      async () => /The VM runs under (\w+); its console log is (.+)\.$/m.exec(this.progress()) ?? undefined,
      HOST_PATIENCE_SECONDS,
      () => this.progress().split('\n').at(-2) ?? '',
      () => this.alive(),
    );
    this.#poweredOnAt = performance.now();
    this.#consoleLog = consoleLog!;
    say(`VM ${this.name} runs under ${accelerator}; console: ${consoleLog}`);
  }

  /** What `node join` has said since it was last started. */
  progress(): string {
    return this.#progress();
  }

  /** How `node join` or `vm run` ended, once it has. */
  async ended(): Promise<number> {
    return waitFor(
      `the command of ${this.name} to end`,
      async () => this.#vm?.child.exitCode ?? undefined,
      HOST_PATIENCE_SECONDS,
    );
  }

  async stopRelay(): Promise<void> {
    await this.#relay?.stop();
  }

  get nodeUrl(): string {
    return `http://127.0.0.1:${this.#nodePort}`;
  }

  /** The settings by which an operator's commands find this host's relay and node. */
  operator(): Record<string, string> {
    return {
      ...this.#relayEnvironment(),
      DSTACK_NODE_URL: this.nodeUrl,
      DSTACK_ADMIN_LISTEN: new URL(this.adminUrl).host,
    };
  }

  /** The same as a file, for `--env-file`. @returns its path */
  operatorFile(): string {
    return this.#writeHostEnv(this.operator());
  }

  #writeHostEnv(settings: Readonly<Record<string, string>>): string {
    const hostEnv = join(this.folder, 'host.env');
    const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
    writeFileSync(hostEnv, lines.join(''));
    return hostEnv;
  }

  /** What the node port says of the node. */
  async status(): Promise<{ state: string; networkKey?: string }> {
    const response = await fetch(`${this.nodeUrl}${nodePaths.status}`, {
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    return (await response.json()) as { state: string; networkKey?: string };
  }

  get consoleLog(): string {
    return this.#consoleLog;
  }

  /** Seconds from power-on until the node had joined. */
  async joined(): Promise<number> {
    await waitFor(
      `node ${this.name} to join`,
      async () => {
        const status = await this.status();
        return status.state === 'joined' ? status : undefined;
      },
      PATIENCE_SECONDS,
      () => this.waitingFor(),
      () => this.alive(),
    );
    const taken = seconds(this.#poweredOnAt);
    say(`node ${this.name} joined ${taken} s after power-on`);
    return taken;
  }

  /** The page, once it shows this version, and the seconds from power-on. */
  async page(version: string): Promise<{ page: Page; taken: number }> {
    const page = await waitFor(
      `version ${version} on https://127.0.0.1:${this.tlsPort}/`,
      async () => {
        // A connection that was made while the guest was starting may never be answered; a new one is.
        const found = await fetchPage(this.tlsPort, 20_000);
        return found?.version === version ? found : undefined;
      },
      PATIENCE_SECONDS,
      () => '',
      () => this.alive(),
    );
    const taken = seconds(this.#poweredOnAt);
    say(`page of ${this.name} shows version ${version} ${taken} s after power-on`);
    return { page, taken };
  }

  /** What the VM's serial console printed so far. */
  console(): string {
    return readFileSync(this.#consoleLog, 'utf8');
  }

  /** Seconds that opening (or formatting) the data disk took, by the VM's own log. */
  diskSeconds(): number {
    const line = jsonLines(this.console()).find(({ name, state }) => name === 'disk' && state === 'ready');
    return typeof line?.seconds === 'number' ? line.seconds : Number.NaN;
  }

  /** False once the VM has ended by itself, so that nobody waits for it any longer. */
  alive(): boolean {
    return this.#vm?.child.exitCode === null;
  }

  waitingFor(): string {
    const said = this.progress().trim().split('\n').at(-1);
    if (said) return `(${said})`;
    const last = jsonLines(this.#relay?.text() ?? '').at(-1);
    return last === undefined ? '' : `(relay: ${String(last.msg)})`;
  }

  #relayEnvironment(): Record<string, string> {
    const { network, peers, gossip = 'http', appFiles = 'none' } = this.#options;
    return {
      DSTACK_APP_FILES: appFiles,
      DSTACK_RPC_URL: network.rpcUrl,
      DSTACK_CHAIN_ID: String(network.chainId),
      DSTACK_CONTRACT: network.contract,
      DSTACK_CONFIRMATIONS: '1',
      DSTACK_POLL_MS: '500',
      DSTACK_GAS_KEY_FILE: join(this.folder, 'gas.key'),
      DSTACK_STATE_DIR: join(this.folder, 'relay'),
      DSTACK_GOSSIP_LISTEN: '127.0.0.1:0',
      DSTACK_ADMIN_LISTEN: '127.0.0.1:0',
      ...(gossip === 'http'
        ? { DSTACK_GOSSIP_PEERS: peers.join(',') }
        : {
            DSTACK_RECORDS_LISTEN: `127.0.0.1:${this.#recordsPort}`,
            DSTACK_RECORDS_PEERS: peers.join(','),
          }),
      DSTACK_SITE_URL: `https://127.0.0.1:${this.tlsPort}`,
      // The relay gives its network.json to whoever wants to join.
      DSTACK_VM_VOLUME_DIR: this.volume,
    };
  }

  #vmEnvironment(): Record<string, string> {
    const { network, memoryMiB, disk, diskMiB = DISK_MIB, flavour = 'sim' } = this.#options;
    const { validators, leadsToStore = false } = this.#options;
    return {
      DSTACK_VM_IMAGE_DIR: join(repository, `build/image-${flavour}`),
      DSTACK_VM_VOLUME_DIR: this.volume,
      DSTACK_VM_STATE_DIR: join(this.folder, 'vm'),
      DSTACK_VM_PLATFORM_FILE: join(network.folder, 'platform'),
      DSTACK_VM_TLS_PORT: String(this.tlsPort),
      DSTACK_VM_HTTP_PORT: String(this.httpPort),
      DSTACK_VM_NODE_PORT: String(this.#nodePort),
      ...(memoryMiB === undefined ? {} : { DSTACK_VM_CPUS: '2', DSTACK_VM_MEMORY_MIB: String(memoryMiB) }),
      ...(validators === undefined ? {} : { DSTACK_VM_VALIDATORS: validators }),
      ...(leadsToStore ? { DSTACK_VM_STORE_PORT: String(this.storePort) } : {}),
      ...(disk ? { DSTACK_VM_DATA_DISK: this.disk, DSTACK_VM_DATA_DISK_MIB: String(diskMiB) } : {}),
    };
  }
}

let port = 18_440 + (process.pid % 500) * 8;
/** Ports that stay the same over a reboot, so that URLs do; far from the ephemeral range. */
function nextPort(): number {
  port += 1;
  return port;
}
