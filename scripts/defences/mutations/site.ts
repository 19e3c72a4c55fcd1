/** What a stranger may believe of a website, and what its node does for strangers. */
import { type Mutation, one } from '../mutation.ts';

const JUDGE = 'cli/site/judge.ts';
const FETCH = 'cli/site/fetch.ts';
const TLS = 'guest/tls/evidence.ts';
const REPLICATOR = 'guest/replicator/site-evidence.ts';
const PATHS = 'guest/tls/certificate-paths.ts';
const judge = 'cli/site/judge.test.ts';
const paths = 'guest/tls/certificate-paths.test.ts';
const tls = 'guest/tls/evidence.test.ts';
const replicator = 'guest/replicator/site-evidence.test.ts';

export const siteRules: readonly Mutation[] = [
  one(
    'site',
    'the key of the connection',
    [JUDGE, '  requireConnection(evidence, question.publicKey);\n', ''],
    [judge, '^another TLS key$'],
  ),
  one(
    'site',
    'the nonce',
    [JUDGE, '  requireNonce(evidence, question.nonce);\n', ''],
    [judge, '^another nonce$'],
  ),
  one(
    'site',
    'which network it is of',
    [JUDGE, '  requireNetwork(evidence, network);\n  requireNonce', '  requireNonce'],
    [judge, '^another chain$'],
  ),
  one(
    'site',
    "that the network key is the contract's",
    [JUDGE, 'if (sameAddress(evidence.networkKey, shown.networkKey)) return;', 'return;'],
    [judge, "which key is the network's"],
  ),
  one(
    'site',
    "that the epoch is the contract's",
    [JUDGE, 'if (evidence.epoch !== shown.epoch) {', 'if (evidence.epoch < 0) {'],
    [judge, '^another epoch$'],
  ),
  one(
    'site',
    "the network key's signature",
    [JUDGE, 'if (signer !== undefined && sameAddress(signer, networkKey)) return;', 'return;'],
    [judge, 'whatever is changed afterwards'],
  ),
  one(
    'site',
    'that what was signed names this quote',
    [JUDGE, '    quoteHash: fromHex(evidence.quoteHash, 32),\n', ''],
    [judge, "^another quote's hash$"],
  ),
  one(
    'site',
    "the network's policy for the quote",
    [
      JUDGE,
      'contractAsRelyingParty(reader, fromHex(evidence.config, 32), head)',
      '{ ...contractAsRelyingParty(reader, fromHex(evidence.config, 32), head), policy: async () => ({ allowDebug: true }) }',
    ],
    [judge, '^a debug TD$'],
  ),
  one(
    'site',
    'whether the contract still allows the machine',
    [
      JUDGE,
      'contractAsRelyingParty(reader, fromHex(evidence.config, 32), head)',
      '{ ...contractAsRelyingParty(reader, fromHex(evidence.config, 32), head), requireAllowed: async () => {} }',
    ],
    [judge, 'which measurement is allowed'],
  ),
  one(
    'site',
    "the quote's own words",
    [JUDGE, '    reportData: reportDataOfSite(network, evidence),', "    reportData: 'any' as never,"],
    [judge, '^a quote that was made for an app$'],
  ),
  one(
    'site',
    'that what was signed is what the quote shows',
    [JUDGE, '  requireClaims(evidence, found);\n  await', '  await'],
    [judge, "^another platform than the quote's$"],
  ),
  one(
    'site',
    'the block that the evidence names',
    [JUDGE, '  await requireRecentBlock(evidence, reader, now);\n', ''],
    [judge, "^a block that is not the chain's$"],
  ),
  one(
    'site',
    "that the asker's collateral goes first",
    [JUDGE, '  if (collateral !== undefined) return collateral;\n', ''],
    [judge, "the asker's own collateral"],
  ),
  one(
    'site',
    'the signature of kept evidence',
    ['cli/site/keys.ts', '  requireSignature(evidence, of.network, networkKey);\n', ''],
    [judge, 'of another epoch than its key'],
  ),
  one(
    'site',
    'the bound on what a website answers',
    [FETCH, 'if (size > MESSAGE_MAX_BYTES) {', 'if (size < 0) {'],
    ['cli/site/fetch.test.ts', 'too much: SITE_TOO_LARGE'],
  ),
  one(
    'site',
    'one quote for a nonce a second',
    [TLS, 'if (atWork || wait > 0) throw busy(wait);', 'if (atWork) throw busy(wait);'],
    [tls, 'one nonce a second has its quote'],
  ),
  one(
    'site',
    'one quote at a time',
    [TLS, 'if (atWork || wait > 0) throw busy(wait);', 'if (wait > 0) throw busy(wait);'],
    [tls, 'one quote at a time'],
  ),
  one(
    'site',
    'that evidence without a nonce is made once',
    [TLS, '    if (kept !== undefined && monotonic() - kept.at < KEPT_FOR_MS) return kept.evidence;\n', ''],
    [tls, 'without a nonce all get one'],
  ),
  one(
    'site',
    'that strangers are not told what went wrong inside',
    [TLS, "'the node cannot give evidence now'", '(error as Error).message'],
    [tls, 'a replicator that refuses'],
  ),
  one(
    'site',
    "the node's own look at the contract",
    [REPLICATOR, '    requireNetworkKey(network, keys);\n', ''],
    [replicator, 'when the contract has another key'],
  ),
  one(
    'site',
    'that strangers do not decide how often the chain is asked',
    [
      REPLICATOR,
      '    if (looked !== undefined && monotonic() - looked.at < LOOK_FOR_MS) return looked.head;\n',
      '',
    ],
    [replicator, 'however often strangers ask'],
  ),
  one(
    'site',
    'the nonce in what is quoted',
    ['lib/protocol/report-data.ts', '      report.nonce,\n', ''],
    ['lib/protocol/site-evidence.test.ts', 'key, report data and digest match'],
  ),
  one(
    'site',
    "certificates for the name with the root's dot",
    ['cli/site/ct.ts', 'return absolute.some((name) => names.includes(name));', 'return false;'],
    ['cli/site/ct.test.ts', 'one for .* is$'],
  ),
  one(
    'site',
    'the account in CAA records',
    ['lib/site/caa.ts', 'if (uris.length !== 1 || uris[0] !== account)', 'if (uris.length !== 1)'],
    ['lib/site/caa.test.ts', "leaves another way: the host's account"],
  ),
  one(
    'site',
    'that a record for wildcards counts too',
    ['lib/site/caa.ts', "tag === 'issue' || tag === 'issuewild')", "tag === 'issue')"],
    ['lib/site/caa.test.ts', 'leaves another way: another one for wildcards'],
  ),
  one(
    'site',
    'the methods in CAA records',
    [
      'lib/site/caa.ts',
      'if (lists.length !== 1 || named.some((method) => !methods.includes(method)))',
      'if (false)',
    ],
    ['lib/site/caa.test.ts', 'leaves another way: a method that is not used'],
  ),
  one(
    'site',
    'that what the DNS showed is forgotten',
    [REPLICATOR, 'monotonic() + CAA_FOR_MS', 'Number.POSITIVE_INFINITY'],
    [replicator, 'that no host could have a certificate'],
  ),
  one(
    'site',
    'what is quoted of the DNS',
    ['lib/protocol/report-data.ts', '      Uint8Array.of(report.hostImpersonable ? 1 : 0),\n', ''],
    ['lib/protocol/site-evidence.test.ts', 'key, report data and digest match'],
  ),
  one(
    'site',
    "the relay's rule for certificates",
    [
      'host/relay/kinds/certificate.ts',
      'judgeCertificate(message.chain, rule, newestCertificate(held, rule))',
      'message',
    ],
    ['host/relay/kinds/certificate.test.ts', 'a stranger can have nothing kept'],
  ),
  one(
    'site',
    'the bound on a certificate that is brought',
    [PATHS, 'read(CERTIFICATE_MAX_BYTES)', 'read(Number.MAX_SAFE_INTEGER)'],
    [paths, 'has at most 16 KiB'],
  ),
  one(
    'site',
    'how many certificates strangers may have judged',
    [PATHS, 'if (atWork || left < 1)', 'if (atWork)'],
    [paths, 'waits for its turn'],
  ),
  one(
    'site',
    "the key of a connection that counts for the owner's DNS",
    ['host/site-client.ts', '      this.#requireKey(response);\n', ''],
    ['test/site-cert.test.ts', 'a client that was given the key'],
  ),
];
