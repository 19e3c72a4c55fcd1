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

/** A TCP port that a daemon listens on. `outside`: from the host and the world, by the network card; `apps`: from containers. */
export interface ListeningPort {
  readonly port: number;
  readonly from: 'outside' | 'apps';
}

export interface Daemon {
  /** The folder below guest/; its unit is `dstack-<name>.service`, its user `dstack-<name>`. */
  readonly name: string;
  /** For the unit and the account; ASCII without a colon. */
  readonly does: string;
  /** Id of its own user and group, from 800 up; absent for a daemon that has to be root. */
  readonly id?: number;
  /** `boot`: with the system; `services`: once the replicator is up, so that it does not take the processors from it. */
  readonly starts: 'boot' | 'services';
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
      { path: sockets.replicatorForDisk, asker: 'disk' },
      { path: sockets.replicatorForAgent, asker: 'agent', gid: 812 },
      { path: sockets.replicatorForKubernethes, asker: 'kubernethes', gid: 813 },
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
    serves: [{ path: sockets.diskStatus, asker: 'everyone' }],
    keys: ['POST /v1/disk-key'],
    programs: [
      'usr/sbin/blockdev',
      'usr/sbin/dmsetup',
      'usr/sbin/e2fsck',
      'usr/sbin/losetup',
      'usr/sbin/mke2fs',
      'usr/sbin/resize2fs',
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
    listens: [{ port: guestPorts.agent, from: 'apps' }],
    keys: ['POST /v1/app-key', 'POST /v1/attest', 'GET /v1/info'],
  },
  {
    ...plain,
    name: 'tls',
    does: 'the website whose key outlives any machine',
    id: 802,
    starts: 'services',
    after: 'replicator',
    listens: [{ port: guestPorts.tls, from: 'outside' }],
    keys: ['GET /v1/tls-key', 'POST /v1/site-evidence'],
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
    ],
    keys: ['GET /v1/status'],
    programs: ['usr/bin/podman', 'usr/bin/conmon', 'usr/bin/crun', 'usr/lib/podman/netavark'],
    files: ['usr/share/containers/seccomp.json', 'usr/share/containers/containers.conf'],
    // dockerode loads these for a remote engine over SSH (ssh2), for BuildKit sessions (gRPC, protobuf) and for packing
    // a build context (tar-fs, dockerignore). This daemon speaks to a local socket and builds nothing.
    leftOut: ['ssh2', '@grpc/grpc-js', '@grpc/proto-loader', 'protobufjs', 'tar-fs', '@balena/dockerignore'],
    service: { StateDirectory: 'dstack/kubernethes', StateDirectoryMode: '0700' },
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
