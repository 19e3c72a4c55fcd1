/**
 * Two apps with a domain each beside the network's website, and a third that wants one of theirs. For a test that has a node at hand
 * whose website is up.
 */
import { get } from 'node:https';
import { text } from 'node:stream/consumers';
import { expect } from 'vitest';
import type { DemoHost, DemoNetwork } from '../../scripts/demo/host.ts';
import { asOwner, owner } from '../../scripts/demo/network.ts';
import { dstack, jsonLines } from '../../scripts/demo/processes.ts';
import { say, seconds, waitFor } from '../../scripts/demo/steps.ts';

/** @param archives of versions 1 and 2 of the greeting app, of which the website shows version 1 */
export async function appSites(
  network: DemoNetwork,
  host: DemoHost,
  archives: readonly string[],
): Promise<void> {
  const [one, two] = archives as [string, string];
  const began = performance.now();
  await rollOut('shop', two, '--domain', 'shop.localhost', '--api', 'key', '--api', 'info');
  await rollOut('blog', one, '--domain', 'blog.localhost');
  await rollOut('thief', one, '--domain', 'thief.localhost', '--domain', 'shop.localhost');
  const shop = await shown('shop.localhost', /^200 [\s\S]*Hello from version 2/);
  const blog = await shown('blog.localhost', /^200 [\s\S]*Hello from version 1/);
  say(`two apps answer at their own domains ${seconds(began)} s after the first rollout began`);

  // What each may ask of the node is what its manifest says.
  expect(shop).toMatch(/id="fingerprint">[0-9a-f]{32}</);
  expect(shop).toContain('"app":"shop"');
  expect(blog).toContain('id="fingerprint">(not available)<');
  expect(blog).not.toContain('"app":');

  const refusal = await waitFor(
    'the third app to be refused',
    async () =>
      jsonLines(host.console()).find(({ code, app }) => code === 'APP_DOMAIN_TAKEN' && app === 'thief'),
    600,
    () => '',
    () => host.alive(),
  );
  expect(refusal.msg).toContain('shop.localhost, which is of shop');
  await shown('thief.localhost', /^503 [\s\S]*thief: APP_DOMAIN_TAKEN/);

  for (const [sni, name] of [
    ['shop.localhost', 'blog.localhost'],
    ['blog.localhost', 'nobody.localhost'],
    ['nobody.localhost', 'shop.localhost'],
  ] as const)
    expect(await visit(sni, name)).toMatch(/^421 /);
  expect(await visit('nobody.localhost')).toMatch(/^200 /);

  // One that goes leaves the other where it is.
  await asOwner(network, 'app', 'withdraw', 'shop');
  await shown('shop.localhost', /^503 [\s\S]*thief is starting|^200 [\s\S]*Hello from version 1/);
  expect(await visit('blog.localhost')).toMatch(/^200 [\s\S]*version 1/);
  for (const app of ['blog', 'thief']) await asOwner(network, 'app', 'withdraw', app);
  say(`and are gone again ${seconds(began)} s after it`);

  async function rollOut(app: string, archive: string, ...fields: string[]): Promise<void> {
    const options = [
      '--port',
      '8080',
      '--out',
      host.volume,
      '--set',
      'memoryMiB=64',
      '--set',
      'data=rw',
      ...fields,
    ];
    const packed = await dstack(owner(network), 'app', 'pack', app, archive, ...options);
    const manifest = /^manifest (0x[0-9a-f]{64})$/m.exec(packed)![1]!;
    await asOwner(network, 'app', 'rollout', app, manifest);
  }

  function shown(name: string, what: RegExp): Promise<string> {
    let last = '';
    return waitFor(
      `${name} to show ${what}`,
      async () => {
        last = await visit(name).catch((error: Error) => error.message);
        return what.test(last) ? last : undefined;
      },
      600,
      () => last.slice(0, 600),
      () => host.alive(),
    );
  }

  /** Status and body, for a name of the handshake and a name of the request. */
  function visit(servername: string, name = servername): Promise<string> {
    return new Promise((resolve, reject) => {
      const options = { host: '127.0.0.1', port: host.tlsPort, servername, headers: { host: name } };
      const request = get(
        { ...options, rejectUnauthorized: false, timeout: 120_000, agent: false },
        (response) => text(response).then((body) => resolve(`${response.statusCode} ${body}`), reject),
      );
      request.on('timeout', () => request.destroy(new Error('the visit timed out')));
      request.on('error', reject);
    });
  }
}
