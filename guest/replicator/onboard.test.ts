/** A production onboarder over hardware quotes, with the collateral of their time and a contract that the test plays. */
import { expect, test } from 'vitest';
import { INTEL_ROOT } from '../../lib/attestation/certificates/trust-roots.ts';
import { parseQuote, quoteHash } from '../../lib/attestation/quote/quote.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import {
  PUBLISHED_QUOTES,
  publishedQuote,
  readPublishedCollateral,
  readPublishedQuote,
  simulatedCase,
} from '../../lib/attestation/testing.ts';
import type { NetworkReader, NetworkTcbPolicy } from '../../lib/chain/network-reader.ts';
import { sha256, to0x, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { type RequestMessage, requestOf } from '../../lib/protocol/onboarding-messages.ts';
import { addressOf, compact, newPrivateKey, sign } from '../../lib/protocol/secp256k1.ts';
import { requestDigest } from '../../lib/protocol/typed-data.ts';
import type { Identity } from './identity.ts';
import type { KeyManager } from './key-manager.ts';
import { onboarder } from './onboard.ts';

const domain = { chainId: 7, contract: parseAddress(`0x${'11'.repeat(20)}`) };
const nodeKey = newPrivateKey();
const networkKey = `0x${'22'.repeat(20)}`;
const BLOCK_HASH = sha256(utf8('a block'));
const identity = {
  image: { version: 1, flavour: 'production', builtAt: 0 },
  domain,
  trustRoot: INTEL_ROOT,
  requestRtmr3: () => new Uint8Array(48).fill(1),
} as unknown as Identity;
const keys = { networkKey, epoch: 1 } as KeyManager;

interface World {
  /** Unix seconds. */
  now: number;
  policy?: NetworkTcbPolicy;
  deniedFmspc?: string;
  measurementAllowed?: boolean;
}

/** A contract that shows the request as open. */
function readerOf({ now, policy, deniedFmspc, measurementAllowed = true }: World): NetworkReader {
  const head = { number: 9, hash: to0x(BLOCK_HASH), time: now };
  return {
    chain: { head: async () => head, block: async () => head, now: () => now },
    network: async () => ({ networkKey, epoch: 1 }),
    request: async () => ({ state: 'open', node: addressOf(nodeKey), epoch: 1 }),
    tcbPolicy: async () => policy ?? { statuses: ['UpToDate'], minimumTcbEvaluationDataNumber: 0 },
    fmspcDenied: async (fmspc: Uint8Array) => toHex(fmspc) === deniedFmspc,
    isAllowed: async () => ({ measurementAllowed, configAllowed: true, platformAllowed: true }),
  } as unknown as NetworkReader;
}

function requestWith(quote: Uint8Array, collateral?: RequestMessage['collateral']): RequestMessage {
  const unsigned = {
    type: 'request' as const,
    ...domain,
    node: addressOf(nodeKey),
    kemPublicKey: parseHex('00'.repeat(1216)),
    config: parseHex('33'.repeat(32)),
    epoch: 1,
    blockNumber: 9,
    blockHash: toHex(BLOCK_HASH),
    quote: toHex(quote),
    quoteHash: toHex(quoteHash(parseQuote(quote))),
    signature: { r: to0x(new Uint8Array(32)), vs: to0x(new Uint8Array(32)) },
    ...(collateral === undefined ? {} : { collateral }),
  };
  return {
    ...unsigned,
    signature: compact(sign(requestDigest(domain, requestOf(unsigned).hash), nodeKey)),
  };
}

/** What an onboarder says of a published quote with its collateral, in a world that the case changes. */
async function verdict(name: string, change: Partial<World> & { without?: 'collateral' } = {}) {
  const published = publishedQuote(name);
  const of = published.collateral[0]!;
  const collateral = change.without === undefined ? readPublishedCollateral(of) : undefined;
  const reader = readerOf({ now: of.verify_at_unix, ...change });
  const request = requestWith(readPublishedQuote(published), collateral);
  return codeOf(onboarder(identity, reader, keys).onboard(request));
}

const codeOf = (asked: Promise<unknown>) =>
  asked.then(
    () => 'ANSWERED',
    (error: { code: string }) => error.code,
  );

const GOOD = 'tdx-v4-b0c06f000000-0c699dd4-dstack';
const OUT_OF_DATE = 'tdx-v4-00806f050000-3c51eae6-teekit';
const day = 86_400;
const fresh = publishedQuote(GOOD).collateral[0]!;

test.each<[string, string, Parameters<typeof verdict>]>([
  // It stands in the way of nothing else: a hardware quote that was made for somebody else says so last of all.
  ['all that Intel and the contract ask for', 'RTMR3_MISMATCH', [GOOD]],
  [
    'a measurement that the contract does not allow',
    'MEASUREMENT_NOT_ALLOWED',
    [GOOD, { measurementAllowed: false }],
  ],
  ['no collateral', 'COLLATERAL_MISSING', [GOOD, { without: 'collateral' }]],
  ['an FMSPC that the contract denies', 'FMSPC_NOT_ALLOWED', [GOOD, { deniedFmspc: 'b0c06f000000' }]],
  [
    "an evaluation below the contract's minimum",
    'TCB_EVALUATION_NUMBER',
    [GOOD, { policy: { statuses: ['UpToDate'], minimumTcbEvaluationDataNumber: 999 } }],
  ],
  ['a status that the contract does not accept', 'TCB_STATUS_NOT_ACCEPTED', [OUT_OF_DATE]],
  [
    'the same when it does',
    'RTMR3_MISMATCH',
    [OUT_OF_DATE, { policy: { statuses: ['UpToDate', 'OutOfDate'], minimumTcbEvaluationDataNumber: 0 } }],
  ],
  [
    'the same within a grace period',
    'RTMR3_MISMATCH',
    [OUT_OF_DATE, { policy: { statuses: ['UpToDate'], gracePeriodDays: 3650 } }],
  ],
  ['a debug TD', 'TD_DEBUG', ['tdx-v4-50806f000000-12b401a8-teekit']],
  ['a TD without SEPT_VE_DISABLE', 'TD_SEPT_VE', ['tdx-v4-00806f050000-7462cb52-teekit']],
  [
    "collateral of last year, by the chain's time",
    'ROOT_CRL_EXPIRED',
    [GOOD, { now: fresh.verify_at_unix + 400 * day }],
  ],
])('a production onboarder, shown a hardware quote with %s, says %s', async (_, code, asked) => {
  expect(await verdict(...asked)).toBe(code);
});

test('it takes no enclave for a node, and no simulated quote for one of hardware', async () => {
  const sgx = PUBLISHED_QUOTES.find(({ tee, collateral }) => tee === 'SGX' && collateral.length > 0)!;
  expect(await verdict(sgx.name)).toBe('QUOTE_TEE_TYPE');
  const reader = readerOf({ now: fresh.verify_at_unix });
  const request = requestWith(simulatedCase().quote, PUBLISHED_SIMULATED_COLLATERAL);
  expect(await codeOf(onboarder(identity, reader, keys).onboard(request))).toBe('PCK_CHAIN_ROOT');
});

test('collateral of another platform, or changed, is refused by what is wrong with it', async () => {
  const at = fresh.verify_at_unix * 1000;
  const other = PUBLISHED_QUOTES.filter(({ tee, fmspc }) => tee === 'TDX' && fmspc !== 'b0c06f000000')
    .flatMap((quote) => quote.collateral)
    .find(({ valid_from: from, valid_to: to }) => Date.parse(from) <= at && at <= Date.parse(to))!;
  const collateral = readPublishedCollateral(fresh);
  const ask = (brought: RequestMessage['collateral']) =>
    codeOf(
      onboarder(identity, readerOf({ now: fresh.verify_at_unix }), keys).onboard(
        requestWith(readPublishedQuote(publishedQuote(GOOD)), brought),
      ),
    );
  expect(await ask(readPublishedCollateral(other))).toBe('TCB_INFO_FMSPC');
  expect(await ask({ ...collateral, tcb_info: collateral.tcb_info.replace('UpToDate', 'OutOfDat') })).toBe(
    'TCB_INFO_SIGNATURE',
  );
  expect(await ask({ ...collateral, tcb_info_issuer_chain: collateral.pck_crl_issuer_chain })).toBe(
    'TCB_CHAIN_ROLE',
  );
  expect(await ask({ ...collateral, pck_crl: 'zz' })).toBe('COLLATERAL_FORMAT');
});
