/** RTMR3 is a closed list: of all logs, quoted by the same platform with the same image, a verifier accepts one. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { lengthPrefixed, sha256, sha384, utf8 } from '../../protocol/encoding.ts';
import { codeOfRefusal, simulatedCase, TEST_CONFIG } from '../testing.ts';
import { verify } from '../verify.ts';
import {
  eventDigest,
  expectedJoinedLog,
  expectedRequestLog,
  JOINED_EVENT,
  type RegisterEvent,
  replay,
} from './event-log.ts';
import { extendRegister } from './rtmr.ts';

const { platform, registers, reportData, expected } = simulatedCase();
const [FLAVOUR, CONFIG] = expectedRequestLog('sim', TEST_CONFIG) as [RegisterEvent, RegisterEvent];
const OTHER_CONFIG: RegisterEvent = { name: 'config', bytes: sha256(TEST_CONFIG) };
const quoteOf = (rtmr3: Uint8Array) => platform.signQuote({ registers: { ...registers, rtmr3 }, reportData });
/** Verifies a quote with this RTMR3 as a request for the secret. */
const judge = (rtmr3: Uint8Array) => codeOfRefusal(() => verify(quoteOf(rtmr3), expected));

test('flavour and config, once each, in this order: a request', () => {
  expect(judge(replay([FLAVOUR, CONFIG]))).toBe('ACCEPTED');
});

test.each<[string, readonly RegisterEvent[], RegExp]>([
  ['no event', [], /nothing was extended/],
  ['no config', [FLAVOUR], /missing/],
  ['no flavour: as production says it', [CONFIG], /another flavour/],
  ['another flavour', [{ ...FLAVOUR, bytes: utf8('dev') }, CONFIG], /another flavour/],
  ['another config', [FLAVOUR, OTHER_CONFIG], /config/],
  ['the other order', [CONFIG, FLAVOUR], /another/],
  ['a repeated flavour', [FLAVOUR, FLAVOUR, CONFIG], /repeated/],
  ['a repeated config', [FLAVOUR, CONFIG, CONFIG], /repeated/],
  ['a second config', [FLAVOUR, CONFIG, OTHER_CONFIG], /too late/],
  ['a second config first', [FLAVOUR, OTHER_CONFIG, CONFIG], /another/],
  ['joined', [FLAVOUR, CONFIG, JOINED_EVENT], /after its node had joined/],
  ['joined first', [JOINED_EVENT, FLAVOUR, CONFIG], /another/],
  ['joined twice', [FLAVOUR, CONFIG, JOINED_EVENT, JOINED_EVENT], /repeated/],
  ['a config after joined', [FLAVOUR, CONFIG, JOINED_EVENT, CONFIG], /too late/],
])('%s is no request', (_, log, why) => {
  expect(judge(replay(log))).toBe('RTMR3_MISMATCH');
  expect(() => verify(quoteOf(replay(log)), expected)).toThrow(why);
});

test.each([
  ['an event of another name', sha384(lengthPrefixed([utf8('app'), utf8('x')]))],
  ['joined with bytes', sha384(lengthPrefixed([utf8('joined'), utf8('x')]))],
  ['a name that runs into its bytes', sha384(lengthPrefixed([utf8('joined')]))],
  ['a digest of nothing', sha384(new Uint8Array(0))],
])('unknown, and so refused: %s', (_, digest) => {
  expect(judge(extendRegister(replay([FLAVOUR, CONFIG]), digest))).toBe('RTMR3_MISMATCH');
});

test('of the logs of up to five known events, only the one is accepted', () => {
  const events = [FLAVOUR, CONFIG, OTHER_CONFIG, JOINED_EVENT];
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...events), { maxLength: 5 }), (log) => {
      const request = log.length === 2 && log[0] === FLAVOUR && log[1] === CONFIG;
      expect(judge(replay(log))).toBe(request ? 'ACCEPTED' : 'RTMR3_MISMATCH');
    }),
    { numRuns: 60 },
  );
});

test('what is accepted of a joined node is a joined log, and nothing shorter or longer', () => {
  const joined = { ...expected, rtmr3: replay(expectedJoinedLog('sim', TEST_CONFIG)) };
  const judgeJoined = (log: readonly RegisterEvent[]) =>
    codeOfRefusal(() => verify(quoteOf(replay(log)), joined));
  expect(judgeJoined([FLAVOUR, CONFIG, JOINED_EVENT])).toBe('ACCEPTED');
  expect(judgeJoined([FLAVOUR, CONFIG])).toBe('RTMR3_MISMATCH');
  expect(judgeJoined([FLAVOUR, CONFIG, JOINED_EVENT, JOINED_EVENT])).toBe('RTMR3_MISMATCH');
});

test('no two events have one digest', () => {
  const digests = [FLAVOUR, CONFIG, OTHER_CONFIG, JOINED_EVENT].map((event) => eventDigest(event).join());
  expect(new Set(digests).size).toBe(4);
});
