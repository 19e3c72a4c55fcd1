/**
 * A node's rollouts while visitors ask: version 1, 2, a third that is never healthy, back, and back to one of which the host has
 * nothing any more. The same for each test that has a node at hand.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { DemoHost, DemoNetwork } from '../../scripts/demo/host.ts';
import { asOwner, packApp } from '../../scripts/demo/network.ts';
import { jsonLines } from '../../scripts/demo/processes.ts';
import { say, waitFor } from '../../scripts/demo/steps.ts';
import { constantLoad, type Load } from './load.ts';
import { rolloutIsSeen } from './rollout-seen.ts';

/** How long a request waits for an app that is replaced, before it gets 503: milliseconds, less the client's own inexactness. */
const WAITED = 29_000;
/** Two emulated processors bear this besides the rollouts on any machine: a new TLS connection takes some 0.1 s there. A quiet one bears 20. */
const PER_SECOND = Number(process.env.DSTACK_TEST_PER_SECOND ?? 3);
const BESIDE = ['update=beside', 'data=ro', 'memoryMiB=64', 'logs=public', 'api=["info","key","attest"]'];
const healthAt = (path: string, startSeconds = 300): string =>
  `health={"http":"${path}","startSeconds":${startSeconds}}`;

/** @param archives of versions 1 and 2 of the greeting app, of which version 1 ran before: it left its note on the disk */
export async function rolloutsUnderLoad(
  network: DemoNetwork,
  host: DemoHost,
  archives: readonly string[],
): Promise<void> {
  const [one, two, sick] = [
    await packApp(network, host, archives[0]!, ...BESIDE, healthAt('/healthz')),
    await packApp(network, host, archives[1]!, ...BESIDE, healthAt('/healthz')),
    await packApp(network, host, archives[1]!, ...BESIDE, healthAt('/missing', 20)),
  ] as const;
  // Its container has to stop before the next one starts.
  const alone = BESIDE.map((word) => word.replace('beside', 'replace'));
  const replaced = await packApp(
    network,
    host,
    archives[1]!,
    ...alone,
    'stopSeconds=2',
    healthAt('/healthz'),
  );
  await asOwner(network, 'app', 'rollout', 'greeting', one);
  await deployed(host, one);
  // Deployed is not yet shown: the front hears of it a moment later.
  await host.page('1');

  const load = constantLoad(host.tlsPort, '/version', PER_SECOND);
  try {
    const seconds: string[] = [];
    await shows(load, '1');
    await asOwner(network, 'app', 'rollout', 'greeting', replaced);
    await shows(load, '2');
    await asOwner(network, 'app', 'rollback', 'greeting');
    await shows(load, '1');
    seconds.push(
      `to version 2 in ${await timed(load, '2', () => asOwner(network, 'app', 'rollout', 'greeting', two))} s`,
    );

    await asOwner(network, 'app', 'rollout', 'greeting', sick);
    // Of an attempt in which the container was quick enough to answer at all.
    const refusal = await lineOf(
      host,
      ({ code, manifest, msg }) =>
        code === 'APP_UNHEALTHY' &&
        `0x${manifest}` === sick &&
        String(msg).includes('answers /missing with status 404'),
    );
    expect(refusal).toHaveProperty('logs.greeting');
    await rolloutIsSeen(host, two, sick);
    await asOwner(network, 'app', 'rollback', 'greeting');
    await shows(load, '2');

    // What the node served before is in the node: the host is not asked.
    rmSync(join(host.volume, 'manifests', `${one.slice(2)}.json`));
    rmSync(join(host.volume, 'archives'), { recursive: true });
    seconds.push(
      `to version 1, of which the host had nothing, in ${await timed(load, '1', () => asOwner(network, 'app', 'rollout', 'greeting', one))} s`,
    );
    await shows(load, '1', 100);

    const answers = await load.stop();
    const failed = answers.filter(
      ({ failed, said, took }) => failed && !(said === 'HTTP 503' && took > WAITED),
    );
    const kept = answers.filter(({ connection }) => connection === 'kept').length;
    const slowest = Math.max(...answers.map(({ took }) => took));
    say(
      `rollouts under load: ${answers.length} requests (${kept} on kept connections), ${failed.length} failed, ` +
        `the slowest took ${(slowest / 1000).toFixed(1)} s; ${seconds.join('; ')}`,
    );
    expect(failed).toEqual([]);
    const versions = answers.filter(({ failed }) => !failed).map(({ said }) => said);
    expect(new Set(versions)).toEqual(new Set(['1', '2']));
  } finally {
    await load.stop();
  }
}

/** Seconds from when the owner's command began until visitors see this version. */
async function timed(load: Load, version: string, act: () => Promise<unknown>): Promise<string> {
  const began = performance.now();
  await act();
  const sent = performance.now();
  await shows(load, version);
  const all = ((performance.now() - began) / 1000).toFixed(1);
  return `${all} (${((performance.now() - sent) / 1000).toFixed(1)} from its receipt)`;
}

/** Waits until so many answers in a row, all asked from now on, are of this version. */
async function shows(load: Load, version: string, inARow = 5): Promise<void> {
  const from = load.answers.length;
  await waitFor(
    `${inARow} answers of version ${version}`,
    async () => {
      const last = load.answers.slice(from).slice(-inARow);
      return (last.length === inARow && last.every(({ said }) => said === version)) || undefined;
    },
    600,
    () => JSON.stringify(load.answers.at(-1)),
  );
}

async function deployed(host: DemoHost, manifest: string): Promise<void> {
  await lineOf(host, (line) => line.msg === 'app deployed' && `0x${line.manifest}` === manifest);
}

/** Waits for a line of kubernethes' on the console. */
async function lineOf(
  host: DemoHost,
  is: (line: Record<string, unknown>) => boolean,
): Promise<Record<string, unknown>> {
  return waitFor(
    'a line of kubernethes',
    async () => jsonLines(host.console()).find((line) => line.name === 'kubernethes' && is(line)),
    600,
    () => JSON.stringify(jsonLines(host.console()).at(-1)),
    () => host.alive(),
  );
}
