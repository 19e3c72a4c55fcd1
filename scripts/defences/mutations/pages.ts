/** What people look at: the operator's dashboard, and the greeting app's page. */
import { rowsOf } from '../mutation.ts';

const relay = rowsOf('relay');
const apps = rowsOf('apps');

const DASHBOARD = ['host/dashboard/dashboard.ts', 'host/dashboard/dashboard.test.ts'] as const;
const STREAMS = ['host/dashboard/streams.ts', 'host/dashboard/dashboard.test.ts'] as const;
const REDACT = ['host/dashboard/redact.ts', 'host/dashboard/log-tail.test.ts'] as const;
const TAIL = ['host/dashboard/log-tail.ts', 'host/dashboard/log-tail.test.ts'] as const;
const HISTORY = ['host/dashboard/chain-history.ts', 'host/dashboard/chain-history.test.ts'] as const;
const EVIDENCE = ['app-example/page/evidence.ts', 'app-example/evidence.test.ts'] as const;
const HOST = ['app-example/page/host.ts', 'app-example/host.test.ts'] as const;
const COUNTER = ['app-example/files/app/www/cgi-bin/index.cgi', 'test/greeting-page.test.ts'] as const;

export const pageRules = [
  relay(
    'the number of open dashboards',
    STREAMS,
    'if (this.#open.size < streams) return;',
    'if (this.#open.size >= 0) return;',
    '64 streams, and the 65th is refused',
  ),
  relay(
    'that a dashboard which does not keep up is cut off',
    STREAMS,
    'response.writableLength > this.#limits.behind',
    'response.writableLength > 2 ** 50',
    'a reader that does not keep up is cut off',
  ),
  relay(
    'the sign of life by which a page tells a relay that hangs',
    STREAMS,
    'this.#timer ??= setInterval(() => this.send(beat), this.#limits.heartbeat);',
    '',
    'a silent stream shows that it lives',
  ),
  relay(
    "the refusal of other sites' pages by the dashboard",
    DASHBOARD,
    "site === undefined || site === 'same-origin' || site === 'none'",
    "site !== ''",
    'another name, as a page that rebinds',
  ),
  relay(
    'that no text becomes markup on the dashboard',
    DASHBOARD,
    `    "require-trusted-types-for 'script'",\n`,
    '',
    'the page forbids everything',
  ),
  relay(
    "this host's own secrets in its log's tail",
    REDACT,
    '.filter((secret) => secret.length >= 8)',
    '.filter((secret) => secret.length < 0)',
    'a line never shows the gas key',
  ),
  relay(
    'passwords of URLs in the tail',
    REDACT,
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the source's own text
    '`$1${REMOVED}@`',
    "'$&'",
    "a line never shows another URL's password",
  ),
  relay(
    'that secrets are taken out before a line is cut',
    TAIL,
    'const clean = this.#redact(read.text)',
    'const clean = this.#redact(text(read.text, 2 * TEXT_MAX))',
    'a key is removed before a line is cut',
  ),
  relay(
    'half a secret at the end of what is read of a line',
    TAIL,
    'line.length > READ ? clean.slice(0, -HALVED) : clean',
    'clean',
    'half of a key at the end of what is read',
  ),
  relay(
    "what anyone may cause beside the owner's acts in the history",
    HISTORY,
    'GAVE_WAY.includes(event.name) && ',
    '',
    'what anyone may cause gives way',
  ),
  relay(
    'that a look at the history ends, however much there is to read',
    HISTORY,
    'while (next <= to && this.#isLeft(budget)) {',
    'while (next <= to) {',
    'a look reads a bounded part|what came while nobody looked',
  ),
  relay(
    "that what the history's looks had no time for is read again while it may be replaced",
    HISTORY,
    'Math.min(this.#settled + 1, newest - UNSETTLED)',
    'newest - UNSETTLED',
    'a block that was replaced while the looks before',
  ),
  apps(
    "the nonce of a page's evidence",
    EVIDENCE,
    'evidence.nonce !== nonce',
    "nonce === ''",
    'evidence of another visit is wrong',
  ),
  apps(
    "the network key's signature, on the page",
    EVIDENCE,
    'signer !== String(evidence.networkKey).toLowerCase()',
    "signer === ''",
    'that was altered on the way is noticed',
  ),
  apps(
    "the quote's own words, on the page",
    EVIDENCE,
    'if (!same(bodyOf(evidence).subarray(520, 584), reportData(evidence)))',
    'if (bodyOf(evidence).length === 0)',
    'a quote of another app',
  ),
  apps(
    'that only a signed no says that no host could have a certificate, on the page',
    HOST,
    'evidence.hostImpersonable === false',
    '!evidence.hostImpersonable',
    'only a signed false is a no',
  ),
  apps(
    'that wrong evidence says nothing of its host, on the page',
    HOST,
    'if (!holds)',
    'if (evidence.nonce === undefined)',
    'only a signed false is a no',
  ),
  apps(
    'visits that are counted at the same time',
    COUNTER,
    'elif mv -T "$VISITS/$visits" "$VISITS/$((visits + 1))"; then',
    'elif mv -T "$VISITS/$visits" "$VISITS/$((visits + 1))" || true; then',
    '200 visitors at once',
  ),
  apps(
    "the hash of a manifest in a host's volume, for app ps",
    ['cli/app/containers.ts', 'cli/app/containers.test.ts'],
    'toHex(manifestHash(bytes)) === hash ? parseManifest(bytes) : undefined',
    'parseManifest(bytes)',
    'counts by its hash',
  ),
];
