/** Points 3 and 4: whose secret a node takes, and whose evidence it believes. */
import { type Mutation, one } from '../mutation.ts';

const node = 'test/trust/node.test.ts';
const NETWORK_POLICY = 'lib/chain/network-policy.ts';
const VERIFY = 'lib/attestation/verify.ts';
const CHAINS = 'lib/attestation/certificates/chains.ts';
const INTEL_RULES = 'lib/attestation/intel-rules.ts';
const POLICY = 'lib/attestation/policy.ts';
const ONBOARD = 'guest/replicator/onboard.ts';
const OWN_REQUEST = 'guest/replicator/own-request.ts';

export const onboarding: readonly Mutation[] = [
  // 3: a new VM took whatever "secret" the host handed it
  one(
    3,
    "the comparison with the contract's network key",
    [
      'guest/replicator/node.ts',
      'if (!sameAddress(network.networkKey, keys.networkKey) || network.epoch !== opened.epoch) {',
      'if (network.epoch !== opened.epoch) {',
    ],
    [node, '^3: '],
  ),
  one(
    3,
    "the comparison with the answer's hash on chain",
    [
      OWN_REQUEST,
      'if (!isRecordedAnswer(answerHash(sealed), fromHex(onChain.answerHash, 32))) {',
      'if (fromHex(onChain.answerHash).length !== 32) {',
    ],
    [node, '^3: '],
  ),
  one(
    3,
    'waiting until the contract shows an answer',
    [OWN_REQUEST, "if (onChain.state !== 'answered') {", "if (onChain.state === 'none') {"],
    [node, '^3: '],
  ),
  {
    point: 3,
    removes: 'the whole look at the contract before the sealed secret is given out',
    edits: [
      {
        file: ONBOARD,
        find: "  if (onChain.state !== 'answered') {\n    throw new DstackError(\n      'ANSWER_NOT_ON_CHAIN'",
        replace: "  if (network.epoch === 0) {\n    throw new DstackError(\n      'ANSWER_NOT_ON_CHAIN'",
      },
      {
        file: ONBOARD,
        find: '  if (!isRecordedAnswer(answerHash(sealed), fromHex(onChain.answerHash, 32))) {',
        replace: '  if (!isRecordedAnswer(answerHash(sealed), answerHash(sealed))) {',
      },
    ],
    test: { file: node, name: '^3: no node gives' },
  },
  one(
    3,
    'that every node seals the same bytes',
    ['lib/protocol/sealing.ts', '      ekm: randomness,\n', ''],
    ['lib/protocol/sealing.test.ts', '^sealing is deterministic'],
  ),
  one(
    3,
    'the request in the randomness of what is sealed to it',
    [
      'lib/protocol/keys.ts',
      "deriveKey(secret, epoch, 'seal', [requestHash, sha256(kemPublicKey)], 64)",
      "deriveKey(secret, epoch, 'seal', [sha256(kemPublicKey)], 64)",
    ],
    ['lib/protocol/sealing.test.ts', '^sealing is deterministic'],
  ),

  // 4: the quote was "verified" by a URL; no measurement, TCB status or debug bit was checked
  {
    point: 4,
    removes: 'the trust root, and that it issued the intermediate',
    edits: [
      {
        file: CHAINS,
        find: 'if (blocks[length - 1] !== trustRoot.pem) {',
        replace: 'if (blocks.length === 0) {',
      },
      {
        file: CHAINS,
        find: '  if (known === undefined) requireIssued(intermediate, root, name);\n',
        replace: '',
      },
    ],
    test: { file: node, name: '^4: .*PCK_CHAIN_ROOT' },
  },
  one(
    4,
    'the comparison of the root alone',
    [CHAINS, 'if (blocks[length - 1] !== trustRoot.pem) {', 'if (blocks.length === 0) {'],
    [node, '^4: .*PCK_CHAIN_ROOT'],
  ),
  one(
    4,
    "Intel's revocations",
    [INTEL_RULES, '  requireUnrevokedChain(chain, rootCrl, pckCrl);\n', ''],
    [node, '^4: .*PCK_REVOKED'],
  ),
  one(
    4,
    "the quoting enclave's signature",
    [
      INTEL_RULES,
      "if (!pck.publicKey.verify(qeReport.raw, qeReportSignature, 'r-s')) {",
      'if (qeReport.raw.length === 0) {',
    ],
    [node, '^4: .*QE_REPORT_SIGNATURE'],
  ),
  one(
    4,
    "the attestation key's binding",
    [INTEL_RULES, 'if (!bytesEqual(qeReport.reportData, expected)) {', 'if (expected.length === 0) {'],
    [node, '^4: .*QE_REPORT_BINDING'],
  ),
  one(
    4,
    "the quote's signature",
    [INTEL_RULES, '  requireQuoteSignature(quote, attestationKey);\n', ''],
    [node, '^4: .*QUOTE_SIGNATURE'],
  ),
  one(
    4,
    "the TCB's status",
    [POLICY, '  requireStatus(appraisal, policy, now);\n', ''],
    [node, '^4: .*TCB_STATUS_NOT_ACCEPTED'],
  ),
  one(
    4,
    'the debug and migration bits',
    [POLICY, '  requireAttributes(appraisal.quote.body, policy);\n', ''],
    [node, '^4: .*TD_(DEBUG|MIGRATABLE)'],
  ),
  one(4, 'RTMR3', [VERIFY, '    requireRtmr3(body.rtmr3, rtmr3);\n', ''], [node, '^4: .*RTMR3_MISMATCH']),
  one(
    4,
    'the report data',
    [VERIFY, '    requireReportData(body.reportData, reportData);\n', ''],
    [node, '^4: .*REPORT_DATA_MISMATCH'],
  ),
  one(
    4,
    'the measurement',
    [NETWORK_POLICY, 'if (!allowed.measurementAllowed)', 'if (allowed === undefined)'],
    [node, '^4: .*MEASUREMENT_NOT_ALLOWED'],
  ),
  one(
    4,
    'the configuration',
    [NETWORK_POLICY, 'if (!allowed.configAllowed)', 'if (allowed === undefined)'],
    [node, '^4: .*CONFIG_NOT_ALLOWED'],
  ),
  one(
    4,
    'the platform',
    [NETWORK_POLICY, 'if (!allowed.platformAllowed)', 'if (allowed === undefined)'],
    [node, '^4: .*PLATFORM_NOT_ALLOWED'],
  ),
  one(
    4,
    'that one quote is one request',
    [VERIFY, '  if (asked.quoteHash !== undefined) requireQuoteHash(quote, asked.quoteHash);\n', ''],
    [node, '^4: a request that was registered'],
  ),
  one(
    4,
    '`joined` in RTMR3 before any app starts',
    ['guest/replicator/node.ts', '    await attestor.joined();\n', ''],
    [node, '^4: a machine that has joined'],
  ),
  one(
    4,
    "the contract's TCB policy",
    [VERIFY, '    applyPolicy(appraisal, answer!, asked.now, trace);\n', ''],
    [node, '^4: .*TCB_STATUS_NOT_ACCEPTED'],
  ),
];
