/** A network of one VM on a local chain: what its owner and its host's operator would do one by one. */
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Chain } from '../../../contracts/local-chain.ts';
import { freePort } from '../../../lib/daemon/free-port.ts';
import { to0x } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { nodePaths } from '../../../lib/protocol/onboarding-messages.ts';
import { addressOf, newPrivateKey } from '../../../lib/protocol/secp256k1.ts';
import { run, type Service, type Settings, start } from './commands.ts';

/** A hundred ether, in wei. */
const MONEY = '0x56bc75e2d63100000';
/** Each look is a call of a node that may be emulated. */
const LOOK_MS = 2_000;
const DISK_MIB = '64';

export interface VmNetwork {
  readonly chainId: number;
  readonly contract: string;
  /** The owner's, for commands. */
  readonly owner: Settings;
  /** From which the VM takes manifests and archives. */
  readonly volume: string;
  readonly nodeUrl: string;
  readonly siteUrl: string;
  readonly consoleLog: string;
  /** Of the VM: resolves when it is gone. */
  readonly ended: Promise<DstackError>;
}

export interface VmOptions {
  /** Where all of it lies. */
  readonly state: string;
  /** Of the chain. */
  readonly url: string;
  /** A folder with image.json. */
  readonly image: string;
  readonly say: (line: string) => void;
  readonly stopped: AbortSignal;
  /** Is told of each process, as soon as it is one. */
  readonly started: (service: Service) => void;
}

/** @returns once the VM's node has joined. @throws DEV_VM_STEP */
export async function vmNetwork(options: VmOptions): Promise<VmNetwork> {
  const { state, url, image, say, stopped } = options;
  const volume = join(state, 'volume');
  mkdirSync(volume);
  const chainId = await new Chain(url).chainId();
  const ownerKey = await key(url, join(state, 'owner.key'));
  const base = { DSTACK_RPC_URL: url, DSTACK_OWNER_KEY_FILE: ownerKey, DSTACK_CHAIN_ID: String(chainId) };
  const deployed = await run(
    base,
    stopped,
    'network',
    'deploy',
    '--delay',
    '0',
    '--request-window',
    '900',
    '--yes',
  );
  const contract = deployed.contract as string;
  const owner = { ...base, DSTACK_CONTRACT: contract };
  const asOwner = (...words: string[]) => run(owner, stopped, ...words, '--yes');
  say(`network      ${contract}`);

  await allowConfig(owner, url, volume, stopped);
  await asOwner('network', 'allow', 'measurement', join(image, 'image.json'));

  const [tls, http, node] = [await freePort(), await freePort(), await freePort()];
  const nodeUrl = `http://127.0.0.1:${node}`;
  const vm = start(vmSettings(options, volume, { tls, http, node }), join(state, 'vm.log'), ...VM_RUN);
  options.started(vm);
  const { platform, consoleLog, accelerator } = await vm.line('VM runs');
  const patience = accelerator === 'kvm' ? '' : '; without KVM it takes minutes to boot and join';
  say(`VM           under ${accelerator}; console: ${consoleLog}${patience}`);
  await asOwner('network', 'allow', 'platform', platform as string);

  const relay = start(
    { ...(await relaySettings(options, owner, volume, nodeUrl)), DSTACK_VM_TLS_PORT: String(tls) },
    join(state, 'relay.log'),
    'relay',
    'run',
  );
  options.started(relay);
  const archive = join(state, 'relay', 'archive');
  const either = Promise.race([vm.ended, relay.ended]);
  const first = await until(stopped, either, async () =>
    existsSync(archive)
      ? readdirSync(archive).find((name) => name.startsWith('bootstrap-0x') && name.endsWith('.json'))
      : undefined,
  );
  await asOwner('network', 'bootstrap', join(archive, first), '--flavour', 'sim');
  await until(stopped, either, async () => {
    const said = await fetch(`${nodeUrl}${nodePaths.status}`, { signal: AbortSignal.timeout(60_000) });
    return ((await said.json()) as { state: string }).state === 'joined' || undefined;
  });
  return {
    ...{ chainId, contract, owner, volume, nodeUrl, consoleLog: consoleLog as string, ended: either },
    siteUrl: `https://127.0.0.1:${tls}`,
  };
}

const VM_RUN = ['vm', 'run', '--role', 'bootstrap', '--create-disk'] as const;

async function allowConfig(
  owner: Settings,
  url: string,
  volume: string,
  stopped: AbortSignal,
): Promise<void> {
  const file = join(volume, 'network.json');
  // The host's address in QEMU's network, as the guest sees it.
  const endpoint = url.replace('127.0.0.1', '10.0.2.2');
  const words = ['--endpoint', endpoint, '--depth', '1', '--minimum-nodes', '1', '--out', file];
  await run(owner, stopped, 'network', 'config', ...words);
  // The VM's daemons see the host's modes.
  chmodSync(file, 0o644);
  await run(owner, stopped, 'network', 'allow', 'config', file, '--yes');
}

function vmSettings(
  { state, image }: VmOptions,
  volume: string,
  ports: { tls: number; http: number; node: number },
): Settings {
  return {
    DSTACK_VM_IMAGE_DIR: image,
    DSTACK_VM_VOLUME_DIR: volume,
    DSTACK_VM_STATE_DIR: join(state, 'vm'),
    DSTACK_VM_PLATFORM_FILE: join(state, 'platform'),
    DSTACK_VM_TLS_PORT: String(ports.tls),
    DSTACK_VM_HTTP_PORT: String(ports.http),
    DSTACK_VM_NODE_PORT: String(ports.node),
    DSTACK_VM_DATA_DISK: join(state, 'data.img'),
    DSTACK_VM_DATA_DISK_MIB: DISK_MIB,
  };
}

async function relaySettings(
  { state, url }: VmOptions,
  owner: Settings,
  volume: string,
  nodeUrl: string,
): Promise<Settings> {
  return {
    ...owner,
    DSTACK_APP_FILES: 'none',
    DSTACK_CONFIRMATIONS: '1',
    DSTACK_POLL_MS: '500',
    DSTACK_GAS_KEY_FILE: await key(url, join(state, 'relay.key')),
    DSTACK_STATE_DIR: join(state, 'relay'),
    DSTACK_GOSSIP_LISTEN: '127.0.0.1:0',
    DSTACK_ADMIN_LISTEN: '127.0.0.1:0',
    DSTACK_GOSSIP_PEERS: '',
    DSTACK_VM_VOLUME_DIR: volume,
    DSTACK_NODE_URL: nodeUrl,
  };
}

/** A new key with money on the chain. @returns its file */
export async function key(url: string, file: string): Promise<string> {
  const secret = newPrivateKey();
  writeFileSync(file, to0x(secret), { mode: 0o600 });
  await new Chain(url).rpc('anvil_setBalance', addressOf(secret), MONEY);
  return file;
}

/** Looks until there is something; a look that fails has found nothing. @throws what `ended` resolves with, INTERRUPTED */
export async function until<T>(
  stopped: AbortSignal,
  ended: Promise<DstackError>,
  look: () => Promise<T | undefined>,
): Promise<T> {
  let gone: DstackError | undefined;
  ended.then((error) => {
    gone = error;
  });
  for (;;) {
    if (stopped.aborted) throw new DstackError('INTERRUPTED', 'stopped before the app ran');
    const found = await look().catch(() => undefined);
    if (found !== undefined) return found;
    if (gone !== undefined) throw gone;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
