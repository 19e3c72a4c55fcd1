/**
 * Runs inside a dev VM, as root: loads each archive of the host's volume as kubernethes does it, and as `podman load` does. Prints a
 * JSON line for each, with the seconds, and the most of the machine's memory that was gone meanwhile, tmpfs included.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { fetcher } from '../../guest/kubernethes/deployment.ts';
import { handover } from '../../guest/kubernethes/handover.ts';
import type { Kept } from '../../guest/kubernethes/kept.ts';
import { podman } from '../../guest/kubernethes/podman.ts';
import { printJson } from '../../lib/daemon/terminal.ts';
import { guestPorts } from '../../lib/protocol/ports.ts';

const VOLUME = '/mnt/host_volume';
const SOCKET = '/run/podman/podman.sock';
const MIB = 1024 * 1024;
const SAMPLE = 100;

const engine = podman(SOCKET);
const offering = handover(guestPorts.images);
const nothingKept = {} as Kept;
const places = { hostVolume: VOLUME, storage: '/var', meminfo: '/proc/meminfo' };

const ways: Readonly<Record<string, (digest: string) => Promise<void>>> = {
  kubernethes: (digest) => fetcher(engine, places, nothingKept, offering).image(digest, []),
  'podman load': async (digest) => {
    const file = `${VOLUME}/archives/${digest}.tar`;
    const env = { HOME: '/root', PATH: '/usr/bin' };
    const child = spawn('/usr/bin/podman', ['load', '--quiet', '--input', file], { env });
    let said = '';
    child.stderr.on('data', (chunk) => {
      said += chunk;
    });
    const code = await new Promise((resolve) => child.on('close', resolve));
    if (code !== 0) throw new Error(said.slice(-300));
  },
};

// The image's policy accepts no archives: for `podman load`, one that does is laid over it.
writeFileSync('/tmp/policy.json', '{"default":[{"type":"insecureAcceptAnything"}]}');
spawnSync('/usr/bin/mount', ['--bind', '/tmp/policy.json', '/etc/containers/policy.json']);
// The shell is there before podman's socket; and podman itself takes memory when it is first asked.
for (let tries = 0; tries < 120 && !existsSync(SOCKET); tries += 1) await setTimeout(1000);
await engine.list();
const archives = readdirSync(`${VOLUME}/archives`).map((name) => ({
  digest: name.slice(0, 64),
  mib: Math.round(statSync(`${VOLUME}/archives/${name}`).size / MIB),
}));
for (const [way, load] of Object.entries(ways))
  for (const { digest, mib } of archives.toSorted((a, b) => a.mib - b.mib)) {
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    await setTimeout(500);
    const measured = await measure(() => load(digest));
    printJson({ case: `${way} ${mib}`, way, mib, ...measured });
    await engine.pruneImages(() => false);
  }
printJson({ case: 'end' });
process.exit(0);

async function measure(action: () => Promise<void>) {
  const before = availableMiB();
  let least = before;
  let isOver = false;
  const sampling = (async () => {
    while (!isOver) {
      least = Math.min(least, availableMiB());
      await setTimeout(SAMPLE);
    }
  })();
  const began = performance.now();
  const error = await action().then(
    () => '',
    (reason: Error) => `${reason.message.slice(0, 200)}`,
  );
  const seconds = Math.round((performance.now() - began) / 100) / 10;
  isOver = true;
  await sampling;
  return {
    seconds,
    peakMiB: Math.round(before - least),
    keptMiB: Math.round(before - availableMiB()),
    error,
  };
}

function availableMiB(): number {
  return Number(/^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) / 1024;
}
