import { describe, expect, it } from 'vitest';
import { parsePrintUris } from './lock.ts';

const mirrors = { debian: 'http://m.test/debian', 'debian-security': 'http://m.test/debian-security' };
const sha = 'c'.repeat(64);

describe('what apt-get --print-uris says', () => {
  it('becomes locked packages, with epochs decoded and the archive told apart', () => {
    const text = `Reading package lists...
'http://m.test/debian/pool/main/libc/libcap2/libcap2_2.75-10%2bb3_amd64.deb' libcap2_1%3a2.75-10+b3_amd64.deb 28988 SHA256:${sha}
'http://m.test/debian-security/pool/updates/main/x/xz/liblzma5_5.8.1_amd64.deb' liblzma5_5.8.1_amd64.deb 309696 SHA256:${sha}
`;
    expect(parsePrintUris(text, 'guest', mirrors)).toEqual([
      {
        root: 'guest',
        name: 'libcap2',
        version: '1:2.75-10+b3',
        sha256: sha,
        size: 28988,
        archive: 'debian',
        path: 'pool/main/libc/libcap2/libcap2_2.75-10%2bb3_amd64.deb',
      },
      {
        root: 'guest',
        name: 'liblzma5',
        version: '5.8.1',
        sha256: sha,
        size: 309696,
        archive: 'debian-security',
        path: 'pool/updates/main/x/xz/liblzma5_5.8.1_amd64.deb',
      },
    ]);
  });

  it.each([
    ['another mirror', `'http://evil.test/debian/pool/a.deb' a_1_amd64.deb 1 SHA256:${sha}`],
    ['a weaker hash', `'http://m.test/debian/pool/a.deb' a_1_amd64.deb 1 MD5Sum:${'0'.repeat(32)}`],
    ['no hash', `'http://m.test/debian/pool/a.deb' a_1_amd64.deb 1 `],
    ['another architecture', `'http://m.test/debian/pool/a.deb' a_1_arm64.deb 1 SHA256:${sha}`],
  ])('is refused for %s', (_, text) => {
    expect(() => parsePrintUris(text, 'guest', mirrors)).toThrow(/unexpected line/);
  });
});
