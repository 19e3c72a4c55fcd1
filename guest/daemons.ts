/**
 * The guest's daemons, each declared once. What the image needs to run them follows from this table: accounts, groups,
 * units and what starts them (image/daemon-files.ts), the programs that they call (image/guest-contents.ts), what their
 * bundles leave out (image/daemons.ts), and which keys each may ask for (replicator/siblings.ts). The packet filter is
 * checked against it. docs/daemons.md says how to add one.
 */
import { guestPorts } from '../lib/protocol/ports.ts';
import { sockets } from '../lib/protocol/sockets.ts';

/** A unix socket that a daemon serves. Its group is its own: only who serves it and who asks there are in it. */
export interface ServedSocket {
  /** Below /run/dstack. */
  readonly path: string;
  /** The one daemon that may connect; `everyone` for what is no secret. */
  readonly asker: string;
  /** Id of the socket's group, from 810 up; absent where everyone or a daemon of root's asks. */
  readonly gid?: number;
}

/**
 * A TCP port that a daemon listens on. `outside`: from the host and the world, by the network card; `apps`: from containers; `inside`:
 * on the loopback alone.
 */
export interface ListeningPort {
  readonly port: number;
  readonly from: 'outside' | 'apps' | 'inside';
}

export interface Daemon {
  /** The folder below guest/; its unit is `dstack-<name>.service`, its user `dstack-<name>`. */
  readonly name: string;
  /** For the unit and the account; ASCII without a colon. */
  readonly does: string;
  /** Id of its own user and group, from 800 up; absent for a daemon that has to be root. */
  readonly id?: number;
  /** A program of Debian's and its arguments, for a daemon that is not ours: it has no bundle. */
  readonly runs?: string;
  /**
   * `boot`: with the system; `services`: once the replicator is up, so that it does not take the processors from it; `when`:
   * once that path is there, after `services`.
   */
  readonly starts: 'boot' | 'services' | { readonly when: string };
  readonly after?: string;
  readonly serves: readonly ServedSocket[];
  readonly listens: readonly ListeningPort[];
  /** What it may ask of the replicator, once the node has joined; all else is closed to it. */
  readonly keys: readonly string[];
  /** Programs of Debian that it runs, by path; their libraries follow. */
  readonly programs: readonly string[];
  /** Other files of Debian that these programs need. */
  readonly files: readonly string[];
  /** npm packages that its bundle does without, because it never calls them: calling one throws LEFT_OUT. */
  readonly leftOut: readonly string[];
  /** `private` for a daemon of root's that may have mounts of its own; `shared` for the one that mounts for everyone. */
  readonly rootMounts?: 'private' | 'shared';
  /** Settings of its unit beyond, or instead of, the common ones. */
  readonly unit?: Readonly<Record<string, string>>;
  readonly service?: Readonly<Record<string, string>>;
}

/** A daemon's default for what most have none of. */
const plain = { listens: [], serves: [], keys: [], programs: [], files: [], leftOut: [] } as const;

