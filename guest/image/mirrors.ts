/**
 * Which Debian mirror to download from: the one that this machine's own apt uses. This repository names no
 * mirror, so a build contacts only hosts that the machine's administrator chose.
 *
 * A mirror is not trusted: `lock.ts` checks Debian's signature, and a build checks every package's SHA-256.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { ArchiveName } from './packages.ts';

/** Base URL of each archive, without a slash at the end. */
export type Mirrors = Readonly<Record<ArchiveName, string>>;

/** One source as apt's configuration states it. */
export interface AptSource {
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
}

/**
 * The mirrors of this machine. `DSTACK_MIRROR` and `DSTACK_SECURITY_MIRROR` take precedence over apt's configuration.
 * @throws DstackError MIRROR_UNKNOWN when neither names a Debian mirror, as on Ubuntu.
 */
export function findMirrors(env: NodeJS.ProcessEnv = process.env, aptFolder = '/etc/apt'): Mirrors {
  const chosen = env.DSTACK_MIRROR;
  if (chosen !== undefined && chosen !== '') {
    const debian = trimSlash(chosen);
    const security = env.DSTACK_SECURITY_MIRROR;
    return {
      debian: requireUrl(debian),
      'debian-security': requireUrl(security ? trimSlash(security) : securityBeside(debian)),
    };
  }
  return mirrorsOf(readAptSources(aptFolder));
}

/**
 * The mirrors of an archive at `url`: a folder that `image fetch` made (`file:///…/debian`), or a dated copy, whose date
 * comes after the archive's name (`…/debian/20260131T000000Z`). The security archive is beside it, unless
 * DSTACK_SECURITY_MIRROR says otherwise.
 * @throws DstackError MIRROR_UNKNOWN when it is not a URL.
 */
export function mirrorsAt(url: string, env: NodeJS.ProcessEnv = process.env): Mirrors {
  return findMirrors({ ...env, DSTACK_MIRROR: url });
}

/**
 * Picks the mirrors out of apt's sources: those of Debian's own suites, and separately that of the security archive.
 * @throws DstackError MIRROR_UNKNOWN when there is none.
 */
export function mirrorsOf(sources: readonly AptSource[]): Mirrors {
  const ofDebian = sources.filter((s) => s.components.includes('main'));
  const main = ofDebian.filter((s) => s.suites.some(isDebianSuite));
  // A third party's archive may use Debian's suite and component names too; Debian's own is in a folder "debian".
  const debian = (main.find((s) => /\/debian\/?$/.test(s.uri)) ?? main[0])?.uri;
  if (debian === undefined) {
    throw new DstackError(
      'MIRROR_UNKNOWN',
      "this machine's apt configuration names no Debian mirror: set DSTACK_MIRROR to the base URL of one (it ends in /debian), and DSTACK_SECURITY_MIRROR if security updates are not beside it in /debian-security",
    );
  }
  const security = ofDebian.find((s) => s.suites.some(isSecuritySuite))?.uri;
  return {
    debian: requireUrl(trimSlash(debian)),
    'debian-security': requireUrl(trimSlash(security ?? securityBeside(trimSlash(debian)))),
  };
}

/** One-line style: `deb [options] uri suite component...`; see sources.list(5). */
export function parseOneLine(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)((?:\s+[^\s#]+)*)/.exec(line);
    if (match === null) continue;
    sources.push({ uri: match[1]!, suites: [match[2]!], components: words(match[3] ?? '') });
  }
  return sources;
}

/** deb822 style: stanzas of `Types`, `URIs`, `Suites`, `Components`; see sources.list(5). */
export function parseDeb822(text: string): AptSource[] {
  const sources: AptSource[] = [];
  const withoutComments = text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n');
  for (const stanza of withoutComments.split(/\n\s*\n/)) {
    const fields = new Map<string, string>();
    let current = '';
    for (const line of stanza.split('\n')) {
      const field = /^([A-Za-z0-9-]+):(.*)$/.exec(line);
      if (field !== null) {
        current = field[1]!.toLowerCase();
        fields.set(current, field[2]!.trim());
      } else if (/^\s/.test(line) && current !== '') {
        fields.set(current, `${fields.get(current)} ${line.trim()}`);
      }
    }
    if (fields.get('enabled') === 'no' || !words(fields.get('types') ?? '').includes('deb')) continue;
    for (const uri of words(fields.get('uris') ?? '')) {
      sources.push({
        uri,
        suites: words(fields.get('suites') ?? ''),
        components: words(fields.get('components') ?? ''),
      });
    }
  }
  return sources;
}

function readAptSources(folder: string): AptSource[] {
  const sources: AptSource[] = [];
  const main = join(folder, 'sources.list');
  if (existsSync(main)) sources.push(...parseOneLine(readFileSync(main, 'utf8')));
  const parts = join(folder, 'sources.list.d');
  for (const name of existsSync(parts) ? readdirSync(parts).toSorted() : []) {
    const text = () => readFileSync(join(parts, name), 'utf8');
    if (name.endsWith('.list')) sources.push(...parseOneLine(text()));
    if (name.endsWith('.sources')) sources.push(...parseDeb822(text()));
  }
  return sources.map((source) => ({ ...source, uri: resolveMirrorList(source.uri) }));
}

/** `mirror+file:/path` names a file that lists mirrors (apt-transport-mirror(1)): the first one is taken. */
function resolveMirrorList(uri: string): string {
  const match = /^mirror\+file:(?:\/\/)?(\/.*?)\/?$/.exec(uri);
  if (match === null || !existsSync(match[1]!)) return uri;
  const lines = readFileSync(match[1]!, 'utf8').split('\n');
  return lines.map((line) => line.trim().split(/\s/)[0]!).find((line) => /^https?:/.test(line)) ?? uri;
}

function isDebianSuite(suite: string): boolean {
  return /^(bullseye|bookworm|trixie|forky|duke|sid|oldstable|stable|testing|unstable)(-updates|-backports)?$/.test(
    suite,
  );
}

function isSecuritySuite(suite: string): boolean {
  return /^(bullseye|bookworm|trixie|forky|duke|oldstable|stable|testing)(-security|\/updates)$/.test(suite);
}

/** Where mirrors that carry both archives keep the security archive. */
function securityBeside(debian: string): string {
  return debian.replace(/\/debian(\/\d{8}T\d{6}Z)?$/, '/debian-security$1');
}

function requireUrl(url: string): string {
  if (!/^(https?:\/\/|file:\/\/\/)[^\s'"]+$/.test(url)) {
    throw new DstackError(
      'MIRROR_UNKNOWN',
      `"${url}" is not an http(s) or file URL: set DSTACK_MIRROR to a Debian mirror`,
    );
  }
  return url;
}

function trimSlash(url: string): string {
  return url.replace(/\/+$/, '');
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}
