import { expect, test } from 'vitest';
import { parseHex } from '../../lib/protocol/hex.ts';
import type { Manifest } from '../../lib/protocol/manifest.ts';
import { plansOf } from '../../lib/protocol/manifest.ts';
import { containerLines, differences, manifestLines } from './describe.ts';

const image = (letter: string): string => `sha256:${letter.repeat(64)}`;
const old: Manifest = {
  version: 1,
  app: 'shop',
  containers: [
    { name: 'web', image: image('a'), env: { A: '1', B: '2' }, http: { port: 80 } },
    { name: 'db', image: image('b') },
  ],
};

test('the same manifest in other words changes nothing', () => {
  expect(differences(old, old)).toEqual([]);
  const containers = old.containers.map((container) => ({
    ...container,
    data: 'rw' as const,
    egress: 'internet' as const,
    api: ['info', 'key', 'attest'],
    memoryMiB: 512,
  }));
  expect(differences(old, { version: 2, app: 'shop', containers })).toEqual([]);
});

test('shows each field that changes, and containers that come and go', () => {
  const next: Manifest = {
    version: 2,
    app: 'shop',
    containers: [
      { name: 'web', image: image('c'), env: { A: 'x\ny', C: '3' }, memoryMiB: 64, user: '5' },
      { name: 'cache', image: image('d'), data: 'rw' },
    ],
  };
  const lines = differences(old, next);
  expect(lines.slice(0, 11)).toEqual([
    '~ container web',
    `    image: "${image('a')}" -> "${image('c')}"`,
    '    http: {"port":80} -> none',
    '    memoryMiB: 512 -> 64',
    '    data: "rw" -> "none"',
    '    egress: "internet" -> "none"',
    '    api: ["info","key","attest"] -> []',
    '    env A: "1" -> "x\\ny"',
    '    env B: "2" -> none',
    '    user: none -> "5"',
    '    env C: none -> "3"',
  ]);
  expect(lines[11]).toBe(`+ container cache: image ${image('d')}`);
  expect(lines.at(-1)).toBe('- container db');
});

test('all that a container may do is shown', () => {
  expect(containerLines(plansOf(old)[0]!)).toEqual([
    `container web: image ${image('a')}, which answers HTTP on port 80`,
    '  memoryMiB 512',
    '  pids 256',
    '  tmpfs {"/tmp":64}',
    '  shmMiB 64',
    '  volumes {}',
    '  hostVolume "none"',
    '  stopSeconds 3',
    '  update "replace"',
    '  restart "always"',
    '  logs "private"',
    '  data "rw"',
    '  egress "internet"',
    '  api ["info","key","attest"]',
    '  env A="1"',
    '  env B="2"',
  ]);
});

test("websites of an app are shown with their domains, the network's by its port", () => {
  const http = [{ domain: 'shop.example', port: 81, protocol: 'h2c' as const }];
  const next: Manifest = {
    version: 2,
    app: 'shop',
    containers: [{ name: 'web', image: image('a'), http }],
  };
  expect(containerLines(plansOf(next)[0]!).slice(0, 2)).toEqual([
    `container web: image ${image('a')}`,
    '  http [{"domain":"shop.example","port":81,"protocol":"h2c"}]',
  ]);
  expect(differences(old, next)).toContain(
    '    http: {"port":80} -> [{"domain":"shop.example","port":81,"protocol":"h2c"}]',
  );
});

test('secrets are shown by name and envelope, so a new value is seen', () => {
  const of = (envelope: string): Manifest => ({
    version: 2,
    app: 'shop',
    secrets: [{ name: 'db', envelope: parseHex(envelope.repeat(64)) }],
    containers: [{ name: 'web', image: image('a'), secrets: ['db'] }],
  });
  expect(containerLines(plansOf(of('1'))[0]!)).toContain(`  secret db "${'1'.repeat(64)}"`);
  expect(differences(of('1'), of('2'))).toEqual([
    '~ container web',
    `    secret db: "${'1'.repeat(64)}" -> "${'2'.repeat(64)}"`,
  ]);
});

test('a signer is shown with every field, and what changes of it', () => {
  const disk = parseHex('ab'.repeat(16));
  const of = (afterHeight: number, envelope: string): Manifest => ({
    version: 2,
    app: 'validator',
    containers: [],
    secrets: [{ name: 'key', envelope: parseHex(envelope.repeat(64)) }],
    signer: {
      disk,
      chains: [
        { id: 'one-1', protocol: 'v0.38', key: 'derived', afterHeight },
        { id: 'two-1', protocol: 'v1', key: { secret: 'key' }, afterHeight: 9, signBytes: true },
      ],
    },
  });
  const [head, one, two] = manifestLines(of(5, '1'));
  expect(head).toBe(`signer: on the data disk ${disk}, minimumNodes 2, acceptHostRollback false`);
  expect(one).toBe(
    'signer of chain one-1: v0.38, with a key of the network, after height 5, signBytes false',
  );
  expect(two).toBe(
    `signer of chain two-1: v1, with the key in the secret key, ${'1'.repeat(64)}, after height 9, signBytes true`,
  );
  expect(differences(of(5, '1'), of(5, '1'))).toEqual([]);
  expect(differences(of(5, '1'), of(6, '2'))).toEqual([
    `- ${one}`,
    `- ${two}`,
    `+ ${one!.replace('height 5', 'height 6')}`,
    `+ ${two!.replace('1'.repeat(64), '2'.repeat(64))}`,
  ]);
  expect(differences(undefined, of(5, '1'))).toEqual([`+ ${head}`, `+ ${one}`, `+ ${two}`]);
});
