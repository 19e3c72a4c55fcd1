/** What may enter HAProxy's configuration, and that HAProxy takes what comes out. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { toolCommand } from '../../lib/daemon/tool-root.ts';
import { credentialsOf, frontBelow, pemOf } from '../../test/support/front.ts';
import { type FrontDescription, frontFiles, imageFront } from './front-config.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-front-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('HAProxy takes it without a warning', async () => {
  const description = await frontBelow(folder);
  for (const path of [description.folder, join(description.placeholder, '..')])
    mkdirSync(path, { recursive: true });
  for (const [name, text] of frontFiles(description)) writeFileSync(join(description.folder, name), text);
  const { chain, key } = pemOf(credentialsOf(1));
  writeFileSync(description.placeholder, chain + key);
  const { command, args, env } = toolCommand('haproxy', [
    '-c',
    '-V',
    '-dW',
    '-f',
    join(description.folder, 'haproxy.cfg'),
  ]);
  const said = execFileSync(command, [...args], {
    env: { ...env, OPENSSL_CONF: '/dev/null' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  expect(said.toString()).toContain('Configuration file is valid');
});

test("the image's own has nothing of a test in it", () => {
  const text = frontFiles(imageFront).get('haproxy.cfg')!;
  expect(text).toContain(
    'bind 0.0.0.0:443 id 1 ssl crt-list /etc/dstack/front/certificates alpn h2,http/1.1\n',
  );
  expect(text).toMatch(/stats socket \/run\/dstack\/front\/control.sock gid \d+ mode 660 level admin\n/);
  expect(text).toContain('  http-reuse never\n');
  expect(text).not.toMatch(/127\.0\.0\.1:(?!1 )|\/tmp|localhost/);
  // No word of a visitor's is taken for where it comes from, at the port that is not behind a host's forwarder.
  expect(text.match(/bind .* accept-proxy.*/g)?.map((line) => line.split(' ')[1])).toEqual([
    '0.0.0.0:8443',
    '0.0.0.0:8443',
    'unix@/run/dstack/front/visitors.sock',
  ]);
});

const wrong: [string, Partial<Record<keyof FrontDescription, unknown>>][] = [
  ['a path with a space', { control: '/run/x level admin' }],
  ['a path with a line', { control: '/run/x\n  lua-load /tmp/x' }],
  ['a path with a quote', { folder: "/etc/'x" }],
  ['a path with a variable', { folder: '/etc/$HOME' }],
  ['a path with a comment', { folder: '/etc/#x' }],
  ['a path that climbs', { answers: '/run//x' }],
  ['a relative path', { placeholder: 'x.pem' }],
  ['an address with words', { listen: { address: '0.0.0.0 ssl', port: 443 } }],
  ['a port that is text', { listen: { address: '0.0.0.0', port: '443 ssl' } }],
  ["a group that is root's", { controlGid: 0 }],
  ['sources with a file', { limits: { ...imageFront.limits, sharedSources: ['-f /etc/passwd'] } }],
  ['a time with a unit', { times: { ...imageFront.times, client: '1s' } }],
  ['a setting that nobody knows', { raw: 'lua-load /tmp/x' } as never],
];

test.each(wrong)('%s is refused', (_, change) => {
  expect(() => frontFiles({ ...imageFront, ...change } as FrontDescription)).toThrowError(
    expect.objectContaining({ code: 'FRONT_DESCRIPTION' }),
  );
});

test('whatever a path is, it is refused or one word of one line', () => {
  const lines = frontFiles(imageFront).get('haproxy.cfg')!.split('\n').length;
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 30 }), (tail) => {
      const control = `/run/${tail}`;
      try {
        const text = frontFiles({ ...imageFront, control }).get('haproxy.cfg')!;
        expect(text.split('\n')).toHaveLength(lines);
        expect(control).toMatch(/^[A-Za-z0-9._/-]+$/);
      } catch (error) {
        expect(error).toMatchObject({ code: 'FRONT_DESCRIPTION' });
      }
    }),
  );
});
