import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import {
  formatLock,
  kernelRelease,
  type LockedPackage,
  lockHash,
  packagesOf,
  parseLock,
} from './packages.ts';

const sha = 'a'.repeat(64);
const line = `guest bash 5.2.37-2+b10 ${sha} 1500792 debian pool/main/b/bash/bash_5.2.37-2%2bb10_amd64.deb`;

function parsedCode(text: string): string {
  try {
    parseLock(text);
  } catch (error) {
    return codeOf(error);
  }
  return 'accepted';
}

describe('packages.lock', () => {
  it('reads a line and writes the same one', () => {
    const [locked] = parseLock(`# comment\n${line}\n`);
    expect(locked).toEqual<LockedPackage>({
      root: 'guest',
      name: 'bash',
      version: '5.2.37-2+b10',
      sha256: sha,
      size: 1500792,
      archive: 'debian',
      path: 'pool/main/b/bash/bash_5.2.37-2%2bb10_amd64.deb',
    });
    expect(formatLock([locked!])).toContain(`\n${line}\n`);
  });

  it.each([
    ['an unknown root', line.replace('guest', 'host')],
    ['a short hash', line.replace(sha, 'a'.repeat(63))],
    ['an upper-case hash', line.replace(sha, 'A'.repeat(64))],
    ['a path that climbs', line.replace('pool/main/b/bash', 'pool/main/../../etc')],
    ...[
      '..',
      '.',
      '%2e%2e',
      '%2E.',
      '.%2e',
      '..%2f..',
      '%2fetc',
      '%252e%252e',
      '%5c..',
      '%00',
      '%',
      '%2',
      'a//b',
    ].map((part): [string, string] => [
      `a path with ${part}`,
      line.replace('pool/main/b/bash', `pool/main/${part}/bash`),
    ]),
    ['a path outside pool', line.replace('pool/main', 'dists/main')],
    ['a name with a slash', line.replace('bash 5', 'ba/sh 5')],
    ['a name that is an option', line.replace('bash 5', '-bash 5')],
    ['an unknown archive', line.replace(' debian ', ' ubuntu ')],
    ['a size of nought', line.replace('1500792', '0')],
    ['a field too many', `${line} x`],
    ['a duplicate', `${line}\n${line}`],
    ['lines out of order', `${line}\n${line.replaceAll('bash', 'apt')}`],
    ['nothing', '# only a comment\n'],
  ])('refuses %s', (_, text) => {
    expect(parsedCode(text)).toBe('LOCK_INVALID');
  });

  it('hashes a root by its own lines alone', () => {
    const packages = parseLock(`${line}\n${line.replace('guest', 'tools')}`);
    const others = parseLock(`${line}\n${line.replace('guest', 'tools').replace(sha, 'b'.repeat(64))}`);
    expect(lockHash(packages, 'guest')).toBe(lockHash(others, 'guest'));
    expect(lockHash(packages, 'tools')).not.toBe(lockHash(others, 'tools'));
  });

  it('wants exactly one kernel', () => {
    const kernel = (release: string) => line.replace('guest bash', `kernel linux-binary-${release}`);
    expect(kernelRelease(parseLock(kernel('6.18.1+deb13-amd64')))).toBe('6.18.1+deb13-amd64');
    expect(() => kernelRelease(parseLock(line))).toThrow(/one kernel image/);
    expect(() => kernelRelease(parseLock(`${kernel('6.17-amd64')}\n${kernel('6.18-amd64')}`))).toThrow(
      /one kernel image/,
    );
  });

  it('is well-formed as committed, with a kernel that can extend RTMRs', () => {
    const packages = parseLock(readFileSync(join(import.meta.dirname, 'packages.lock'), 'utf8'));
    const [major, minor] = kernelRelease(packages).split('.').map(Number);
    expect(major! * 1000 + minor!).toBeGreaterThanOrEqual(6016);
    for (const name of ['systemd', 'podman', 'netavark']) {
      expect(packagesOf(packages, 'guest').map((p) => p.name)).toContain(name);
    }
  });
});
