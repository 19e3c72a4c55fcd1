/**
 * Runs inside a dev VM, as root: everything that listens there, and on each Unix socket which of a long list of routes is
 * answered by more than "no such route". Prints one JSON line, for the test on the host to compare with what is documented.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { PATHS } from './host-view/paths.ts';

/** One process of each network namespace: the attestor and every container have one of their own. */
const namespaces = new Map(
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid): [string, string][] => {
      try {
        return [[readlinkSync(`/proc/${pid}/ns/net`), pid]];
      } catch {
        // Ended in the meantime.
        return [];
      }
    }),
);
const table = (name: string): string[][] =>
  [...namespaces.values()].flatMap((pid) =>
    readFileSync(`/proc/${pid}/net/${name}`, 'utf8')
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/)),
  );

/** Ports that are bound, by protocol (proc_net_tcp(5)): listening TCP, with its address; unconnected UDP. */
const ports = [
  ...['tcp', 'tcp6'].flatMap((name) =>
    table(name)
      .filter((row) => row[3] === '0A')
      .map((row) => `tcp ${addressOf(row)}:${portOf(row)}`),
  ),
  ...['udp', 'udp6'].flatMap((name) =>
    table(name)
      .filter((row) => row[3] === '07')
      .map((row) => `udp ${portOf(row)}`),
  ),
];
const paths = table('unix')
  .filter((row) => row[3] === '00010000' && row[7]?.startsWith('/'))
  .map((row) => row[7]!);

const sockets: Record<string, { mode: string; routes: string[] }> = {};
for (const path of [...new Set(paths)]) {
  const { mode, gid } = statSync(path);
  const isOurs = path.startsWith('/run/dstack/');
  sockets[path] = {
    mode: `${(mode & 0o777).toString(8)} ${gid}`,
    routes: isOurs ? await routesOf(path) : [],
  };
}
console.log(JSON.stringify({ case: 'surface', ports: [...new Set(ports)].sort(), sockets }));
console.log('{"case":"end"}');

async function routesOf(socketPath: string): Promise<string[]> {
  const found: string[] = [];
  for (const path of PATHS.filter((one) => one.startsWith('/'))) {
    for (const method of ['GET', 'POST']) {
      if ((await statusOf(socketPath, method, path)) !== 404) found.push(`${method} ${path}`);
    }
  }
  return found;
}

/** 0 when it neither answers nor hangs up for a while: then the route exists and waits for the node to join. */
function statusOf(socketPath: string, method: string, path: string): Promise<number> {
  return new Promise((resolve) => {
    // A body that no handler accepts: a refusal shows that the route exists, too.
    const asked = request({ socketPath, method, path, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode!);
    });
    asked.setTimeout(1_000, () => {
      asked.destroy();
      resolve(0);
    });
    asked.on('error', () => resolve(0));
    asked.end(method === 'POST' ? '{}' : undefined);
  });
}

/** `*` for all addresses, and one word for all gateways of apps' bridges. */
function addressOf(row: readonly string[]): string {
  const digits = row[1]!.split(':')[0]!;
  if (/^0+$/.test(digits)) return '*';
  // An IPv4 address is one number, in this machine's order of bytes.
  const address = [...Buffer.from(digits, 'hex')].reverse().join('.');
  return address.replace(/^10\.90\.\d+\.1$/, '10.90.*.1');
}

function portOf(row: readonly string[]): number {
  return Number.parseInt(row[1]!.split(':')[1]!, 16);
}