export const daemons: readonly Daemon[] = [
  {
    ...plain,
    name: 'attestor',
    does: 'measures the configuration and takes quotes',
    starts: 'boot',
    serves: [{ path: sockets.attestor, asker: 'replicator', gid: 810 }],
    rootMounts: 'private',
    unit: {
      Before: 'network-pre.target shutdown.target',
      StartLimitIntervalSec: '120',
      StartLimitBurst: '3',
      FailureAction: 'poweroff-force',
      SuccessAction: 'poweroff-force',
    },
    service: {
      // Nobody but the one who asks gets even to the socket.
      Group: 'dstack-attestor-replicator',
      RuntimeDirectoryMode: '0750',
      RestartSec: '1',
      DevicePolicy: 'closed',
      PrivateNetwork: 'yes',
      RestrictAddressFamilies: 'AF_UNIX AF_NETLINK',
      // The hardware's files are in /sys, or here; by their modes only root may write to a register or take a quote.
      ReadWritePaths: '/run/dstack -/run/dstack-hardware',
    },
  },
  {
    ...plain,
    name: 'replicator',
    does: 'holds the secret of the network',
    id: 800,
    starts: 'boot',
    after: 'attestor',
    serves: [
      { path: sockets.replicatorForTls, asker: 'tls', gid: 811 },
      { path: sockets.replicatorForAcme, asker: 'acme', gid: 818 },
      { path: sockets.replicatorForDisk, asker: 'disk' },
      { path: sockets.replicatorForAgent, asker: 'agent', gid: 812 },
      { path: sockets.replicatorForKubernethes, asker: 'kubernethes', gid: 813 },
      { path: sockets.replicatorForKv, asker: 'kv', gid: 823 },
      { path: sockets.replicatorForSigner, asker: 'signer', gid: 826 },
    ],
    listens: [{ port: guestPorts.replicator, from: 'outside' }],
    unit: {
      Wants: 'dstack-attestor.service',
      // Its death ends the VM: a new machine starts with zero registers and registers anew.
      FailureAction: 'poweroff-force',
      SuccessAction: 'poweroff-force',
    },
    service: {
      UMask: '0077',
      Restart: 'no',
      OOMScoreAdjust: '-900',
      // The secret is in this process's memory: nothing may read it, and nothing of it may reach a disk.
      MemorySwapMax: '0',
      PrivateIPC: 'yes',
      InaccessiblePaths: '-/mnt/host_volume',
    },
  },
  {
    ...plain,
    name: 'disk',
    does: 'opens the encrypted data disk',
    starts: 'services',
    after: 'replicator',
    serves: [
      { path: sockets.diskStatus, asker: 'everyone' },
      { path: sockets.diskFolders, asker: 'kubernethes', gid: 820 },
    ],
    keys: ['POST /v1/disk-key'],
    programs: [
      'usr/bin/chattr',
      'usr/sbin/blockdev',
      'usr/sbin/dmsetup',
      'usr/sbin/e2fsck',
      'usr/sbin/losetup',
      'usr/sbin/mke2fs',
      'usr/sbin/resize2fs',
      'usr/sbin/setquota',
    ],
    files: ['usr/sbin/mkfs.ext4', 'etc/mke2fs.conf'],
    // It mounts /mnt/encrypted_data for everyone, so it lives in the system's own mount namespace.
    rootMounts: 'shared',
    service: {
      ExecStartPre: '/usr/sbin/modprobe loop',
      RuntimeDirectoryMode: '0755',
      // No restart: what is wrong with a disk is for a person to see, in the log. The VM stays up.
      Restart: 'no',
      CapabilityBoundingSet:
        'CAP_SYS_ADMIN CAP_SYS_RAWIO CAP_IPC_LOCK CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_SYS_MODULE CAP_MKNOD CAP_IPC_OWNER CAP_SYS_NICE CAP_SYS_RESOURCE',
      RestrictAddressFamilies: 'AF_UNIX AF_NETLINK AF_ALG',
      MemorySwapMax: '0',
    },
  },
  {
    ...plain,
    name: 'agent',
    does: 'the agent API for apps',
    id: 801,
    starts: 'services',
    after: 'replicator',
    serves: [{ path: sockets.agentForKubernethes, asker: 'kubernethes', gid: 822 }],
    listens: [{ port: guestPorts.agent, from: 'apps' }],
    keys: [
      'POST /v1/app-key',
      'POST /v1/app-signature',
      'POST /v1/app-quote',
      'POST /v1/raw-quote',
      'POST /v1/app-certificate',
      'POST /v1/app-authority',
      'POST /v1/attest',
      'GET /v1/chain-head',
      'POST /v1/chain-call',
      'GET /v1/info',
      'GET /v1/machine',
      'GET /v1/status',
    ],
    service: {
      // Containers have folders of it mounted: they have to be the same after it was started again.
      RuntimeDirectoryPreserve: 'yes',
    },
  },
  {
    ...plain,
    name: 'tls',
    does: 'the website whose key outlives any machine',
    id: 802,
    starts: 'services',
    after: 'replicator',
    serves: [{ path: sockets.tlsForFront, asker: 'front', gid: 816 }],
    keys: ['GET /v1/tls-key', 'POST /v1/site-evidence'],
  },
  {
    ...plain,
    name: 'front',
    does: 'HAProxy, which ends TLS and passes requests on to apps',
    id: 804,
    runs: '/usr/sbin/haproxy -db -f /etc/dstack/front/haproxy.cfg',
    // The certificate that it starts with, written by tls.
    starts: { when: '/run/dstack/tls/placeholder.pem' },
    serves: [{ path: sockets.front, asker: 'tls', gid: 817 }],
    listens: [
      { port: guestPorts.tls, from: 'outside' },
      { port: guestPorts.proxied, from: 'outside' },
      { port: guestPorts.http, from: 'outside' },
      { port: guestPorts.storeClients, from: 'outside' },
    ],
    programs: ['usr/sbin/haproxy'],
    service: {
      // It reads what the whole world writes: all it has is its sockets, the apps' bridges (etc/dstack/firewall.nft) and memory.
      RestrictAddressFamilies: 'AF_UNIX AF_INET',
      InaccessiblePaths: '-/mnt/host_volume -/mnt/encrypted_data -/etc/shadow',
      // One a connection (three behind the sorter), eight to apps beside it, one a request under way, and some.
      LimitNOFILE: '65536',
      // The site's key is in this process's memory.
      MemorySwapMax: '0',
    },
  },
  {
    ...plain,
    name: 'acme',
    does: 'orders and renews the certificate of the website',
    id: 805,
    // After all that the website needs without it: it takes most of a second of a processor.
    starts: { when: '/run/dstack/tls/placeholder.pem' },
    serves: [{ path: sockets.acmeForTls, asker: 'tls', gid: 819 }],
    keys: ['GET /v1/acme-account-key', 'GET /v1/site-request', 'POST /v1/site-caa', 'GET /v1/status'],
    // acme-client's older half, and the ways of its HTTP client that ours takes the place of (acme/transport.ts).
    leftOut: ['node-forge', 'follow-redirects', 'form-data', 'proxy-from-env'],
    service: {
      StateDirectory: 'dstack/acme',
      // Where network.json names no website it has nothing to do, and must not be started again for it.
      RemainAfterExit: 'yes',
      // What it remembers outlives the machine on the data disk, in a folder of its own.
      ReadWritePaths: '-/mnt/encrypted_data',
      StateDirectoryMode: '0700',
      // The account's key is in this process's memory.
      MemorySwapMax: '0',
      InaccessiblePaths: '-/mnt/host_volume',
    },
  },
  {
    ...plain,
    name: 'kubernethes',
    does: 'runs the containers that the contract names',
    id: 803,
    starts: 'services',
    after: 'replicator',
    serves: [
      { path: sockets.kubernethesForAgent, asker: 'agent', gid: 814 },
      { path: sockets.kubernethesForTls, asker: 'tls', gid: 815 },
      { path: sockets.kubernethesForReplicator, asker: 'replicator', gid: 821 },
      { path: sockets.kubernethesForKv, asker: 'kv', gid: 824 },
      { path: sockets.kubernethesForSigner, asker: 'signer', gid: 827 },
    ],
    listens: [{ port: guestPorts.images, from: 'inside' }],
    keys: ['GET /v1/status', 'POST /v1/open-secret'],
    programs: ['usr/bin/podman', 'usr/bin/conmon', 'usr/bin/crun', 'usr/lib/podman/netavark'],
    files: ['usr/share/containers/seccomp.json', 'usr/share/containers/containers.conf'],
    // dockerode loads these for a remote engine over SSH (ssh2), for BuildKit sessions (gRPC, protobuf) and for packing
    // a build context (tar-fs, dockerignore). This daemon speaks to a local socket and builds nothing.
    leftOut: ['ssh2', '@grpc/grpc-js', '@grpc/proto-loader', 'protobufjs', 'tar-fs', '@balena/dockerignore'],
    service: {
      StateDirectory: 'dstack/kubernethes',
      // Secrets of apps pass through this process's memory.
      MemorySwapMax: '0',
      StateDirectoryMode: '0700',
      // Of the data disk it knows paths only: the disk daemon makes the folders, podman mounts them.
      InaccessiblePaths: '-/mnt/encrypted_data',
      // A read that the host does not answer holds a thread: one app's must not hold up the others'.
      Environment: 'NODE_ENV=production HOME=/ UV_THREADPOOL_SIZE=64',
    },
  },
  {
    ...plain,
    name: 'kv',
    does: "the store for apps, with etcd's API, and its ledger",
    id: 806,
    // The replicator says so where network.json has a store.
    starts: { when: '/run/dstack/replicator/store' },
    serves: [
      { path: sockets.kvForSigner, asker: 'signer', gid: 828 },
      { path: sockets.kvForFront, asker: 'front', gid: 830 },
    ],
    listens: [{ port: guestPorts.store, from: 'apps' }],
    keys: [
      'POST /v1/ledger-keys',
      'POST /v1/ledger-evidence',
      'POST /v1/store-certificate',
      'GET /v1/status',
    ],
    service: {
      // Of etcd's configuration, for etcd to read.
      RuntimeDirectory: 'dstack/kv',
      RuntimeDirectoryMode: '0711',
      // On a node without a data disk it ends, and must not be started again for it.
      RemainAfterExit: 'yes',
      // The ledger is on the data disk, in a folder of its own.
      ReadWritePaths: '-/mnt/encrypted_data',
      InaccessiblePaths: '-/mnt/host_volume',
      // The keys of the ledger, and what apps keep, are in this process's memory.
      MemorySwapMax: '0',
      LimitNOFILE: '16384',
    },
  },
  {
    ...plain,
    name: 'etcd',
    does: "the store's engine",
    id: 807,
    runs: '/usr/bin/etcd --config-file=/run/dstack/kv/etcd.json',
    // kv writes it once the data disk is there.
    starts: { when: '/run/dstack/kv/etcd.json' },
    serves: [{ path: sockets.etcd, asker: 'kv', gid: 825 }],
    listens: [{ port: guestPorts.storePeers, from: 'inside' }],
    programs: ['usr/bin/etcd'],
    service: {
      // Its socket is made with this process's group: kv is in it, and nobody else.
      Group: 'dstack-etcd-kv',
      UMask: '0007',
      ReadWritePaths: '-/mnt/encrypted_data',
      InaccessiblePaths: '-/mnt/host_volume -/etc/shadow',
      MemorySwapMax: '0',
      // What it is asked to read is bounded (kv/namespace/reads.ts); whatever else it is that takes more, the machine goes on.
      MemoryMax: '1G',
      // Without a terminal and a home, nothing of Go's looks for one. Before there is too much, Go looks harder for what is not used.
      Environment: 'HOME=/ GOMEMLIMIT=768MiB',
    },
  },
  {
    ...plain,
    name: 'signer',
    does: "a validator's remote signer",
    id: 808,
    // kubernethes says so where a manifest in force has a signer.
    starts: { when: '/run/dstack/kubernethes/signer' },
    serves: [{ path: sockets.signerForReplicator, asker: 'replicator', gid: 829 }],
    keys: ['POST /v1/signer-keys'],
    service: {
      // It dials where the host says, and by the card only (etc/dstack/firewall.nft).
      RestrictAddressFamilies: 'AF_UNIX AF_INET',
      InaccessiblePaths: '-/mnt/host_volume -/mnt/encrypted_data',
      // The validators' keys are in this process's memory.
      MemorySwapMax: '0',
      LimitNOFILE: '1024',
    },
  },
];

/** The group of a served socket, which only its server and its asker are in; undefined where there is none. */
export function groupOfSocket(path: string, table: readonly Daemon[] = daemons): string | undefined {
  for (const daemon of table) {
    const socket = daemon.serves.find((served) => served.path === path);
    if (socket?.gid !== undefined) return `dstack-${daemon.name}-${socket.asker}`;
  }
  return undefined;
}

/** The groups that a daemon is in besides its own: of the sockets that it serves, and of those where it asks. */
export function groupsOf(name: string, table: readonly Daemon[] = daemons): string[] {
  const paths = table.flatMap((daemon) =>
    daemon.serves
      .filter(({ gid, asker }) => gid !== undefined && (daemon.name === name || asker === name))
      .map(({ path }) => path),
  );
  return paths.map((path) => groupOfSocket(path, table)!);
}
