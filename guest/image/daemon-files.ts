/**
 * The files of the root that follow from the table of daemons: accounts, groups, units, and what starts them. All else of the
 * root is in rootfs/.
 */
import { type Daemon, groupOfSocket, groupsOf } from '../daemons.ts';

/** An account or group of the image's own: name, id, and for accounts what it is. */
interface Account {
  readonly name: string;
  readonly id: number;
  readonly does: string;
}

const NOBODY: Account = { name: 'nobody', id: 65534, does: 'nobody' };
const SYSTEM_USERS: readonly Account[] = [
  { name: 'systemd-network', id: 791, does: 'systemd network management' },
  { name: 'systemd-resolve', id: 792, does: 'systemd resolver' },
];
/** Groups without a user: systemd and the kernel's device nodes ask for them by name. */
const SYSTEM_GROUPS: readonly (readonly [name: string, id: number])[] = [
  ['root', 0],
  ['systemd-journal', 790],
  ['nogroup', 65534],
  ['tty', 5],
  ['disk', 6],
  ['kmem', 15],
];

const UNITS = 'usr/lib/systemd/system';

/** Text by path below the root. guest-root.ts sets the modes. */
export function daemonFiles(daemons: readonly Daemon[]): Map<string, string> {
  const users = [...SYSTEM_USERS, ...daemons.filter(isUnprivileged).map(accountOf), NOBODY];
  return new Map([
    ['etc/passwd', passwd(users)],
    ['etc/shadow', shadow(users)],
    ['etc/group', group(daemons)],
    ...daemons.map((daemon) => [`${UNITS}/${unitName(daemon)}`, unitFile(daemon, daemons)] as const),
    ...daemons.filter(waits).map((daemon) => [`${UNITS}/${pathName(daemon)}`, pathFile(daemon)] as const),
    [`${UNITS}/dstack-services.target`, servicesTarget(daemons)],
  ]);
}

/** `dstack-agent.service` */
export const unitName = (daemon: Pick<Daemon, 'name'>): string => `dstack-${daemon.name}.service`;

/** A daemon that starts once a path is there: `dstack-front.path` looks for it. */
type Waiting = Daemon & { readonly starts: { readonly when: string } };
const waits = (daemon: Daemon): daemon is Waiting => typeof daemon.starts === 'object';
const pathName = (daemon: Pick<Daemon, 'name'>): string => `dstack-${daemon.name}.path`;

type Unprivileged = Daemon & { readonly id: number };
const isUnprivileged = (daemon: Daemon): daemon is Unprivileged => daemon.id !== undefined;
const accountOf = ({ name, id, does }: Unprivileged): Account => ({ name: `dstack-${name}`, id, does });

function passwd(users: readonly Account[]): string {
  const lines = users.map(({ name, id, does }) => `${name}:x:${id}:${id}:${does}:/:/usr/sbin/nologin`);
  return text(['root:x:0:0:root:/root:/usr/sbin/nologin', ...lines]);
}

/** No account has a password that could match. */
function shadow(users: readonly Account[]): string {
  return text(['root', ...users.map(({ name }) => name)].map((name) => `${name}:!*:1::::::`));
}

function group(daemons: readonly Daemon[]): string {
  const own = daemons.filter(isUnprivileged).map(({ name, id }) => [`dstack-${name}`, id] as const);
  const ofSockets = daemons
    .flatMap(({ serves }) => serves)
    .flatMap(({ path, gid }) => (gid === undefined ? [] : [[groupOfSocket(path, daemons)!, gid] as const]));
  const ofUsers = SYSTEM_USERS.map(({ name, id }) => [name, id] as const);
  return text([...SYSTEM_GROUPS, ...ofUsers, ...own, ...ofSockets].map(([name, id]) => `${name}:x:${id}:`));
}

function servicesTarget(daemons: readonly Daemon[]): string {
  const wanted = [
    ...daemons.filter(({ starts }) => starts === 'services').map(unitName),
    ...daemons.filter(waits).map(pathName),
  ];
  return text([
    '[Unit]',
    'Description=What waits for the secret',
    'DefaultDependencies=no',
    `Wants=${[...wanted, 'podman.socket'].join(' ')}`,
  ]);
}

