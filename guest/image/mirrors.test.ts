import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findMirrors, mirrorsOf, parseDeb822, parseOneLine } from './mirrors.ts';

let apt: string;
beforeEach(() => {
  apt = mkdtempSync(join(tmpdir(), 'dstack-mirrors-'));
  mkdirSync(join(apt, 'sources.list.d'));
});
afterEach(() => rmSync(apt, { recursive: true }));

const debian = {
  debian: 'http://mirror.test/debian',
  'debian-security': 'http://mirror.test/debian-security',
};

describe('the mirrors of a machine', () => {
  it('are found in deb822 sources', () => {
    writeFileSync(
      join(apt, 'sources.list.d/debian.sources'),
      `Types: deb deb-src
# a comment
URIs: http://mirror.test/debian/
Suites: trixie
 trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.test/debian-security
Suites: trixie-security
Components: main
`,
    );
    expect(findMirrors({}, apt)).toEqual(debian);
  });

  it('are found in a one-line list, with options and a comment', () => {
    writeFileSync(
      join(apt, 'sources.list'),
      `# deb http://old.test/debian trixie main
deb [arch=amd64 signed-by=/x.gpg] http://mirror.test/debian bookworm main contrib # why
deb-src http://source.test/debian bookworm main
`,
    );
    expect(findMirrors({}, apt)).toEqual(debian);
  });

  it('are followed through a list of mirrors', () => {
    writeFileSync(join(apt, 'mirrors.list'), 'http://mirror.test/debian\nhttp://other.test/debian\n');
    writeFileSync(join(apt, 'sources.list'), `deb mirror+file://${join(apt, 'mirrors.list')} trixie main\n`);
    expect(findMirrors({}, apt)).toEqual(debian);
  });

  it("are Debian's, not a third party's with the same suite and component", () => {
    const third = { uri: 'https://packages.test/node', suites: ['bookworm'], components: ['main'] };
    const own = { uri: 'http://mirror.test/debian', suites: ['bookworm'], components: ['main'] };
    expect(mirrorsOf([third, own])).toEqual(debian);
  });

  it('are taken from the environment first', () => {
    writeFileSync(join(apt, 'sources.list'), 'deb http://ignored.test/debian trixie main\n');
    expect(findMirrors({ DSTACK_MIRROR: 'http://mirror.test/debian/' }, apt)).toEqual(debian);
    expect(
      findMirrors({ DSTACK_MIRROR: 'http://a.test/d', DSTACK_SECURITY_MIRROR: 'http://b.test/s' }, apt),
    ).toEqual({ debian: 'http://a.test/d', 'debian-security': 'http://b.test/s' });
  });

  it('are asked for on a machine that has none', () => {
    writeFileSync(join(apt, 'sources.list'), 'deb http://archive.test/ubuntu noble main universe\n');
    expect(() => findMirrors({}, apt)).toThrow(/set DSTACK_MIRROR/);
    expect(() => findMirrors({}, join(apt, 'none'))).toThrow(/set DSTACK_MIRROR/);
  });

  it.each(["http://x.test/debian' -o Dir=/", 'file:etc', '-o', 'http://a b'])('are no "%s"', (url) => {
    expect(() => findMirrors({ DSTACK_MIRROR: url }, apt)).toThrow(/not an http\(s\) or file URL/);
  });

  it('leave out disabled stanzas and source packages', () => {
    expect(parseDeb822('Types: deb\nEnabled: no\nURIs: http://x.test/debian\nSuites: trixie\n')).toEqual([]);
    expect(parseDeb822('Types: deb-src\nURIs: http://x.test/debian\nSuites: trixie\n')).toEqual([]);
    expect(parseOneLine('deb-src http://x.test/debian trixie main')).toEqual([]);
  });
});
