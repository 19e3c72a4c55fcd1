/** OpenPGP keys for tests, made by gpg: of today, expired, revoked. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Why there can be no keys; undefined when there can. */
export const keysMissing = ['gpg', 'gpg-agent'].every((name) => existsSync(join('/usr/bin', name)))
  ? undefined
  : 'needs gpg and gpg-agent';

/** A long time ago, for what was signed before a key's end. */
const THEN = '20200101T000000!';

export class TestKeys {
  /** A short path, because an agent's socket is in it. */
  readonly #home = mkdtempSync(join(tmpdir(), 'dg-'));

  /** `valid`: as gpg says it, `1y`, `never`. */
  make(name: string, { longAgo = false, valid = 'never' } = {}): void {
    this.#gpg(longAgo, '--quick-generate-key', `${name} <${name}@test>`, 'ed25519', 'sign', valid);
  }

  revoke(name: string): void {
    const folder = join(this.#home, 'openpgp-revocs.d');
    const of = this.#gpg(false, '--list-keys', '--with-colons', name);
    const fingerprint = /^fpr:+([0-9A-F]+):/m.exec(of)![1]!;
    const file = join(folder, readdirSync(folder).find((found) => found.startsWith(fingerprint))!);
    // gpg makes its own revocation file unusable, so that nobody imports it by mistake.
    writeFileSync(file, readFileSync(file, 'utf8').replace(/^:---/m, '---'));
    this.#gpg(false, '--import', file);
  }

  /** Clear-signed by each of the keys. `options`: gpg's own, such as `--default-sig-expire`. */
  sign(text: string, names: readonly string[], { longAgo = false, options = [] as string[] } = {}): string {
    const input = join(this.#home, 'text');
    writeFileSync(input, text);
    const by = names.flatMap((name) => ['--local-user', name]);
    return this.#gpg(longAgo, ...options, ...by, '--output', '-', '--clear-sign', input);
  }

  /** A keyring as gpgv takes it. */
  keyring(file: string, ...names: string[]): string {
    writeFileSync(file, execFileSync('gpg', [...this.#base(false), '--export', ...names]));
    return file;
  }

  remove(): void {
    execFileSync('gpgconf', ['--homedir', this.#home, '--kill', 'all']);
    rmSync(this.#home, { recursive: true, force: true });
  }

  #base(longAgo: boolean): string[] {
    const time = longAgo ? ['--faked-system-time', THEN] : [];
    return ['--homedir', this.#home, '--batch', '--quiet', '--passphrase', '', ...time];
  }

  #gpg(longAgo: boolean, ...args: string[]): string {
    return execFileSync('gpg', [...this.#base(longAgo), ...args], { encoding: 'utf8', stdio: 'pipe' });
  }
}