function pathFile(daemon: Waiting): string {
  return text([
    '[Unit]',
    `Description=${daemon.name} waits for what it starts with`,
    'DefaultDependencies=no',
    'Conflicts=shutdown.target',
    'Before=shutdown.target',
    '',
    '[Path]',
    `PathExists=${daemon.starts.when}`,
    `Unit=${unitName(daemon)}`,
  ]);
}

type Settings = Readonly<Record<string, string>>;

function unitFile(daemon: Daemon, daemons: readonly Daemon[]): string {
  const unit: Settings = {
    Description: `${daemon.name}: ${daemon.does}`,
    DefaultDependencies: 'no',
    ...(daemon.after === undefined ? {} : { After: unitName({ name: daemon.after }) }),
    Before: 'shutdown.target',
    Conflicts: 'shutdown.target',
    // It is restarted for as long as the machine runs.
    ...(isUnprivileged(daemon) && { StartLimitIntervalSec: '0' }),
    ...daemon.unit,
  };
  const service: Settings = {
    Type: 'exec',
    ...(daemon.runs === undefined
      ? {
          ExecStart: `/usr/bin/node /usr/lib/dstack/${daemon.name}.mjs`,
          Environment: 'NODE_ENV=production HOME=/',
        }
      : { ExecStart: daemon.runs }),
    ...accountSettings(daemon, daemons),
    ...(daemon.serves.length > 0 && {
      RuntimeDirectory: `dstack/${daemon.name}`,
      RuntimeDirectoryMode: '0711',
    }),
    ...capabilities(daemon),
    Restart: 'on-failure',
    RestartSec: '2',
    StandardOutput: 'file:/dev/console',
    StandardError: 'inherit',
    ...CONFINED,
    ...(daemon.rootMounts === 'shared' ? {} : ENCLOSED),
    ...(isUnprivileged(daemon) && UNPRIVILEGED),
    ...daemon.service,
  };
  return text(['[Unit]', ...settings(unit), '', '[Service]', ...settings(service)]);
}

function accountSettings(daemon: Daemon, daemons: readonly Daemon[]): Settings {
  if (!isUnprivileged(daemon)) return { User: 'root', UMask: '0022' };
  const groups = groupsOf(daemon.name, daemons);
  return {
    User: `dstack-${daemon.name}`,
    Group: `dstack-${daemon.name}`,
    ...(groups.length > 0 && { SupplementaryGroups: groups.join(' ') }),
    UMask: '0027',
  };
}

/** None, except to listen on a port below 1024. */
function capabilities({ listens }: Daemon): Settings {
  const needed = listens.some(({ port }) => port < 1024) ? 'CAP_NET_BIND_SERVICE' : '';
  return { ...(needed !== '' && { AmbientCapabilities: needed }), CapabilityBoundingSet: needed };
}

/** For every daemon. */
const CONFINED: Settings = {
  LimitCORE: '0',
  NoNewPrivileges: 'yes',
  LockPersonality: 'yes',
  RestrictRealtime: 'yes',
  SystemCallArchitectures: 'native',
};

/** For every daemon except the one that maps disks and mounts for the others: most of these create a mount namespace. */
const ENCLOSED: Settings = {
  DeviceAllow: '/dev/console rw',
  PrivateTmp: 'yes',
  ProtectSystem: 'strict',
  ProtectHome: 'yes',
  ProtectClock: 'yes',
  ProtectControlGroups: 'yes',
  ProtectKernelLogs: 'yes',
  ProtectKernelModules: 'yes',
  ProtectHostname: 'yes',
  RestrictNamespaces: 'yes',
  RestrictSUIDSGID: 'yes',
};

/** For those that are not root. */
const UNPRIVILEGED: Settings = {
  PrivateDevices: 'yes',
  ProtectKernelTunables: 'yes',
  ProtectProc: 'invisible',
  RestrictAddressFamilies: 'AF_UNIX AF_INET AF_INET6 AF_NETLINK',
  SystemCallFilter: '@system-service',
  SystemCallErrorNumber: 'EPERM',
};

const settings = (of: Settings): string[] => Object.entries(of).map(([name, value]) => `${name}=${value}`);
const text = (lines: readonly string[]): string => `${lines.join('\n')}\n`;
